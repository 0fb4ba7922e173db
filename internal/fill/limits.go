package fill

import (
	"context"
	"sync"

	"golang.org/x/sync/semaphore"
)

// limits bound the lines of the process and of each upstream. The first line of
// a fetch waits for its turn, in the order of arrival; a further one is given only
// when nobody waits, and goes when somebody does.
type limits struct {
	each, total int64 // of one upstream, and of the process

	all *semaphore.Weighted

	mu        sync.Mutex
	upstreams map[string]*turns // those that somebody holds or waits for
	waiting   int               // for a line of the process
}

// turns are the lines of one upstream.
type turns struct {
	*semaphore.Weighted
	users   int // who hold or wait for one
	waiting int
}

func newLimits(each, all int) *limits {
	return &limits{each: int64(each), total: int64(all), all: semaphore.NewWeighted(int64(all)), upstreams: make(map[string]*turns)}
}

// use counts one more user of an upstream in.
func (l *limits) use(upstream string) *turns {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.upstreams[upstream]
	if t == nil {
		t = &turns{Weighted: semaphore.NewWeighted(l.each)}
		l.upstreams[upstream] = t
	}
	t.users++
	return t
}

// leave counts a user out, and forgets an upstream that has none.
func (l *limits) leave(upstream string, t *turns) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if t.users--; t.users == 0 {
		delete(l.upstreams, upstream)
	}
}

// wait acquires a turn of s, and counts itself meanwhile.
func (l *limits) wait(ctx context.Context, s *semaphore.Weighted, waiting *int) error {
	if s.TryAcquire(1) {
		return nil
	}
	l.mu.Lock()
	*waiting++
	l.mu.Unlock()
	err := s.Acquire(ctx, 1)
	l.mu.Lock()
	*waiting--
	l.mu.Unlock()
	return err
}

// acquire waits for a line. The upstream's turn comes first, so that a slow
// upstream's queue does not take the lines of the others.
func (l *limits) acquire(ctx context.Context, upstream string) error {
	t := l.use(upstream)
	if err := l.wait(ctx, t.Weighted, &t.waiting); err != nil {
		l.leave(upstream, t)
		return err
	}
	if err := l.wait(ctx, l.all, &l.waiting); err != nil {
		t.Release(1)
		l.leave(upstream, t)
		return err
	}
	return nil
}

// try takes a line if one is free and nobody waits.
func (l *limits) try(upstream string) bool {
	t := l.use(upstream)
	if t.TryAcquire(1) {
		if l.all.TryAcquire(1) {
			return true
		}
		t.Release(1)
	}
	l.leave(upstream, t)
	return false
}

// crowded tells whether somebody waits for a line of the upstream, or for one of
// the process.
func (l *limits) crowded(upstream string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.upstreams[upstream]
	return l.waiting > 0 || t != nil && t.waiting > 0
}

// release gives a line back that acquire or try gave.
func (l *limits) release(upstream string) {
	l.mu.Lock()
	t := l.upstreams[upstream]
	l.mu.Unlock()
	l.all.Release(1)
	t.Release(1)
	l.leave(upstream, t)
}

// spare takes a line if that leaves another one free: the last one is for those
// who are waited for, unless it is the only one there is.
func (l *limits) spare(upstream string) bool {
	t := l.use(upstream)
	each, total := min(2, l.each), min(2, l.total)
	if t.TryAcquire(each) {
		if l.all.TryAcquire(total) {
			l.all.Release(total - 1)
			t.Release(each - 1)
			return true
		}
		t.Release(each)
	}
	l.leave(upstream, t)
	return false
}
