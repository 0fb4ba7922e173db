package soak

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sampan/internal/registrytest"
)

// evictions is how often the process is killed while it evicts: SOAK_EVICT_KILLS=200 is
// the long form.
func evictions(t *testing.T) int {
	t.Helper()
	text := os.Getenv("SOAK_EVICT_KILLS")
	if text == "" {
		return 5
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("SOAK_EVICT_KILLS is %q", text)
	}
	return n
}

// An evicting run reads far more than the limit from process after process.
type evicting struct {
	form   limitForm
	demand *demand
	up     *registrytest.Registry
	home   *home
	stage  *stage
	random *rand.Rand
	reads  atomic.Int64 // that came to their end
	cut    atomic.Int64 // by a kill
}

// Killed while it evicts for want of room: the files never have more than the limit,
// what is complete is what its name says, and when the next process has looked, its
// index has exactly the blobs that are there.
func TestKilledWhileItEvictsIndexAndDiskAgree(t *testing.T) {
	kills, seed := evictions(t), seed(t)
	f := limitForm{limit: 20 << 20, least: 4 << 10, most: 512 << 10, readers: 16, workingTimes: 10}
	e := &evicting{form: f, stage: newStage(), random: rand.New(rand.NewPCG(seed, 9))}
	e.up = registrytest.StartTest(t, registrytest.Options{CountsOnly: true})
	e.demand = newDemand(t, e.up, f, seed)
	e.home = newHome(t, e.up.URL())
	e.home.configure(t, fmt.Sprintf("data: {max_size: %d}\n", f.limit))
	ctx, cancel := context.WithTimeout(t.Context(), 40*time.Minute)
	defer cancel()
	reading := e.read(ctx, t)
	shelf := newShelf(e.home)
	evicted, stale := 0.0, 0
	for k := range kills {
		l := e.home.start(t)
		if e.agree(ctx, t, l) {
			stale++
		}
		e.stage.set(l)
		before := e.up.BytesSent()
		more := f.limit/4 + e.random.Int64N(f.limit)
		poll(ctx, t, "bytes from upstream", func() bool { return e.up.BytesSent()-before >= more || t.Failed() })
		if t.Failed() { // readers have left
			e.home.tell(t)
			break
		}
		evicted += l.metric(ctx, t, "sampan_store_evicted_total")
		l.kill(t)
		u, err := e.home.usage()
		if err != nil || u.bytes > f.limit {
			t.Errorf("kill %d: files have %d bytes, the limit is %d, %v", k, u.bytes, f.limit, err)
		}
		clear(shelf.verified) // what has left may have come again
		shelf.verify(t)
		if t.Failed() {
			break
		}
	}
	cancel()
	e.stage.set(nil)
	reading.Wait()
	l := e.home.start(t)
	e.agree(t.Context(), t, l)
	l.stop(t)
	e.home.mustBeQuiet(t)
	t.Logf("%d kills: %.0f blobs evicted, %d reads verified, %d cut by a kill; after %d kills the index claimed what was gone, and found out",
		kills, evicted, e.reads.Load(), e.cut.Load(), stale)
	if evicted == 0 {
		t.Error("nothing was evicted: the test does not test what it should")
	}
}

// agree waits until the process says of its disk what is there, which nobody uses
// meanwhile, and tells whether it did not at once.
func (e *evicting) agree(ctx context.Context, t *testing.T, l *life) (late bool) {
	t.Helper()
	first := true
	poll(ctx, t, "index and disk to agree", func() bool {
		u, err := e.home.usage()
		if err != nil {
			t.Fatal(err)
		}
		complete, blobs := l.metric(ctx, t, `sampan_store_bytes{state="complete"}`), l.metric(ctx, t, "sampan_store_blobs")
		same := int64(complete) == u.blobs && int(blobs) == u.files
		late = late || first && !same
		first = false
		return same
	})
	return late
}

// read has readers ask whatever process lives until ctx is done. A body that is wrong,
// and an error that is not the kill's, fail the test.
func (e *evicting) read(ctx context.Context, t *testing.T) *sync.WaitGroup {
	running := new(sync.WaitGroup)
	for range e.form.readers {
		running.Go(func() {
			client := newHTTP()
			defer client.CloseIdleConnections()
			for {
				l := e.stage.life(ctx)
				if l == nil {
					return
				}
				b, _ := e.demand.next()
				err := readBlob(client, l.url+"/v2/"+e.demand.repository+"/blobs/", b)
				switch {
				case err == nil:
					e.reads.Add(1)
				case l.killed.Load():
					e.cut.Add(1)
				default:
					t.Error(err)
					return
				}
			}
		})
	}
	return running
}
