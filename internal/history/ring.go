package history

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"time"
)

// A ring is the steps of some time, in documents of a fixed length. The slot of a
// document follows from its time, so that there are never more than the ring has.
type ring struct {
	prefix   string        // of the names of notes
	step     time.Duration // of a point
	length   time.Duration // of a document
	keep     time.Duration // how long a point is told
	slots    []document
	pending  bool      // the last document was not kept
	previous time.Time // the step of the last look
}

// A document is what one note holds.
type document struct {
	Start  time.Time `json:"start"`
	Points []Point   `json:"points"` // by time
}

func newRing(prefix string, step, length, keep time.Duration) *ring {
	// One more for the document that is not full yet, and one for the oldest, part of
	// which is told still.
	return &ring{prefix: prefix, step: step, length: length, keep: keep, slots: make([]document, keep/length+2)}
}

// slot is where the document of a time is.
func (r *ring) slot(start time.Time) int {
	return int(start.Unix() / int64(r.length/time.Second) % int64(len(r.slots)))
}

func (r *ring) name(slot int) string { return r.prefix + strconv.Itoa(slot) }

// read fills the ring with what was kept.
func (r *ring) read(ctx context.Context, notes Notes, log *slog.Logger) error {
	for i := range r.slots {
		b, err := notes.Note(ctx, r.name(i))
		if err != nil {
			return fmt.Errorf("history: %w", err)
		}
		if b == nil {
			continue
		}
		var d document
		if err := json.Unmarshal(b, &d); err != nil || !r.sound(i, d) {
			log.WarnContext(ctx, "a part of the history cannot be read and is left out", "name", r.name(i), "err", err)
			continue
		}
		r.slots[i] = d
	}
	return nil
}

// sound tells whether a document can be one of ours.
func (r *ring) sound(slot int, d document) bool {
	if d.Start.Before(sane()) || !d.Start.Equal(d.Start.Truncate(r.length)) || r.slot(d.Start) != slot {
		return false
	}
	before := d.Start.Add(-r.step)
	for _, p := range d.Points {
		if !p.Time.After(before) || !p.Time.Equal(p.Time.Truncate(r.step)) || !p.Time.Before(d.Start.Add(r.length)) || !p.sound() {
			return false
		}
		before = p.Time
	}
	return true
}

// add adds what happened to the step of a time, and returns what is to be kept of it:
// nothing while nothing happens within a step that is kept already.
func (r *ring) add(now time.Time, grown Counters) (name string, note []byte, err error) {
	start, at := now.Truncate(r.length), now.Truncate(r.step)
	i := r.slot(start)
	if !r.slots[i].Start.Equal(start) {
		r.slots[i] = document{Start: start}
	}
	d := &r.slots[i]
	n, found := slices.BinarySearchFunc(d.Points, at, func(p Point, t time.Time) int { return p.Time.Compare(t) })
	if !found {
		d.Points = slices.Insert(d.Points, n, Point{Time: at})
	}
	disk := d.Points[n].Disk
	d.Points[n].add(grown)
	if found && !r.pending && grown.idle() && disk == d.Points[n].Disk && r.previous.Equal(at) {
		return "", nil, nil
	}
	r.pending, r.previous = false, at
	note, err = json.Marshal(d)
	return r.name(i), note, err
}

// unsaved has the next look kept whatever happens. When that is one of the next
// document, what failed of this one is lost with the process, and told until then.
func (r *ring) unsaved() { r.pending = true }

// between are copies of the points from one time to before another, by time.
func (r *ring) between(from, to time.Time) (list []Point) {
	for _, d := range r.slots {
		for _, p := range d.Points {
			if !p.Time.Before(from) && p.Time.Before(to) {
				p.Registries = maps.Clone(p.Registries)
				list = append(list, p)
			}
		}
	}
	slices.SortFunc(list, func(a, b Point) int { return a.Time.Compare(b.Time) })
	return list
}
