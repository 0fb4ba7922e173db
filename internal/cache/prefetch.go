package cache

import (
	"context"
	"errors"
	"sync"
	"time"

	"sampan/internal/oci"
	"sampan/internal/store"
)

const (
	// prefetchAtOnce is how many blobs are prefetched at a time.
	prefetchAtOnce = 4
	// prefetchQueue bounds the blobs that wait for it; further ones are left to
	// the clients.
	prefetchQueue = 1024
	// prefetchAgain is how long after a manifest was asked for its blobs are not
	// looked at again, and prefetchSeen bounds how many manifests are remembered.
	prefetchAgain = time.Minute
	prefetchSeen  = 4096
	// prefetchPause is how long nothing is prefetched from an upstream that gave
	// no answer, or limited the rate without saying for how long, and
	// maxPrefetchPause bounds what it says.
	prefetchPause    = time.Minute
	maxPrefetchPause = time.Hour
)

// prefetches are the blobs to fetch before clients ask for them, in the order of
// their manifests. Goroutines work on them while there are any.
type prefetches struct {
	ctx    context.Context // of all of them; in the struct because they outlive the requests
	cancel context.CancelFunc

	mu      sync.Mutex
	closed  bool
	queue   []wish
	workers int
	seen    map[manifestKey]time.Time
	paused  map[oci.Registry]time.Time // until when
	full    time.Time                  // until when the store is taken for unwritable
	running sync.WaitGroup
}

// A wish is one blob to fetch.
type wish struct {
	repo oci.Repository
	desc oci.Descriptor
}

type manifestKey struct {
	repo   oci.Repository
	digest oci.Digest
}

func (p *prefetches) begin() {
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.seen = make(map[manifestKey]time.Time)
	p.paused = make(map[oci.Registry]time.Time)
}

// Close ends questions that are under way, the prefetching and the refreshing,
// and waits for them. Fetches that have begun belong to the group of fetches and
// go on. What is not here is UNAVAILABLE afterwards.
func (c *Cache) Close() {
	c.life.end()
	p := &c.prefetches
	p.mu.Lock()
	p.closed, p.queue = true, nil
	p.cancel()
	p.mu.Unlock()
	p.running.Wait()
}

// Prefetch takes note that a client gets a manifest, and when it is that of an
// image, has its config and layers fetched in the background, unless they are
// here. It never waits.
//
// Only what a client asked for by itself counts: an index brings nothing, and so
// the platforms that nobody uses are never fetched; a client that follows an
// index to the manifest of its platform brings the blobs of that one.
//
// Blobs that are kept elsewhere (foreign layers) and those that do not fit into
// the store are left out. An upstream that gives no answer or limits the rate is
// left alone for a while. A client that asks for a blob that is being prefetched
// reads the same fetch, which is then no longer in the background.
func (c *Cache) Prefetch(repo oci.Repository, m oci.Manifest) {
	switch m.Descriptor.MediaType {
	case oci.MediaTypeImageManifest, oci.MediaTypeDockerManifest:
	default:
		return
	}
	p := &c.prefetches
	if !c.o.Prefetch || !p.first(manifestKey{repo, m.Descriptor.Digest}) {
		return
	}
	g, err := m.Graph()
	if err != nil {
		return // keep has told it
	}
	var wishes []wish
	room := c.o.MaxSize
	for _, d := range g.Blobs {
		if len(d.URLs) > 0 || c.o.MaxSize > 0 && d.Size > room {
			continue
		}
		room -= d.Size
		wishes = append(wishes, wish{repo, d})
	}
	p.add(wishes, c.prefetch)
}

// first tells whether a manifest was not asked for a moment ago, and remembers
// it.
func (p *prefetches) first(k manifestKey) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if at, ok := p.seen[k]; ok && now.Sub(at) < prefetchAgain {
		return false
	}
	if len(p.seen) >= prefetchSeen {
		clear(p.seen)
	}
	p.seen[k] = now
	return true
}

// add queues wishes, as far as there is room, and sees to it that somebody works
// on them.
func (p *prefetches) add(wishes []wish, work func(context.Context, wish)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	p.queue = append(p.queue, wishes[:min(len(wishes), prefetchQueue-len(p.queue))]...)
	for range min(prefetchAtOnce-p.workers, len(p.queue)) {
		p.workers++
		p.running.Go(func() {
			for w, ok := p.next(); ok; w, ok = p.next() {
				work(p.ctx, w)
			}
		})
	}
}

// next takes the first wish that need not wait. False: there is none, and the
// worker is no longer counted.
func (p *prefetches) next() (wish, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	for len(p.queue) > 0 {
		w := p.queue[0]
		p.queue = p.queue[1:]
		if now.Before(p.full) || now.Before(p.paused[w.repo.Registry()]) {
			continue
		}
		return w, true
	}
	p.workers--
	return wish{}, false
}

// prefetch fetches one blob unless it is here.
func (c *Cache) prefetch(ctx context.Context, w wish) {
	up, err := c.upstream(w.repo)
	if err != nil {
		return // the client was told
	}
	err = c.bring(ctx, w, c.partsOf(ctx, up, w.repo, w.desc.Digest, w.desc.Size))
	if err == nil || ctx.Err() != nil {
		return
	}
	log := c.o.Log.With("repository", w.repo, "digest", w.desc.Digest, "err", err)
	if oci.IsAnswer(err) {
		log.Debug("blob not prefetched")
		return
	}
	log.Info("blob not prefetched, pausing", "dur", c.prefetches.pause(w.repo.Registry(), err))
}

// bring has a blob here. What comes from a private repository is marked before, and
// the repository holds what its own upstream has delivered, as if a client had asked.
func (c *Cache) bring(ctx context.Context, w wish, p *parts) error {
	b, err := c.o.Store.Open(ctx, w.desc.Digest)
	switch {
	case err == nil:
		return b.Close()
	case !errors.Is(err, store.ErrNotFound):
		return nil // a client reads past it, and that is told
	}
	if err := c.conceal(ctx, w.repo, w.desc.Digest); err != nil {
		return err
	}
	if err := c.o.Fills.Fetch(ctx, w.desc.Digest, source(w.repo, p)); err != nil || !p.delivered.Load() {
		return err
	}
	return c.confirmed(ctx, w.repo, oci.Descriptor{MediaType: w.desc.MediaType, Digest: w.desc.Digest, Size: w.desc.Size})
}

// pause keeps an upstream, or, when the store cannot be written, all of them from
// being asked for a while, which it returns.
func (p *prefetches) pause(r oci.Registry, err error) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	d := prefetchPause
	now := time.Now()
	if errors.Is(err, store.ErrUnwritable) {
		p.full = now.Add(d)
		return d
	}
	var e *oci.Error
	if errors.As(err, &e) {
		d = min(max(d, e.RetryAfter), maxPrefetchPause)
	}
	if len(p.paused) >= prefetchSeen { // registries that strangers name
		clear(p.paused)
	}
	p.paused[r] = now.Add(d)
	return d
}
