package upstream

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"sampan/internal/oci"
	"sampan/internal/upstream/failure"
)

const (
	// failuresToOpen is how many failures in a row make an endpoint be left alone.
	// One that hangs needs only one where another endpoint can be asked instead.
	failuresToOpen = 5
	// firstPause is how long it is left alone at first, hangPause where it hung and
	// there are others; each failed probe doubles it, up to longestPause, or to
	// longestAlone while no other endpoint is up.
	firstPause   = time.Second
	hangPause    = 30 * time.Second
	longestPause = 5 * time.Minute
	longestAlone = 30 * time.Second
	// aliveBytes is how much of a blob must come for an endpoint to count as alive
	// before the end of the part.
	aliveBytes = 64 << 10
)

// errBeaten ends a question that another endpoint has answered meanwhile.
var errBeaten = errors.New("another endpoint answered first")

// An outage is a failure of an endpoint, or of what it leads to, that says nothing
// about what was asked for: no connection, or one that broke or stood still.
type outage struct {
	err   error
	hang  bool // nothing came in time
	moved bool // it is a failure of storage that the endpoint led to
}

func (o *outage) Error() string { return o.err.Error() }

func (o *outage) Unwrap() error { return o.err }

func newOutage(err error) *outage {
	var timely interface{ Timeout() bool }
	hang := errors.Is(err, errSlow) || errors.Is(err, errStalled) || errors.As(err, &timely) && timely.Timeout()
	return &outage{err: err, hang: hang}
}

// elsewhere says of an error that was just made who failed: the storage, if moved.
func elsewhere(err error, moved bool) error {
	var o *outage
	if errors.As(err, &o) {
		o.moved = moved
	}
	return err
}

// outageOf tells whether an error speaks against the endpoint, or the storage that it
// leads to: an outage, or a status of 5xx. It is nil otherwise.
func outageOf(err error) *outage {
	var (
		o *outage
		s *statusError
	)
	switch {
	case errors.As(err, &o):
		return o
	case errors.As(err, &s) && s.status >= http.StatusInternalServerError:
		return &outage{err: err, moved: s.moved}
	default:
		return nil
	}
}

// A state is what a breaker does with questions.
type state int

// The states.
const (
	up      state = iota // all are asked
	down                 // none is, until the pause has passed
	probing              // one is being asked and decides
)

// A breaker keeps questions from an endpoint that fails, for pauses that grow. After
// a pause exactly one question is let through; the others are answered as before
// until it has ended. The zero value is up.
type breaker struct {
	// changed is told, outside of the lock, when the endpoint goes down (with the
	// first pause and the failure) and when it comes up again (with nil). Failures
	// tells each one.
	changed func(pause time.Duration, err error)
	failure func()
	// persistent stays up.
	persistent bool

	mu       sync.Mutex
	state    state
	failures int // in a row
	err      error
	pause    time.Duration
	until    time.Time // of down
}

// A permit lets one question through. It is told how that ended, possibly more than
// once: a body may flow first and stand still later.
type permit struct {
	breaker *breaker
	probe   bool    // it decides; false once it has
	storage *permit // for a blob: that of the storage that the endpoint may lead to
}

// admitBlob is admit for a question that may be led to storage. What fails there keeps
// blobs from being asked for here, and nothing else.
func (s *site) admitBlob() *permit {
	p := s.breaker.admit()
	if p == nil {
		return nil
	}
	if p.storage = s.storage.admit(); p.storage == nil {
		p.void()
		return nil
	}
	return p
}

// isUp tells whether blobs may be asked for here as well.
func (s *site) isUp() bool { return s.breaker.isUp() && s.storage.isUp() }

// probes tells whether a breaker waits for how the question ends.
func (p *permit) probes() bool { return p.probe || p.storage != nil && p.storage.probe }

// admit returns nil when the endpoint is to be left alone.
func (b *breaker) admit() *permit {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.state == up:
		return &permit{breaker: b}
	case b.state == down && !time.Now().Before(b.until):
		b.state = probing
		return &permit{breaker: b, probe: true}
	default:
		return nil
	}
}

// isUp tells whether questions are let through.
func (b *breaker) isUp() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.state == up
}

// ok says that the endpoint is alive. Only a probe brings it up again.
func (p *permit) ok() {
	if p.storage != nil {
		p.storage.ok()
	}
	b := p.breaker
	b.mu.Lock()
	came := p.probe
	if came {
		b.state, b.pause = up, 0
	}
	if b.state == up {
		b.failures = 0
	}
	p.probe = false
	b.mu.Unlock()
	if came && b.changed != nil {
		b.changed(0, nil)
	}
}

// failed says that it is not, or that its storage is not. Others tells that another
// endpoint can be asked instead.
func (p *permit) failed(err error, o *outage, others bool) {
	hang := o.hang
	if p.storage != nil {
		if o.moved {
			p.storage.failed(err, o, others)
			p.storage = nil
			p.void()
			return
		}
		p.storage.void()
	}
	b := p.breaker
	b.mu.Lock()
	b.failures++
	b.err = err
	went := b.state == up && !b.persistent && (b.failures >= failuresToOpen || hang && others)
	switch {
	case went && hang && others:
		b.pause = hangPause
	case went:
		b.pause = firstPause
	case p.probe:
		b.pause *= 2
	}
	if went || p.probe {
		longest := longestPause
		if !others {
			longest = longestAlone
		}
		b.pause = min(b.pause, longest)
		b.state, b.until = down, time.Now().Add(b.pause)
	}
	p.probe = false
	pause := b.pause
	b.mu.Unlock()
	if b.failure != nil {
		b.failure()
	}
	if went && b.changed != nil {
		b.changed(pause, err)
	}
}

// void says that nothing was learned: the next question probes.
func (p *permit) void() {
	if p.storage != nil {
		p.storage.void()
	}
	b := p.breaker
	b.mu.Lock()
	defer b.mu.Unlock()
	if p.probe {
		b.state = down
	}
	p.probe = false
}

// settle tells the permit of a question how that ended, unless it was the asker who
// left.
func (r *Registry) settle(ctx context.Context, p *permit, ep *endpoint, err error) {
	o := outageOf(err)
	switch {
	case err != nil && ctx.Err() != nil, errors.Is(err, errWaiting):
		p.void()
	case o != nil:
		p.failed(err, o, r.othersUp(ep, o.moved))
	case err == nil, oci.IsAnswer(err), errors.Is(err, oci.ErrTooManyRequests), errors.Is(err, errWhole), errors.Is(err, errStranger):
		p.ok()
	case p.probes(): // it sends something, and not what was asked for
		p.failed(err, &outage{}, r.othersUp(ep, false))
	default:
		p.void()
	}
}

// beaten tells the permit of a question that another endpoint was faster. Who is so
// again and again costs each question the wait.
func (r *Registry) beaten(p *permit, ep *endpoint) {
	p.failed(r.fail(oci.CodeUnavailable, errBeaten, failure.Facts{Kind: failure.Silent, Host: ep.base.Host}), &outage{}, r.othersUp(ep, false))
}

// othersUp tells whether there is somebody to ask instead of an endpoint; instead of
// its storage, if that failed.
func (r *Registry) othersUp(ep *endpoint, storage bool) bool {
	for _, other := range r.endpoints {
		switch {
		case other.site == ep.site:
		case storage && other.isUp(), ep.blobsOnly && other.isUp(), !storage && !other.blobsOnly && other.breaker.isUp():
			return true
		}
	}
	return false
}

// leftAlone is the answer when no endpoint may be asked now: what failed at the one
// that may be asked first, and until when.
func (r *Registry) leftAlone(endpoints []*endpoint) error {
	var (
		soonest time.Time
		why     error
	)
	for _, ep := range endpoints {
		b := ep.failing()
		b.mu.Lock()
		if b.err != nil && (why == nil || b.until.Before(soonest)) {
			soonest, why = b.until, b.err
		}
		b.mu.Unlock()
	}
	wait := max(time.Until(soonest), 0)
	var last *oci.Error
	errors.As(why, &last)
	e := r.fail(oci.CodeUnavailable, why, failure.Facts{Kind: failure.LeftAlone, Last: failure.Of(last), Again: max(wait.Round(time.Second), time.Second)})
	e.RetryAfter = wait
	return e
}

// failing returns the breaker that keeps questions from the endpoint: that of its
// storage only when the endpoint itself is up.
func (s *site) failing() *breaker {
	if s.breaker.isUp() && !s.storage.isUp() {
		return &s.storage
	}
	return &s.breaker
}

// safeText is what may be shown of an error.
func safeText(err error, otherwise string) string {
	var e *oci.Error
	if errors.As(err, &e) && e.Message != "" {
		return e.Message
	}
	return otherwise
}
