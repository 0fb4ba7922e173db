package registrytest

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"sampan/internal/oci"
)

// A Fault breaks responses. Its zero value matches every answer that carries a
// blob and breaks nothing. What happens before the headers may befall any kind;
// what happens to lengths and bodies, manifests and blobs alone.
type Fault struct {
	// On lists the kinds that it breaks; nil is KindBlob. KindBlob is wherever
	// the bytes come from, the registry or the CDN, and not the redirect
	// between them; KindCDN is the CDN alone.
	On []Kind
	// Only restricts it to one blob or manifest; zero is any.
	Only oci.Digest
	// Skip lets so many matching responses through first; Times is how many
	// then break, zero all. A HEAD does not count for a fault that shows only
	// in a body.
	Skip, Times int

	// HangBeforeHeaders holds the answer back. Nil does not.
	HangBeforeHeaders *Gate
	// EmptyReply closes the connection without an answer.
	EmptyReply bool
	// Answer answers instead; see [HTML], [Status] and [TooMany].
	Answer http.HandlerFunc

	// LengthDelta is added to the Content-Length, in bytes. More than there is
	// ends with a cut connection, less with a body that looks complete.
	LengthDelta int64
	// WrongContentRange tells a 206 that starts one byte later than it does.
	WrongContentRange bool
	// Extra is how many bytes follow the right ones, counted in the
	// Content-Length and in Content-Range.
	Extra int64
	// Corrupt flips one bit of the byte at offset CorruptAt of the content, or
	// of its last byte if that is negative.
	Corrupt   bool
	CorruptAt int64

	// HangAfterHeaders holds the body back after the headers were sent.
	HangAfterHeaders *Gate
	// HangInBody holds a body when it reaches offset HangAt of the content; one
	// that begins behind it passes.
	HangInBody *Gate
	HangAt     int64
	// Truncate cuts the connection after TruncateAfter bytes of this body; one
	// that is no longer passes. Reset cuts with a TCP reset, which may take
	// back bytes that were sent last; alone, it does so before the headers.
	Truncate      bool
	TruncateAfter int64
	Reset         bool
}

// fault returns the one for a response of one of the kinds, or nil.
func (s *state) fault(method string, d oci.Digest, kinds ...Kind) *Fault {
	for i := range s.Faults {
		f := &s.Faults[i]
		if !f.matches(d, kinds) || method == http.MethodHead && !f.breaksHeaders() {
			continue
		}
		if n := s.faults[i].seen.Add(1); n > int64(f.Skip) && (f.Times == 0 || n <= int64(f.Skip+f.Times)) {
			return f
		}
	}
	return nil
}

func (f *Fault) matches(d oci.Digest, kinds []Kind) bool {
	if !f.Only.IsZero() && f.Only != d {
		return false
	}
	if f.On == nil {
		return slices.Contains(kinds, KindBlob)
	}
	return slices.Contains(f.On, KindAny) || slices.ContainsFunc(kinds, func(k Kind) bool { return slices.Contains(f.On, k) })
}

// breaksHeaders tells whether f shows in an answer without a body.
func (f *Fault) breaksHeaders() bool {
	return f.HangBeforeHeaders != nil || f.EmptyReply || f.Answer != nil || f.Reset && !f.Truncate ||
		f.LengthDelta != 0 || f.Extra != 0
}

// before does what happens before the headers and tells whether the answer
// goes on. It is safe on a nil Fault.
func (r *Registry) before(f *Fault, w http.ResponseWriter, req *http.Request) bool {
	switch {
	case f == nil:
		return true
	case !f.HangBeforeHeaders.pass(req.Context(), r.done):
		cut(w, false)
	case f.EmptyReply, f.Reset && !f.Truncate:
		cut(w, f.Reset)
	case f.Answer != nil:
		f.Answer(w, req)
	default:
		return true
	}
	return false
}

// cut ends the connection, after what was written if anything was. It panics
// with [http.ErrAbortHandler] where only the server can do that.
func cut(w http.ResponseWriter, reset bool) {
	control := http.NewResponseController(w)
	if rec, ok := w.(*recorder); ok && rec.wroteHeader {
		_ = control.Flush() // the client may be gone
	}
	conn, _, err := control.Hijack()
	if err != nil {
		panic(http.ErrAbortHandler) // HTTP/2, or no connection at all
	}
	if t, ok := conn.(interface{ NetConn() net.Conn }); ok && reset {
		conn = t.NetConn() // TLS would say goodbye
	}
	if t, ok := conn.(*net.TCPConn); ok && reset {
		_ = t.SetLinger(0)
	}
	_ = conn.Close()
}

// sleep waits for d of time and is false if the client or the registry went
// first.
func (r *Registry) sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return true
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	case <-r.done:
		return false
	}
}

// injections are answers that replace the registry's for a while.
type injections struct {
	mu   sync.Mutex
	list []*injection
}

type injection struct {
	kind Kind
	left int // negative is for ever
	h    http.HandlerFunc
}

// FailNext lets h answer the next n requests of a kind, instead of the registry
// and before any check; a negative n is all until [Registry.ClearFailures]. Of several that match, the oldest comes first.
func (r *Registry) FailNext(kind Kind, n int, h http.HandlerFunc) {
	if n == 0 {
		return
	}
	r.injected.mu.Lock()
	defer r.injected.mu.Unlock()
	r.injected.list = append(r.injected.list, &injection{kind, n, h})
}

// ClearFailures forgets what FailNext arranged.
func (r *Registry) ClearFailures() {
	r.injected.mu.Lock()
	defer r.injected.mu.Unlock()
	r.injected.list = nil
}

// take returns the answer for a request of the kind, or nil.
func (i *injections) take(kind Kind) http.HandlerFunc {
	i.mu.Lock()
	defer i.mu.Unlock()
	for n, in := range i.list {
		if in.kind != KindAny && in.kind != kind {
			continue
		}
		if in.left > 0 {
			in.left--
		}
		if in.left == 0 {
			i.list = slices.Delete(i.list, n, n+1)
		}
		return in.h
	}
	return nil
}

// Status answers with a status and the specification's error body for it.
func Status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		writeError(w, code, oci.CodeUnknown, http.StatusText(code))
	}
}

// HTML answers 200 with a page, as a captive portal does.
func HTML(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = fmt.Fprint(w, "<!doctype html><title>Welcome</title><p>Please accept the terms.")
}

// EmptyReply closes the connection without an answer.
func EmptyReply(w http.ResponseWriter, _ *http.Request) { cut(w, false) }

// Reset resets the connection without an answer.
func Reset(w http.ResponseWriter, _ *http.Request) { cut(w, true) }

// TooMany answers 429 in one of its forms; a positive retryAfter is told in
// whole seconds, rounded up.
func TooMany(form TooManyForm, retryAfter time.Duration) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		if retryAfter > 0 {
			w.Header().Set("Retry-After", fmt.Sprint(int64((retryAfter+time.Second-1)/time.Second)))
		}
		switch form {
		case TooManyGHCR:
			writeError(w, http.StatusTooManyRequests, oci.CodeTooManyRequests, "retry-after: 43.988µs, allowed: 44000/minute")
		case TooManyBare:
			w.WriteHeader(http.StatusTooManyRequests)
		case TooManyECR:
			writeError(w, http.StatusTooManyRequests, oci.CodeTooManyRequests, "Rate exceeded")
		default:
			writeError(w, http.StatusTooManyRequests, oci.CodeTooManyRequests,
				"You have reached your pull rate limit. You may increase the limit by authenticating and upgrading: https://www.docker.com/increase-rate-limit")
		}
	}
}
