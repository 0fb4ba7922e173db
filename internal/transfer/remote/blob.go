package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"sampan/internal/oci"
	"sampan/internal/transfer"
	"sampan/internal/upstream"
)

const (
	// maxMounts bounds how many other repositories are tried for one blob.
	maxMounts = 2
	// pieceSize is that of the pieces of a blob where one request cannot be as large as
	// it, in bytes; more where the registry says that it wants more, up to maxPiece.
	pieceSize = 16 << 20
	maxPiece  = 512 << 20
	// maxForgotten is how many times an upload may be begun anew because the registry
	// has lost it.
	maxForgotten = 3
)

// An upload is one blob on its way.
type upload struct {
	r    *Registry
	repo oci.Repository
	d    oci.Descriptor
	open transfer.Open

	at        *url.URL // where to go on; nil before it has begun
	offset    int64    // how much the registry has
	piece     int64    // size of the pieces; 0 while it goes in one
	least     int64    // what the registry wants pieces to be at least
	forgotten int
}

// PutBlob implements [transfer.Writer].
func (r *Registry) PutBlob(ctx context.Context, repo oci.Repository, d oci.Descriptor, open transfer.Open, from []oci.Repository) error {
	u := &upload{r: r, repo: repo, d: d, open: open}
	for _, other := range from[:min(len(from), maxMounts)] {
		mounted, err := u.mount(ctx, other)
		if mounted || err != nil {
			return err
		}
		if u.at != nil {
			break // it has begun an upload instead
		}
	}
	for bad := 0; ; {
		before := u.offset
		done, err := u.step(ctx)
		switch {
		case err == nil && done:
			return nil
		case err == nil:
			if u.offset > before {
				bad = 0
			}
			continue
		case ctx.Err() != nil, errors.As(err, new(*sourceError)):
			return err
		case errors.Is(err, errForgotten):
			if u.forgotten++; u.forgotten > maxForgotten {
				return err
			}
			u.at, u.offset = nil, 0
			continue
		}
		bad++
		if err := transfer.Backoff(ctx, bad, err); err != nil {
			return err
		}
		if err := u.look(ctx); err != nil {
			return err
		}
		if u.offset > before {
			bad = 0
		}
	}
}

// errForgotten: the registry does not know the upload any more.
var errForgotten = errors.New("the registry has lost the upload")

// mount asks the registry to take the blob from another of its repositories. That it
// cannot is no error.
func (u *upload) mount(ctx context.Context, from oci.Repository) (bool, error) {
	a, err := u.r.Push(ctx, upstream.Push{
		Method: http.MethodPost, Repository: u.repo, Below: "blobs/uploads/", From: from,
		Query: url.Values{"mount": {u.d.Digest.String()}, "from": {from.Path()}},
	})
	switch {
	case err != nil, a.Err != nil: // such as a token that is not granted for both
		return false, ctx.Err()
	case a.Status == http.StatusCreated:
		return true, u.proven(a)
	case a.Status == http.StatusAccepted:
		u.begun(a)
	}
	return false, nil
}

// begun takes the answer that an upload has begun.
func (u *upload) begun(a upstream.Pushed) {
	u.at = a.Location
	u.offset = 0
	if n, err := strconv.ParseInt(a.Header.Get("OCI-Chunk-Min-Length"), 10, 64); err == nil && n > 0 && n <= maxPiece {
		u.least = n
	}
}

// step does the next request, and tells whether the blob is there.
func (u *upload) step(ctx context.Context) (bool, error) {
	if u.at == nil {
		a, err := u.push(ctx, upstream.Push{Method: http.MethodPost, Below: "blobs/uploads/"})
		if err != nil {
			return false, err
		}
		if a.Location == nil {
			return false, oci.Errorf(oci.CodeUnsupported, "%s does not say where the blob is to be sent", u.r.name)
		}
		u.begun(a)
		return false, nil
	}
	if u.offset == 0 && u.piece == 0 || u.offset == u.d.Size {
		return u.finish(ctx)
	}
	return false, u.patch(ctx)
}

// finish sends what is left, all of it or nothing, and has it proven.
func (u *upload) finish(ctx context.Context) (bool, error) {
	a, err := u.send(ctx, http.MethodPut, u.d.Size-u.offset, url.Values{"digest": {u.d.Digest.String()}})
	switch {
	case err != nil:
		return false, err
	case a.Status == http.StatusRequestEntityTooLarge && u.piece == 0:
		u.piece = pieceSize
		return false, u.look(ctx)
	case a.Status == http.StatusRequestedRangeNotSatisfiable:
		return false, u.again(ctx, a.Err)
	case a.Err != nil:
		return false, u.refused(a)
	case a.Status == http.StatusAccepted: // it has the bytes and wants to be told again that these were all
		u.at, u.offset = next(u.at, a), u.d.Size
		return false, nil
	}
	return true, u.proven(a)
}

// patch sends a piece, or all that is left.
func (u *upload) patch(ctx context.Context) error {
	n := u.d.Size - u.offset
	if u.piece > 0 {
		n = min(n, max(u.piece, u.least))
	}
	a, err := u.send(ctx, http.MethodPatch, n, nil)
	switch {
	case err != nil:
		return err
	case a.Status == http.StatusRequestEntityTooLarge && max(u.piece, u.least) > max(u.least, 1<<20):
		u.piece = max(n/2, u.least, 1<<20)
		return u.look(ctx)
	case a.Status == http.StatusRequestedRangeNotSatisfiable:
		return u.again(ctx, a.Err)
	case a.Err != nil:
		return u.refused(a)
	}
	u.at = next(u.at, a)
	u.offset += n
	if has, ok := received(a.Header); ok && has <= u.d.Size {
		u.offset = has
	}
	return nil
}

// send makes a request with n bytes from the offset on.
func (u *upload) send(ctx context.Context, method string, n int64, query url.Values) (upstream.Pushed, error) {
	p := upstream.Push{
		Method: method, Repository: u.repo, URL: u.at, Query: query, Size: n,
		Header: http.Header{"Content-Type": {"application/octet-stream"}},
		Body: func(ctx context.Context) (io.ReadCloser, error) {
			if n == 0 && u.offset > 0 {
				return http.NoBody, nil
			}
			body, err := u.open(ctx, u.offset)
			if err != nil {
				return nil, &sourceError{err}
			}
			return &limited{body, n}, nil
		},
	}
	if method == http.MethodPatch {
		p.Header.Set("Content-Range", fmt.Sprintf("%d-%d", u.offset, u.offset+n-1))
	}
	return u.r.Push(ctx, p)
}

// push makes a request without a body, of which every refusal is an error.
func (u *upload) push(ctx context.Context, p upstream.Push) (upstream.Pushed, error) {
	p.Repository = u.repo
	a, err := u.r.Push(ctx, p)
	if err == nil && a.Err != nil {
		err = a.Err
	}
	return a, err
}

// look asks how much the registry has. One that does not know the upload any more, or
// does not say, is sent everything again.
func (u *upload) look(ctx context.Context) error {
	if u.at == nil {
		return nil
	}
	a, err := u.r.Push(ctx, upstream.Push{Method: http.MethodGet, Repository: u.repo, URL: u.at})
	if err != nil && ctx.Err() != nil {
		return err
	}
	has, ok := received(a.Header)
	if err != nil || a.Err != nil || !ok || has > u.d.Size {
		u.at, u.offset = nil, 0
		return nil
	}
	u.at, u.offset = next(u.at, a), has
	return nil
}

// again looks where a registry says that the bytes do not follow on what it has; where
// that is so, cause is the error.
func (u *upload) again(ctx context.Context, cause *oci.Error) error {
	before := u.offset
	if err := u.look(ctx); err != nil {
		return err
	}
	if u.at != nil && u.offset == before {
		return cause
	}
	return nil
}

// refused is what an answer to bytes means.
func (u *upload) refused(a upstream.Pushed) error {
	switch a.Status {
	case http.StatusNotFound, http.StatusGone:
		return fmt.Errorf("%w: %w", errForgotten, a.Err)
	case http.StatusRequestEntityTooLarge, http.StatusInsufficientStorage:
		return oci.Errorf(oci.CodeDenied, "%s takes no more: %w", u.r.name, a.Err)
	}
	if a.Err.Code == oci.CodeDigestInvalid {
		return oci.Errorf(oci.CodeDigestInvalid, "%s says that the bytes of %s are others than its digest says: the source is damaged, or the way to the target: %w", u.r.name, u.d.Digest, a.Err)
	}
	return a.Err
}

// proven refuses an answer that tells of another blob.
func (u *upload) proven(a upstream.Pushed) error { return sameDigest(u.r.name, a.Header, u.d.Digest) }

func sameDigest(name oci.Registry, h http.Header, want oci.Digest) error {
	told := h.Get("Docker-Content-Digest")
	if d, err := oci.ParseDigest(told); told == "" || err == nil && (d == want || d.Algorithm() != want.Algorithm()) {
		return nil
	}
	return oci.Errorf(oci.CodeDigestInvalid, "%s says that it has stored %.80s where %s was sent", name, strconv.Quote(told), want)
}

// next is where an upload goes on.
func next(at *url.URL, a upstream.Pushed) *url.URL {
	if a.Location != nil {
		return a.Location
	}
	return at
}

// received reads how many bytes a registry has: "0-1023", or "0-0" for none or one, which
// is as good as none.
func received(h http.Header) (int64, bool) {
	first, last, ok := strings.Cut(strings.TrimPrefix(h.Get("Range"), "bytes="), "-")
	n, err := strconv.ParseInt(last, 10, 64)
	if !ok || first != "0" || err != nil || n < 0 {
		return 0, false
	}
	if n == 0 {
		return 0, true
	}
	return n + 1, true
}

// A limited body is so many bytes of another. Its errors are the source's.
type limited struct {
	body io.ReadCloser
	left int64
}

// Read implements [io.Reader].
func (l *limited) Read(p []byte) (int, error) {
	if l.left <= 0 {
		return 0, io.EOF
	}
	n, err := l.body.Read(p[:min(int64(len(p)), l.left)])
	l.left -= int64(n)
	if err != nil && !errors.Is(err, io.EOF) {
		err = &sourceError{err}
	}
	if errors.Is(err, io.EOF) && l.left > 0 {
		err = &sourceError{io.ErrUnexpectedEOF}
	}
	return n, err
}

// Close implements [io.Closer].
func (l *limited) Close() error { return l.body.Close() }

// A sourceError is why a blob cannot be read: nothing the target could do about it.
type sourceError struct{ err error }

func (e *sourceError) Error() string { return e.err.Error() }
func (e *sourceError) Unwrap() error { return e.err }
