package edge

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os/exec"

	"github.com/mholt/acmez/v3/acme"
)

// A hookSolver has a program set the records of challenges by DNS.
type hookSolver struct {
	program string
	log     *slog.Logger
}

// Present implements acmez.Solver.
func (s hookSolver) Present(ctx context.Context, c acme.Challenge) error {
	return s.run(ctx, "present", c)
}

// CleanUp implements acmez.Solver.
func (s hookSolver) CleanUp(ctx context.Context, c acme.Challenge) error {
	return s.run(ctx, "cleanup", c)
}

// run runs the program. What it prints is told when it fails.
func (s hookSolver) run(ctx context.Context, what string, c acme.Challenge) error {
	ctx, cancel := context.WithTimeout(ctx, hookTimeout)
	defer cancel()
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, s.program, what, c.DNS01TXTRecordName(), c.DNS01KeyAuthorization())
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.WaitDelay = hookTimeout / 60 // of a child that keeps the pipe open
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s %s %s: %w: %.500s", s.program, what, c.DNS01TXTRecordName(), err, out.String())
	}
	s.log.Info("record of a challenge", "action", what, "name", c.DNS01TXTRecordName())
	return nil
}
