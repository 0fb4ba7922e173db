package remote

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"sampan/internal/oci"
	"sampan/internal/upstream"
)

// DeleteTag takes a tag away, and nothing else (distribution specification, "Deleting
// tags"). One that is not there is no error. A registry that deletes nothing by a tag, but
// manifests by their digests (distribution 2), has the tag point at a manifest without
// content first, which is then deleted with it. It fails with UNSUPPORTED where the
// registry does neither.
func (r *Registry) DeleteTag(ctx context.Context, repo oci.Repository, tag oci.Tag) error {
	a, err := r.remove(ctx, repo, tag.String())
	switch {
	case err != nil:
		return err
	case a.Err == nil, a.Status == http.StatusNotFound && a.Err.Code != oci.CodeUnsupported:
		return nil
	case a.Status == http.StatusBadRequest:
		return r.deleteByDigest(ctx, repo, tag)
	case a.Status == http.StatusMethodNotAllowed, a.Status == http.StatusNotImplemented:
		return oci.Errorf(oci.CodeUnsupported, "%s deletes nothing: %w", r.name, a.Err)
	}
	return a.Err
}

// remove asks for a manifest, or a tag, to be deleted.
func (r *Registry) remove(ctx context.Context, repo oci.Repository, reference string) (upstream.Pushed, error) {
	return r.Push(ctx, upstream.Push{Method: http.MethodDelete, Repository: repo, Below: "manifests/" + reference})
}

// deleteByDigest takes a tag away with a manifest of its own. That the registry deletes
// manifests is tried before the tag is touched, and what it pointed at is put back where
// the last step fails.
func (r *Registry) deleteByDigest(ctx context.Context, repo oci.Repository, tag oci.Tag) error {
	if err := r.deletesManifests(ctx, repo); err != nil {
		return err
	}
	before, err := r.TaggedManifest(ctx, repo, tag)
	if oci.IsUnknown(err) {
		return nil
	}
	if err != nil {
		return err
	}
	d, raw, err := emptyManifest()
	if err != nil {
		return err
	}
	_, err = r.putManifest(ctx, repo, d, raw, tag.String())
	if err == nil {
		if err = r.removeManifest(ctx, repo, d); err == nil {
			return nil
		}
	}
	return errors.Join(err, r.putBack(ctx, repo, tag, before))
}

// putBackWithin is how long it may take to put a tag back, also where the command has been
// ended.
const putBackWithin = time.Minute

// putBack has a tag point at what it pointed at before, and tries that again and again for as
// long as pause allows: in the meantime it points at nothing of use.
func (r *Registry) putBack(ctx context.Context, repo oci.Repository, tag oci.Tag, before oci.Manifest) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), putBackWithin)
	defer cancel()
	for n := 1; ; n++ {
		_, err := r.putManifest(ctx, repo, before.Descriptor, before.Bytes, tag.String())
		if err == nil {
			return nil
		}
		if stop := r.pause(ctx, n, err); stop != nil {
			return fmt.Errorf("%s of %s points at an empty manifest now, not at %s: %w", tag, repo, before.Descriptor.Digest, err)
		}
	}
}

// deletesManifests tries, once for each repository, whether manifests can be deleted. A
// repository of which nothing was learnt is tried again.
func (r *Registry) deletesManifests(ctx context.Context, repo oci.Repository) error {
	r.mu.Lock()
	known, tried := r.deletes[repo]
	r.mu.Unlock()
	if tried {
		return known
	}
	err := r.tryDeleting(ctx, repo)
	if err == nil || oci.CodeOf(err) == oci.CodeUnsupported {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.deletes[repo] = err
	}
	return err
}

// tryDeleting puts a manifest that nobody needs, and deletes it.
func (r *Registry) tryDeleting(ctx context.Context, repo oci.Repository) error {
	config := oci.Descriptor{MediaType: "application/octet-stream", Digest: oci.DigestOf(emptyConfig()), Size: int64(len(emptyConfig()))}
	here, err := r.Has(ctx, repo, config)
	if err == nil && !here {
		err = r.PutBlob(ctx, repo, config, func(_ context.Context, offset int64) (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(emptyConfig()[offset:])), nil
		}, nil)
	}
	if err != nil {
		return err
	}
	d, raw, err := emptyManifest()
	if err != nil {
		return err
	}
	if _, err := r.putManifest(ctx, repo, d, raw, d.Digest.String()); err != nil {
		return err
	}
	return r.removeManifest(ctx, repo, d)
}

// removeManifest deletes a manifest, which is there.
func (r *Registry) removeManifest(ctx context.Context, repo oci.Repository, d oci.Descriptor) error {
	a, err := r.remove(ctx, repo, d.Digest.String())
	switch {
	case err != nil:
		return err
	case a.Err == nil:
		return nil
	case a.Status == http.StatusBadRequest, a.Status == http.StatusMethodNotAllowed, a.Status == http.StatusNotImplemented:
		return oci.Errorf(oci.CodeUnsupported, "%s deletes nothing: %w", r.name, a.Err)
	}
	return a.Err
}

func emptyConfig() []byte { return []byte("{}") }

// emptyManifest makes an image without layers that is no other one: deleting it takes
// nothing along.
func emptyManifest() (oci.Descriptor, []byte, error) {
	config := emptyConfig()
	raw, err := json.Marshal(map[string]any{
		"schemaVersion": 2, "mediaType": oci.MediaTypeImageManifest,
		"config":      oci.Descriptor{MediaType: "application/vnd.oci.image.config.v1+json", Digest: oci.DigestOf(config), Size: int64(len(config))},
		"layers":      []oci.Descriptor{},
		"annotations": map[string]string{"sampan.deleted-tag": rand.Text()},
	})
	return oci.Descriptor{MediaType: oci.MediaTypeImageManifest, Digest: oci.DigestOf(raw), Size: int64(len(raw))}, raw, err
}
