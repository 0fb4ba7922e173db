package upstream

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// TransportOptions configure a [Transport]. The zero value of every field is a
// good setting.
type TransportOptions struct {
	// Endpoints are the configured addresses; they, and no others, may be
	// private or lead to private ones.
	Endpoints []*url.URL
	// PublicOnly refuses private addresses even for Endpoints, and keeps client
	// certificates from them: they are made from a name that a client chose.
	PublicOnly bool
	// Egress is how requests leave.
	Egress Egress
	// HTTP1 keeps every connection at HTTP/1.1.
	HTTP1 bool
	// StorageHTTP2 allows HTTP/2 for the storage that a registry redirects to
	// for blobs. HTTP/1.1, the default, costs half the CPU time per byte and
	// gives each blob its own connection.
	StorageHTTP2 bool
}

const (
	idleTimeout    = 90 * time.Second
	maxHeaderBytes = 1 << 20
	bufferSize     = 64 << 10
	maxIdlePerHost = 128
)

// A Transport carries the requests of one [Registry]. It keeps connections
// open, never compresses, and does not connect to private addresses that a
// remote party chose.
type Transport struct {
	hosts map[string]bool // names of the endpoints, without port
	own   *route          // to them
	rules []*route        // to where they redirect, in the order of Egress.Redirects
	rest  *route          // to where no rule is for; own where there is no difference
	guard *guard
}

// NewTransport makes a Transport. It dials nobody.
func NewTransport(o TransportOptions) *Transport {
	t := &Transport{hosts: map[string]bool{}}
	for _, u := range o.Endpoints {
		if u != nil {
			t.hosts[plainHost(u.Hostname())] = true
		}
	}
	trusted := o.Endpoints
	if o.PublicOnly {
		trusted = nil
		o.Egress = o.Egress.withoutCertificate()
	}
	t.guard = newGuard(trusted)
	t.own = newRoute(o, Redirect{Egress: o.Egress}, t.guard)
	t.rest = t.own
	if o.Egress.hasCertificate() {
		t.rest = newRoute(o, Redirect{Egress: o.Egress.withoutCertificate()}, t.guard)
	}
	for _, rule := range o.Egress.Redirects {
		rule.Private = rule.Private && !o.PublicOnly
		t.rules = append(t.rules, newRoute(o, rule, t.guard))
	}
	t.guard.allowed = func(host string) bool { return t.route(host).rule.Private }
	return t
}

// route finds the way to a host.
func (t *Transport) route(host string) *route {
	if t.hosts[plainHost(host)] {
		return t.own
	}
	for _, r := range t.rules {
		if r.rule.matches(host) {
			return r
		}
	}
	return t.rest
}

// stall is how long the bytes of a blob from u may stand still; zero where that
// is not configured.
func (t *Transport) stall(u *url.URL) time.Duration { return t.route(u.Hostname()).rule.StallTimeout }

// RoundTrip implements [http.RoundTripper].
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := t.route(req.URL.Hostname()).roundTrip(req)
	if err == nil {
		t.guard.answered(req.URL)
	}
	return resp, err
}

// CloseIdleConnections closes the connections that carry no request.
func (t *Transport) CloseIdleConnections() {
	t.own.close()
	t.rest.close()
	for _, r := range t.rules {
		r.close()
	}
}

// A route is one way to leave, with its own connections: one that a rule allowed
// must not be found by a request that the rule is not for.
type route struct {
	rule    Redirect // without a pattern for own and rest
	proxy   func(*http.Request) (*url.URL, error)
	common  *http.Transport
	storage *http.Transport
	names   *resolver // nil where the system resolves names
}

func newRoute(o TransportOptions, rule Redirect, g *guard) *route {
	r := &route{rule: rule, proxy: rule.Proxy, names: newResolver(rule.Egress)}
	if r.proxy == nil {
		r.proxy = environmentProxy()
	}
	d := newDialer(rule, g, r.names)
	r.common = newHTTPTransport(rule.Egress, d, !o.HTTP1)
	r.storage = r.common
	if !o.HTTP1 && !o.StorageHTTP2 {
		r.storage = newHTTPTransport(rule.Egress, d, false)
	}
	return r
}

func (r *route) roundTrip(req *http.Request) (*http.Response, error) {
	hop, err := r.hop(req)
	if err != nil {
		if req.Body != nil {
			_ = req.Body.Close() // as every RoundTripper must
		}
		return nil, err
	}
	via := r.common
	if isStorage(req.Context()) {
		via = r.storage
	}
	resp, err := via.RoundTrip(req.WithContext(withHop(req.Context(), hop)))
	return resp, hop.explain(err)
}

func (r *route) close() {
	r.common.CloseIdleConnections()
	r.storage.CloseIdleConnections()
	if r.names != nil {
		r.names.close()
	}
}

func newHTTPTransport(e Egress, d *dialer, http2 bool) *http.Transport {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(http2)
	return &http.Transport{
		Proxy:                  hopURL,
		OnProxyConnectResponse: proxyAnswered,
		DialContext:            d.dial,
		TLSClientConfig:        e.TLS.Clone(),
		TLSHandshakeTimeout:    orDefault(e.TLSTimeout, defaultTLSTimeout),
		ResponseHeaderTimeout:  orDefault(e.HeaderTimeout, defaultHeaderTimeout),
		IdleConnTimeout:        idleTimeout,
		MaxIdleConnsPerHost:    maxIdlePerHost,
		MaxResponseHeaderBytes: maxHeaderBytes,
		ReadBufferSize:         bufferSize,
		DisableCompression:     true,
		Protocols:              &protocols,
		HTTP2: &http.HTTP2Config{
			MaxReadFrameSize: bufferSize,
			SendPingTimeout:  30 * time.Second, // finds dead connections
			PingTimeout:      15 * time.Second,
		},
	}
}

type storageKey struct{}

// withStorage marks a request for a blob at another host than the registry's.
func withStorage(ctx context.Context) context.Context {
	return context.WithValue(ctx, storageKey{}, true)
}

func isStorage(ctx context.Context) bool { return ctx.Value(storageKey{}) != nil }
