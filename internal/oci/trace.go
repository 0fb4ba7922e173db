package oci

import (
	"context"
	"net/netip"
)

// A Result says where an answer came from.
type Result string

// The results, in the words of the access log and the metrics.
const (
	ResultHit   Result = "hit"   // from the store, nobody was asked
	ResultMiss  Result = "miss"  // fetched for this request
	ResultFill  Result = "fill"  // read from a fetch that was running, or that this request began
	ResultStale Result = "stale" // from the store although it ought to have been asked for again
)

// A Trace collects who asked and how a request was answered. The zero value is
// ready to use. It belongs to one request; the Readers that answer it write to it
// before they return.
type Trace struct {
	// ID names the request in logs, and to the client.
	ID string
	// Client is the address of who asks; zero when it has none, as over a Unix
	// socket.
	Client netip.Addr
	// Secure tells that the client speaks https, to this process or to a trusted
	// proxy before it.
	Secure bool
	// Who is the name of the user or of the access code, for logs; empty for
	// nobody who is known. It is no secret.
	Who string
	// Denied is why a rule refused the request; empty when none did.
	Denied string
	// Result is empty when no Reader has said anything.
	Result Result
	// Stale tells the client why the answer is stale; empty when it is not.
	Stale string
	// Private tells that the answer is for this client alone: nobody on the way may
	// keep it.
	Private bool
	// Repository is what was asked about; zero when nothing was.
	Repository Repository
	// Kind is what was asked for: ping, manifest, blob, tags, referrers; empty
	// for what is none of them.
	Kind string
	// Left tells that the client closed the connection before it had everything.
	Left bool
	// Err is why the request failed, for the log; nil when it did not.
	Err error
}

// Note records what one step of a request did. Of several steps the one that
// cost most stands: a miss, then a fill, then a stale answer, then a hit.
func (t *Trace) Note(r Result) {
	if cost(r) > cost(t.Result) {
		t.Result = r
	}
}

func cost(r Result) int {
	switch r {
	case ResultHit:
		return 1
	case ResultStale:
		return 2
	case ResultFill:
		return 3
	case ResultMiss:
		return 4
	default:
		return 0
	}
}

type traceKey struct{}

// WithTrace makes a context that carries t.
func WithTrace(ctx context.Context, t *Trace) context.Context {
	return context.WithValue(ctx, traceKey{}, t)
}

// HasTrace tells whether ctx carries a trace.
func HasTrace(ctx context.Context) bool {
	_, ok := ctx.Value(traceKey{}).(*Trace)
	return ok
}

// TraceFrom returns the trace of ctx, or a new one that nobody reads.
func TraceFrom(ctx context.Context) *Trace {
	if t, ok := ctx.Value(traceKey{}).(*Trace); ok {
		return t
	}
	return new(Trace)
}
