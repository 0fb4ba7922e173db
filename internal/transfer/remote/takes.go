package remote

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"

	"sampan/internal/oci"
	"sampan/internal/upstream"
)

// ErrRefused is what [errors.Is] finds where a registry does not take manifests of a
// kind: an old one that knows Docker's alone, one that takes no artifacts.
var ErrRefused = errors.New("manifests of this kind are refused")

// A manifestKind is what a registry may refuse: media type, and what is in it.
type manifestKind struct{ mediaType, config, artifact string }

// String is the media type and, of what is no image, what is in it.
func (k manifestKind) String() string {
	switch {
	case k.artifact != "":
		return k.mediaType + " with " + k.artifact
	case k.config != "" && k.config != ociConfig && k.config != dockerConfig:
		return k.mediaType + " with " + k.config
	}
	return k.mediaType
}

// The configurations of images.
const (
	ociConfig    = "application/vnd.oci.image.config.v1+json"
	dockerConfig = "application/vnd.docker.container.image.v1+json"
)

func kindOf(m oci.Manifest) manifestKind {
	var doc struct {
		ArtifactType string `json:"artifactType"`
		Config       struct {
			MediaType string `json:"mediaType"`
		} `json:"config"`
	}
	_ = json.Unmarshal(m.Bytes, &doc) // what cannot be read is of no kind
	return manifestKind{m.Descriptor.MediaType, doc.Config.MediaType, doc.ArtifactType}
}

// A verdict is what a registry says of a kind of manifest. Only who holds its lock asks.
type verdict struct {
	mu      sync.Mutex
	known   bool
	refused *oci.Error // nil where it is taken, and where that cannot be known
}

// kinds are the verdicts so far.
type kinds struct {
	mu sync.Mutex
	of map[manifestKind]*verdict
}

func (k *kinds) verdict(kind manifestKind) *verdict {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.of == nil {
		k.of = map[manifestKind]*verdict{}
	}
	if k.of[kind] == nil {
		k.of[kind] = &verdict{}
	}
	return k.of[kind]
}

// Refuses implements [transfer.Refuser]. Nothing that a registry tells of itself says what
// it takes, so it is asked by a request that it cannot but refuse: the manifest, with a
// line feed behind, under a digest that is another's. A registry that knows the kind says
// that the digest is wrong, or that something is missing; one that does not says that the
// manifest is. Some say the latter of a wrong digest too: then a plain manifest of the
// other family is asked about in the same way, and only who knows that one refuses this
// one; of an index, one that names nothing is asked about too, because some take an index
// for broken whose children are not there. Each kind is asked about once. See design note
// 0018.
func (r *Registry) Refuses(ctx context.Context, repo oci.Repository, m oci.Manifest, _ oci.Graph) error {
	kind := kindOf(m)
	if kind.mediaType == oci.MediaTypeDockerSchema1 || kind.mediaType == oci.MediaTypeDockerSchema1JWS {
		return nil // what is signed cannot be altered
	}
	v := r.kinds.verdict(kind)
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.known {
		refused, err := r.asksIfTaken(ctx, repo, m)
		if err != nil {
			return err
		}
		v.known, v.refused = true, refused
	}
	if v.refused != nil {
		return r.refusedKind(repo, kind, v.refused)
	}
	return nil
}

func (r *Registry) refusedKind(repo oci.Repository, kind manifestKind, cause *oci.Error) error {
	return &oci.Error{
		Code:    cause.Code,
		Message: fmt.Sprintf("%s does not take manifests of type %s, so that nothing of it was sent to %s: %s", r.name, kind, repo.Path(), cause.Message),
		Err:     fmt.Errorf("%w: %w", ErrRefused, cause),
	}
}

// asksIfTaken returns why a manifest of this kind is refused; nil where it is not, or
// where that cannot be known. The error is the context's, or that nothing is taken from
// who asks.
func (r *Registry) asksIfTaken(ctx context.Context, repo oci.Repository, m oci.Manifest) (*oci.Error, error) {
	altered := append(bytes.Clone(m.Bytes), '\n')
	said, refusal := r.misput(ctx, repo, m.Descriptor.MediaType, altered)
	switch said {
	case asStranger:
		return nil, refusal
	case asUnknown:
		other := oci.MediaTypeDockerManifest
		if m.Descriptor.MediaType == other {
			other = oci.MediaTypeImageManifest
		}
		if control, _ := r.misput(ctx, repo, other, plainManifest(other)); control == asWrongDigest && !r.takesEmptyIndex(ctx, repo, m.Descriptor.MediaType) {
			said = asRefused
		}
	}
	if said == asRefused {
		return refusal, ctx.Err()
	}
	return nil, ctx.Err()
}

// takesEmptyIndex tells whether an index that names nothing may be taken; false for what is
// no index.
func (r *Registry) takesEmptyIndex(ctx context.Context, repo oci.Repository, mediaType string) bool {
	if mediaType != oci.MediaTypeImageIndex && mediaType != oci.MediaTypeDockerList {
		return false
	}
	said, _ := r.misput(ctx, repo, mediaType, fmt.Appendf(nil, "{\"schemaVersion\":2,\"mediaType\":%q,\"manifests\":[]}\n", mediaType))
	return said != asUnknown && said != asRefused
}

// An answer to a manifest under a wrong digest.
type answer int

const (
	asNothing     answer = iota // nothing can be concluded
	asWrongDigest               // the manifest is understood
	asUnknown                   // it is not, or the digest is meant
	asRefused                   // it is not
	asStranger                  // nothing is taken without other credentials
)

// misput puts a manifest under a digest that no content has.
func (r *Registry) misput(ctx context.Context, repo oci.Repository, mediaType string, raw []byte) (answer, *oci.Error) {
	nobodys := oci.DigestOf([]byte("sampan: a manifest that is not there"))
	a, err := r.Push(ctx, upstream.Push{
		Method: http.MethodPut, Repository: repo, Below: "manifests/" + nobodys.String(),
		Header: http.Header{"Content-Type": {mediaType}}, Size: int64(len(raw)),
		Body: func(context.Context) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(raw)), nil },
	})
	if refusal := (*oci.Error)(nil); errors.Is(err, oci.ErrUnauthorized) && errors.As(err, &refusal) {
		return asStranger, refusal
	}
	if err != nil {
		return asNothing, nil //nolint:nilerr // who does not answer is asked again by what is sent
	}
	switch {
	case a.Err == nil:
		return asNothing, nil
	case a.Status == http.StatusUnauthorized:
		return asStranger, a.Err
	case a.Status == http.StatusUnsupportedMediaType:
		return asRefused, a.Err
	case a.Status != http.StatusBadRequest && a.Status != http.StatusNotFound && a.Status != http.StatusNotAcceptable && a.Status != http.StatusUnprocessableEntity:
		return asNothing, nil
	}
	switch a.Err.Code {
	case oci.CodeManifestInvalid, oci.CodeUnsupported:
		return asUnknown, a.Err
	case oci.CodeDigestInvalid, oci.CodeBlobUnknown, oci.CodeManifestUnknown, "MANIFEST_BLOB_UNKNOWN":
		return asWrongDigest, nil
	}
	return asNothing, nil
}

// plainManifest is an image of a family whose blobs nobody has, with a line feed behind as
// what it is compared with.
func plainManifest(mediaType string) []byte {
	config, layer := ociConfig, "application/vnd.oci.image.layer.v1.tar+gzip"
	if mediaType == oci.MediaTypeDockerManifest {
		config, layer = dockerConfig, "application/vnd.docker.image.rootfs.diff.tar.gzip"
	}
	blob := oci.DigestOf([]byte("sampan: a blob that is not there"))
	return fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":%q,"size":2,"digest":%q},"layers":[{"mediaType":%q,"size":2,"digest":%q}]}`+"\n",
		mediaType, config, blob, layer, blob)
}
