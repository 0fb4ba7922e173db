package runtimes

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"time"
)

// ErrNoClient is the error of a proof whose commands are all missing on the machine.
var ErrNoClient = errors.New("no command to pull with is there")

// Fetch has the runtime pull an image by its own client. The error is its refusal, or
// [ErrNoClient].
func (p *Proof) Fetch(ctx context.Context, m *Machine, image string) error {
	if p.Do != nil {
		return p.Do(ctx, image)
	}
	return p.first(ctx, m, p.Pull, image)
}

// Discard takes an image away again.
func (p *Proof) Discard(ctx context.Context, m *Machine, image string) error {
	if p.Undo != nil {
		return p.Undo(ctx, image)
	}
	return p.first(ctx, m, p.Remove, image)
}

// first runs the first of some commands that is there, with another image.
func (p *Proof) first(ctx context.Context, m *Machine, commands [][]string, image string) error {
	ctx, cancel := context.WithTimeout(ctx, pullTimeout)
	defer cancel()
	for _, command := range commands {
		command = slices.Clone(command)
		for i := range command {
			if command[i] == p.Image {
				command[i] = image
			}
		}
		_, err := m.Run(ctx, command[0], command[1:]...)
		if errors.Is(err, exec.ErrNotFound) {
			continue
		}
		return err
	}
	return ErrNoClient
}

// A Leaver is a target whose runtime does not forget a mirror by reading its files as
// they were before.
type Leaver interface {
	// Leave plans what makes it forget, before the files are put back.
	Leave(ctx context.Context, m *Machine) (*Plan, error)
	// Left tells whether it has forgotten.
	Left(ctx context.Context, m *Machine) bool
}

// takeUpTime bounds the wait for a runtime that was told to read its files again.
const takeUpTime = 15 * time.Second

// Await waits until the runtime is [Proof.Ready], for 15 seconds at most: whoever pulls
// before may be answered by the registry itself, or wait long for it.
func (p *Proof) Await(ctx context.Context, m *Machine) {
	if p.Ready != nil {
		_ = until(ctx, func(ctx context.Context) bool { return p.Ready(ctx, m) }) // the pull tells
	}
}

// until asks again and again whether something is so. The error is that the time is over.
func until(ctx context.Context, so func(context.Context) bool) error {
	ctx, cancel := context.WithTimeout(ctx, takeUpTime)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for !so(ctx) {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// Leave has a runtime that is set up forget the mirror, where that takes more than
// [Undo], which is to follow: what it writes is part of the setup that is undone.
func Leave(ctx context.Context, m *Machine, s *Store, t Target) error {
	l, ok := t.(Leaver)
	if !ok || !s.Has(t.Name()) {
		return nil
	}
	plan, err := l.Leave(ctx, m)
	if err != nil || !plan.Changes() || len(plan.After) == 0 {
		return err
	}
	steps := plan.Needed()
	if err := Apply(m, s, t.Name(), plan); err != nil {
		return err
	}
	for i := range steps { // Docker's have commands
		if err := steps[i].Take(ctx, m); err != nil {
			return err
		}
	}
	return until(ctx, func(ctx context.Context) bool { return l.Left(ctx, m) })
}

// Take runs a step that has a command.
func (s *Step) Take(ctx context.Context, m *Machine) error {
	ctx, cancel := context.WithTimeout(ctx, pullTimeout)
	defer cancel()
	if _, err := m.Run(ctx, s.Command[0], s.Command[1:]...); err != nil {
		return fmt.Errorf("restart: %w", err)
	}
	return nil
}
