package transfer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"sampan/internal/oci"
)

// maxDepth bounds indexes in indexes, and referrers of referrers.
const maxDepth = 8

// maxManifests bounds the manifests of one job.
const maxManifests = 10_000

// A NoPlatform is the error of an index that has nothing for a platform asked for.
type NoPlatform struct {
	Source   oci.Reference
	Platform Platform
	There    []Platform // what it has
}

// Error implements error.
func (e *NoPlatform) Error() string {
	return fmt.Sprintf("%s has nothing for %s; there is %s", e.Source, e.Platform, e.List())
}

// List are the platforms that there are, for people.
func (e *NoPlatform) List() string {
	return listOf(e.There)
}

func listOf(platforms []Platform) string {
	var list []string
	for _, p := range platforms {
		list = append(list, p.String())
	}
	return strings.Join(list, ", ")
}

// ErrTooMany is the error of an image that has more manifests, or deeper ones, than any
// honest one has.
var ErrTooMany = errors.New("has too many manifests")

// An image is a job on its way.
type image struct {
	job    Job
	result Result
	root   *node
	// extra are referrers, and what cosign's tags name, after what they refer to.
	extra    []*node
	attached bool // extra is not empty
	seen     map[oci.Digest]*node
	lacks    map[oci.Digest]oci.Descriptor // blobs that are needed and not at the source
}

// A node is one manifest of an image.
type node struct {
	manifest oci.Manifest // without bytes where the target has it
	graph    oci.Graph
	here     bool // the target has it
	nowhere  bool // neither the source nor the target has it
	tags     []oci.Tag
	children []*node
}

// plan looks at one job: what the source has, and what of its manifests the target has.
func (c *copier) plan(ctx context.Context, im *image) error {
	im.seen = map[oci.Digest]*node{}
	d, err := c.resolve(ctx, im.job)
	if err != nil {
		return err
	}
	im.result.Descriptor = d
	missing, err := c.tagsToSet(ctx, im.job, d)
	if err != nil {
		return err
	}
	if len(missing) == 0 && len(im.job.Tags) > 0 && !im.job.Referrers && !isIndex(d.MediaType) {
		im.result.Unchanged = true
		return nil
	}
	if im.root, err = c.look(ctx, im, d, 0); err != nil {
		return err
	}
	if im.root, err = c.forPlatforms(ctx, im); err != nil {
		return err
	}
	root := im.root.manifest.Descriptor
	im.result.Descriptor = oci.Descriptor{MediaType: root.MediaType, Digest: root.Digest, Size: root.Size}
	if root.Digest != d.Digest {
		if missing, err = c.tagsToSet(ctx, im.job, root); err != nil {
			return err
		}
	}
	im.root.tags = missing
	if im.job.Referrers {
		if err := c.referrers(ctx, im); err != nil {
			return err
		}
	}
	if err := im.whole(); err != nil {
		return err
	}
	im.attached = len(im.extra) > 0
	im.result.Unchanged = !slices.ContainsFunc(append(im.extra, im.root), (*node).toDo)
	return c.leftOut(ctx, im)
}

// toDo tells whether anything is to be put.
func (n *node) toDo() bool {
	return !n.here || len(n.tags) > 0 || slices.ContainsFunc(n.children, (*node).toDo)
}

func isIndex(mediaType string) bool {
	return mediaType == oci.MediaTypeImageIndex || mediaType == oci.MediaTypeDockerList
}

// resolve says what the source is now.
func (c *copier) resolve(ctx context.Context, job Job) (oci.Descriptor, error) {
	if d := job.Source.Digest; !d.IsZero() {
		return oci.Descriptor{Digest: d, Size: -1}, nil
	}
	return again(ctx, c, func() (oci.Descriptor, error) {
		return job.Reader.ResolveTag(ctx, job.Source.Repository, job.Source.Tag)
	})
}

// tagsToSet are those of a job that do not point at d.
func (c *copier) tagsToSet(ctx context.Context, job Job, d oci.Descriptor) ([]oci.Tag, error) {
	r, ok := c.w.(TagResolver)
	if !ok {
		return job.Tags, nil
	}
	var list []oci.Tag
	for _, tag := range job.Tags {
		have, err := again(ctx, c, func() (oci.Descriptor, error) { return r.ResolveTag(ctx, job.Target, tag) })
		if err != nil && !oci.IsUnknown(err) {
			return nil, err
		}
		if err != nil || have.Digest != d.Digest {
			list = append(list, tag)
		}
	}
	return list, nil
}

// look reads a manifest and what is below it. What the target has, and what cannot miss
// anything there, is not read.
func (c *copier) look(ctx context.Context, im *image, d oci.Descriptor, depth int) (*node, error) {
	if n := im.seen[d.Digest]; n != nil {
		return n, nil
	}
	if depth > maxDepth || len(im.seen) >= maxManifests {
		return nil, fmt.Errorf("%s %w", im.job.Source, ErrTooMany)
	}
	n := &node{manifest: oci.Manifest{Descriptor: d}}
	im.seen[d.Digest] = n
	leaf := depth > 0 && d.MediaType != "" && !isIndex(d.MediaType)
	if leaf && !im.job.Referrers {
		var err error
		if n.here, err = c.has(ctx, im.job.Target, d); err != nil || n.here {
			return n, err
		}
	}
	err := c.read(ctx, im, n)
	if depth > 0 && im.job.Partial && oci.IsUnknown(err) {
		return n, c.elsewhere(ctx, im, n)
	}
	if err != nil {
		return nil, err
	}
	if !leaf || im.job.Referrers {
		var err error
		if n.here, err = c.has(ctx, im.job.Target, n.manifest.Descriptor); err != nil {
			return nil, err
		}
	}
	return n, c.below(ctx, im, n, depth)
}

// read fetches the manifest of a node.
func (c *copier) read(ctx context.Context, im *image, n *node) error {
	m, err := again(ctx, c, func() (oci.Manifest, error) {
		return im.job.Reader.Manifest(ctx, im.job.Source.Repository, n.manifest.Descriptor.Digest)
	})
	if err != nil {
		return err
	}
	d := n.manifest.Descriptor
	m.Descriptor.ArtifactType, m.Descriptor.Annotations, m.Descriptor.Platform = d.ArtifactType, d.Annotations, d.Platform
	n.manifest = m
	n.graph, err = m.Graph()
	return err
}

// below looks at the children of an index; those that no platform asked for needs are
// left out.
func (c *copier) below(ctx context.Context, im *image, n *node, depth int) error {
	for _, child := range n.graph.Manifests {
		if len(im.job.Platforms) > 0 && !wanted(im.job.Platforms, child, n.graph.Manifests) {
			continue
		}
		if !oci.IsManifestType(child.MediaType) {
			n.graph.Blobs = append(n.graph.Blobs, child)
			continue
		}
		below, err := c.look(ctx, im, child, depth+1)
		if err != nil {
			return err
		}
		n.children = append(n.children, below)
	}
	return nil
}

// attestationOf is the annotation with which BuildKit's attestations, which are children
// of the index for no platform, say which image they are about.
const attestationOf = "vnd.docker.reference.digest"

// wanted tells whether a child of an index is for one of the platforms, or about one
// that is.
func wanted(platforms []Platform, child oci.Descriptor, all []oci.Descriptor) bool {
	about := child.Annotations[attestationOf]
	if about == "" || len(platforms) == 1 {
		return child.Platform == nil && isIndex(child.MediaType) ||
			slices.ContainsFunc(platforms, func(p Platform) bool { return p.Matches(child.Platform) })
	}
	i := slices.IndexFunc(all, func(d oci.Descriptor) bool { return d.Digest.String() == about })
	return i >= 0 && all[i].Annotations[attestationOf] == "" && wanted(platforms, all[i], all)
}

// forPlatforms puts the manifest of a single platform in the place of its index, and
// refuses an index without what is asked for.
func (c *copier) forPlatforms(_ context.Context, im *image) (*node, error) {
	if len(im.job.Platforms) == 0 || len(im.root.graph.Manifests) == 0 {
		return im.root, nil
	}
	for _, p := range im.job.Platforms {
		if !slices.ContainsFunc(im.root.children, func(n *node) bool { return p.Matches(n.manifest.Descriptor.Platform) }) {
			return nil, &NoPlatform{Source: im.job.Source, Platform: p, There: platformsOf(im.root.graph)}
		}
	}
	if len(im.job.Platforms) > 1 {
		return im.root, nil
	}
	i := slices.IndexFunc(im.root.children, func(n *node) bool { return im.job.Platforms[0].Matches(n.manifest.Descriptor.Platform) })
	return im.root.children[i], nil
}

func platformsOf(g oci.Graph) []Platform {
	var list []Platform
	for _, d := range g.Manifests {
		if d.Platform != nil && d.Annotations[attestationOf] == "" {
			list = append(list, platformOf(*d.Platform))
		}
	}
	return list
}

// refused asks the target about each manifest that it is to hold.
func (c *copier) refused(ctx context.Context, im *image) error {
	r, ok := c.w.(Refuser)
	if !ok || im.result.Unchanged {
		return nil
	}
	for _, n := range im.all() {
		if n.here || n.manifest.Bytes == nil {
			continue
		}
		if err := r.Refuses(ctx, im.job.Target, n.manifest, n.graph); err != nil {
			return err
		}
	}
	return nil
}

// all are the nodes of an image, each once, children before parents.
func (im *image) all() []*node {
	var list []*node
	seen := map[*node]bool{}
	var walk func(n *node)
	walk = func(n *node) {
		if n == nil || seen[n] {
			return
		}
		seen[n] = true
		for _, child := range n.children {
			walk(child)
		}
		list = append(list, n)
	}
	walk(im.root)
	for _, n := range im.extra {
		walk(n)
	}
	return list
}

func (c *copier) has(ctx context.Context, repo oci.Repository, d oci.Descriptor) (bool, error) {
	return again(ctx, c, func() (bool, error) { return c.w.Has(ctx, repo, d) })
}

// maxAsked is how many times a question is asked that nobody answers, where nobody says
// when to come back: a person who has mistyped a host waits for it.
const maxAsked = 3

// again asks until there is an answer, for as long as Options.Pause allows.
func again[T any](ctx context.Context, c *copier, ask func() (T, error)) (T, error) {
	for n := 1; ; n++ {
		v, err := ask()
		if err == nil || oci.IsAnswer(err) || ctx.Err() != nil {
			return v, err
		}
		if n >= maxAsked && !saysWhen(err) {
			return v, err
		}
		if err := c.o.Pause(ctx, n, err); err != nil {
			return v, err
		}
	}
}

func saysWhen(err error) bool {
	var e *oci.Error
	return errors.As(err, &e) && e.RetryAfter > 0
}
