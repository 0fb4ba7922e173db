// Package fill fetches a blob once and lets everybody read it while it arrives.
//
// What it promises: there is one fetch of a digest at a time, whoever asks and
// under whatever name; every reader reads at its own pace from its own offset,
// and one that is slow or leaves neither slows nor stops the fetch; bytes that
// arrived are kept over a break of the link, a shutdown and a crash, and the next
// fetch brings only what is missing; until the digest of the whole is proven, some
// bytes are kept back from all readers, so that not even together they can have a
// blob that is wrong. These are the last ones, unless a reader far ahead of all
// others wants just those.
//
// When the store cannot be written, each reader continues on a fetch of its own,
// proven in the same way, and nothing is kept.
//
// It does not know repositories, permissions or HTTP: the caller has decided
// that whoever reads may read.
//
// Lock order: Group.mu before flight.mu; proof.mu, held while bytes are hashed from
// the file, before flight.mu. Group.mu and flight.mu are not held over a call to a
// source or to the store's files.
package fill

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sampan/internal/oci"
	"sampan/internal/store"
)

// Errors that readers meet.
var (
	// ErrMismatch: the source's bytes were not those that the digest names.
	ErrMismatch = errors.New("content does not match its digest")
	// ErrStopped: the group was closed.
	ErrStopped = errors.New("shutting down")
	// errStalled: no byte came for Options.Stall.
	errStalled = errors.New("no byte arrived for too long")
)

// A Source is where one caller would fetch the blob from. Parts is needed.
type Source struct {
	// Upstream is under whose name lines are counted and bounded.
	Upstream string
	// Repository is told in the list of running fetches.
	Repository string
	Parts      oci.BlobParts
	// From is where the caller will begin to read: a fetch that it starts brings
	// what is there first. Zero or less: at the beginning.
	From int64
}

// Options of a [Group]. Store and Log are needed.
type Options struct {
	Store store.Store
	Log   *slog.Logger
	// Registerer receives the metrics; nil for none.
	Registerer prometheus.Registerer
	// Watch is told when a fetch has begun, with an empty result, and when it has
	// ended, with that of the metrics. It must not wait; nil for nobody.
	Watch func(p Progress, result string)
	// Lines bounds the upstream connections of one fetch; 0 means 16, 1 keeps
	// each fetch at one connection.
	Lines int
	// UpstreamLines bounds those of all fetches from one upstream, and AllLines
	// those of the process; 0 means 64 and 256. Fetches beyond wait for their turn.
	UpstreamLines, AllLines int
	// Stall is how long a source may send nothing before it is asked anew;
	// 0 means 30 s.
	Stall time.Duration
	// Tries bounds the attempts in a row that bring no byte; 0 means 5. Before
	// the first byte of a blob only two are made, so that clients that have
	// another registry to go to are not kept waiting.
	Tries int
	// Backoff is the pause after the first failed attempt, doubled by each
	// further one and spread by half; 0 means 250 ms.
	Backoff time.Duration
}

// maxTail bounds the bytes at the end of a blob that wait for the proof.
const maxTail = 16 << 10

// A Group runs fetches. Make one with [New] and end it with Close.
type Group struct {
	o       Options
	metrics *metrics
	limits  *limits
	ctx     context.Context // of all fetches; in the struct because they outlive their callers
	cancel  context.CancelCauseFunc

	mu      sync.Mutex
	flights map[oci.Digest]*flight
	running sync.WaitGroup
}

// New makes a Group.
func New(o Options) (*Group, error) {
	if o.Store == nil || o.Log == nil {
		return nil, errors.New("fill: Store and Log are needed")
	}
	o.Lines = cmp.Or(o.Lines, 16)
	o.UpstreamLines = cmp.Or(o.UpstreamLines, 64)
	o.AllLines = cmp.Or(o.AllLines, 256)
	if o.Stall == 0 {
		o.Stall = 30 * time.Second
	}
	if o.Tries == 0 {
		o.Tries = 5
	}
	if o.Backoff == 0 {
		o.Backoff = 250 * time.Millisecond
	}
	m, err := newMetrics(o.Registerer)
	if err != nil {
		return nil, fmt.Errorf("fill: %w", err)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	return &Group{o: o, metrics: m, limits: newLimits(o.UpstreamLines, o.AllLines), ctx: ctx, cancel: cancel, flights: make(map[oci.Digest]*flight)}, nil
}

// Close stops all fetches, keeps what has arrived, and waits for them. Their
// readers' next Read fails, and so does Open.
func (g *Group) Close() {
	g.mu.Lock()
	g.cancel(ErrStopped)
	g.mu.Unlock()
	g.running.Wait()
}

// Open reads the blob named digest: it joins the fetch that is running or starts
// one from src. It returns when the size is known, or fails as src does. The
// reader is valid until ctx is done; the fetch goes on without it.
//
// A fetch whose source fails goes on with the source of another caller. When all
// have failed, each caller gets the error of its own.
func (g *Group) Open(ctx context.Context, digest oci.Digest, src Source) (oci.BlobReader, error) {
	for {
		// Look again: the fetch that the caller missed in the store may have been
		// committed since, and its flight be gone.
		if b, err := g.o.Store.Open(ctx, digest); err == nil {
			return Stored(b, oci.Descriptor{Digest: digest, Size: b.Size()}), nil
		} else if !errors.Is(err, store.ErrNotFound) {
			return nil, err
		}
		own := &offer{Source: src}
		f, joined, err := g.join(ctx, digest, own)
		if err != nil {
			return nil, err
		}
		if joined {
			r, err := f.open(ctx, own)
			if !errors.Is(err, errGone) {
				return r, err
			}
		}
		select {
		case <-f.gone:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Count is the number of fetches running now.
func (g *Group) Count() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.flights)
}

// join finds or starts the flight of digest. Not joined: it is ending, and gone
// will tell when the next one can begin.
func (g *Group) join(ctx context.Context, digest oci.Digest, own *offer) (f *flight, joined bool, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ctx.Err() != nil {
		return nil, false, oci.Errorf(oci.CodeUnavailable, "%w", ErrStopped)
	}
	if f := g.flights[digest]; f != nil {
		f.readBy(ctx)
		joined := f.addSource(own)
		if joined && !own.quiet {
			g.metrics.joined.Inc()
		}
		return f, joined, nil
	}
	f = newFlight(g, digest, own)
	run := f.traced(ctx)
	g.flights[digest] = f
	g.metrics.started.Inc()
	g.metrics.running.Inc()
	g.running.Go(func() {
		defer g.metrics.running.Dec()
		f.run(run)
	})
	return f, true, nil
}

// leave removes a flight that ended and lets the next one begin.
func (g *Group) leave(f *flight) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.flights, f.digest)
	close(f.gone)
}
