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
	return r.errorf(oci.CodeUnavailable, cause, "%s %s", r.registry, what)
}

func (r *Registry) errorf(code oci.Code, cause error, format string, args ...any) *oci.Error {
	if cause != nil {
		cause = fmt.Errorf("upstream %s: %w", r.registry, cause)
	}
	return &oci.Error{Code: code, Message: fmt.Sprintf(format, args...), Err: cause}
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
	return r.noAnswer(fmt.Errorf("%s: %w", redact(u), newOutage(err)), reason(err)+" ("+u.Host+")")
}

func (r *Registry) refusedAddress(u *url.URL, err error) error {
	return r.noAnswer(fmt.Errorf("%s: %w", redact(u), err),
		"leads to the private address of "+u.Host+", which is refused unless an endpoint that is configured for it is private itself or egress.redirects allows it")
}

// unreachable begins most reasons.
const unreachable = "cannot be reached"

// reason continues "docker.io …" with why a connection failed, in words that
// are safe to send.
func reason(err error) string {
	var (
		proxy  *proxyError
		dns    *net.DNSError
		cert   *tls.CertificateVerificationError
		record tls.RecordHeaderError
		timely interface{ Timeout() bool }
	)
	switch {
	case errors.As(err, &proxy):
		return unreachable + ": " + proxy.reason()
	case errors.Is(err, errNoDNS):
		return unreachable + ": none of the configured DNS servers answers"
	case errors.As(err, &dns) && dns.IsNotFound:
		return unreachable + ": its name does not exist in the DNS"
	case errors.As(err, &dns):
		return unreachable + ": its name cannot be resolved"
	case errors.As(err, &cert):
		return unreachable + ": its TLS certificate is not trusted"
	case errors.As(err, &record):
		return unreachable + ": it does not speak TLS; an http:// endpoint means plain HTTP"
	case errors.Is(err, syscall.ECONNREFUSED):
		return unreachable + ": connection refused"
	case errors.Is(err, errSlow), errors.Is(err, errStalled), errors.As(err, &timely) && timely.Timeout():
		return "did not answer in time"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET):
		return "broke off the connection"
	default:
		return unreachable
	}
}

// failure turns an answer whose status is not 2xx into an error. It reads a
// bounded part of the body and leaves closing it to the caller.
func (r *Registry) failure(q question, rep *reply, g grant) error {
	code, message := r.readError(rep)
	status := &statusError{status: rep.StatusCode, moved: rep.moved, url: redact(rep.url), message: message}
	if rep.moved && q.kind == kindBlob && isRefusal(rep.StatusCode) {
		return r.noAnswer(status, "redirects to a storage that refuses the request ("+rep.url.Host+")")
	}
	switch s := rep.StatusCode; {
	case s == http.StatusTooManyRequests || s/100 == 4 && code == oci.CodeTooManyRequests:
		e := r.errorf(oci.CodeTooManyRequests, status, "%s limits the rate of requests%s", r.registry, said(message))
		e.RetryAfter = retryAfter(rep.Header.Get("Retry-After"), message, time.Now())
		return e
	case s == http.StatusUnauthorized:
		return r.unauthorized(q, rep, g, status)
	case s == http.StatusProxyAuthRequired:
		return r.noAnswer(status, reason(&proxyError{status: s}))
	case s == http.StatusNotFound, s == http.StatusGone:
		if code != oci.CodeNameUnknown || q.kind == kindBlob && rep.moved {
			code = q.unknown
		}
		return r.errorf(code, status, "%s does not have it%s", r.registry, said(message))
	case s == http.StatusForbidden, s == http.StatusUnavailableForLegalReasons:
		return r.errorf(oci.CodeDenied, status, "%s denies access%s", r.registry, said(message))
	case s == http.StatusRequestedRangeNotSatisfiable:
		return r.errorf(oci.CodeRangeInvalid, status, "%s does not have this range", r.registry)
	case s == http.StatusMethodNotAllowed:
		return r.errorf(oci.CodeUnsupported, status, "%s does not support the request%s", r.registry, said(message))
	case s == http.StatusBadRequest && isInvalid(code):
		return r.errorf(code, status, "%s refuses the request%s", r.registry, said(message))
	default:
		e := r.errorf(oci.CodeUnavailable, status, "%s answered with status %d%s", r.registry, s, said(message))
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
		return r.errorf(oci.CodeNameUnknown, cause,
			"%s does not show %s without credentials: it does not exist or is private", r.registry, q.repo.Path())
	case g.granted:
		return r.errorf(oci.CodeNameUnknown, cause,
			"%s does not show %s to the configured credentials", r.registry, q.repo.Path())
	case g.header != "":
		return r.errorf(oci.CodeUnauthorized, cause,
			"%s refuses the credentials that are configured for it", r.registry)
	default:
		return r.errorf(oci.CodeUnauthorized, cause,
			"%s asks for credentials and none are configured for it", r.registry)
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

func said(message string) string {
	if message == "" {
		return ""
	}
	return ": " + message
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
