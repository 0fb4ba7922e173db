package disk

import (
	"errors"
	"time"
)

// gains are what was removed to have more free space.
type gains struct{ first, removed int64 }

// inVain tells that the file system has no more free space for all that was
// removed: somebody else takes it, or readers have the files open.
func (g *gains) inVain(l lack) bool {
	if l.free == 0 || l.limit > 0 {
		return false
	}
	g.first = max(g.first, l.free)
	return g.removed > 2*g.first+1<<20
}

// evict removes one item of choice, if there is one. The caller holds making.
func (q *quota) evict(g *gains, choose func(*table) uint32) error {
	q.mu.Lock()
	n := choose(q.t)
	if n == 0 {
		q.mu.Unlock()
		return nil
	}
	i, size := q.t.item(n), q.t.nodes[n].size
	q.leaving = i
	q.mu.Unlock()
	err := q.remove(i)
	switch {
	case errors.Is(err, errInUse): // its bytes are counted by who writes it
		return nil
	case err != nil:
		q.stays(i)
		return err
	}
	g.removed += size
	q.evicted.Add(1)
	q.evictedBytes.Add(size)
	return nil
}

// stays takes back an item that could not be removed, so that others go before it.
func (q *quota) stays(i item) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.leaving != i {
		return
	}
	q.leaving = item{}
	if n := q.t.at(i); n != 0 {
		q.t.unlink(n)
		q.t.push(n)
	}
}

// trim brings everything below the soft limits and removes what is too old. It
// ends at the first error; the next trim goes on.
func (q *quota) trim(done func() bool) error {
	g := gains{}
	for !done() {
		index, _ := q.index()
		free := q.free()
		q.making.Lock()
		q.mu.Lock()
		choose := q.surplus(&g, index, free)
		q.mu.Unlock()
		var err error
		if choose != nil {
			err = q.evict(&g, choose)
		}
		q.making.Unlock()
		if choose == nil || err != nil {
			return err
		}
	}
	return nil
}

// surplus returns how to choose what leaves next; nil when nothing does. The
// caller holds mu.
func (q *quota) surplus(g *gains, index, free int64) func(*table) uint32 {
	now := time.Now()
	aged := func(t *table) uint32 { return t.expired(now) }
	above := func(t *table) uint32 {
		return t.oldest(func(o *owner) bool { return o.maxSize > 0 && o.bytes > o.maxSize })
	}
	if aged(q.t) != 0 {
		return aged
	}
	if above(q.t) != 0 {
		return above
	}
	var l lack
	if q.soft > 0 {
		l.limit = max(0, q.sum()+index-q.soft)
	}
	if q.minFree > 0 && free >= 0 {
		l.free = max(0, q.minFree-(free-q.unwritten.Load()))
	}
	if l.bytes() == 0 || g.inVain(l) || q.t.victim() == 0 {
		return nil
	}
	return (*table).victim
}
