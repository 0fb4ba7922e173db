package cache

import (
	"context"
	"encoding/hex"
	"errors"

	"sampan/internal/oci"
)

// A link is not possession. A manifest may name any digest, so that a link says
// no more than that: enough for bytes that everybody may have anyway, and what
// lets repositories share their layers without a question. A digest whose bytes
// came from a repository that not everybody may read is marked private before
// they arrive, and served only by repositories that hold it: whose own upstream
// has delivered or confirmed it. When that is a repository for everybody, the
// mark is taken off again.

// suffices tells whether a link lets a repository serve a digest. What came from a
// repository when that was private is not everybody's because it no longer is:
// its registry is asked once more.
func (c *Cache) suffices(ctx context.Context, repo oci.Repository, d oci.Digest) (bool, error) {
	private, err := c.o.Refs.Private(ctx, d)
	if err != nil || !private {
		return err == nil, err
	}
	if !c.isPrivate(repo) {
		return false, nil
	}
	return c.o.Refs.Held(ctx, repo, d)
}

func (c *Cache) isPrivate(repo oci.Repository) bool { return c.o.Private != nil && c.o.Private(repo) }

func (c *Cache) vouches(repo oci.Repository) bool {
	return c.o.Vouches == nil || c.o.Vouches(repo.Registry())
}

// conceal marks a digest private before its bytes come from a private repository.
// The mark outlives what it guards: it is durable before the first byte is.
func (c *Cache) conceal(ctx context.Context, repo oci.Repository, d oci.Digest) error {
	if !c.isPrivate(repo) {
		return nil
	}
	if err := c.o.Refs.SetPrivate(ctx, true, d); err != nil {
		return err
	}
	return c.o.Refs.Flush(ctx)
}

// received notes where the proven bytes of a manifest came from, before they are
// kept: when it fails they must not be. What was here before, and is everybody's,
// stays so.
func (c *Cache) received(ctx context.Context, repo oci.Repository, m oci.Descriptor) error {
	if !c.isPrivate(repo) {
		return c.reveal(ctx, m.Digest)
	}
	if _, absent := c.bytes(ctx, m.Digest); absent != nil {
		return c.conceal(ctx, repo, m.Digest)
	}
	return nil
}

// reveal takes the mark off a digest that a repository for everybody has.
func (c *Cache) reveal(ctx context.Context, d oci.Digest) error {
	private, err := c.o.Refs.Private(ctx, d)
	if err != nil || !private {
		return err
	}
	return c.o.Refs.SetPrivate(ctx, false, d)
}

// confirmed links a blob that the repository's own upstream says it has.
func (c *Cache) confirmed(ctx context.Context, repo oci.Repository, link oci.Descriptor) error {
	if !c.vouches(repo) {
		return c.o.Refs.PutLinks(ctx, repo, link)
	}
	return c.held(ctx, repo, link)
}

// held links a blob that a repository has for certain.
func (c *Cache) held(ctx context.Context, repo oci.Repository, link oci.Descriptor) error {
	err := c.o.Refs.PutHeld(ctx, repo, link)
	if err == nil && !c.isPrivate(repo) {
		err = c.reveal(ctx, link.Digest)
	}
	return err
}

// earned sees to it that a repository may serve what a fetch brings: because its
// own upstream has sent some of it, because a link suffices, also now that others
// may have joined the fetch, or because its upstream is asked.
func (c *Cache) earned(ctx context.Context, repo oci.Repository, d oci.Descriptor, p *parts) error {
	if p.delivered.Load() {
		return c.confirmed(ctx, repo, oci.Descriptor{Digest: d.Digest, Size: d.Size})
	}
	_, ok, err := c.linked(ctx, repo, d.Digest)
	if err == nil && !ok {
		_, err = c.confirm(ctx, repo, d.Digest)
	}
	return err
}

// ownOnly tells whether a repository may serve a digest only with the bytes of
// its own upstream: of one whose word does not count.
func (c *Cache) ownOnly(ctx context.Context, repo oci.Repository, d oci.Digest) (bool, error) {
	if c.vouches(repo) {
		return false, nil
	}
	ok, err := c.suffices(ctx, repo, d)
	return !ok, err
}

// through reads a blob from the repository's own upstream and shares nothing.
func (c *Cache) through(ctx context.Context, repo oci.Repository, d oci.Digest, err error) (oci.BlobReader, error) {
	if err != nil {
		return nil, err
	}
	up, err := c.upstream(repo)
	if err != nil {
		return nil, err
	}
	oci.TraceFrom(ctx).Note(oci.ResultMiss)
	return c.o.Fills.Through(ctx, d, source(repo, c.partsOf(ctx, up, repo, d, -1)))
}

// watched is a reader of a running fetch. Under the name of a registry whose word
// does not count, it fails as soon as bytes may be in it that are private.
func (c *Cache) watched(ctx context.Context, repo oci.Repository, r oci.BlobReader) oci.BlobReader {
	if c.vouches(repo) {
		return r
	}
	return &watchedReader{r, ctx, c, repo}
}

type watchedReader struct {
	oci.BlobReader
	ctx  context.Context // of the request that reads
	c    *Cache
	repo oci.Repository
}

// Read implements [io.Reader]. The mark is there before the bytes that it is
// about: looking afterwards is enough.
func (w *watchedReader) Read(p []byte) (int, error) {
	n, err := w.BlobReader.Read(p)
	own, failed := w.c.ownOnly(w.ctx, w.repo, w.Descriptor().Digest)
	if own || failed != nil {
		clear(p[:n])
		return 0, errors.Join(oci.Errorf(oci.CodeUnavailable, "the blob has to be fetched anew"), failed)
	}
	return n, err
}

// asWhom tells questions apart that are asked as different clients.
func (c *Cache) asWhom(ctx context.Context) string {
	l, own := oci.LoginFrom(ctx)
	if !own {
		return ""
	}
	sum := l.Sum(c.key[:])
	return " as " + hex.EncodeToString(sum[:])
}

// refused returns the refusal that is remembered of a question, or nil. What is
// refused to one client says nothing about another.
func (c *Cache) refused(ctx context.Context, q question) *oci.Error {
	if _, own := oci.LoginFrom(ctx); own {
		return nil
	}
	return c.missing.of(q)
}
