package upstream

import (
	"context"
	"time"

	"sampan/internal/oci"
)

// probeHedge is how long the question that probes an endpoint waits for it before
// another one is asked as well, where Options.Hedge does not say it.
const probeHedge = time.Second

// A contender is one of two endpoints that a question is put to.
type contender[T any] struct {
	// ask puts the question. The context ends when the other one has won.
	ask func(context.Context) (T, error)
	// ended takes the answer and tells whether it is the last word.
	ended func(T, error) (final bool)
	// lost takes what became of the question after the other one had won.
	lost func(T, error)
}

// race asks the first contender and, when it has not answered after the delay, the
// next one as well, if there is one. The first final answer wins and the other one is
// cancelled and waited for. Without a final answer it returns the last one.
//
// What won lives on a context that release ends.
func race[T any](ctx context.Context, delay time.Duration, first contender[T], next func() (contender[T], bool)) (v T, release context.CancelFunc, err error) {
	type result struct {
		k   int
		v   T
		err error
	}
	var (
		results = make(chan result)
		all     []contender[T]
		cancels []context.CancelFunc
		running int
	)
	start := func(c contender[T]) {
		ctx, cancel := context.WithCancel(ctx)
		k := len(all)
		all, cancels = append(all, c), append(cancels, cancel)
		running++
		go func() {
			v, err := c.ask(ctx)
			results <- result{k, v, err}
		}()
	}
	start(first)
	timer := time.NewTimer(delay)
	defer timer.Stop()
	for {
		var res result
		select {
		case <-timer.C:
			if c, ok := next(); ok {
				start(c)
			}
			continue
		case res = <-results:
		}
		running--
		if !all[res.k].ended(res.v, res.err) && running > 0 {
			cancels[res.k]()
			continue
		}
		for k, cancel := range cancels {
			if k != res.k {
				cancel()
			}
		}
		for ; running > 0; running-- {
			late := <-results
			all[late.k].lost(late.v, late.err)
		}
		return res.v, cancels[res.k], res.err
	}
}

// hedge returns how long a question waits for an endpoint before another one is
// asked as well; 0 is for ever.
func (r *Registry) hedgeAfter(p *permit) time.Duration {
	switch {
	case len(r.endpoints) < 2:
		return 0
	case r.hedge > 0:
		return r.hedge
	case p.probes():
		return probeHedge
	default:
		return 0
	}
}

// A round is the endpoints that a question is put to, one after the other.
type round struct {
	registry *Registry
	left     []*endpoint
	asked    bool // one of them was asked
	blobs    bool // the question may be led to storage
}

// A turn is one endpoint's.
type turn struct {
	*endpoint
	permit *permit
}

// next returns the next endpoint that may be asked.
func (q *round) next() (turn, bool) {
	for len(q.left) > 0 {
		ep := q.left[0]
		q.left = q.left[1:]
		admit := ep.breaker.admit
		if q.blobs {
			admit = ep.admitBlob
		}
		if p := admit(); p != nil {
			q.asked = true
			return turn{ep, p}, true
		}
	}
	return turn{}, false
}

// each asks the endpoints that are asked for everything, in order, until one gives an
// answer, good or bad, and returns what the last one said. Those that are down are
// left out; when all are, it is UNAVAILABLE.
func each[T any](ctx context.Context, r *Registry, ask func(context.Context, *endpoint) (T, error)) (T, error) {
	var (
		v    T
		err  error
		wait = round{registry: r, left: r.askable(ctx)}
	)
	for {
		t, ok := wait.next()
		if !ok {
			break
		}
		v, err = ask(ctx, t.endpoint)
		r.settle(ctx, t.permit, t.endpoint, err)
		if isFinal(ctx, err) {
			break
		}
	}
	if !wait.asked {
		err = r.leftAlone(r.askable(ctx))
	}
	return v, err
}

// eachWithin is each for questions whose whole answer is small: every endpoint has
// the registry's timeout for it, and one that is slow may have to race with the next
// one; see Options.Hedge.
func eachWithin[T any](ctx context.Context, r *Registry, ask func(context.Context, *endpoint) (T, error)) (T, error) {
	return within(ctx, r, round{registry: r, left: r.askable(ctx)}, ask)
}

// within is eachWithin for the endpoints of a round.
func within[T any](ctx context.Context, r *Registry, wait round, ask func(context.Context, *endpoint) (T, error)) (T, error) {
	var (
		v   T
		err error
	)
	runner := func(t turn, second bool) contender[T] {
		return contender[T]{
			ask: func(ctx context.Context) (T, error) {
				ctx, cancel := context.WithTimeoutCause(ctx, r.timeout, errSlow)
				defer cancel()
				return ask(ctx, t.endpoint)
			},
			ended: func(_ T, err error) bool {
				r.settle(ctx, t.permit, t.endpoint, err)
				if second {
					r.metrics.hedged(isFinal(ctx, err))
				}
				return isFinal(ctx, err)
			},
			lost: func(_ T, err error) {
				if second {
					r.metrics.hedged(false)
				}
				r.late(ctx, t, err)
			},
		}
	}
	for {
		t, ok := wait.next()
		if !ok {
			break
		}
		c := runner(t, false)
		if delay := r.hedgeAfter(t.permit); delay > 0 {
			var release context.CancelFunc
			v, release, err = race(ctx, delay, c, func() (contender[T], bool) {
				t, ok := wait.next()
				return runner(t, true), ok
			})
			release()
		} else {
			v, err = c.ask(ctx)
			c.ended(v, err)
		}
		if isFinal(ctx, err) {
			break
		}
	}
	if !wait.asked {
		err = r.leftAlone(r.askable(ctx))
	}
	return v, err
}

// late settles the permit of a question that lost a race: it may have been answered
// at the last moment.
func (r *Registry) late(ctx context.Context, t turn, err error) {
	switch {
	case ctx.Err() != nil:
		t.permit.void()
	case err == nil || oci.CodeOf(err) != "":
		r.settle(ctx, t.permit, t.endpoint, err)
	default: // it was cancelled
		r.beaten(t.permit, t.endpoint)
	}
}

// isFinal tells whether nobody else is to be asked: for an answer, good or bad, and
// when the asker has left.
func isFinal(ctx context.Context, err error) bool {
	return err == nil || oci.IsAnswer(err) || ctx.Err() != nil
}
