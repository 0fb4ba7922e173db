//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
)

// passage is a proxy in front of a registry that is written to, or read. It notes what passes,
// and a rule may answer in the registry's place.
type passage struct {
	server *httptest.Server

	mu   sync.Mutex
	seen []crossing
	rule rule
	step func() // called as things go on: at each request, and within bodies
}

// crossing is a request that has passed, or was answered on the way.
type crossing struct {
	method, path string // with query
	mediaType    string
	sent         int64 // bytes of its body, as far as they came
	got          int64 // bytes of the answer's
	status       int   // 0 where it was cut
}

// rule answers a request, and tells whether it has.
type rule func(w http.ResponseWriter, r *http.Request) bool

func newPassage(t *testing.T, registry string) *passage {
	t.Helper()
	p := &passage{step: func() {}}
	backend := &url.URL{Scheme: "http", Host: registry}
	transport := &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 16}
	forward := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(backend)
			r.Out.Host = r.In.Host // so that addresses lead back here
		},
		Transport:    transport,
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}
	p.server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { p.pass(w, r, forward) }))
	p.server.Config.ErrorLog = log.New(io.Discard, "", 0)
	p.server.Config.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		c.(*net.TCPConn).SetWriteBuffer(64 << 10) // so that little is on its way
		return ctx
	}
	p.server.Start()
	t.Cleanup(func() {
		p.server.CloseClientConnections()
		p.server.Close()
		transport.CloseIdleConnections()
		if t.Failed() {
			t.Logf("what the target was asked:\n%s", p.dump())
		}
	})
	return p
}

func (p *passage) pass(w http.ResponseWriter, r *http.Request, forward http.Handler) {
	p.mu.Lock()
	i := len(p.seen)
	p.seen = append(p.seen, crossing{method: r.Method, path: r.URL.RequestURI(), mediaType: r.Header.Get("Content-Type")})
	rule, step := p.rule, p.step
	p.mu.Unlock()
	step()
	r.Body = &watched{r.Body, func(n int) {
		p.mu.Lock()
		p.seen[i].sent += int64(n)
		p.mu.Unlock()
		step()
	}}
	answer := &noted{ResponseWriter: w, note: func(status int) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.seen[i].status = status
	}, moved: func(n int) {
		p.mu.Lock()
		p.seen[i].got += int64(n)
		p.mu.Unlock()
		step()
	}}
	if rule == nil || !rule(answer, r) {
		forward.ServeHTTP(answer, r)
	}
	step()
}

// watched is the body of a request.
type watched struct {
	io.ReadCloser
	moved func(n int)
}

func (b *watched) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if n > 0 {
		b.moved(n)
	}
	return n, err
}

// noted is an answer.
type noted struct {
	http.ResponseWriter
	note  func(status int)
	moved func(n int)
}

func (a *noted) Write(p []byte) (int, error) {
	n, err := a.ResponseWriter.Write(p)
	if n > 0 {
		a.moved(n)
	}
	return n, err
}

func (a *noted) WriteHeader(status int) {
	a.note(status)
	a.ResponseWriter.WriteHeader(status)
}

func (a *noted) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// host is what the command calls the registry.
func (p *passage) host() string { return strings.TrimPrefix(p.server.URL, "http://") }

// rules sets what happens from now on, and starts the count anew.
func (p *passage) rules(r rule) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rule, p.seen = r, nil
}

// watch has something done at each step from now on.
func (p *passage) watch(step func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.step = step
}

// crossings are those whose "METHOD PATH" the pattern matches.
func (p *passage) crossings(pattern string) []crossing {
	re := regexp.MustCompile(pattern)
	p.mu.Lock()
	defer p.mu.Unlock()
	var found []crossing
	for _, c := range p.seen {
		if re.MatchString(c.method + " " + c.path) {
			found = append(found, c)
		}
	}
	return found
}

// sent is how many bytes of blobs came.
func (p *passage) sent() (sum int64) {
	for _, c := range p.crossings("/blobs/uploads/") {
		sum += c.sent
	}
	return sum
}

func (p *passage) dump() string {
	var b strings.Builder
	for _, c := range p.crossings("") {
		fmt.Fprintf(&b, "  %s %s: %d bytes, status %d\n", c.method, c.path, c.sent, c.status)
	}
	return b.String()
}

// received is how many bytes the registry gave for requests that match.
func (p *passage) received(pattern string) (sum int64) {
	for _, c := range p.crossings(pattern) {
		sum += c.got
	}
	return sum
}

// each makes a rule of an answer to the first n requests that match "METHOD PATH".
func each(n int, pattern string, answer http.HandlerFunc) rule {
	re := regexp.MustCompile(pattern)
	var mu sync.Mutex
	return func(w http.ResponseWriter, r *http.Request) bool {
		if !re.MatchString(r.Method + " " + r.URL.RequestURI()) {
			return false
		}
		mu.Lock()
		n--
		done := n < 0
		mu.Unlock()
		if !done {
			answer(w, r)
		}
		return !done
	}
}

// all makes one rule of several.
func all(rules ...rule) rule {
	return func(w http.ResponseWriter, r *http.Request) bool {
		for _, rule := range rules {
			if rule(w, r) {
				return true
			}
		}
		return false
	}
}

// refusal is an answer with the specification's error.
func refusal(status int, code, message string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if status == http.StatusTooManyRequests {
			w.Header().Set("Retry-After", "1")
		}
		w.WriteHeader(status)
		fmt.Fprintf(w, `{"errors":[{"code":%q,"message":%q}]}`, code, message)
	}
}
