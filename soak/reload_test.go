package soak

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"sampan/internal/registrytest"
)

// reloads and pullers are how many there are: SOAK_RELOADS=1000 is the long form.
func reloads(t *testing.T) (n, pullers int) {
	t.Helper()
	if s := os.Getenv("SOAK_RELOADS"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatal(err)
		}
		return n, 200
	}
	return 50, 40
}

// variant is the i-th configuration: each differs from the one before, and every
// tenth is refused.
func variant(i int, upstream string) (text string, refused bool) {
	if i%10 == 9 {
		return settings + "nonsense: true\n", true
	}
	text = settings + fmt.Sprintf("tags: {fresh_for: %dm}\n", 1+i%50)
	if i%2 == 0 {
		text += fmt.Sprintf("upstreams: {extra%d.test: {endpoints: [{url: %q}], hedge: %dms}}\n", i%7, upstream, 100+i)
	}
	if i%3 == 0 {
		text += fmt.Sprintf("users: [{name: user%d, password: x}]\naccess: [{action: allow}]\nlimits: {clients: [{bytes_per_day: %dTiB}]}\n", i, i+1)
	}
	return text, false
}

// The configuration changes again and again while hundreds pull: no pull fails, no
// byte is fetched twice, nothing is left behind, and the last one is in force.
func TestReloadsUnderPullsDropNothing(t *testing.T) {
	n, pullers := reloads(t)
	const size = 6 << 20
	up := registrytest.StartTest(t, registrytest.Options{CountsOnly: true, Behavior: registrytest.Behavior{
		Pace: registrytest.Pace{Latency: 5 * time.Millisecond, BytesPerSecond: 2 << 20},
	}})
	cargos := make([]*cargo, 4)
	for i := range cargos {
		cargos[i] = load(t, up, i, []int64{size})
	}
	h := newHome(t, up.URL())
	l := h.start(t)
	s := newStage()
	s.set(l)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute)
	defer cancel()
	metric := func(name string) float64 { return l.metric(ctx, t, name) }
	goroutines, files := metric("go_goroutines"), metric("process_open_fds")

	var stop atomic.Bool
	var seen counts
	var running sync.WaitGroup
	for i := range pullers {
		cl := &client{http: newHTTP(), stage: s, cargo: cargos[i%len(cargos)], counts: &seen, random: rand.New(rand.NewPCG(2, uint64(i)))}
		running.Go(func() {
			defer cl.close()
			for !stop.Load() && ctx.Err() == nil {
				if err := cl.pull(ctx); err != nil {
					t.Errorf("client %d: %v", i, err)
					return
				}
			}
		})
	}
	var taken, refused float64
	for i := range n {
		text, bad := variant(i, up.URL())
		if err := os.WriteFile(h.file()+".new", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(h.file()+".new", h.file()); err != nil { // half a file would be refused as well
			t.Fatal(err)
		}
		name, count := `sampan_config_reloads_total{result="ok"}`, &taken
		if bad {
			name, count = `sampan_config_reloads_total{result="refused"}`, &refused
		}
		if err := l.command.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		poll(ctx, t, "the reload", func() bool { return metric(name) > *count })
		*count = metric(name) // the file's own watch may have loaded it, too
	}
	stop.Store(true)
	running.Wait()
	if err := ctx.Err(); err != nil {
		t.Fatal(errors.Join(err, errors.New("it did not end in time")))
	}
	t.Logf("%d reloads, %.0f taken and %.0f refused, %d clients: %d complete responses, %d bytes",
		n, taken, refused, pullers, seen.complete.Load(), seen.bytes.Load())
	for _, c := range cargos {
		if sent := up.BytesSentOf(c.layer.Digest); sent < size || sent > size+size/50 {
			t.Errorf("the upstream sent %d bytes of %d", sent, size)
		}
	}
	poll(ctx, t, "what was replaced to be let go", func() bool {
		return metric("go_goroutines") < goroutines+100 && metric("process_open_fds") < files+100
	})
	l.stop(t)
}
