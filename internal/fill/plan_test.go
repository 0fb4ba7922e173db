package fill

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"sampan/internal/store"
)

func newPlan(size int64, have ...store.Range) *plan {
	p := &plan{size: size, claims: make(map[*claim]bool), waiting: make(map[*waiter]bool)}
	for _, r := range have {
		p.have.Add(r.From, r.To)
	}
	return p
}

// arrive is n bytes of a claim that are written.
func (p *plan) arrive(c *claim, n int64) {
	n = min(n, c.to-c.at)
	p.have.Add(c.at, c.at+n)
	c.at += n
	c.done = c.at
}

func (p *plan) wait(off int64) { p.waiting[&waiter{off: off}] = true }

const mib = 1 << 20

func TestNextPart(t *testing.T) {
	type part struct{ from, to int64 }
	for name, tc := range map[string]struct {
		have    []part
		claimed []part
		waits   []int64
		alone   bool
		want    part // empty: nothing to share
		after   []part
	}{
		"alone takes all there is":              {alone: true, want: part{0, 100 * mib}},
		"alone stops at what is here":           {have: []part{{8 * mib, 9 * mib}}, alone: true, want: part{0, 8 * mib}},
		"the front comes first":                 {want: part{0, 4 * mib}},
		"behind what is being fetched":          {claimed: []part{{0, 4 * mib}}, want: part{4 * mib, 8 * mib}},
		"between what is here":                  {have: []part{{0, mib}, {2 * mib, 100 * mib}}, want: part{mib, 2 * mib}},
		"a claim of all is cut":                 {claimed: []part{{0, 100 * mib}}, want: part{8 * mib, 12 * mib}, after: []part{{0, 8 * mib}}},
		"a long part is left alone":             {have: []part{{80 * mib, 100 * mib}}, claimed: []part{{0, 60 * mib}}, want: part{60 * mib, 64 * mib}, after: []part{{0, 60 * mib}}},
		"a reader far ahead comes first":        {claimed: []part{{0, 4 * mib}}, waits: []int64{90 * mib}, want: part{90 * mib, 94 * mib}},
		"the first of two readers":              {waits: []int64{90 * mib, 50 * mib}, want: part{50 * mib, 54 * mib}},
		"a claim gives up what is waited for":   {claimed: []part{{0, 100 * mib}}, waits: []int64{90 * mib}, want: part{90 * mib, 94 * mib}, after: []part{{0, 90 * mib}}},
		"a reader just ahead is on the way":     {claimed: []part{{0, 4 * mib}}, waits: []int64{mib / 2}, want: part{4 * mib, 8 * mib}},
		"the end of the longest part is shared": {have: []part{{0, 92 * mib}}, claimed: []part{{92 * mib, 100 * mib}}, want: part{96 * mib, 100 * mib}, after: []part{{92 * mib, 96 * mib}}},
		"little is not shared":                  {have: []part{{0, 99 * mib}}, claimed: []part{{99 * mib, 100 * mib}}},
		"nothing is missing":                    {have: []part{{0, 100 * mib}}},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlan(100 * mib)
			for _, r := range tc.have {
				p.have.Add(r.from, r.to)
			}
			var claims []*claim
			for _, r := range tc.claimed {
				c := p.take(r.from, r.to)
				c.all = r == part{0, 100 * mib}
				claims = append(claims, c)
			}
			for _, off := range tc.waits {
				p.wait(off)
			}
			c, ok := p.next(time.Time{}, 4*mib, tc.alone)
			if ok != (tc.want != part{}) || ok && (part{c.at, c.to}) != tc.want {
				t.Errorf("got %+v, %v; want %v", c, ok, tc.want)
			}
			for i, want := range tc.after {
				if got := (part{claims[i].at, claims[i].to}); got != want {
					t.Errorf("the claim before is now %v, want %v", got, want)
				}
			}
		})
	}
}

// Where a reader waits far ahead, a line on the way is worth waiting for if it is
// fast, or too young to be judged.
func TestComing(t *testing.T) {
	now := time.Now()
	for name, tc := range map[string]struct {
		opened  time.Duration // before now
		brought int64
		ahead   int64
		want    bool
	}{
		"just ahead of a slow line":      {opened: time.Second, brought: mib, ahead: mib, want: true},
		"far ahead of a slow line":       {opened: time.Second, brought: mib, ahead: mib + 1},
		"soon reached by a fast line":    {opened: time.Second, brought: 40 * mib, ahead: 8 * mib, want: true},
		"not so soon":                    {opened: time.Second, brought: 40 * mib, ahead: 8*mib + 1},
		"too early to tell":              {opened: young - 1, brought: 1, ahead: 40 * mib, want: true},
		"early, and nothing has come":    {opened: young, ahead: 40 * mib},
		"beyond the claim":               {opened: time.Second, brought: 40 * mib, ahead: 60 * mib},
		"behind the claim is not coming": {opened: time.Second, brought: 40 * mib, ahead: -mib},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlan(100 * mib)
			c := p.take(0, 90*mib)
			c.open(now.Add(-tc.opened))
			p.arrive(c, tc.brought)
			if got := p.coming(now, c.done+tc.ahead); got != tc.want {
				t.Errorf("coming is %v", got)
			}
		})
	}
}

// A long claim ends soon for a reader who waits in vain, once it has had the time
// of a part.
func TestClaimsGiveWay(t *testing.T) {
	now := time.Now()
	p := newPlan(100 * mib)
	long, recent, short, unopened := p.take(0, 20*mib), p.take(20*mib, 40*mib), p.take(40*mib, 42*mib), p.take(50*mib, 70*mib)
	long.open(now.Add(-partTime))
	recent.open(now.Add(-partTime + 1))
	short.open(now.Add(-partTime))
	p.arrive(long, 3*mib)
	p.giveWay(now)
	if long.to != 4*mib || recent.to != 40*mib || short.to != 42*mib || unopened.to != 70*mib {
		t.Errorf("%+v, %+v, %+v, %+v", long, recent, short, unopened)
	}
}

// Who has waited longest is served first, and his part ends where the next one
// waits.
func TestUrgentIsWhoHasWaitedLongest(t *testing.T) {
	now := time.Now()
	p := newPlan(100 * mib)
	p.waiting[&waiter{off: 10 * mib, since: now.Add(-time.Second)}] = true
	p.waiting[&waiter{off: 50 * mib, since: now.Add(-2 * time.Second)}] = true
	p.waiting[&waiter{off: 53 * mib, since: now}] = true
	if c, ok := p.next(now, 8*mib, false); !ok || c.at != 50*mib || c.to != 53*mib {
		t.Errorf("first %+v", c)
	}
	if c, ok := p.next(now, 8*mib, false); !ok || c.at != 10*mib || c.to != 18*mib {
		t.Errorf("then %+v", c)
	}
}

// What a line that had everything keeps is measured by its own rate.
func TestClaimOfAllIsCutByItsOwnRate(t *testing.T) {
	now := time.Now()
	p := newPlan(100 * mib)
	c := p.rest()
	c.open(now.Add(-time.Second))
	p.arrive(c, 5*mib)
	if next, ok := p.next(now, 3*mib, false); !ok || c.to != 25*mib || next.at != 25*mib || next.to != 28*mib {
		t.Errorf("%+v, then %+v", c, next)
	}
}

func TestRestartIsWhereTheSourceBegins(t *testing.T) {
	p := newPlan(100, store.Range{From: 0, To: 10}, store.Range{From: 40, To: 50})
	c := p.restFrom(60)
	if over := p.restart(c, 0); over != 10 || c.at != 10 || c.to != 40 || len(p.claims) != 1 {
		t.Errorf("%d bytes before %+v", over, c)
	}
}

func TestSlowLinesShareLess(t *testing.T) {
	for length, want := range map[int64]bool{100 << 10: true, mib: true, 2 * mib: false} {
		p := newPlan(mib)
		p.take(0, mib)
		if _, ok := p.next(time.Time{}, length, false); ok != want {
			t.Errorf("lines of %d bytes in the time of a part share 1 MiB: %v", length, ok)
		}
	}
}

func TestOnwardPassesOverWhatIsHere(t *testing.T) {
	p := newPlan(100, store.Range{From: 10, To: 30}, store.Range{From: 40, To: 100})
	c := p.rest()
	p.arrive(c, 10)
	if over := p.onward(c); over != 20 || c.done != 30 || c.at != 30 || c.to != 40 {
		t.Errorf("over %d bytes to %+v", over, c)
	}
	p.arrive(c, 10)
	if over := p.onward(c); over != 0 || c.at != c.to {
		t.Errorf("over %d bytes to %+v", over, c)
	}
}

func TestExtendGoesOnToTheNextByteThatIsHere(t *testing.T) {
	p := newPlan(100*mib, store.Range{From: 4 * mib, To: 8 * mib}, store.Range{From: 90 * mib, To: 100 * mib})
	ends, front, back := p.take(2*mib, 4*mib), p.take(8*mib, 10*mib), p.take(50*mib, 51*mib)
	p.arrive(ends, 2*mib)
	p.extend()
	if ends.to != 4*mib || front.to != 50*mib || back.to != 90*mib {
		t.Errorf("%+v, %+v, %+v", ends, front, back)
	}
}

// Whatever happens, no byte is claimed twice or when it is here, and in the end
// all are here.
func TestPlanIsAPartition(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := newPlan(rapid.Int64Range(1, 80*mib).Draw(t, "size"))
		offset := rapid.Int64Range(0, p.size-1)
		for range rapid.IntRange(0, 3).Draw(t, "left") {
			from := offset.Draw(t, "from")
			p.have.Add(from, min(p.size, from+rapid.Int64Range(1, 8*mib).Draw(t, "length")))
		}
		var claims []*claim
		pick := func() int { return rapid.IntRange(0, len(claims)-1).Draw(t, "claim") }
		next := func() {
			off, waits := p.urgent(time.Time{})
			c, ok := p.next(time.Time{}, rapid.Int64Range(0, 64*mib).Draw(t, "part"), len(claims) == 0)
			if ok {
				claims = append(claims, c)
			}
			if waits && (!ok || c.at != off) {
				t.Fatalf("a reader waits at %d and the part is %+v", off, c)
			}
		}
		drop := func(i int) {
			p.drop(claims[i])
			claims = append(claims[:i], claims[i+1:]...)
		}
		for range rapid.IntRange(0, 60).Draw(t, "steps") {
			switch op := rapid.IntRange(0, 9).Draw(t, "op"); {
			case op < 3 || len(claims) == 0:
				next()
			case op < 6:
				p.arrive(claims[pick()], rapid.Int64Range(1, 4*mib).Draw(t, "bytes"))
			case op == 6: // being written
				c := claims[pick()]
				if c.at == c.done {
					c.at += min(chunk, c.to-c.at)
				}
			case op == 7:
				drop(pick())
			case op == 8:
				p.wait(offset.Draw(t, "wait"))
			default:
				p.extend()
			}
			mustBePartition(t, p)
		}
		for len(claims) > 0 { // all lines break, and one finishes the work
			drop(0)
		}
		for steps := 0; !p.have.Covers(0, p.size); steps++ {
			next()
			if len(claims) == 0 || steps > 1000 {
				t.Fatalf("stuck with %d bytes of %d", p.have.Total(), p.size)
			}
			p.arrive(claims[0], p.size)
			mustBePartition(t, p)
			drop(0)
		}
		if p.have.Total() != p.size {
			t.Errorf("%d bytes of %d", p.have.Total(), p.size)
		}
	})
}

func mustBePartition(t *rapid.T, p *plan) {
	var claimed store.Ranges
	var sum int64
	for c := range p.claims {
		if c.done > c.at || c.at > c.to || c.to > p.size {
			t.Fatalf("claim %+v of %d bytes", c, p.size)
		}
		if gap, ok := p.have.NextGap(c.done, p.size); c.done < c.to && (!ok || gap.From != c.done || gap.To < c.to) {
			t.Fatalf("claim %+v covers what is here", c)
		}
		claimed.Add(c.done, c.to)
		sum += c.to - c.done
	}
	if claimed.Total() != sum {
		t.Fatalf("claims overlap: %d bytes, %d claimed", claimed.Total(), sum)
	}
}
