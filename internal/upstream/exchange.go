package upstream

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"sampan/internal/oci"
)

const (
	// drainBytes and drainTime bound what is read of a body that nobody wants,
	// so that its connection can be used again.
	drainBytes = 64 << 10
	drainTime  = 500 * time.Millisecond
	// oneByte is the Range of a request that only asks whether a blob is there.
	oneByte = "bytes=0-0"
	// maxErrorBytes bounds what is read of the body of an error.
	maxErrorBytes = 64 << 10
)

// A question is one request of the distribution protocol about a repository.
type question struct {
	kind    kind
	method  string
	repo    oci.Repository
	below   string      // path below the repository: "manifests/latest"
	url     *url.URL    // instead of below: a further page of a list
	header  http.Header // nil for none; not changed
	unknown oci.Code    // what 404 means
}

// redirected returns q for another address, where a HEAD has become a GET: of a
// blob that asks for one byte.
func (q question) redirected(method string) question {
	if q.method == http.MethodHead && method == http.MethodGet && q.kind == kindBlob {
		q.header = q.header.Clone()
		q.header.Set("Range", oneByte)
	}
	q.method = method
	return q
}

// A reply is an answer with its body, to be closed by whoever holds it.
type reply struct {
	*http.Response
	method string   // of the last request; GET after a HEAD that was redirected
	url    *url.URL // that gave the answer, after redirects
	moved  bool     // the answer comes from another origin than was asked
	ctx    context.Context
	cancel context.CancelCauseFunc
}

// close gives the connection back if what is left of the body is little and
// comes soon, and cuts it otherwise.
func (p *reply) close() {
	timer := time.AfterFunc(drainTime, func() { p.cancel(errSlow) })
	_, _ = io.CopyN(io.Discard, p.Body, drainBytes) // only a try
	timer.Stop()
	p.cut()
}

// cut closes the body without reading on.
func (p *reply) cut() {
	_ = p.Body.Close() // nothing was written
	p.cancel(nil)
}

// askAs sends a question to one endpoint as one account, with authentication and
// redirects, and returns an answer of status 2xx; everything else is an error.
func (r *Registry) askAs(ctx context.Context, ep *endpoint, q question) (*reply, error) {
	u := q.url
	if u == nil {
		u = ep.url(q.repo, q.below)
	}
	own := origin(u) == origin(ep.base)
	var g grant
	if own {
		var err error
		if g, err = r.authorize(ctx, ep, q.repo); err != nil {
			return nil, err
		}
	}
	rep, err := r.follow(ctx, ep, q, u, g.header)
	if err != nil {
		return nil, err
	}
	if rep.moved && rep.StatusCode == http.StatusUnauthorized {
		if rep, err = r.askMoved(ctx, q, rep); err != nil {
			return nil, err
		}
	}
	if !own || !g.worthRenewing(ep, rep) {
		return r.check(q, rep, g)
	}
	status, header := rep.StatusCode, rep.Header
	rep.close()
	if g, err = r.renew(ctx, ep, q.repo, g, status, header); err != nil {
		return nil, err
	}
	if rep, err = r.follow(ctx, ep, q, u, g.header); err != nil {
		return nil, err
	}
	return r.check(q, rep, g)
}

// askMoved asks again where a redirect has led to another registry that wants a
// token, as a registry that is only a name for others does (lscr.io for
// ghcr.io). The token is an anonymous one for the scope that the other registry
// names: it knows the repository by another path.
func (r *Registry) askMoved(ctx context.Context, q question, rep *reply) (*reply, error) {
	c, _ := chooseChallenge(rep.Header)
	if c.scheme != "bearer" || c.params["scope"] == "" {
		return rep, nil
	}
	rep.close()
	other := &endpoint{site: &site{base: &url.URL{Scheme: rep.url.Scheme, Host: rep.url.Host, Path: "/v2/"}}}
	g, err := r.token(ctx, other, c, Credential{}, c.params["scope"])
	if err != nil {
		return nil, err
	}
	q = q.redirected(rep.method)
	if rep, err = r.follow(ctx, other, q, rep.url, g.header); err != nil {
		return nil, err
	}
	rep.moved = true
	return rep, nil
}

// check lets answers of status 2xx pass and turns others into errors.
func (r *Registry) check(q question, rep *reply, g grant) (*reply, error) {
	if rep.StatusCode/100 != 2 {
		err := r.failure(q, rep, g)
		rep.close()
		return nil, err
	}
	if enc := rep.Header.Get("Content-Encoding"); enc != "" && enc != "identity" {
		rep.cut()
		return nil, r.noAnswer(nil, "sent encoded content although it was asked for plain bytes")
	}
	return rep, nil
}

// send makes one HTTP exchange up to the headers of the answer.
func (r *Registry) send(ctx context.Context, k kind, method string, u *url.URL, header http.Header, moved bool) (rep *reply, err error) {
	ctx, span := oci.StartSpan(ctx, "upstream "+method, trace.WithSpanKind(trace.SpanKindClient))
	defer func() {
		if span.On() {
			r.describe(span, k, method, u, moved, rep)
		}
		span.End(err)
	}()
	hop, cancel := context.WithCancelCause(ctx)
	if moved && k == kindBlob {
		hop = withStorage(hop)
	}
	req := (&http.Request{
		Method:     method,
		URL:        u,
		Host:       u.Host,
		Header:     header.Clone(),
		Proto:      "HTTP/1.1",
		ProtoMajor: 1,
		ProtoMinor: 1,
	}).WithContext(hop)
	timer := time.AfterFunc(r.timeout, func() { cancel(errSlow) })
	start := time.Now()
	resp, err := r.transport.RoundTrip(req)
	took := time.Since(start)
	timer.Stop()
	if err != nil {
		if errors.Is(context.Cause(hop), errSlow) {
			err = errSlow
		}
		cancel(nil)
		r.metrics.sent(k, 0, took)
		r.log.LogAttrs(ctx, slog.LevelDebug, "upstream request failed", slog.String("registry", r.registry.String()),
			slog.String("method", method), slog.String("upstream", redact(u)), slog.Duration("dur", took))
		return nil, elsewhere(r.broken(ctx, u, err), moved)
	}
	r.metrics.sent(k, resp.StatusCode, took)
	r.log.LogAttrs(ctx, slog.LevelDebug, "upstream request", slog.String("registry", r.registry.String()),
		slog.String("method", method), slog.String("upstream", redact(u)), slog.Int("status", resp.StatusCode),
		slog.Duration("dur", took))
	return &reply{Response: resp, method: method, url: u, moved: moved, ctx: hop, cancel: cancel}, nil
}

// isEndpoint tells whether an address is at one of the registry's own endpoints.
func (r *Registry) isEndpoint(u *url.URL) bool {
	return slices.ContainsFunc(r.endpoints, func(ep *endpoint) bool { return origin(ep.base) == origin(u) })
}

// describe tells of one exchange who was asked for what. Where a redirect leads says
// the host alone: what follows it may be signed.
func (r *Registry) describe(span oci.Span, k kind, method string, u *url.URL, moved bool, rep *reply) {
	span.Set(
		attribute.String("sampan.registry", r.registry.String()), attribute.String("sampan.kind", string(k)),
		attribute.String("http.request.method", method), attribute.String("server.address", u.Host), attribute.Bool("sampan.redirected", moved),
	)
	if !moved && r.isEndpoint(u) {
		span.Set(attribute.String("url.path", u.Path))
	}
	if rep != nil {
		span.Set(attribute.Int("http.response.status_code", rep.StatusCode))
	}
}

// read returns the whole body of an answer and closes it. A body longer than
// limit bytes is errTooLarge.
func (r *Registry) read(ctx context.Context, k kind, rep *reply, limit int64) ([]byte, error) {
	if rep.ContentLength > limit {
		rep.cut()
		return nil, errTooLarge
	}
	b, err := io.ReadAll(io.LimitReader(rep.Body, limit+1))
	r.metrics.received(k, len(b))
	switch {
	case err != nil:
		rep.cut()
		return nil, r.broken(ctx, rep.url, err)
	case int64(len(b)) > limit:
		rep.cut()
		return nil, errTooLarge
	}
	rep.close()
	return b, nil
}
