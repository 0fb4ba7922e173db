package soak

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// settings is the process's file: a log that can be read by a program, and no
// setting of the machine's.
const settings = `log: {level: info, format: json, access: false}
shutdown: {grace: 5s}
`

const (
	startWithin = 60 * time.Second // on a machine that is busy
	lookEvery   = time.Millisecond // at what changes without telling
	lastLines   = 40               // of the log are kept
)

// A home is what outlives the processes: their data, and what they logged.
type home struct {
	dir      string
	upstream string        // of docker.io
	patience time.Duration // how long a start may take

	mu       sync.Mutex
	lines    []string // the last ones of the log
	bad      []string // those that tell of damage
	complete int      // starts that came to serve
}

// newHome makes one in a directory of the test.
func newHome(t *testing.T, upstream string) *home {
	t.Helper()
	h := &home{dir: t.TempDir(), upstream: upstream, patience: startWithin}
	if err := os.WriteFile(h.file(), []byte(settings), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the last of the log:\n%s", strings.Join(h.lines, "\n"))
		}
	})
	return h
}

func (h *home) file() string { return filepath.Join(h.dir, "sampan.yaml") }
func (h *home) data() string { return filepath.Join(h.dir, "data") }

// A life is one process, from its start until it is killed or told to stop.
type life struct {
	url     string
	admin   string // address of health and metrics
	command *exec.Cmd
	ended   chan struct{} // closed when the process is gone
	killed  atomic.Bool   // set just before
}

// start starts a process and returns when it is ready for requests. The test ends
// when it does not become so; the process ends with the test.
func (h *home) start(t *testing.T) *life {
	t.Helper()
	l := &life{ended: make(chan struct{})}
	l.command = exec.Command(os.Getenv(executableVariable), "serve", "--config", h.file(),
		"--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--data", h.data(), "--upstream", "docker.io="+h.upstream)
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "SAMPAN_") {
			l.command.Env = append(l.command.Env, v)
		}
	}
	log, err := l.command.StderrPipe()
	if err == nil {
		err = l.command.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	serving := make(chan line, 1)
	go func() {
		defer close(l.ended)
		h.read(log, serving)
		_ = l.command.Wait() // ProcessState says the same
	}()
	t.Cleanup(func() {
		_ = l.command.Process.Kill() // gone already, or the test has failed
		<-l.ended
	})
	ctx, cancel := context.WithTimeout(t.Context(), h.patience)
	defer cancel()
	select {
	case at := <-serving:
		l.url, l.admin = "http://"+at.Listen, at.Admin
		l.awaitReady(ctx, t, at.Admin)
	case <-l.ended:
		t.Fatalf("the process ended by itself: %s", l.command.ProcessState)
	case <-ctx.Done():
		t.Fatal("the process does not come to serve")
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.complete++
	return l
}

// metric is the value of a metric without labels, or with those that stand in its
// name.
func (l *life) metric(ctx context.Context, t *testing.T, name string) float64 {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+l.admin+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
			v, err := strconv.ParseFloat(rest, 64)
			if err != nil {
				t.Fatal(err)
			}
			return v
		}
	}
	t.Fatalf("there is no metric %s", name)
	return 0
}

// awaitReady asks until the process says that requests should be sent to it.
func (l *life) awaitReady(ctx context.Context, t *testing.T, admin string) {
	t.Helper()
	c := &http.Client{Transport: &http.Transport{}}
	defer c.CloseIdleConnections()
	poll(ctx, t, "/readyz", func() bool {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+admin+"/readyz", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := c.Do(req)
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		_, _ = io.Copy(io.Discard, resp.Body) // the status is the answer
		return resp.StatusCode == http.StatusOK
	})
}

// kill ends the process as kill -9 does.
func (l *life) kill(t *testing.T) {
	t.Helper()
	l.killed.Store(true)
	if err := l.command.Process.Kill(); err != nil {
		t.Fatalf("the process was gone before it was killed: %v", err)
	}
	<-l.ended
	if status, ok := l.command.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGKILL {
		t.Fatalf("the process ended by itself: %s", l.command.ProcessState)
	}
}

// stop tells the process to end, as an operator does, and wants it to succeed.
func (l *life) stop(t *testing.T) {
	t.Helper()
	l.killed.Store(true)
	if err := l.command.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	<-l.ended
	if !l.command.ProcessState.Success() {
		t.Fatalf("the process ended: %s", l.command.ProcessState)
	}
}

// A line is what is of use in a line of the log.
type line struct {
	Level   string `json:"level"`
	Message string `json:"msg"`
	Listen  string `json:"listen"`
	Admin   string `json:"admin"`
}

// read reads a log to its end and sends on the line that tells the addresses.
func (h *home) read(log io.Reader, serving chan<- line) {
	for lines := bufio.NewScanner(log); lines.Scan(); {
		var l line
		err := json.Unmarshal(lines.Bytes(), &l)
		if err == nil && l.Message == "serving" {
			serving <- l
		}
		h.note(lines.Text(), err != nil || l.Level == "ERROR" || l.Level == "WARN")
	}
}

// note keeps a line. None but one that was torn by a kill should be bad: damage
// that a process finds after a kill is an error or a warning.
func (h *home) note(text string, bad bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lines = append(h.lines, text)
	if len(h.lines) > lastLines {
		h.lines = h.lines[1:]
	}
	if bad {
		h.bad = append(h.bad, text)
	}
}

// tell logs the last lines, for a failure that nobody understands.
func (h *home) tell(t *testing.T) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	t.Logf("the last lines of the log:\n%s", strings.Join(h.lines, "\n"))
}

// mustBeQuiet fails the test for every error and warning in the log.
func (h *home) mustBeQuiet(t *testing.T) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, text := range h.bad {
		t.Errorf("in the log: %s", text)
	}
}

// poll asks until done is true, or ends the test when ctx is over.
func poll(ctx context.Context, t *testing.T, what string, done func() bool) {
	t.Helper()
	again := time.NewTicker(lookEvery)
	defer again.Stop()
	for !done() {
		select {
		case <-again.C:
		case <-ctx.Done():
			t.Fatalf("%s: %v", what, ctx.Err())
		}
	}
}
