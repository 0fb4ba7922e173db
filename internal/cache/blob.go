package cache

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"sampan/internal/fill"
	"sampan/internal/oci"
	"sampan/internal/store"
)

// Blob implements [oci.Reader]. A blob that is here is a [fill.StoredReader].
func (c *Cache) Blob(ctx context.Context, repo oci.Repository, d oci.Digest) (oci.BlobReader, error) {
	return c.BlobFrom(ctx, repo, d, 0)
}

// BlobFrom implements [oci.BlobSeeker]. A hint that counts from the end needs a
// size that is known from a manifest.
func (c *Cache) BlobFrom(ctx context.Context, repo oci.Repository, d oci.Digest, from int64) (_ oci.BlobReader, err error) {
	ctx, span := oci.StartSpan(ctx, "cache blob")
	defer func() { span.End(err) }()
	link, ok, err := c.linked(ctx, repo, d)
	if err != nil {
		return nil, err
	}
	b, err := c.o.Store.Open(ctx, d)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return c.fetch(ctx, repo, d, link, ok, from)
	case err != nil && ctx.Err() == nil:
		// It is left: what keeps it from being opened may pass.
		c.o.Log.ErrorContext(ctx, "stored blob cannot be opened, reading past it", "repository", repo, "digest", d, "err", err)
		return c.alone(ctx, repo, link, d)
	case err != nil:
		return nil, fmt.Errorf("cache %s@%s: %w", repo, d, err)
	case ok: // once more: the mark is there before the bytes
		ok, err = c.suffices(ctx, repo, d)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("cache %s@%s: %w", repo, d, err), b.Close())
		}
	}
	if !ok {
		if own, err := c.ownOnly(ctx, repo, d); own || err != nil {
			if err := errors.Join(err, b.Close()); err != nil {
				return nil, err
			}
			return c.fetch(ctx, repo, d, link, false, from)
		}
		if link, err = c.confirm(ctx, repo, d); err != nil {
			return nil, errors.Join(err, b.Close())
		}
	}
	oci.TraceFrom(ctx).Note(oci.ResultHit)
	return fill.Stored(b, oci.Descriptor{MediaType: link.MediaType, Digest: d, Size: b.Size()}), nil
}

// fetch reads the blob from a fetch that runs or that it starts. A repository
// that is not linked to the digest, or whose link does not suffice, is allowed to
// when its own upstream has delivered it, from where the repository is known, or
// confirms it. Where the upstream tells no size, that of the link is the size:
// readers need not wait for the end, and there is one.
func (c *Cache) fetch(ctx context.Context, repo oci.Repository, d oci.Digest, link oci.Descriptor, linked bool, from int64) (oci.BlobReader, error) {
	up, err := c.upstream(repo)
	if err != nil {
		return nil, err
	}
	size := int64(-1)
	if linked && link.Size > 0 {
		size = link.Size
	}
	return c.admitted(ctx, repo, d, size, func() (oci.BlobReader, error) { return c.arrive(ctx, up, repo, d, size, from) })
}

// admitted has a blob come that is admitted first, unless the upstream is known to refuse
// it and is not asked; what it comes to is told in the end. Size is -1 when it is not
// known before.
func (c *Cache) admitted(ctx context.Context, repo oci.Repository, d oci.Digest, size int64, come func() (oci.BlobReader, error)) (oci.BlobReader, error) {
	cost := oci.Cost{Blob: true, Size: size, Digest: d}
	asked := c.refused(ctx, question{repo, askBlob, d.String()}) == nil
	if asked {
		if err := oci.Admit(ctx, cost); err != nil {
			return nil, err
		}
	}
	r, err := come()
	switch cost.Late = true; {
	case err == nil && asked && size >= 0:
		return r, nil
	case err == nil:
		cost.Size = r.Descriptor().Size
	case ctx.Err() != nil: // who leaves may have it come for others
		return nil, err
	default:
		cost.Size = 0
	}
	_ = oci.Admit(ctx, cost) // it is late: nothing is refused
	return r, err
}

// arrive is fetch for who is admitted. It returns when the size is known.
func (c *Cache) arrive(ctx context.Context, up oci.Reader, repo oci.Repository, d oci.Digest, size, from int64) (oci.BlobReader, error) {
	if own, err := c.ownOnly(ctx, repo, d); own || err != nil {
		return c.through(ctx, repo, d, err)
	}
	if err := c.conceal(ctx, repo, d); err != nil {
		return nil, err
	}
	parts := c.partsOf(ctx, up, repo, d, size)
	src := source(repo, parts)
	src.From = within(from, size)
	r, err := c.o.Fills.Open(ctx, d, src)
	if err != nil {
		return nil, err
	}
	// Others may have joined meanwhile.
	if own, err := c.ownOnly(ctx, repo, d); own || err != nil {
		return c.through(ctx, repo, d, errors.Join(err, r.Close()))
	}
	if err := c.earned(ctx, repo, r.Descriptor(), parts); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	oci.TraceFrom(ctx).Note(oci.ResultFill)
	return c.watched(ctx, repo, r), nil
}

// alone reads a blob from the repository's own upstream, past the one that is here. The
// link says its size, where there is one.
func (c *Cache) alone(ctx context.Context, repo oci.Repository, link oci.Descriptor, d oci.Digest) (oci.BlobReader, error) {
	size := int64(-1)
	if link.Size > 0 {
		size = link.Size
	}
	return c.admitted(ctx, repo, d, size, func() (oci.BlobReader, error) { return c.through(ctx, repo, d, nil) })
}

// within is where a reader begins who counts from the end when from is negative;
// 0 when that is no place in a blob of the size. While the size is not known (-1),
// the upstream will say what is no place.
func within(from, size int64) int64 {
	switch {
	case from < 0 && size >= 0:
		from += size
	case from >= size && size >= 0:
		return 0
	}
	return max(from, 0)
}

func source(repo oci.Repository, p *parts) fill.Source {
	return fill.Source{Upstream: repo.Registry().String(), Repository: repo.String(), Parts: p}
}

// parts are those of an upstream, with what the cache knows and wants to know.
type parts struct {
	oci.BlobParts
	cache     *Cache
	question  question
	size      int64       // of the blob where the upstream does not tell; -1 for unknown
	delivered atomic.Bool // the upstream has answered with the blob, and it is the repository's

	login oci.Login // as whom the upstream is asked, when own
	own   bool
}

func (c *Cache) partsOf(ctx context.Context, up oci.Reader, repo oci.Repository, d oci.Digest, size int64) *parts {
	p := &parts{BlobParts: oci.PartsOf(up, repo, d), cache: c, question: question{repo, askBlob, d.String()}, size: size}
	p.login, p.own = oci.LoginFrom(ctx)
	return p
}

// Part implements [oci.BlobParts]. A refusal that is remembered is given again:
// the fetch may still be joined by who may have the blob.
func (p *parts) Part(ctx context.Context, from, to int64) (oci.BlobPart, error) {
	if p.own { // the context is that of the fetch, which is nobody's
		ctx = oci.WithLogin(ctx, p.login)
	}
	if err := p.cache.refused(ctx, p.question); err != nil {
		p.cache.metrics.refused(p.question.repo)
		return oci.BlobPart{}, err
	}
	part, err := p.BlobParts.Part(ctx, from, to)
	if err != nil {
		if !p.own {
			p.cache.missing.remember(p.question, err, p.cache.o.Policy(p.question.repo).MissingFor)
		}
		return part, err
	}
	if part.Vouched {
		p.delivered.Store(true)
	}
	if part.Size < 0 {
		part.Size = p.size
	}
	return part, nil
}

// Avoid implements [oci.BlobAvoider].
func (p *parts) Avoid(endpoint string) {
	if a, ok := p.BlobParts.(oci.BlobAvoider); ok {
		a.Avoid(endpoint)
	}
}

// StatBlob implements [oci.BlobStater]. It starts no fetch.
func (c *Cache) StatBlob(ctx context.Context, repo oci.Repository, d oci.Digest) (oci.Descriptor, error) {
	link, ok, err := c.linked(ctx, repo, d)
	if err != nil {
		return oci.Descriptor{}, err
	}
	if !ok {
		return c.confirm(ctx, repo, d)
	}
	b, err := c.o.Store.Open(ctx, d)
	if errors.Is(err, store.ErrNotFound) {
		return c.confirm(ctx, repo, d)
	}
	if err != nil {
		return oci.Descriptor{}, fmt.Errorf("cache %s@%s: %w", repo, d, err)
	}
	defer b.Close()
	oci.TraceFrom(ctx).Note(oci.ResultHit)
	return oci.Descriptor{MediaType: link.MediaType, Digest: d, Size: b.Size()}, nil
}

// confirm asks the repository's own upstream whether it holds the blob, and
// links it.
func (c *Cache) confirm(ctx context.Context, repo oci.Repository, d oci.Digest) (oci.Descriptor, error) {
	q := question{repo, askBlob, d.String()}
	if err := c.admit(ctx, q); err != nil {
		return oci.Descriptor{}, err
	}
	return ask(ctx, c, q, 0, func(ctx context.Context) (answer[oci.Descriptor], error) {
		var a answer[oci.Descriptor]
		up, err := c.upstream(repo)
		if err != nil {
			return a, err
		}
		desc, sure, err := c.possession(ctx, up, repo, d)
		if c.heard(ctx, repo, err) != nil {
			return a, err
		}
		link := oci.Descriptor{Digest: d, Size: desc.Size}
		if !sure {
			return answer[oci.Descriptor]{link, oci.ResultMiss}, c.o.Refs.PutLinks(ctx, repo, link)
		}
		return answer[oci.Descriptor]{link, oci.ResultMiss}, c.confirmed(ctx, repo, link)
	})
}

// possession asks whether an upstream holds a blob, and tells whether that is more than a claim.
// Where a claim does not do, it has to be proven.
func (c *Cache) possession(ctx context.Context, up oci.Reader, repo oci.Repository, d oci.Digest) (_ oci.Descriptor, sure bool, err error) {
	prover, claims := up.(oci.BlobProver)
	if !claims {
		desc, err := statBlob(ctx, up, repo, d)
		return desc, true, err
	}
	private := c.isPrivate(repo)
	if !private {
		if private, err = c.o.Refs.Private(ctx, d); err != nil {
			return oci.Descriptor{}, false, err
		}
	}
	if private {
		desc, err := prover.ProveBlob(ctx, repo, d)
		return desc, true, err
	}
	desc, err := prover.StatBlob(ctx, repo, d)
	return desc, false, err
}

func statBlob(ctx context.Context, up oci.Reader, repo oci.Repository, d oci.Digest) (oci.Descriptor, error) {
	if s, ok := up.(oci.BlobStater); ok {
		return s.StatBlob(ctx, repo, d)
	}
	b, err := up.Blob(ctx, repo, d)
	if err != nil {
		return oci.Descriptor{}, err
	}
	return b.Descriptor(), b.Close()
}
