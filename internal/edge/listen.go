package edge

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/pires/go-proxyproto"
)

// ErrNoSocket says that systemd has handed over no socket of that name.
var ErrNoSocket = errors.New("systemd has handed over no such socket")

// A Listening makes listeners from addresses. The zero value has no sockets of
// systemd and takes no PROXY protocol.
type Listening struct {
	// Trusted may use the PROXY protocol, version 1 or 2; what others send in its
	// form is no HTTP and is refused. It is asked for each connection; nil and none
	// mean that nobody may.
	Trusted func() []netip.Prefix
	// Sockets are those that systemd has handed over, by name; see [Sockets].
	Sockets map[string][]net.Listener
}

// Sockets takes over the sockets that systemd hands to this process
// (sd_listen_fds), by the name of FileDescriptorName=. It may be called once.
func Sockets() (map[string][]net.Listener, error) {
	named, err := activation.ListenersWithNames()
	if err != nil {
		return nil, fmt.Errorf("sockets of systemd: %w", err)
	}
	return named, nil
}

// Listen opens the listeners of one address: host:port, unix:/path, or systemd and
// systemd:NAME for the sockets of systemd. What it opened is closed again when it
// fails.
func (l Listening) Listen(address string) ([]net.Listener, error) {
	opened, err := l.open(address)
	if err != nil {
		return nil, err
	}
	if l.Trusted == nil {
		return opened, nil
	}
	for i, ln := range opened {
		opened[i] = l.proxied(ln)
	}
	return opened, nil
}

// proxied is a listener at which those who are trusted may use the PROXY protocol.
func (l Listening) proxied(ln net.Listener) net.Listener {
	return &proxyproto.Listener{Listener: ln, ConnPolicy: l.policy, ReadHeaderTimeout: readHeaderTimeout}
}

func (l Listening) open(address string) ([]net.Listener, error) {
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		ln, err := listenUnix(path)
		if err != nil {
			return nil, err
		}
		return []net.Listener{ln}, nil
	}
	if address == "systemd" || strings.HasPrefix(address, "systemd:") {
		return l.sockets(strings.TrimPrefix(strings.TrimPrefix(address, "systemd"), ":"))
	}
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("cannot listen: %w", err)
	}
	return []net.Listener{ln}, nil
}

// sockets returns those of a name, or all of them.
func (l Listening) sockets(name string) ([]net.Listener, error) {
	var found []net.Listener
	for n, sockets := range l.Sockets {
		if name == "" || n == name {
			found = append(found, sockets...)
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("cannot listen at systemd:%s: %w", name, ErrNoSocket)
	}
	return found, nil
}

// policy lets those use the PROXY protocol who are trusted. A Unix socket has no
// address: who may open it is trusted.
func (l Listening) policy(o proxyproto.ConnPolicyOptions) (proxyproto.Policy, error) {
	trusted := l.Trusted()
	addr, ok := addrOf(o.Upstream)
	if !ok && len(trusted) > 0 || ok && contains(trusted, addr) {
		return proxyproto.USE, nil
	}
	return proxyproto.SKIP, nil
}

// socketMode is that of a Unix socket: for its owner and group.
const socketMode = 0o660

// listenUnix takes the place of a socket that nobody listens at any more.
func listenUnix(path string) (net.Listener, error) {
	if info, err := os.Lstat(path); err == nil && info.Mode().Type() == os.ModeSocket {
		conn, err := net.Dial("unix", path)
		if err == nil {
			return nil, errors.Join(fmt.Errorf("cannot listen at %s: %w", path, syscall.EADDRINUSE), conn.Close())
		}
		if errors.Is(err, syscall.ECONNREFUSED) {
			if err := os.Remove(path); err != nil {
				return nil, fmt.Errorf("cannot listen: %w", err)
			}
		}
	}
	ln, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("cannot listen: %w", err)
	}
	if err := os.Chmod(path, socketMode); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot listen: %w", err), ln.Close())
	}
	return ln, nil
}
