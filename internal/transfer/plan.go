package transfer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

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
	attached bool                          // extra is not empty
	lacks    map[oci.Digest]oci.Descriptor // blobs that are needed and not at the source
	// held tells of digests whether the target's repository has their manifests; what is
	// not in it has to be asked.
	held map[oci.Digest]bool

	mu   sync.Mutex // of seen, while children are looked at together
	seen map[oci.Digest]*node
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
	im.seen, im.held = map[oci.Digest]*node{}, map[oci.Digest]bool{}
	if done, err := c.pinned(ctx, im); err != nil || done {
		return err
	}
	d, err := c.resolve(ctx, im.job)
	if err != nil {
		return err
	}
	at, err := c.pointing(ctx, im.job)
	if err != nil {
		return err
	}
	for _, have := range at {
		im.held[have.Digest] = true
		if have.Digest == d.Digest && d.MediaType == "" {
			d = have
		}
	}
	im.result.Descriptor = d
	missing := unlike(im.job.Tags, at, d.Digest)
	if len(missing) == 0 && c.settled(im.job, d) {
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
	im.root.tags = unlike(im.job.Tags, at, root.Digest)
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

// pinned tells whether a job that names nothing but a digest is done, where that may be
// told by the target alone.
func (c *copier) pinned(ctx context.Context, im *image) (bool, error) {
	job := im.job
	if !c.o.Trust || job.Source.Digest.IsZero() || len(job.Tags) > 0 || len(job.Platforms) > 0 || job.Referrers {
		return false, nil
	}
	// Any type of a manifest will do: the registry knows which one it is.
	d := oci.Descriptor{MediaType: oci.MediaTypeImageIndex, Digest: job.Source.Digest, Size: -1}
	here, err := c.has(ctx, job.Target, d)
	im.held[d.Digest] = here
	im.result.Unchanged = here
	im.result.Descriptor = oci.Descriptor{Digest: d.Digest, Size: -1}
	return here, err
}

// settled tells whether a job, whose tags all point at d, needs no closer look: d is no
// index, or one that is trusted to be whole.
func (c *copier) settled(job Job, d oci.Descriptor) bool {
	if len(job.Tags) == 0 || job.Referrers {
		return false
	}
	return d.MediaType != "" && !isIndex(d.MediaType) || c.o.Trust && len(job.Platforms) == 0
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
	return ask(ctx, c, sourceOf(job), func() (oci.Descriptor, error) {
		return job.Reader.ResolveTag(ctx, job.Source.Repository, job.Source.Tag)
	})
}

// look reads a manifest and what is below it. What the target has, and what cannot miss
// anything there, is not read.
func (c *copier) look(ctx context.Context, im *image, d oci.Descriptor, depth int) (*node, error) {
	n, first, err := im.node(d, depth)
	if err != nil || !first {
		return n, err
	}
	leaf := depth > 0 && d.MediaType != "" && !isIndex(d.MediaType)
	if leaf && !im.job.Referrers {
		if n.here, err = c.hasManifest(ctx, im, d); err != nil || n.here {
			return n, err
		}
	}
	err = c.read(ctx, im, n)
	if depth > 0 && im.job.Partial && oci.IsUnknown(err) {
		return n, c.elsewhere(ctx, im, n)
	}
	if err != nil {
		return nil, err
	}
	replaced := depth == 0 && len(im.job.Platforms) == 1 && len(n.graph.Manifests) > 0 // by one of its children
	if (!leaf || im.job.Referrers) && !replaced {
		if n.here, err = c.hasManifest(ctx, im, n.manifest.Descriptor); err != nil {
			return nil, err
		}
	}
	return n, c.below(ctx, im, n, depth)
}

// node is that of a digest, and whether it is new: then the caller looks at it.
func (im *image) node(d oci.Descriptor, depth int) (*node, bool, error) {
	im.mu.Lock()
	defer im.mu.Unlock()
	if n := im.seen[d.Digest]; n != nil {
		return n, false, nil
	}
	if depth > maxDepth || len(im.seen) >= maxManifests {
		return nil, false, fmt.Errorf("%s %w", im.job.Source, ErrTooMany)
	}
	n := &node{manifest: oci.Manifest{Descriptor: d}}
	im.seen[d.Digest] = n
	return n, true, nil
}

// read fetches the manifest of a node.
func (c *copier) read(ctx context.Context, im *image, n *node) error {
	m, err := ask(ctx, c, sourceOf(im.job), func() (oci.Manifest, error) {
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

// below looks at the children of an index, some at once; those that no platform asked
// for needs are left out.
func (c *copier) below(ctx context.Context, im *image, n *node, depth int) error {
	var blobs []oci.Descriptor
	children := make([]*node, len(n.graph.Manifests))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(c.o.Lookups)
	for i, child := range n.graph.Manifests {
		if len(im.job.Platforms) > 0 && !wanted(im.job.Platforms, child, n.graph.Manifests) {
			continue
		}
		if !oci.IsManifestType(child.MediaType) {
			blobs = append(blobs, child)
			continue
		}
		g.Go(func() error {
			var err error
			children[i], err = c.look(ctx, im, child, depth+1)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	n.graph.Blobs = append(n.graph.Blobs, blobs...)
	n.children = slices.DeleteFunc(children, func(child *node) bool { return child == nil })
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
	// Not by the children: two platforms may have one manifest.
	find := func(p Platform) *node {
		for _, d := range im.root.graph.Manifests {
			if p.Matches(d.Platform) && im.seen[d.Digest] != nil {
				return im.seen[d.Digest]
			}
		}
		return nil
	}
	for _, p := range im.job.Platforms {
		if find(p) == nil {
			return nil, &NoPlatform{Source: im.job.Source, Platform: p, There: platformsOf(im.root.graph)}
		}
	}
	if len(im.job.Platforms) > 1 {
		return im.root, nil
	}
	return find(im.job.Platforms[0]), nil
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
