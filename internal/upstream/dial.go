package upstream

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
)

// A guard decides where a registry may make sampan connect to. The configured
// endpoints and proxies are always allowed. Everything else was chosen by a
// remote party (a redirect, a token endpoint, the DNS) and must not be private,
// unless a configured endpoint is itself private (written as a private number,
// or answering from one), or the rule for its host says so. That an operator's
// own server or host entry gave the address changes nothing: it was the remote
// party that chose the name.
type guard struct {
	endpoints map[string]bool        // "host:port"
	private   atomic.Bool            // private addresses are allowed
	allowed   func(host string) bool // private addresses of this host are; nil means none

	mu     sync.Mutex
	dialed map[string]bool // endpoints that were connected to at a private address
}

func newGuard(endpoints []*url.URL) *guard {
	g := &guard{
		endpoints: map[string]bool{},
		dialed:    map[string]bool{},
	}
	for _, u := range endpoints {
		if u == nil {
			continue
		}
		g.endpoints[address(u)] = true
		if isPrivateHost(u.Hostname()) {
			g.private.Store(true)
		}
	}
	return g
}

// checkURL refuses a private address that is written as one. Names are checked
// when they are connected to.
func (g *guard) checkURL(u *url.URL) error {
	switch {
	case g.private.Load(), g.endpoints[address(u)], !isPrivateHost(u.Hostname()):
		return nil
	case g.allowed != nil && g.allowed(u.Hostname()):
		return nil
	default:
		return fmt.Errorf("%s: %w", u.Host, errPrivate)
	}
}

// careful returns a dialer like d that looks at the address after the name has
// been resolved, at the moment of connecting.
func (g *guard) careful(d *net.Dialer) *net.Dialer {
	careful := *d
	careful.ControlContext = func(_ context.Context, _, to string, _ syscall.RawConn) error {
		addr, err := netip.ParseAddrPort(to)
		if err != nil {
			return err
		}
		if !g.private.Load() && isPrivate(addr.Addr()) {
			return fmt.Errorf("%s: %w", to, errPrivate)
		}
		return nil
	}
	return &careful
}

// connected notes that an endpoint has a private address. That alone proves
// nothing, because a forged name can lead anywhere: see answered.
func (g *guard) connected(endpoint string, remote net.Addr) {
	tcp, ok := remote.(*net.TCPAddr)
	if !ok || !isPrivate(tcp.AddrPort().Addr()) {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.dialed[endpoint] = true
}

// answered allows private addresses once an endpoint has answered from one,
// over TLS if it is configured so.
func (g *guard) answered(u *url.URL) {
	if g.private.Load() || !g.endpoints[address(u)] {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.dialed[address(u)] {
		g.private.Store(true)
	}
}

// isPrivateHost tells whether a host is written as a private address or as this
// machine's name.
func isPrivateHost(host string) bool {
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && isPrivate(addr)
}

// isPrivate tells whether an address is one that no registry on the internet
// can have: private, loopback, link-local, unique local, shared (RFC 6598, where
// clouds keep their metadata services), multicast, or unspecified, also when it
// is wrapped in IPv6 (mapped, NAT64, 6to4).
func isPrivate(a netip.Addr) bool {
	a = a.WithZone("").Unmap()
	if a.Is6() {
		b := a.As16()
		switch {
		case inPrefix(a, "64:ff9b::/96"):
			return isPrivate(netip.AddrFrom4([4]byte(b[12:16])))
		case inPrefix(a, "2002::/16"):
			return isPrivate(netip.AddrFrom4([4]byte(b[2:6])))
		}
	}
	return !a.IsGlobalUnicast() || a.IsPrivate() ||
		inPrefix(a, "0.0.0.0/8") || inPrefix(a, "100.64.0.0/10") || inPrefix(a, "fec0::/10")
}

func inPrefix(a netip.Addr, prefix string) bool { return netip.MustParsePrefix(prefix).Contains(a) }
