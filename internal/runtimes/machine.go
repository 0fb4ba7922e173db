package runtimes

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// maxConfig bounds a file of a runtime's configuration, in bytes.
const maxConfig = 4 << 20

// A Machine is where runtimes are.
type Machine struct {
	// Root is put in front of every path; empty for the machine itself. Tests and
	// images of other machines have one.
	Root string
	// Home is the person's directory, without Root, and UID who they are: 0 is root.
	Home string
	UID  int
	// Environ is the environment, "KEY=value" each.
	Environ []string
	// Command runs a program and returns its standard output; nil runs it on this
	// machine. A program that is not there is an [exec.ErrNotFound].
	Command func(ctx context.Context, name string, args ...string) ([]byte, error)
}

// Path is where a file of the machine is.
func (m *Machine) Path(path string) string { return filepath.Join(m.Root, path) }

// Read reads a file of the machine; nil where there is none. A symbolic link that leads
// nowhere, or out of Root, is an error: what is written would not be where it seems.
func (m *Machine) Read(path string) ([]byte, error) {
	if err := m.confined(path); err != nil {
		return nil, err
	}
	if info, err := os.Stat(m.Path(path)); err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: %w", path, ErrNoFile)
	}
	f, err := os.Open(m.Path(path))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	if err == nil && len(raw) > maxConfig {
		err = fmt.Errorf("%s: %w", path, ErrTooLarge)
	}
	if raw == nil {
		raw = []byte{} // an empty file is one
	}
	return raw, err
}

// confined fails where a path leads to something that is not of this machine.
func (m *Machine) confined(path string) error {
	root := "/"
	if m.Root != "" {
		var err error
		if root, err = filepath.EvalSymlinks(m.Root); err != nil {
			return err
		}
	}
	for at := m.Path(path); ; at = filepath.Dir(at) {
		target, err := filepath.EvalSymlinks(at)
		if errors.Is(err, fs.ErrNotExist) {
			if _, err := os.Lstat(at); err == nil {
				return fmt.Errorf("%s: %w", path, ErrNowhere)
			}
			continue
		}
		if err != nil {
			return err
		}
		if rel, err := filepath.Rel(root, target); err != nil || !filepath.IsLocal(rel) {
			return fmt.Errorf("%s: %w", path, ErrOutside)
		}
		return nil
	}
}

// Errors of [Machine.Read].
var (
	ErrNowhere = errors.New("a symbolic link that leads nowhere")
	ErrNoFile  = errors.New("it is a directory, or something else that is no file")
	ErrOutside = errors.New("a symbolic link leads out of the directory")
	// ErrTooLarge is that of a file that cannot be a configuration.
	ErrTooLarge = errors.New("the file is too large to be a configuration")
)

// Exists tells whether there is something at a path.
func (m *Machine) Exists(path string) bool {
	_, err := os.Lstat(m.Path(path))
	return err == nil
}

// dirs are the directories in one of the machine; none where it is not there.
func (m *Machine) dirs(path string) []string {
	entries, err := os.ReadDir(m.Path(path))
	if err != nil {
		return nil
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names
}

// Getenv is a variable of the environment; empty where it is not set.
func (m *Machine) Getenv(name string) string {
	for i := len(m.Environ) - 1; i >= 0; i-- {
		if v, ok := strings.CutPrefix(m.Environ[i], name+"="); ok {
			return v
		}
	}
	return ""
}

// Run runs a program of the machine and returns its standard output. Where it fails,
// the error has the end of what it said.
func (m *Machine) Run(ctx context.Context, name string, args ...string) ([]byte, error) {
	if m.Command != nil {
		return m.Command(ctx, name, args...)
	}
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = m.Environ
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		return out.Bytes(), fmt.Errorf("%s: %w%s", strings.Join(append([]string{name}, args...), " "), err, tail(said.String()))
	}
	return out.Bytes(), nil
}

// tail is the end of what a program said.
func tail(said string) string {
	const most = 600
	said = strings.TrimSpace(said)
	if said == "" {
		return ""
	}
	if len(said) > most {
		said = "…" + said[len(said)-most:]
	}
	return ": " + said
}
