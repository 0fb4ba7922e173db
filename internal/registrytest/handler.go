package registrytest

import (
	"net/http"
	"strings"
	"sync/atomic"

	"sampan/internal/oci"
)

// handler answers as one site.
func (r *Registry) handler(as role) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if !r.enter() {
			panic(http.ErrAbortHandler)
		}
		defer r.running.Done()
		t := parse(as, req.URL.Path)
		e := r.count.begin(req, t.kind, r.userOf(req))
		rec := &recorder{ResponseWriter: w, entry: e, total: &r.count.bytes}
		st := r.state.Load()
		if !r.sleep(req.Context(), st.Pace.Latency) {
			cut(rec, false)
			return
		}
		if h := r.injected.take(t.kind); h != nil {
			h(rec, req)
			return
		}
		r.dispatch(rec, req, st, t)
	})
}

// enter keeps Close waiting until running.Done; it is false once closed.
func (r *Registry) enter() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return false
	}
	r.running.Add(1)
	return true
}

// target is what a path names.
type target struct {
	kind Kind
	repo string
	ref  string // a tag or digest, or what stands in its place
}

// parse reads a path of one of the sites.
func parse(as role, path string) target {
	switch {
	case path == "/token":
		return target{kind: KindToken}
	case as == roleCDN, strings.HasPrefix(path, selfPrefix), strings.HasPrefix(path, k8sPrefix):
		return target{kind: KindCDN}
	case as == roleToken:
		return target{kind: KindOther}
	case path == "/v2/" || path == "/v2":
		return target{kind: KindPing}
	default:
		return parseAPI(strings.TrimPrefix(path, "/v2/"))
	}
}

// parseAPI reads what follows /v2/.
func parseAPI(rest string) target {
	if repo, ok := strings.CutSuffix(rest, "/tags/list"); ok {
		return target{KindTags, repo, ""}
	}
	slash := strings.LastIndexByte(rest, '/')
	if slash < 0 {
		return target{kind: KindOther}
	}
	path, ref := rest[:slash], rest[slash+1:]
	if slash = strings.LastIndexByte(path, '/'); slash <= 0 || ref == "" {
		return target{kind: KindOther}
	}
	repo := path[:slash]
	switch path[slash+1:] {
	case "manifests":
		return target{KindManifest, repo, ref}
	case "blobs":
		return target{KindBlob, repo, ref}
	case "referrers":
		return target{KindReferrers, repo, ref}
	default:
		return target{kind: KindOther}
	}
}

func (r *Registry) dispatch(w *recorder, req *http.Request, st *state, t target) {
	switch t.kind {
	case KindToken:
		r.serveToken(w, req, st)
		return
	case KindCDN:
		r.serveCDN(w, req, st)
		return
	}
	w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
	if req.Method != http.MethodGet && req.Method != http.MethodHead {
		writeError(w, http.StatusMethodNotAllowed, oci.CodeUnsupported, "this registry is read-only")
		return
	}
	if !r.authorize(w, req, st, t) {
		return
	}
	if st.Redirect.Manifests && (t.kind == KindManifest || t.kind == KindTags) {
		r.redirectAPI(w, req, st)
		return
	}
	r.serveAPI(w, req, st, t)
}

// serveAPI answers a request that is authorised.
func (r *Registry) serveAPI(w *recorder, req *http.Request, st *state, t target) {
	if t.kind == KindBlob {
		r.serveBlob(w, req, st, t)
		return
	}
	var d oci.Digest
	var m *blob
	if t.kind == KindManifest {
		if m = r.findManifest(st, t); m != nil {
			d = m.desc.Digest
		}
	}
	f := st.fault(req.Method, d, t.kind)
	if !r.before(f, w, req) {
		return
	}
	switch t.kind {
	case KindPing:
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte("{}"))
	case KindManifest:
		r.serveManifest(w, req, st, t, m, f)
	case KindTags:
		r.serveTags(w, req, st, t)
	case KindReferrers:
		r.serveReferrers(w, req, st, t)
	default:
		st.Missing.write(w, oci.CodeUnknown, "there is nothing here")
	}
}

// write answers that something does not exist.
func (m Missing) write(w http.ResponseWriter, code oci.Code, message string) {
	switch m {
	case MissingXML:
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(http.StatusNotFound)
		_, _ = w.Write([]byte("\ufeff<?xml version=\"1.0\" encoding=\"utf-8\"?><Error><Code>BlobNotFound</Code><Message>The specified blob does not exist.</Message></Error>"))
	case MissingText:
		http.Error(w, "404 page not found", http.StatusNotFound)
	case MissingEmpty:
		w.WriteHeader(http.StatusNotFound)
	default:
		writeError(w, http.StatusNotFound, code, message)
	}
}

// writeError answers with the specification's error body.
func writeError(w http.ResponseWriter, status int, code oci.Code, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(encode(map[string]any{
		"errors": []any{map[string]any{"code": code, "message": message, "detail": nil}},
	}))
}

// recorder counts what is written. Errors of writing mean that the client has
// left.
type recorder struct {
	http.ResponseWriter
	entry       *entry
	total       *atomic.Int64
	content     *atomic.Int64 // of the blob being sent; nil for other bodies
	wroteHeader bool
}

// WriteHeader implements [http.ResponseWriter].
func (w *recorder) WriteHeader(status int) {
	if !w.wroteHeader && status >= 200 {
		w.wroteHeader = true
		w.entry.status.Store(int64(status))
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write implements [http.ResponseWriter].
func (w *recorder) Write(p []byte) (int, error) {
	if !w.wroteHeader {
		w.WriteHeader(http.StatusOK)
	}
	// Before the bytes leave, so that a client that has them all finds them
	// counted.
	w.add(len(p))
	n, err := w.ResponseWriter.Write(p)
	if n < len(p) {
		w.add(n - len(p))
	}
	return n, err
}

func (w *recorder) add(n int) {
	w.entry.bytes.Add(int64(n))
	w.total.Add(int64(n))
	if w.content != nil {
		w.content.Add(int64(n))
	}
}

// Unwrap lets [http.ResponseController] reach the connection.
func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }
