package local

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"sampan/internal/oci"
	"sampan/internal/transfer/archive"
	"sampan/internal/upstream"
)

// retryAfter is how long a file that could not be opened, and has not changed since, is
// left alone: looking for the images of an archive may mean reading all of it.
const retryAfter = 30 * time.Second

// errClosed: the configuration does not name the place any more.
var errClosed = errors.New("it was closed")

// A source is a place with what is opened of it. It belongs to a [Pool].
type source struct {
	place Place
	log   *slog.Logger
	users int // guarded by Pool.mu

	life    context.Context // of what runs for everybody
	stop    context.CancelFunc
	running sync.WaitGroup

	mu      sync.Mutex
	closed  bool
	current *generation // nil while nothing is open
	opening *opening    // nil while nothing is being opened
	failure failure     // of the last look, while nothing is open
	bad     error       // the last content of current that is not what it should be
	repos   map[oci.Repository]bool
}

// An opening is one that runs.
type opening struct {
	stamp stamp
	done  chan struct{} // closed when it has ended
}

// A failure is why nothing is open.
type failure struct {
	err   error // nil for none
	stamp stamp // of what could not be opened
	at    time.Time
	count int // in a row
}

// A generation is a place as it was when it was opened.
type generation struct {
	*archive.Archive
	stamp stamp

	users   int                   // guarded by source.mu
	retired bool                  // closed when nobody uses it; guarded by source.mu
	lies    map[oci.Digest]bool   // blobs that are something else; guarded by source.mu
	proofs  map[oci.Digest]*proof // guarded by source.mu
}

// acquire returns what is open, which is to be released. With look, what is on the disk
// now is looked at first, and what is older is not returned. The end of ctx ends the
// waiting, and nothing else.
func (s *source) acquire(ctx context.Context, look bool) (*generation, error) {
	waited := false
	for {
		now, err := s.look(look && !waited)
		if err != nil {
			return nil, err
		}
		g, wait, err := s.get(now, waited)
		if wait == nil {
			return g, err
		}
		select {
		case <-wait.done:
			waited = now == nil || wait.stamp.same(now) // or what was opened is older
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// look takes the stamp of the place; nil where that is not wanted and something is open.
func (s *source) look(wanted bool) (stamp, error) {
	if !wanted {
		s.mu.Lock()
		open := s.current != nil
		s.mu.Unlock()
		if open {
			return nil, nil
		}
	}
	now, err := stampOf(s.place)
	if err != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.failed(err, nil)
		return nil, err
	}
	return now, nil
}

// get returns what is open and is still what is there, or why there is nothing, or what
// to wait for. Who has waited takes what has come of it.
func (s *source) get(now stamp, waited bool) (*generation, *opening, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return nil, nil, errClosed
	case s.current != nil && (waited || now == nil || s.current.stamp.same(now)):
		s.current.users++
		return s.current, nil, nil
	case s.opening != nil:
		return nil, s.opening, nil
	case s.failure.err != nil && (waited || s.failure.stamp.same(now) && time.Since(s.failure.at) < retryAfter):
		return nil, nil, s.failure.err
	}
	if now == nil { // it was dropped just now, and there is a reason
		return nil, nil, s.failure.err
	}
	s.open(now)
	return nil, s.opening, nil
}

// begin opens the place unless it is open, without waiting.
func (s *source) begin() {
	if now, err := s.look(true); err == nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		if !s.closed && s.opening == nil && s.current == nil && s.failure.err == nil {
			s.open(now)
		}
	}
}

// open starts opening. The caller holds mu, and there is none under way.
func (s *source) open(now stamp) {
	o := &opening{now, make(chan struct{})}
	s.opening = o
	s.running.Go(func() {
		began := time.Now()
		a, err := archive.Open(s.life, s.place.Path, archive.OpenOptions{Base: s.place.Base})
		s.mu.Lock()
		defer s.mu.Unlock()
		defer close(o.done)
		s.opening = nil
		switch {
		case err != nil:
			s.failed(err, now)
		case s.closed:
			s.discard(&generation{Archive: a})
		default:
			s.opened(&generation{Archive: a, stamp: now}, time.Since(began))
		}
	})
}

// opened takes what was opened. The caller holds mu.
func (s *source) opened(g *generation, took time.Duration) {
	s.drop()
	s.current, s.failure, s.bad = g, failure{}, nil
	s.repos = make(map[oci.Repository]bool)
	registries := make(map[string]bool)
	nameless := 0
	for _, i := range g.Images() {
		s.repos[i.Ref.Repository] = true
		registries[i.Ref.Repository.Registry().String()] = true
		if !i.Named && s.place.Base.IsZero() {
			nameless++
		}
	}
	const most = 20 // registries that are told
	list := slices.Sorted(maps.Keys(registries))
	s.log.Info("archive opened", "archive", s.place.String(), "images", len(g.Images()), "registries", list[:min(len(list), most)], "dur", took)
	if nameless > 0 {
		s.log.Warn("archive has images without a name, which nobody finds: give its endpoint a repository", "archive", s.place.String(), "images", nameless)
	}
}

// failed takes note that nothing can be opened, and lets go of what was. The caller
// holds mu.
func (s *source) failed(err error, now stamp) {
	if s.closed {
		return
	}
	if s.failure.err == nil || s.failure.err.Error() != err.Error() {
		s.log.Warn("archive cannot be read", "archive", s.place.String(), "err", err)
	}
	s.drop()
	s.failure = failure{err: err, stamp: now, at: time.Now(), count: s.failure.count + 1}
}

// drop lets go of what is open. The caller holds mu.
func (s *source) drop() {
	if g := s.current; g != nil {
		s.current, g.retired = nil, true
		if g.users == 0 {
			s.discard(g)
		}
	}
}

// discard closes what nobody uses.
func (s *source) discard(g *generation) {
	if err := g.Close(); err != nil {
		s.log.Warn("archive not closed", "archive", s.place.String(), "err", err)
	}
}

// release lets go of what was acquired.
func (s *source) release(g *generation) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g.users--
	if g.retired && g.users == 0 {
		s.discard(g)
	}
}

// broken takes note of content that is not what it should be.
func (s *source) broken(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bad == nil || s.bad.Error() != err.Error() {
		s.log.Warn("archive has something that cannot be served", "archive", s.place.String(), "err", err)
	}
	s.bad = err
}

// doubt remembers, for as long as the place stays what it is, that a blob of it is
// something else.
func (s *source) doubt(digest oci.Digest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if g := s.current; g != nil {
		if g.lies == nil {
			g.lies = make(map[oci.Digest]bool)
		}
		g.lies[digest] = true
	}
}

func (s *source) doubted(digest oci.Digest) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.current != nil && s.current.lies[digest]
}

// names tells whether the place had images of a repository when it could last be read.
func (s *source) names(repo oci.Repository) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.repos[repo]
}

func (s *source) status() upstream.EndpointStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := upstream.EndpointStatus{URL: s.place.String(), State: "up"}
	switch {
	case s.failure.err != nil:
		st.State, st.Failures, st.Error = "down", s.failure.count, s.failure.err.Error()
	case s.bad != nil:
		st.Error = s.bad.Error()
	}
	return st
}

// close lets everything go, and waits for what is being opened.
func (s *source) close() {
	s.mu.Lock()
	s.closed = true
	s.drop()
	s.mu.Unlock()
	s.stop()
	s.running.Wait()
}
