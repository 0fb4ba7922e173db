// Package history remembers how much a mirror was used: counters are looked at once a
// minute, and what they grew by is added to five minutes, kept for two days, and to an
// hour, kept for five weeks.
//
// It promises a bounded size: each document has a slot of a ring, which what is newer
// takes over. What a process counted outlives it, but for the last minute when it is
// killed. No request writes anything. A clock that jumps back makes nothing negative
// and counts nothing twice; what happens then is added to the time that the clock tells.
//
// It counts nothing itself and knows nothing of what the counters count.
//
// Lock order: History.taking before History.mu, under which nothing is read or written.
package history

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"
)

// Traffic is what clients asked for and got.
type Traffic struct {
	Requests int64 `json:"requests"`
	Hits     int64 `json:"hits"`   // answered with what was here
	Misses   int64 `json:"misses"` // something had to be asked for
	// Served are the bytes of bodies sent to clients, Cached those of them that were here,
	// and Fetched the bytes that came from upstreams.
	Served  int64 `json:"served"`
	Cached  int64 `json:"cached"`
	Fetched int64 `json:"fetched"`
}

// Counters are what is looked at: all grow while the process runs, but Disk.
type Counters struct {
	Traffic
	Errors  int64 `json:"errors"`
	Denials int64 `json:"denials"`
	Disk    int64 `json:"disk"` // bytes used; 0 when that is not known
	// Registries are the same traffic by registry; nil for none.
	Registries map[string]Traffic `json:"registries,omitempty"`
}

// A Point is what happened in one step of time. Its Disk is what was used at the end.
type Point struct {
	Time time.Time `json:"time"` // when the step begins
	Counters
}

// Notes keep what is to outlive the process.
type Notes interface {
	// Note returns what was kept under a name; nil when there is nothing.
	Note(ctx context.Context, name string) ([]byte, error)
	// PutNote replaces it with a JSON document.
	PutNote(ctx context.Context, name string, note []byte) error
}

const (
	// Every is how often the counters are looked at.
	Every = time.Minute
	// Step is the shortest that is remembered, and FineFor how long it is; older than
	// that there are hours, for CoarseFor.
	Step      = 5 * time.Minute
	FineFor   = 48 * time.Hour
	CoarseFor = 35 * 24 * time.Hour
	// MaxPoints bounds what one question is answered with.
	MaxPoints = 2000
	// maxRegistries bounds those that one step names; what is beyond is in the sum only.
	maxRegistries = 32
)

// ErrSpan: the time asked for ends before it begins, or has more steps than [MaxPoints].
var ErrSpan = errors.New("the span of time is empty, or has too many steps")

// Options of a [History]. Notes, Count and Log are needed.
type Options struct {
	Notes Notes
	// Count looks at the counters, which have been growing since the process began.
	Count func() (Counters, error)
	Log   *slog.Logger
	// Now is the clock on the wall; nil is time.Now.
	Now func() time.Time
}

// A History is made by [Open] and takes its looks while Run does. Its methods may be
// called concurrently.
type History struct {
	o      Options
	taking sync.Mutex // held over a look
	last   Counters   // of the look before; under taking

	mu           sync.Mutex
	fine, coarse *ring
}

// Open reads what was kept. What cannot be read any more is absent; only a store that
// fails is an error.
func Open(ctx context.Context, o Options) (*History, error) {
	if o.Notes == nil || o.Count == nil || o.Log == nil {
		return nil, errors.New("history: Notes, Count and Log are needed")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	h := &History{
		o:      o,
		fine:   newRing("history/fine/", Step, time.Hour, FineFor),
		coarse: newRing("history/coarse/", time.Hour, 24*time.Hour, CoarseFor),
	}
	for _, r := range []*ring{h.fine, h.coarse} {
		if err := r.read(ctx, o.Notes, o.Log); err != nil {
			return nil, err
		}
	}
	return h, nil
}

// Run looks at the counters until ctx is done.
func (h *History) Run(ctx context.Context) {
	tick := time.NewTicker(Every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			h.Take(ctx)
		case <-ctx.Done():
			return
		}
	}
}

// sane is the earliest time that a clock tells which was ever set.
func sane() time.Time { return time.Date(2024, time.January, 1, 0, 0, 0, 0, time.UTC) }

// Take looks at the counters once. What fails is logged and made good by the next look.
func (h *History) Take(ctx context.Context) {
	h.taking.Lock()
	defer h.taking.Unlock()
	now := h.o.Now().UTC()
	if now.Before(sane()) {
		return // what is counted now is added when the clock is set
	}
	all, err := h.o.Count()
	if err != nil {
		h.o.Log.WarnContext(ctx, "history not taken", "err", err)
		return
	}
	grown := all.since(h.last)
	h.last = all
	for _, r := range []*ring{h.fine, h.coarse} {
		h.mu.Lock()
		name, note, err := r.add(now, grown)
		h.mu.Unlock()
		if err == nil && note != nil {
			err = h.o.Notes.PutNote(ctx, name, note)
		}
		if err != nil {
			h.mu.Lock()
			r.unsaved()
			h.mu.Unlock()
			h.o.Log.WarnContext(ctx, "history not kept", "err", err)
		}
	}
}

// Points are what happened from one time to before another, a step each, the oldest
// first. They begin with the first step of which anything is known; one in which nothing
// was counted has zeros. Steps begin at whole multiples; one that is shorter than what is
// remembered of that time is made longer, to [Step] or to an hour. Fails with [ErrSpan].
func (h *History) Points(ctx context.Context, from, to time.Time, step time.Duration) ([]Point, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	r := h.fine
	if step >= time.Hour || from.Before(h.o.Now().Add(-FineFor)) {
		r = h.coarse
	}
	step = max(step, r.step)
	step = (step + r.step - 1) / r.step * r.step
	from = from.UTC().Truncate(step)
	if to.Before(from) || to.Sub(from)/step >= MaxPoints {
		return nil, ErrSpan
	}
	h.mu.Lock()
	known := r.between(from, to)
	h.mu.Unlock()
	list := []Point{}
	for _, p := range known {
		at := p.Time.Truncate(step)
		if n := len(list); n > 0 { // steps between in which nothing was looked at
			for t := list[n-1].Time.Add(step); t.Before(at); t = t.Add(step) {
				list = append(list, Point{Time: t})
			}
		}
		if n := len(list); n == 0 || list[n-1].Time.Before(at) {
			list = append(list, Point{Time: at})
		}
		list[len(list)-1].add(p.Counters)
	}
	return list, nil
}
