package server

import (
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"sampan/internal/oci"
)

// A fileReader is a BlobReader that is a plain file.
type fileReader interface {
	// File is positioned where the reader is; nil when there is none after all.
	File() *os.File
}

// A sectionWriter is a BlobReader that can pass its bytes on as they arrive
// without handing them to the caller.
type sectionWriter interface {
	WriteSectionTo(w io.Writer, n int64) (int64, error)
}

func (s *Server) serveBlob(w http.ResponseWriter, r *http.Request, repo oci.Repository, req request) error {
	if r.Method == http.MethodHead {
		return s.headBlob(w, r, repo, req)
	}
	if err := beginPull(r, req); err != nil {
		return err
	}
	w = limited(w, r, req.visit)
	b, err := oci.BlobFrom(r.Context(), s.o.Reader, repo, req.digest, firstByte(r.Header.Get("Range")))
	if err != nil {
		return err
	}
	defer b.Close() // read-only: closing cannot lose anything
	desc := b.Descriptor()
	setBlobHeader(w, r, desc)
	if !strings.HasPrefix(r.Header.Get("Range"), "bytes=") {
		r.Header.Del("Range") // a unit that is not known is ignored (RFC 9110, 14.2)
	} else {
		r.Header.Set("Range", wellFormed(r.Header.Get("Range")))
	}
	var content io.ReadSeeker = b
	if f, ok := b.(fileReader); ok {
		if file := f.File(); file != nil {
			content = held(file, desc.Size)
		}
	}
	bw := &blobWriter{ResponseWriter: w, r: r, size: desc.Size}
	http.ServeContent(bw, r, "", time.Time{}, content)
	if bw.err != nil {
		trace := oci.TraceFrom(r.Context())
		trace.Err, trace.Left = bw.err, r.Context().Err() != nil || clientLeft(bw.err)
		if !trace.Left {
			s.o.Log.WarnContext(r.Context(), "blob ended short", "repository", repo, "digest", desc.Digest, "err", bw.err)
		}
		panic(http.ErrAbortHandler) // so that the client sees a broken body, not a short one
	}
	return nil
}

// nothing is a range that is none, and is refused.
const nothing = "bytes=-0"

// wellFormed is a Range of bytes as the specification spells it (RFC 9110, 14.1.2).
// net/http takes signs for numbers, and of "the last 0 bytes" among others it would
// send a part that ends before it begins: that one is taken out. What is not well
// formed, and what is left with no range, is nothing.
func wellFormed(header string) string {
	spec, _ := strings.CutPrefix(header, "bytes=")
	var ranges []string
	for r := range strings.SplitSeq(spec, ",") {
		r = strings.Trim(r, " \t")
		first, last, dash := strings.Cut(r, "-")
		switch {
		case r == "":
		case !dash || strings.Trim(first+last, "0123456789") != "" || first+last == "":
			return nothing
		case first == "" && strings.Trim(last, "0") == "":
		default:
			ranges = append(ranges, r)
		}
	}
	if len(ranges) == 0 {
		return nothing
	}
	return "bytes=" + strings.Join(ranges, ",")
}

// firstByte is where a Range begins, negative when it counts from the end; 0 for
// several ranges and for what is none.
func firstByte(header string) int64 {
	spec, ok := strings.CutPrefix(header, "bytes=")
	first, last, dash := strings.Cut(spec, "-")
	if !ok || !dash || strings.Contains(spec, ",") {
		return 0
	}
	if first == "" {
		first = "-" + last
	}
	n, err := strconv.ParseInt(strings.TrimSpace(first), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// clientLeft tells whether it was the connection to the client that broke: lazy
// pullers close it on purpose, and the request's context may not know yet. What a
// connection copies from may fail as well, which its error wraps likewise: a file
// on a dying disk, or a blob that is wrong.
func clientLeft(err error) bool {
	op, ok := err.(*net.OpError) //nolint:errorlint // one inside of another error is of the upstream's connection
	if !ok || op.Op != "readfrom" {
		return ok && op.Op == "write"
	}
	switch inner := op.Err.(type) { //nolint:errorlint // the same
	case *net.OpError:
		return inner.Op == "write"
	case *os.SyscallError:
		return !slices.ContainsFunc(fileErrors(), func(e error) bool { return errors.Is(inner, e) })
	}
	return errors.Is(op.Err, net.ErrClosed) || errors.Is(op.Err, os.ErrDeadlineExceeded)
}

// fileErrors are what sendfile(2) says of the file and not of the connection.
func fileErrors() []error {
	return append([]error{syscall.EIO, syscall.EBADF, syscall.EBADMSG, syscall.ESTALE, syscall.ENOMEM}, damaged()...)
}

func (s *Server) headBlob(w http.ResponseWriter, r *http.Request, repo oci.Repository, req request) error {
	desc, err := statBlob(r, s.o.Reader, repo, req.digest)
	if err != nil {
		return err
	}
	setBlobHeader(w, r, desc)
	w.Header().Set("Accept-Ranges", "bytes")
	if unchanged(w, r, desc) {
		return nil
	}
	if desc.Size >= 0 {
		w.Header().Set("Content-Length", strconv.FormatInt(desc.Size, 10))
	}
	w.WriteHeader(http.StatusOK)
	return nil
}

func statBlob(r *http.Request, reader oci.Reader, repo oci.Repository, digest oci.Digest) (oci.Descriptor, error) {
	if st, ok := reader.(oci.BlobStater); ok {
		return st.StatBlob(r.Context(), repo, digest)
	}
	b, err := reader.Blob(r.Context(), repo, digest)
	if err != nil {
		return oci.Descriptor{}, err
	}
	return b.Descriptor(), b.Close()
}

func setBlobHeader(w http.ResponseWriter, r *http.Request, desc oci.Descriptor) {
	h := w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Docker-Content-Digest", desc.Digest.String())
	h.Set("Etag", etag(desc.Digest))
	setCacheControl(w, r, "max-age=31536000, immutable")
}

// A blobWriter stands between http.ServeContent and the response: it lets blobs
// in flight go to the connection by the kernel, remembers the error that
// ServeContent swallows, and gives its 416 the specification's form.
type blobWriter struct {
	http.ResponseWriter
	r       *http.Request
	size    int64
	refused bool // 416 was written, whole
	err     error
}

// Unwrap is for [http.ResponseController].
func (w *blobWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteHeader implements [http.ResponseWriter].
func (w *blobWriter) WriteHeader(code int) {
	// net/http takes "the last 0 bytes" for a range (RFC 9110, 14.1.2: it is not).
	nothing := code == http.StatusPartialContent && w.Header().Get("Content-Length") == "0"
	if code != http.StatusRequestedRangeNotSatisfiable && !nothing {
		w.ResponseWriter.WriteHeader(code)
		return
	}
	w.refused = true
	w.Header().Set("Content-Range", "bytes */"+strconv.FormatInt(w.size, 10))
	writeErrorBody(w.ResponseWriter, w.r, oci.Errorf(oci.CodeRangeInvalid, "the range asked for is not within the blob"))
}

// Write implements [io.Writer].
func (w *blobWriter) Write(p []byte) (int, error) {
	if w.refused {
		return len(p), nil
	}
	n, err := w.ResponseWriter.Write(p)
	w.note(err)
	return n, err
}

// ReadFrom implements [io.ReaderFrom] for what ServeContent copies: a
// LimitedReader over the content.
func (w *blobWriter) ReadFrom(src io.Reader) (int64, error) {
	var n int64
	var err error
	if lr, ok := src.(*io.LimitedReader); ok {
		if sw, ok := lr.R.(sectionWriter); ok {
			// The header goes out at once unless all is here: the bytes may be a while.
			if _, here := sw.(*smallContent); !here {
				err = http.NewResponseController(w.ResponseWriter).Flush()
			}
			if err == nil {
				n, err = sw.WriteSectionTo(w.ResponseWriter, lr.N)
			}
			w.note(err)
			return n, err
		}
	}
	n, err = io.Copy(w.ResponseWriter, src)
	w.note(err)
	return n, err
}

func (w *blobWriter) note(err error) {
	if w.err == nil {
		w.err = err
	}
}
