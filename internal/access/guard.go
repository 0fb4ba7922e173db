package access

import (
	"math"
	"net/netip"
	"sync"
	"time"
)

// A Guard slows down those who guess passwords: of each network (an address, or a
// /64 of IPv6) [guesses] wrong ones are taken at once, and then one each
// [guessEvery]. Its methods may be called concurrently.
type Guard struct {
	mu    sync.Mutex
	debt  map[netip.Prefix]debt
	swept time.Time // when those without debts were last forgotten
}

// A debt is how many wrong ones count against a network at that time.
type debt struct {
	n  float64
	at time.Time
}

const (
	guesses    = 10
	guessEvery = 10 * time.Second
	// maxDebts bounds the networks that are remembered. Beyond it, strangers are all
	// taken for one.
	maxDebts = 1 << 16
)

// NewGuard makes a Guard that has seen nothing.
func NewGuard() *Guard { return &Guard{debt: make(map[netip.Prefix]debt)} }

// Try counts an attempt against a network until right is called, so that many at
// the same time are counted like one after the other. When there were too many, it
// tells after what time another is taken.
func (g *Guard) Try(from netip.Addr) (right func(), wait time.Duration) {
	key := Network(from)
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	key = g.room(key, now)
	d := g.now(key, now)
	if d.n > guesses-1 {
		return nil, time.Duration(math.Ceil((d.n-guesses+1)*float64(guessEvery/time.Second))) * time.Second
	}
	d.n++
	g.debt[key] = d
	return func() { g.forgive(key) }, 0
}

// room returns under what a network is counted.
func (g *Guard) room(key netip.Prefix, now time.Time) netip.Prefix {
	if _, known := g.debt[key]; known || len(g.debt) < maxDebts {
		return key
	}
	if now.Sub(g.swept) >= guessEvery { // it takes its time
		g.swept = now
		for k := range g.debt {
			if g.now(k, now).n == 0 {
				delete(g.debt, k)
			}
		}
		if len(g.debt) < maxDebts {
			return key
		}
	}
	return netip.Prefix{}
}

func (g *Guard) now(key netip.Prefix, now time.Time) debt {
	d := g.debt[key]
	paid := float64(now.Sub(d.at)) / float64(guessEvery)
	return debt{max(0, d.n-max(0, paid)), now}
}

func (g *Guard) forgive(key netip.Prefix) {
	g.mu.Lock()
	defer g.mu.Unlock()
	d := g.now(key, time.Now())
	if d.n--; d.n <= 0 {
		delete(g.debt, key)
		return
	}
	g.debt[key] = d
}
