package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A process is a server that was started here.
type process struct {
	name  string
	addr  string // where it listens
	admin string // where sampan tells about itself; empty for others
	place *namespace
	cmd   *exec.Cmd
	log   *os.File
}

// freeAddr returns an address that nobody listens on now.
func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// start runs a server and waits until it accepts connections. Its output goes
// to a file in the scratch directory.
func (b *bench) start(name, addr string, env []string, command string, args ...string) (*process, error) {
	log, err := os.Create(filepath.Join(b.work, name+".log"))
	if err != nil {
		return nil, err
	}
	p := &process{name: name, addr: addr, place: b.place, cmd: exec.Command(command, args...), log: log}
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	// A bench that is killed takes its servers along.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := b.place.do(p.cmd.Start); err != nil {
		return nil, err
	}
	for range 500 {
		if conn, err := b.place.dial(context.Background(), "tcp", addr); err == nil {
			return p, conn.Close()
		}
		time.Sleep(20 * time.Millisecond)
	}
	p.stop()
	return nil, fmt.Errorf("%s does not listen, see %s", name, log.Name())
}

// stop ends the process, gently where it listens.
func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may be gone
	timer := time.AfterFunc(5*time.Second, func() { _ = p.cmd.Process.Kill() })
	_ = p.cmd.Wait() // how it ends is of no interest
	timer.Stop()
	_ = p.log.Close()
}

// pids returns the process and its children: nginx has workers.
func (p *process) pids() []int {
	pid := p.cmd.Process.Pid
	all := []int{pid}
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return all
	}
	for field := range strings.FieldsSeq(string(raw)) {
		if child, err := strconv.Atoi(field); err == nil {
			all = append(all, child)
		}
	}
	return all
}

// cpu returns the CPU time used until now, user and system, from the clock that
// the kernel keeps for each process.
func (p *process) cpu() (time.Duration, error) {
	const schedClock = 2 // CPUCLOCK_SCHED: what has run, of the whole process
	var sum time.Duration
	for _, pid := range p.pids() {
		var ts unix.Timespec
		if err := unix.ClockGettime(int32(^pid<<3|schedClock), &ts); err != nil {
			return 0, fmt.Errorf("CPU clock of %s: %w", p.name, err)
		}
		sum += time.Duration(ts.Nano())
	}
	return sum, nil
}

// memory returns VmRSS or VmHWM in bytes, of the process and its children.
func (p *process) memory(field string) (int64, error) {
	var sum int64
	for _, pid := range p.pids() {
		raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			return 0, err
		}
		_, rest, found := strings.Cut(string(raw), "\n"+field+":")
		if !found {
			return 0, fmt.Errorf("%s has no %s", p.name, field)
		}
		kib, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
		if err != nil {
			return 0, err
		}
		sum += kib << 10
	}
	return sum, nil
}

// A result is what the load client prints.
type result struct {
	Requests, Bytes, Short, Wrong, Refused, Failed int64
	Seconds, First                                 float64
}

func (r result) clean() error {
	if r.Short+r.Wrong+r.Refused+r.Failed > 0 || r.Requests == 0 {
		return fmt.Errorf("not every request was answered well: %+v", r)
	}
	return nil
}

// load runs the load client to its end.
func (b *bench) load(addr string, args ...string) (result, error) {
	var r result
	cmd := exec.Command(filepath.Join(b.bin, "load"), append([]string{"-addr", addr}, args...)...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	err := b.place.do(cmd.Start)
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		return r, fmt.Errorf("load: %w", err)
	}
	return r, json.NewDecoder(&out).Decode(&r)
}

// hold runs the load client in the background until the function that it
// returns is called.
func (b *bench) hold(addr string, args ...string) (end func(), err error) {
	cmd := exec.Command(filepath.Join(b.bin, "load"), append([]string{"-hold", "-addr", addr}, args...)...)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := b.place.do(cmd.Start); err != nil {
		return nil, err
	}
	return func() {
		_ = stdin.Close() // the sign to end
		_ = cmd.Wait()    // it is of no further interest
	}, nil
}

// cost runs the load client and returns the CPU time that it made a server use.
func (b *bench) cost(p *process, args ...string) (time.Duration, result, error) {
	before, err := p.cpu()
	if err != nil {
		return 0, result{}, err
	}
	r, err := b.load(p.addr, args...)
	if err != nil {
		return 0, r, err
	}
	after, err := p.cpu()
	return after - before, r, err
}

// mostConnections fails unless a process has at least so many sockets open: a
// crowd that did not come weighs nothing.
func (b *bench) mostConnections(p *process, least int) error {
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.cmd.Process.Pid))
	if err != nil {
		return err
	}
	if len(entries) < least {
		return fmt.Errorf("%s has only %d files and sockets open, not %d", p.name, len(entries), least)
	}
	return nil
}
