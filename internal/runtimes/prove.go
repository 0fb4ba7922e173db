package runtimes

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
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

// Take runs a step.
func (s *Step) Take(ctx context.Context, m *Machine) error {
	ctx, cancel := context.WithTimeout(ctx, pullTimeout)
	defer cancel()
	if _, err := m.Run(ctx, s.Command[0], s.Command[1:]...); err != nil {
		return fmt.Errorf("restart: %w", err)
	}
	return nil
}
