package transfer

import (
	"context"

	"sampan/internal/oci"
)

// cosignSuffixes end the tags under which cosign keeps what it has to say about a
// digest, where there is no referrers API: sha256-<hex>.sig.
func cosignSuffixes() []string { return []string{".sig", ".att", ".sbom"} }

// referrers adds what refers to any manifest of an image, and what refers to that.
func (c *copier) referrers(ctx context.Context, im *image) error {
	queue := im.all()
	for depth := 0; len(queue) > 0; depth++ {
		if depth > maxDepth {
			return nil // a chain that long is nobody's
		}
		var next []*node
		for _, n := range queue {
			found, err := c.referring(ctx, im, n.manifest.Descriptor.Digest)
			if err != nil {
				return err
			}
			next = append(next, found...)
		}
		im.extra = append(im.extra, next...)
		queue = next
	}
	return nil
}

// referring looks at what refers to one digest and was not seen before.
func (c *copier) referring(ctx context.Context, im *image, digest oci.Digest) ([]*node, error) {
	repo := im.job.Source.Repository
	list, err := ask(ctx, c, sourceOf(im.job), func() ([]oci.Descriptor, error) { return im.job.Reader.Referrers(ctx, repo, digest) })
	if err != nil && !oci.IsUnknown(err) {
		return nil, err
	}
	var found []*node
	for _, d := range list {
		if im.seen[d.Digest] != nil {
			continue
		}
		n, err := c.look(ctx, im, oci.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size}, 1)
		if err != nil {
			return nil, err
		}
		if n.here, err = c.listed(ctx, im, n, digest); err != nil {
			return nil, err
		}
		found = append(found, n)
	}
	for _, suffix := range cosignSuffixes() {
		tag, err := oci.ParseTag(digest.Algorithm() + "-" + digest.Hex() + suffix)
		if err != nil {
			continue // sha512 is too long for a tag
		}
		n, err := c.tagged(ctx, im, tag)
		if err != nil {
			return nil, err
		}
		if n != nil {
			found = append(found, n)
		}
	}
	return found, nil
}

// listed tells whether the target has what refers to a digest, and lists it.
func (c *copier) listed(ctx context.Context, im *image, n *node, subject oci.Digest) (bool, error) {
	l, ok := c.w.(ReferrerLister)
	if !ok || !n.here || n.graph.Subject.Digest != subject {
		return n.here, nil
	}
	return ask(ctx, c, targetOf(im.job), func() (bool, error) { return l.Lists(ctx, im.job.Target, subject, n.manifest.Descriptor.Digest) })
}

// tagged looks at what a tag of the source names; nil where there is no such tag, or where
// that was seen before, which is called so too.
func (c *copier) tagged(ctx context.Context, im *image, tag oci.Tag) (*node, error) {
	d, err := ask(ctx, c, sourceOf(im.job), func() (oci.Descriptor, error) {
		return im.job.Reader.ResolveTag(ctx, im.job.Source.Repository, tag)
	})
	if oci.IsUnknown(err) {
		return nil, nil //nolint:nilnil // nothing to copy is no failure
	}
	if err != nil {
		return nil, err
	}
	known := im.seen[d.Digest] != nil
	n, err := c.look(ctx, im, d, 1)
	if err != nil {
		return nil, err
	}
	at, err := c.pointing(ctx, Job{Target: im.job.Target, Tags: []oci.Tag{tag}})
	n.tags = append(n.tags, unlike([]oci.Tag{tag}, at, d.Digest)...)
	if known {
		n = nil
	}
	return n, err
}
