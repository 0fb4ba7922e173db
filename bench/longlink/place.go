package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"

	"golang.org/x/sys/unix"
)

// A place is a network namespace with one end of the link in it.
type place struct {
	end
	device *os.File // packets of the end's TUN device, one at each Read and Write
}

// newPlace makes a namespace, and in it a loopback interface and a TUN device with
// an address, from which the peer's is reached. A thread stays in it.
func newPlace(address, peer, congestion string) (*place, error) {
	p := new(place)
	made := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: nothing else may run in here
		err := p.make(address, peer, congestion)
		made <- err
		if err == nil {
			select {}
		}
	}()
	if err := <-made; err != nil {
		return nil, fmt.Errorf("namespace of %s: %w", address, err)
	}
	return p, nil
}

// make runs on the thread that is to be in the namespace.
func (p *place) make(address, peer, congestion string) error {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return err
	}
	p.Namespace = fmt.Sprintf("/proc/%d/task/%d/ns/net", os.Getpid(), unix.Gettid())
	var err error
	if p.device, err = openTUN("wire0"); err != nil {
		return fmt.Errorf("/dev/net/tun: %w", err)
	}
	p.Address = address
	for _, args := range [][]string{
		{"link", "set", "lo", "up"},
		{"address", "add", address, "dev", "wire0"},
		// No packet gets lost but by the link's own rule.
		{"link", "set", "wire0", "mtu", fmt.Sprint(mtu), "txqueuelen", "10000", "up"},
		// By the route, because a kernel that restricts tcp_congestion_control
		// refuses to have it set in here.
		{"route", "add", peer, "dev", "wire0", "congctl", congestion},
	} {
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %v: %w: %s", args, err, out)
		}
	}
	// What one connection has found out does not count for the next.
	return os.WriteFile("/proc/sys/net/ipv4/tcp_no_metrics_save", []byte("1"), 0)
}

// openTUN makes a TUN device in the namespace of the thread.
func openTUN(name string) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	request, err := unix.NewIfreq(name)
	if err == nil {
		request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
	}
	if err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), "/dev/net/tun"), nil // only now may it be polled
}
