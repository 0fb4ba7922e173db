package fill_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sampan/internal/fill"
	"sampan/internal/oci"
	"sampan/internal/store"
	"sampan/internal/store/disk"
)

// hookedStore calls hooks in the middle of an ingest; nil for none.
type hookedStore struct {
	store.Store
	expect, commit, committed func()
}

type hookedIngest struct {
	store.Ingest
	hooks hookedStore
}

func (s hookedStore) Ingest(ctx context.Context, d oci.Digest) (store.Ingest, error) {
	in, err := s.Store.Ingest(ctx, d)
	return hookedIngest{in, s}, err
}

func (in hookedIngest) Expect(size int64) error {
	if in.hooks.expect != nil {
		in.hooks.expect()
	}
	return in.Ingest.Expect(size)
}

func (in hookedIngest) Commit(ctx context.Context, size int64) error {
	if in.hooks.commit != nil {
		in.hooks.commit()
	}
	err := in.Ingest.Commit(ctx, size)
	if in.hooks.committed != nil {
		in.hooks.committed()
	}
	return err
}

// readFrom reads n bytes at from on a reader of its own.
func readFrom(t *testing.T, g *fill.Group, d oci.Digest, src fill.Source, from, n int64) ([]byte, error) {
	t.Helper()
	r, err := g.Open(t.Context(), d, src)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	if _, err := r.Seek(from, io.SeekStart); err != nil {
		t.Error(err)
	}
	return io.ReadAll(io.LimitReader(r, n))
}

// While room is made for the blob, a reader far ahead gets a line of its own; the
// first one must not fetch the same bytes.
func TestReaderFarAheadWhileRoomIsMade(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		want := content(16<<20, 40)
		d := oci.DigestOf(want)
		u := &far{upstream: &upstream{body: want}, link: &link{latency: 10 * time.Millisecond, each: 8 << 20}, step: 64 << 10}
		s := hookedStore{Store: newStore(t), expect: func() { time.Sleep(5 * time.Millisecond) }}
		g := linesGroup(t, s, 4)
		from := int64(len(want) - 4<<20)
		if got, err := readFrom(t, g, d, u.source(), from, 1<<20); err != nil || !bytes.Equal(got, want[from:from+1<<20]) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		fetchTime(t, g, d, u.source(), want)
		synctest.Wait()
		mustStored(t, s.Store, d, want)
		if _, sent := u.asked(); sent > int64(len(want))+512<<10 {
			t.Errorf("%d bytes were sent for %d", sent, len(want))
		}
	})
}

func TestFetchGoesOnWhenItsLastReaderLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		want := content(size, 41)
		d := oci.DigestOf(want)
		gate := make(chan struct{})
		u := &upstream{body: want, read: holdAt(size/2, gate)}
		s := newStore(t)
		g := newGroup(t, s)
		var readers []oci.BlobReader
		for range 3 {
			readers = append(readers, open(t, g, d, u))
		}
		for _, r := range readers {
			if _, err := io.ReadFull(r, make([]byte, 1000)); err != nil {
				t.Error(err)
			}
			_ = r.Close()
		}
		close(gate)
		synctest.Wait()
		mustStored(t, s, d, want)
	})
}

func TestTwoRepositoriesShareOneFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		want := content(size, 42)
		d := oci.DigestOf(want)
		gate := make(chan struct{})
		a := &upstream{body: want, read: holdAt(size/2, gate)}
		b := &upstream{body: want}
		g := newGroup(t, newStore(t))
		first, second := open(t, g, d, a), open(t, g, d, b)
		close(gate)
		mustRead(t, first, want)
		mustRead(t, second, want)
		if opens, _ := b.asked(); len(opens) != 0 {
			t.Errorf("the second source was asked at %v", opens)
		}
	})
}

func TestReaderBetweenProofAndPublication(t *testing.T) {
	for name, hooked := range map[string]func(hook func()) hookedStore{
		"before the commit": func(h func()) hookedStore { return hookedStore{commit: h} },
		"after the commit":  func(h func()) hookedStore { return hookedStore{committed: h} },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				want := content(size, 43)
				d := oci.DigestOf(want)
				gate := make(chan struct{})
				s := hooked(func() { <-gate })
				s.Store = newStore(t)
				g := newGroup(t, s)
				u := &upstream{body: want}
				mustRead(t, open(t, g, d, u), want)
				synctest.Wait() // the fetch is at the hook
				mustRead(t, open(t, g, d, u), want)
				close(gate)
				synctest.Wait()
				mustRead(t, open(t, g, d, u), want)
				if opens, _ := u.asked(); len(opens) != 1 {
					t.Errorf("asked at %v", opens)
				}
			})
		})
	}
}

func TestFetchesUnderEvictionPressure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := disk.New(disk.Options{Dir: t.TempDir(), Limits: disk.Limits{MaxSize: disk.Bytes(3 << 20)}})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		g := linesGroup(t, s, 4)
		defer g.Close()
		var readers sync.WaitGroup
		for i := range uint64(8) { // more than there is room for at once
			readers.Go(func() {
				want := content(1<<20, 50+i)
				u := &far{upstream: &upstream{body: want}, link: &link{latency: 10 * time.Millisecond, each: 256 << 10}, step: 16 << 10}
				fetchTime(t, g, oci.DigestOf(want), u.source(), want)
			})
			time.Sleep(700 * time.Millisecond)
		}
		readers.Wait()
	})
}

// An upstream refuses more than a number of connections at once.
func TestFurtherLinesThatAreRefused(t *testing.T) {
	for name, code := range map[string]oci.Code{"429": oci.CodeTooManyRequests, "503": oci.CodeUnavailable} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				want := content(8<<20, 44)
				u := &far{upstream: &upstream{body: want}, link: &link{latency: 10 * time.Millisecond, each: 256 << 10}, step: 64 << 10}
				refused := 0
				u.open = func(int, int64) error {
					u.link.mu.Lock()
					defer u.link.mu.Unlock()
					if u.link.open >= 3 {
						refused++
						return oci.Errorf(code, "three are enough")
					}
					return nil
				}
				took := fetchTime(t, linesGroup(t, newStore(t), 0), oci.DigestOf(want), u.source(), want)
				if one := 32 * time.Second; took > one/2 {
					t.Errorf("took %v; one connection takes %v", took, one)
				}
				if refused == 0 || refused > 10 {
					t.Errorf("asked in vain %d times", refused)
				}
			})
		})
	}
}

func TestRateLimitInTheMiddleIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		want := content(size, 45)
		u := &upstream{body: want, read: breakOnce(size / 2)}
		u.open = func(n int, _ int64) error {
			if n == 1 {
				return &oci.Error{Code: oci.CodeTooManyRequests, RetryAfter: 7 * time.Second}
			}
			return nil
		}
		took := fetchTime(t, newGroup(t, newStore(t)), oci.DigestOf(want), u.source(), want)
		if took < 7*time.Second || took > 9*time.Second {
			t.Errorf("took %v", took)
		}
	})
}

// Huge blobs hold all lines of an upstream; a small one gets its turn.
func TestHugeBlobsDoNotStarveOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, err := fill.New(fill.Options{Store: newStore(t), Log: slog.New(slog.DiscardHandler), Lines: 4, UpstreamLines: 4})
		if err != nil {
			t.Fatal(err)
		}
		defer g.Close()
		huge := content(16<<20, 46)
		slow := &far{upstream: &upstream{body: huge}, link: &link{latency: 10 * time.Millisecond, each: 256 << 10}, step: 64 << 10}
		var readers sync.WaitGroup
		readers.Go(func() { fetchTime(t, g, oci.DigestOf(huge), slow.source(), huge) })
		time.Sleep(5 * time.Second)
		slow.link.mu.Lock()
		if slow.link.most != 4 {
			t.Errorf("%d lines", slow.link.most)
		}
		slow.link.mu.Unlock()
		small := content(64<<10, 47)
		u := &far{upstream: &upstream{body: small}, link: &link{}, step: 64 << 10}
		if took := fetchTime(t, g, oci.DigestOf(small), u.source(), small); took > 5*time.Second {
			t.Errorf("the small blob waited %v", took)
		}
		readers.Wait()
	})
}

// A source that honours no ranges is read once after a break, over what is here.
func TestWithoutRangesGapsAreFilledByOneBody(t *testing.T) {
	for name, told := range map[string]int64{"size told": 0, "size not told": -1} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				want := content(8<<20, 48)
				d := oci.DigestOf(want)
				s := newStore(t)
				in, err := s.Ingest(t.Context(), d)
				if err != nil {
					t.Fatal(err)
				}
				for _, off := range []int{0, 1 << 20, 4 << 20, 5 << 20, 7<<20 - 1000} {
					if _, err := in.WriteAt(want[off:off+1<<20], int64(off)); err != nil {
						t.Fatal(err)
					}
				}
				if err := in.Keep(); err != nil {
					t.Fatal(err)
				}
				// What is passed over takes longer than a stall may.
				u := &far{upstream: &upstream{body: want, noRanges: true, size: told}, link: &link{each: 48 << 10}, step: 32 << 10}
				fetchTime(t, linesGroup(t, s, 0), d, u.source(), want)
				if opens, sent := u.asked(); len(opens) != 1 || sent != int64(len(want)) {
					t.Errorf("asked at %v, %d bytes sent", opens, sent)
				}
			})
		})
	}
}

// What an earlier process left of the end may have been read: then the end is not
// what is kept back.
func TestEndThatWasReadByAnEarlierProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		right := content(size, 49)
		d := oci.DigestOf(right)
		wrong := bytes.Clone(right)
		wrong[size/2] ^= 1
		s := newStore(t)
		in, err := s.Ingest(t.Context(), d)
		if err != nil {
			t.Fatal(err)
		}
		const from = size - 20<<10
		if _, err := in.WriteAt(wrong[from:], from); err != nil {
			t.Fatal(err)
		}
		if err := in.Keep(); err != nil {
			t.Fatal(err)
		}
		u := &upstream{body: wrong}
		if got, err := readFrom(t, newGroup(t, s), d, u.source(), 0, from); err == nil && len(got) == from {
			t.Error("with the end, the reader has all of a blob that is wrong")
		}
	})
}

// An upstream that sends little each time is not asked without a pause.
func TestTrickleIsAskedForWithPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		want := content(size, 60)
		u := &upstream{body: want}
		var mu sync.Mutex
		left := 2
		u.read = func(context.Context, int64) error {
			mu.Lock()
			defer mu.Unlock()
			if left--; left < 0 {
				left = 2
				return errors.New("reset")
			}
			return nil
		}
		took := fetchTime(t, newGroup(t, newStore(t)), oci.DigestOf(want), u.source(), want)
		if opens, _ := u.asked(); took < time.Minute {
			t.Errorf("asked %d times in %v", len(opens), took)
		}
	})
}

// Wrong bytes that no reader has had are fetched once more, from the next endpoint.
func TestWrongBytesThatNobodyHasHadAreFetchedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		want := content(1000, 61)
		u := &doubted{upstream: &upstream{body: content(1000, 62)}}
		u.open = func(n int, _ int64) error {
			if n == 1 {
				u.body = want
			}
			return nil
		}
		s := newStore(t)
		r, err := newGroup(t, s).Open(t.Context(), oci.DigestOf(want), fill.Source{Parts: u})
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		mustRead(t, r, want)
		if u.times != 1 {
			t.Errorf("blamed %d times", u.times)
		}
		synctest.Wait()
		mustStored(t, s, oci.DigestOf(want), want)
	})
}
