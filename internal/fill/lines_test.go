package fill_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sampan/internal/fill"
	"sampan/internal/oci"
	"sampan/internal/store"
)

// A link is what is between the mirror and an upstream, on the fake clock of a
// bubble.
type link struct {
	latency time.Duration // before the first byte of each part
	each    int64         // bytes per second of one connection; 0 is no limit
	all     int64         // bytes per second of all together; 0 is no limit

	mu   sync.Mutex
	free time.Time // when the shared link has sent what it was given
	open int       // connections open now
	most int       // at one time
}

// pass waits as long as n bytes take. It is called for each Read.
func (l *link) pass(ctx context.Context, n int64) error {
	var wait time.Duration
	if l.each > 0 {
		wait = time.Duration(n * int64(time.Second) / l.each)
	}
	if l.all > 0 {
		l.mu.Lock()
		now := time.Now()
		if l.free.Before(now) {
			l.free = now
		}
		l.free = l.free.Add(time.Duration(n * int64(time.Second) / l.all))
		wait = max(wait, l.free.Sub(now))
		l.mu.Unlock()
	}
	return sleep(ctx, wait)
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// A far upstream sends its content over a link.
type far struct {
	*upstream
	link *link
	step int64 // bytes of each Read
}

func (u *far) source() fill.Source { return fill.Source{Upstream: "far", Parts: u} }

func (u *far) Part(ctx context.Context, from, to int64) (oci.BlobPart, error) {
	if err := sleep(ctx, u.link.latency); err != nil {
		return oci.BlobPart{}, err
	}
	p, err := u.upstream.Part(ctx, from, to)
	if err != nil {
		return p, err
	}
	u.link.mu.Lock()
	u.link.open++
	u.link.most = max(u.link.most, u.link.open)
	u.link.mu.Unlock()
	p.Body = &farBody{ReadCloser: p.Body, ctx: ctx, u: u}
	return p, nil
}

type farBody struct {
	io.ReadCloser
	ctx context.Context
	u   *far
}

func (b *farBody) Read(p []byte) (int, error) {
	var n int
	for n < len(p) && int64(n) < b.u.step {
		k, err := b.ReadCloser.Read(p[n:])
		n += k
		if err != nil && n == 0 {
			return 0, err
		}
		if err != nil || k == 0 {
			break
		}
	}
	return n, b.u.link.pass(b.ctx, int64(n))
}

func (b *farBody) Close() error {
	b.u.link.mu.Lock()
	b.u.link.open--
	b.u.link.mu.Unlock()
	return b.ReadCloser.Close()
}

// linesGroup is newGroup with a number of lines.
func linesGroup(t *testing.T, s store.Store, lines int) *fill.Group {
	t.Helper()
	g, err := fill.New(fill.Options{Store: s, Log: slog.New(slog.DiscardHandler), Lines: lines})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	return g
}

// fetchTime is how long a whole blob takes a reader.
func fetchTime(t *testing.T, g *fill.Group, d oci.Digest, src fill.Source, want []byte) time.Duration {
	t.Helper()
	began := time.Now()
	r, err := g.Open(t.Context(), d, src)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	mustRead(t, r, want)
	return time.Since(began)
}

func TestThrottledConnectionsAreMadeUpForByMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		want := content(48<<20, 20)
		d := oci.DigestOf(want)
		u := &far{upstream: &upstream{body: want}, link: &link{latency: 150 * time.Millisecond, each: 1 << 20}, step: 64 << 10}
		took := fetchTime(t, linesGroup(t, newStore(t), 0), d, u.source(), want)
		if one := 48 * time.Second; took > one/6 {
			t.Errorf("took %v; one connection takes %v", took, one)
		}
		if _, sent := u.asked(); sent > int64(len(want))+16<<20/10 {
			t.Errorf("%d bytes were sent for %d", sent, len(want))
		}
	})
}

func TestSharedLinkIsNotCrowded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		want := content(64<<20, 21)
		d := oci.DigestOf(want)
		u := &far{upstream: &upstream{body: want}, link: &link{latency: 20 * time.Millisecond, all: 16 << 20}, step: 64 << 10}
		took := fetchTime(t, linesGroup(t, newStore(t), 0), d, u.source(), want)
		if one := 4*time.Second + 20*time.Millisecond; took > one*103/100 {
			t.Errorf("took %v; the link takes %v", took, one)
		}
		if u.link.most > 2 {
			t.Errorf("%d connections over a link that one fills", u.link.most)
		}
	})
}

func TestFastFetchStaysAtOneRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		want := content(32<<20, 22)
		u := &far{upstream: &upstream{body: want}, link: &link{latency: time.Millisecond, each: 100 << 20}, step: 256 << 10}
		fetchTime(t, linesGroup(t, newStore(t), 0), oci.DigestOf(want), u.source(), want)
		if opens, _ := u.asked(); len(opens) != 1 {
			t.Errorf("asked at %v", opens)
		}
	})
}

func TestOneLineTurnsItOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		want := content(8<<20, 23)
		u := &far{upstream: &upstream{body: want}, link: &link{each: 1 << 20}, step: 64 << 10}
		fetchTime(t, linesGroup(t, newStore(t), 1), oci.DigestOf(want), u.source(), want)
		if opens, _ := u.asked(); len(opens) != 1 {
			t.Errorf("asked at %v", opens)
		}
	})
}

func TestUpstreamWithoutRangesIsFetchedByOneLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		want := content(8<<20, 24)
		u := &far{upstream: &upstream{body: want, noRanges: true}, link: &link{each: 1 << 20}, step: 64 << 10}
		took := fetchTime(t, linesGroup(t, newStore(t), 0), oci.DigestOf(want), u.source(), want)
		if took > 9*time.Second {
			t.Errorf("took %v", took)
		}
	})
}

func TestReaderFarAheadIsServedBeforeTheRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		want := content(32<<20, 25)
		u := &far{upstream: &upstream{body: want}, link: &link{latency: 20 * time.Millisecond, all: 4 << 20}, step: 64 << 10}
		g := linesGroup(t, newStore(t), 0)
		r, err := g.Open(t.Context(), oci.DigestOf(want), u.source())
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		from := int64(len(want) - 1<<20)
		began := time.Now()
		if _, err := r.Seek(from, io.SeekStart); err != nil {
			t.Fatal(err)
		}
		mustRead(t, r, want[from:])
		if took := time.Since(began); took > time.Second {
			t.Errorf("1 MiB at the end took %v of the 8 s that all takes", took)
		}
		whole, err := g.Open(t.Context(), oci.DigestOf(want), u.source())
		if err != nil {
			t.Fatal(err)
		}
		defer whole.Close()
		mustRead(t, whole, want)
		if _, sent := u.asked(); sent > int64(len(want))*101/100 {
			t.Errorf("%d bytes were sent for %d", sent, len(want))
		}
	})
}

// Whatever parts readers ask for, in whatever order: together they never have
// all bytes of a blob that is wrong.
func TestReadersOfPartsNeverHaveAWrongBlobTogether(t *testing.T) {
	for seed := range uint64(12) {
		synctest.Test(t, func(t *testing.T) {
			const n = 4 << 20
			right := content(n, 26)
			wrong := bytes.Clone(right)
			wrong[n/3] ^= 1
			u := &far{upstream: &upstream{body: wrong}, link: &link{latency: 10 * time.Millisecond, each: 1 << 20}, step: 32 << 10}
			g := linesGroup(t, newStore(t), 4)
			random := rand.New(rand.NewPCG(seed, 0))
			var mu sync.Mutex
			var got store.Ranges
			var readers sync.WaitGroup
			for range 12 {
				from := random.Int64N(n)
				if random.IntN(3) == 0 {
					from = n - 1 - random.Int64N(64<<10)
				}
				length := random.Int64N(n - from + 1)
				readers.Go(func() {
					r, err := g.Open(t.Context(), oci.DigestOf(right), u.source())
					if err != nil {
						return
					}
					defer r.Close()
					if _, err := r.Seek(from, io.SeekStart); err != nil {
						t.Error(err)
					}
					b, _ := io.ReadAll(io.LimitReader(r, length))
					mu.Lock()
					defer mu.Unlock()
					got.Add(from, from+int64(len(b)))
				})
			}
			readers.Wait()
			if got.Covers(0, n) {
				t.Errorf("seed %d: readers have all of a blob that is wrong", seed)
			}
		})
	}
}

func TestManyBreaksCostNoByteTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		want := content(32<<20, 27)
		u := &far{upstream: &upstream{body: want}, link: &link{latency: 20 * time.Millisecond, each: 1 << 20}, step: 64 << 10}
		var mu sync.Mutex
		left := int64(len(want)) / 10
		u.read = func(context.Context, int64) error {
			mu.Lock()
			defer mu.Unlock()
			if left -= 4 << 10; left < 0 {
				left = int64(len(want)) / 10
				return errors.New("reset")
			}
			return nil
		}
		fetchTime(t, linesGroup(t, newStore(t), 0), oci.DigestOf(want), u.source(), want)
		if _, sent := u.asked(); sent > int64(len(want))*101/100 {
			t.Errorf("%d bytes were sent for %d", sent, len(want))
		}
	})
}

// Random readers, breaks and restarts, against the content.
func TestRandomReadersOverBreaksAndRestarts(t *testing.T) {
	for seed := range uint64(8) {
		synctest.Test(t, func(t *testing.T) {
			const n = 6 << 20
			want := content(n, seed)
			d := oci.DigestOf(want)
			s := newStore(t)
			random := rand.New(rand.NewPCG(seed, 1))
			for round := range 4 {
				u := &far{upstream: &upstream{body: want}, link: &link{latency: 5 * time.Millisecond, each: 1 << 20}, step: 32 << 10}
				var mu sync.Mutex
				u.read = func(context.Context, int64) error {
					mu.Lock()
					defer mu.Unlock()
					if random.IntN(200) == 0 {
						return errors.New("reset")
					}
					return nil
				}
				g := linesGroup(t, s, 6)
				var readers sync.WaitGroup
				for range 8 {
					mu.Lock()
					from, length := random.Int64N(n), random.Int64N(n)
					mu.Unlock()
					readers.Go(func() {
						r, err := g.Open(t.Context(), d, u.source())
						if errors.Is(err, oci.ErrUnavailable) {
							return // stopped meanwhile
						}
						if err != nil {
							t.Error(err)
							return
						}
						defer r.Close()
						if _, err := r.Seek(from, io.SeekStart); err != nil {
							t.Error(err)
						}
						b, err := io.ReadAll(io.LimitReader(r, length))
						if !bytes.HasPrefix(want[from:], b) {
							t.Errorf("seed %d: %d bytes at %d are wrong", seed, len(b), from)
						}
						if err != nil && !errors.Is(err, fill.ErrStopped) {
							t.Errorf("seed %d: %v", seed, err)
						}
					})
				}
				if round < 3 {
					time.Sleep(time.Duration(100+300*round) * time.Millisecond)
					g.Close()
				}
				readers.Wait()
				if round == 3 { // to the end
					r, err := g.Open(t.Context(), d, u.source())
					if err != nil {
						t.Fatal(err)
					}
					mustRead(t, r, want)
					_ = r.Close()
					synctest.Wait() // the commit
				}
				g.Close()
			}
			mustStored(t, s, d, want)
		})
	}
}
