package cache

import (
	"context"
	"sync"
	"time"

	"sampan/internal/oci"
)

const (
	// refreshAt is after which part of its freshness, in tenths, a tag in use is
	// asked for again, and refreshUses for how many times its freshness a tag
	// counts as in use after somebody has asked for it.
	refreshAt   = 9
	refreshUses = 3
	// leastRefreshed is the shortest freshness with which tags are refreshed.
	leastRefreshed = 10 * time.Second
	// refreshMost bounds the tags in use that are watched, and refreshAtOnce the
	// questions that run at a time.
	refreshMost   = 1000
	refreshAtOnce = 4
)

// refreshes are the tags in use, which are asked for before they are no longer
// fresh. One goroutine watches them while there are any.
type refreshes struct {
	mu       sync.Mutex
	uses     map[question]*use
	watching bool
	wake     chan struct{} // a tag has come that is due before the others
}

// A use is one tag in use.
type use struct {
	tag   oci.Tag
	asked time.Time // when a client last wanted it
	due   time.Time // when it is asked for again
}

// inUse takes note that a client wants a tag. It never waits. Where the upstream
// has to be asked as a client, nothing is asked without one.
func (c *Cache) inUse(repo oci.Repository, tag oci.Tag, p Freshness) {
	if !p.Refresh || p.FreshFor < leastRefreshed || c.o.Offline || p.immutable(tag) || c.isPrivate(repo) {
		return
	}
	r := &c.refreshes
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	q := question{repo, askTag, tag.String()}
	if u, ok := r.uses[q]; ok {
		u.asked = now
		return
	}
	if len(r.uses) >= refreshMost {
		return
	}
	if r.uses == nil {
		r.uses, r.wake = make(map[question]*use), make(chan struct{}, 1)
	}
	// When it was confirmed is looked up then; it is not later than now.
	r.uses[q] = &use{tag: tag, asked: now, due: now.Add(p.FreshFor / 10 * refreshAt)}
	if !r.watching && c.life.begin() {
		r.watching = true
		go c.watch()
		return
	}
	select {
	case r.wake <- struct{}{}:
	default: // it has not seen the last one yet
	}
}

// watch asks for the tags in use when they are due, until there are none.
func (c *Cache) watch() {
	defer c.life.running.Done()
	r := &c.refreshes
	slots := make(chan struct{}, refreshAtOnce)
	var asking sync.WaitGroup
	defer asking.Wait()
	for {
		q, u, due := r.next()
		if u == nil {
			return
		}
		timer := time.NewTimer(time.Until(due))
		select {
		case <-timer.C:
		case <-r.wake:
			timer.Stop()
			continue
		case <-c.life.ctx.Done():
			timer.Stop()
			return
		}
		p := c.o.Policy(q.repo)
		if !r.postpone(q, time.Now().Add(max(p.FreshFor, leastRefreshed)), refreshUses*p.FreshFor) {
			continue // nobody wants it any more
		}
		select {
		case slots <- struct{}{}:
		case <-c.life.ctx.Done():
			return
		}
		asking.Go(func() {
			defer func() { <-slots }()
			c.refresh(c.life.ctx, q, u.tag, p)
		})
	}
}

// next returns the tag that is due first; nil when there is none, and then
// nobody watches any more.
func (r *refreshes) next() (q question, first *use, due time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for other, u := range r.uses {
		if first == nil || u.due.Before(first.due) {
			q, first = other, u
		}
	}
	if first == nil {
		r.watching = false
		return q, nil, due
	}
	return q, first, first.due
}

// postpone makes a tag due later, or forgets it and is false when nobody has
// wanted it for that long.
func (r *refreshes) postpone(q question, due time.Time, unused time.Duration) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	u, ok := r.uses[q]
	if !ok {
		return false
	}
	if time.Since(u.asked) > unused {
		delete(r.uses, q)
		return false
	}
	u.due = due
	return true
}

// refresh asks for a tag unless that was done of late, its upstream gives no
// answer, or little may still be asked.
func (c *Cache) refresh(ctx context.Context, q question, tag oci.Tag, p Freshness) {
	again := func(checked time.Time) time.Time { return checked.Add(p.FreshFor / 10 * refreshAt) }
	k, err := c.known(ctx, q.repo, tag, p)
	if err != nil || !k.ok {
		return // a client will learn it
	}
	if due := again(k.checked); time.Now().Before(due) {
		c.refreshes.postpone(q, due, Forever)
		return
	}
	if _, down := c.outages.of(q.repo.Registry()); down || c.scarce(q.repo) {
		return
	}
	_, err = ask(ctx, c, q, patience, func(ctx context.Context) (answer[oci.Descriptor], error) {
		c.metrics.refresh(q.repo)
		return c.revalidate(ctx, q.repo, tag, k.value)
	})
	if err == nil {
		c.refreshes.postpone(q, again(time.Now()), Forever)
	}
}
