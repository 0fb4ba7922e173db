package upstream

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode"

	"sampan/internal/oci"
	"sampan/internal/upstream/failure"
)

// Causes that this package gives its errors.
var (
	// errSlow ends a question that takes longer than Options.Timeout.
	errSlow = errors.New("no complete answer in time")
	// errStalled ends a blob whose bytes stand still.
	errStalled = errors.New("no byte arrived in time")
	// errSlower ends a part whose rest another endpoint sends much sooner.
	errSlower = errors.New("another endpoint is much faster")
	// errPrivate refuses an address that the configuration does not lead to.
	errPrivate = errors.New("a private address that a remote party chose")

	// errBadProxy is a proxy that the environment does not name in a way that can
	// be used.
	errBadProxy = errors.New("cannot be chosen")
	// errSOCKS is the refusal of a SOCKS proxy.
	errSOCKS = errors.New("refused")
	// errNoDNS is the failure of all configured DNS servers.
	errNoDNS = errors.New("no DNS server gave an answer")

	// errClosed ends shared work when the Registry is closed.
	errClosed = errors.New("upstream closed")

	errTooLarge    = errors.New("answer too large")
	errNoLocation  = errors.New("no Location")
	errBadLocation = errors.New("cannot be read as a location")
	errPlain       = errors.New("a redirect to plain http")
	errCircle      = errors.New("too many redirects")
	errOtherHost   = errors.New("the next page is on another host")
	errWebPage     = errors.New("answered with a web page")
	errNotIndex    = errors.New("not an image index")
)

// A statusError is the cause of an error that an answer's status made.
type statusError struct {
	status  int
	aside   bool   // it was about a token, not about what was asked for
	moved   bool   // somebody else answered, to whom the endpoint had led
	url     string // redacted
	message string // what the upstream said, clean and short; may be empty
}

func (e *statusError) Error() string {
	s := fmt.Sprintf("%s: status %d", e.url, e.status)
	if e.message != "" {
		s += ": " + e.message
	}
	return s
}

// statusOf returns the HTTP status with which the registry answered the question
// itself, 0 when err is something else.
func statusOf(err error) int {
	var s *statusError
	if errors.As(err, &s) && !s.aside {
		return s.status
	}
	return 0
}

// noAnswer is UNAVAILABLE: nobody may keep anything because of it. what
// continues a sentence that begins with the registry's name.
func (r *Registry) noAnswer(cause error, what string) error {
	return r.fail(oci.CodeUnavailable, cause, failure.Facts{What: what})
}

// fail makes an error of what happened.
func (r *Registry) fail(code oci.Code, cause error, f failure.Facts) *oci.Error {
	f.Registry = r.registry
	if cause != nil {
		f.Err = fmt.Errorf("upstream %s: %w", r.registry, cause)
	}
	return &oci.Error{Code: code, Message: f.Sentence(), Err: &f}
}

// broken turns the error of a connection into UNAVAILABLE, or into ctx's own
// error when it is the caller who has gone.
func (r *Registry) broken(ctx context.Context, u *url.URL, err error) error {
	if ctx.Err() != nil {
		cause := context.Cause(ctx)
		if !errors.Is(cause, errSlow) && !errors.Is(cause, errClosed) {
			return fmt.Errorf("upstream %s: %w", r.registry, ctx.Err())
		}
		err = cause
	}
	if errors.Is(err, errPrivate) {
		return r.refusedAddress(u, err)
	}
	f := silence(err)
	f.Host = u.Host
	return r.fail(oci.CodeUnavailable, fmt.Errorf("%s: %w", redact(u), newOutage(err)), f)
}

func (r *Registry) refusedAddress(u *url.URL, err error) error {
	return r.fail(oci.CodeUnavailable, fmt.Errorf("%s: %w", redact(u), err), failure.Facts{Kind: failure.PrivateAddress, Host: u.Host})
}

// silence is why a connection failed.
func silence(err error) failure.Facts {
	var (
		proxy  *proxyError
		dns    *net.DNSError
		cert   *tls.CertificateVerificationError
		record tls.RecordHeaderError
		timely interface{ Timeout() bool }
	)
	switch {
	case errors.As(err, &proxy):
		return proxy.failure()
	case errors.Is(err, errNoDNS):
		return failure.Facts{Kind: failure.DNSSilent}
	case errors.As(err, &dns) && dns.IsNotFound:
		return failure.Facts{Kind: failure.NoSuchName}
	case errors.As(err, &dns):
		return failure.Facts{Kind: failure.NameUnresolved}
	case errors.As(err, &cert):
		return failure.Facts{Kind: failure.CertUntrusted}
	case errors.As(err, &record):
		return failure.Facts{Kind: failure.NoTLS}
	case errors.Is(err, syscall.ECONNREFUSED):
		return failure.Facts{Kind: failure.ConnectionRefused}
	case errors.Is(err, errSlow), errors.Is(err, errStalled), errors.As(err, &timely) && timely.Timeout():
		return failure.Facts{Kind: failure.Silent}
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET):
		return failure.Facts{Kind: failure.BrokenOff}
	default:
		return failure.Facts{Kind: failure.Unreachable}
	}
}

// failure turns an answer whose status is not 2xx into an error. It reads a
// bounded part of the body and leaves closing it to the caller.
func (r *Registry) failure(q question, rep *reply, g grant) error {
	code, message := r.readError(rep)
	status := &statusError{status: rep.StatusCode, moved: rep.moved, url: redact(rep.url), message: message}
	if rep.moved && q.kind == kindBlob && isRefusal(rep.StatusCode) {
		return r.fail(oci.CodeUnavailable, status, failure.Facts{Kind: failure.StorageRefused, Host: rep.url.Host})
	}
	switch s := rep.StatusCode; {
	case s == http.StatusTooManyRequests || s/100 == 4 && code == oci.CodeTooManyRequests:
		e := r.fail(oci.CodeTooManyRequests, status, failure.Facts{Kind: failure.Limited, Said: message})
		e.RetryAfter = retryAfter(rep.Header.Get("Retry-After"), message, time.Now())
		return e
	case s == http.StatusUnauthorized:
		return r.unauthorized(q, rep, g, status)
	case s == http.StatusProxyAuthRequired:
		return r.fail(oci.CodeUnavailable, status, silence(&proxyError{status: s}))
	case s == http.StatusNotFound, s == http.StatusGone:
		if code != oci.CodeNameUnknown || q.kind == kindBlob && rep.moved {
			code = q.unknown
		}
		return r.fail(code, status, failure.Facts{Kind: failure.NotThere, Said: message})
	case s == http.StatusForbidden, s == http.StatusUnavailableForLegalReasons:
		return r.fail(oci.CodeDenied, status, failure.Facts{Kind: failure.Forbidden, Said: message})
	case s == http.StatusRequestedRangeNotSatisfiable:
		return r.fail(oci.CodeRangeInvalid, status, failure.Facts{What: "does not have this range"})
	case s == http.StatusMethodNotAllowed:
		return r.fail(oci.CodeUnsupported, status, failure.Facts{Kind: failure.Unsupported, Said: message})
	case s == http.StatusBadRequest && isInvalid(code):
		return r.fail(code, status, failure.Facts{Kind: failure.Rejected, Said: message})
	default:
		e := r.fail(oci.CodeUnavailable, status, failure.Facts{Kind: failure.BadStatus, Status: s, Said: message})
		e.RetryAfter = retryAfter(rep.Header.Get("Retry-After"), "", time.Now())
		return e
	}
}

// unauthorized is the end of authentication: whatever sampan may send, the
// answer stays 401. Where the registry granted a token and still answers 401
// (quay.io for missing repositories, docker.io with insufficient_scope), the
// repository is not there for us.
func (r *Registry) unauthorized(q question, rep *reply, g grant, cause error) error {
	switch {
	case rep.moved:
		return r.noAnswer(cause, "redirects to "+rep.url.Host+", which asks for credentials")
	case g.granted && g.anonymous:
		return r.fail(oci.CodeNameUnknown, cause, failure.Facts{Kind: failure.Hidden, Repository: q.repo.Path()})
	case g.granted:
		return r.fail(oci.CodeNameUnknown, cause, failure.Facts{Kind: failure.HiddenFromUser, Repository: q.repo.Path()})
	case g.header != "":
		return r.fail(oci.CodeUnauthorized, cause, failure.Facts{Kind: failure.LoginRefused})
	default:
		return r.fail(oci.CodeUnauthorized, cause, failure.Facts{Kind: failure.LoginNeeded})
	}
}

// readError returns the first code and message of an error body in the form of
// the specification; both are empty for any other body.
func (r *Registry) readError(rep *reply) (oci.Code, string) {
	if rep.method == http.MethodHead {
		return "", ""
	}
	timer := time.AfterFunc(drainTime, func() { rep.cancel(errSlow) })
	defer timer.Stop()
	b, _ := io.ReadAll(io.LimitReader(rep.Body, maxErrorBytes)) // what there is will do
	return parseError(b)
}

func parseError(b []byte) (oci.Code, string) {
	var doc struct {
		Errors []struct {
			Code    string `json:"code"`
			Message string `json:"message"`
		} `json:"errors"`
	}
	if json.Unmarshal(b, &doc) != nil || len(doc.Errors) == 0 {
		return "", ""
	}
	return oci.Code(doc.Errors[0].Code), clean(doc.Errors[0].Message)
}

// clean makes a remote party's text fit for a message: one line, printable, at
// most 200 bytes, and no query of any URL.
func clean(s string) string {
	const most = 200
	s = s[:min(len(s), 4<<10)]
	words := strings.FieldsFunc(s, func(c rune) bool { return unicode.IsSpace(c) || !unicode.IsPrint(c) })
	for i, w := range words {
		if at := strings.IndexByte(w, '?'); at >= 0 && strings.ContainsRune(w[at:], '=') {
			words[i] = w[:at] + "?…"
		}
	}
	s = strings.ToValidUTF8(strings.Join(words, " "), "")
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}

// isRefusal tells the statuses with which storage behind a redirect answers a
// signature that it does not like; they say nothing about the blob.
func isRefusal(status int) bool {
	return status == http.StatusBadRequest || status == http.StatusUnauthorized || status == http.StatusForbidden
}

func isInvalid(code oci.Code) bool {
	switch code {
	case oci.CodeNameInvalid, oci.CodeTagInvalid, oci.CodeDigestInvalid, oci.CodeManifestInvalid,
		oci.CodeUnsupported, oci.CodeNameUnknown, oci.CodeManifestUnknown, oci.CodeBlobUnknown:
		return true
	default:
		return false
	}
}

// retryAfter reads how long to wait after a 429 or 503: from the header
// (seconds, a date, or, as some registries have it, seconds since 1970), or
// else from ghcr.io's message ("retry-after: 43.988µs, allowed: …"). It returns
// zero when neither says so, and at most one day.
func retryAfter(header, message string, now time.Time) time.Duration {
	const (
		longest = 24 * time.Hour
		epoch   = 1_000_000_000 // seconds; in 2001
	)
	var d time.Duration
	header = strings.TrimSpace(header)
	if n, err := strconv.ParseFloat(header, 64); err == nil {
		if n >= epoch {
			n -= float64(now.Unix())
		}
		if n > 0 { // not so for NaN
			d = time.Duration(min(n, longest.Seconds()) * float64(time.Second))
		}
	} else if at, err := http.ParseTime(header); err == nil {
		d = at.Sub(now)
	} else if _, rest, found := strings.Cut(strings.ToLower(message), "retry-after:"); found {
		rest, _, _ = strings.Cut(strings.TrimSpace(rest), ",")
		d, _ = time.ParseDuration(strings.TrimSpace(rest)) // zero for garbage
	}
	return min(max(d, 0), longest)
}
