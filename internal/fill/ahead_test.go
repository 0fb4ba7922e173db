package fill_test

import (
	"bytes"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sampan/internal/fill"
	"sampan/internal/oci"
)

// readAt reads n bytes at off by a reader of its own and compares.
func readAt(t *testing.T, g *fill.Group, d oci.Digest, src fill.Source, off, n int64, want []byte) {
	t.Helper()
	r, err := g.Open(t.Context(), d, src)
	if err != nil {
		t.Error(err)
		return
	}
	defer r.Close()
	if _, err := r.Seek(off, io.SeekStart); err != nil {
		t.Error(err)
	}
	b, err := io.ReadAll(io.LimitReader(r, n))
	if err != nil || !bytes.Equal(b, want[off:off+n]) {
		t.Errorf("%d bytes at %d: got %d, %v", n, off, len(b), err)
	}
}

func TestFetchBeginsWhereItsFirstReaderDoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		want := content(32<<20, 40)
		d := oci.DigestOf(want)
		u := &far{upstream: &upstream{body: want}, link: &link{latency: 20 * time.Millisecond, all: 100 << 20}, step: 64 << 10}
		src := u.source()
		src.From = 31 << 20
		began := time.Now()
		readAt(t, linesGroup(t, newStore(t), 0), d, src, 31<<20, 1<<20, want)
		if direct := 30 * time.Millisecond; time.Since(began) > direct*11/10 {
			t.Errorf("took %v; direct takes %v", time.Since(began), direct)
		}
		s := newStore(t)
		g := linesGroup(t, s, 0)
		r, err := g.Open(t.Context(), d, src)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		mustRead(t, r, want)
		synctest.Wait()
		mustStored(t, s, d, want)
	})
}

func TestFetchThatBeginsBehindTheEndBeginsAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		want := content(4<<20, 41)
		u := &upstream{body: want}
		u.open = func(_ int, offset int64) error {
			if offset >= int64(len(want)) {
				return oci.Errorf(oci.CodeRangeInvalid, "behind the end")
			}
			return nil
		}
		src := u.source()
		src.From = 100 << 20
		r, err := linesGroup(t, newStore(t), 0).Open(t.Context(), oci.DigestOf(want), src)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		mustRead(t, r, want)
		if opens, sent := u.asked(); len(opens) != 2 || opens[0] != 100<<20 || opens[1] != 0 || sent != int64(len(want)) {
			t.Errorf("asked at %v, %d bytes sent of %d", opens, sent, len(want))
		}
	})
}

func TestFetchThatBeginsAheadOfASourceWithoutRangesWastesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		want := content(8<<20, 42)
		u := &upstream{body: want, noRanges: true}
		src := u.source()
		src.From = 6 << 20
		r, err := linesGroup(t, newStore(t), 0).Open(t.Context(), oci.DigestOf(want), src)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		mustRead(t, r, want)
		if opens, sent := u.asked(); len(opens) != 1 || sent != int64(len(want)) {
			t.Errorf("asked at %v, %d bytes sent of %d", opens, sent, len(want))
		}
	})
}

// A line that will be where a reader waits in a moment is waited for: another one
// would cost more than it brings.
func TestReadersAheadOnAFastLinkOpenNoLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		want := content(24<<20, 43)
		d := oci.DigestOf(want)
		u := &far{upstream: &upstream{body: want}, link: &link{latency: time.Millisecond, each: 200 << 20}, step: 256 << 10}
		g := linesGroup(t, newStore(t), 0)
		var readers sync.WaitGroup
		for off := int64(0); off < 24<<20; off += 4 << 20 {
			readers.Go(func() { readAt(t, g, d, u.source(), off, 4<<20, want) })
		}
		readers.Wait()
		if opens, sent := u.asked(); len(opens) != 1 || sent != int64(len(want)) {
			t.Errorf("asked at %v, %d bytes sent of %d", opens, sent, len(want))
		}
	})
}

// As containerd fetches a layer in pieces: each reader wants 4 MiB, at once. Only
// the first connection, which asked for all, is cut.
func TestReadersOfPiecesTakeNothingFromEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		want := content(24<<20, 44)
		d := oci.DigestOf(want)
		u := &far{upstream: &upstream{body: want}, link: &link{latency: 50 * time.Millisecond, each: 2 << 20}, step: 64 << 10}
		g := linesGroup(t, newStore(t), 0)
		began := time.Now()
		var readers sync.WaitGroup
		for off := int64(0); off < 24<<20; off += 4 << 20 {
			readers.Go(func() { readAt(t, g, d, u.source(), off, 4<<20, want) })
		}
		readers.Wait()
		if took := time.Since(began); took > 4*time.Second {
			t.Errorf("took %v; one connection takes 12 s, six take 2 s", took)
		}
		if opens, sent := u.asked(); sent > int64(len(want))+64<<10 {
			t.Errorf("asked at %v, %d bytes sent of %d", opens, sent, len(want))
		}
	})
}

// With one line, the line goes where readers wait, by turns.
func TestOneLineServesReadersFarAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 32 << 20
		want := content(n, 45)
		d := oci.DigestOf(want)
		u := &far{upstream: &upstream{body: want}, link: &link{latency: 20 * time.Millisecond, each: 2 << 20}, step: 64 << 10}
		s := newStore(t)
		g := linesGroup(t, s, 1)
		var whole sync.WaitGroup
		whole.Go(func() { readAt(t, g, d, u.source(), 0, n, want) })
		time.Sleep(100 * time.Millisecond)
		began := time.Now()
		readAt(t, g, d, u.source(), n-1<<20, 1<<20, want)
		if took := time.Since(began); took > 4*time.Second {
			t.Errorf("1 MiB at the end took %v of the 16 s that all takes", took)
		}
		whole.Wait()
		if u.link.most > 1 {
			t.Errorf("%d connections", u.link.most)
		}
		if opens, sent := u.asked(); sent > n*102/100 || len(opens) > 5 {
			t.Errorf("asked at %v, %d bytes sent of %d", opens, sent, n)
		}
		synctest.Wait()
		mustStored(t, s, d, want)
	})
}

// Wherever fetches begin and readers read, the bytes are right and cross once, but
// for what was on its way when a body was given up.
func TestReadersAnywhere(t *testing.T) {
	for seed := range uint64(5) {
		synctest.Test(t, func(t *testing.T) {
			const n = 8 << 20
			want := content(n, 46)
			d := oci.DigestOf(want)
			random := rand.New(rand.NewPCG(seed, 2))
			u := &far{upstream: &upstream{body: want}, link: &link{latency: 10 * time.Millisecond, each: 4 << 20}, step: 32 << 10}
			s := newStore(t)
			g := linesGroup(t, s, 1+random.IntN(6))
			var readers sync.WaitGroup
			for range 10 {
				from := random.Int64N(n)
				length := 1 + random.Int64N(n-from)
				src := u.source()
				src.From = from
				pause := time.Duration(random.IntN(800)) * time.Millisecond
				readers.Go(func() {
					time.Sleep(pause)
					readAt(t, g, d, src, from, length, want)
				})
			}
			readers.Wait()
			readAt(t, g, d, u.source(), 0, n, want)
			synctest.Wait()
			mustStored(t, s, d, want)
			if opens, sent := u.asked(); sent > n+int64(len(opens))*32<<10 {
				t.Errorf("seed %d: asked at %v, %d bytes sent of %d", seed, opens, sent, n)
			}
		})
	}
}
