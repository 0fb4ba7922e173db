package proof

import (
	"bytes"
	"context"

	"sampan/internal/oci"
)

// A Reader has the proof, and beyond it what another reader has. Abilities that the
// other lacks are missing as they would be there.
type Reader struct {
	next  oci.Reader
	image *image
}

// The abilities of the reader behind are passed on.
var (
	_ oci.Reader         = (*Reader)(nil)
	_ oci.BlobSeeker     = (*Reader)(nil)
	_ oci.BlobStater     = (*Reader)(nil)
	_ oci.ManifestStater = (*Reader)(nil)
)

// New puts the proof in front of next.
func New(next oci.Reader) *Reader { return &Reader{next, build()} }

// ResolveTag implements [oci.Reader]: any tag of the proof is the image.
func (r *Reader) ResolveTag(ctx context.Context, repo oci.Repository, tag oci.Tag) (oci.Descriptor, error) {
	if !Serves(repo) {
		return r.next.ResolveTag(ctx, repo, tag)
	}
	return r.image.index.Descriptor, nil
}

// Manifest implements [oci.Reader].
func (r *Reader) Manifest(ctx context.Context, repo oci.Repository, d oci.Digest) (oci.Manifest, error) {
	if !Serves(repo) {
		return r.next.Manifest(ctx, repo, d)
	}
	m, ok := r.image.manifests[d]
	if !ok {
		return oci.Manifest{}, unknown(oci.CodeManifestUnknown, d)
	}
	return m, nil
}

// StatManifest implements [oci.ManifestStater].
func (r *Reader) StatManifest(ctx context.Context, repo oci.Repository, d oci.Digest) (oci.Descriptor, error) {
	if s, ok := r.next.(oci.ManifestStater); ok && !Serves(repo) {
		return s.StatManifest(ctx, repo, d)
	}
	m, err := r.Manifest(ctx, repo, d)
	return m.Descriptor, err
}

// Blob implements [oci.Reader].
func (r *Reader) Blob(ctx context.Context, repo oci.Repository, d oci.Digest) (oci.BlobReader, error) {
	return r.BlobFrom(ctx, repo, d, 0)
}

// BlobFrom implements [oci.BlobSeeker].
func (r *Reader) BlobFrom(ctx context.Context, repo oci.Repository, d oci.Digest, from int64) (oci.BlobReader, error) {
	if !Serves(repo) {
		return oci.BlobFrom(ctx, r.next, repo, d, from)
	}
	content, ok := r.image.blobs[d]
	if !ok {
		return nil, unknown(oci.CodeBlobUnknown, d)
	}
	return &blob{bytes.NewReader(content), oci.Descriptor{MediaType: "application/octet-stream", Digest: d, Size: int64(len(content))}}, nil
}

// StatBlob implements [oci.BlobStater].
func (r *Reader) StatBlob(ctx context.Context, repo oci.Repository, d oci.Digest) (oci.Descriptor, error) {
	if s, ok := r.next.(oci.BlobStater); ok && !Serves(repo) {
		return s.StatBlob(ctx, repo, d)
	}
	b, err := r.Blob(ctx, repo, d)
	if err != nil {
		return oci.Descriptor{}, err
	}
	return b.Descriptor(), b.Close()
}

// Tags implements [oci.Reader]. The proof has every tag, and lists none.
func (r *Reader) Tags(ctx context.Context, repo oci.Repository) ([]oci.Tag, error) {
	if !Serves(repo) {
		return r.next.Tags(ctx, repo)
	}
	return nil, nil
}

// Referrers implements [oci.Reader].
func (r *Reader) Referrers(ctx context.Context, repo oci.Repository, d oci.Digest) ([]oci.Descriptor, error) {
	if !Serves(repo) {
		return r.next.Referrers(ctx, repo, d)
	}
	return nil, nil
}

// Prefetch tells the reader behind, where it wants to know, which manifests clients
// get.
func (r *Reader) Prefetch(repo oci.Repository, m oci.Manifest) {
	if p, ok := r.next.(interface {
		Prefetch(oci.Repository, oci.Manifest)
	}); ok && !Serves(repo) {
		p.Prefetch(repo, m)
	}
}

func unknown(code oci.Code, d oci.Digest) error {
	return oci.Errorf(code, "the proof of the mirror has no %s", d)
}

// A blob is a part of the image.
type blob struct {
	*bytes.Reader
	desc oci.Descriptor
}

// Descriptor implements [oci.BlobReader].
func (b *blob) Descriptor() oci.Descriptor { return b.desc }

// Close implements [oci.BlobReader].
func (b *blob) Close() error { return nil }
