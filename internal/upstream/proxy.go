package upstream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"

	"golang.org/x/net/http/httpproxy"

	"sampan/internal/upstream/failure"
)

// environmentProxy chooses the proxy that HTTPS_PROXY, HTTP_PROXY and NO_PROXY
// name, as the environment is now.
func environmentProxy() func(*http.Request) (*url.URL, error) {
	choose := httpproxy.FromEnvironment().ProxyFunc()
	return func(req *http.Request) (*url.URL, error) { return choose(req.URL) }
}

// A hop is the proxy that a request goes through; nil means none. It travels in
// the context of the request, so that the dialer knows for sure whether it
// connects to a proxy, which may be private, or to where a remote party led.
type hop struct {
	// url is what net/http is told. A proxy that is spoken to over TLS is http
	// there: the dialer makes the TLS connection, in which no certificate of the
	// client is shown.
	url    *url.URL
	secure bool
}

// hop chooses the proxy of a request.
func (r *route) hop(req *http.Request) (*hop, error) {
	u, err := r.proxy(req)
	if err != nil {
		return nil, &proxyError{err: errBadProxy} // whose text may hold a password
	}
	if u == nil {
		return nil, nil
	}
	if u.Scheme != "https" {
		return &hop{url: u}, nil
	}
	plain := *u
	plain.Scheme = "http"
	if u.Port() == "" {
		plain.Host = net.JoinHostPort(u.Hostname(), "443")
	}
	return &hop{url: &plain, secure: true}, nil
}

type hopKey struct{}

func withHop(ctx context.Context, h *hop) context.Context {
	return context.WithValue(ctx, hopKey{}, h)
}

// hopOf returns the proxy to which a connection is made, nil for none. net/http
// dials with the values of the context of the request that needs the connection.
func hopOf(ctx context.Context) *hop {
	h, _ := ctx.Value(hopKey{}).(*hop)
	return h
}

// hopURL tells net/http the proxy of a request.
func hopURL(req *http.Request) (*url.URL, error) {
	if h := hopOf(req.Context()); h != nil {
		return h.url, nil
	}
	return nil, nil
}

// A proxyError is a failure of the proxy, not of what is behind it. It never
// holds the proxy's credentials.
type proxyError struct {
	status int   // with which it refused to connect; 0 when it gave none
	err    error // nil when it gave a status
}

func (e *proxyError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("proxy: status %d", e.status)
	}
	return fmt.Sprintf("proxy: %v", e.err)
}

func (e *proxyError) Unwrap() error { return e.err }

// failure is what an error of the registry behind the proxy is about.
func (e *proxyError) failure() failure.Facts {
	switch {
	case e.status == http.StatusProxyAuthRequired, e.status == http.StatusUnauthorized: // the latter is tinyproxy's
		return failure.Facts{Kind: failure.ProxyLogin}
	case e.status != 0:
		return failure.Facts{Kind: failure.ProxyStatus, Status: e.status}
	case errors.Is(e.err, errSOCKS):
		return failure.Facts{Kind: failure.ProxySOCKS}
	default:
		f := silence(e.err)
		f.Proxy = true
		return f
	}
}

// proxyAnswered looks at a proxy's answer to CONNECT.
func proxyAnswered(_ context.Context, _ *url.URL, _ *http.Request, resp *http.Response) error {
	if resp.StatusCode != http.StatusOK {
		return &proxyError{status: resp.StatusCode}
	}
	return nil
}

// explain tells the refusals of a SOCKS proxy, which have no type, from failures
// behind it.
func (h *hop) explain(err error) error {
	var op *net.OpError
	if h != nil && errors.As(err, &op) && op.Op == "socks connect" {
		return &proxyError{err: fmt.Errorf("%w: %w", errSOCKS, err)}
	}
	return err
}
