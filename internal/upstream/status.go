package upstream

import (
	"time"

	"sampan/internal/oci"
)

// A Status is what an operator may want to know of a registry: its endpoints in the
// order in which they are asked, and what it says may still be asked of it.
type Status struct {
	Registry  oci.Registry
	Endpoints []EndpointStatus
	Budgets   []BudgetStatus // of the accounts for which the registry told one or sent 429
}

// An EndpointStatus is one endpoint as it is now.
type EndpointStatus struct {
	URL       string // without user and query; what is read where that is no address
	BlobsOnly bool
	// State is "up", "down" (it is left alone until Until) or "probing" (the pause has
	// passed, and one question decides).
	State    string
	Failures int       // in a row
	Error    string    // the last failure, safe to show; empty when there was none
	Until    time.Time // zero unless it is down
	// Rate is what one connection brought of blobs lately, in bytes per second; 0 when
	// too little is known.
	Rate int64
}

// A BudgetStatus is what one account may still ask.
type BudgetStatus struct {
	Account   string // its name; empty for anonymous requests
	Limit     int64  // requests in Window; -1 when not told
	Remaining int64  // -1 when not told
	Window    time.Duration
	At        time.Time // when the registry said so last; zero for never
	Scarce    bool      // see Registry.Spare
}

// leastKnown is from how many seconds of one connection a rate is told.
const leastKnown = 3

// Status tells how the endpoints and the accounts are.
func (r *Registry) Status() Status {
	s := Status{Registry: r.registry}
	for _, ep := range r.endpoints {
		st := ep.status()
		if rate, known := ep.meter.rate(); known >= leastKnown {
			st.Rate = int64(rate)
		}
		s.Endpoints = append(s.Endpoints, st)
	}
	for _, a := range r.accounts {
		if b, ok := r.budgetOf(a); ok {
			s.Budgets = append(s.Budgets, b)
		}
	}
	return s
}

func (s *site) status() EndpointStatus {
	b := s.failing()
	b.mu.Lock()
	defer b.mu.Unlock()
	st := EndpointStatus{URL: s.String(), BlobsOnly: s.blobsOnly, State: "up", Failures: b.failures}
	if b.err != nil {
		st.Error = safeText(b.err, "no answer")
	}
	switch {
	case b.state == down && time.Now().Before(b.until):
		st.State, st.Until = "down", b.until
	case b.state != up:
		st.State = "probing"
	}
	return st
}

// budgetOf returns what the endpoint says that was asked last, or that it waits; false
// when nobody has said anything.
func (r *Registry) budgetOf(a *account) (s BudgetStatus, ok bool) {
	s = BudgetStatus{Account: a.name, Limit: -1, Remaining: -1}
	for _, ep := range r.endpoints {
		n := ep.budgets[a.index].now()
		if n.remaining >= 0 && n.at.After(s.At) {
			s.Limit, s.Remaining, s.Window, s.At = n.limit, n.remaining, n.window, n.at
			ok = true
		}
		s.Scarce = s.Scarce || n.scarce()
	}
	return s, ok || s.Scarce
}
