package access

import (
	"context"

	"sampan/internal/oci"
)

// ResolveTag implements [oci.Reader].
func (g *Gate) ResolveTag(ctx context.Context, repo oci.Repository, tag oci.Tag) (oci.Descriptor, error) {
	const code = oci.CodeManifestUnknown
	ctx, err := g.enter(ctx, question{repo, tag, "tag " + tag.String(), code, func(ctx context.Context, up oci.Reader) error {
		_, err := up.ResolveTag(ctx, repo, tag)
		return err
	}})
	if err != nil {
		return oci.Descriptor{}, err
	}
	d, err := g.o.Reader.ResolveTag(ctx, repo, tag)
	return d, g.leave(ctx, repo, code, err)
}

// Manifest implements [oci.Reader].
func (g *Gate) Manifest(ctx context.Context, repo oci.Repository, d oci.Digest) (oci.Manifest, error) {
	const code = oci.CodeManifestUnknown
	ctx, err := g.enter(ctx, manifestQuestion(repo, d, code))
	if err != nil {
		return oci.Manifest{}, err
	}
	m, err := g.o.Reader.Manifest(ctx, repo, d)
	return m, g.leave(ctx, repo, code, err)
}

func manifestQuestion(repo oci.Repository, d oci.Digest, code oci.Code) question {
	return question{repo, oci.Tag{}, "manifest " + d.String(), code, func(ctx context.Context, up oci.Reader) error {
		if s, ok := up.(oci.ManifestStater); ok {
			_, err := s.StatManifest(ctx, repo, d)
			return err
		}
		_, err := up.Manifest(ctx, repo, d)
		return err
	}}
}

// Blob implements [oci.Reader].
func (g *Gate) Blob(ctx context.Context, repo oci.Repository, d oci.Digest) (oci.BlobReader, error) {
	return g.BlobFrom(ctx, repo, d, 0)
}

// BlobFrom implements [oci.BlobSeeker].
func (g *Gate) BlobFrom(ctx context.Context, repo oci.Repository, d oci.Digest, from int64) (oci.BlobReader, error) {
	ctx, err := g.enter(ctx, blobQuestion(repo, d))
	if err != nil {
		return nil, err
	}
	b, err := oci.BlobFrom(ctx, g.o.Reader, repo, d, from)
	if err != nil {
		return nil, g.leave(ctx, repo, oci.CodeBlobUnknown, err)
	}
	return b, nil
}

// StatBlob implements [oci.BlobStater].
func (g *Gate) StatBlob(ctx context.Context, repo oci.Repository, d oci.Digest) (oci.Descriptor, error) {
	ctx, err := g.enter(ctx, blobQuestion(repo, d))
	if err != nil {
		return oci.Descriptor{}, err
	}
	desc, err := statBlob(ctx, g.o.Reader, repo, d)
	return desc, g.leave(ctx, repo, oci.CodeBlobUnknown, err)
}

func blobQuestion(repo oci.Repository, d oci.Digest) question {
	return question{repo, oci.Tag{}, "blob " + d.String(), oci.CodeBlobUnknown, func(ctx context.Context, up oci.Reader) error {
		_, err := statBlob(ctx, up, repo, d)
		return err
	}}
}

func statBlob(ctx context.Context, r oci.Reader, repo oci.Repository, d oci.Digest) (oci.Descriptor, error) {
	if s, ok := r.(oci.BlobStater); ok {
		return s.StatBlob(ctx, repo, d)
	}
	b, err := r.Blob(ctx, repo, d)
	if err != nil {
		return oci.Descriptor{}, err
	}
	return b.Descriptor(), b.Close()
}

// Tags implements [oci.Reader].
func (g *Gate) Tags(ctx context.Context, repo oci.Repository) ([]oci.Tag, error) {
	const code = oci.CodeNameUnknown
	ctx, err := g.enter(ctx, question{repo, oci.Tag{}, "tags", code, func(ctx context.Context, up oci.Reader) error {
		_, err := up.Tags(ctx, repo)
		return err
	}})
	if err != nil {
		return nil, err
	}
	tags, err := g.o.Reader.Tags(ctx, repo)
	return tags, g.leave(ctx, repo, code, err)
}

// Referrers implements [oci.Reader]. Where the client has not been shown anything
// of the repository yet, the manifest that is referred to has to exist.
func (g *Gate) Referrers(ctx context.Context, repo oci.Repository, d oci.Digest) ([]oci.Descriptor, error) {
	const code = oci.CodeNameUnknown
	q := manifestQuestion(repo, d, code)
	q.what = "referrers " + d.String() // what is remembered of it has another code
	ctx, err := g.enter(ctx, q)
	if err != nil {
		return nil, err
	}
	list, err := g.o.Reader.Referrers(ctx, repo, d)
	return list, g.leave(ctx, repo, code, err)
}

// A prefetcher is a Reader that wants to know which manifests clients get.
type prefetcher interface {
	Prefetch(repo oci.Repository, m oci.Manifest)
}

// Prefetch tells the Reader that a client gets a manifest, if it wants to know
// and the registry is not asked as the client: nothing is asked as one who has
// gone.
func (g *Gate) Prefetch(repo oci.Repository, m oci.Manifest) {
	if p, ok := g.o.Reader.(prefetcher); ok && g.o.Level(repo) != Own {
		p.Prefetch(repo, m)
	}
}
