package remote

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"sampan/internal/oci"
)

// A fake is a registry that is pushed to, strict in what it takes: a manifest whose
// blobs or children are not there is refused, a tag points at what is there.
type fake struct {
	*httptest.Server
	behave behavior

	mu        sync.Mutex
	blobs     map[string]map[string][]byte // by repository and digest
	manifests map[string]map[string]stored // by repository, and digest or tag
	uploads   map[string][]byte
	next      int
	requests  []string // "METHOD path"
	hits      map[string]int
}

type stored struct {
	mediaType string
	raw       []byte
}

// A behavior is what a fake does wrong, or otherwise than others.
type behavior struct {
	noMount      bool  // a mount begins an upload
	refuseMount  bool  // a mount is denied
	absolute     bool  // Location is a whole URL, with a query
	largest      int64 // bytes of one request; more is 413
	least        int   // OCI-Chunk-Min-Length
	noHead       bool  // HEAD is 405
	noReferrers  bool
	wrongDigest  bool   // of manifests, echoed
	refusedType  string // of manifests: 415
	quota        int    // bytes of blobs; more is 507
	dropAt       int64  // the first bytes of a blob break off there, and are kept
	forgets      bool   // … and the upload is gone afterwards
	busy         int    // so many writes are answered with 429 first
	auth         bool   // tokens for the right scope are wanted
	unavailable  int    // so many manifests are answered with 503 first
	corruptBlobs bool   // DIGEST_INVALID for each
	keepsTags    int    // the status of DELETE of a tag; 0 deletes
	deletions    int    // so many manifests may be deleted, with their tags

	// instead answers a request in its own way, and tells whether it has; nil never does.
	// The fake is locked.
	instead func(f *fake, w http.ResponseWriter, r *http.Request) bool
}

func newFake(t *testing.T, b behavior) *fake {
	t.Helper()
	f := &fake{behave: b, blobs: map[string]map[string][]byte{}, manifests: map[string]map[string]stored{}, uploads: map[string][]byte{}, hits: map[string]int{}}
	f.Server = httptest.NewServer(f)
	t.Cleanup(f.Close)
	return f
}

func (f *fake) registry(t *testing.T) oci.Registry {
	t.Helper()
	r, err := oci.ParseRegistry(strings.TrimPrefix(f.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func refuse(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"errors":[{"code":%q,"message":%q}]}`, code, message)
}

func (f *fake) count(prefix string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, r := range f.requests {
		if strings.HasPrefix(r, prefix) {
			n++
		}
	}
	return n
}

func (f *fake) forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.requests = nil
}

// once tells whether something happens for the first n times.
func (f *fake) once(what string, n int) bool {
	f.hits[what]++
	return f.hits[what] <= n
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.requests = append(f.requests, r.Method+" "+r.URL.Path)
	if r.URL.Path == "/token" {
		fmt.Fprintf(w, `{"token":%q}`, strings.ReplaceAll(strings.Join(r.URL.Query()["scope"], ";"), "/", "."))
		return
	}
	rest := strings.TrimPrefix(r.URL.Path, "/v2/")
	repo, below, kind := rest, "", ""
	for _, k := range []string{"/blobs/uploads/", "/blobs/", "/manifests/", "/referrers/"} {
		if at := strings.Index(rest, k); at >= 0 {
			repo, below, kind = rest[:at], rest[at+len(k):], k
			break
		}
	}
	if f.behave.auth && !f.authorized(r, repo) {
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="%s/token",service="fake"`, f.URL))
		refuse(w, http.StatusUnauthorized, "UNAUTHORIZED", "who are you")
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead && f.once("busy", f.behave.busy) {
		w.Header().Set("Retry-After", "1")
		refuse(w, http.StatusTooManyRequests, "TOOMANYREQUESTS", "slowly")
		return
	}
	if f.behave.instead != nil && f.behave.instead(f, w, r) {
		return
	}
	if r.Method == http.MethodHead && f.behave.noHead {
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	switch kind {
	case "/blobs/uploads/":
		f.upload(w, r, repo, below)
	case "/blobs/":
		f.blob(w, repo, below)
	case "/manifests/":
		if r.Method == http.MethodDelete {
			f.delete(w, repo, below)
			return
		}
		f.manifest(w, r, repo, below)
	default:
		if f.behave.noReferrers || kind != "/referrers/" {
			refuse(w, http.StatusNotFound, "NOT_FOUND", "no such thing")
			return
		}
		w.Header().Set("Content-Type", oci.MediaTypeImageIndex)
		fmt.Fprint(w, `{"schemaVersion":2,"manifests":[]}`)
	}
}

// authorized tells whether the token, which says what was asked for, allows a request.
func (f *fake) authorized(r *http.Request, repo string) bool {
	token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	allows := func(repo, action string) bool {
		return slices.ContainsFunc(strings.Split(token, ";"), func(scope string) bool {
			actions, ok := strings.CutPrefix(scope, "repository:"+strings.ReplaceAll(repo, "/", ".")+":")
			return ok && slices.Contains(strings.Split(actions, ","), action)
		})
	}
	if from := r.URL.Query().Get("from"); from != "" && !allows(from, "pull") {
		return false
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		return allows(repo, "pull")
	case http.MethodDelete:
		return allows(repo, "delete")
	default:
		return allows(repo, "push")
	}
}

func (f *fake) blob(w http.ResponseWriter, repo, digest string) {
	b, ok := f.blobs[repo][digest]
	if !ok {
		refuse(w, http.StatusNotFound, "BLOB_UNKNOWN", "no such blob")
		return
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(b)))
	w.Write(b)
}

func (f *fake) upload(w http.ResponseWriter, r *http.Request, repo, id string) {
	if r.Method == http.MethodPost {
		f.begin(w, r, repo)
		return
	}
	have, ok := f.uploads[id]
	if !ok {
		refuse(w, http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN", "no such upload")
		return
	}
	if r.Method == http.MethodGet {
		f.went(w, repo, id, http.StatusNoContent)
		return
	}
	if from, _, _ := strings.Cut(r.Header.Get("Content-Range"), "-"); from != "" && from != strconv.Itoa(len(have)) {
		f.went(w, repo, id, http.StatusRequestedRangeNotSatisfiable)
		return
	}
	if f.behave.largest > 0 && r.ContentLength > f.behave.largest {
		refuse(w, http.StatusRequestEntityTooLarge, "", "too much at once")
		return
	}
	if f.behave.dropAt > 0 && r.ContentLength > f.behave.dropAt && f.once("drop", 1) {
		got, _ := io.ReadAll(io.LimitReader(r.Body, f.behave.dropAt))
		f.uploads[id] = append(have, got...)
		if f.behave.forgets {
			delete(f.uploads, id)
		}
		panic(http.ErrAbortHandler)
	}
	got, err := io.ReadAll(r.Body)
	if err != nil {
		f.uploads[id] = append(have, got...)
		return
	}
	have = append(have, got...)
	if r.Method == http.MethodPatch {
		if f.behave.least > 0 && len(got) < f.behave.least && len(got) > 0 && f.hits["short"] > 0 {
			refuse(w, http.StatusBadRequest, "SIZE_INVALID", "only the last may be short")
			return
		}
		if len(got) < f.behave.least {
			f.hits["short"]++
		}
		f.uploads[id] = have
		f.went(w, repo, id, http.StatusAccepted)
		return
	}
	delete(f.uploads, id)
	f.finish(w, repo, r.URL.Query().Get("digest"), have)
}

func (f *fake) finish(w http.ResponseWriter, repo, digest string, b []byte) {
	total := 0
	for _, list := range f.blobs {
		for _, have := range list {
			total += len(have)
		}
	}
	switch {
	case f.behave.corruptBlobs || fmt.Sprintf("sha256:%x", sha256.Sum256(b)) != digest:
		refuse(w, http.StatusBadRequest, "DIGEST_INVALID", "these are other bytes")
		return
	case f.behave.quota > 0 && total+len(b) > f.behave.quota:
		refuse(w, http.StatusInsufficientStorage, "", "quota")
		return
	}
	if f.blobs[repo] == nil {
		f.blobs[repo] = map[string][]byte{}
	}
	f.blobs[repo][digest] = b
	w.Header().Set("Docker-Content-Digest", digest)
	w.WriteHeader(http.StatusCreated)
}

func (f *fake) begin(w http.ResponseWriter, r *http.Request, repo string) {
	q := r.URL.Query()
	if mount := q.Get("mount"); mount != "" {
		if f.behave.refuseMount {
			refuse(w, http.StatusForbidden, "DENIED", "no mounts")
			return
		}
		if b, ok := f.blobs[q.Get("from")][mount]; ok && !f.behave.noMount {
			f.finish(w, repo, mount, b)
			return
		}
	}
	f.next++
	id := strconv.Itoa(f.next)
	f.uploads[id] = []byte{}
	if f.behave.least > 0 {
		w.Header().Set("OCI-Chunk-Min-Length", strconv.Itoa(f.behave.least))
	}
	f.went(w, repo, id, http.StatusAccepted)
}

func (f *fake) went(w http.ResponseWriter, repo, id string, status int) {
	location := "/v2/" + repo + "/blobs/uploads/" + id
	if f.behave.absolute {
		location = f.URL + location + "?_state=a%2Fb==&x"
	}
	w.Header().Set("Location", location)
	w.Header().Set("Range", fmt.Sprintf("0-%d", max(len(f.uploads[id])-1, 0)))
	w.WriteHeader(status)
}

func (f *fake) manifest(w http.ResponseWriter, r *http.Request, repo, ref string) {
	if r.Method != http.MethodPut {
		m, ok := f.manifests[repo][ref]
		if !ok {
			refuse(w, http.StatusNotFound, "MANIFEST_UNKNOWN", "no such manifest")
			return
		}
		w.Header().Set("Content-Type", m.mediaType)
		w.Header().Set("Docker-Content-Digest", oci.DigestOf(m.raw).String())
		w.Header().Set("Content-Length", strconv.Itoa(len(m.raw)))
		w.Write(m.raw)
		return
	}
	raw, _ := io.ReadAll(r.Body)
	mediaType := r.Header.Get("Content-Type")
	switch {
	case f.once("unavailable", f.behave.unavailable):
		refuse(w, http.StatusServiceUnavailable, "UNAVAILABLE", "later")
		return
	case mediaType == f.behave.refusedType:
		refuse(w, http.StatusUnsupportedMediaType, "MANIFEST_INVALID", "unknown media type")
		return
	case strings.HasPrefix(ref, "sha256:") && ref != oci.DigestOf(raw).String():
		refuse(w, http.StatusBadRequest, "DIGEST_INVALID", "another digest")
		return
	case !f.complete(repo, raw):
		refuse(w, http.StatusBadRequest, "MANIFEST_BLOB_UNKNOWN", "blob unknown")
		return
	}
	digest := oci.DigestOf(raw).String()
	if f.manifests[repo] == nil {
		f.manifests[repo] = map[string]stored{}
	}
	f.manifests[repo][digest] = stored{mediaType, raw}
	f.manifests[repo][ref] = stored{mediaType, raw}
	if f.behave.wrongDigest {
		digest = oci.DigestOf([]byte("another")).String()
	}
	w.Header().Set("Docker-Content-Digest", digest)
	var doc struct{ Subject *oci.Descriptor }
	if json.Unmarshal(raw, &doc) == nil && doc.Subject != nil && !f.behave.noReferrers {
		w.Header().Set("OCI-Subject", doc.Subject.Digest.String())
	}
	w.WriteHeader(http.StatusCreated)
}

// delete takes a tag away, or a manifest with its tags.
func (f *fake) delete(w http.ResponseWriter, repo, ref string) {
	of := f.manifests[repo]
	m, ok := of[ref]
	digest := strings.HasPrefix(ref, "sha256:")
	switch {
	case digest && !f.once("deletion", f.behave.deletions):
		refuse(w, http.StatusMethodNotAllowed, "UNSUPPORTED", "manifests stay")
	case !digest && f.behave.keepsTags != 0:
		refuse(w, f.behave.keepsTags, "DIGEST_INVALID", "tags stay")
	case !ok:
		refuse(w, http.StatusNotFound, "MANIFEST_UNKNOWN", "no such manifest")
	case digest:
		for name, have := range of {
			if string(have.raw) == string(m.raw) {
				delete(of, name)
			}
		}
		w.WriteHeader(http.StatusAccepted)
	default:
		delete(of, ref)
		w.WriteHeader(http.StatusAccepted)
	}
}

// complete tells whether all that a manifest names is there.
func (f *fake) complete(repo string, raw []byte) bool {
	g, err := oci.Manifest{Bytes: raw}.Graph()
	if err != nil {
		return false
	}
	for _, d := range g.Blobs {
		if _, ok := f.blobs[repo][d.Digest.String()]; !ok {
			return false
		}
	}
	for _, d := range g.Manifests {
		if _, ok := f.manifests[repo][d.Digest.String()]; !ok {
			return false
		}
	}
	return true
}

// tags are those of a repository.
func (f *fake) tags(repo string) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var list []string
	for name := range f.manifests[repo] {
		if !strings.HasPrefix(name, "sha256:") {
			list = append(list, name)
		}
	}
	slices.Sort(list)
	return list
}
