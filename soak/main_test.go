// Package soak tests the real sampan process for longer and harder than a unit
// test would: "sampan serve", built as users build it, is killed with SIGKILL
// again and again under load, gets an upstream that resets every connection, and
// a crowd of clients that want one cold blob.
//
// It promises that no client gets a byte that differs from the content, that a
// client meets an error only when the process it asks is killed, and that bytes
// received are not fetched again; README.md says how that is counted and what
// came out. It does not know the rooms of sampan: it talks HTTP to a process,
// reads its log and looks at its data directory.
//
// Beside that, a working set of ten times the disk, kills while it evicts, a purge of
// all while pulls run, and a start with many blobs.
//
// SOAK_KILLS=300 and its like are the long forms ("make soak"), SOAK_SEED repeats a run
// as far as time allows, SOAK_SAMPAN tests another executable.
package soak

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// executableVariable tells the tests where the executable is.
const executableVariable = "SOAK_SAMPAN"

// TestMain builds the executable once for all tests.
func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(1)
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	if os.Getenv(executableVariable) != "" {
		return m.Run(), nil
	}
	dir, err := os.MkdirTemp("", "sampan-soak-")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	executable := filepath.Join(dir, "sampan")
	build := exec.Command("go", "build", "-buildvcs=false", "-o", executable, "sampan/cmd/sampan")
	if out, err := build.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("build: %w\n%s", err, out)
	}
	if err := os.Setenv(executableVariable, executable); err != nil {
		return 0, err
	}
	return m.Run(), nil
}
