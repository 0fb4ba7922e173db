package registrytest

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"

	"sampan/internal/oci"
)

// A Kind is what a request asks for.
type Kind string

// The kinds. A blob that is redirected is one KindBlob and one KindCDN.
const (
	KindAny       Kind = ""          // where a kind is asked for: all of them
	KindPing      Kind = "ping"      // /v2/
	KindManifest  Kind = "manifest"  // by tag or digest
	KindBlob      Kind = "blob"      // at the registry
	KindTags      Kind = "tags"      // one page
	KindReferrers Kind = "referrers" // one page
	KindToken     Kind = "token"     // at the token server
	KindCDN       Kind = "cdn"       // anything at a redirect target
	KindOther     Kind = "other"     // what a registry does not know
)

// A Request is what one request was and what it got.
type Request struct {
	Method         string
	Host           string
	Path           string
	Query          string // as sent
	Proto          string // such as "HTTP/1.1"
	Kind           Kind
	Range          string
	Accept         string // all values, joined with ", "
	AcceptEncoding string
	UserAgent      string
	// Authorization is the scheme alone, "Basic" or "Bearer"; empty when the
	// header was absent. The registry keeps no secrets.
	Authorization string
	// User is who it said it comes from; empty for nobody.
	User   string
	Status int   // 0 while there is none, and for a connection closed without an answer
	Bytes  int64 // of the body, so far
}

// entry is a Request whose answer may still be running.
type entry struct {
	req    Request
	status atomic.Int64
	bytes  atomic.Int64
}

type kindMethod struct {
	kind   Kind
	method string
}

type methodPath struct{ method, path string }

// counters hold what was asked and sent.
type counters struct {
	countsOnly  bool
	connections atomic.Int64
	tokens      atomic.Int64
	bytes       atomic.Int64 // of all bodies
	blobs       atomic.Int64 // blob responses running now
	mostBlobs   atomic.Int64

	mu      sync.Mutex
	kinds   map[kindMethod]int
	paths   map[methodPath]int
	entries []*entry
	changed chan struct{} // closed and replaced at each request
}

func (c *counters) init(countsOnly bool) {
	c.countsOnly = countsOnly
	c.reset()
}

func (c *counters) reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.kinds = make(map[kindMethod]int)
	c.paths = make(map[methodPath]int)
	c.entries = nil
	if c.changed == nil {
		c.changed = make(chan struct{})
	}
	c.connections.Store(0)
	c.tokens.Store(0)
	c.bytes.Store(0)
	c.mostBlobs.Store(c.blobs.Load())
}

// begin counts a request as it arrives.
func (c *counters) begin(r *http.Request, kind Kind, user string) *entry {
	e := &entry{}
	if !c.countsOnly {
		scheme, _, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		e.req = Request{
			Method: r.Method, Host: r.Host, Path: r.URL.EscapedPath(), Query: r.URL.RawQuery, Proto: r.Proto, Kind: kind,
			Range: r.Header.Get("Range"), Accept: strings.Join(r.Header.Values("Accept"), ", "),
			AcceptEncoding: r.Header.Get("Accept-Encoding"), UserAgent: r.UserAgent(), Authorization: scheme, User: user,
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.kinds[kindMethod{kind, r.Method}]++
	c.paths[methodPath{r.Method, r.URL.EscapedPath()}]++
	if !c.countsOnly {
		c.entries = append(c.entries, e)
	}
	close(c.changed)
	c.changed = make(chan struct{})
	return e
}

func (c *counters) count(kind Kind, methods []string) int {
	n := 0
	for km, count := range c.kinds {
		if kind != KindAny && km.kind != kind {
			continue
		}
		if len(methods) == 0 {
			n += count
		}
		for _, m := range methods {
			if m == km.method {
				n += count
			}
		}
	}
	return n
}

func (c *counters) blobBegins() {
	now := c.blobs.Add(1)
	for {
		most := c.mostBlobs.Load()
		if now <= most || c.mostBlobs.CompareAndSwap(most, now) {
			return
		}
	}
}

// Count returns how many requests of a kind have arrived; with methods, only
// those of one of them.
func (r *Registry) Count(kind Kind, methods ...string) int {
	r.count.mu.Lock()
	defer r.count.mu.Unlock()
	return r.count.count(kind, methods)
}

// CountPath returns how many requests for an escaped path, without its query,
// have arrived at the three sites together.
func (r *Registry) CountPath(method, path string) int {
	r.count.mu.Lock()
	defer r.count.mu.Unlock()
	return r.count.paths[methodPath{method, path}]
}

// Await returns nil once n requests of a kind have arrived, as [Registry.Count]
// counts them, or the error of ctx.
func (r *Registry) Await(ctx context.Context, kind Kind, n int) error {
	for {
		r.count.mu.Lock()
		count, changed := r.count.count(kind, nil), r.count.changed
		r.count.mu.Unlock()
		if count >= n {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Requests returns all requests in the order they arrived, with what they have
// got until now; nil under [Options.CountsOnly].
func (r *Registry) Requests() []Request {
	r.count.mu.Lock()
	defer r.count.mu.Unlock()
	var all []Request
	for _, e := range r.count.entries {
		req := e.req
		req.Status, req.Bytes = int(e.status.Load()), e.bytes.Load()
		all = append(all, req)
	}
	return all
}

// BytesSent returns the body bytes of all responses, so far: those handed to
// the operating system, whether or not the client read them.
func (r *Registry) BytesSent() int64 { return r.count.bytes.Load() }

// BytesSentOf returns the body bytes sent of one blob or manifest, from the
// registry and the CDN together.
func (r *Registry) BytesSentOf(d oci.Digest) int64 { return r.content.counter(d).Load() }

// TokensIssued returns how many tokens were given out.
func (r *Registry) TokensIssued() int { return int(r.count.tokens.Load()) }

// Connections returns how many connections the three sites accepted.
func (r *Registry) Connections() int { return int(r.count.connections.Load()) }

// MaxConcurrentBlobs returns the most blob bodies that were being served at one
// moment, from the registry and the CDN together.
func (r *Registry) MaxConcurrentBlobs() int { return int(r.count.mostBlobs.Load()) }

// ResetCounts forgets all counts and requests; those running still add their
// bytes.
func (r *Registry) ResetCounts() {
	r.count.reset()
	r.content.resetCounters()
}
