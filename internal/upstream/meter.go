package upstream

import (
	"math"
	"sync"
	"time"
)

const (
	// measureEvery is how much time of waiting for bytes a line adds up before it
	// tells the meter.
	measureEvery = 500 * time.Millisecond
	// leastMeasured is the least that it tells, in bytes, but for a line that has
	// waited for longestUnmeasured.
	leastMeasured     = 256 << 10
	longestUnmeasured = 2 * time.Second
	// halfLife is the time in which what a meter was told loses half its weight.
	halfLife = 30 * time.Second
	// guess is the weight of what is assumed of an endpoint, in seconds of one line.
	guess = 0.5
	// slowAfter is how much time of waiting for bytes it takes to call a line slow,
	// and muchFaster how many times as fast another endpoint must be.
	slowAfter  = 3 * time.Second
	muchFaster = 5
)

// A meter learns what one line to an endpoint brings, over all blobs. The zero
// value knows nothing.
type meter struct {
	mu          sync.Mutex
	bytes, secs float64 // with what is old counted for less
	at          time.Time
}

// tell says that a line has brought n bytes while somebody waited for them for so
// long.
func (m *meter) tell(n int64, waited time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.age()
	m.bytes += float64(n)
	m.secs += waited.Seconds()
}

// rate returns bytes per second and how many seconds of one line they are known
// from, old ones counted for less.
func (m *meter) rate() (bytesPerSecond, known float64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.age()
	if m.secs <= 0 {
		return 0, 0
	}
	return m.bytes / m.secs, m.secs
}

// age forgets a part of it. The caller holds mu.
func (m *meter) age() {
	now := time.Now()
	keep := math.Exp2(-now.Sub(m.at).Seconds() / halfLife.Seconds())
	m.bytes *= keep
	m.secs *= keep
	m.at = now
}
