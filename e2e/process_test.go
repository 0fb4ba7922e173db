//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// Debian's programs are called by their full path: a machine may have others of
// the same name, of other versions, before them in its PATH.
const (
	buildahPath    = "/usr/bin/buildah"
	containerdPath = "/usr/bin/containerd"
	ctrPath        = "/usr/bin/ctr"
	curlPath       = "/usr/bin/curl"
	dockerPath     = "/usr/bin/docker"
	dnsmasqPath    = "/usr/sbin/dnsmasq"
	dockerdPath    = "/usr/sbin/dockerd"
	microsocksPath = "/usr/bin/microsocks"
	podmanPath     = "/usr/bin/podman"
	registryPath   = "/usr/bin/docker-registry"
	skopeoPath     = "/usr/bin/skopeo"
	tinyproxyPath  = "/usr/bin/tinyproxy"
	unsharePath    = "/usr/bin/unshare"
)

// clientTimeout bounds one call of a client, and startTimeout the start of a
// daemon: generous, because two cores may be shared with other work.
const (
	clientTimeout = 2 * time.Minute
	startTimeout  = time.Minute
)

// tool is the path of a client that install.sh built.
func tool(name string) string {
	path, err := filepath.Abs(filepath.Join(".bin", name))
	if err != nil {
		panic(err)
	}
	return path
}

// scratch is the folder of this run; it is removed with all that lies in it.
func scratch() string { return os.Getenv(scratchVariable) }

// newDir makes a folder that is removed with the run, not with the test: the
// engines leave mounts below theirs until the namespaces end.
func newDir(prefix string) (string, error) { return os.MkdirTemp(scratch(), prefix+"-") }

func testDir(t *testing.T, prefix string) string {
	t.Helper()
	dir, err := newDir(prefix)
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func writeFile(t *testing.T, path, content string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// lastPort is below the range from which the kernel picks ports of outgoing
// connections; nothing else listens in these namespaces.
var lastPort atomic.Int32

// freeAddress is a loopback address that no other process of this run has.
func freeAddress() string { return fmt.Sprintf("127.0.0.1:%d", 20000+lastPort.Add(1)) }

// cleanEnv is an environment without what the caller's clients are set up with.
func cleanEnv(home string, extra ...string) []string {
	return append([]string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME=" + home, "TMPDIR=" + home, "LANG=C.UTF-8",
	}, extra...)
}

// command is one client with the environment and folder in which it runs.
type command struct {
	path string
	env  []string
	dir  string
}

// output runs the client and gives what it wrote to its standard output. A
// failure carries both outputs.
func (c command) output(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), clientTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, c.path, args...)
	cmd.Env, cmd.Dir = c.env, c.dir
	if cmd.Env == nil {
		cmd.Env = cleanEnv(scratch())
	}
	cmd.WaitDelay = 5 * time.Second // a monitor left behind may keep the pipes open
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil && !errors.Is(err, exec.ErrWaitDelay) {
		return stdout.String(), fmt.Errorf("%s %s: %w\n%s%s", filepath.Base(c.path), strings.Join(args, " "), err, stdout.String(), stderr.String())
	}
	return stdout.String(), nil
}

// run is output for a client that must succeed.
func (c command) run(t *testing.T, args ...string) string {
	t.Helper()
	out, err := c.output(args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// fail is output for a client that must not succeed; it gives what it said.
func (c command) fail(t *testing.T, args ...string) string {
	t.Helper()
	out, err := c.output(args...)
	if err == nil {
		t.Fatalf("%s %s succeeded:\n%s", filepath.Base(c.path), strings.Join(args, " "), out)
	}
	return err.Error()
}

// daemon is a running server. Its output goes to a file, whose end is shown when
// the test that started it has failed.
type daemon struct {
	cmd     *exec.Cmd
	logPath string
	ended   chan struct{} // closed when the process has been waited for
}

func startDaemon(env []string, logPath, path string, args ...string) (*daemon, error) {
	log, err := os.Create(logPath)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	d := &daemon{cmd: exec.Command(path, args...), logPath: logPath, ended: make(chan struct{})}
	d.cmd.Env = env
	d.cmd.Stdout, d.cmd.Stderr = log, log
	if err := d.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		d.cmd.Wait()
		close(d.ended)
	}()
	return d, nil
}

// startTestDaemon starts a daemon that ends with the test.
func startTestDaemon(t *testing.T, env []string, logPath, path string, args ...string) *daemon {
	t.Helper()
	d, err := startDaemon(env, logPath, path, args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		d.stop()
		if t.Failed() {
			t.Logf("the end of %s:\n%s", filepath.Base(logPath), d.logTail(6000))
		}
	})
	return d
}

// stop asks the daemon to end, and ends it if it does not.
func (d *daemon) stop() {
	d.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-d.ended:
	case <-time.After(15 * time.Second):
		d.kill()
	}
}

// kill is SIGKILL, and waits until the process is gone.
func (d *daemon) kill() {
	d.cmd.Process.Kill()
	<-d.ended
}

func (d *daemon) logTail(limit int) string {
	content, err := os.ReadFile(d.logPath)
	if err != nil {
		return err.Error()
	}
	if len(content) > limit {
		content = content[len(content)-limit:]
	}
	return string(content)
}

// ready polls until probe succeeds, the daemon has ended or startTimeout passes.
func (d *daemon) ready(probe func() error) error {
	return poll(startTimeout, func() error {
		select {
		case <-d.ended:
			return final{fmt.Errorf("%s ended: %s", d.cmd.Path, d.logTail(3000))}
		default:
			return probe()
		}
	})
}

// final is an error that polling cannot heal.
type final struct{ error }

// poll calls probe until it succeeds, and gives its last error at the deadline.
func poll(limit time.Duration, probe func() error) error {
	deadline := time.Now().Add(limit)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := probe()
		if err == nil {
			return nil
		}
		if stop := (final{}); errors.As(err, &stop) || time.Now().After(deadline) {
			return fmt.Errorf("after at most %v: %w", limit, err)
		}
		<-tick.C
	}
}

// listening is a probe: something accepts connections there.
func listening(network, address string) func() error {
	return func() error {
		conn, err := net.DialTimeout(network, address, time.Second)
		if err != nil {
			return err
		}
		return conn.Close()
	}
}
