package local

import (
	"context"
	"slices"
	"strings"

	"sampan/internal/oci"
	"sampan/internal/upstream"
)

// use asks one endpoint, with what is open of it.
func use[T any](ctx context.Context, e *endpoint, look bool, f func(*generation) (T, error)) (T, error) {
	var zero T
	g, err := e.acquire(ctx, look)
	if err != nil {
		return zero, e.heard(ctx, err, false)
	}
	defer e.release(g)
	v, err := f(g)
	return v, e.heard(ctx, err, true)
}

// heard takes note of what became of a question. An endpoint that lacks something has
// answered.
func (e *endpoint) heard(ctx context.Context, err error, open bool) error {
	switch {
	case err == nil, oci.IsUnknown(err), oci.CodeOf(err) == oci.CodeRangeInvalid:
		e.meter.Answered()
	case ctx.Err() != nil: // nobody waits for it
	default:
		if open {
			e.broken(err)
		}
		e.meter.Failed(open)
	}
	return err
}

// ask asks the endpoints, and then the registry.
func ask[T any](ctx context.Context, u *Upstream, repo oci.Repository, look bool, f func(*generation) (T, error), next func(*upstream.Registry) (T, error)) (T, error) {
	var zero T
	o := outcome{upstream: u, repo: repo}
	for _, e := range u.endpoints {
		if e.blobsOnly || own(ctx) {
			continue
		}
		v, err := use(ctx, e, look, f)
		if err == nil {
			return v, nil
		}
		if ctx.Err() != nil {
			return zero, ctx.Err()
		}
		o.add(e, err)
	}
	if u.next == nil {
		return zero, o.end()
	}
	v, err := next(u.next)
	return v, o.after(err)
}

// An outcome is what those came to who were asked and did not have it.
type outcome struct {
	upstream *Upstream
	repo     oci.Repository
	unknown  error // of one that lacks it
	failed   error // of one that gave no answer
	had      bool  // one that gave no answer had images of the repository before
}

func (o *outcome) add(e *endpoint, err error) {
	if !oci.IsUnknown(err) {
		o.failed = o.upstream.noAnswer(e, err)
		o.had = o.had || !e.blobsOnly && e.names(o.repo)
		return
	}
	if o.unknown == nil || oci.CodeOf(o.unknown) == oci.CodeNameUnknown {
		o.unknown = err
	}
}

// end is the error where nobody else is asked.
func (o *outcome) end() error {
	switch {
	case o.failed != nil:
		return o.failed
	case o.unknown != nil:
		return o.unknown
	default:
		return oci.Errorf(oci.CodeDenied, "%s is served from archives here, which know no accounts", o.upstream.registry)
	}
}

// after is the error where the registry was asked. That it refuses says nothing about
// what an endpoint had that cannot be read now.
func (o *outcome) after(err error) error {
	if o.failed != nil && o.had && oci.IsAnswer(err) {
		return o.failed
	}
	return err
}

// ResolveTag implements [oci.Reader]. A tag whose manifest an endpoint does not have is
// none there.
func (u *Upstream) ResolveTag(ctx context.Context, repo oci.Repository, tag oci.Tag) (oci.Descriptor, error) {
	return ask(ctx, u, repo, true,
		func(g *generation) (oci.Descriptor, error) {
			m, err := tagged(ctx, g, repo, tag)
			return m.Descriptor, err
		},
		func(r *upstream.Registry) (oci.Descriptor, error) { return r.ResolveTag(ctx, repo, tag) })
}

// TaggedManifest implements [oci.TagGetter].
func (u *Upstream) TaggedManifest(ctx context.Context, repo oci.Repository, tag oci.Tag) (oci.Manifest, error) {
	return ask(ctx, u, repo, true,
		func(g *generation) (oci.Manifest, error) { return tagged(ctx, g, repo, tag) },
		func(r *upstream.Registry) (oci.Manifest, error) { return r.TaggedManifest(ctx, repo, tag) })
}

func tagged(ctx context.Context, g *generation, repo oci.Repository, tag oci.Tag) (oci.Manifest, error) {
	d, err := g.ResolveTag(ctx, repo, tag)
	if err != nil {
		return oci.Manifest{}, err
	}
	return manifest(ctx, g, repo, d.Digest)
}

// manifest is one of an endpoint. What is no manifest, by what names it, is no answer.
func manifest(ctx context.Context, g *generation, repo oci.Repository, digest oci.Digest) (oci.Manifest, error) {
	m, err := g.Manifest(ctx, repo, digest)
	if err == nil && !oci.IsManifestType(m.Descriptor.MediaType) {
		err = oci.Errorf(oci.CodeManifestInvalid, "the manifest %s has the media type %.100q", digest, m.Descriptor.MediaType)
	}
	return m, err
}

// Manifest implements [oci.Reader].
func (u *Upstream) Manifest(ctx context.Context, repo oci.Repository, digest oci.Digest) (oci.Manifest, error) {
	return ask(ctx, u, repo, false,
		func(g *generation) (oci.Manifest, error) { return manifest(ctx, g, repo, digest) },
		func(r *upstream.Registry) (oci.Manifest, error) { return r.Manifest(ctx, repo, digest) })
}

// StatManifest implements [oci.ManifestStater].
func (u *Upstream) StatManifest(ctx context.Context, repo oci.Repository, digest oci.Digest) (oci.Descriptor, error) {
	return ask(ctx, u, repo, false,
		func(g *generation) (oci.Descriptor, error) { return g.StatManifest(ctx, repo, digest) },
		func(r *upstream.Registry) (oci.Descriptor, error) { return r.StatManifest(ctx, repo, digest) })
}

// StatBlob implements [oci.BlobStater].
func (u *Upstream) StatBlob(ctx context.Context, repo oci.Repository, digest oci.Digest) (oci.Descriptor, error) {
	return ask(ctx, u, repo, false,
		func(g *generation) (oci.Descriptor, error) { return g.StatBlob(ctx, repo, digest) },
		func(r *upstream.Registry) (oci.Descriptor, error) { return r.StatBlob(ctx, repo, digest) })
}

// Tags implements [oci.Reader].
func (u *Upstream) Tags(ctx context.Context, repo oci.Repository) ([]oci.Tag, error) {
	tags, err := together(ctx, u, repo,
		func(g *generation) ([]oci.Tag, error) { return g.Tags(ctx, repo) },
		func(r *upstream.Registry) ([]oci.Tag, error) { return r.Tags(ctx, repo) })
	slices.SortFunc(tags, func(a, b oci.Tag) int { return strings.Compare(a.String(), b.String()) })
	return slices.Compact(tags), err
}

// Referrers implements [oci.Reader].
func (u *Upstream) Referrers(ctx context.Context, repo oci.Repository, digest oci.Digest) ([]oci.Descriptor, error) {
	list, err := together(ctx, u, repo,
		func(g *generation) ([]oci.Descriptor, error) { return g.Referrers(ctx, repo, digest) },
		func(r *upstream.Registry) ([]oci.Descriptor, error) { return r.Referrers(ctx, repo, digest) })
	seen := make(map[oci.Digest]bool)
	return slices.DeleteFunc(list, func(d oci.Descriptor) bool {
		again := seen[d.Digest]
		seen[d.Digest] = true
		return again
	}), err
}

// together joins the lists of all who have one.
func together[T any](ctx context.Context, u *Upstream, repo oci.Repository, f func(*generation) ([]T, error), next func(*upstream.Registry) ([]T, error)) ([]T, error) {
	all, found := []T{}, false
	o := outcome{upstream: u, repo: repo}
	for _, e := range u.endpoints {
		if e.blobsOnly || own(ctx) {
			continue
		}
		list, err := use(ctx, e, true, f)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			o.add(e, err)
			continue
		}
		all, found = append(all, list...), true
	}
	if o.failed != nil && (o.had || u.next == nil) {
		return nil, o.failed
	}
	var err error
	if u.next != nil {
		var list []T
		if list, err = next(u.next); err == nil {
			return append(all, list...), nil
		}
	}
	if found && (err == nil || oci.IsAnswer(err)) {
		return all, nil
	}
	if err == nil {
		err = o.end()
	}
	return nil, err
}
