package upstream

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"strings"

	"sampan/internal/oci"
	"sampan/internal/upstream/failure"
)

// acceptManifests returns what sampan can carry. The list is explicit because
// registries convert for those who do not list a type (quay.io: to schema 1,
// with another digest).
func acceptManifests() http.Header {
	return http.Header{"Accept": {strings.Join([]string{
		oci.MediaTypeImageIndex,
		oci.MediaTypeImageManifest,
		oci.MediaTypeDockerList,
		oci.MediaTypeDockerManifest,
		oci.MediaTypeArtifactManifest,
	}, ", ")}}
}

// ResolveTag implements [oci.Reader] with a HEAD, and with a GET where the
// answer to HEAD does not say everything or HEAD is not liked.
func (r *Registry) ResolveTag(ctx context.Context, repo oci.Repository, tag oci.Tag) (oci.Descriptor, error) {
	return eachWithin(ctx, r, func(ctx context.Context, ep *endpoint) (oci.Descriptor, error) {
		return r.resolveAt(ctx, ep, repo, tag)
	})
}

func (r *Registry) resolveAt(ctx context.Context, ep *endpoint, repo oci.Repository, tag oci.Tag) (oci.Descriptor, error) {
	q := manifestQuestion(repo, tag.String())
	q.method = http.MethodHead
	rep, err := r.ask(ctx, ep, q)
	switch {
	case err != nil && !headIsNotLiked(err):
		return oci.Descriptor{}, err
	case err == nil && rep.method == http.MethodGet: // it was redirected
		m, err := r.readManifest(ctx, rep, oci.Digest{})
		return m.Descriptor, err
	case err == nil:
		rep.close()
		if d, ok := describe(rep.Header, rep.ContentLength); ok {
			return d, nil
		}
	}
	m, err := r.manifestAt(ctx, ep, repo, tag.String(), oci.Digest{})
	return m.Descriptor, err
}

// headIsNotLiked tells the statuses that a registry which is asked with HEAD
// may not mean (it has no body to explain them).
func headIsNotLiked(err error) bool {
	switch statusOf(err) {
	case http.StatusBadRequest, http.StatusForbidden, http.StatusMethodNotAllowed, http.StatusNotImplemented:
		return true
	default:
		return false
	}
}

// headIsMute tells a refusal of a HEAD that a GET may explain, or take back: what
// clients are told must not depend on which of the two was asked with. Who limits
// the rate, and who asks for credentials, has said enough.
func headIsMute(err error) bool {
	var s *statusError
	if !errors.As(err, &s) || s.moved {
		return false
	}
	switch status := statusOf(err); status {
	case http.StatusUnauthorized, http.StatusProxyAuthRequired, http.StatusTooManyRequests:
		return false
	default:
		return status/100 == 4 || status == http.StatusNotImplemented
	}
}

// describe reads a descriptor from headers; false when one is missing.
func describe(h http.Header, size int64) (oci.Descriptor, bool) {
	digest, mediaType := namedDigest(h), mediaTypeOf(h)
	if digest.IsZero() || size <= 0 || size > oci.MaxManifestSize || !oci.IsManifestType(mediaType) || isSchema1(mediaType) {
		return oci.Descriptor{}, false
	}
	return oci.Descriptor{MediaType: mediaType, Digest: digest, Size: size}, true
}

// Manifest implements [oci.Reader]. Where the registry limits the rate it is waited
// for as long as Options.RateLimitWait allows. An answer that is longer than
// [oci.MaxManifestSize], does not match the digest, or is no manifest is
// UNAVAILABLE.
func (r *Registry) Manifest(ctx context.Context, repo oci.Repository, digest oci.Digest) (oci.Manifest, error) {
	return r.manifest(ctx, repo, digest.String(), digest)
}

// TaggedManifest implements [oci.TagGetter]. The digest is that of the bytes;
// when the registry names another one the answer is UNAVAILABLE.
func (r *Registry) TaggedManifest(ctx context.Context, repo oci.Repository, tag oci.Tag) (oci.Manifest, error) {
	return r.manifest(ctx, repo, tag.String(), oci.Digest{})
}

func (r *Registry) manifest(ctx context.Context, repo oci.Repository, ref string, want oci.Digest) (oci.Manifest, error) {
	return patiently(ctx, r, func() (oci.Manifest, error) {
		return eachWithin(ctx, r, func(ctx context.Context, ep *endpoint) (oci.Manifest, error) {
			return r.manifestAt(ctx, ep, repo, ref, want)
		})
	})
}

func manifestQuestion(repo oci.Repository, ref string) question {
	return question{
		kind:    kindManifest,
		method:  http.MethodGet,
		repo:    repo,
		below:   "manifests/" + ref,
		header:  acceptManifests(),
		unknown: oci.CodeManifestUnknown,
	}
}

func (r *Registry) manifestAt(ctx context.Context, ep *endpoint, repo oci.Repository, ref string, want oci.Digest) (oci.Manifest, error) {
	rep, err := r.ask(ctx, ep, manifestQuestion(repo, ref))
	if err != nil {
		return oci.Manifest{}, err
	}
	return r.readManifest(ctx, rep, want)
}

// readManifest reads and verifies the manifest in an answer and closes it. A
// zero want means that the answer itself says what it is.
func (r *Registry) readManifest(ctx context.Context, rep *reply, want oci.Digest) (oci.Manifest, error) {
	if rep.StatusCode != http.StatusOK {
		rep.close()
		return oci.Manifest{}, r.noAnswer(&statusError{status: rep.StatusCode, url: redact(rep.url)}, "sent no manifest")
	}
	b, err := r.read(ctx, kindManifest, rep, oci.MaxManifestSize)
	if errors.Is(err, errTooLarge) {
		return oci.Manifest{}, r.noAnswer(err, fmt.Sprintf("sent a manifest of more than %d MiB, which is refused", oci.MaxManifestSize>>20))
	}
	if err != nil {
		return oci.Manifest{}, err
	}
	mediaType := manifestType(mediaTypeOf(rep.Header), b)
	switch {
	case looksLikeHTML(rep.Header, b):
		return oci.Manifest{}, r.noAnswer(nil, "answered with a web page instead of a manifest")
	case mediaType == "":
		return oci.Manifest{}, r.noAnswer(nil, "sent something that is not a manifest")
	case isSchema1(mediaType):
		return oci.Manifest{}, r.fail(oci.CodeUnsupported, nil, failure.Facts{Kind: failure.OldManifest})
	}
	digest, err := r.proveManifest(rep.Header, b, want)
	if err != nil {
		return oci.Manifest{}, err
	}
	d := oci.Descriptor{MediaType: mediaType, Digest: digest, Size: int64(len(b))}
	return oci.Manifest{Descriptor: d, Bytes: b}, nil
}

// proveManifest returns the digest of a manifest's bytes: the one wanted, or
// else the one that the registry names, or else their sha256.
func (r *Registry) proveManifest(h http.Header, b []byte, want oci.Digest) (oci.Digest, error) {
	if want.IsZero() {
		want = namedDigest(h)
	}
	if want.IsZero() {
		return oci.DigestOf(b), nil
	}
	if !want.Verify(b) {
		return oci.Digest{}, r.noAnswer(fmt.Errorf("manifest %s: the bytes are %s", want, oci.DigestOf(b)),
			"sent a manifest that does not match its digest")
	}
	return want, nil
}

// namedDigest returns the digest that headers name, zero when they name none
// that can be checked.
func namedDigest(h http.Header) oci.Digest {
	d, err := oci.ParseDigest(h.Get("Docker-Content-Digest"))
	if err != nil {
		return oci.Digest{}
	}
	return d
}

// mediaTypeOf returns the Content-Type without parameters, in lower case.
func mediaTypeOf(h http.Header) string {
	t := h.Get("Content-Type")
	if parsed, _, err := mime.ParseMediaType(t); err == nil {
		return parsed
	}
	t, _, _ = strings.Cut(t, ";")
	return strings.ToLower(strings.TrimSpace(t))
}

// manifestType returns the media type of a manifest that was sent as declared:
// the declared one where it says something, or else what the manifest says of
// itself or what its fields make it. Empty means that it is no manifest.
func manifestType(declared string, b []byte) string {
	var doc struct {
		MediaType string          `json:"mediaType"`
		Manifests json.RawMessage `json:"manifests"`
		Config    json.RawMessage `json:"config"`
		Layers    json.RawMessage `json:"layers"`
		Blobs     json.RawMessage `json:"blobs"`
		FSLayers  json.RawMessage `json:"fsLayers"`
	}
	if json.Unmarshal(b, &doc) != nil {
		return ""
	}
	switch {
	case !isGeneric(declared):
		return declared
	case doc.MediaType != "" && !isGeneric(doc.MediaType):
		return doc.MediaType
	case doc.Manifests != nil:
		return oci.MediaTypeImageIndex
	case doc.Config != nil && doc.Layers != nil:
		return oci.MediaTypeImageManifest
	case doc.FSLayers != nil:
		return oci.MediaTypeDockerSchema1
	case doc.Blobs != nil:
		return oci.MediaTypeArtifactManifest
	default:
		return ""
	}
}

// isGeneric tells the media types that say nothing about a manifest.
func isGeneric(mediaType string) bool {
	switch mediaType {
	case "", "application/json", "application/octet-stream", "binary/octet-stream":
		return true
	default:
		return strings.HasPrefix(mediaType, "text/")
	}
}

func isSchema1(mediaType string) bool {
	return mediaType == oci.MediaTypeDockerSchema1 || mediaType == oci.MediaTypeDockerSchema1JWS
}

func looksLikeHTML(h http.Header, b []byte) bool {
	return mediaTypeOf(h) == "text/html" && !json.Valid(b) || bytes.HasPrefix(bytes.TrimSpace(b), []byte("<"))
}
