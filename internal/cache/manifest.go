package cache

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"sampan/internal/oci"
	"sampan/internal/refs"
	"sampan/internal/store"
)

// ResolveTag implements [oci.Reader].
func (c *Cache) ResolveTag(ctx context.Context, repo oci.Repository, tag oci.Tag) (_ oci.Descriptor, err error) {
	ctx, span := oci.StartSpan(ctx, "cache tag")
	defer func() { span.End(err) }()
	p := c.o.Policy(repo)
	look := func(ctx context.Context) (known[oci.Descriptor], error) { return c.known(ctx, repo, tag, p) }
	c.inUse(repo, tag, p)
	return recall(ctx, c, question{repo, askTag, tag.String()}, look,
		func(ctx context.Context, k known[oci.Descriptor]) (answer[oci.Descriptor], error) {
			if !k.ok {
				return c.learn(ctx, repo, tag)
			}
			if p.immutable(tag) {
				// Its manifest has been evicted, and is asked for by what it is.
				m, err := c.Manifest(ctx, repo, k.value.Digest)
				if !oci.IsUnknown(err) {
					return answer[oci.Descriptor]{m.Descriptor, oci.ResultMiss}, err
				}
			}
			return c.revalidate(ctx, repo, tag, k.value)
		})
}

// known is what the index says of a tag. It can be served when its manifest is
// here.
func (c *Cache) known(ctx context.Context, repo oci.Repository, tag oci.Tag, p Freshness) (known[oci.Descriptor], error) {
	e, err := c.o.Refs.Tag(ctx, repo, tag)
	if errors.Is(err, refs.ErrNotFound) {
		return known[oci.Descriptor]{}, nil
	}
	if err != nil {
		return known[oci.Descriptor]{}, fmt.Errorf("cache %s:%s: %w", repo, tag, err)
	}
	here := func(ctx context.Context) bool {
		_, err := c.local(ctx, repo, e.Manifest.Digest)
		return err == nil
	}
	return known[oci.Descriptor]{
		value: e.Manifest, checked: e.Checked, ok: true,
		fresh: p.fresh(e.Checked) || p.immutable(tag) && here(ctx), here: here,
	}, nil
}

// learn fetches the manifest of a tag nobody has asked for yet.
func (c *Cache) learn(ctx context.Context, repo oci.Repository, tag oci.Tag) (answer[oci.Descriptor], error) {
	var a answer[oci.Descriptor]
	up, err := c.upstream(repo)
	if err != nil {
		return a, err
	}
	m, err := taggedManifest(ctx, up, repo, tag)
	if c.heard(ctx, repo, err) != nil {
		return a, err
	}
	c.keep(ctx, repo, m)
	return answer[oci.Descriptor]{m.Descriptor, oci.ResultMiss}, c.setTag(ctx, repo, tag, m.Descriptor)
}

func taggedManifest(ctx context.Context, up oci.Reader, repo oci.Repository, tag oci.Tag) (oci.Manifest, error) {
	if g, ok := up.(oci.TagGetter); ok {
		return g.TaggedManifest(ctx, repo, tag)
	}
	desc, err := up.ResolveTag(ctx, repo, tag)
	if err != nil {
		return oci.Manifest{}, err
	}
	return up.Manifest(ctx, repo, desc.Digest)
}

// revalidate asks whether a tag still points where it did. One that the upstream
// does not know is forgotten; its digest is not.
func (c *Cache) revalidate(ctx context.Context, repo oci.Repository, tag oci.Tag, old oci.Descriptor) (answer[oci.Descriptor], error) {
	var a answer[oci.Descriptor]
	up, err := c.upstream(repo)
	if err != nil {
		return a, err
	}
	now, err := up.ResolveTag(ctx, repo, tag)
	switch {
	case c.heard(ctx, repo, err) == nil:
	case oci.IsUnknown(err):
		c.metrics.revalidation(repo, tagGone)
		return a, errors.Join(err, c.o.Refs.DeleteTag(ctx, repo, tag))
	case oci.IsAnswer(err):
		c.metrics.revalidation(repo, tagRefused)
		return a, err
	default:
		c.metrics.revalidation(repo, tagError)
		return a, err
	}
	if now.Digest == old.Digest {
		c.metrics.revalidation(repo, tagUnchanged)
		return answer[oci.Descriptor]{old, oci.ResultHit}, c.setTag(ctx, repo, tag, old)
	}
	moved, err := c.moved(ctx, repo, now)
	if err != nil {
		c.metrics.revalidation(repo, tagError)
		return a, err
	}
	c.metrics.revalidation(repo, tagMoved)
	return answer[oci.Descriptor]{moved, oci.ResultMiss}, c.setTag(ctx, repo, tag, moved)
}

// moved has the manifest here to which a tag has moved, before the tag does. The
// upstream has just named it: that it does not have it is no answer about the
// tag.
func (c *Cache) moved(ctx context.Context, repo oci.Repository, to oci.Descriptor) (oci.Descriptor, error) {
	c.missing.named(repo, []oci.Descriptor{to})
	m, err := c.Manifest(ctx, repo, to.Digest)
	if oci.IsUnknown(err) {
		err = &oci.Error{Code: oci.CodeUnavailable, Message: "the upstream names a manifest for this tag that it does not have", Err: err}
	}
	return m.Descriptor, err
}

func (c *Cache) setTag(ctx context.Context, repo oci.Repository, tag oci.Tag, desc oci.Descriptor) error {
	return c.o.Refs.PutTag(ctx, repo, tag, refs.TagEntry{Manifest: desc, Checked: time.Now()})
}

// Manifest implements [oci.Reader].
func (c *Cache) Manifest(ctx context.Context, repo oci.Repository, d oci.Digest) (m oci.Manifest, err error) {
	ctx, span := oci.StartSpan(ctx, "cache manifest")
	defer func() { span.End(err) }()
	m, err = c.local(ctx, repo, d)
	if err == nil {
		oci.TraceFrom(ctx).Note(oci.ResultHit)
		return m, nil
	}
	if !errors.Is(err, store.ErrNotFound) {
		return oci.Manifest{}, err
	}
	q := question{repo, askManifest, d.String()}
	if err := c.admit(ctx, q); err != nil {
		return oci.Manifest{}, err
	}
	return ask(ctx, c, q, 0, func(ctx context.Context) (answer[oci.Manifest], error) {
		if m, err := c.local(ctx, repo, d); err == nil {
			return answer[oci.Manifest]{m, oci.ResultHit}, nil
		}
		up, err := c.upstream(repo)
		if err != nil {
			return answer[oci.Manifest]{}, err
		}
		m, err := up.Manifest(ctx, repo, d)
		if c.heard(ctx, repo, err) != nil {
			return answer[oci.Manifest]{}, err
		}
		c.keep(ctx, repo, m)
		return answer[oci.Manifest]{m, oci.ResultMiss}, nil
	})
}

// local returns a manifest that is here and that the repository is linked to as
// one; else it fails with store.ErrNotFound.
func (c *Cache) local(ctx context.Context, repo oci.Repository, d oci.Digest) (oci.Manifest, error) {
	link, ok, err := c.linked(ctx, repo, d)
	if err != nil {
		return oci.Manifest{}, err
	}
	if !ok || !oci.IsManifestType(link.MediaType) {
		return oci.Manifest{}, store.ErrNotFound
	}
	b, err := c.bytes(ctx, d)
	if err != nil {
		return oci.Manifest{}, err
	}
	if ok, err := c.suffices(ctx, repo, d); !ok || err != nil { // once more: the mark is there before the bytes
		return oci.Manifest{}, errors.Join(store.ErrNotFound, err)
	}
	desc := oci.Descriptor{MediaType: link.MediaType, Digest: d, Size: int64(len(b))}
	return oci.Manifest{Descriptor: desc, Bytes: b}, nil
}

// bytes returns the proven bytes of a manifest that is here. What has rotted on
// the disk is removed and not found; what cannot be read is left and not found.
func (c *Cache) bytes(ctx context.Context, d oci.Digest) ([]byte, error) {
	if b, ok := c.memo.get(d); ok {
		if t, ok := c.o.Store.(store.Toucher); ok {
			t.Touch(d) // or what is pulled most often would leave first
		}
		return b, nil
	}
	b, err := store.ReadAll(ctx, c.o.Store, d, oci.MaxManifestSize)
	if err != nil && !errors.Is(err, store.ErrNotFound) && ctx.Err() == nil {
		c.o.Log.ErrorContext(ctx, "stored manifest cannot be read, asking for it", "digest", d, "err", err)
		err = errors.Join(store.ErrNotFound, err)
	}
	if err != nil {
		return nil, err
	}
	if !d.Verify(b) {
		c.o.Log.Error("stored manifest does not match its digest, removing it", "digest", d)
		return nil, errors.Join(store.ErrNotFound, c.o.Store.Delete(ctx, d))
	}
	c.memo.put(d, b)
	return b, nil
}

// keep stores a proven manifest and links what it names to its repository. A
// medium that refuses is reported and does not keep the client from it.
func (c *Cache) keep(ctx context.Context, repo oci.Repository, m oci.Manifest) {
	d := m.Descriptor.Digest
	if err := c.storeManifest(ctx, repo, m); err != nil {
		c.o.Log.Error("manifest not stored", "repository", repo, "digest", d, "err", err)
	}
	g, err := m.Graph()
	if err != nil {
		c.o.Log.Warn("manifest passed on without being understood", "repository", repo, "digest", d, "err", err)
	}
	if err := c.linkManifest(ctx, repo, m, g); err != nil {
		c.o.Log.Error("links not kept", "repository", repo, "digest", d, "err", err)
	}
}

// storeManifest stores a proven manifest that came for a repository.
func (c *Cache) storeManifest(ctx context.Context, repo oci.Repository, m oci.Manifest) error {
	if err := c.received(ctx, repo, m.Descriptor); err != nil {
		return err
	}
	c.memo.put(m.Descriptor.Digest, m.Bytes)
	return store.Put(store.WithOwner(ctx, repo.Registry().String()), c.o.Store, m.Descriptor.Digest, m.Bytes)
}

// linkManifest links a manifest that its repository has, and what it names.
func (c *Cache) linkManifest(ctx context.Context, repo oci.Repository, m oci.Manifest, g oci.Graph) error {
	links := slices.Concat(g.Manifests, g.Blobs)
	err := errors.Join(c.o.Refs.PutHeld(ctx, repo, m.Descriptor), c.o.Refs.PutLinks(ctx, repo, links...))
	c.missing.named(repo, append(links, m.Descriptor))
	return err
}
