// Package schedule runs tasks at set times.
//
// It promises that a task never runs twice at once, that a time counts once, and that
// the last run of each is told of after a restart as well. What was due while the
// process was not there, or the machine asleep, is left out and not caught up with,
// unless it is less than [Grace] late: a purge at night is not made up for at noon. So
// is what is due while the task still runs from the time before.
//
// A new set of tasks takes effect at once. What runs goes on as it began, also when its
// task is no longer there. The end of the scheduler ends what runs, and waits for it.
//
// It knows timetables, the clock, and functions; what they do is not its affair.
//
// Lock order: Scheduler.mu is a leaf.
package schedule

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	// Grace is how late a run may begin.
	Grace = 10 * time.Minute
	// look is how often the clock is looked at: what it leaps over, no timer tells.
	look = 30 * time.Second
	// noteTime bounds how long the end of the scheduler waits for a note to be kept.
	noteTime = 10 * time.Second
)

// Errors of a [Scheduler].
var (
	ErrNotFound = errors.New("there is no such task")
	ErrRunning  = errors.New("the task is running")
	ErrStopping = errors.New("the mirror is stopping")
)

// Times tells when a task is next: the first time behind after, or zero for never.
type Times interface {
	Next(after time.Time) time.Time
}

// A Task is something to do at set times.
type Task struct {
	// Name is its own among all tasks. Do and Cron are what is told of it.
	Name, Do, Cron string
	// Key is the same as long as its times are.
	Key   string
	Times Times
	// Run does it, and tells in a few words what came of it, also where it failed. It
	// ends when its context is done.
	Run func(ctx context.Context) (outcome string, err error)
}

// A Result is one run of a task.
type Result struct {
	Started time.Time `json:"started"`
	Ended   time.Time `json:"ended,omitzero"` // zero while it runs
	Outcome string    `json:"outcome,omitempty"`
	Error   string    `json:"error,omitempty"`
}

// A Status is a task with its times.
type Status struct {
	Task
	Next time.Time // zero for never
	Last *Result   // nil before the first run
}

// Notes keep what is to outlive the process.
type Notes interface {
	// Note returns what was kept under a name; nil when there is nothing.
	Note(ctx context.Context, name string) ([]byte, error)
	// PutNote replaces it.
	PutNote(ctx context.Context, name string, note []byte) error
}

// Options of a [Scheduler]. Notes and Log are needed.
type Options struct {
	Notes Notes
	Log   *slog.Logger
	// Ended is told of each run that has ended; nil for nobody.
	Ended func(Task, Result)
	// Registerer receives the metrics; nil for none.
	Registerer prometheus.Registerer
	// Now is the clock on the wall; nil is time.Now.
	Now func() time.Time
}

// A Scheduler is made by [New] and works while Run does.
type Scheduler struct {
	o       Options
	metrics *metrics
	kick    chan struct{} // the tasks have changed

	mu      sync.Mutex
	ctx     context.Context // of what runs; nil before Run
	stopped bool            // Run has ended
	tasks   []*entry
	running map[string]bool // by name
	seen    time.Time       // when the clock was looked at last
	working sync.WaitGroup
}

// An entry is a task with what is known of it.
type entry struct {
	Task
	next time.Time
	last *note
}

// A note is what is kept of a task.
type note struct {
	Result
	Success time.Time `json:"success,omitzero"` // end of the last run without error
}

// New makes a Scheduler without tasks.
func New(o Options) (*Scheduler, error) {
	if o.Notes == nil || o.Log == nil {
		return nil, errors.New("schedule: Notes and Log are needed")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	m, err := newMetrics(o.Registerer)
	return &Scheduler{o: o, metrics: m, kick: make(chan struct{}, 1), running: make(map[string]bool)}, err
}

// Set replaces the tasks. One that keeps name and times keeps what is next.
func (s *Scheduler) Set(ctx context.Context, tasks []Task) error {
	list := make([]*entry, len(tasks))
	for i, t := range tasks {
		last, err := s.recall(ctx, t.Name)
		if err != nil {
			return err
		}
		list[i] = &entry{Task: t, last: last}
	}
	s.mu.Lock()
	now := s.now()
	for _, e := range list {
		e.next = e.Times.Next(now)
		if old := s.find(e.Name); old != nil {
			e.last = old.last
			if old.Key == e.Key {
				e.next = old.next
			}
		}
		if e.last != nil && e.last.Ended.IsZero() && !s.running[e.Name] { // the process ended before it
			e.last.Ended, e.last.Error = e.last.Started, "the mirror ended before it did"
		}
	}
	s.tasks = list
	s.metrics.know(list)
	s.mu.Unlock()
	select {
	case s.kick <- struct{}{}:
	default:
	}
	return nil
}

// recall reads the note of a task; nil when there is none that can be read.
func (s *Scheduler) recall(ctx context.Context, name string) (*note, error) {
	b, err := s.o.Notes.Note(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("schedule %s: %w", name, err)
	}
	n := &note{}
	if b == nil || json.Unmarshal(b, n) != nil {
		n = nil // nothing is known of it
	}
	return n, nil
}

// now is the clock on the wall, and nothing else: what a monotonic clock counts is not
// what a timetable is about.
func (s *Scheduler) now() time.Time { return s.o.Now().Round(0) }

// find is the task of a name; nil when there is none. The caller holds mu.
func (s *Scheduler) find(name string) *entry {
	i := slices.IndexFunc(s.tasks, func(e *entry) bool { return e.Name == name })
	if i < 0 {
		return nil
	}
	return s.tasks[i]
}

// Tasks are all with their times, in the order they were set in.
func (s *Scheduler) Tasks() []Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]Status, len(s.tasks))
	for i, e := range s.tasks {
		list[i] = Status{Task: e.Task, Next: e.next}
		if e.last != nil {
			last := e.last.Result
			list[i].Last = &last
		}
	}
	return list
}
