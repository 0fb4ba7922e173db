package soak

import (
	"context"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"sampan/internal/registrytest"
)

// A form is how long the test of kills runs and what it allows.
type form struct {
	kills  int
	layers []int64 // of each platform of a cargo, in bytes
	// least and most are how many bytes the upstream sends between two kills,
	// counted from when the process is ready.
	least, most int64
	rate        int64   // of each upstream response, in bytes per second
	lost        float64 // the part of the bytes sent before a kill that may be sent again
	patience    time.Duration
}

// chosen returns the long form when SOAK_KILLS says how long.
func chosen(t *testing.T) form {
	t.Helper()
	text := os.Getenv("SOAK_KILLS")
	if text == "" {
		return form{
			kills: 12, layers: []int64{8 << 20, 6 << 20, 3 << 20}, least: 256 << 10, most: 4 << 20,
			rate: 1500 << 10, lost: 0.25, patience: 2 * time.Minute,
		}
	}
	kills, err := strconv.Atoi(text)
	if err != nil || kills < 1 {
		t.Fatalf("SOAK_KILLS is %q", text)
	}
	return form{
		kills: kills, layers: []int64{64 << 20, 24 << 20, 8 << 20}, least: 256 << 10, most: 24 << 20,
		rate: 2 << 20, lost: 0.05, patience: 30 * time.Minute,
	}
}

// seed returns that of the run, and tells it.
func seed(t *testing.T) uint64 {
	t.Helper()
	n := rand.Uint64()
	if text := os.Getenv("SOAK_SEED"); text != "" {
		var err error
		if n, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("SOAK_SEED=%d", n)
	return n
}

// A soak is one run of the test of kills.
type soak struct {
	form
	seed    uint64
	up      *registrytest.Registry
	home    *home
	shelf   *shelf
	stage   *stage
	random  *rand.Rand
	counts  counts
	cargoes []*cargo
	life    *life

	gaps    int   // kills that left a partial file with a gap
	halves  int   // kills that left a partial file
	exposed int64 // bytes of blobs sent before the last kill
}

func TestKilledAtAnyMomentItServesRightBytesAndFetchesThemOnce(t *testing.T) {
	s := &soak{form: chosen(t), seed: seed(t), stage: newStage()}
	s.random = rand.New(rand.NewPCG(s.seed, 0))
	s.up = registrytest.StartTest(t, registrytest.Options{CountsOnly: true, Behavior: registrytest.Behavior{
		Pace: registrytest.Pace{Latency: 10 * time.Millisecond, BytesPerSecond: s.rate},
	}})
	s.home = newHome(t, s.up.URL())
	s.shelf = newShelf(s.home)
	ctx, cancel := context.WithTimeout(t.Context(), s.patience)
	defer cancel()
	s.rise(t)
	for kills := 0; kills < s.kills && !t.Failed(); {
		kills = s.carry(ctx, t, kills)
	}
	if t.Failed() {
		return
	}
	s.pullAll(ctx, t)
	s.life.stop(t)
	s.shelf.verifyAll(ctx, t, s.cargoes)
	if files, journals := partials(t, s.home); len(files)+len(journals) > 0 {
		t.Errorf("left over after all is stored: %v %v", files, journals)
	}
	s.rise(t) // once more: index and store open
	s.life.stop(t)
	s.home.mustBeQuiet(t)
	s.account(t)
}

// rise starts a process and lets the clients have it.
func (s *soak) rise(t *testing.T) {
	t.Helper()
	s.life = s.home.start(t)
	s.stage.set(s.life)
}

// carry brings one new cargo to its clients, through kills, and returns how many
// there have been. After the last one it goes on until all is there.
func (s *soak) carry(ctx context.Context, t *testing.T, kills int) int {
	t.Helper()
	c := load(t, s.up, len(s.cargoes), s.layers)
	s.cargoes = append(s.cargoes, c)
	ctx, relax := context.WithCancel(ctx)
	arrived := s.pullers(ctx, t, c)
	others := s.others(ctx, t, c)
	defer func() {
		relax()
		<-arrived
		others.Wait()
		s.forget(c)
	}()
	for kills < s.kills {
		if !s.awaitMoment(ctx, t, arrived) {
			return kills
		}
		s.life.kill(t)
		kills++
		s.exposed = s.sent()
		s.look(t)
		s.rise(t)
	}
	select {
	case <-arrived:
	case <-ctx.Done():
		t.Fatalf("the cargo does not arrive: %v", ctx.Err())
	}
	return kills
}

// forget lets go of the content of blobs, which pullAll learns again.
func (s *soak) forget(c *cargo) {
	for _, b := range c.blobs {
		delete(c.content, b.Digest.String())
	}
}

// awaitMoment waits until the upstream has sent a random number of bytes more.
// False: everybody has everything, and there is nothing to break.
func (s *soak) awaitMoment(ctx context.Context, t *testing.T, arrived <-chan struct{}) bool {
	t.Helper()
	before := s.up.BytesSent()
	until := before + s.least + s.random.Int64N(s.most-s.least)
	over := false
	poll(ctx, t, "bytes from upstream", func() bool {
		select {
		case <-arrived:
			over = true
		default:
		}
		return over || s.up.BytesSent() >= until
	})
	return !over
}

// look verifies what a kill left on the disk.
func (s *soak) look(t *testing.T) {
	t.Helper()
	files, journals := partials(t, s.home)
	if len(files) > 0 {
		s.halves++
	}
	if len(journals) > 0 {
		s.gaps++
	}
	s.shelf.verify(t)
}

// pullers start the clients that want everything. The channel is closed when they
// have it.
func (s *soak) pullers(ctx context.Context, t *testing.T, c *cargo) <-chan struct{} {
	var running sync.WaitGroup
	for i := range 3 {
		s.goClient(ctx, t, &running, c, i, (*client).pull)
	}
	arrived := make(chan struct{})
	go func() {
		running.Wait()
		close(arrived)
	}()
	return arrived
}

// others start the clients that want a part and never have enough.
func (s *soak) others(ctx context.Context, t *testing.T, c *cargo) *sync.WaitGroup {
	running := new(sync.WaitGroup)
	for i := range 2 {
		s.goClient(ctx, t, running, c, 10+i, (*client).skip)
		s.goClient(ctx, t, running, c, 20+i, (*client).leave)
	}
	return running
}

func (s *soak) goClient(ctx context.Context, t *testing.T, running *sync.WaitGroup, c *cargo, n int, do func(*client, context.Context) error) {
	if n%2 == 1 { // its layers are fetched by whoever comes first
		c = c.twin
	}
	cl := s.client(c, n)
	running.Go(func() {
		defer cl.close()
		if err := do(cl, ctx); err != nil && ctx.Err() == nil {
			t.Errorf("client %d: %v", n, err)
		}
	})
}

func (s *soak) client(c *cargo, n int) *client {
	return &client{
		http:   newHTTP(),
		stage:  s.stage,
		cargo:  c,
		counts: &s.counts,
		random: rand.New(rand.NewPCG(s.seed, uint64(len(s.cargoes))<<8|uint64(n+1))),
	}
}

// pullAll pulls every cargo once more, under both names: what is stored is read,
// what was complete at a kill and not yet stored is stored, and nothing is fetched.
func (s *soak) pullAll(ctx context.Context, t *testing.T) {
	t.Helper()
	before := s.sent()
	for i, c := range s.cargoes {
		again := load(t, s.up, i, s.layers)
		for _, name := range []*cargo{again, again.twin} {
			cl := s.client(name, 30)
			if err := cl.pull(ctx); err != nil {
				t.Error(err)
			}
			cl.close()
		}
		c.content, c.twin = nil, nil
	}
	if n := s.sent() - before; n != 0 {
		t.Errorf("pulling again what is there fetched %d bytes", n)
	}
}

func (s *soak) sent() (n int64) {
	for _, c := range s.cargoes {
		n += c.sent(s.up)
	}
	return n
}

// account compares what the upstream sent of the blobs with their size.
func (s *soak) account(t *testing.T) {
	t.Helper()
	var size int64
	for _, c := range s.cargoes {
		size += c.size
	}
	sent := s.sent()
	lost := float64(sent-size) / float64(s.exposed)
	t.Logf("%d kills, %d starts; %d left a partial file, %d one with gaps", s.kills, s.home.complete, s.halves, s.gaps)
	t.Logf("%d images, %d bytes of blobs; upstream sent %d, %d of them before the last kill, %d again: %.2f %%, %d bytes a kill",
		len(s.cargoes), size, sent, s.exposed, sent-size, 100*lost, (sent-size)/int64(s.kills))
	t.Logf("at most %d upstream responses at once; clients: %d complete responses, %d partial ones, %d bytes compared",
		s.up.MaxConcurrentBlobs(), s.counts.complete.Load(), s.counts.partial.Load(), s.counts.bytes.Load())
	if sent < size {
		t.Errorf("%d bytes sent cannot be %d bytes of blobs", sent, size)
	}
	if lost > s.lost {
		t.Errorf("%.1f %% of the bytes were sent again, more than %.0f %%", 100*lost, 100*s.lost)
	}
	if s.gaps == 0 {
		t.Error("no kill left a file with gaps: the test does not test what it should")
	}
}
