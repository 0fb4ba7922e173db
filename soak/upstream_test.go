package soak

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"time"

	"sampan/internal/registrytest"
)

// newHTTP returns a client with connections of its own.
func newHTTP() *http.Client {
	return &http.Client{Transport: &http.Transport{DisableCompression: true}}
}

// crowd lets n clients pull the first layer of c from l at once, and wants no
// error.
func crowd(t *testing.T, l *life, c *cargo, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	s := newStage()
	s.set(l)
	var running sync.WaitGroup
	var seen counts
	for i := range n {
		cl := &client{http: newHTTP(), stage: s, cargo: c, counts: &seen, random: rand.New(rand.NewPCG(1, uint64(i)))}
		running.Go(func() {
			defer cl.close()
			err := errors.Join(cl.whole(ctx, "manifests", "latest"), cl.whole(ctx, "blobs", c.layer.Digest.String()))
			if err != nil {
				t.Errorf("client %d: %v", i, err)
			}
		})
	}
	running.Wait()
	if got := seen.complete.Load(); got != int64(2*n) {
		t.Errorf("%d complete responses, want %d", got, 2*n)
	}
}

func TestAnUpstreamThatResetsAfterEachTenthIsNotNoticed(t *testing.T) {
	t.Parallel()
	const size = 12 << 20
	up := registrytest.StartTest(t, registrytest.Options{CountsOnly: true})
	c := load(t, up, 0, []int64{size})
	up.SetBehavior(registrytest.Behavior{
		Pace:   registrytest.Pace{Latency: 10 * time.Millisecond, BytesPerSecond: 2 << 20},
		Faults: []registrytest.Fault{{Truncate: true, TruncateAfter: size / 10, Reset: true}},
	})
	h := newHome(t, up.URL())
	l := h.start(t)
	crowd(t, l, c, 3)
	l.stop(t)
	sent := up.BytesSentOf(c.layer.Digest)
	t.Logf("%d requests for a blob of %d bytes, at most %d at once; upstream sent %d, %.3f %% of them again",
		up.Count(registrytest.KindBlob, http.MethodGet), size, up.MaxConcurrentBlobs(), sent, 100*float64(sent-size)/size)
	if sent < size || sent > size+size/100 {
		t.Errorf("upstream sent %d bytes, want %d and at most 1 %% more", sent, size)
	}
	if n := up.Count(registrytest.KindBlob, http.MethodGet); n < 10 {
		t.Errorf("%d requests: nothing was reset", n)
	}
	h.mustBeQuiet(t)
}

func TestTwoHundredClientsCostOneCrossing(t *testing.T) {
	t.Parallel()
	const size, clients = 6 << 20, 200
	up := registrytest.StartTest(t, registrytest.Options{CountsOnly: true, Behavior: registrytest.Behavior{
		Pace: registrytest.Pace{Latency: 10 * time.Millisecond, BytesPerSecond: 1 << 20},
	}})
	c := load(t, up, 0, []int64{size})
	h := newHome(t, up.URL())
	l := h.start(t)
	crowd(t, l, c, clients)
	l.stop(t)
	sent := up.BytesSentOf(c.layer.Digest)
	t.Logf("%d clients, %d bytes: upstream sent %.4f times that, over at most %d lines",
		clients, size, float64(sent)/size, up.MaxConcurrentBlobs())
	if sent < size || sent > size+size/100 {
		t.Errorf("upstream sent %d bytes, want %d: what a line that is cut short has on its way is less than a hundredth", sent, size)
	}
	if up.MaxConcurrentBlobs() < 2 {
		t.Error("there was one line: nothing was shared out")
	}
	h.mustBeQuiet(t)
}
