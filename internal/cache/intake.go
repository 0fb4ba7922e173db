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

// What an operator brings is kept by the rules of what a repository's own registry
// delivers, with one difference: all bytes have been proven here, so that nobody's
// word is needed, not even of a registry that may say anything ([Options.Vouches]).
// Unlike what comes with a pull, what cannot be kept is an error.

// Holds tells whether the bytes of a digest are here and may be served under the name
// of a repository as soon as a manifest of it names them. It counts as using them: what
// somebody is told of need not come once more.
func (c *Cache) Holds(ctx context.Context, repo oci.Repository, d oci.Digest) (bool, error) {
	ok, err := c.suffices(ctx, repo, d)
	if err != nil || !ok {
		return false, wrapped(repo, d, err)
	}
	here, err := c.stored(ctx, d)
	if t, ok := c.o.Store.(store.Toucher); ok && here {
		t.Touch(d)
	}
	return here, wrapped(repo, d, err)
}

// stored tells whether the bytes are here, without using them where the store can.
func (c *Cache) stored(ctx context.Context, d oci.Digest) (bool, error) {
	var err error
	if l, ok := c.o.Store.(store.Lister); ok {
		_, err = l.Lookup(ctx, d)
	} else {
		var b store.Blob
		if b, err = c.o.Store.Open(ctx, d); err == nil {
			err = b.Close()
		}
	}
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// LocalManifest returns a manifest that is stored and that the repository serves without
// asking anybody; MANIFEST_UNKNOWN when there is none.
func (c *Cache) LocalManifest(ctx context.Context, repo oci.Repository, d oci.Digest) (oci.Manifest, error) {
	m, err := c.local(ctx, repo, d)
	if err == nil { // it may have come from memory
		var here bool
		if here, err = c.stored(ctx, d); err == nil && !here {
			err = store.ErrNotFound
		}
	}
	switch {
	case err == nil:
		return m, nil
	case errors.Is(err, store.ErrNotFound):
		return oci.Manifest{}, oci.ErrManifestUnknown
	default:
		return oci.Manifest{}, err
	}
}

// LocalTag tells where a tag pointed when that was last confirmed; MANIFEST_UNKNOWN
// when it is not known. Nobody is asked.
func (c *Cache) LocalTag(ctx context.Context, repo oci.Repository, tag oci.Tag) (oci.Descriptor, error) {
	e, err := c.o.Refs.Tag(ctx, repo, tag)
	if errors.Is(err, refs.ErrNotFound) {
		return oci.Descriptor{}, oci.ErrManifestUnknown
	}
	if err != nil {
		return oci.Descriptor{}, fmt.Errorf("cache %s:%s: %w", repo, tag, err)
	}
	return e.Manifest, nil
}

// Expect is called before the first byte of a blob is stored that is brought for a
// repository, and that is not here: see conceal. The caller ingests it, so that nobody else
// stores it meanwhile. It tells whether everybody may have what is here of it in part, or
// the repository has had all of it before.
func (c *Cache) Expect(ctx context.Context, repo oci.Repository, d oci.Digest) (free bool, err error) {
	free, err = c.suffices(ctx, repo, d)
	if err == nil {
		err = c.conceal(ctx, repo, d)
	}
	return free && err == nil, wrapped(repo, d, err)
}

// Accept links a blob whose bytes were brought for a repository, have been proven and
// are stored.
func (c *Cache) Accept(ctx context.Context, repo oci.Repository, d oci.Descriptor) error {
	if err := c.held(ctx, repo, oci.Descriptor{Digest: d.Digest, Size: d.Size}); err != nil {
		return wrapped(repo, d.Digest, err)
	}
	c.missing.named(repo, []oci.Descriptor{d})
	return nil
}

// AcceptManifest stores and links a manifest that was brought for a repository and has
// been proven, and then points the tags at it, as if its registry had just said so. All
// of it is durable when it returns; the tags not before what they lead to.
//
// The lists of the repository that are known get the tags, and what the manifest is
// attached to gets it as a referrer. Where none is known, it makes one that is asked
// for again as soon as there is somebody to ask.
func (c *Cache) AcceptManifest(ctx context.Context, repo oci.Repository, m oci.Manifest, tags []oci.Tag) error {
	d := m.Descriptor.Digest
	g, err := m.Graph()
	if err != nil {
		return err
	}
	if err := c.storeManifest(ctx, repo, m); err != nil {
		return wrapped(repo, d, err)
	}
	if here, err := c.stored(ctx, d); err != nil || !here { // somebody else was at it
		return wrapped(repo, d, errors.Join(store.ErrBusy, err))
	}
	if err := c.linkManifest(ctx, repo, m, g); err != nil {
		return wrapped(repo, d, err)
	}
	if err := c.addReferrer(ctx, repo, m, g); err != nil {
		return err
	}
	if err := c.o.Refs.Flush(ctx); err != nil || len(tags) == 0 {
		return wrapped(repo, d, err)
	}
	for _, tag := range tags {
		if err := c.setTag(ctx, repo, tag, m.Descriptor); err != nil {
			return wrapped(repo, d, err)
		}
		c.missing.forget(question{repo, askTag, tag.String()})
	}
	if err := c.addTags(ctx, repo, tags); err != nil {
		return err
	}
	return wrapped(repo, d, c.o.Refs.Flush(ctx))
}

// addReferrer adds a manifest to what refers to its subject, if it has one.
func (c *Cache) addReferrer(ctx context.Context, repo oci.Repository, m oci.Manifest, g oci.Graph) error {
	if g.Subject.Digest.IsZero() {
		return nil
	}
	d := oci.Descriptor{
		MediaType: m.Descriptor.MediaType, Digest: m.Descriptor.Digest, Size: m.Descriptor.Size,
		ArtifactType: g.ArtifactType, Annotations: g.Annotations,
	}
	same := func(other oci.Descriptor) bool { return other.Digest == d.Digest }
	return addToList(ctx, c, question{repo, askReferrers, g.Subject.Digest.String()}, "referrers "+g.Subject.Digest.String(),
		func(list []oci.Descriptor) []oci.Descriptor {
			if slices.ContainsFunc(list, same) {
				return list
			}
			return append(list, d)
		})
}

// addTags adds tags to those of a repository.
func (c *Cache) addTags(ctx context.Context, repo oci.Repository, tags []oci.Tag) error {
	return addToList(ctx, c, question{repo, askTags, ""}, "tags", func(list []string) []string {
		for _, t := range tags {
			list = append(list, t.String())
		}
		slices.Sort(list)
		return slices.Compact(list)
	})
}

// addToList changes the last answer to a question. It stays as old as it was; one that is
// new is just old enough to be asked for.
func addToList[T any](ctx context.Context, c *Cache, q question, key string, add func([]T) []T) error {
	c.listing.Lock()
	defer c.listing.Unlock()
	k, err := storedList[T](ctx, c, q.repo, key)
	if err != nil {
		return err
	}
	if !k.ok {
		k.checked = time.Now().Add(-c.o.Policy(q.repo).FreshFor)
	}
	if err := c.storeListOf(ctx, q.repo, key, add(k.value), k.checked); err != nil {
		return fmt.Errorf("cache %s %s: %w", q.repo, key, err)
	}
	c.missing.forget(q)
	return nil
}

// wrapped says what a failure was about.
func wrapped(repo oci.Repository, d oci.Digest, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("cache %s@%s: %w", repo, d, err)
}
