package cache

import (
	"errors"
	"sync"
	"time"

	"sampan/internal/oci"
)

const (
	// holdOff is how long an upstream that gave no answer is not asked again when
	// there is an old one to give. It doubles with each failure that follows, up
	// to maxHoldOff, which also bounds what a rate limit asks for.
	holdOff    = 5 * time.Second
	maxHoldOff = time.Minute
	// patience is how long a client waits for an upstream when there is an old
	// answer to give; probePatience, when the upstream gave none the last time.
	// The question goes on without the client.
	patience      = 5 * time.Second
	probePatience = time.Second
	// maxOutages bounds the registries remembered: strangers may name them.
	maxOutages = 4096
)

// errLate: there is no answer yet.
var errLate = &oci.Error{Code: oci.CodeUnavailable, Message: "the upstream takes too long to answer"}

// An outage is what is known of a registry that gives no answer.
type outage struct {
	reason   Reason
	failures int       // in a row
	until    time.Time // until when it is left alone
}

// outages are the registries that gave no answer the last time.
type outages struct {
	mu sync.Mutex
	m  map[oci.Registry]outage
}

// failed takes note that a registry gave no answer, and tells whether that is
// news: failures while it is left alone anyway are those of questions that were
// under way.
func (o *outages) failed(r oci.Registry, err error) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := time.Now()
	last := o.m[r]
	if now.Before(last.until) {
		return false
	}
	hold := min(holdOff<<min(last.failures, 10), maxHoldOff)
	var e *oci.Error
	if errors.As(err, &e) {
		hold = max(hold, min(e.RetryAfter, maxHoldOff))
	}
	if o.m == nil || len(o.m) >= maxOutages {
		o.m = make(map[oci.Registry]outage)
	}
	o.m[r] = outage{reasonOf(err), last.failures + 1, now.Add(hold)}
	return true
}

// answered takes note that a registry gave an answer.
func (o *outages) answered(r oci.Registry) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.m, r)
}

// all forgets everything.
func (o *outages) all() {
	o.mu.Lock()
	defer o.mu.Unlock()
	clear(o.m)
}

// of returns the outage of a registry, and whether there is one.
func (o *outages) of(r oci.Registry) (outage, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	out, ok := o.m[r]
	return out, ok
}

// held tells whether the registry is left alone now.
func (o outage) held() bool { return time.Now().Before(o.until) }

// patience is how long to wait for a registry when there is an old answer.
func (o *outages) patience(r oci.Registry) time.Duration {
	if _, ok := o.of(r); ok {
		return probePatience
	}
	return patience
}
