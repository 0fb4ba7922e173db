// Package history remembers what the mirror did over the last 30 days, in steps of five
// minutes, so that somebody can look at it without another service.
//
// It samples counters that grow, a few at a time, and keeps their differences: a request
// costs nothing. What is kept is bounded: a document for each of the last 32 days, each
// of less than 40 KiB, the oldest overwritten. A process that is killed loses five
// minutes at the most. A clock that jumps puts what happens where the clock says, and
// loses nothing that was kept.
//
// Lock order: History.mu is held while notes are read and written, and before their locks.
package history

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

const (
	// Step is the shortest stretch of time that is told apart.
	Step = 5 * time.Minute
	// keepDays is for how many days there is room: 30, those that have begun, and one.
	keepDays = 32
	// sampleEvery is how often the counters are looked at.
	sampleEvery = time.Minute
	// maxPoints bounds one answer.
	maxPoints = 3000
	perDay    = int(24 * time.Hour / Step)
)

// Counts are what is counted: since the start of the process in a sample, within one
// step in a point. Disk alone is as it is at the time.
type Counts struct {
	// Requests are those of clients, Errors those that ended with 5xx, and Denials those
	// with 403 or 429.
	Requests int64 `json:"requests"`
	Errors   int64 `json:"errors"`
	Denials  int64 `json:"denials"`
	// Served are the bytes that clients got, Cached those of them that were here, and
	// Fetched the bytes that came from upstreams.
	Served  int64 `json:"served_bytes"`
	Cached  int64 `json:"cached_bytes"`
	Fetched int64 `json:"fetched_bytes"`
	// Disk is how many bytes are used; 0 when that is not known.
	Disk int64 `json:"disk_bytes"`
}

// list is Counts as it is kept.
func (c Counts) list() [7]int64 {
	return [7]int64{c.Requests, c.Errors, c.Denials, c.Served, c.Cached, c.Fetched, c.Disk}
}

func counts(l [7]int64) Counts { return Counts{l[0], l[1], l[2], l[3], l[4], l[5], l[6]} }

// since is what came between two samples; where a counter is less than it was, it has
// begun anew.
func (c Counts) since(before Counts) Counts {
	now, then := c.list(), before.list()
	for i := range now[:6] {
		if now[i] >= then[i] {
			now[i] -= then[i]
		}
	}
	return counts(now)
}

// And is both together, with the later Disk that is known.
func (c Counts) And(later Counts) Counts {
	sum, more := c.list(), later.list()
	for i := range sum[:6] {
		sum[i] += more[i]
	}
	if more[6] > 0 {
		sum[6] = more[6]
	}
	return counts(sum)
}

// A Point is what happened in one step.
type Point struct {
	Time time.Time `json:"time"` // when it begins
	Counts
}

// Notes keep what is to outlive the process.
type Notes interface {
	// Note returns what was kept under a name; nil when there is nothing.
	Note(ctx context.Context, name string) ([]byte, error)
	// PutNote replaces it.
	PutNote(ctx context.Context, name string, note []byte) error
}

// Options of a [History]. Notes, Sample and Log are needed.
type Options struct {
	Notes Notes
	// Sample returns what was counted since the process began.
	Sample func() (Counts, error)
	Log    *slog.Logger
	// Now is the clock on the wall; nil is time.Now.
	Now func() time.Time
}

// A History is made by [New] and grows while Run does. Its methods may be called
// concurrently.
type History struct {
	o Options

	mu    sync.Mutex
	last  Counts // of the last sample
	day   *day   // of the last sample; nil before
	dirty bool   // day differs from its note
	slot  int    // of the last sample
}

// A day is one as it is kept. Steps in which nothing happened are zero.
type day struct {
	Day   int64            `json:"day"` // since 1970, in UTC
	Steps map[int][7]int64 `json:"steps"`
}

// New makes a History.
func New(o Options) (*History, error) {
	if o.Notes == nil || o.Sample == nil || o.Log == nil {
		return nil, errors.New("history: Notes, Sample and Log are needed")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &History{o: o}, nil
}

// Run samples until ctx is done, and keeps what there is then.
func (h *History) Run(ctx context.Context) {
	tick := time.NewTicker(sampleEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			h.sample(ctx, false)
		case <-ctx.Done():
			h.sample(context.WithoutCancel(ctx), true)
			return
		}
	}
}

// sample adds what came since the last time. It is written when a step is over.
func (h *History) sample(ctx context.Context, write bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.look(ctx, write); err != nil {
		h.o.Log.WarnContext(ctx, "history not kept", "err", err)
	}
}

// look is sample. The caller holds mu.
func (h *History) look(ctx context.Context, write bool) error {
	now, err := h.o.Sample()
	if err != nil {
		return err
	}
	at := h.o.Now().UTC()
	number, slot := at.Unix()/(24*60*60), int(at.Sub(at.Truncate(24*time.Hour))/Step)
	var errs []error
	if h.day == nil || h.day.Day != number {
		errs = append(errs, h.write(ctx))
		if h.day, err = h.read(ctx, number); err != nil {
			h.day = nil
			return errors.Join(append(errs, err)...)
		}
		h.slot = slot
	}
	h.day.Steps[slot] = counts(h.day.Steps[slot]).And(now.since(h.last)).list()
	h.last, h.dirty = now, true
	if write || slot != h.slot {
		errs = append(errs, h.write(ctx))
	}
	h.slot = slot
	return errors.Join(errs...)
}

func name(number int64) string { return fmt.Sprintf("history.%02d", number%keepDays) }

// write keeps the day. The caller holds mu.
func (h *History) write(ctx context.Context) error {
	if h.day == nil || !h.dirty {
		return nil
	}
	text, err := json.Marshal(h.day)
	if err == nil {
		err = h.o.Notes.PutNote(ctx, name(h.day.Day), text)
	}
	if err == nil {
		h.dirty = false
	}
	return err
}

// read is a day as it was kept; an empty one where there is none.
func (h *History) read(ctx context.Context, number int64) (*day, error) {
	empty := &day{Day: number, Steps: map[int][7]int64{}}
	text, err := h.o.Notes.Note(ctx, name(number))
	if err != nil || text == nil {
		return empty, err
	}
	var d day
	if err := json.Unmarshal(text, &d); err != nil || d.Day != number || d.Steps == nil {
		return empty, nil //nolint:nilerr // of a month ago, or damaged: it is begun anew
	}
	return &d, nil
}

// ErrRange is that too much was asked for at once, or nothing.
var ErrRange = errors.New("history: from has to be before to, and step such that there are at most 3000 points")

// Points lists what happened from one time to another, one for each step, those without
// anything as well. Step is rounded up to whole [Step]s, and from down to a whole step.
// Fails with [ErrRange].
func (h *History) Points(ctx context.Context, from, to time.Time, step time.Duration) ([]Point, error) {
	step = max(Step, (step+Step-1)/Step*Step)
	from, to = from.UTC().Truncate(step), to.UTC()
	if !from.Before(to) || to.Sub(from)/step >= maxPoints {
		return nil, ErrRange
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.look(ctx, false); err != nil {
		return nil, err
	}
	list := make([]Point, 0, int(to.Sub(from)/step)+1)
	for at := from; at.Before(to); at = at.Add(step) {
		list = append(list, Point{Time: at})
	}
	for number := from.Unix() / (24 * 60 * 60); number <= to.Unix()/(24*60*60); number++ {
		d := h.day
		if d.Day != number {
			var err error
			if d, err = h.read(ctx, number); err != nil {
				return nil, err
			}
		}
		midnight := time.Unix(number*24*60*60, 0)
		for slot := range perDay { // in order, for Disk
			kept, ok := d.Steps[slot]
			at := midnight.Add(time.Duration(slot) * Step)
			if !ok || at.Before(from) || !at.Before(to) {
				continue
			}
			p := &list[at.Sub(from)/step]
			p.Counts = p.And(counts(kept))
		}
	}
	return list, nil
}
