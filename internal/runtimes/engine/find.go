package engine

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// ErrNone is the error where no engine is found.
var ErrNone = errors.New("no container engine was found")

// findWithin bounds how long an engine may take to answer at first.
const findWithin = 20 * time.Second

// Find connects to the engine that the options name or, where they name none, to the
// first that is there: Docker, Podman, containerd. An engine that a variable of the
// environment names is meant, and no other is looked for.
func Find(ctx context.Context, o Options) (Engine, error) {
	if o.Getenv == nil {
		o.Getenv = func(string) string { return "" }
	}
	ctx, cancel := context.WithTimeout(ctx, findWithin)
	defer cancel()
	if o.Kind == "" && o.Address != "" {
		o.Kind = kindOf(o.Address)
	}
	switch o.Kind {
	case Docker:
		return asEngine(findDocker(ctx, o))
	case Podman:
		return findPodman(ctx, o)
	case Containerd, Nerdctl:
		return asEngine(findContainerd(ctx, o))
	}
	return findAny(ctx, o)
}

// findAny looks for each in turn.
func findAny(ctx context.Context, o Options) (Engine, error) {
	docker := o.Getenv("DOCKER_HOST") != "" || o.Getenv("DOCKER_CONTEXT") != ""
	switch {
	case docker:
		return asEngine(findDocker(ctx, o))
	case o.Getenv("CONTAINER_HOST") != "":
		return findPodman(ctx, o)
	case o.Getenv("CONTAINERD_ADDRESS") != "":
		return asEngine(findContainerd(ctx, o))
	}
	d, err := findDocker(ctx, o)
	if err == nil && (d.kind == Docker || !hasPodman(o)) {
		return d, nil
	}
	if err == nil {
		_ = d.Close() // Podman that answers in Docker's place knows more by its own command
	}
	var failed []error
	if !errors.Is(err, ErrNone) {
		failed = append(failed, err)
	}
	if hasPodman(o) {
		return findPodman(ctx, o)
	}
	c, err := findContainerd(ctx, o)
	if err == nil {
		return c, nil
	}
	if !errors.Is(err, ErrNone) {
		failed = append(failed, err)
	}
	if len(failed) > 0 {
		return nil, failed[0] // one is there, and does not answer
	}
	return nil, &Error{Step: StepFind, Err: ErrNone}
}

// asEngine keeps a nil of some type from becoming an Engine.
func asEngine[E Engine](e E, err error) (Engine, error) {
	if err != nil {
		return nil, err
	}
	return e, nil
}

// findDocker connects to the first Docker that answers.
func findDocker(ctx context.Context, o Options) (*dockerEngine, error) {
	list := []endpoint{{host: socketURL(o.Address), said: true}}
	if o.Address == "" {
		var err error
		if list, err = dockerEndpoints(o.Getenv); err != nil {
			return nil, &Error{Step: StepFind, Kind: Docker, Err: err}
		}
	}
	var first error
	for _, e := range list {
		d, err := connect(ctx, e)
		if err == nil {
			d.options = o
			return d, nil
		}
		if first == nil {
			first = err
		}
	}
	if first == nil {
		first = &Error{Step: StepFind, Kind: Docker, Err: ErrNone}
	}
	return nil, first
}

// hasPodman tells whether Podman's command is here.
func hasPodman(o Options) bool {
	_, err := lookPath(o, "podman")
	return err == nil
}

// lookPath finds a command in the PATH of the options' environment.
func lookPath(o Options, name string) (string, error) {
	for _, dir := range filepath.SplitList(o.Getenv("PATH")) {
		if dir == "" {
			continue
		}
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path, nil
		}
	}
	return "", exec.ErrNotFound
}

// kindOf guesses whose a socket is, by its name.
func kindOf(address string) Kind {
	switch {
	case strings.Contains(address, "containerd"):
		return Containerd
	case strings.Contains(address, "podman"):
		return Podman
	}
	return Docker
}

// socketURL makes a path the URL of a socket.
func socketURL(address string) string {
	if strings.HasPrefix(address, "/") {
		return "unix://" + address
	}
	return address
}

// isSocket tells whether a path is one that could be connected to.
func isSocket(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode()&fs.ModeSocket != 0
}
