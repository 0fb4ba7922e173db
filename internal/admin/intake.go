package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"sampan/internal/intake"
	"sampan/internal/oci"
	"sampan/internal/store"
)

// What somebody brings: blobs first, then manifests with their tags. Repositories are
// named with their registry and mean what they mean to clients. A blob may be as large as
// the disk has room for, which is why its body has no deadline of its own.
const (
	pathIntake = "/api/v1/intake/"
	// bodyPatience is how long nothing may come of a body.
	bodyPatience = time.Minute
)

// BoundsBody tells the bodies that are bounded here: it is an edge.BodyBounder.
func (a *Admin) BoundsBody(r *http.Request) bool {
	return r.Method == http.MethodPut && strings.HasPrefix(r.URL.Path, pathIntake)
}

// errOffset: what is brought does not follow on what is here.
type errOffset struct{ have int64 }

func (e *errOffset) Error() string {
	return fmt.Sprintf("the first %d bytes are here: send what follows on them", e.have)
}

// Arrived is how much of a blob is here.
type Arrived struct {
	// Here tells that the repository has all of it.
	Here bool `json:"here"`
	// Have is how many bytes are here of a part, from the beginning on, where others were
	// sent than those that follow.
	Have int64 `json:"have"`
}

// Taken is a manifest that is here.
type Taken struct {
	// Repository is what the name means that was asked for: aliases apply.
	Repository oci.Repository `json:"repository"`
	MediaType  string         `json:"mediaType"`
	Digest     oci.Digest     `json:"digest"`
	Size       int64          `json:"size"` // bytes
}

func taken(repo oci.Repository, d oci.Descriptor) Taken {
	return Taken{repo, d.MediaType, d.Digest, d.Size}
}

// registerIntake adds the paths of what is brought.
func (c *Content) registerIntake(mux *routes) {
	get := func(path string, f func(r *http.Request) (any, error)) {
		mux.HandleFunc("GET "+pathIntake+path, func(w http.ResponseWriter, r *http.Request) {
			v, err := f(r)
			answerIntake(w, v, err)
		})
	}
	get("blob", c.arrived)
	get("manifest", c.taken)
	put := func(path string, f func(r *http.Request, body io.ReadCloser) (about string, result any, err error)) {
		mux.HandleFunc("PUT "+pathIntake+path, func(w http.ResponseWriter, r *http.Request) {
			about, result, err := f(r, patient(w, r.Body))
			c.Audit(r, "load", about, result, err)
			answerIntake(w, result, err)
		})
	}
	put("blob", c.takeBlob)
	put("manifest", c.takeManifest)
}

// A patientBody may take as long as it likes, while it comes.
type patientBody struct {
	io.ReadCloser
	control *http.ResponseController
	ended   error // why nothing more comes; nil before
}

func patient(w http.ResponseWriter, body io.ReadCloser) *patientBody {
	b := &patientBody{ReadCloser: body, control: http.NewResponseController(w)}
	if body == http.NoBody {
		b.ended = io.EOF
	}
	return b
}

// Read implements [io.Reader]. Behind the end of the body it sets no deadline: net/http
// has taken it away then and reads on, and one that passes would end the request.
func (b *patientBody) Read(p []byte) (int, error) {
	if b.ended != nil {
		return 0, b.ended
	}
	_ = b.control.SetReadDeadline(time.Now().Add(bodyPatience)) // a writer that knows none is that of a test
	n, err := b.ReadCloser.Read(p)
	b.ended = err
	return n, err
}

// answerIntake answers with v, or with the error as a sentence.
func answerIntake(w http.ResponseWriter, v any, err error) {
	status := http.StatusInternalServerError
	var e *oci.Error
	var offset *errOffset
	switch {
	case err == nil:
		sayJSON(w, v)
		return
	case errors.Is(err, errMistake), errors.Is(err, intake.ErrShort):
		status = http.StatusBadRequest
	case errors.As(err, &offset):
		sayJSONAs(w, http.StatusRequestedRangeNotSatisfiable, Arrived{Have: offset.have})
		return
	case errors.Is(err, store.ErrBusy):
		status = http.StatusConflict
	case errors.Is(err, store.ErrUnwritable):
		status = http.StatusInsufficientStorage
	case oci.IsUnknown(err):
		status = http.StatusNotFound
	case errors.Is(err, intake.ErrLong), errors.Is(err, intake.ErrLacks), errors.As(err, &e) && isInvalid(e.Code):
		status = http.StatusUnprocessableEntity
	case errors.Is(err, context.Canceled): // whoever asked has left, or the mirror stops
		status = http.StatusServiceUnavailable
	}
	say(w, status, err.Error())
}

func isInvalid(code oci.Code) bool {
	return code == oci.CodeDigestInvalid || code == oci.CodeManifestInvalid || code == oci.CodeSizeInvalid
}

// mistaken is a mistake of whoever asks.
func mistaken(err error) error { return fmt.Errorf("%w: %w", errMistake, err) }

// bringsFor reads for which repository something is brought: one of a registry that is
// served here.
func (c *Content) bringsFor(q url.Values) (oci.Repository, error) {
	name := q.Get("repository")
	if name == "" {
		return oci.Repository{}, fmt.Errorf("%w: the parameter repository is needed", errMistake)
	}
	ref, _, err := c.Locate(name)
	if err != nil {
		return oci.Repository{}, mistaken(err)
	}
	if !ref.Untagged() {
		return oci.Repository{}, fmt.Errorf("%w: repository has neither a tag nor a digest", errMistake)
	}
	return ref.Repository, nil
}

// broughtBlob reads which blob is meant.
func (c *Content) broughtBlob(r *http.Request) (repo oci.Repository, d oci.Digest, err error) {
	q := r.URL.Query()
	if repo, err = c.bringsFor(q); err != nil {
		return repo, d, err
	}
	if d, err = oci.ParseDigest(q.Get("digest")); err != nil {
		return repo, d, mistaken(err)
	}
	return repo, d, nil
}

// arrived answers GET /api/v1/intake/blob.
func (c *Content) arrived(r *http.Request) (any, error) {
	repo, d, err := c.broughtBlob(r)
	if err != nil {
		return nil, err
	}
	has, err := c.Intake.Has(r.Context(), repo, oci.Descriptor{Digest: d})
	return Arrived{Here: has}, err
}

// takeBlob answers PUT /api/v1/intake/blob.
func (c *Content) takeBlob(r *http.Request, body io.ReadCloser) (string, any, error) {
	repo, digest, err := c.broughtBlob(r)
	if err != nil {
		return r.URL.Query().Get("repository"), nil, err
	}
	about := repo.String() + "@" + digest.String()
	size, err := countOf(r, "size", -1)
	if err != nil {
		return about, nil, err
	}
	offset, err := countOf(r, "offset", 0)
	if err != nil {
		return about, nil, err
	}
	if r.ContentLength >= 0 && r.ContentLength != size-offset {
		return about, nil, fmt.Errorf("%w: %d bytes follow, and from %d to %d there are %d", errMistake, r.ContentLength, offset, size, size-offset)
	}
	err = c.Intake.PutBlob(r.Context(), repo, oci.Descriptor{Digest: digest, Size: size}, func(_ context.Context, have int64) (io.ReadCloser, error) {
		if have != offset {
			return nil, &errOffset{have}
		}
		offset = -1 // it can be read once
		return body, nil
	}, nil)
	if err != nil {
		return about, nil, err
	}
	return about, Arrived{Here: true}, nil
}

// countOf reads a number of bytes; without one it is usual, of which -1 is none.
func countOf(r *http.Request, name string, usual int64) (int64, error) {
	s := r.URL.Query().Get(name)
	if s == "" && usual >= 0 {
		return usual, nil
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("%w: %s is a number of bytes", errMistake, name)
	}
	return n, nil
}

// taken answers GET /api/v1/intake/manifest.
func (c *Content) taken(r *http.Request) (any, error) {
	q := r.URL.Query()
	repo, err := c.bringsFor(q)
	if err != nil {
		return nil, err
	}
	reference := q.Get("reference")
	if tag, err := oci.ParseTag(reference); err == nil {
		d, err := c.Intake.ResolveTag(r.Context(), repo, tag)
		return taken(repo, d), err
	}
	digest, err := oci.ParseDigest(reference)
	if err != nil {
		return nil, fmt.Errorf("%w: reference is a tag or a digest", errMistake)
	}
	d, err := c.Intake.Manifest(r.Context(), repo, digest)
	return taken(repo, d), err
}

// takeManifest answers PUT /api/v1/intake/manifest.
func (c *Content) takeManifest(r *http.Request, body io.ReadCloser) (string, any, error) {
	q := r.URL.Query()
	repo, err := c.bringsFor(q)
	if err != nil {
		return q.Get("repository"), nil, err
	}
	about := repo.String()
	digest, err := oci.ParseDigest(q.Get("digest"))
	if err != nil {
		return about, nil, mistaken(err)
	}
	about += "@" + digest.String()
	var tags []oci.Tag
	for _, s := range q["tag"] {
		tag, err := oci.ParseTag(s)
		if err != nil {
			return about, nil, mistaken(err)
		}
		tags = append(tags, tag)
	}
	raw, err := io.ReadAll(io.LimitReader(body, oci.MaxManifestSize+1))
	if err != nil {
		return about, nil, fmt.Errorf("%w: %w", intake.ErrShort, err)
	}
	d := oci.Descriptor{MediaType: q.Get("media_type"), Digest: digest, Size: int64(len(raw))}
	if err := c.Intake.PutManifest(r.Context(), repo, d, raw, tags); err != nil {
		return about, nil, err
	}
	return strings.Join(append([]string{about}, q["tag"]...), " "), taken(repo, d), nil
}
