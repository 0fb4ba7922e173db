//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// request is what an upstream was asked, and what it gave.
type request struct {
	method string
	path   string // with query
	rng    string // the Range header
	status int
	bytes  int64 // of the body, as far as it was sent
}

func (r request) String() string {
	s := fmt.Sprintf("%s %s -> %d, %d bytes", r.method, r.path, r.status, r.bytes)
	if r.rng != "" {
		s += " (Range: " + r.rng + ")"
	}
	return s
}

// upstream is a counting reverse proxy in front of one registry server. A test
// points sampan at it, asks what came through, and makes it misbehave.
type upstream struct {
	server *httptest.Server

	mu       sync.Mutex
	requests []*request
	faults   []*fault
}

// fault changes the answers to requests whose path matches: GET requests, or all
// of them if it is a status. The zero value of a field means that it does nothing.
type fault struct {
	path *regexp.Regexp
	once bool // only the first matching request

	cutAfter  int64         // end the connection after so many bytes of the body
	holdAfter int64         // after so many bytes, wait for release
	reached   chan struct{} // closed when holdAfter has been reached
	release   chan struct{}
	rate      int64 // bytes per second of each body
	corrupt   bool  // alter the first byte of the body
	status    int   // answer with this status and no body
}

func newUpstream(t *testing.T, registry string) *upstream {
	t.Helper()
	backend, err := url.Parse("http://" + registry)
	if err != nil {
		t.Fatal(err)
	}
	u := &upstream{}
	transport := &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 16}
	u.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		u.forward(w, r, backend, transport)
	}))
	t.Cleanup(func() {
		u.stop()
		transport.CloseIdleConnections()
	})
	return u
}

// url is what --upstream takes.
func (u *upstream) url() string { return u.server.URL }

// stop makes the upstream refuse connections, for ever.
func (u *upstream) stop() {
	u.server.CloseClientConnections()
	u.server.Close()
}

// misbehave adds a fault, which heal removes.
func (u *upstream) misbehave(f *fault) *fault {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.faults = append(u.faults, f)
	return f
}

func (u *upstream) heal() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.faults = nil
}

// hold makes the first request for path stop after so many bytes.
func (u *upstream) hold(path string, after int64) *fault {
	return u.misbehave(&fault{
		path: regexp.MustCompile(path), once: true,
		holdAfter: after, reached: make(chan struct{}), release: make(chan struct{}),
	})
}

func (u *upstream) forward(w http.ResponseWriter, r *http.Request, backend *url.URL, transport http.RoundTripper) {
	entry := &request{method: r.Method, path: r.URL.RequestURI(), rng: r.Header.Get("Range")}
	u.mu.Lock()
	u.requests = append(u.requests, entry)
	f := u.takeFault(r)
	u.mu.Unlock()

	if f != nil && f.status != 0 {
		u.mu.Lock()
		entry.status = f.status
		u.mu.Unlock()
		w.WriteHeader(f.status)
		return
	}
	out := r.Clone(r.Context())
	out.URL.Scheme, out.URL.Host, out.Host, out.RequestURI = backend.Scheme, backend.Host, backend.Host, ""
	answer, err := transport.RoundTrip(out)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer answer.Body.Close()
	for key, values := range answer.Header {
		for _, value := range values {
			w.Header().Add(key, strings.ReplaceAll(value, "http://"+backend.Host, u.server.URL))
		}
	}
	u.mu.Lock()
	entry.status = answer.StatusCode
	u.mu.Unlock()
	w.WriteHeader(answer.StatusCode)
	err = u.copyBody(w, r, answer.Body, entry, f)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
}

// takeFault is called with the lock held.
func (u *upstream) takeFault(r *http.Request) *fault {
	for i, f := range u.faults {
		if (r.Method == http.MethodGet || f.status != 0) && f.path.MatchString(r.URL.Path) {
			if f.once {
				u.faults = append(u.faults[:i:i], u.faults[i+1:]...)
			}
			return f
		}
	}
	return nil
}

func (u *upstream) copyBody(w http.ResponseWriter, r *http.Request, body io.Reader, entry *request, f *fault) error {
	buf := make([]byte, 64<<10)
	if f != nil && f.rate > 0 {
		buf = buf[:16<<10] // so that little is on its way
	}
	began := time.Now()
	var sent int64
	for {
		limit := int64(len(buf))
		if f != nil && f.cutAfter > 0 {
			limit = min(limit, f.cutAfter-sent)
		}
		if f != nil && f.holdAfter > sent {
			limit = min(limit, f.holdAfter-sent)
		}
		n, err := body.Read(buf[:limit])
		if f != nil && f.corrupt && sent == 0 && n > 0 {
			buf[0] ^= 0xff
		}
		if _, err := w.Write(buf[:n]); err != nil {
			return err
		}
		sent += int64(n)
		u.mu.Lock()
		entry.bytes = sent
		u.mu.Unlock()
		if f != nil && f.rate > 0 {
			http.NewResponseController(w).Flush()
			due := began.Add(time.Duration(float64(sent) / float64(f.rate) * float64(time.Second)))
			select {
			case <-time.After(time.Until(due)):
			case <-r.Context().Done():
				return r.Context().Err()
			}
		}
		if f != nil && f.holdAfter > 0 && sent == f.holdAfter {
			http.NewResponseController(w).Flush()
			close(f.reached)
			select {
			case <-f.release:
			case <-r.Context().Done():
				return r.Context().Err()
			}
			f = nil
		}
		if f != nil && f.cutAfter > 0 && sent == f.cutAfter {
			http.NewResponseController(w).Flush()
			return errors.New("cut by the test")
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// asked gives the requests so far whose "METHOD PATH" the pattern matches.
func (u *upstream) asked(pattern string) []request {
	re := regexp.MustCompile(pattern)
	u.mu.Lock()
	defer u.mu.Unlock()
	var found []request
	for _, r := range u.requests {
		if re.MatchString(r.method + " " + r.path) {
			found = append(found, *r)
		}
	}
	return found
}

// forget starts the count anew.
func (u *upstream) forget() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.requests = nil
}

// bodyBytes is how much the upstream sent for matching requests.
func (u *upstream) bodyBytes(pattern string) int64 {
	var sum int64
	for _, r := range u.asked(pattern) {
		sum += r.bytes
	}
	return sum
}

// wantAsked fails unless between low and high requests match.
func (u *upstream) wantAsked(t *testing.T, pattern string, low, high int) {
	t.Helper()
	if found := u.asked(pattern); len(found) < low || len(found) > high {
		t.Errorf("the upstream got %d requests matching %q, want %d to %d; all of them:\n%s", len(found), pattern, low, high, u.dump())
	}
}

func (u *upstream) dump() string {
	var lines []string
	for _, r := range u.asked("") {
		lines = append(lines, "  "+r.String())
	}
	return strings.Join(lines, "\n")
}

// mirrorDomain is the domain of the mirror's host names, and originAddress where
// the names of the real registries lead.
const (
	mirrorDomain  = "mirror.test"
	originAddress = "127.0.0.2"
)

var realRegistries = []string{
	"docker.io", "registry-1.docker.io", "index.docker.io", "auth.docker.io",
	"gcr.io", "k8s.gcr.io", "registry.k8s.io", "quay.io", "ghcr.io", "mcr.microsoft.com",
}

// origins listens where the real registries would be, and hangs up on whoever
// comes.
type origins struct {
	mu    sync.Mutex
	calls []string
}

func listenAsOrigins() (*origins, error) {
	o := &origins{}
	for _, port := range []string{"80", "443"} {
		listener, err := net.Listen("tcp", net.JoinHostPort(originAddress, port))
		if err != nil {
			return nil, err
		}
		go func() {
			for {
				conn, err := listener.Accept()
				if err != nil {
					return
				}
				go o.note(conn, port)
			}
		}()
	}
	return o, nil
}

// note records the first bytes, which hold the name in TLS and in HTTP.
func (o *origins) note(conn net.Conn, port string) {
	defer conn.Close()
	conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	buf := make([]byte, 2048)
	n, _ := conn.Read(buf)
	call := "port " + port
	for _, name := range realRegistries {
		if strings.Contains(string(buf[:n]), name) {
			call += ", " + name
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.calls = append(o.calls, call)
}

// since gives the calls after the first n, and how many there are.
func (o *origins) since(n int) ([]string, int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return append([]string(nil), o.calls[n:]...), len(o.calls)
}
