package main

import (
	"context"
	"net"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// A namespace is a network namespace that one thread of this program is in and
// works in. A socket stays where it was opened and a process where it was
// started, so that the rest may run anywhere.
//
// Processes that are to end with this program end with the thread that started
// them (PR_SET_PDEATHSIG), and a thread that has been in another namespace ends:
// so no process is started on a thread that merely comes along.
type namespace struct {
	work chan func()
}

// enter opens a namespace by its file, such as /proc/PID/task/TID/ns/net. An empty
// one is that in which this program was started.
func enter(file string) (*namespace, error) {
	n := &namespace{work: make(chan func())}
	entered := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		err := setNamespace(file)
		entered <- err
		if err != nil {
			return
		}
		for do := range n.work {
			do()
		}
	}()
	return n, <-entered
}

func setNamespace(file string) error {
	if file == "" {
		return nil
	}
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Setns(int(f.Fd()), unix.CLONE_NEWNET)
}

// leave ends the thread, and kills the processes that it has started.
func (n *namespace) leave() { close(n.work) }

// do calls f in the namespace. Calls wait for each other.
func (n *namespace) do(f func() error) error {
	done := make(chan error, 1)
	n.work <- func() { done <- f() }
	return <-done
}

// dial connects from within the namespace to an address, not to a name.
func (n *namespace) dial(ctx context.Context, network, addr string) (conn net.Conn, err error) {
	err = n.do(func() error {
		var d net.Dialer
		conn, err = d.DialContext(ctx, network, addr)
		return err
	})
	return conn, err
}
