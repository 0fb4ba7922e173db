package fill

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"sampan/internal/oci"
)

// A Progress is what a running fetch has come to.
type Progress struct {
	Digest oci.Digest
	// Repositories have asked for the blob since the fetch began, by name.
	Repositories []string
	// Size is that of the blob in bytes; -1 while it is not known.
	Size int64
	// Bytes are here, those of earlier fetches included.
	Bytes int64
	// Rate is how many bytes per second came from upstream lately.
	Rate float64
	// Readers are open now; none of a blob that is prefetched, or whose readers
	// have left.
	Readers int
	// Lines are the upstream connections that are open now.
	Lines int
	// Since is when the fetch began.
	Since time.Time
}

// Running tells about the fetches that are running now, the oldest first.
func (g *Group) Running() []Progress {
	g.mu.Lock()
	flights := slices.Collect(maps.Values(g.flights))
	g.mu.Unlock()
	list := make([]Progress, len(flights))
	for i, f := range flights {
		list[i] = f.progress()
	}
	slices.SortFunc(list, func(a, b Progress) int {
		return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.Digest.String(), b.Digest.String()))
	})
	return list
}

func (f *flight) progress() Progress {
	f.mu.Lock()
	defer f.mu.Unlock()
	return Progress{
		Digest:       f.digest,
		Repositories: slices.Sorted(maps.Keys(f.repositories)),
		Size:         f.plan.size,
		Bytes:        f.plan.have.Total(),
		Rate:         f.meter.tell(time.Now(), f.received),
		Readers:      f.readers,
		Lines:        f.lines,
		Since:        f.began,
	}
}

// A meter measures a rate over about a second. It begins with the time that the
// counting began.
type meter struct {
	at    time.Time
	bytes int64
	rate  float64
}

// tell takes all bytes counted so far and returns the rate in bytes per second.
func (m *meter) tell(now time.Time, bytes int64) float64 {
	elapsed := now.Sub(m.at)
	if elapsed <= 0 || elapsed < time.Second && m.rate > 0 {
		return m.rate
	}
	rate := float64(bytes-m.bytes) / elapsed.Seconds()
	if elapsed >= time.Second {
		m.at, m.bytes, m.rate = now, bytes, rate
	}
	return rate
}
