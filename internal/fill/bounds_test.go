package fill_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"runtime"
	"runtime/metrics"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sampan/internal/fill"
	"sampan/internal/oci"
)

// held is the memory that is in use after a collection, in bytes: objects on the
// heap and stacks of goroutines.
func held() uint64 {
	runtime.GC()
	runtime.GC() // what finalizers of the first one let go
	samples := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/stacks:bytes"}}
	metrics.Read(samples)
	return samples[0].Value.Uint64() + samples[1].Value.Uint64()
}

// A crowd are readers of one blob that go as far as they are told and wait there.
type crowd struct {
	t       *testing.T
	readers []oci.BlobReader
	want    []byte
}

// readTo reads up to an offset in every reader, each in a goroutine that has
// ended afterwards.
func (c *crowd) readTo(to int) {
	c.t.Helper()
	var running sync.WaitGroup
	const atOnce = 16
	for worker := range atOnce {
		running.Go(func() {
			buf := make([]byte, to)
			for i := worker; i < len(c.readers); i += atOnce {
				from, err := c.readers[i].Seek(0, io.SeekCurrent)
				if err == nil {
					_, err = io.ReadFull(c.readers[i], buf[from:])
				}
				if err != nil || !bytes.Equal(buf[from:], c.want[from:to]) {
					c.t.Errorf("reader %d: %d bytes at %d, %v", i, len(buf)-int(from), from, err)
				}
			}
		})
	}
	running.Wait()
}

// A reader of a running fetch costs the same little memory however far it and the
// fetch have come, and when it has ended nothing is left of it.
func TestAThousandSlowReadersHoldLittleMemory(t *testing.T) {
	const readers, most = 1000, 4 << 10 // bytes for each
	want := content(size, 90)
	d := oci.DigestOf(want)
	gate := make(chan struct{})
	u := &upstream{body: want, read: holdAt(size/2, gate)}
	g := newGroup(t, newStore(t))
	first := open(t, g, d, u)
	mustReadFull(t, first, want[:size/2])
	before := held()
	c := &crowd{t: t, want: want}
	for range readers {
		r, err := g.Open(t.Context(), d, u.source())
		if err != nil {
			t.Fatal(err)
		}
		c.readers = append(c.readers, r)
	}
	grown := func(when string) {
		t.Helper()
		each := (int64(held()) - int64(before)) / readers
		t.Logf("%s: %d bytes for each reader", when, each)
		if each > most {
			t.Errorf("%s: %d bytes for each reader, more than %d", when, each, most)
		}
	}
	c.readTo(1000)
	grown("at the beginning")
	c.readTo(size / 2)
	grown("where the fetch has come to")
	close(gate)
	mustRead(t, first, want[size/2:])
	c.readTo(len(want))
	grown("at the end")
	for _, r := range c.readers {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
	c.readers = nil
	g.Close()
	if left := int64(held()) - int64(before); left > readers*most/4 {
		t.Errorf("%d bytes are left of the readers", left)
	}
	if opens, sent := u.asked(); len(opens) != 1 || sent != int64(len(want)) {
		t.Errorf("asked at %v, %d bytes sent", opens, sent)
	}
}

func mustReadFull(t *testing.T, r io.Reader, want []byte) {
	t.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(r, got); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%d bytes, %v", len(want), err)
	}
}

// Readers that wait for bytes cost their goroutine and no more.
func TestAThousandWaitingReadersHoldLittleMemory(t *testing.T) {
	const readers, most = 1000, 30 << 10 // bytes for each, most of them its stack; a buffer for copying would be more
	want := content(32<<10, 91)
	d := oci.DigestOf(want)
	gate := make(chan struct{})
	u := &upstream{body: want, read: holdAt(1000, gate)}
	g := newGroup(t, newStore(t))
	open(t, g, d, u)
	before := held()
	var running sync.WaitGroup
	var ready sync.WaitGroup
	ready.Add(readers)
	for range readers {
		running.Go(func() {
			r, err := g.Open(t.Context(), d, u.source())
			if err != nil {
				ready.Done()
				t.Error(err)
				return
			}
			defer r.Close()
			_, err = io.ReadFull(r, make([]byte, 100))
			ready.Done()
			buf := make([]byte, 1<<10)
			for at := 100; at < len(want) && err == nil; {
				var n int
				n, err = r.Read(buf)
				if !bytes.HasPrefix(want[at:], buf[:n]) {
					err = errors.New("wrong bytes")
				}
				at += n
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	ready.Wait()
	each := (int64(held()) - int64(before)) / readers
	t.Logf("%d bytes for each reader", each)
	if each > most {
		t.Errorf("%d bytes for each reader, more than %d", each, most)
	}
	close(gate)
	running.Wait()
}

// peak is the most connections at one time.
func (l *link) peak() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.most
}

// With two lines for an upstream and a huge blob on both of them, ten small ones
// come through, one after the other, and the huge one goes on between them.
func TestTenSmallBlobsComeThroughBesideAHugeOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, err := fill.New(fill.Options{Store: newStore(t), Log: slog.New(slog.DiscardHandler), UpstreamLines: 2})
		if err != nil {
			t.Fatal(err)
		}
		defer g.Close()
		shared := &link{latency: 10 * time.Millisecond, each: 256 << 10}
		huge := content(12<<20, 92)
		big := &far{upstream: &upstream{body: huge}, link: shared, step: 64 << 10}
		var readers sync.WaitGroup
		readers.Go(func() { fetchTime(t, g, oci.DigestOf(huge), big.source(), huge) })
		time.Sleep(5 * time.Second) // it has both lines
		if shared.peak() != 2 {
			t.Fatalf("%d lines", shared.peak())
		}
		var small sync.WaitGroup
		asked := make([]*far, 10)
		for i := range asked {
			b := content(64<<10, 93+uint64(i))
			asked[i] = &far{upstream: &upstream{body: b}, link: shared, step: 64 << 10}
			small.Go(func() { fetchTime(t, g, oci.DigestOf(b), asked[i].source(), b) })
		}
		small.Wait()
		_, sent := big.asked()
		t.Logf("the huge blob has come to %d of %d bytes", sent, len(huge))
		if sent >= int64(len(huge)) {
			t.Error("the small blobs waited for the huge one")
		}
		readers.Wait()
		if shared.peak() != 2 {
			t.Errorf("%d connections at one time", shared.peak())
		}
		if _, sent := big.asked(); sent > int64(len(huge))+512<<10 {
			t.Errorf("%d bytes were sent for %d", sent, len(huge))
		}
		for i, u := range asked {
			if opens, _ := u.asked(); len(opens) != 1 {
				t.Errorf("small blob %d was asked for at %v", i, opens)
			}
		}
	})
}

// A stream of small blobs that never ends does not keep a huge one from its end:
// the first line of each fetch waits in one queue.
func TestAHugeBlobComesThroughBesideManySmallOnes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, err := fill.New(fill.Options{Store: newStore(t), Log: slog.New(slog.DiscardHandler), UpstreamLines: 2})
		if err != nil {
			t.Fatal(err)
		}
		defer g.Close()
		shared := &link{latency: 10 * time.Millisecond, each: 256 << 10}
		ctx, stop := context.WithCancel(t.Context())
		var small sync.WaitGroup
		var mu sync.Mutex
		done := 0
		for worker := range 6 {
			small.Go(func() {
				for i := 0; ctx.Err() == nil; i++ {
					b := content(64<<10, uint64(1000*(worker+1)+i))
					u := &far{upstream: &upstream{body: b}, link: shared, step: 64 << 10}
					fetchTime(t, g, oci.DigestOf(b), u.source(), b)
					mu.Lock()
					done++
					mu.Unlock()
				}
			})
		}
		time.Sleep(time.Second)
		huge := content(4<<20, 99)
		big := &far{upstream: &upstream{body: huge}, link: shared, step: 64 << 10}
		fetchTime(t, g, oci.DigestOf(huge), big.source(), huge)
		stop()
		small.Wait()
		t.Logf("%d small blobs meanwhile", done)
		if opens, sent := big.asked(); len(opens) != 1 || sent != int64(len(huge)) || shared.peak() != 2 {
			t.Errorf("asked at %v, %d bytes, %d connections at one time", opens, sent, shared.peak())
		}
		if done < 20 {
			t.Errorf("%d small blobs meanwhile", done)
		}
	})
}
