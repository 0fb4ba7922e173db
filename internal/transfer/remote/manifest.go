package remote

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"

	"sampan/internal/oci"
	"sampan/internal/transfer"
	"sampan/internal/upstream"
)

// PutManifest implements [transfer.Writer]: by digest first, so that no tag ever points
// at something that the registry has understood otherwise.
func (r *Registry) PutManifest(ctx context.Context, repo oci.Repository, d oci.Descriptor, raw []byte, tags []oci.Tag) error {
	listed, err := r.putManifest(ctx, repo, d, raw, d.Digest.String())
	if err != nil {
		return err
	}
	g, err := oci.Manifest{Descriptor: d, Bytes: raw}.Graph()
	if err != nil {
		return err
	}
	if !g.Subject.Digest.IsZero() && !listed {
		if err := r.listReferrer(ctx, repo, d, g); err != nil {
			return err
		}
	}
	for _, tag := range tags {
		if _, err := r.putManifest(ctx, repo, d, raw, tag.String()); err != nil {
			return err
		}
	}
	return nil
}

// putManifest puts a manifest under a tag or its digest, and tells whether the registry
// lists it as a referrer of its subject (OCI-Subject).
func (r *Registry) putManifest(ctx context.Context, repo oci.Repository, d oci.Descriptor, raw []byte, reference string) (bool, error) {
	p := upstream.Push{
		Method: http.MethodPut, Repository: repo, Below: "manifests/" + reference,
		Header: http.Header{"Content-Type": {d.MediaType}}, Size: int64(len(raw)),
		Body: func(context.Context) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(raw)), nil },
	}
	a, err := r.Push(ctx, p)
	if err == nil && a.Err != nil {
		err = r.refusedManifest(ctx, repo, d, raw, a)
	}
	if err != nil {
		return false, err
	}
	return a.Header.Get("OCI-Subject") != "", sameDigest(r.name, a.Header, d.Digest)
}

// refusedManifest says what a person can do about a manifest that a registry does not
// take.
func (r *Registry) refusedManifest(ctx context.Context, repo oci.Repository, d oci.Descriptor, raw []byte, a upstream.Pushed) error {
	switch a.Status {
	case http.StatusUnsupportedMediaType:
		return &oci.Error{
			Code: a.Err.Code, Message: fmt.Sprintf("%s does not take a manifest of type %s for %s: %s", r.name, d.MediaType, repo.Path(), a.Err.Message),
			Err: fmt.Errorf("%w: %w", ErrRefused, a.Err),
		}
	case http.StatusBadRequest, http.StatusNotFound, http.StatusNotAcceptable, http.StatusUnprocessableEntity:
		if child, missing := r.missingChild(ctx, repo, oci.Manifest{Descriptor: d, Bytes: raw}); missing {
			return &oci.Error{
				Code: a.Err.Code, Message: fmt.Sprintf("%s takes an index for %s only with all that it names, and %s is not there: %s", r.name, repo.Path(), child, a.Err.Message),
				Err: fmt.Errorf("%w: %w", ErrSparse, a.Err),
			}
		}
		return oci.Errorf(a.Err.Code, "%s does not take a manifest of type %s for %s: it may be too old for it, or want what the manifest names to be there: %w", r.name, d.MediaType, repo.Path(), a.Err)
	}
	if full(a.Status) {
		return fullError(r.name, repo, a.Err)
	}
	return a.Err
}

// ErrSparse is what [errors.Is] finds where a registry wants all children of an index.
var ErrSparse = errors.New("the index is not complete")

// missingChild finds a manifest that an index names and that is not there.
func (r *Registry) missingChild(ctx context.Context, repo oci.Repository, index oci.Manifest) (oci.Digest, bool) {
	g, err := index.Graph()
	if err != nil {
		return oci.Digest{}, false
	}
	for _, child := range g.Manifests {
		if here, err := r.Has(ctx, repo, child); err == nil && !here {
			return child.Digest, true
		}
	}
	return oci.Digest{}, false
}

// Notes implements [transfer.Noter].
func (r *Registry) Notes(ctx context.Context, repo oci.Repository, referrers bool) ([]transfer.Note, error) {
	if !referrers {
		return nil, nil
	}
	native, err := r.hasReferrers(ctx, repo)
	if err != nil || native {
		return nil, err
	}
	return []transfer.Note{{Kind: transfer.NoteReferrersByTag, Repository: repo}}, nil
}

// hasReferrers asks whether a registry has the referrers API: one that has it answers
// with an empty list for a digest that nobody has.
func (r *Registry) hasReferrers(ctx context.Context, repo oci.Repository) (bool, error) {
	r.mu.Lock()
	native, known := r.referrers[repo]
	r.mu.Unlock()
	if known {
		return native, nil
	}
	a, err := r.Push(ctx, upstream.Push{
		Method: http.MethodGet, Repository: repo, Below: "referrers/" + oci.DigestOf(nil).String(),
		Header: http.Header{"Accept": {oci.MediaTypeImageIndex}},
	})
	if err != nil && !oci.IsAnswer(err) {
		return false, err
	}
	native = err == nil && a.Status == http.StatusOK
	r.mu.Lock()
	defer r.mu.Unlock()
	r.referrers[repo] = native
	return native, nil
}

// Lists implements [transfer.ReferrerLister]. A registry with the referrers API lists what it
// has.
func (r *Registry) Lists(ctx context.Context, repo oci.Repository, subject, digest oci.Digest) (bool, error) {
	native, err := r.hasReferrers(ctx, repo)
	if err != nil || native {
		return native, err
	}
	_, index, err := r.referrersOf(ctx, repo, subject)
	return index.has(digest), err
}

// listReferrer adds a manifest to the list under the tag that the specification provides
// for registries without the referrers API ("Pushing Manifests with Subject"). Another
// program that does so at the same moment may undo it; the next copy sees that.
func (r *Registry) listReferrer(ctx context.Context, repo oci.Repository, d oci.Descriptor, g oci.Graph) error {
	release, err := r.turn(ctx, g.Subject.Digest)
	if err != nil {
		return err
	}
	defer release()
	tag, index, err := r.referrersOf(ctx, repo, g.Subject.Digest)
	if err != nil || index.has(d.Digest) {
		return err
	}
	index.Manifests = append(index.Manifests, oci.Descriptor{
		MediaType: d.MediaType, Digest: d.Digest, Size: d.Size, ArtifactType: g.ArtifactType, Annotations: g.Annotations,
	})
	raw, err := json.Marshal(index)
	if err != nil {
		return err
	}
	list := oci.Descriptor{MediaType: oci.MediaTypeImageIndex, Digest: oci.DigestOf(raw), Size: int64(len(raw))}
	_, err = r.putManifest(ctx, repo, list, raw, tag.String())
	return err
}

type referrersIndex struct {
	SchemaVersion int              `json:"schemaVersion"`
	MediaType     string           `json:"mediaType"`
	Manifests     []oci.Descriptor `json:"manifests"`
}

func (x referrersIndex) has(digest oci.Digest) bool {
	return slices.ContainsFunc(x.Manifests, func(d oci.Descriptor) bool { return d.Digest == digest })
}

// referrersOf reads the list of what refers to a digest, which may be empty, and tells the
// tag that it has.
func (r *Registry) referrersOf(ctx context.Context, repo oci.Repository, subject oci.Digest) (oci.Tag, referrersIndex, error) {
	index := referrersIndex{SchemaVersion: 2, MediaType: oci.MediaTypeImageIndex, Manifests: []oci.Descriptor{}}
	tag, err := oci.ParseTag(fmt.Sprintf("%.32s-%.64s", subject.Algorithm(), subject.Hex()))
	if err != nil {
		return tag, index, err
	}
	have, err := r.TaggedManifest(ctx, repo, tag)
	switch {
	case oci.IsUnknown(err):
		return tag, index, nil
	case err != nil:
		return tag, index, err
	}
	if err := json.Unmarshal(have.Bytes, &index); err != nil || have.Descriptor.MediaType != oci.MediaTypeImageIndex {
		return tag, index, oci.Errorf(oci.CodeManifestInvalid, "the tag %s of %s is no list of referrers", tag, repo)
	}
	return tag, index, nil
}

// turn waits until nobody else changes the list of what refers to a digest.
func (r *Registry) turn(ctx context.Context, subject oci.Digest) (func(), error) {
	r.mu.Lock()
	t := r.subjects[subject]
	if t == nil {
		t = make(chan struct{}, 1)
		r.subjects[subject] = t
	}
	r.mu.Unlock()
	select {
	case t <- struct{}{}:
		return func() { <-t }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
