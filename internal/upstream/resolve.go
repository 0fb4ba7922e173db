package upstream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

const (
	// serverTimeout bounds one attempt at one DNS server.
	serverTimeout = 3 * time.Second
	// serverRounds is how often each is asked: a datagram may get lost.
	serverRounds = 2
	// serverPause is how long a DNS server that gave no answer is asked last.
	serverPause = 30 * time.Second
)

// A resolver resolves names at the DNS servers of an [Egress], in their order.
type resolver struct {
	servers []*dnsServer
}

// A dnsServer is asked by Go's resolver, whose connections lead to it alone.
type dnsServer struct {
	name   string // for errors
	lookup func(ctx context.Context, host string) ([]netip.Addr, error)
	close  func()       // nil where nothing is kept open
	failed atomic.Int64 // when it last gave no answer, in nanoseconds since 1970; 0 when it did
}

// newResolver returns nil where no server is configured. It asks nobody.
func newResolver(e Egress) *resolver {
	if len(e.DNS) == 0 {
		return nil
	}
	r := &resolver{}
	for _, u := range e.DNS {
		s := &dnsServer{name: serverName(u)}
		if u.Scheme == "https" {
			h := newDoH(u, e)
			s.lookup, s.close = goLookup(h.dial), h.close
		} else {
			s.lookup = goLookup(plainDNS(u, e.Source))
		}
		r.servers = append(r.servers, s)
	}
	return r
}

// serverName names a DNS server without user and path, which may be secret.
func serverName(u *url.URL) string { return u.Scheme + "://" + u.Host }

// goLookup asks with Go's resolver over connections that dial makes. That one
// works on when its caller has left, and would try again: here, connections end
// with the lookup that they are for.
func goLookup(dial func(context.Context, string) (net.Conn, error)) func(context.Context, string) ([]netip.Addr, error) {
	return func(ctx context.Context, host string) ([]netip.Addr, error) {
		r := net.Resolver{PreferGo: true, Dial: func(_ context.Context, network, _ string) (net.Conn, error) {
			conn, err := dial(ctx, network)
			if err == nil {
				context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) }) // harmless when it is closed
			}
			return conn, err
		}}
		return r.LookupNetIP(ctx, "ip", host)
	}
}

// plainDNS connects to a server over UDP, and over TCP where that is configured
// or an answer did not fit.
func plainDNS(u *url.URL, source netip.Addr) func(context.Context, string) (net.Conn, error) {
	to := net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), "53"))
	return func(ctx context.Context, network string) (net.Conn, error) {
		if u.Scheme == "tcp" || strings.HasPrefix(network, "tcp") {
			network = "tcp"
		}
		d := net.Dialer{}
		switch local := netip.AddrPortFrom(source, 0); {
		case !source.IsValid():
		case network == "tcp":
			d.LocalAddr = net.TCPAddrFromAddrPort(local)
		default:
			d.LocalAddr = net.UDPAddrFromAddrPort(local)
		}
		return d.DialContext(ctx, network, to)
	}
}

// lookup returns the addresses of a host, never none without an error. The error
// is a [net.DNSError] where a server said that there are none, and else errNoDNS
// with what happened at each server.
func (r *resolver) lookup(ctx context.Context, host string) ([]netip.Addr, error) {
	host = plainHost(host) + "." // no search domains
	var failures []error
	for range serverRounds {
		for _, s := range r.order() {
			addrs, err := s.ask(ctx, host)
			if dns := (*net.DNSError)(nil); err == nil || errors.As(err, &dns) && dns.IsNotFound {
				return addrs, err
			}
			if ctx.Err() != nil {
				return nil, fmt.Errorf("%w: %w", errNoDNS, ctx.Err())
			}
			failures = append(failures, fmt.Errorf("%s: %w", s.name, err))
		}
	}
	return nil, fmt.Errorf("%w: %w", errNoDNS, errors.Join(failures...))
}

// order lists the servers, those behind the others that gave no answer lately.
func (r *resolver) order() []*dnsServer {
	now := time.Now()
	tired := func(s *dnsServer) int {
		if at := s.failed.Load(); at != 0 && now.Sub(time.Unix(0, at)) < serverPause {
			return 1
		}
		return 0
	}
	servers := slices.Clone(r.servers)
	slices.SortStableFunc(servers, func(a, b *dnsServer) int { return tired(a) - tired(b) })
	return servers
}

// ask asks one server and remembers whether it gave an answer.
func (s *dnsServer) ask(ctx context.Context, host string) ([]netip.Addr, error) {
	ctx, cancel := context.WithTimeout(ctx, serverTimeout)
	defer cancel()
	addrs, err := s.lookup(ctx, host)
	switch dns := (*net.DNSError)(nil); {
	case err == nil, errors.As(err, &dns) && dns.IsNotFound:
		s.failed.Store(0)
	case !errors.Is(ctx.Err(), context.Canceled): // or it was not given the time
		s.failed.Store(time.Now().UnixNano())
	}
	return addrs, err
}

// close closes idle connections.
func (r *resolver) close() {
	for _, s := range r.servers {
		if s.close != nil {
			s.close()
		}
	}
}
