package upstream

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"
)

// An Egress is how requests leave for the hosts of a registry. The zero value of
// every field is a good setting.
type Egress struct {
	// Proxy chooses the proxy of a request: http, https, socks5 or socks5h, with
	// user and password if it wants them. Nil means that of the environment
	// (HTTPS_PROXY, HTTP_PROXY, NO_PROXY), [http.ProxyURL] of nil means none. A
	// proxy resolves names itself, so that behind one only addresses written as
	// numbers are refused, and DNS and Hosts serve to find the proxy.
	Proxy func(*http.Request) (*url.URL, error)

	// TLS is the client's TLS configuration; nil means the system's roots. It is
	// cloned. Its certificates are shown to the hosts of the endpoints only (of a
	// [Redirect]: to the hosts that it matches), never to a proxy or DNS server.
	TLS *tls.Config

	// DNS are the servers that resolve names, asked in order until one answers:
	// udp://ADDRESS:53, tcp://ADDRESS:53, or https://HOST/PATH for DNS over HTTPS
	// (RFC 8484). A server that gave no answer is asked last for half a minute.
	// That a name does not exist is an answer. /etc/hosts comes first, search
	// domains are not used. None means Resolver.
	DNS []*url.URL
	// Hosts are names that nobody is asked about, in lower case, with their
	// addresses: all are tried, the first one first.
	Hosts map[string][]netip.Addr
	// Resolver resolves names without DNS; nil means the system's.
	Resolver *net.Resolver

	// Source is the local address that connections leave from; the zero value
	// leaves it to the system.
	Source netip.Addr

	// DialTimeout bounds resolving a name and connecting; zero means 10 seconds.
	DialTimeout time.Duration
	// TLSTimeout bounds the TLS handshake; zero means 10 seconds.
	TLSTimeout time.Duration
	// HeaderTimeout bounds the wait from the end of a request to the headers of
	// its answer; zero means 30 seconds.
	HeaderTimeout time.Duration
	// StallTimeout is how long the bytes of a blob may stand still; zero means
	// [Options.StallTimeout].
	StallTimeout time.Duration

	// Redirects are for hosts that are not those of the endpoints: where the
	// registry redirects to, and token endpoints. The first that matches counts;
	// a host that none matches is reached in the registry's own way.
	Redirects []Redirect
}

// A Redirect is how requests leave for other hosts than the endpoints'.
type Redirect struct {
	// Pattern is a host without port, in lower case: a name or an address,
	// "*.example.com" for all names below, or "*" for everything.
	Pattern string
	// Private allows private addresses. It has no effect on a registry that is
	// not configured ([Options.PublicOnly]).
	Private bool
	// Egress is complete: nothing is inherited. Its own Redirects have no effect.
	Egress
}

const (
	defaultDialTimeout   = 10 * time.Second
	defaultTLSTimeout    = 10 * time.Second
	defaultHeaderTimeout = 30 * time.Second
)

// matches tells whether a rule is for a host.
func (r Redirect) matches(host string) bool {
	host = plainHost(host)
	if suffix, wild := strings.CutPrefix(r.Pattern, "*"); wild {
		return suffix == "" || strings.HasSuffix(host, suffix) && host != suffix
	}
	return host == r.Pattern
}

// plainHost is a host in one spelling: lower case, without the final dot.
func plainHost(host string) string { return strings.TrimSuffix(strings.ToLower(host), ".") }

// check refuses DNS servers that could never be asked.
func (e Egress) check() error {
	for _, u := range e.DNS {
		switch _, err := netip.ParseAddr(u.Hostname()); {
		case u.Scheme == "https" && u.Host != "":
		case (u.Scheme == "udp" || u.Scheme == "tcp") && err == nil:
		default:
			return fmt.Errorf("DNS server %s is not udp or tcp with an address, or https", serverName(u))
		}
	}
	for _, r := range e.Redirects {
		if err := r.Egress.check(); err != nil {
			return err
		}
	}
	return nil
}

// patience is how long one exchange may take up to the headers of its answer.
func (e Egress) patience() time.Duration {
	most := orDefault(e.DialTimeout, defaultDialTimeout) + orDefault(e.TLSTimeout, defaultTLSTimeout) +
		orDefault(e.HeaderTimeout, defaultHeaderTimeout)
	for _, r := range e.Redirects {
		most = max(most, r.Egress.patience())
	}
	return most
}

// withoutCertificate is e without what proves who the client is.
func (e Egress) withoutCertificate() Egress {
	e.TLS = anonymousTLS(e.TLS)
	return e
}

// hasCertificate tells whether a server can learn who the client is.
func (e Egress) hasCertificate() bool {
	return e.TLS != nil && (len(e.TLS.Certificates) > 0 || e.TLS.GetClientCertificate != nil)
}

// anonymousTLS is a copy of c without client certificates.
func anonymousTLS(c *tls.Config) *tls.Config {
	if c = c.Clone(); c != nil {
		c.Certificates, c.GetClientCertificate = nil, nil
	}
	return c
}
