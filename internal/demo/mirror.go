package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// settings is the mirror's file: a file of its own, so that none which lies
// around has a say, and a log that can be read by a program. The link is paced for all
// connections together, so that further ones would bring nothing but what is on its way
// on two of them.
const settings = `log: {level: info, format: json, access: false}
fetch: {lines: 1}
shutdown: {grace: 5s}
`

const (
	killAfter = 15 * time.Second      // of being told to stop
	askAgain  = 20 * time.Millisecond // after a mirror that is not ready
)

// A mirror is a sampan that serves, as a process of its own.
type mirror struct {
	addr  string // for clients
	admin string
	log   *logReader

	cancel  context.CancelFunc
	command *exec.Cmd
	ended   chan struct{} // closed when the process has ended
}

// startMirror starts the executable on free ports, with its data below dir and
// docker.io at upstream, and returns when it listens. It runs until stop or the
// end of ctx, and is told to stop in both cases as an operator would.
func startMirror(ctx context.Context, executable, dir, upstream string) (*mirror, error) {
	file := filepath.Join(dir, "sampan.yaml")
	if err := os.WriteFile(file, []byte(settings), 0o600); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	m := &mirror{cancel: cancel, ended: make(chan struct{}), log: &logReader{serving: make(chan addresses, 1)}}
	m.command = exec.CommandContext(ctx, executable, "serve", "--config", file,
		"--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0",
		"--data", filepath.Join(dir, "data"), "--upstream", "docker.io="+upstream)
	m.command.Env = environment(os.Environ())
	m.command.Stderr = m.log
	m.command.Cancel = func() error { return m.command.Process.Signal(syscall.SIGTERM) }
	m.command.WaitDelay = killAfter
	if err := m.command.Start(); err != nil {
		cancel()
		return nil, fmt.Errorf("start the mirror: %w", err)
	}
	go func() {
		defer close(m.ended)
		_ = m.command.Wait() // ProcessState says the same
	}()
	select {
	case at := <-m.log.serving:
		m.addr, m.admin = at.Listen, at.Admin
		return m, nil
	case <-m.ended:
		cancel()
		return nil, m.failure()
	}
}

// environment leaves out what would configure the mirror.
func environment(all []string) []string {
	var kept []string
	for _, v := range all {
		if !strings.HasPrefix(v, "SAMPAN_") {
			kept = append(kept, v)
		}
	}
	return kept
}

func (m *mirror) url() string { return "http://" + m.addr }

// ready returns nil once the mirror says that requests should be sent to it.
func (m *mirror) ready(ctx context.Context) error {
	c := &http.Client{Transport: &http.Transport{}}
	defer c.CloseIdleConnections()
	again := time.NewTicker(askAgain)
	defer again.Stop()
	for {
		status, err := probe(ctx, c, "http://"+m.admin+"/readyz")
		if status == http.StatusOK {
			return nil
		}
		select {
		case <-again.C:
		case <-m.ended:
			return m.failure()
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		}
	}
}

// probe returns the status of a page; zero when there is no answer.
func probe(ctx context.Context, c *http.Client, url string) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, err
	}
	resp, err := c.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, err
}

// stop tells the process to end and waits for it. It fails when the process did
// not end as it should, by itself or now. Stopping again is harmless.
func (m *mirror) stop() error {
	m.cancel()
	<-m.ended
	if !m.command.ProcessState.Success() {
		return m.failure()
	}
	return nil
}

// failure is how a process that has ended did so, with what it last said.
func (m *mirror) failure() error {
	return fmt.Errorf("the mirror ended: %s\n%s", m.command.ProcessState, m.log)
}

// addresses are where a mirror says that it listens.
type addresses struct {
	Message string `json:"msg"`
	Listen  string `json:"listen"`
	Admin   string `json:"admin"`
}

// lastLines is how many lines of the mirror's log are kept.
const lastLines = 10

// A logReader reads the mirror's log as it is written.
type logReader struct {
	serving chan addresses // gets the one line that tells them; has room for it

	mu    sync.Mutex
	part  []byte   // of a line
	lines []string // the last of them
}

// Write implements [io.Writer] and takes everything.
func (l *logReader) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.part = append(l.part, p...)
	for {
		line, rest, whole := bytes.Cut(l.part, []byte("\n"))
		if !whole {
			return len(p), nil
		}
		l.line(line)
		l.part = rest
	}
}

func (l *logReader) line(line []byte) {
	var at addresses
	if json.Unmarshal(line, &at) == nil && at.Message == "serving" {
		select {
		case l.serving <- at:
		default: // told already
		}
	}
	l.lines = append(l.lines, string(line))
	if len(l.lines) > lastLines {
		l.lines = l.lines[1:]
	}
}

// String returns the last lines.
func (l *logReader) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.lines, "\n")
}
