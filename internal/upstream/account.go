package upstream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"sampan/internal/oci"
	"sampan/internal/upstream/failure"
)

// An Account is one of those that sampan may be to a registry. A repository that
// several match is asked for as the one with most of its budget left; one that
// none matches is asked for anonymously.
type Account struct {
	// Name is told to the operator; empty for one without a name.
	Name string
	// Credentials are asked for each token and each request with Basic
	// authentication, so that they may change; nil means anonymous.
	Credentials Credentials
	// Match tells the repositories that the account is for; nil means all.
	Match func(repo oci.Repository) bool
}

// An account is an [Account] with its place: from 1 in the order of the options;
// 0 is for whoever has none.
type account struct {
	index       int
	name        string
	credentials Credentials // nil for anonymous
	match       func(oci.Repository) bool
}

// newAccounts puts the anonymous account first.
func newAccounts(o Options) ([]*account, error) {
	all := o.Accounts
	if o.Credentials != nil {
		if len(all) > 0 {
			return nil, errors.New("both accounts and credentials are given")
		}
		all = []Account{{Credentials: o.Credentials}}
	}
	list := []*account{{}}
	for i, a := range all {
		list = append(list, &account{index: i + 1, name: a.Name, credentials: a.Credentials, match: a.Match})
	}
	return list, nil
}

// serves tells whether an account may be used for a repository; the anonymous one
// is for those that no other is for.
func (a *account) serves(repo oci.Repository) bool {
	return a.index > 0 && (a.match == nil || a.match(repo))
}

// accountsFor returns the accounts for a repository, at least one.
func (r *Registry) accountsFor(repo oci.Repository) []*account {
	var list []*account
	for _, a := range r.accounts {
		if a.serves(repo) {
			list = append(list, a)
		}
	}
	if len(list) == 0 {
		list = r.accounts[:1]
	}
	return list
}

// choose returns the endpoint as the account sees it that is to ask a question
// there: of those for the repository the one with most of its budget left, but for
// those that wait for the end of a 429. When all of them do, it is TOOMANYREQUESTS,
// but for blobs, which are asked for nevertheless.
func (r *Registry) choose(ep *endpoint, q question) (*endpoint, error) {
	var (
		best    *account
		left    int64
		soonest time.Time
	)
	list := r.accountsFor(q.repo)
	for _, a := range list {
		b := &ep.budgets[a.index]
		if until := b.until(q.class()); !until.IsZero() {
			if soonest.IsZero() || until.Before(soonest) {
				soonest = until
			}
			continue
		}
		if n := b.now().left(); best == nil || n > left {
			best, left = a, n
		}
	}
	if best == nil && q.class() == bytesOf {
		best = list[0]
	}
	if best == nil {
		e := r.fail(oci.CodeTooManyRequests, errWaiting, failure.Facts{Kind: failure.Limited})
		e.RetryAfter = max(time.Until(soonest), 0)
		return nil, e
	}
	return &endpoint{ep.site, best}, nil
}

// askOne sends a question about one repository. An account whose rate is limited makes
// way for the next one.
func (r *Registry) askOne(ctx context.Context, ep *endpoint, q question) (*reply, error) {
	if as, ok := asClient(ctx, ep); ok {
		return r.askAs(ctx, as, q)
	}
	for n := len(r.accounts); ; n-- {
		as, err := r.choose(ep, q)
		if err != nil {
			return nil, err
		}
		rep, err := r.askAs(ctx, as, q)
		b := &as.budgets[as.account.index]
		if err == nil {
			b.answered(q.class())
			return rep, nil
		}
		again, err := r.limited(as, q, err)
		if !again || n <= 1 {
			return nil, r.fromStranger(ep, q, err)
		}
		if next, err2 := r.choose(ep, q); err2 != nil || next.account == as.account {
			return nil, err
		}
	}
}

// errStranger: the endpoint does not know who asks.
var errStranger = errors.New("it is not told the account that may read this")

// fromStranger makes a refusal no answer where an account is needed that the endpoint
// is not told: that it shows nothing to a stranger says nothing.
func (r *Registry) fromStranger(ep *endpoint, q question, err error) error {
	refusal := oci.IsUnknown(err) || errors.Is(err, oci.ErrUnauthorized) || errors.Is(err, oci.ErrDenied)
	if ep.told || !refusal || !slices.ContainsFunc(r.accountsFor(q.repo), func(a *account) bool { return a.index > 0 }) {
		return err
	}
	return r.noAnswer(fmt.Errorf("%w: %w", errStranger, err), "cannot be asked at "+ep.base.Host+" with the account that is configured")
}

// limited takes note of a 429 and tells whether it was one; the error then says how
// long to wait. What a token endpoint says, or storage at the end of a redirect, is not
// about the account.
func (r *Registry) limited(ep *endpoint, q question, err error) (is bool, told error) {
	var (
		e *oci.Error
		s *statusError
	)
	if !errors.As(err, &e) || e.Code != oci.CodeTooManyRequests || !errors.As(err, &s) || s.aside || s.moved && q.kind == kindBlob {
		return false, err
	}
	own := *e // others may wait for the same answer
	own.RetryAfter = ep.budgets[ep.account.index].limited(q.class(), e.RetryAfter)
	r.metrics.limited(ep.account.index)
	r.log.Info("upstream limits the rate", "registry", r.registry.String(), "upstream", ep.String(),
		"dur", own.RetryAfter)
	return true, &own
}
