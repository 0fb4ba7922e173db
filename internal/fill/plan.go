package fill

import (
	"time"

	"sampan/internal/store"
)

const (
	// minPart and maxPart bound what one request of a further line asks for, in
	// bytes: enough to be worth a round trip, little enough for a reader who
	// waits behind it.
	minPart = 256 << 10
	maxPart = 32 << 20
	// near is how far before a line a byte may be to be waited for, in bytes, and
	// soon how far in time, at the rate that the line has had; a reader that waits
	// farther ahead gets a line of its own. A line costs a round trip, and what is
	// on its way to the one that it takes bytes from: less than that is no gain.
	near = 1 << 20
	soon = 200 * time.Millisecond
	// young is how long a line's rate is not judged.
	young = 20 * time.Millisecond
	// worthSplitting is the least remainder of a part that is shared, in bytes,
	// and slowSplitting that of one which takes as long as a part should.
	worthSplitting = 2 << 20
	slowSplitting  = 256 << 10
)

// A claim is the part that a line is fetching. What is before done is here, what
// is before at is being written, and the line stops before to. Another line may
// take the end of it by lowering to, never below at: no byte is written twice.
type claim struct {
	done, at, to int64

	all    bool      // it was asked for without a bound of its own
	opened time.Time // when its body was there; zero before
	from   int64     // where at was then
}

// open notes that the body of the claim is there.
func (c *claim) open(now time.Time) { c.opened, c.from = now, c.at }

// A plan is what decides about the next part: what is here, what is being
// fetched, and where readers wait. It is a value without locks; the flight guards
// it.
type plan struct {
	size    int64
	have    store.Ranges
	claims  map[*claim]bool
	waiting map[*waiter]bool
}

// A waiter is a reader that waits for the byte at off.
type waiter struct {
	off   int64
	since time.Time
	wake  chan struct{} // capacity 1
}

// unknown stands for the end of a blob whose size was not told.
const unknown = 1 << 62

// settle makes the size known.
func (p *plan) settle(size int64) {
	p.size = size
	for c := range p.claims {
		c.to = max(c.at, min(c.to, size))
	}
}

// next takes the next part for a line, of about length bytes: where a reader
// waits and nobody is on the way to, or else the first bytes that nobody fetches,
// or else the second half of the longest part that is being fetched. A line that
// is alone takes all up to the next byte that is here: others will share it. False:
// there is nothing to share.
func (p *plan) next(now time.Time, length int64, alone bool) (*claim, bool) {
	if off, ok := p.urgent(now); ok {
		return p.takeAt(now, off, length), true
	}
	p.trim(now, length)
	c := p.rest()
	if c == nil {
		return p.share(length)
	}
	if !alone {
		c.to, c.all = min(c.to, c.at+clampPart(length)), false
	}
	return c, true
}

// rest takes the first bytes that nobody fetches, as many as there are in a row;
// nil when there are none.
func (p *plan) rest() *claim { return p.restFrom(0) }

// restFrom is rest for what is at or behind from, or else for what is before.
func (p *plan) restFrom(from int64) *claim {
	free, ok := p.firstFree(from)
	if !ok && from > 0 {
		free, ok = p.firstFree(0)
	}
	if !ok {
		return nil
	}
	c := p.take(free.From, free.To)
	c.all = true
	return c
}

// restart moves a claim to where its source begins, which ignores ranges. It
// returns how many bytes there are before the first one that is wanted.
func (p *plan) restart(c *claim, from int64) (over int64) {
	p.drop(c)
	free, ok := p.firstFree(from)
	if !ok {
		free = store.Range{From: c.at, To: c.to}
	}
	c.done, c.at, c.to = free.From, free.From, free.To
	p.claims[c] = true
	return c.at - from
}

// onward moves a claim that has all it wanted to the next bytes that nobody
// fetches, and returns how many there are before them. Without such bytes the claim
// stays as it is.
func (p *plan) onward(c *claim) (over int64) {
	free, ok := p.firstFree(c.to)
	if !ok {
		return 0
	}
	over = free.From - c.to
	c.done, c.at, c.to = free.From, free.From, free.To
	return over
}

// firstFree returns the first bytes at or behind from that are not here and that
// nobody fetches.
func (p *plan) firstFree(from int64) (store.Range, bool) {
	size := p.size
	if size < 0 {
		size = unknown
	}
	for {
		gap, ok := p.have.NextGap(from, size)
		if !ok {
			return gap, false
		}
		if free, ok := p.free(gap); ok {
			return free, true
		}
		from = gap.To
	}
}

// giveWay lets claims that have had their time end soon, because a reader waits
// where no line can be added.
func (p *plan) giveWay(now time.Time) {
	for c := range p.claims {
		if !c.opened.IsZero() && now.Sub(c.opened) >= partTime && c.to-c.at > 2*near {
			c.to = c.at + near
		}
	}
}

// trim cuts a claim of everything down to what its line should have, length where
// its rate is not known: a line that is alone claims all there is until another one
// comes. Other claims are left alone: to end them early costs what is on its way.
func (p *plan) trim(now time.Time, length int64) {
	for c := range p.claims {
		if !c.all {
			continue
		}
		c.all = false
		if elapsed := now.Sub(c.opened); !c.opened.IsZero() && elapsed >= young {
			length = int64(float64(c.done-c.from) / elapsed.Seconds() * partTime.Seconds())
		}
		c.to = min(c.to, c.at+2*clampPart(length))
	}
}

// extend lets every claim go on to the next one, or to the end of its gap.
func (p *plan) extend() {
	for c := range p.claims {
		gap, ok := p.have.NextGap(c.at, p.size)
		if !ok || gap.From != c.at || c.at == c.to { // it has come to what is here or is another's
			continue
		}
		c.to = gap.To
		for o := range p.claims {
			if o != c && o.done > c.at {
				c.to = min(c.to, o.done)
			}
		}
	}
}

func clampPart(n int64) int64 { return min(max(n, minPart), maxPart) }

// urgent returns the offset of the reader that has waited longest of those who
// wait in vain.
func (p *plan) urgent(now time.Time) (int64, bool) {
	var found *waiter
	for w := range p.waiting {
		if !p.vain(now, w) {
			continue
		}
		if found == nil || w.since.Before(found.since) || w.since.Equal(found.since) && w.off < found.off {
			found = w
		}
	}
	if found == nil {
		return 0, false
	}
	return found.off, true
}

// vain tells whether nobody is on the way to where a reader waits.
func (p *plan) vain(now time.Time, w *waiter) bool {
	return w.off < p.size && p.have.EndOf(w.off) == w.off && !p.coming(now, w.off)
}

// coming tells whether a line will be at off before long.
func (p *plan) coming(now time.Time, off int64) bool {
	for c := range p.claims {
		if c.done <= off && off < c.to && off-c.done <= c.reach(now) {
			return true
		}
	}
	return false
}

// reach is how many bytes before the claim are worth waiting for.
func (c *claim) reach(now time.Time) int64 {
	if c.opened.IsZero() {
		return near
	}
	elapsed := now.Sub(c.opened)
	if elapsed < young {
		return unknown
	}
	return max(near, int64(float64(c.done-c.from)/elapsed.Seconds()*soon.Seconds()))
}

// takeAt takes the part at off, from the claim that holds it if there is one, up
// to where the next reader waits who needs a line: so that nothing of it has to be
// taken away again.
func (p *plan) takeAt(now time.Time, off, length int64) *claim {
	gap, _ := p.have.NextGap(off, p.size)
	to := gap.To
	for c := range p.claims {
		switch {
		case c.at <= off && off < c.to: // within: the end of it is taken over
			to = min(to, c.to)
			c.to = off
		case c.done > off:
			to = min(to, c.done)
		}
	}
	if length > 0 {
		to = min(to, off+clampPart(length))
	}
	for w := range p.waiting {
		if off+minPart <= w.off && w.off < to && p.vain(now, w) {
			to = w.off
		}
	}
	return p.take(off, to)
}

func (p *plan) take(from, to int64) *claim {
	c := &claim{done: from, at: from, to: to}
	p.claims[c] = true
	return c
}

// free returns the first part of a gap that no line has claimed.
func (p *plan) free(gap store.Range) (store.Range, bool) {
	for gap.From < gap.To {
		end := gap.To
		moved := false
		for c := range p.claims {
			switch {
			case c.done <= gap.From && gap.From < c.to:
				gap.From, moved = c.to, true
			case c.done > gap.From:
				end = min(end, c.done)
			}
		}
		if !moved {
			return store.Range{From: gap.From, To: end}, gap.From < end
		}
	}
	return gap, false
}

// share halves the claim with the most bytes left, if a line that brings length in
// the time of a part would be busy with them for long.
func (p *plan) share(length int64) (*claim, bool) {
	var longest *claim
	for c := range p.claims {
		if longest == nil || c.to-c.at > longest.to-longest.at {
			longest = c
		}
	}
	if longest == nil || longest.to-longest.at < min(max(length, slowSplitting), worthSplitting) {
		return nil, false
	}
	mid := longest.at + (longest.to-longest.at)/2
	to := longest.to
	longest.to = mid
	return p.take(mid, to), true
}

// drop ends a claim, wherever it has come to.
func (p *plan) drop(c *claim) { delete(p.claims, c) }
