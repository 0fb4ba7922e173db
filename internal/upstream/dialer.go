package upstream

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"
)

// headStart is how long an address of a name may take before the next one is
// tried beside it (RFC 8305 has 250 ms for it).
const headStart = 300 * time.Millisecond

// A dialer connects to servers and proxies by the rules of one [Egress].
type dialer struct {
	guard      *guard
	private    bool // private addresses are allowed, whoever chose them
	plain      *net.Dialer
	careful    *net.Dialer // refuses private addresses
	hosts      map[string][]netip.Addr
	names      *resolver // nil where the system resolves names
	source     netip.Addr
	timeout    time.Duration
	tls        *tls.Config // for proxies
	tlsTimeout time.Duration
}

func newDialer(rule Redirect, g *guard, names *resolver) *dialer {
	plain := netDialer(rule.Egress)
	return &dialer{
		guard:      g,
		private:    rule.Private,
		plain:      plain,
		careful:    g.careful(plain),
		hosts:      rule.Hosts,
		names:      names,
		source:     rule.Source,
		timeout:    orDefault(rule.DialTimeout, defaultDialTimeout),
		tls:        anonymousTLS(rule.TLS),
		tlsTimeout: orDefault(rule.TLSTimeout, defaultTLSTimeout),
	}
}

func netDialer(e Egress) *net.Dialer {
	d := &net.Dialer{KeepAlive: 30 * time.Second, Resolver: e.Resolver}
	if e.Source.IsValid() {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(e.Source, 0))
	}
	return d
}

// dial is the DialContext of net/http.
func (d *dialer) dial(ctx context.Context, _, to string) (net.Conn, error) {
	to = strings.ToLower(to)
	if h := hopOf(ctx); h != nil {
		conn, err := d.dialProxy(ctx, h, to)
		if err != nil {
			return nil, &proxyError{err: err}
		}
		return conn, nil
	}
	own := d.guard.endpoints[to]
	by := d.careful
	if own || d.private {
		by = d.plain
	}
	conn, err := d.connect(ctx, by, to)
	if err == nil && own {
		d.guard.connected(to, conn.RemoteAddr())
	}
	return conn, err
}

func (d *dialer) dialProxy(ctx context.Context, h *hop, to string) (net.Conn, error) {
	conn, err := d.connect(ctx, d.plain, to)
	if err != nil || !h.secure {
		return conn, err
	}
	c := d.tls.Clone()
	if c == nil {
		c = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	c.ServerName, c.NextProtos = h.url.Hostname(), nil
	ctx, cancel := context.WithTimeout(ctx, d.tlsTimeout)
	defer cancel()
	secure := tls.Client(conn, c)
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return secure, nil
}

// connect resolves a name by the dialer's rules and connects to it.
func (d *dialer) connect(ctx context.Context, by *net.Dialer, to string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	host, port, err := net.SplitHostPort(to)
	if err != nil {
		return nil, err
	}
	addrs, err := d.addresses(ctx, host)
	switch {
	case err != nil:
		return nil, err
	case addrs == nil:
		return by.DialContext(ctx, "tcp", to)
	}
	usable := make([]string, 0, len(addrs))
	for _, a := range addrs {
		if a = a.Unmap(); !d.source.IsValid() || a.Is4() == d.source.Is4() {
			usable = append(usable, net.JoinHostPort(a.String(), port))
		}
	}
	if len(usable) == 0 {
		return nil, fmt.Errorf("%s has no address that %s can connect to", host, d.source)
	}
	return connectFirst(ctx, by.DialContext, usable)
}

// addresses returns those of a host that only the configuration tells, nil for
// a host that the system resolves.
func (d *dialer) addresses(ctx context.Context, host string) ([]netip.Addr, error) {
	if list := d.hosts[plainHost(host)]; len(list) > 0 {
		return list, nil
	}
	if _, err := netip.ParseAddr(host); err == nil || d.names == nil {
		return nil, nil
	}
	return d.names.lookup(ctx, host)
}

// connectFirst connects to the first address that answers: the next is tried when one
// fails or has had its head start. It returns when all attempts have ended. The
// error is that of the first that failed.
func connectFirst(ctx context.Context, dial func(context.Context, string, string) (net.Conn, error), addrs []string) (net.Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type attempt struct {
		conn net.Conn
		err  error
	}
	ended := make(chan attempt)
	running := 0
	start := func() {
		to := addrs[0]
		addrs = addrs[1:]
		running++
		go func() {
			conn, err := dial(ctx, "tcp", to)
			ended <- attempt{conn, err}
		}()
	}
	start()
	timer := time.NewTimer(headStart)
	defer timer.Stop()
	var won net.Conn
	var failed error
	for running > 0 {
		select {
		case <-timer.C:
		case a := <-ended:
			running--
			switch {
			case a.err == nil && won == nil:
				won = a.conn
				cancel()
			case a.err == nil:
				_ = a.conn.Close() // came second
			case failed == nil:
				failed = a.err
			}
		}
		if won == nil && len(addrs) > 0 {
			start()
			timer.Reset(headStart)
		}
	}
	if won != nil {
		return won, nil
	}
	return nil, failed
}
