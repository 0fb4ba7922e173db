package progress

import "time"

const (
	slot  = 500 * time.Millisecond // of a meter
	slots = 10                     // over which a rate is taken
)

// A meter tells how many bytes a second move, over the last five seconds. The zero
// meter has not begun.
type meter struct {
	began time.Time
	ring  [slots]int64 // bytes
	last  int64        // the number of the newest slot
	sum   int64        // bytes since it began
}

// advance forgets what is too old.
func (m *meter) advance(now time.Time) {
	if m.began.IsZero() {
		m.began = now
	}
	at := int64(now.Sub(m.began) / slot)
	for n := max(m.last+1, at-slots+1); n <= at; n++ {
		m.ring[n%slots] = 0
	}
	m.last = max(m.last, at)
}

// add counts bytes that have moved.
func (m *meter) add(now time.Time, n int64) {
	m.advance(now)
	m.ring[m.last%slots] += n
	m.sum += n
}

// take takes bytes back that have not moved after all; only the newest are there to be
// taken.
func (m *meter) take(n int64) {
	for k := m.last; k >= 0 && k > m.last-slots && n > 0; k-- {
		part := min(n, m.ring[k%slots])
		m.ring[k%slots] -= part
		m.sum -= part
		n -= part
	}
}

// least is the shortest time over which a rate is taken: sooner, it would be chance.
const least = 100 * time.Millisecond

// rate is that of the last seconds, in bytes a second.
func (m *meter) rate(now time.Time) int64 {
	m.advance(now)
	var n int64
	for _, k := range m.ring {
		n += k
	}
	over := min(now.Sub(m.began), (slots-1)*slot+now.Sub(m.began)%slot)
	return perSecond(n, over)
}

// average is that of all the time, in bytes a second.
func (m *meter) average(now time.Time) int64 {
	if m.began.IsZero() {
		return 0
	}
	return perSecond(m.sum, now.Sub(m.began))
}

func perSecond(n int64, over time.Duration) int64 {
	return int64(float64(n) / max(over, least).Seconds())
}
