package cache

import (
	"context"
	"errors"
	"sync"
	"time"

	"sampan/internal/oci"
)

// askTimeout bounds one shared question upstream, retries and redirects
// included.
const askTimeout = 2 * time.Minute

// What a question may be about.
const (
	askTag       = "tag"
	askManifest  = "manifest"
	askBlob      = "blob"
	askTags      = "tags"
	askReferrers = "referrers"
)

// A question is what an upstream is asked, once for all who want to know at the
// same time.
type question struct {
	repo oci.Repository
	what string
	name string // a tag or digest; empty for the list of tags
}

func (q question) String() string { return q.what + " " + q.repo.String() + " " + q.name }

// An answer is what a shared question brought, with how it was got.
type answer[T any] struct {
	value  T
	result oci.Result
}

// ask runs f once for all who ask the same at the same time, on a context of its
// own: whoever leaves does not take the question along, and the question does
// not write to the trace of who began it. A refusal is remembered, until an answer
// comes that is none. Whoever does not want to wait longer than wait (0 is to the
// end) gets errLate.
func ask[T any](ctx context.Context, c *Cache, q question, wait time.Duration, f func(context.Context) (answer[T], error)) (T, error) {
	var zero T
	if err := c.refused(ctx, q); err != nil {
		c.metrics.refused(q.repo)
		return zero, err
	}
	whom := c.asWhom(ctx)
	ch := c.asking.DoChan(q.String()+whom, func() (any, error) {
		if !c.life.begin() {
			return nil, oci.Errorf(oci.CodeUnavailable, "the mirror is stopping")
		}
		defer c.life.running.Done()
		shared := oci.WithAdmission(context.WithoutCancel(ctx), nil) // it is everybody's who asks
		ctx, cancel := context.WithTimeout(oci.WithTrace(shared, new(oci.Trace)), askTimeout)
		defer cancel()
		defer context.AfterFunc(c.life.ctx, cancel)()
		// Look again: the question before this one may have just been refused, after
		// this one was found not to be.
		if err := c.refused(ctx, q); err != nil {
			return answer[T]{}, err
		}
		a, err := f(ctx)
		if err != nil && ctx.Err() != nil && !oci.IsAnswer(err) {
			err = &oci.Error{Code: oci.CodeUnavailable, Message: "the upstream did not answer in time", Err: err}
		}
		switch {
		case whom != "":
		case err == nil:
			c.missing.forget(q)
		default:
			c.missing.remember(q, err, c.o.Policy(q.repo).MissingFor)
		}
		return a, err
	})
	var late <-chan time.Time
	if wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		late = timer.C
	}
	select {
	case r := <-ch:
		if r.Err != nil {
			return zero, r.Err
		}
		a := r.Val.(answer[T])
		oci.TraceFrom(ctx).Note(a.result)
		return a.value, nil
	case <-late:
		return zero, errLate
	case <-ctx.Done():
		return zero, context.Cause(ctx)
	}
}

// admit has a question admitted that the upstream will be asked. What is known to be
// refused need not be: nobody is asked.
func (c *Cache) admit(ctx context.Context, q question) error {
	if err := c.refused(ctx, q); err != nil {
		c.metrics.refused(q.repo)
		return err
	}
	return oci.Admit(ctx, oci.Cost{Size: -1})
}

// heard takes note of whether the upstream of a repository gave an answer, and
// returns err.
func (c *Cache) heard(ctx context.Context, repo oci.Repository, err error) error {
	switch {
	case err == nil, oci.IsAnswer(err):
		c.outages.answered(repo.Registry())
	case c.life.ctx.Err() != nil, c.o.Offline: // it is not the upstream's fault
	default:
		c.failed(ctx, repo, err)
	}
	return err
}

// failed takes note that the upstream of a repository gave no answer.
func (c *Cache) failed(ctx context.Context, repo oci.Repository, err error) {
	if c.outages.failed(repo.Registry(), err) {
		c.o.Log.WarnContext(ctx, "upstream gave no answer", "repository", repo, "err", err)
	}
}

// known is what an index says about a question.
type known[T any] struct {
	value   T
	checked time.Time // when an upstream last confirmed it
	ok      bool      // there is something
	fresh   bool      // it need not be asked for
	// here tells whether it can be served; nil is always.
	here func(context.Context) bool
}

func (k known[T]) servable(ctx context.Context) bool {
	return k.ok && (k.here == nil || k.here(ctx))
}

// recall answers from what is known while that is fresh, from upstream by get
// when it is not, and from what is known again when upstream gives no answer.
func recall[T any](ctx context.Context, c *Cache, q question,
	look func(context.Context) (known[T], error), get func(context.Context, known[T]) (answer[T], error),
) (T, error) {
	var zero T
	k, err := look(ctx)
	if err != nil {
		return zero, err
	}
	if k.fresh {
		oci.TraceFrom(ctx).Note(oci.ResultHit)
		return k.value, nil
	}
	if err := c.refused(ctx, q); err != nil { // an answer is not masked
		c.metrics.refused(q.repo)
		return zero, err
	}
	p := c.o.Policy(q.repo)
	old := k.servable(ctx) && !c.refusedLast(ctx, q)
	young := old && (c.o.Offline || p.serves(k.checked))
	if !k.ok {
		if err := oci.Admit(ctx, oci.Cost{Size: -1}); err != nil {
			return zero, err
		}
	}
	var wait time.Duration
	if young {
		if why := c.spared(q.repo, p, k.checked); why != "" {
			c.markStale(ctx, q.repo, k.checked, why)
			return k.value, nil
		}
		wait = c.outages.patience(q.repo.Registry())
	}
	value, err := ask(ctx, c, q, wait, func(ctx context.Context) (answer[T], error) {
		// Look again: the question before this one may have just been answered.
		k, err := look(ctx)
		if err != nil {
			return answer[T]{}, err
		}
		if k.fresh {
			return answer[T]{k.value, oci.ResultHit}, nil
		}
		return get(ctx, k)
	})
	switch {
	case err == nil, oci.IsAnswer(err), !old, ctx.Err() != nil:
		return value, err
	case !young:
		return zero, tooOld(err, k.checked)
	case errors.Is(err, errLate):
		c.failed(ctx, q.repo, err)
	}
	c.markStale(ctx, q.repo, k.checked, reasonOf(err))
	return k.value, nil
}

// refusedLast tells whether the upstream's last answer to a question of everybody was
// a refusal: what it said before is not served in its place, whatever happens to
// the upstream since.
func (c *Cache) refusedLast(ctx context.Context, q question) bool {
	if _, own := oci.LoginFrom(ctx); own {
		return false
	}
	return c.missing.last(q)
}

// Forget has everything asked for again that was refused, and every upstream that
// gave no answer.
func (c *Cache) Forget() {
	c.missing.all()
	c.outages.all()
}

// spared returns why an upstream is not asked although what is known is no
// longer fresh; empty when it is to be asked.
func (c *Cache) spared(repo oci.Repository, p Freshness, checked time.Time) Reason {
	if c.o.Offline {
		return ReasonOffline
	}
	if o, ok := c.outages.of(repo.Registry()); ok && o.held() {
		return o.reason
	}
	if c.scarce(repo) && p.stretched(checked) {
		return ReasonBudget
	}
	return ""
}

// scarce tells whether little may still be asked about a repository.
func (c *Cache) scarce(repo oci.Repository) bool {
	up, err := c.upstream(repo)
	if err != nil {
		return false
	}
	s, ok := up.(sparer)
	return ok && s.Spare(repo)
}

// markStale tells the client and the metrics that an old answer is given.
func (c *Cache) markStale(ctx context.Context, repo oci.Repository, checked time.Time, why Reason) {
	t := oci.TraceFrom(ctx)
	t.Note(oci.ResultStale)
	t.Stale = why.sentence(checked)
	c.metrics.staleAnswer(repo, why)
}

// tooOld is a failure to get an answer where there is an old one that may no
// longer be given.
func tooOld(err error, checked time.Time) error {
	e := &oci.Error{Code: oci.CodeUnavailable, Err: err}
	if oci.CodeOf(err) == oci.CodeTooManyRequests {
		e.Code = oci.CodeTooManyRequests
	}
	var cause *oci.Error
	if errors.As(err, &cause) {
		e.RetryAfter = cause.RetryAfter
	}
	e.Message = "the upstream gives no answer, and what it said at " + checked.UTC().Format(time.RFC3339) +
		" is older than tags.stale_if_error allows"
	return e
}

// life is what the goroutines of a Cache belong to.
type life struct {
	ctx    context.Context // done when the Cache is closed; in the struct because they outlive the requests
	cancel context.CancelFunc

	mu      sync.Mutex
	closed  bool
	running sync.WaitGroup
}

func (l *life) init() { l.ctx, l.cancel = context.WithCancel(context.Background()) }

// begin counts a goroutine that will call running.Done; false when the Cache is
// closed.
func (l *life) begin() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	l.running.Add(1)
	return true
}

// end stops them and waits.
func (l *life) end() {
	l.mu.Lock()
	l.closed = true
	l.cancel()
	l.mu.Unlock()
	l.running.Wait()
}
