package fill_test

import (
	"bytes"
	"context"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"sampan/internal/oci"
	"sampan/internal/store"
)

// A watchedStore tells where bytes are written, and refuses those at or behind an
// offset.
type watchedStore struct {
	store.Store
	refused int64 // -1: none

	mu     *sync.Mutex
	writes *[]int64
}

func watch(s store.Store, refused int64) watchedStore {
	return watchedStore{s, refused, new(sync.Mutex), new([]int64)}
}

type watchedIngest struct {
	store.Ingest
	s watchedStore
}

func (s watchedStore) Ingest(ctx context.Context, d oci.Digest) (store.Ingest, error) {
	in, err := s.Store.Ingest(ctx, d)
	return watchedIngest{in, s}, err
}

func (in watchedIngest) WriteAt(p []byte, off int64) (int, error) {
	if in.s.refused >= 0 && off >= in.s.refused {
		return 0, store.ErrUnwritable
	}
	in.s.mu.Lock()
	*in.s.writes = append(*in.s.writes, off)
	in.s.mu.Unlock()
	return in.Ingest.WriteAt(p, off)
}

// The source gives 4 KiB at a time.
func TestSmallPiecesAreWrittenAsLargeOnesAtEvenOffsets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		want := content(600<<10, 120)
		d := oci.DigestOf(want)
		s := watch(newStore(t), -1)
		g := newGroup(t, s)
		mustRead(t, open(t, g, d, &upstream{body: want}), want)
		g.Close()
		mustStored(t, s.Store, d, want)
		// The first piece goes on at once, so that its readers have a first byte.
		if at := []int64{0, 4 << 10, 256 << 10, 512 << 10}; !slices.Equal(*s.writes, at) {
			t.Errorf("written at %v, want %v", *s.writes, at)
		}
	})
}

func TestWhatHasComeIsReadWhileTheSourceIsSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		want := content(size, 121)
		gate := make(chan struct{})
		g := newGroup(t, newStore(t))
		r := open(t, g, oci.DigestOf(want), &upstream{body: want, read: holdAt(20<<10, gate)})
		began := time.Now()
		got := make([]byte, 20<<10)
		if _, err := io.ReadFull(r, got); err != nil || !bytes.Equal(got, want[:20<<10]) {
			t.Errorf("not what the source has sent, or %v", err)
		}
		if took := time.Since(began); took > 5*time.Millisecond {
			t.Errorf("bytes waited %v for others", took)
		}
		close(gate)
		mustRead(t, r, want[20<<10:])
	})
}

// A disk that is full is noticed when it is, and not when the source speaks again.
func TestReadersGoOnPastAStoreThatFailsWhileTheSourceIsSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		want := content(size, 122)
		var opened atomic.Int64
		u := &upstream{body: want}
		u.read = func(ctx context.Context, at int64) error {
			if opened.Load() > 1 || at < 20<<10 {
				return nil
			}
			<-ctx.Done()
			return ctx.Err()
		}
		u.open = func(int, int64) error { opened.Add(1); return nil }
		g := newGroup(t, watch(newStore(t), 4<<10))
		began := time.Now()
		mustRead(t, open(t, g, oci.DigestOf(want), u), want)
		if took := time.Since(began); took > time.Second {
			t.Errorf("readers waited %v", took)
		}
	})
}

// What is broken off is kept up to the last byte that came, and not fetched again.
func TestBytesThatWaitedForOthersAreKeptOverABreak(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		want := content(size, 123)
		d := oci.DigestOf(want)
		u := &upstream{body: want, read: breakOnce(20 << 10)}
		s := newStore(t)
		g := newGroup(t, s)
		mustRead(t, open(t, g, d, u), want)
		g.Close()
		mustStored(t, s, d, want)
		if opens, sent := u.asked(); !slices.Equal(opens, []int64{0, 20 << 10}) || sent != size {
			t.Errorf("opened at %v, sent %d of %d bytes", opens, sent, size)
		}
	})
}
