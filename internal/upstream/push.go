package upstream

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"sync"
	"time"

	"sampan/internal/oci"
	"sampan/internal/upstream/failure"
)

// A Push is one request that writes, or that asks how a write goes (distribution
// specification, "Push").
type Push struct {
	Method     string
	Repository oci.Repository
	// Below is the path below the repository, such as "blobs/uploads/", with Query.
	Below string
	Query url.Values
	// URL is where an answer has led ([Pushed.Location]), instead of Below; Query is
	// added to its own.
	URL    *url.URL
	Header http.Header // nil for none; not changed
	// Body opens what is sent, from its beginning each time; nil for nothing. It is
	// Size bytes long. The end of the context must end its reads. It is closed when Push
	// returns.
	Body func(ctx context.Context) (io.ReadCloser, error)
	Size int64
	// From is another repository that the request reads from (a mount), zero for none.
	From oci.Repository
}

// Pushed is the answer to a [Push], of whatever status.
type Pushed struct {
	Status int
	Header http.Header
	// Location is where to go on; nil where the answer does not say, or where nothing goes
	// on (status 201).
	Location *url.URL
	// Err is what a status of 400 or more means, nil otherwise; UNAVAILABLE where it
	// is worth asking again. Its message is what the registry said.
	Err *oci.Error
}

type scopeKey struct{}

// alsoScope adds what a request needs besides to the scope of a token, which is that of
// its repository.
func alsoScope(ctx context.Context, scope string) string {
	if more, ok := ctx.Value(scopeKey{}).(string); ok {
		return scope + more
	}
	return scope
}

// withScope notes what a request needs besides: deleting is an action of its own (token
// scope documentation, "Resource Actions"), and From a repository of its own.
func (p Push) withScope(ctx context.Context, ep *endpoint) context.Context {
	switch {
	case p.Method == http.MethodDelete:
		return context.WithValue(ctx, scopeKey{}, ",delete")
	case !p.From.IsZero():
		return context.WithValue(ctx, scopeKey{}, " "+ep.pull(p.From))
	default:
		return ctx
	}
}

// Push sends one request to the preferred endpoint, as the first account for the
// repository. It needs Options.Write. The body keeps moving or the request ends; the
// answer to it may take as long as Egress.HeaderTimeout. Errors are UNAVAILABLE where
// nobody answered, an error of Body's as it is, and those of authentication; what was
// sent may have arrived in each case. UNSUPPORTED is an answer that leads to where nobody
// may follow: what is no http address, plain http where the endpoint has TLS, a private
// address, a circle. Asking again would lead to the same.
func (r *Registry) Push(ctx context.Context, p Push) (Pushed, error) {
	a, err := r.push(ctx, p)
	var e *oci.Error
	if errors.As(err, &e) && e.Code == oci.CodeUnavailable && leadsAstray(e) {
		astray := *e
		astray.Code = oci.CodeUnsupported
		err = &astray
	}
	return a, err
}

func leadsAstray(err error) bool {
	return errors.Is(err, errNoLocation) || errors.Is(err, errBadLocation) || errors.Is(err, errPlain) || errors.Is(err, errPrivate) || errors.Is(err, errCircle)
}

func (r *Registry) push(ctx context.Context, p Push) (Pushed, error) {
	ep := &endpoint{r.endpoints[0].site, r.accountsFor(p.Repository)[0]}
	u := p.address(ep)
	ctx = p.withScope(ctx, ep)
	own := origin(u) == origin(ep.base)
	var g grant
	if own {
		var err error
		if g, err = r.authorize(ctx, ep, p.Repository); err != nil {
			return Pushed{}, err
		}
	}
	rep, err := r.deliver(ctx, ep, p, u, g.header)
	if err != nil {
		return Pushed{}, err
	}
	if own && g.worthRenewing(ep, rep) {
		status, header := rep.StatusCode, rep.Header
		rep.close()
		if g, err = r.renew(ctx, ep, p.Repository, g, status, header); err != nil {
			return Pushed{}, err
		}
		if rep, err = r.deliver(ctx, ep, p, u, g.header); err != nil {
			return Pushed{}, err
		}
	}
	defer rep.close()
	return r.pushed(ep, p, rep, g)
}

// address is where a request goes.
func (p Push) address(ep *endpoint) *url.URL {
	u := p.URL
	if u == nil {
		u = ep.url(p.Repository, p.Below)
	}
	if len(p.Query) == 0 {
		return u
	}
	own := *u // its query stays as it is written: it may be signed
	if own.RawQuery != "" {
		own.RawQuery += "&"
	}
	own.RawQuery += p.Query.Encode()
	return &own
}

// deliver sends a request and follows its redirects with the same method and body. The
// authorization goes no further than the origin of u.
func (r *Registry) deliver(ctx context.Context, ep *endpoint, p Push, u *url.URL, authorization string) (*reply, error) {
	header := p.Header.Clone()
	if header == nil {
		header = http.Header{}
	}
	header.Set("User-Agent", r.userAgent)
	if authorization != "" {
		header.Set("Authorization", authorization)
	}
	moved := origin(u) != origin(ep.base)
	for range maxHops + 1 {
		if err := r.guard.checkURL(u); err != nil {
			return nil, r.refusedAddress(u, err)
		}
		rep, err := r.sendBody(ctx, p, u, header, moved)
		if err != nil || !isRedirect(rep.StatusCode) {
			return rep, err
		}
		next, err := r.nextHop(ep, rep)
		rep.close()
		if err != nil {
			return nil, err
		}
		if origin(next) != origin(u) {
			header.Del("Authorization")
			moved = true
		}
		u = next
	}
	return nil, r.inACircle(u)
}

// sendBody makes one exchange up to the headers of the answer. An error of the body
// itself is returned as it is.
func (r *Registry) sendBody(ctx context.Context, p Push, u *url.URL, header http.Header, moved bool) (*reply, error) {
	hop, cancel := context.WithCancelCause(ctx)
	req := (&http.Request{
		Method: p.Method, URL: u, Host: u.Host, Header: header.Clone(),
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}).WithContext(withStorage(hop)) // HTTP/1.1: each body has its own connection
	var moving *movingBody
	if p.Body != nil {
		body, err := p.Body(hop)
		if err != nil {
			cancel(nil)
			return nil, err
		}
		moving = newMovingBody(body, p.Size, r.stallTimeout, cancel)
		req.Body, req.ContentLength = moving, p.Size
		if p.Size == 0 {
			_ = moving.Close() // nothing is in it
			req.Body = http.NoBody
		}
	}
	end := func(err error) {
		cancel(err)
		moving.wait()
	}
	start := time.Now()
	resp, err := r.transport.RoundTrip(req)
	if err != nil {
		cause, own := context.Cause(hop), moving.failure()
		end(nil)
		r.metrics.sent(kindPush, 0, time.Since(start))
		switch {
		case ctx.Err() != nil:
		case cause != nil:
			err = cause
		case own != nil:
			return nil, own
		}
		return nil, r.broken(ctx, u, err)
	}
	r.metrics.sent(kindPush, resp.StatusCode, time.Since(start))
	return &reply{Response: resp, method: p.Method, url: u, moved: moved, ctx: hop, cancel: end}, nil
}

// pushed reads an answer.
func (r *Registry) pushed(ep *endpoint, p Push, rep *reply, g grant) (Pushed, error) {
	a := Pushed{Status: rep.StatusCode, Header: rep.Header}
	if rep.StatusCode < http.StatusBadRequest {
		if rep.Header.Get("Location") == "" || rep.StatusCode == http.StatusCreated { // it names what was made
			return a, nil
		}
		var err error
		a.Location, err = r.nextHop(ep, rep)
		return a, err
	}
	code, message := r.readError(rep)
	cause := &statusError{status: rep.StatusCode, moved: rep.moved, url: redact(rep.url), message: message}
	switch s := rep.StatusCode; {
	case s == http.StatusTooManyRequests:
		a.Err = r.fail(oci.CodeTooManyRequests, cause, failure.Facts{Kind: failure.Limited, Said: message})
		a.Err.RetryAfter = retryAfter(rep.Header.Get("Retry-After"), message, time.Now())
	case s == http.StatusUnauthorized:
		a.Err = r.fail(oci.CodeUnauthorized, cause, failure.Facts{Kind: readOnly(g), Repository: p.Repository.Path(), Said: message})
	case s == http.StatusForbidden:
		a.Err = r.fail(oci.CodeDenied, cause, failure.Facts{Kind: readOnly(g), Repository: p.Repository.Path(), Said: message})
	case s >= http.StatusInternalServerError && s != http.StatusNotImplemented && s != http.StatusInsufficientStorage:
		a.Err = r.fail(oci.CodeUnavailable, cause, failure.Facts{Kind: failure.BadStatus, Status: s, Said: message})
		a.Err.RetryAfter = retryAfter(rep.Header.Get("Retry-After"), "", time.Now())
	default:
		if code == "" || !oci.IsAnswer(&oci.Error{Code: code}) {
			code = oci.CodeUnsupported
		}
		a.Err = r.fail(code, cause, failure.Facts{Kind: failure.NotTaken, Status: s, Said: message})
	}
	return a, nil
}

// readOnly tells as whom a request was made that wanted to write.
func readOnly(g grant) failure.Kind {
	if g.header == "" || g.anonymous {
		return failure.ReadOnlyAnon
	}
	return failure.ReadOnly
}

// A movingBody ends its request when nobody takes its bytes for too long. It notes why
// it cannot be read, and when it has been closed: a transport may read on for a while
// after the answer is there.
type movingBody struct {
	body   io.ReadCloser
	stall  time.Duration
	cancel context.CancelCauseFunc
	closed chan struct{}
	once   sync.Once

	// Only the transport's goroutine uses these, until closed.
	left  int64 // bytes
	timer *time.Timer

	mu  sync.Mutex
	err error
}

func newMovingBody(body io.ReadCloser, size int64, stall time.Duration, cancel context.CancelCauseFunc) *movingBody {
	return &movingBody{body: body, stall: stall, left: size, cancel: cancel, closed: make(chan struct{})}
}

// Read implements [io.Reader]. The clock stands still while the source is waited for,
// and when all has been read.
func (b *movingBody) Read(p []byte) (int, error) {
	if b.timer != nil {
		b.timer.Stop()
	}
	n, err := b.body.Read(p)
	b.left -= int64(n)
	switch {
	case err != nil && !errors.Is(err, io.EOF):
		b.mu.Lock()
		b.err = err
		b.mu.Unlock()
	case b.left <= 0 || err != nil:
	case b.timer == nil:
		b.timer = time.AfterFunc(b.stall, func() { b.cancel(errStalled) })
	default:
		b.timer.Reset(b.stall)
	}
	return n, err
}

// Close implements [io.Closer].
func (b *movingBody) Close() error {
	b.once.Do(func() {
		if b.timer != nil {
			b.timer.Stop()
		}
		_ = b.body.Close() // it was only read
		close(b.closed)
	})
	return nil
}

// wait returns when the transport has let go of the body; b may be nil.
func (b *movingBody) wait() {
	if b != nil {
		<-b.closed
	}
}

// failure is why the body could not be read; nil while it can. b may be nil.
func (b *movingBody) failure() error {
	if b == nil {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err
}
