package schedule

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Run runs what is due until ctx is done, ends what runs then, and waits for it.
func (s *Scheduler) Run(ctx context.Context) {
	s.mu.Lock()
	s.ctx, s.seen = ctx, s.now()
	s.mu.Unlock()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-s.kick:
		case <-ctx.Done():
			s.mu.Lock()
			s.stopped = true // nothing begins any more
			s.mu.Unlock()
			s.working.Wait()
			return
		}
		timer.Reset(s.due())
	}
}

// due begins what is due, and returns how long nothing will be.
func (s *Scheduler) due() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	back := now.Before(s.seen.Add(-look))
	s.seen = now
	wait := look
	for _, e := range s.tasks {
		if back { // the clock was put right: what was next may be years away
			e.next = e.Times.Next(now)
		}
		if !e.next.IsZero() && !e.next.After(now) {
			at := e.next
			e.next = e.Times.Next(now)
			s.begin(e, at, now)
		}
		if !e.next.IsZero() {
			wait = min(wait, e.next.Sub(now))
		}
	}
	return wait
}

// begin begins a run that is due, or says why not. The caller holds mu.
func (s *Scheduler) begin(e *entry, at, now time.Time) {
	switch {
	case now.Sub(at) > Grace:
		s.o.Log.Warn("task left out, its time has passed", "task", e.Name, "due", at, "next", e.next)
	case s.running[e.Name]:
		s.o.Log.Warn("task left out, it is running still", "task", e.Name, "due", at, "next", e.next)
	default:
		s.start(e, now)
		return
	}
	s.metrics.left(e.Name)
}

// RunNow begins a run at once, or as soon as Run does; [ErrNotFound], [ErrRunning],
// [ErrStopping].
func (s *Scheduler) RunNow(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.find(name)
	switch {
	case e == nil:
		return fmt.Errorf("%w: %s", ErrNotFound, name)
	case s.running[name]:
		return fmt.Errorf("%w: %s", ErrRunning, name)
	case s.stopped || s.ctx != nil && s.ctx.Err() != nil:
		return ErrStopping
	case s.ctx == nil:
		e.next = s.now() // due when Run begins
	default:
		s.start(e, s.now())
	}
	return nil
}

// start begins a run. The caller holds mu.
func (s *Scheduler) start(e *entry, now time.Time) {
	ctx, task := s.ctx, e.Task
	n := note{Result: Result{Started: now}}
	if e.last != nil {
		n.Success = e.last.Success
	}
	begun := n
	e.last = &begun
	s.running[task.Name] = true
	s.working.Go(func() { s.run(ctx, task, n) })
}

// run is one run, from note to note.
func (s *Scheduler) run(ctx context.Context, task Task, n note) {
	s.keep(ctx, task.Name, n)
	s.o.Log.Info("task begins", "task", task.Name, "do", task.Do)
	outcome, err := task.Run(ctx)
	n.Ended, n.Outcome = s.now(), outcome
	result := "ok"
	switch {
	case err == nil:
		n.Success = n.Ended
	case ctx.Err() != nil:
		result, n.Error = "canceled", ErrStopping.Error()
	default:
		result, n.Error = "error", err.Error()
	}
	if err != nil && result == "error" {
		s.o.Log.Error("task failed", "task", task.Name, "do", task.Do, "dur", n.Ended.Sub(n.Started), "outcome", outcome, "err", err)
	} else {
		s.o.Log.Info("task ended", "task", task.Name, "do", task.Do, "dur", n.Ended.Sub(n.Started), "outcome", outcome, "result", result)
	}
	s.keep(ctx, task.Name, n)
	if s.o.Ended != nil {
		s.o.Ended(task, n.Result)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.running, task.Name)
	if e := s.find(task.Name); e != nil { // it may have left the configuration
		e.last = &n
		s.metrics.ended(task.Name, result, n)
	}
}

// keep keeps a note also when ctx is done.
func (s *Scheduler) keep(ctx context.Context, name string, n note) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), noteTime)
	defer cancel()
	b, err := json.Marshal(n)
	if err = errors.Join(err, s.o.Notes.PutNote(ctx, name, b)); err != nil {
		s.o.Log.Warn("result of a task not kept", "task", name, "err", err)
	}
}
