package disk

import (
	"bytes"
	"container/list"
	"errors"
	"io"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"

	"sampan/internal/store"
)

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// idealLRU is a cache of so many bytes that is asked one request after the other.
type idealLRU struct {
	room, used int64
	order      *list.List // of seeds
	at         map[uint64]*list.Element
	size       func(seed uint64) int64
}

// get tells whether it had a blob, and has it afterwards.
func (c *idealLRU) get(seed uint64) bool {
	if e, ok := c.at[seed]; ok {
		c.order.MoveToFront(e)
		return true
	}
	c.used += c.size(seed)
	for c.used > c.room {
		last := c.order.Back()
		old := c.order.Remove(last).(uint64)
		delete(c.at, old)
		c.used -= c.size(old)
	}
	c.at[seed] = c.order.PushFront(seed)
	return false
}

// A working set ten times the disk, and 500 readers of it: nobody reads anything
// wrong, the limit holds at each moment, and what is kept is worth as much as with
// an ideal order of use.
func TestAWorkingSetOfTenTimesTheDisk(t *testing.T) {
	const readers, each, blobs, disk, writers = 500, 8, 10_000, 4_000_000, 16
	size := func(seed uint64) int64 { return 2000 + int64(seed%100)*40 } // forty million in all
	s := openWith(t, t.TempDir(), Limits{MaxSize: Bytes(disk), SoftSize: Bound{Share: 1}})
	random := rand.New(rand.NewPCG(1, 2))
	zipf := rand.NewZipf(random, 1.1, 8, blobs-1)
	var mu sync.Mutex // one request after the other draws, so that both see one sequence
	ideal := &idealLRU{room: disk - writers*6000, order: list.New(), at: make(map[uint64]*list.Element), size: size}
	var hits, idealHits, requests, most int64
	slots := make(chan struct{}, writers) // as many as a mirror fetches at once
	var wg sync.WaitGroup
	for range readers {
		wg.Go(func() {
			for range each {
				mu.Lock()
				seed := zipf.Uint64()
				requests++
				if ideal.get(seed) {
					idealHits++
				}
				mu.Unlock()
				hit := request(t, s, slots, int(size(seed)), seed)
				mu.Lock()
				if hit {
					hits++
				}
				most = max(most, s.Usage().Total())
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	t.Logf("hits %d, of an ideal order %d, of %d requests; at most %d bytes", hits, idealHits, requests, most)
	if most > disk {
		t.Errorf("%d bytes were counted, more than %d", most, disk)
	}
	if hits*100 < idealHits*90 {
		t.Errorf("%d hits, and %d of an ideal order", hits, idealHits)
	}
	if there := onDisk(t, s); there > disk {
		t.Errorf("%d bytes are there", there)
	}
}

// request reads a blob, or puts it when it is not there, as a mirror does.
func request(t *testing.T, s *Store, slots chan struct{}, size int, seed uint64) (hit bool) {
	want, d := blobOf(size, seed)
	b, err := s.Open(t.Context(), d)
	if errors.Is(err, store.ErrNotFound) {
		slots <- struct{}{}
		defer func() { <-slots }()
		b, err = s.Open(t.Context(), d) // somebody else may have brought it
	}
	if errors.Is(err, store.ErrNotFound) {
		if err := store.Put(t.Context(), s, d, want); err != nil && !errors.Is(err, store.ErrUnwritable) {
			t.Error(err)
		}
		return false
	}
	if err != nil {
		t.Error(err)
		return false
	}
	got, err := io.ReadAll(b)
	if err := errors.Join(err, b.Close()); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes of %d, %v", len(got), size, err)
	}
	return true
}
