// Package registrytest is an in-process upstream registry that misbehaves on
// demand: for tests, for the demo and for benchmarks.
//
// A [Registry] is three sites of one origin: the registry itself, the CDN that
// its blobs may be redirected to, and the token server. They listen on loopback
// ports, or in memory where a test runs on a fake clock. Its content is
// generated from seeds, so that a layer of a GiB costs neither memory nor disk.
// How it behaves is a [Behavior], swapped at any moment; the zero Behavior is a
// plain, correct, anonymous registry. What it was asked is counted.
//
// It promises that nothing is random and nothing sleeps to synchronise: a
// response that hangs waits for a [Gate], for its client to leave or for
// [Registry.Close], and Close returns when every goroutine of the registry has
// ended.
//
// It does not accept pushes, verify that names are valid, or keep content that
// was not given to it by a method. It imports no testing package.
//
// Lock order: none; no method holds two of its locks.
package registrytest

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
)

// Options of [Start]. The zero value is a plain registry on free loopback
// ports.
type Options struct {
	// Addr is where the registry listens; empty is "127.0.0.1:0". The CDN and
	// the token server take free ports of the same address.
	Addr string
	// InMemory opens no sockets: clients come through [Registry.DialContext] or
	// [Registry.Transport]. Everything then runs inside a testing/synctest
	// bubble, given that Start and Close are called in it.
	InMemory bool
	// Hostname is the name in the URLs that the registry gives out; empty is
	// the address it listens on, in memory "registry.test". A name that the
	// system does not resolve needs clients that use [Registry.DialContext].
	Hostname string
	// TLS serves HTTPS, with HTTP/2, under a certificate of
	// [Registry.CertPool].
	TLS bool
	// HTTP1 keeps HTTP/2 out of a TLS registry.
	HTTP1 bool
	// CountsOnly keeps numbers and no list of requests, so that memory does not
	// grow with the number of requests.
	CountsOnly bool
	// Behavior to start with.
	Behavior Behavior
}

// A role is what one of the sites does.
type role int

const (
	roleRegistry role = iota
	roleCDN
	roleToken
	roles // their number
)

// A site is one listener.
type site struct {
	port   string
	listen net.Listener
	memory *pipeListener // nil on sockets
	server *http.Server
}

// A Registry is a running upstream. Its methods may be called concurrently.
type Registry struct {
	opts     Options
	scheme   string
	hostname string
	sites    [roles]site
	cert     tls.Certificate
	pool     *x509.CertPool
	certPEM  []byte

	state      atomic.Pointer[state]
	tokenEpoch atomic.Int64 // tokens of earlier epochs are invalid
	urlEpoch   atomic.Int64 // the same for redirect URLs

	content  content
	count    counters
	injected injections
	buffers  sync.Pool // of *[]byte, for bodies

	done    chan struct{} // closed by Close
	close   sync.Once
	serving sync.WaitGroup // the Serve calls
	running sync.WaitGroup // connections and handlers

	mu         sync.Mutex
	closed     bool
	transports []*http.Transport // whose idle connections Close ends
}

// Start opens the listeners and serves. The caller closes the Registry.
func Start(opts Options) (*Registry, error) {
	r := &Registry{opts: opts, scheme: "http", done: make(chan struct{})}
	r.content.init()
	r.count.init(opts.CountsOnly)
	r.buffers.New = func() any { b := make([]byte, 256<<10); return &b }
	r.SetBehavior(opts.Behavior)
	if err := r.listen(); err != nil {
		return nil, fmt.Errorf("registrytest: %w", err)
	}
	if opts.TLS {
		r.scheme = "https"
		if err := r.makeCertificate(); err != nil {
			r.closeListeners()
			return nil, fmt.Errorf("registrytest: %w", err)
		}
	}
	for i := range r.sites {
		r.serve(role(i))
	}
	return r, nil
}

func (r *Registry) listen() error {
	addr := r.opts.Addr
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	r.hostname = r.opts.Hostname
	for i := range r.sites {
		s := &r.sites[i]
		if r.opts.InMemory {
			s.port = strconv.Itoa(5000 + i)
			s.memory = newPipeListener("registry.test:" + s.port)
			s.listen = s.memory
			if r.hostname == "" {
				r.hostname = "registry.test"
			}
			continue
		}
		l, err := net.Listen("tcp", addr)
		if err != nil {
			r.closeListeners()
			return err
		}
		s.listen = l
		var host string
		if host, s.port, err = net.SplitHostPort(l.Addr().String()); err != nil {
			r.closeListeners()
			return err
		}
		if r.hostname == "" {
			r.hostname = host
		}
		addr = net.JoinHostPort(host, "0")
	}
	return nil
}

func (r *Registry) closeListeners() {
	for i := range r.sites {
		if l := r.sites[i].listen; l != nil {
			_ = l.Close() // it accepted nothing
		}
	}
}

func (r *Registry) serve(as role) {
	s := &r.sites[as]
	s.server = &http.Server{
		Handler:   r.handler(as),
		ErrorLog:  slog.NewLogLogger(slog.DiscardHandler, slog.LevelError), // aborted handlers are the purpose here
		ConnState: r.connState,
	}
	if r.opts.TLS {
		s.server.TLSConfig = &tls.Config{Certificates: []tls.Certificate{r.cert}, MinVersion: tls.VersionTLS12}
		if r.opts.HTTP1 {
			s.server.Protocols = new(http.Protocols)
			s.server.Protocols.SetHTTP1(true)
		}
	}
	r.serving.Go(func() {
		// Both return http.ErrServerClosed at Close; a listener that fails by
		// itself shows at the clients.
		if r.opts.TLS {
			_ = s.server.ServeTLS(s.listen, "", "")
		} else {
			_ = s.server.Serve(s.listen)
		}
	})
}

func (r *Registry) connState(_ net.Conn, s http.ConnState) {
	switch s {
	case http.StateNew:
		r.count.connections.Add(1)
		r.running.Add(1)
	case http.StateClosed, http.StateHijacked:
		r.running.Done()
	}
}

// Close ends all responses and connections and waits for them. It returns nil;
// closing again is harmless.
func (r *Registry) Close() error {
	r.close.Do(func() {
		close(r.done)
		r.mu.Lock()
		r.closed = true
		transports := r.transports
		r.mu.Unlock()
		for _, t := range transports {
			t.CloseIdleConnections()
		}
		for i := range r.sites {
			_ = r.sites[i].server.Close() // what it could not close is gone already
			_ = r.sites[i].listen.Close() // when Serve had not yet taken it
		}
		r.serving.Wait()
		r.running.Wait()
	})
	return nil
}

// URL returns the base of the registry, "http://127.0.0.1:port", without a
// slash at its end.
func (r *Registry) URL() string { return r.siteURL(roleRegistry, "") }

// Host returns the registry's host and port.
func (r *Registry) Host() string { return net.JoinHostPort(r.hostname, r.sites[roleRegistry].port) }

// CDNURL returns the base of the redirect target.
func (r *Registry) CDNURL() string { return r.siteURL(roleCDN, "") }

// TokenURL returns the address of the token endpoint, the realm of the
// challenges.
func (r *Registry) TokenURL() string { return r.siteURL(roleToken, "") + "/token" }

// siteURL names a site under another host name than its own if host is not
// empty.
func (r *Registry) siteURL(as role, host string) string {
	if host == "" {
		host = r.hostname
	}
	return r.scheme + "://" + net.JoinHostPort(host, r.sites[as].port)
}

// DialContext connects to the site whose port addr has, whatever its host name,
// and to nothing else: it suits [http.Transport] and keeps a test from leaving
// the machine.
func (r *Registry) DialContext(ctx context.Context, _, addr string) (net.Conn, error) {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	for i := range r.sites {
		s := &r.sites[i]
		switch {
		case s.port != port:
		case s.memory != nil:
			return s.memory.dial(ctx)
		default:
			var d net.Dialer
			return d.DialContext(ctx, "tcp", s.listen.Addr().String())
		}
	}
	return nil, &net.OpError{Op: "dial", Net: "tcp", Err: errors.New(addr + " is no site of this registry")}
}

// Transport returns a new transport that reaches the three sites, trusts their
// certificate, asks for no compression, and whose idle connections end at Close.
func (r *Registry) Transport() *http.Transport {
	t := &http.Transport{
		DialContext:        r.DialContext,
		TLSClientConfig:    &tls.Config{RootCAs: r.pool, MinVersion: tls.VersionTLS12},
		ForceAttemptHTTP2:  !r.opts.HTTP1,
		DisableCompression: true,
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.transports = append(r.transports, t)
	return t
}

// Client returns a client over a new [Registry.Transport].
func (r *Registry) Client() *http.Client { return &http.Client{Transport: r.Transport()} }

// Handler answers as the site whose port the Host header names, and as the
// registry for any other host.
func (r *Registry) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		as := roleRegistry
		if _, port, err := net.SplitHostPort(req.Host); err == nil {
			for i := range r.sites {
				if r.sites[i].port == port {
					as = role(i)
				}
			}
		}
		r.handler(as).ServeHTTP(w, req)
	})
}

// sign makes the signature of tokens and redirect URLs. The key is no secret:
// whoever shares the process may forge.
func sign(purpose, text string) string {
	mac := hmac.New(sha256.New, []byte(purpose))
	mac.Write([]byte(text))
	return hex.EncodeToString(mac.Sum(nil)[:16])
}
