package upstream

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sampan/internal/oci"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A call is one request that a server of a test received.
type call struct{ method, target, auth, host, rng string }

// A fake is a server that answers as a test wants and remembers what it was
// asked.
type fake struct {
	*httptest.Server
	mu    sync.Mutex
	calls []call
}

func newFake(t *testing.T, answer http.HandlerFunc) *fake {
	t.Helper()
	f := &fake{}
	f.Server = httptest.NewServer(f.record(answer))
	t.Cleanup(f.Close)
	return f
}

func (f *fake) record(answer http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		f.mu.Lock()
		f.calls = append(f.calls, call{req.Method, req.RequestURI, req.Header.Get("Authorization"), req.Host, req.Header.Get("Range")})
		f.mu.Unlock()
		answer(w, req)
	})
}

// asked returns "METHOD target" of every request so far.
func (f *fake) asked() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []string
	for _, c := range f.calls {
		all = append(all, c.method+" "+c.target)
	}
	return all
}

func (f *fake) all() []call {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]call(nil), f.calls...)
}

func mustURL(t *testing.T, s string) *url.URL {
	t.Helper()
	return urls(t, s)[0]
}

// open makes a Registry that is closed with the test.
func open(t *testing.T, o Options, endpoints ...string) *Registry {
	t.Helper()
	if o.Registry.IsZero() {
		o.Registry = oci.DockerHub
	}
	o.Endpoints = append(o.Endpoints, urls(t, endpoints...)...)
	r, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

func repository(t *testing.T, path string) oci.Repository {
	t.Helper()
	repo, err := oci.DockerHub.Repository(path)
	if err != nil {
		t.Fatal(err)
	}
	return repo
}

func tag(t *testing.T, s string) oci.Tag {
	t.Helper()
	tag, err := oci.ParseTag(s)
	if err != nil {
		t.Fatal(err)
	}
	return tag
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return b
}

func readAll(t *testing.T, b oci.BlobReader) []byte {
	t.Helper()
	defer func() { _ = b.Close() }()
	got, err := io.ReadAll(b)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func wantCode(t *testing.T, err error, code oci.Code) {
	t.Helper()
	if got := oci.CodeOf(err); got != code {
		t.Fatalf("got code %q, want %q; error: %v", got, code, err)
	}
}

const manifestText = `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{},"layers":[]}`

func writeManifest(w http.ResponseWriter) {
	w.Header().Set("Content-Type", oci.MediaTypeImageManifest)
	w.Header().Set("Docker-Content-Digest", oci.DigestOf([]byte(manifestText)).String())
	w.Header().Set("Content-Length", fmt.Sprint(len(manifestText)))
	_, _ = io.WriteString(w, manifestText)
}

func writeToken(w http.ResponseWriter, value string, expires int) {
	_ = json.NewEncoder(w).Encode(map[string]any{"token": value, "expires_in": expires})
}

// hub is a registry in the manner of Docker Hub: Bearer tokens at its own
// "/token", blobs at another server.
type hub struct {
	*fake
	storage *fake
	blob    []byte
}

func newHub(t *testing.T, blob []byte) *hub {
	h := &hub{blob: blob}
	h.storage = newFake(t, func(w http.ResponseWriter, req *http.Request) {
		if req.Header.Get("Authorization") != "" || req.Method != http.MethodGet {
			http.Error(w, "only one mechanism", http.StatusBadRequest)
			return
		}
		http.ServeContent(w, req, "", time.Time{}, strings.NewReader(string(h.blob)))
	})
	h.fake = newFake(t, h.answer)
	return h
}

func (h *hub) answer(w http.ResponseWriter, req *http.Request) {
	if req.URL.Path == "/token" {
		writeToken(w, "for-"+req.URL.Query().Get("scope"), 300)
		return
	}
	path, _, _ := strings.Cut(strings.TrimPrefix(req.URL.Path, "/v2/"), "/manifests/")
	path, _, _ = strings.Cut(path, "/blobs/")
	path, _, _ = strings.Cut(path, "/tags/")
	if req.Header.Get("Authorization") != "Bearer for-repository:"+path+":pull" {
		w.Header().Set("WWW-Authenticate", `Bearer realm="`+h.URL+`/token",service="hub",scope="repository:user/image:pull"`)
		http.Error(w, `{"errors":[{"code":"UNAUTHORIZED"}]}`, http.StatusUnauthorized)
		return
	}
	switch {
	case strings.Contains(req.URL.Path, "/manifests/"):
		writeManifest(w)
	case strings.Contains(req.URL.Path, "/blobs/"):
		http.Redirect(w, req, h.storage.URL+"/x//y/data?sig=a%2Fb+c", http.StatusTemporaryRedirect)
	default:
		http.NotFound(w, req)
	}
}

func TestPullOfAnImageCostsOneTokenAndOneRequestEach(t *testing.T) {
	blob := randomBytes(300 << 10)
	h := newHub(t, blob)
	r := open(t, Options{}, h.URL)
	ctx, repo := t.Context(), repository(t, "library/busybox")

	d, err := r.ResolveTag(ctx, repo, tag(t, "latest"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Manifest(ctx, repo, d.Digest); err != nil {
		t.Fatal(err)
	}
	const layers = 5
	for range layers {
		b, err := r.Blob(ctx, repo, oci.DigestOf(blob))
		if err != nil {
			t.Fatal(err)
		}
		if b.Descriptor().Size != int64(len(blob)) {
			t.Errorf("size %d, want %d", b.Descriptor().Size, len(blob))
		}
		if string(readAll(t, b)) != string(blob) {
			t.Error("wrong bytes")
		}
	}
	asked := h.asked()
	if len(asked) != layers+4 {
		t.Errorf("%d requests, want %d: %q", len(asked), layers+4, asked)
	}
	tokens := 0
	for _, a := range asked {
		if strings.HasPrefix(a, "GET /token") {
			tokens++
		}
	}
	if tokens != 1 {
		t.Errorf("%d tokens, want 1", tokens)
	}
	for _, c := range h.storage.all() {
		if c.auth != "" || c.target != "/x//y/data?sig=a%2Fb+c" {
			t.Errorf("storage was asked for %q with authorization %q", c.target, c.auth)
		}
	}
}

func TestCancelledCallerGetsItsOwnError(t *testing.T) {
	h := newHub(t, nil)
	r := open(t, Options{}, h.URL)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := r.ResolveTag(ctx, repository(t, "a/b"), tag(t, "x"))
	if oci.CodeOf(err) != "" || !strings.Contains(err.Error(), context.Canceled.Error()) {
		t.Errorf("got %v", err)
	}
}

func urls(t testing.TB, all ...string) []*url.URL {
	t.Helper()
	var list []*url.URL
	for _, s := range all {
		u, err := url.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, u)
	}
	return list
}
