package upstream

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"sampan/internal/oci"
)

// leadLifetime is how long a redirect is followed without asking again. Signed
// addresses live 10 to 20 minutes.
const leadLifetime = 5 * time.Minute

// A way is what is known of how one endpoint gives out one blob. The lock of its
// blobParts guards it.
type way struct {
	lead    *lead    // nil while not known
	asking  *inquiry // nil when nobody is asking for the lead
	whole   bool     // it ignores ranges
	doubted int      // it has sent wrong bytes: how certain that is, 0 for not at all
	failed  bool     // its last part failed
	sent    bool     // it has sent a part
	open    int      // parts that it is asked for or sends
}

// A lead is where an endpoint leads to for a blob.
type lead struct {
	target *url.URL // nil when the endpoint sends the blob itself
	until  time.Time
}

// An inquiry is a request that finds out a lead; others wait for it.
type inquiry struct {
	done chan struct{}
	err  error // that the waiters share; written before done is closed
}

// ask sends a question for the blob to where the endpoint is known to lead, or
// else to the endpoint.
func (p *blobParts) ask(ctx context.Context, i int, q question) (*reply, error) {
	r, ep := p.registry, p.registry.endpoints[i]
	for again := false; ; again = true {
		l, mine, err := p.lead(ctx, i)
		if err != nil {
			return nil, err
		}
		if mine != nil || l.target == nil {
			rep, err := r.ask(ctx, ep, q)
			p.found(i, mine, rep, err)
			return rep, err
		}
		direct := q
		direct.url = l.target
		rep, err := r.ask(ctx, ep, direct)
		switch {
		case err == nil, ctx.Err() != nil, isAboutRequest(err):
			return rep, err
		}
		p.forget(i, l)
		if again || !isAboutTarget(err) {
			return nil, err
		}
	}
}

// lead returns where an endpoint leads to or, as mine, the inquiry by which the
// caller must find out. Whoever comes meanwhile waits for it, and fails with it.
func (p *blobParts) lead(ctx context.Context, i int) (l *lead, mine *inquiry, err error) {
	for {
		p.mu.Lock()
		w := &p.ways[i]
		if w.lead != nil && time.Now().After(w.lead.until) {
			w.lead = nil
		}
		l, other := w.lead, w.asking
		if l == nil && other == nil {
			mine = &inquiry{done: make(chan struct{})}
			w.asking = mine
		}
		p.mu.Unlock()
		if l != nil || mine != nil {
			return l, mine, nil
		}
		select {
		case <-other.done:
			if other.err != nil {
				return nil, nil, other.err
			}
		case <-ctx.Done():
			return nil, nil, fmt.Errorf("upstream %s: %w", p.registry.registry, ctx.Err())
		}
	}
}

// found remembers where the endpoint's answer came from and ends the caller's
// inquiry, if it has one. A failure that was the caller's own is not shared.
func (p *blobParts) found(i int, mine *inquiry, rep *reply, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := &p.ways[i]
	if err == nil {
		w.lead = &lead{until: time.Now().Add(leadLifetime)}
		if own := p.registry.endpoints[i].url(p.repo, blobQuestion(p.repo, p.digest).below); rep.url.String() != own.String() {
			w.lead.target = rep.url
		}
	}
	if mine == nil {
		return
	}
	if code := oci.CodeOf(err); code != "" && code != oci.CodeRangeInvalid {
		mine.err = err
	}
	w.asking = nil
	close(mine.done)
}

// forget drops a lead that led nowhere, unless another has taken its place; nil
// is any.
func (p *blobParts) forget(i int, l *lead) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if w := &p.ways[i]; l == nil || w.lead == l {
		w.lead = nil
	}
}

// isAboutRequest tells the failures at a redirect's target that say nothing
// about the address: it may be asked again.
func isAboutRequest(err error) bool {
	code := oci.CodeOf(err)
	return code == oci.CodeRangeInvalid || code == oci.CodeTooManyRequests
}

// isAboutTarget tells the failures at a redirect's target that say nothing about
// the blob: the address has expired or cannot be reached.
func isAboutTarget(err error) bool {
	switch statusOf(err) {
	case 0, http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusGone:
		return true
	default:
		return false
	}
}
