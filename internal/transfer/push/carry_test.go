package push

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"sampan/internal/oci"
	"sampan/internal/progress"
	"sampan/internal/transfer"
	"sampan/internal/transfer/remote"
)

// server is a registry that takes pushes, and refuses what names something that it
// does not have.
type server struct {
	*httptest.Server
	fault func(w http.ResponseWriter, r *http.Request) bool // true where it answered

	mu      sync.Mutex
	content map[string]string // "repo/blobs/digest", "repo/manifests/digest" and ".../tag"
	asked   []string          // methods and paths
}

func newServer(t *testing.T) *server {
	t.Helper()
	s := &server{content: map[string]string{}}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *server) writer(t *testing.T) transfer.Writer {
	t.Helper()
	name, err := oci.ParseRegistry(s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	w, err := remote.Open(name, remote.Options{}, true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w
}

// ServeHTTP implements [http.Handler].
func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the client broke off
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	path := strings.TrimPrefix(r.URL.Path, "/v2/")
	s.asked = append(s.asked, r.Method+" "+path)
	if s.fault != nil && s.fault(w, r) {
		return
	}
	repo, _, _ := strings.Cut(path, "/blobs/")
	repo, _, _ = strings.Cut(repo, "/manifests/")
	switch {
	case r.Method == http.MethodHead || r.Method == http.MethodGet:
		content, ok := s.content[path]
		if !ok {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		w.Header().Set("Content-Length", fmt.Sprint(len(content)))
		w.Header().Set("Docker-Content-Digest", oci.DigestOf([]byte(content)).String())
		w.Header().Set("Content-Type", oci.MediaTypeImageManifest)
		if r.Method == http.MethodGet {
			io.WriteString(w, content)
		}
	case r.Method == http.MethodPost && r.URL.Query().Get("mount") != "":
		digest := r.URL.Query().Get("mount")
		if content, ok := s.content[r.URL.Query().Get("from")+"/blobs/"+digest]; ok {
			s.content[repo+"/blobs/"+digest] = content
			w.WriteHeader(http.StatusCreated)
			return
		}
		fallthrough
	case r.Method == http.MethodPost:
		w.Header().Set("Location", "/v2/"+repo+"/blobs/uploads/1?state=x")
		w.WriteHeader(http.StatusAccepted)
	case strings.Contains(path, "/uploads/"):
		digest := r.URL.Query().Get("digest")
		if oci.DigestOf(body).String() != digest {
			refuse(w, http.StatusBadRequest, "DIGEST_INVALID")
			return
		}
		s.content[repo+"/blobs/"+digest] = string(body)
		w.WriteHeader(http.StatusCreated)
	default:
		s.putManifest(w, path, repo, body)
	}
}

func (s *server) putManifest(w http.ResponseWriter, path, repo string, body []byte) {
	g, err := oci.Manifest{Bytes: body}.Graph()
	for _, d := range g.Blobs {
		if _, ok := s.content[repo+"/blobs/"+d.Digest.String()]; !ok {
			err = oci.ErrBlobUnknown
		}
	}
	for _, d := range g.Manifests {
		if _, ok := s.content[repo+"/manifests/"+d.Digest.String()]; !ok {
			err = oci.ErrManifestUnknown
		}
	}
	if err != nil {
		refuse(w, http.StatusBadRequest, "MANIFEST_BLOB_UNKNOWN")
		return
	}
	s.content[path] = string(body)
	s.content[repo+"/manifests/"+oci.DigestOf(body).String()] = string(body)
	w.WriteHeader(http.StatusCreated)
}

func refuse(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"errors":[{"code":%q,"message":"no \u0007 %s"}]}`, code, code)
}

func (s *server) get(name string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.content[name]
}

func (s *server) set(name, content string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.content[name] = content
}

func (s *server) fail(fault func(w http.ResponseWriter, r *http.Request) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = fault
}

func (s *server) count(method, part string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, a := range s.asked {
		if strings.HasPrefix(a, method+" ") && strings.Contains(a, part) {
			n++
		}
	}
	return n
}

// memory is an oci.Reader of what a test gives it, in any repository.
type memory struct {
	content map[oci.Digest]string
	root    oci.Digest
	opened  atomic.Int64
}

// twoPlatforms is an index of two images that share a layer.
func twoPlatforms() *memory {
	m := &memory{content: map[oci.Digest]string{}}
	add := func(mediaType, content string) oci.Descriptor {
		d := oci.Descriptor{MediaType: mediaType, Digest: oci.DigestOf([]byte(content)), Size: int64(len(content))}
		m.content[d.Digest] = content
		return d
	}
	encode := func(v any) string {
		raw, err := json.Marshal(v)
		if err != nil {
			panic(err)
		}
		return string(raw)
	}
	layer := add("application/vnd.oci.image.layer.v1.tar", strings.Repeat("layer", 1000))
	var children []oci.Descriptor
	for _, config := range []string{"{}", `{"n":2}`} {
		children = append(children, add(oci.MediaTypeImageManifest, encode(map[string]any{
			"schemaVersion": 2, "mediaType": oci.MediaTypeImageManifest, "config": add("application/vnd.oci.image.config.v1+json", config), "layers": []oci.Descriptor{layer},
		})))
	}
	m.root = add(oci.MediaTypeImageIndex, encode(map[string]any{"schemaVersion": 2, "mediaType": oci.MediaTypeImageIndex, "manifests": children})).Digest
	return m
}

func (m *memory) Manifest(_ context.Context, _ oci.Repository, digest oci.Digest) (oci.Manifest, error) {
	raw, ok := m.content[digest]
	if !ok {
		return oci.Manifest{}, oci.ErrManifestUnknown
	}
	mediaType := oci.MediaTypeImageManifest
	if digest == m.root {
		mediaType = oci.MediaTypeImageIndex
	}
	return oci.Manifest{Descriptor: oci.Descriptor{MediaType: mediaType, Digest: digest, Size: int64(len(raw))}, Bytes: []byte(raw)}, nil
}

type opened struct {
	*strings.Reader
	d oci.Descriptor
}

func (o opened) Close() error               { return nil }
func (o opened) Descriptor() oci.Descriptor { return o.d }

func (m *memory) Blob(_ context.Context, _ oci.Repository, digest oci.Digest) (oci.BlobReader, error) {
	raw, ok := m.content[digest]
	if !ok {
		return nil, oci.ErrBlobUnknown
	}
	m.opened.Add(1)
	return opened{strings.NewReader(raw), oci.Descriptor{Digest: digest, Size: int64(len(raw))}}, nil
}

func (m *memory) ResolveTag(context.Context, oci.Repository, oci.Tag) (oci.Descriptor, error) {
	return oci.Descriptor{}, oci.ErrManifestUnknown
}
func (m *memory) Tags(context.Context, oci.Repository) ([]oci.Tag, error) { return nil, nil }
func (m *memory) Referrers(context.Context, oci.Repository, oci.Digest) ([]oci.Descriptor, error) {
	return nil, nil
}

func (s *server) job(t *testing.T, m *memory, repo, tag string) transfer.Job {
	t.Helper()
	ref, err := oci.ParseReference(s.Listener.Addr().String() + "/" + repo + ":" + tag)
	if err != nil {
		t.Fatal(err)
	}
	return transfer.Job{
		Source: oci.Reference{Repository: ref.Repository, Digest: m.root}, Reader: m,
		Target: ref.Repository, Tags: []oci.Tag{ref.Tag}, Referrers: true,
	}
}

func TestAnImageIsCarriedWhole(t *testing.T) {
	s, m := newServer(t), twoPlatforms()
	w := s.writer(t)
	if err := Carry(t.Context(), []transfer.Job{s.job(t, m, "a/b", "1")}, nil, w, progress.None()); err != nil {
		t.Fatal(err)
	}
	if s.get("a/b/manifests/1") != m.content[m.root] {
		t.Error("the tag is not there")
	}
	if m.opened.Load() != 3 {
		t.Errorf("%d blobs were read, want 3", m.opened.Load())
	}
	// The second time nothing is read, and in another repository nothing is uploaded.
	if err := Carry(t.Context(), []transfer.Job{s.job(t, m, "a/b", "1"), s.job(t, m, "c", "1")}, nil, w, progress.None()); err != nil {
		t.Fatal(err)
	}
	if m.opened.Load() != 3 || s.count(http.MethodPut, "/uploads/") != 3 {
		t.Errorf("%d blobs were read, %d were uploaded", m.opened.Load(), s.count(http.MethodPut, "/uploads/"))
	}
	if s.get("c/manifests/1") != m.content[m.root] {
		t.Error("the tag of the other repository is not there")
	}
}

// Whatever fails, no tag points at something incomplete, and running again finishes.
func TestNothingIncompleteIsPublished(t *testing.T) {
	for fact, fault := range map[string]func(w http.ResponseWriter, r *http.Request) bool{
		"an upload is refused": func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method != http.MethodPut || !strings.Contains(r.URL.Path, "/uploads/") {
				return false
			}
			refuse(w, http.StatusForbidden, "DENIED")
			return true
		},
		"an upload is forgotten": func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method != http.MethodPut || !strings.Contains(r.URL.Path, "/uploads/") {
				return false
			}
			refuse(w, http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN")
			return true
		},
		"the type is refused": func(w http.ResponseWriter, r *http.Request) bool {
			if r.Header.Get("Content-Type") != oci.MediaTypeImageIndex {
				return false
			}
			refuse(w, http.StatusBadRequest, "MANIFEST_INVALID")
			return true
		},
		"the disk is full": func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodHead {
				return false
			}
			w.WriteHeader(http.StatusInsufficientStorage)
			return true
		},
		"a page of HTML": func(w http.ResponseWriter, _ *http.Request) bool {
			w.WriteHeader(http.StatusBadGateway)
			io.WriteString(w, "<html>bad gateway</html>")
			return true
		},
	} {
		t.Run(fact, func(t *testing.T) {
			s, m := newServer(t), twoPlatforms()
			s.fail(fault)
			jobs := []transfer.Job{s.job(t, m, "a", "1")}
			if err := Carry(t.Context(), jobs, nil, s.writer(t), progress.None()); err == nil || strings.ContainsRune(err.Error(), 7) {
				t.Errorf("got %v", err)
			}
			if s.get("a/manifests/1") != "" {
				t.Error("there is a tag")
			}
			s.fail(nil)
			if err := Carry(t.Context(), jobs, nil, s.writer(t), progress.None()); err != nil {
				t.Error(err)
			}
			if s.get("a/manifests/1") != m.content[m.root] {
				t.Error("the tag is not there")
			}
		})
	}
}

func TestWhatNobodyHasIsTold(t *testing.T) {
	s, m := newServer(t), twoPlatforms()
	jobs := []transfer.Job{s.job(t, m, "a", "1")}
	layer := strings.Repeat("layer", 1000)
	delete(m.content, oci.DigestOf([]byte(layer)))
	if err := Carry(t.Context(), jobs, nil, s.writer(t), progress.None()); !errors.Is(err, ErrLacks) {
		t.Errorf("got %v", err)
	}
	s.set("a/blobs/"+oci.DigestOf([]byte(layer)).String(), layer) // it was loaded before
	if err := Carry(t.Context(), jobs, nil, s.writer(t), progress.None()); err != nil {
		t.Error(err)
	}
}

// A blob that the archive leaves out is taken from where it was loaded to before.
func TestABlobThatIsLeftOutIsMounted(t *testing.T) {
	s, m := newServer(t), twoPlatforms()
	layer := strings.Repeat("layer", 1000)
	digest := oci.DigestOf([]byte(layer))
	delete(m.content, digest)
	s.set("before/blobs/"+digest.String(), layer)
	hints := map[oci.Digest]oci.Repository{digest: s.job(t, m, "before", "1").Target}
	if err := Carry(t.Context(), []transfer.Job{s.job(t, m, "a", "1")}, hints, s.writer(t), progress.None()); err != nil {
		t.Fatal(err)
	}
	if s.get("a/manifests/1") != m.content[m.root] {
		t.Error("the tag is not there")
	}
	hints[digest] = s.job(t, m, "nowhere", "1").Target
	if err := Carry(t.Context(), []transfer.Job{s.job(t, m, "b", "1")}, hints, s.writer(t), progress.None()); !errors.Is(err, ErrLacks) {
		t.Errorf("got %v", err)
	}
}
