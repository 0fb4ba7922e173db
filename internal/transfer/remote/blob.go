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
	// it, in bytes; more where the registry says that it wants more, up to maxPiece, and
	// less where that is refused too, down to minPiece.
	pieceSize = 16 << 20
	maxPiece  = 512 << 20
	minPiece  = 64 << 10
	// maxRestarts is how many times an upload may be begun anew because the registry
	// does not know it any more, or what it says of it cannot be.
	maxRestarts = 5
	// maxAstray is how many times a registry may say that bytes do not follow on what it
	// has, without having more in between than ever before.
	maxAstray = 5
	// maxLooks is how many times a registry that gives no answer is asked how much of an
	// upload it has, before the upload is begun anew.
	maxLooks = 3
)

// An upload is one blob on its way.
type upload struct {
	r     *Registry
	repo  oci.Repository
	d     oci.Descriptor
	open  transfer.Open
	proof *proof

	at     *url.URL // where to go on; nil before it has begun
	offset int64    // how much the registry has
	reach  int64    // how much it can have at the most: what was sent, or may have been
	unsure bool     // it is to be asked how much it has before anything else
	looks  int      // how many times in a row that gave no answer
	piece  int64    // size of the pieces; 0 while it goes in one
	least  int64    // what the registry wants pieces to be at least

	best     int64 // the largest offset there was
	restarts int
	astray   int  // how many times the bytes did not follow since best has grown
	told     bool // the registry has been told once that these were all bytes
	believed bool // offset is the registry's word for what a request of ours has left
}

// PutBlob implements [transfer.Writer].
func (r *Registry) PutBlob(ctx context.Context, repo oci.Repository, d oci.Descriptor, open transfer.Open, from []oci.Repository) error {
	u := &upload{r: r, repo: repo, d: d, open: open, proof: newProof(d)}
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
		done, err := u.step(ctx)
		if u.offset > u.best {
			u.best, bad = u.offset, 0
		}
		switch {
		case err == nil && done:
			return nil
		case err == nil:
			continue
		case ctx.Err() != nil, errors.As(err, new(*sourceError)), errors.Is(err, oci.ErrTooManyRequests):
			return err // nothing to be done here, or it has been waited for
		}
		bad++
		if err := u.r.pause(ctx, bad, err); err != nil {
			return err
		}
		u.unsure = u.at != nil
	}
}

// restart begins an upload anew; after too many times, cause is the error.
func (u *upload) restart(cause error) error {
	if u.restarts++; u.restarts > maxRestarts {
		return cause
	}
	u.at, u.offset, u.reach, u.looks = nil, 0, 0, 0
	u.unsure, u.told, u.believed = false, false, false
	return nil
}

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
	u.at, u.offset, u.reach = a.Location, 0, 0
	if n, err := strconv.ParseInt(a.Header.Get("OCI-Chunk-Min-Length"), 10, 64); err == nil && n > 0 && n <= maxPiece {
		u.least = n
	}
}

// step does the next request, and tells whether the blob is there.
func (u *upload) step(ctx context.Context) (bool, error) {
	switch {
	case u.at == nil:
		return false, u.begin(ctx)
	case u.unsure:
		return false, u.look(ctx)
	case u.offset == 0 && u.piece == 0, u.offset == u.d.Size:
		return u.finish(ctx)
	}
	return false, u.patch(ctx)
}

func (u *upload) begin(ctx context.Context) error {
	a, err := u.push(ctx, upstream.Push{Method: http.MethodPost, Below: "blobs/uploads/"})
	if err != nil {
		return err
	}
	if a.Location == nil {
		return oci.Errorf(oci.CodeUnsupported, "%s does not say where the blob is to be sent", u.r.name)
	}
	u.begun(a)
	return nil
}

// finish sends what is left, all of it or nothing, and has it proven.
func (u *upload) finish(ctx context.Context) (bool, error) {
	a, err := u.send(ctx, http.MethodPut, u.d.Size-u.offset, url.Values{"digest": {u.d.Digest.String()}})
	switch {
	case err != nil:
		return false, err
	case a.Status == http.StatusRequestEntityTooLarge && u.piece == 0:
		u.smaller(pieceSize)
		return false, nil
	case a.Status == http.StatusRequestedRangeNotSatisfiable:
		return false, u.again(ctx, a.Err)
	case a.Err != nil && a.Err.Code == oci.CodeDigestInvalid && u.believed:
		return false, u.restart(u.refused(a)) // it had less than it said, or something else
	case a.Err != nil:
		return false, u.lost(a)
	case a.Status == http.StatusAccepted && !u.told: // it has the bytes and wants to be told again that these were all
		u.at, u.offset, u.told = next(u.at, a), u.d.Size, true
		return false, nil
	case a.Status == http.StatusAccepted:
		return false, oci.Errorf(oci.CodeUnsupported, "%s takes %s and does not store it", u.r.name, u.d.Digest)
	}
	return true, u.proven(a)
}

// smaller makes the pieces smaller, after a request that was too large. What the registry
// has of it is to be asked.
func (u *upload) smaller(piece int64) {
	u.piece, u.unsure, u.restarts = piece, true, 0
}

// patch sends a piece, or all that is left.
func (u *upload) patch(ctx context.Context) error {
	before, n := u.offset, u.d.Size-u.offset
	if u.piece > 0 {
		n = min(n, max(u.piece, u.least))
	}
	a, err := u.send(ctx, http.MethodPatch, n, nil)
	switch {
	case err != nil:
		return err
	case a.Status == http.StatusRequestEntityTooLarge && n > max(u.least, minPiece):
		u.smaller(max(n/2, u.least, minPiece))
		return nil
	case a.Status == http.StatusRequestedRangeNotSatisfiable:
		return u.again(ctx, a.Err)
	case a.Err != nil:
		return u.lost(a)
	}
	u.at = next(u.at, a)
	u.offset += n
	if has, ok := received(a.Header); ok && has < u.offset { // more than was sent it cannot have
		u.offset, u.believed = has, true
	}
	if u.offset > u.best {
		u.astray = 0
	}
	if u.offset <= before {
		return oci.Errorf(oci.CodeUnavailable, "%s takes no bytes of %s", u.r.name, u.d.Digest)
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
			return &outgoing{body: body, proof: u.proof, at: u.offset, left: n}, nil
		},
	}
	if method == http.MethodPatch {
		p.Header.Set("Content-Range", fmt.Sprintf("%d-%d", u.offset, u.offset+n-1))
	}
	u.reach = max(u.reach, u.offset+n)
	return u.r.Push(ctx, p)
}

// push makes a request without a body, of which every refusal is an error.
func (u *upload) push(ctx context.Context, p upstream.Push) (upstream.Pushed, error) {
	p.Repository = u.repo
	a, err := u.r.Push(ctx, p)
	if err == nil && a.Err != nil {
		err = u.refused(a)
	}
	return a, err
}

// look asks how much the registry has. One that does not know the upload any more, that
// does not say, or that says what cannot be, is sent everything again.
func (u *upload) look(ctx context.Context) error {
	a, err := u.r.Push(ctx, upstream.Push{Method: http.MethodGet, Repository: u.repo, URL: u.at})
	has, ok := received(a.Header)
	switch {
	case err == nil && a.Err == nil && ok && has <= u.reach:
		u.at, u.offset, u.unsure, u.looks = next(u.at, a), has, false, 0
		u.believed = has > 0
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil && oci.IsAnswer(err): // there would be no other
		return err
	case err == nil && a.Err == nil:
		err = oci.Errorf(oci.CodeUnsupported, "%s does not say how much of %s it has", u.r.name, u.d.Digest)
	case err == nil && gone(a):
		err = u.forgotten(a)
	case err == nil:
		err = a.Err
	}
	if u.looks++; !oci.IsAnswer(err) && u.looks < maxLooks {
		return err
	}
	return u.restart(err)
}

// again looks where a registry says, with cause, that the bytes do not follow on what it
// has. Where they do, by its own word, it is sent everything again.
func (u *upload) again(ctx context.Context, cause *oci.Error) error {
	before := u.offset
	u.unsure = true
	if err := u.look(ctx); err != nil {
		return err
	}
	if u.at == nil { // begun anew
		return nil
	}
	if u.offset == before {
		return u.restart(cause)
	}
	if u.astray++; u.astray > maxAstray {
		return cause
	}
	return nil
}

// lost begins anew where a registry does not know the upload any more.
func (u *upload) lost(a upstream.Pushed) error {
	if gone(a) {
		return u.restart(u.forgotten(a))
	}
	return u.refused(a)
}

func gone(a upstream.Pushed) bool {
	return a.Status == http.StatusNotFound || a.Status == http.StatusGone
}

func (u *upload) forgotten(a upstream.Pushed) error {
	return oci.Errorf(a.Err.Code, "%s has lost the upload of %s: %w", u.r.name, u.d.Digest, a.Err)
}

// refused is what an answer to bytes means.
func (u *upload) refused(a upstream.Pushed) error {
	switch {
	case full(a.Status):
		return fullError(u.r.name, u.repo, a.Err)
	case a.Err.Code == oci.CodeDigestInvalid && u.proof.good():
		return oci.Errorf(oci.CodeDigestInvalid, "%s says that the bytes of %s are others than its digest says, and they were right when they left: the way there is damaged, or the registry: %w", u.r.name, u.d.Digest, a.Err)
	case a.Err.Code == oci.CodeDigestInvalid:
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
