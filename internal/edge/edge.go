// Package edge is where requests arrive: the listener with its limits, one
// access line and the counters for each request, and the drain at the end.
//
// It promises that every request gets exactly one access line, that limits on
// headers, bodies and idle connections hold while a blob may take hours, and that the
// wrapping does not keep the kernel from sending files.
//
// It knows no registries: what a request was about it reads from its
// [oci.Trace].
package edge

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"runtime/debug"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	oteltrace "go.opentelemetry.io/otel/trace"

	"sampan/internal/oci"
)

// Options of an [Edge]. Handler and Log are needed.
type Options struct {
	Handler http.Handler
	Log     *slog.Logger
	// Access receives one line per request; nil for none.
	Access *slog.Logger
	// Tracer begins the spans of requests; nil begins none.
	Tracer oteltrace.Tracer
	// Denied is told of requests that a rule refused, which their [oci.Trace] says
	// more about; nil for nobody.
	Denied func(context.Context, Denial)
	// Failed is told of requests that a rule or a limit refused, of answers of 5xx, and
	// of those that broke off; not so of a client that left. Nil is for nobody.
	Failed func(context.Context, Failure)
	// Registerer receives the metrics; nil for none.
	Registerer prometheus.Registerer
	// Registries are those that metrics name; requests to others are counted
	// under "other", so that strangers cannot make labels.
	Registries []oci.Registry
	// Trusted may say by X-Forwarded-For who the client is; empty means nobody.
	Trusted []netip.Prefix
	// Connections bounds those of all clients, and ConnectionsPerClient those of
	// one address (one /64 of IPv6); 0 is no bound.
	Connections, ConnectionsPerClient int
	// MinRate is how many bytes per second a client must take, over a minute or
	// two; 0 is no bound.
	MinRate int64
	// HSTS is how long browsers are told to use https only; 0 tells them nothing.
	HSTS time.Duration
	// BodyTimeout is how long the body of a request may take; 0 means 15 s.
	BodyTimeout time.Duration
}

// A Denial is a request that a rule refused.
type Denial struct {
	Method, Path string
	Status       int
}

// A Failure is an answer that was not what its client wanted. Its [oci.Trace] says more.
type Failure struct {
	Method, Path string
	Status       int
	// Broken tells that the answer ended before its end, whatever its status.
	Broken bool
}

// refusal tells whether a status is that of a refusal by itself. A 401 is how a client
// learns that it may say who it is, and none.
func refusal(status int) bool {
	return status == http.StatusForbidden || status == http.StatusTooManyRequests
}

// Edge serves a handler. Make one with [New].
type Edge struct {
	o       Options
	metrics *metrics
	conns   *conns
	bounds  atomic.Pointer[Bounds]
	known   atomic.Pointer[map[oci.Registry]bool]
	hsts    string // the header; empty for none
	pulls   pulls

	// running is held for reading by each request: who holds it for writing has
	// seen the last one end.
	running sync.RWMutex
}

// New makes an Edge.
func New(o Options) (*Edge, error) {
	if o.Handler == nil || o.Log == nil {
		return nil, errors.New("edge: Handler and Log are needed")
	}
	m, err := newMetrics(o.Registerer)
	if err != nil {
		return nil, fmt.Errorf("edge: %w", err)
	}
	if o.BodyTimeout == 0 {
		o.BodyTimeout = bodyTimeout
	}
	e := &Edge{o: o, metrics: m}
	e.conns = newConns(m.refused.Inc)
	e.Bound(Bounds{Trusted: o.Trusted, Connections: o.Connections, ConnectionsPerClient: o.ConnectionsPerClient, MinRate: o.MinRate})
	if o.Registerer != nil {
		err := o.Registerer.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "sampan_edge_connections", Help: "Connections of clients that are open.",
		}, func() float64 { return float64(e.conns.number()) }))
		if err != nil {
			return nil, fmt.Errorf("edge: %w", err)
		}
	}
	if o.HSTS > 0 {
		e.hsts = "max-age=" + strconv.FormatInt(int64(o.HSTS.Seconds()), 10)
	}
	e.Know(o.Registries)
	return e, nil
}

// Bounds are those of [Options] that may be replaced while an Edge serves.
type Bounds struct {
	Trusted                           []netip.Prefix // not changed
	Connections, ConnectionsPerClient int
	MinRate                           int64
}

// Bound replaces them. Connections and requests that are there go on as they began.
func (e *Edge) Bound(b Bounds) {
	e.bounds.Store(&b)
	e.conns.bound(b)
}

// Know replaces the registries that metrics name.
func (e *Edge) Know(registries []oci.Registry) {
	known := make(map[oci.Registry]bool)
	for _, r := range registries {
		known[r] = true
	}
	e.known.Store(&known)
}

// A Listener is where clients come.
type Listener struct {
	net.Listener
	// TLS is how they are met; nil means plain HTTP. It is not changed.
	TLS *tls.Config
	// Handler answers instead of the edge's own; nil means that one. It gets no
	// access lines.
	Handler http.Handler
}

// Serve answers on the listeners until ctx is done, then lets running responses end
// for at most grace and breaks those that are left. It closes the listeners, and it
// returns when the last request has ended. The error is nil unless a listener
// failed, which ends all.
func (e *Edge) Serve(ctx context.Context, grace time.Duration, listeners ...Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, len(listeners))
	for _, ln := range listeners {
		go func() {
			err := Serve(ctx, ln.Listener, e.server(ln), grace)
			cancel()
			ended <- err
		}()
	}
	var err error
	for range listeners {
		err = errors.Join(err, <-ended)
	}
	e.running.Lock() // a request whose connection was broken ends a moment later
	defer e.running.Unlock()
	return err
}

// server is the HTTP server of one listener.
func (e *Edge) server(ln Listener) *http.Server {
	var handler http.Handler = e
	if ln.Handler != nil {
		handler = bounded(ln.Handler, e.o.BodyTimeout)
	}
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(ln.TLS != nil && slices.Contains(ln.TLS.NextProtos, "h2"))
	srv := newServer(handler, e.o.Log)
	srv.Protocols = &protocols
	srv.TLSConfig = ln.TLS.Clone() // servers change it
	srv.ConnState = e.conns.state
	srv.HTTP2 = &http.HTTP2Config{MaxConcurrentStreams: maxStreams}
	if e.o.MinRate > 0 {
		// What a stream may take is bounded by its deadlines; this is for connections
		// whose client reads nothing at all.
		srv.HTTP2.WriteByteTimeout = patience
	}
	return srv
}

// Serve runs any server as [Edge.Serve] does, but for requests that were broken:
// it does not wait for them. With a TLSConfig it speaks TLS.
func Serve(ctx context.Context, ln net.Listener, srv *http.Server, grace time.Duration) error {
	ended := make(chan error, 1)
	go func() {
		if srv.TLSConfig != nil {
			ended <- srv.ServeTLS(ln, "", "")
			return
		}
		ended <- srv.Serve(ln)
	}()
	select {
	case err := <-ended:
		return fmt.Errorf("listener %s: %w", ln.Addr(), err)
	case <-ctx.Done():
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	err := srv.Shutdown(drain)
	if errors.Is(err, context.DeadlineExceeded) {
		err = srv.Close()
	}
	<-ended
	return err
}

// ServeHTTP implements [http.Handler].
func (e *Edge) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e.running.RLock()
	defer e.running.RUnlock()
	began := time.Now()
	trace := new(oci.Trace)
	bounds := e.bounds.Load()
	client := clientOf(r, bounds.Trusted)
	trace.Client, _ = parseAddr(client)
	trace.Secure = secure(r, bounds.Trusted)
	trace.ID = requestID(r, bounds.Trusted)
	w.Header().Set("X-Request-Id", trace.ID)
	harden(w.Header())
	r = r.WithContext(oci.WithTrace(r.Context(), trace))
	r, end := e.traced(r, trace)
	cw := &countingWriter{ResponseWriter: w, rate: bounds.MinRate}
	cw.answers = func() { e.pulls.enter(cw, r, trace, began) }
	if e.hsts != "" && r.TLS != nil {
		w.Header().Set("Strict-Transport-Security", e.hsts)
	}
	if len(r.TransferEncoding) > 0 && r.ProtoMajor == 1 {
		// Nobody needs chunks here. What follows a request that a proxy before us may
		// have read in another way is not read at all (RFC 9112, 6.3).
		w.Header().Set("Connection", "close")
	}
	if hasBody(r) {
		hurry(w, e.o.BodyTimeout)
	}
	completed := false
	defer func() {
		p := recover()
		if p != nil && !isAbort(p) {
			e.o.Log.ErrorContext(r.Context(), "handler panicked", "path", r.URL.Path, "err", p, "stack", string(debug.Stack()))
			p = http.ErrAbortHandler // told already
		}
		e.record(r, client, trace, cw, time.Since(began), completed)
		end(cw.status(), cw.n.Load())
		e.pulls.leave(cw)
		if p != nil {
			panic(p) // breaks the response off
		}
	}()
	e.o.Handler.ServeHTTP(cw, r)
	cw.limitEnd()
	completed = true
}

// harden sets what keeps a browser from making anything of an answer but what it is:
// there is no page here.
func harden(h http.Header) {
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	h.Set("Referrer-Policy", "no-referrer")
}

// isAbort tells a response that was broken off on purpose from a bug.
func isAbort(p any) bool {
	err, ok := p.(error)
	return ok && errors.Is(err, http.ErrAbortHandler)
}

// record writes the access line and counts.
func (e *Edge) record(r *http.Request, client string, t *oci.Trace, w *countingWriter, dur time.Duration, completed bool) {
	result := t.Result
	switch {
	case !completed && (t.Left || r.Context().Err() != nil):
		result = "left" // the client closed the connection, as lazy pullers do on purpose
	case !completed || w.status() >= http.StatusInternalServerError:
		result = "error"
	case result == "" && w.status() >= http.StatusBadRequest:
		result = "refused"
	case result == "":
		result = "none"
	}
	if t.Denied != "" && e.o.Denied != nil {
		e.o.Denied(r.Context(), Denial{r.Method, r.URL.Path, w.status()})
	}
	if failed := result == "error" || t.Denied != "" || refusal(w.status()); failed && e.o.Failed != nil {
		e.o.Failed(r.Context(), Failure{Method: r.Method, Path: r.URL.Path, Status: w.status(), Broken: result == "error" && !completed})
	}
	e.metrics.count(e.label(t.Repository.Registry()), t.Kind, string(result), w.status(), w.n.Load(), dur)
	if e.o.Access == nil || !e.o.Access.Handler().Enabled(r.Context(), slog.LevelInfo) {
		return
	}
	attrs := []slog.Attr{
		slog.String("client", client),
		slog.String("method", r.Method),
		slog.String("path", r.URL.Path),
		slog.String("proto", r.Proto),
		slog.Int("status", w.status()),
		slog.String("upstream", t.Repository.Registry().String()),
		slog.String("repository", t.Repository.Path()),
		slog.String("kind", t.Kind),
		slog.String("result", string(result)),
		slog.Int64("bytes", w.n.Load()),
		slog.Duration("dur", dur),
		slog.String("agent", r.UserAgent()),
		slog.String("request", t.ID),
	}
	if referer := refererOf(r); referer != "" {
		attrs = append(attrs, slog.String("referer", referer))
	}
	if span := oteltrace.SpanContextFromContext(r.Context()); span.IsSampled() {
		attrs = append(attrs, slog.String("trace_id", span.TraceID().String()))
	}
	if t.Who != "" {
		attrs = append(attrs, slog.String("user", t.Who))
	}
	if rng := r.Header.Get("Range"); rng != "" {
		attrs = append(attrs, slog.String("range", rng))
	}
	if t.Err != nil {
		attrs = append(attrs, slog.String("err", t.Err.Error()))
	}
	e.log(r.Context(), attrs)
}

// log writes an access line. It goes to the handler itself: a Logger would look
// up the caller each time, which is always the same.
func (e *Edge) log(ctx context.Context, attrs []slog.Attr) {
	line := slog.NewRecord(time.Now(), slog.LevelInfo, "request", 0)
	line.AddAttrs(attrs...)
	_ = e.o.Access.Handler().Handle(ctx, line) // there is nowhere to tell it
}

func (e *Edge) label(r oci.Registry) string {
	switch {
	case r.IsZero():
		return "none"
	case (*e.known.Load())[r]:
		return r.String()
	default:
		return "other"
	}
}
