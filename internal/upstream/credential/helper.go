package credential

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/singleflight"

	"sampan/internal/oci"
	"sampan/internal/upstream"
)

const (
	// helperTimeout bounds one run of a helper, and maxAnswer what it may print, in
	// bytes.
	helperTimeout = 30 * time.Second
	maxAnswer     = 64 << 10
	// answerFor is how long an answer is believed. One that the registry refused is
	// asked for anew, but not more often than once in leastAnswer; nor is a helper
	// that failed.
	answerFor   = 5 * time.Minute
	leastAnswer = 10 * time.Second
)

// Errors of helpers.
var (
	errHelperFailed = errors.New("the credential helper failed")
	errHelperAnswer = errors.New("the credential helper gave no answer of the protocol")
	errHelperLarge  = errors.New("the credential helper prints too much")
)

// Helper is what a credential helper says about a registry: a program that reads
// the server from its input and prints JSON, as docker-credential-ecr-login does.
// "Not found" is anonymous.
func Helper(program string, registry oci.Registry, log *slog.Logger) upstream.Credentials {
	var mu sync.Mutex
	helpers := make(map[string]*helper)
	return func(ctx context.Context, endpoint *url.URL) (upstream.Credential, error) {
		server := serverOf(registry, endpoint)
		mu.Lock()
		h := helpers[server]
		if h == nil {
			h = newHelper(program, server, log)
			helpers[server] = h
		}
		mu.Unlock()
		return h.get(ctx)
	}
}

// A helper is one program, asked about one server.
type helper struct {
	program, server string
	log             *slog.Logger
	timeout         time.Duration
	asking          singleflight.Group

	mu    sync.Mutex
	asked time.Time // zero: never
	last  outcome
}

// An outcome is what one run brought.
type outcome struct {
	cred upstream.Credential
	err  error
}

func newHelper(program, server string, log *slog.Logger) *helper {
	return &helper{program: program, server: server, log: log, timeout: helperTimeout}
}

// said is what the helper said last, and whether that is still good.
func (h *helper) said(refused bool) (last outcome, good bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	lives := answerFor
	if refused || h.last.err != nil {
		lives = leastAnswer
	}
	age := time.Since(h.asked)
	return h.last, !h.asked.IsZero() && age >= 0 && age < lives
}

// get runs the helper unless what it said is still good. Whoever comes meanwhile
// waits for the same run, which no one of them ends by leaving.
func (h *helper) get(ctx context.Context) (upstream.Credential, error) {
	refused := upstream.Refused(ctx)
	if last, good := h.said(refused); good {
		return last.cred, last.err
	}
	ch := h.asking.DoChan("", func() (any, error) {
		if last, good := h.said(refused); good { // another run has just ended
			return last, nil
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), h.timeout)
		defer cancel()
		var now outcome
		now.cred, now.err = h.run(ctx)
		h.mu.Lock()
		defer h.mu.Unlock()
		if now.err != nil && h.last.err == nil {
			h.log.Error("credential helper failed", "program", h.program, "err", now.err)
		}
		h.asked, h.last = time.Now(), now
		return now, nil
	})
	select {
	case r := <-ch:
		now := r.Val.(outcome)
		return now.cred, now.err
	case <-ctx.Done():
		return upstream.Credential{}, ctx.Err()
	}
}

// run asks once. What the helper prints when it fails may hold anything and is
// not repeated.
func (h *helper) run(ctx context.Context) (upstream.Credential, error) {
	cmd := exec.CommandContext(ctx, h.program, "get")
	cmd.Stdin = strings.NewReader(h.server + "\n")
	out := &bounded{limit: maxAnswer}
	cmd.Stdout = out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) } // and what it started
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return upstream.Credential{}, fmt.Errorf("%w: no answer in %s", errHelperFailed, h.timeout)
	case out.over:
		return upstream.Credential{}, errHelperLarge
	case errors.As(err, &exit) && bytes.Contains(out.b, []byte("credentials not found")):
		return upstream.Credential{}, nil // as docker-credential-helpers word it
	case errors.As(err, &exit):
		return upstream.Credential{}, fmt.Errorf("%w: %s", errHelperFailed, exit.ProcessState)
	case err != nil:
		return upstream.Credential{}, fmt.Errorf("%w: %w", errHelperFailed, err)
	}
	var answer struct{ Username, Secret string }
	if json.Unmarshal(out.b, &answer) != nil || answer.Username == "" || answer.Secret == "" {
		return upstream.Credential{}, errHelperAnswer
	}
	if answer.Username == "<token>" { // an identity token, by the protocol
		return upstream.Credential{IdentityToken: answer.Secret}, nil
	}
	return upstream.Credential{Username: answer.Username, Password: answer.Secret}, nil
}

// bounded keeps what is written up to a limit, and takes the rest in silence: a
// helper that is cut off might hang.
type bounded struct {
	b     []byte
	limit int
	over  bool
}

// Write implements [io.Writer].
func (w *bounded) Write(p []byte) (int, error) {
	if len(w.b)+len(p) > w.limit {
		w.over = true
		return len(p), nil
	}
	w.b = append(w.b, p...)
	return len(p), nil
}
