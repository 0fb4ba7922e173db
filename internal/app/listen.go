package app

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"sampan/internal/config"
	"sampan/internal/edge"
)

// certificatesEvery is how often the files of certificates are looked at.
const certificatesEvery = 10 * time.Second

// listen opens everything that the configuration names. What it opened is in the
// App also when it fails.
func (a *App) listen() error {
	c := a.o.Config
	meet, err := a.meet()
	if err != nil {
		return err
	}
	l, plain, err := a.listening(c)
	if err != nil {
		return err
	}
	for _, address := range c.Listen {
		opened, err := l.Listen(address)
		if err != nil {
			return err
		}
		for _, ln := range opened {
			a.listeners = append(a.listeners, edge.Listener{Listener: ln, TLS: meet})
		}
	}
	if err := a.redirect(plain); err != nil {
		return err
	}
	if addr := c.Admin.Listen; addr != "" {
		if a.adminListener, err = net.Listen("tcp", addr); err != nil {
			return fmt.Errorf("cannot listen for administration: %w", err)
		}
	}
	return nil
}

// redirect opens the address that leads to https, if there is one.
func (a *App) redirect(plain edge.Listening) error {
	c := a.o.Config
	if c.TLS.Redirect == "" {
		return nil
	}
	opened, err := plain.Listen(c.TLS.Redirect)
	if err != nil {
		return err
	}
	handler := edge.RedirectHTTPS(securePort(a.listeners[0].Addr()))
	if a.acme != nil {
		handler = a.acme.Challenged(handler)
	}
	for _, ln := range opened {
		a.listeners = append(a.listeners, edge.Listener{Listener: ln, Handler: handler})
	}
	return nil
}

// acmeDir is where the authority's certificates are kept, within the data
// directory.
const acmeDir = "acme"

// meet is how clients are met: nil for plain HTTP.
func (a *App) meet() (*tls.Config, error) {
	c := a.o.Config
	if !c.TLS.Enabled() {
		return nil, nil
	}
	var err error
	if len(c.TLS.Certificates) > 0 {
		var pairs []edge.KeyPair
		for _, p := range c.TLS.Certificates {
			pairs = append(pairs, edge.KeyPair(p))
		}
		if a.certificates, err = edge.NewCertificates(a.o.Log, pairs); err != nil {
			return nil, err
		}
	}
	if c.TLS.ACME.Enabled() {
		a.acme, err = edge.NewACME(edge.ACMEOptions{
			Dir:       filepath.Join(c.Data.Dir, acmeDir),
			Domains:   c.TLS.ACME.Domains,
			Email:     c.TLS.ACME.Email,
			Directory: c.TLS.ACME.Directory,
			CAFile:    c.TLS.ACME.CAFile,
			Challenge: c.TLS.ACME.Challenge,
			Hook:      c.TLS.ACME.Hook,
			TLSPort:   portOf(c.Listen[0]),
			HTTPPort:  portOf(c.TLS.Redirect),
			Log:       a.o.Log,
		})
		if err != nil {
			return nil, err
		}
	}
	return edge.Meet(a.certificates, a.acme, c.TLS.HTTP2), nil
}

// portOf is the port of an address; 0 for one that has none.
func portOf(address string) int {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return 0
	}
	n, _ := strconv.Atoi(port) // it was checked
	return n
}

// listening takes the sockets of systemd where an address asks for them. Those that
// lead to https are in plain and not in l, so that "systemd" alone does not speak TLS
// there too; and nobody says by the PROXY protocol who is led.
func (a *App) listening(c *config.Config) (l, plain edge.Listening, err error) {
	if c.ProxyProtocol {
		l.Trusted = func() []netip.Prefix { return a.serving.p.Load().config.TrustedProxies }
	}
	for _, address := range append([]string{c.TLS.Redirect}, c.Listen...) {
		if !strings.HasPrefix(address, "systemd") {
			continue
		}
		if l.Sockets, err = edge.Sockets(); err != nil {
			return l, plain, err
		}
		name := strings.TrimPrefix(c.TLS.Redirect, "systemd:")
		if sockets := l.Sockets[name]; len(sockets) > 0 {
			plain.Sockets = map[string][]net.Listener{name: sockets}
			delete(l.Sockets, name)
		}
		break
	}
	return l, plain, nil
}

// securePort is the port that clients of https use; 443 where the listener has
// none.
func securePort(addr net.Addr) string {
	if _, port, err := net.SplitHostPort(addr.String()); err == nil {
		return port
	}
	return "443"
}

// hsts is for how long, with TLS only.
func hsts(c *config.Config) time.Duration {
	if !c.TLS.Enabled() {
		return 0
	}
	return time.Duration(c.TLS.HSTS)
}
