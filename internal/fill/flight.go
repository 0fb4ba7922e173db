package fill

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"sync"
	"time"

	"go.opentelemetry.io/otel/trace"

	"sampan/internal/oci"
	"sampan/internal/store"
)

var (
	// errGone: the flight ended before a reader could be opened on it.
	errGone = errors.New("fetch has ended")
	// errSize: an upstream told one size, and then another one.
	errSize = errors.New("upstreams disagree about the size")
)

// An offer is the source that one caller lends.
type offer struct {
	Source
	quiet bool  // from one who will not read
	err   error // why it was given up; nil while it was not
}

// start is where a fetch begins whose first reader begins at From.
func (o *offer) start() int64 {
	if o.From < near { // it will be there soon
		return 0
	}
	return o.From
}

// A sender is an endpoint that sent bytes.
type sender struct {
	parts    oci.BlobParts
	endpoint string
}

// A flight is one fetch. Its lines write, its readers wait.
type flight struct {
	span trace.Span // nil unless the request that began it is traced

	group  *Group
	digest oci.Digest
	gone   chan struct{} // closed when the group has forgotten the flight
	began  time.Time

	mu       sync.Mutex
	plan     plan          // its size is -1 until a source told it
	served   store.Ranges  // what readers may have had
	hole     store.Range   // what no reader has had: kept back until the proof
	received int64         // bytes from upstream
	granted  bool          // a reader of this flight has had a byte
	lines    int           // running now
	want     int           // lines that there should be
	answer   time.Duration // how long it took to the first answer; 0 before
	start    int64         // where the first line begins, or at the first gap behind it
	breaks   int           // parts in a row that broke after little
	single   bool          // the source honours no ranges
	ordered  bool          // the store takes no bytes behind a gap
	proven   bool          // the digest of all bytes matches
	lost     bool          // the medium may not have what was written: a sync has failed
	closed   bool          // nobody may join any more
	ended    bool          // nothing changes any more
	err      error         // why it ended early
	ingest   store.Ingest
	sources  []*offer // not yet failed; the first one is used
	senders  map[sender]bool
	readers  int          // open now
	quiet    bool         // nobody has wanted to read yet
	given    store.Ranges // what readers have had
	meter    meter        // of received

	repositories map[string]bool // that have asked

	// poke says that a reader waits where nobody is on the way to; capacity 1.
	poke  chan struct{}
	proof proof
}

func newFlight(g *Group, digest oci.Digest, own *offer) *flight {
	return &flight{
		group:   g,
		digest:  digest,
		gone:    make(chan struct{}),
		began:   time.Now(),
		sources: []*offer{own},
		quiet:   own.quiet,
		start:   own.start(),
		meter:   meter{at: time.Now()},
		senders: make(map[sender]bool),
		poke:    make(chan struct{}, 1),
		plan:    plan{size: -1, claims: make(map[*claim]bool), waiting: make(map[*waiter]bool)},
		proof:   proof{h: digest.Hash(), arrived: make(chan struct{}, 1)},

		repositories: map[string]bool{own.Repository: true},
	}
}

// addSource lends the flight another source. False: it is ending.
func (f *flight) addSource(own *offer) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return false
	}
	f.sources = append(f.sources, own)
	f.repositories[own.Repository] = true
	if f.quiet && !own.quiet {
		f.quiet = false
		f.poked()
	}
	return true
}

// source returns the source in use.
func (f *flight) source() Source {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.sources[0].Source
}

// dropSource gives up the first source because of err and tells whether there is
// another.
func (f *flight) dropSource(err error) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sources[0].err = err
	f.sources = f.sources[1:]
	if len(f.sources) == 0 {
		f.closed = true // so that nobody joins a fetch that nobody feeds
	}
	return !f.closed
}

// poked makes fly look again. The caller holds mu.
func (f *flight) poked() {
	select {
	case f.poke <- struct{}{}:
	default:
	}
}

// change runs set under the lock and wakes everybody.
func (f *flight) change(set func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	set()
	f.wakeAll()
}

// wakeAll wakes every waiter. The caller holds mu.
func (f *flight) wakeAll() {
	for w := range f.plan.waiting {
		w.signal()
	}
}

// run fetches, proves and commits.
func (f *flight) run(ctx context.Context) {
	f.watched("")
	err := f.fill(ctx)
	f.endSpan(err)
	f.change(func() { f.closed, f.ended, f.err = true, true, err })
	f.group.leave(f)
	log := f.group.o.Log.With("digest", f.digest, "bytes", f.received, "dur", time.Since(f.began))
	switch {
	case err == nil, errors.Is(err, errGone):
		log.Debug("blob stored")
	case errors.Is(err, ErrStopped), oci.IsAnswer(err):
		log.Debug("blob not stored", "err", err)
	default:
		log.Warn("blob not stored", "err", err)
	}
	f.watched(f.group.metrics.end(err))
}

// watched tells whoever watches, without a lock.
func (f *flight) watched(result string) {
	if watch := f.group.o.Watch; watch != nil {
		watch(f.progress(), result)
	}
}

// fill is the life of a flight. What it returns is what readers get who still
// wait for bytes.
func (f *flight) fill(ctx context.Context) error {
	// Look again: whoever began this flight may have missed the blob in the store
	// just before the flight before this one committed it.
	if b, err := f.group.o.Store.Open(ctx, f.digest); err == nil {
		return errors.Join(errGone, b.Close())
	}
	ingest, err := f.group.o.Store.Ingest(store.WithOwner(ctx, f.source().Upstream), f.digest)
	if err != nil {
		return fmt.Errorf("fill %s: %w", f.digest, err)
	}
	f.change(func() { f.ingest = ingest })
	// The file is kept unless it was committed or discarded, or would only keep
	// other blobs from finding room.
	err = f.fetchAndProve(ctx)
	if past(err) {
		return errors.Join(err, ingest.Discard())
	}
	return errors.Join(err, ingest.Keep())
}

// errUnreadable: what was written into the partial file cannot be read.
var errUnreadable = errors.New("the partial file cannot be read")

// past tells whether readers go on past the store because of err.
func past(err error) bool {
	return errors.Is(err, store.ErrUnwritable) || errors.Is(err, errUnreadable)
}

func (f *flight) fetchAndProve(ctx context.Context) error {
	if err := f.resume(); err != nil {
		return fmt.Errorf("fill %s: %w", f.digest, err)
	}
	// What an earlier process left may be all of it: then nobody is asked.
	if f.proof.at.Load() == 0 || !f.digest.Matches(f.proof.h) {
		if err := f.fetch(ctx); err != nil {
			return err
		}
	}
	if err := f.prove(ctx); err != nil {
		return err
	}
	size := f.ingest.Len()
	f.change(func() {
		f.proven = true
		if f.plan.size < 0 {
			f.plan.size = size
		}
	})
	err := f.ingest.Commit(context.WithoutCancel(ctx), size)
	if errors.Is(err, store.ErrSize) { // there is more than the blob, of an earlier fetch: it will never be one
		err = errors.Join(err, f.ingest.Discard())
	}
	if err != nil {
		f.change(func() { f.lost = past(err) })
		return fmt.Errorf("fill %s: %w", f.digest, err)
	}
	return nil
}

// prove holds the digest against what is here. Wrong bytes are dropped and, while
// no reader has had one, asked for once more, at the next endpoint.
func (f *flight) prove(ctx context.Context) error {
	for first := true; !f.digest.Matches(f.proof.h); first = false {
		f.group.metrics.mismatches.Inc()
		f.blame()
		f.group.o.Log.Error("upstream sent content that does not match its digest", "digest", f.digest, "bytes", f.ingest.Len())
		if !first || !f.takeBack() {
			f.change(func() { f.closed = true }) // before they are dropped: nobody may join what is wrong
			return errors.Join(oci.Errorf(oci.CodeUnavailable, "%s: %w", f.digest, ErrMismatch), f.ingest.Discard())
		}
		if err := f.reset(); err != nil {
			return fmt.Errorf("fill %s: %w", f.digest, err)
		}
		if err := f.fetch(ctx); err != nil {
			return err
		}
	}
	return nil
}

// takeBack takes from the readers what they could have had next. False: one of
// them has had a byte.
func (f *flight) takeBack() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.granted {
		return false
	}
	f.plan.have = store.Ranges{}
	clear(f.senders)
	return true
}

// blame tells the sources from which endpoints wrong bytes may be.
func (f *flight) blame() {
	f.mu.Lock()
	senders := maps.Clone(f.senders)
	f.mu.Unlock()
	for s := range senders {
		f.group.o.Log.Warn("endpoint sent bytes of a blob that does not match its digest", "digest", f.digest, "endpoint", s.endpoint)
		if a, ok := s.parts.(oci.BlobAvoider); ok {
			a.Avoid(s.endpoint)
		}
	}
}

// resume takes over what an earlier fetch left and hashes its beginning.
func (f *flight) resume() error {
	have := f.ingest.Have()
	f.change(func() {
		f.plan.have = have
		f.served = have.Clone() // by an earlier fetch, perhaps
	})
	if err := f.proof.catchUp(f); err != nil {
		// A partial file that cannot be read is worth nothing.
		f.group.o.Log.Warn("partial blob unreadable, fetching it again", "digest", f.digest, "err", err)
		return f.reset()
	}
	if n := have.Total(); n > 0 {
		f.group.metrics.resumes.Inc()
		f.group.metrics.resumed.Add(float64(n))
	}
	return nil
}

// reset forgets all bytes. No reader of this flight has seen one.
func (f *flight) reset() error {
	return f.proof.reset(func() error {
		f.change(func() { f.plan.have = store.Ranges{} })
		return f.ingest.Reset()
	})
}

// agree settles the size. A source that tells another size than the one readers
// were told is of no use; what a former process left beyond the size is dropped.
func (f *flight) agree(size int64) error {
	f.mu.Lock()
	known, extent := f.plan.size, f.plan.have.End()
	f.mu.Unlock()
	switch {
	case size < 0 || size == known:
		return nil // Expect was told, or cannot be
	case size >= unknown:
		return oci.Errorf(oci.CodeUnavailable, "%s is told to have %d bytes, which nothing has: %w", f.digest, size, errSize)
	case known >= 0:
		return oci.Errorf(oci.CodeUnavailable, "%s had %d bytes and now has %d: %w", f.digest, known, size, errSize)
	case extent > size:
		return errBeyond
	}
	f.change(func() { f.settle(size) })
	return f.ingest.Expect(size)
}

// settle makes the size known, in one step with all that follows from it: readers
// may ask for parts at once. The caller holds mu.
func (f *flight) settle(size int64) {
	f.plan.settle(size)
	f.hole = store.Range{From: size - min(size, maxTail), To: size}
	if f.served.End() > f.hole.From { // somebody may have had the end
		f.moveHole(size, size)
	}
}

// errBeyond: what an earlier process left has no place in the blob.
var errBeyond = errors.New("the partial blob is larger than the blob")

// pause waits after the given number of failed attempts in a row.
func (f *flight) pause(ctx context.Context, failures int, atLeast time.Duration) error {
	if err := f.group.pause(ctx, failures, atLeast); err != nil {
		return fmt.Errorf("fill %s: %w", f.digest, err)
	}
	return nil
}

// pause waits after the given number of failed attempts in a row, or until ctx is
// done.
func (g *Group) pause(ctx context.Context, failures int, atLeast time.Duration) error {
	d := g.o.Backoff << min(failures-1, 5) // at most 32 times as long
	d += time.Duration(rand.Int64N(int64(d)/2 + 1))
	select {
	case <-time.After(max(d, min(atLeast, maxPause))):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// maxPause bounds what an upstream may make a fetch wait by Retry-After.
const maxPause = 30 * time.Second

// prefix is the end of the bytes that are here without a gap.
func (f *flight) prefix() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.plan.have.EndOf(0)
}
