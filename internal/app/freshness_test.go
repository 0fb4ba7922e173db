package app_test

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sampan/internal/cache"
	"sampan/internal/fill"
	names "sampan/internal/mirror"
	"sampan/internal/oci"
	"sampan/internal/refs/bolt"
	"sampan/internal/registrytest"
	"sampan/internal/server"
	"sampan/internal/store/disk"
	"sampan/internal/upstream"
)

// A stack is the server over the cache over one registry in memory, on a fake
// clock: the rooms as App puts them together, without its sockets.
type stack struct {
	http.Handler
	up *registrytest.Registry
}

const freshFor = time.Minute

// newStack serves example.test. It must be called in a bubble.
func newStack(t *testing.T, policy cache.Freshness) *stack {
	t.Helper()
	s := &stack{}
	var err error
	must := func() {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	s.up, err = registrytest.Start(registrytest.Options{InMemory: true})
	must()
	dir, log := t.TempDir(), slog.New(slog.DiscardHandler)
	blobs, err := disk.New(disk.Options{Dir: dir})
	must()
	index, err := bolt.Open(filepath.Join(dir, "index.db"), log)
	must()
	fills, err := fill.New(fill.Options{Store: blobs, Log: log})
	must()
	registry, err := oci.ParseRegistry("example.test")
	must()
	endpoint, err := url.Parse(s.up.URL())
	must()
	reader, err := upstream.New(upstream.Options{Registry: registry, Endpoints: []*url.URL{endpoint}, Transport: s.up.Transport()})
	must()
	c, err := cache.New(cache.Options{
		Store: blobs, Refs: index, Fills: fills, Log: log,
		Upstream: func(oci.Registry) (oci.Reader, error) { return reader, nil },
		Policy:   func(oci.Repository) cache.Freshness { return policy },
	})
	must()
	n, err := names.New(names.Options{Upstreams: []names.Upstream{{Registry: registry}, {Registry: oci.DockerHub}}})
	must()
	s.Handler, err = server.New(server.Options{Reader: c, Names: n, Log: log})
	must()
	t.Cleanup(func() {
		c.Close()
		fills.Close()
		for _, closed := range []error{reader.Close(), index.Close(), blobs.Close(), s.up.Close()} {
			if closed != nil {
				t.Error(closed)
			}
		}
	})
	return s
}

// do is one request about example.test/team/web.
func (s *stack) do(t *testing.T, method, below string) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, "/v2/example.test/team/web/"+below, nil))
	return w
}

// pull gets an image as a client does: the tag, the manifest by its digest, the
// blobs. All of them must be of one generation. It returns the digest.
func (s *stack) pull(t *testing.T, tag string) string {
	t.Helper()
	head := s.do(t, http.MethodHead, "manifests/"+tag)
	digest := head.Header().Get("Docker-Content-Digest")
	body := s.do(t, http.MethodGet, "manifests/"+digest)
	d, err := oci.ParseDigest(digest)
	if err != nil || head.Code != http.StatusOK || body.Code != http.StatusOK || !d.Verify(body.Body.Bytes()) {
		t.Errorf("%s: %d, then %d: %s", tag, head.Code, body.Code, body.Body)
		return digest
	}
	g, err := oci.Manifest{Bytes: body.Body.Bytes()}.Graph()
	if err != nil {
		t.Error(err)
	}
	for _, desc := range g.Blobs {
		if b := s.do(t, http.MethodGet, "blobs/"+desc.Digest.String()); b.Code != http.StatusOK || !desc.Digest.Verify(b.Body.Bytes()) {
			t.Errorf("blob %s of %s: %d", desc.Digest, digest, b.Code)
		}
	}
	return digest
}

func (s *stack) counts(t *testing.T, head, get int) {
	t.Helper()
	if h, g := s.up.Count(registrytest.KindManifest, http.MethodHead), s.up.Count(registrytest.KindAny, http.MethodGet); h != head || g != get {
		t.Errorf("the upstream was asked %d HEAD and %d GET, want %d and %d: %+v", h, g, head, get, s.up.Requests())
	}
	s.up.ResetCounts()
}

func crowd(n int, f func(i int)) {
	var clients sync.WaitGroup
	for i := range n {
		clients.Go(func() { f(i) })
	}
	clients.Wait()
}

func TestUnchangedTagCostsOneHEADForAHundredClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStack(t, cache.Freshness{FreshFor: freshFor, StaleIfError: cache.Forever})
		img := s.up.AddImage("team/web", "v1", registrytest.ImageSpec{Layers: []int64{5000, 700}, Seed: 1})
		s.pull(t, "v1")
		synctest.Wait()
		s.up.ResetCounts()
		crowd(100, func(int) { s.pull(t, "v1") })
		s.counts(t, 0, 0)
		for range 3 {
			time.Sleep(freshFor)
			crowd(100, func(int) {
				if got := s.pull(t, "v1"); got != img.Manifest.Descriptor.Digest.String() {
					t.Errorf("got %s", got)
				}
			})
			s.counts(t, 1, 0)
		}
	})
}

func TestMovedTagIsSeenWithinItsFreshnessByAHundredClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStack(t, cache.Freshness{FreshFor: freshFor, StaleIfError: cache.Forever})
		spec := func(seed uint64) registrytest.ImageSpec {
			return registrytest.ImageSpec{Layers: []int64{5000, 700}, Seed: seed}
		}
		s.up.AddImage("team/web", "v1", spec(1))
		s.pull(t, "v1")
		for generation := range uint64(5) {
			old := s.pull(t, "v1")
			moved := s.up.AddImage("team/web", "v1", spec(generation+2)).Manifest.Descriptor.Digest.String()
			synctest.Wait()
			s.up.ResetCounts()
			crowd(50, func(i int) { // around the moment when it expires
				time.Sleep(freshFor - 25*time.Millisecond + time.Duration(i)*time.Millisecond)
				if got := s.pull(t, "v1"); got != old && got != moved {
					t.Errorf("got %s, neither the old one nor the new one", got)
				}
			})
			crowd(50, func(int) {
				if got := s.pull(t, "v1"); got != moved {
					t.Errorf("got %s after its freshness, want %s", got, moved)
				}
			})
			synctest.Wait()
			s.counts(t, 1, 1+3) // the new manifest, its config and two layers
		}
	})
}

// A tag that is gone is told to be gone, is not asked for again for a moment,
// and its digest stays.
func TestTagThatIsGoneIsRemovedAndItsDigestIsNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStack(t, cache.Freshness{FreshFor: freshFor, StaleIfError: cache.Forever, MissingFor: 30 * time.Second})
		s.up.AddImage("team/web", "v1", registrytest.ImageSpec{Layers: []int64{5000}, Seed: 1})
		digest := s.pull(t, "v1")
		synctest.Wait()
		s.up.Remove("team/web", "v1")
		time.Sleep(freshFor)
		s.up.ResetCounts()
		crowd(100, func(int) {
			if r := s.do(t, http.MethodGet, "manifests/v1"); r.Code != http.StatusNotFound || !strings.Contains(r.Body.String(), "MANIFEST_UNKNOWN") {
				t.Errorf("got %d %s", r.Code, r.Body)
			}
		})
		s.counts(t, 1, 0)
		// The upstream goes down: what it said stands.
		s.up.SetBehavior(down())
		time.Sleep(time.Hour)
		if r := s.do(t, http.MethodGet, "manifests/v1"); r.Code != http.StatusServiceUnavailable {
			t.Errorf("a tag that was gone: %d %s", r.Code, r.Body)
		}
		s.up.ResetCounts()
		if got := s.pull(t, digest); got != digest {
			t.Errorf("by digest: %s", got)
		}
		s.counts(t, 0, 0)
	})
}

func down() registrytest.Behavior {
	return registrytest.Behavior{Faults: []registrytest.Fault{{On: []registrytest.Kind{registrytest.KindAny}, Answer: registrytest.Status(http.StatusBadGateway)}}}
}

func TestStaleAnswersCarryAWarningAndEndWithTheirBound(t *testing.T) {
	for _, tc := range []struct {
		name  string
		fault registrytest.Fault
		says  string
		last  int // the status behind the bound
	}{
		{"a broken upstream", registrytest.Fault{Answer: registrytest.Status(http.StatusBadGateway)}, "gives no answer", http.StatusServiceUnavailable},
		{"a rate limit", registrytest.Fault{Answer: registrytest.TooMany(registrytest.TooManyHub, 3*time.Second)}, "limits how often", http.StatusTooManyRequests},
		{"a hanging upstream", registrytest.Fault{HangBeforeHeaders: registrytest.NewGate()}, "gives no answer", http.StatusServiceUnavailable},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStack(t, cache.Freshness{FreshFor: freshFor, StaleIfError: time.Hour})
				s.up.AddImage("team/web", "v1", registrytest.ImageSpec{Layers: []int64{5000}, Seed: 1})
				want := s.pull(t, "v1")
				checked := time.Now().UTC().Format(time.RFC3339)
				synctest.Wait()
				fault := tc.fault
				if fault.HangBeforeHeaders != nil {
					fault.HangBeforeHeaders = registrytest.NewGate() // of this bubble
				}
				fault.On = []registrytest.Kind{registrytest.KindAny}
				s.up.SetBehavior(registrytest.Behavior{Faults: []registrytest.Fault{fault}})
				time.Sleep(50 * time.Minute)
				r := s.do(t, http.MethodGet, "manifests/v1")
				warning := r.Header().Get("Warning")
				if r.Code != http.StatusOK || r.Header().Get("Docker-Content-Digest") != want ||
					!strings.HasPrefix(warning, "299 - ") || !strings.Contains(warning, tc.says) || !strings.Contains(warning, checked) {
					t.Errorf("%d, Warning %q, want %s", r.Code, warning, checked)
				}
				if b := s.do(t, http.MethodGet, "manifests/"+want); b.Header().Get("Warning") != "" {
					t.Errorf("a digest is never stale: %q", b.Header().Get("Warning"))
				}
				time.Sleep(15 * time.Minute)
				if r := s.do(t, http.MethodGet, "manifests/v1"); r.Code != tc.last || !strings.Contains(r.Body.String(), "stale_if_error") {
					t.Errorf("behind the bound: %d %s", r.Code, r.Body)
				}
			})
		})
	}
}

// A mirror starts without a word to anybody, so that upstreams that are down do
// not delay it.
func TestStartDialsNobody(t *testing.T) {
	up := registrytest.StartTest(t, registrytest.Options{})
	var flags []string
	for _, name := range []string{"docker.io", "quay.io", "gcr.io", "ghcr.io", "registry.k8s.io"} {
		flags = append(flags, name+"="+up.URL())
	}
	m := start(t, dataDir(t), flags...)
	if r := fetch(t, m.client, "http://"+m.app.AdminAddr()+"/readyz"); r.status != http.StatusOK {
		t.Errorf("not ready: %d", r.status)
	}
	if n := up.Connections(); n != 0 {
		t.Errorf("%d connections at the start", n)
	}
}

func TestOfflineMirrorServesWhatIsHereAndDialsNobody(t *testing.T) {
	up := registrytest.StartTest(t, registrytest.Options{})
	up.AddImage("team/web", "v1", threeLayers(2))
	up.AddImage("team/web", "v2", threeLayers(0))
	dir := dataDir(t)
	m := start(t, dir, "example.test="+up.URL())
	if err := m.pull("example.test/team/web", "v1"); err != nil {
		t.Fatal(err)
	}
	m.end(t)
	c := load(t, dir, "example.test="+up.URL())
	c.Offline, c.Tags.FreshFor = true, 0
	up.ResetCounts()
	m = serve(t, c)
	if err := m.pull("example.test/team/web", "v1"); err != nil {
		t.Error(err)
	}
	r := m.get(t, "/v2/example.test/team/web/manifests/v1")
	if warning := r.header.Get("Warning"); !strings.Contains(warning, "offline") {
		t.Errorf("Warning %q", warning)
	}
	for _, path := range []string{"manifests/v2", "manifests/" + oci.DigestOf(nil).String(), "blobs/" + oci.DigestOf(nil).String(), "tags/list"} {
		r := m.get(t, "/v2/example.test/team/web/"+path)
		if r.status != http.StatusServiceUnavailable || r.code() != "UNAVAILABLE" ||
			!strings.Contains(string(r.body), "offline") || !strings.Contains(string(r.body), "离线") {
			t.Errorf("%s: %d %s", path, r.status, r.body)
		}
	}
	metrics := string(fetch(t, m.client, "http://"+m.app.AdminAddr()+"/metrics").body)
	if want := fmt.Sprintf("sampan_cache_stale_answers_total{reason=%q,registry=%q} 2", "offline", "example.test"); !strings.Contains(metrics, want) {
		t.Errorf("metrics lack %s", want)
	}
	if n := up.Connections(); n != 0 {
		t.Errorf("%d connections", n)
	}
}
