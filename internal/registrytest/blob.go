package registrytest

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"

	"sampan/internal/oci"
)

// serveBlob answers a blob request at the registry: the blob, or a redirect.
func (r *Registry) serveBlob(w *recorder, req *http.Request, st *state, t target) {
	d, err := oci.ParseDigest(t.ref)
	if err != nil {
		writeError(w, http.StatusBadRequest, oci.CodeDigestInvalid, "invalid digest")
		return
	}
	b := r.content.blob(t.repo, d)
	if b != nil && st.Redirect.Status != 0 && (st.Redirect.Head || req.Method == http.MethodGet) {
		r.redirectBlob(w, st, d, 0)
		return
	}
	f := st.fault(req.Method, d, KindBlob)
	switch {
	case !r.before(f, w, req):
	case b == nil && r.content.hasRepo(t.repo):
		st.Missing.write(w, oci.CodeBlobUnknown, "blob unknown to registry")
	case b == nil:
		st.Missing.write(w, oci.CodeNameUnknown, "repository name not known to registry")
	default:
		if !st.Blob.NoDigest {
			w.Header().Set("Docker-Content-Digest", d.String())
		}
		r.sendBlob(w, req, st, b, f)
	}
}

// sendBlob answers with a blob that was found and may be read.
func (r *Registry) sendBlob(w *recorder, req *http.Request, st *state, b *blob, f *Fault) {
	form, h := st.Blob, w.Header()
	h.Set("Content-Type", octets)
	if form.CacheControl != "" {
		h.Set("Cache-Control", form.CacheControl)
	}
	if form.RejectMultiRange && strings.Contains(req.Header.Get("Range"), ",") {
		writeError(w, http.StatusBadRequest, oci.CodeUnsupported, "one range only")
		return
	}
	if !form.NoAcceptRanges && !form.IgnoreRange {
		h.Set("Accept-Ranges", "bytes")
	}
	out := body{src: b.src, size: b.desc.Size, sent: b.sent, fault: f, chunked: form.Chunked, ranges: !form.IgnoreRange}
	if !form.NoETag {
		out.etag = `"` + b.desc.Digest.String() + `"`
	}
	if req.Method == http.MethodGet {
		r.count.blobBegins()
		defer r.count.blobs.Add(-1)
	}
	r.serveBody(w, req, st, out)
}

// body is what serveBody sends.
type body struct {
	src     io.ReaderAt
	size    int64
	sent    *atomic.Int64 // what is sent is added to it
	etag    string        // empty for none
	ranges  bool          // whether Range is honoured
	chunked bool
	fault   *Fault // nil for none
}

// serveBody answers 200, 206, 304 or 416 with what a request asks of b.
func (r *Registry) serveBody(w *recorder, req *http.Request, st *state, b body) {
	f := b.fault
	if f == nil {
		f = new(Fault)
	}
	h := w.Header()
	if b.etag != "" {
		h.Set("Etag", b.etag)
		if matches(req.Header.Get("If-None-Match"), b.etag) {
			w.WriteHeader(http.StatusNotModified)
			return
		}
	}
	start, end, status := int64(0), b.size, http.StatusOK
	if b.ranges && req.Method == http.MethodGet {
		if ifRange := req.Header.Get("If-Range"); ifRange == "" || ifRange == b.etag {
			var err error
			start, end, status, err = parseRange(req.Header.Get("Range"), b.size)
			if err != nil {
				h.Set("Content-Range", fmt.Sprintf("bytes */%d", b.size))
				writeError(w, http.StatusRequestedRangeNotSatisfiable, oci.CodeRangeInvalid, err.Error())
				return
			}
		}
	}
	end += f.Extra
	if status == http.StatusPartialContent {
		told := start
		if f.WrongContentRange {
			told++
		}
		h.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", told, end-1, b.size+f.Extra))
	}
	promised := max(0, end-start+f.LengthDelta)
	if !b.chunked {
		h.Set("Content-Length", strconv.FormatInt(promised, 10))
	}
	w.WriteHeader(status)
	if req.Method == http.MethodHead {
		return
	}
	if b.chunked {
		_ = http.NewResponseController(w).Flush() // or a small body gets a length
	}
	if f.LengthDelta < 0 && !b.chunked {
		end = start + promised
	}
	w.content = b.sent
	s := sender{r: r, w: w, req: req, st: st, body: b, fault: f}
	s.send(start, end)
	if f.LengthDelta > 0 && !b.chunked {
		cut(w, false)
	}
}

// matches tells whether If-None-Match names the ETag.
func matches(header, etag string) bool {
	for one := range strings.SplitSeq(header, ",") {
		if one = strings.TrimSpace(one); one == etag || one == "*" {
			return true
		}
	}
	return false
}

var errRange = errors.New("the range is not in the content")

// parseRange returns the bytes [start, end) that a Range header asks for, with
// 206, or all with 200 when it is absent, malformed or of several ranges. It
// fails when it is beyond the end.
func parseRange(header string, size int64) (start, end int64, status int, err error) {
	first, last, ok := strings.Cut(strings.TrimPrefix(header, "bytes="), "-")
	if !ok || !strings.HasPrefix(header, "bytes=") || strings.Contains(header, ",") {
		return 0, size, http.StatusOK, nil
	}
	a, okA := position(first)
	b, okB := position(last)
	switch {
	case first == "" && okB && (b == 0 || size == 0):
		return 0, 0, 0, errRange
	case first == "" && okB: // the last b bytes
		return max(0, size-b), size, http.StatusPartialContent, nil
	case !okA, !okB && last != "", okB && b < a:
		return 0, size, http.StatusOK, nil
	case a >= size:
		return 0, 0, 0, errRange
	case last == "":
		return a, size, http.StatusPartialContent, nil
	default:
		return a, min(size, b+1), http.StatusPartialContent, nil
	}
}

// position reads a number of a Range header.
func position(s string) (int64, bool) {
	n, err := strconv.ParseUint(s, 10, 62)
	return int64(n), err == nil
}
