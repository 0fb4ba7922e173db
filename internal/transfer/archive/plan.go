package archive

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"sampan/internal/oci"
	"sampan/internal/transfer"
	"sampan/internal/transfer/layout"
)

// Bounds on what one archive may hold.
const (
	maxManifests     = 20_000
	maxManifestBytes = 256 << 20 // of all manifests, which are kept in memory
	maxDepth         = 8         // of indexes within indexes
)

// A Source is one image to be saved.
type Source struct {
	// Name is what the archive calls it; the zero value is for no name.
	Name oci.Reference
	// At is where Reader has it: at a mirror it is called otherwise.
	At     oci.Reference
	Reader oci.Reader
}

// PlanOptions say what of the images is saved.
type PlanOptions struct {
	// Platforms are those to take of an index; empty means the index with all that it
	// names. One gives the image of that platform itself, several a new index of them.
	Platforms []transfer.Platform
	// Referrers adds what is attached to the images: signatures, lists of contents.
	Referrers bool
	// Without are blobs that the other side has, with the repositories, by the names of
	// the archive, in which it has them; zero where that is not known. They are not
	// written.
	Without map[oci.Digest]oci.Repository
	// Configs are written although Without has them: docker load reads the configuration
	// of every image from the archive, also of one that it has.
	Configs bool
	// Format is that in which the plan will be written: what it cannot hold is left out.
	Format Format
	// Text is the language of errors; nil means English.
	Text layout.Text
}

func (o PlanOptions) text(english, chinese string) string {
	if o.Text == nil {
		return english
	}
	return o.Text(english, chinese)
}

// A Plan is all that an archive will hold, with the bytes of its manifests.
type Plan struct {
	images    []layout.Image
	manifests map[oci.Digest]oci.Manifest
	blobs     map[oci.Digest]plannedBlob
	without   []BundleBlob // named, and not written
}

// A plannedBlob is where a blob comes from.
type plannedBlob struct {
	descriptor oci.Descriptor
	repo       oci.Repository
	reader     oci.Reader
	name       oci.Repository // in the archive
}

// short tells blobs apart for people.
func (b plannedBlob) short() string {
	const digits = 12
	return path.Base(b.repo.Path()) + " " + b.descriptor.Digest.Hex()[:digits]
}

// NewPlan asks for the manifests of images, and what they name. Blobs are not asked
// for. The order of the sources does not matter: the plan is in that of their names.
func NewPlan(ctx context.Context, sources []Source, o PlanOptions) (*Plan, error) {
	p := &planner{Plan: &Plan{manifests: map[oci.Digest]oci.Manifest{}, blobs: map[oci.Digest]plannedBlob{}}, options: o, named: map[string]oci.Digest{}}
	sources = slices.Clone(sources)
	slices.SortStableFunc(sources, func(a, b Source) int { return strings.Compare(a.Name.String(), b.Name.String()) })
	for _, s := range sources {
		if err := p.add(ctx, s); err != nil {
			name := s.Name
			if name.Repository.IsZero() {
				name = s.At
			}
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	if o.Format == Docker {
		if err := p.onlyImages(); err != nil {
			return nil, err
		}
	}
	for digest, b := range p.blobs {
		if repo, ok := o.Without[digest]; ok && (!o.Configs || !isConfig(b.descriptor)) {
			p.without = append(p.without, BundleBlob{digest, b.descriptor.Size, repo.String()})
			delete(p.blobs, digest)
		}
	}
	slices.SortFunc(p.without, func(a, b BundleBlob) int { return strings.Compare(a.Digest.String(), b.Digest.String()) })
	return p.Plan, nil
}

// onlyImages leaves out the blobs that an archive of Docker does not hold: those of other
// platforms, and of what is attached.
func (p *planner) onlyImages() error {
	images, err := dockerImages(p.Plan, Docker, p.options.text)
	if err != nil {
		return err
	}
	held := make(map[oci.Digest]bool)
	for _, i := range images {
		for _, digest := range i.digests {
			held[digest] = true
		}
	}
	maps.DeleteFunc(p.blobs, func(digest oci.Digest, _ plannedBlob) bool { return !held[digest] })
	return nil
}

// Images returns what the archive will name, in the order of the names, each with what is
// attached to it.
func (p *Plan) Images() []layout.Image { return slices.Clone(p.images) }

// Blobs tells how many there will be, and of how many bytes.
func (p *Plan) Blobs() (n int, bytes int64) {
	for _, b := range p.blobs {
		bytes += b.descriptor.Size
	}
	return len(p.blobs), bytes
}

// Without tells how many blobs are named and left out, and of how many bytes.
func (p *Plan) Without() (n int, bytes int64) {
	for _, b := range p.without {
		bytes += b.Size
	}
	return len(p.without), bytes
}

// before is where blobs are that are left out.
func (p *Plan) before() map[oci.Digest]oci.Repository {
	before := make(map[oci.Digest]oci.Repository)
	for _, b := range p.without {
		before[b.Digest] = b.repository()
	}
	return before
}

// Descriptors are the blobs that the plan holds, in the order of their digests.
func (p *Plan) Descriptors() []oci.Descriptor {
	var list []oci.Descriptor
	for _, digest := range sorted(p.blobs) {
		list = append(list, p.blobs[digest].descriptor)
	}
	return list
}

func sorted[V any](m map[oci.Digest]V) []oci.Digest {
	return slices.SortedFunc(maps.Keys(m), func(a, b oci.Digest) int { return strings.Compare(a.String(), b.String()) })
}

type planner struct {
	*Plan
	options PlanOptions
	bytes   int64                 // of manifests
	named   map[string]oci.Digest // names of the archive
}

func (p *planner) add(ctx context.Context, s Source) error {
	root, err := resolve(ctx, s)
	if err != nil {
		return err
	}
	image := layout.Image{Ref: s.Name, Named: !s.Name.Repository.IsZero(), Descriptor: root.Descriptor}
	if root, err = p.narrow(ctx, s, root); err != nil {
		return err
	}
	if root.Descriptor.Digest != image.Descriptor.Digest && !image.Ref.Digest.IsZero() {
		image.Ref.Digest = root.Descriptor.Digest // the name is that of a part now
	}
	image.Descriptor = root.Descriptor
	name := image.Ref.String()
	if image.Ref.Tag.IsZero() {
		name += "@" + image.Descriptor.Digest.String()
	}
	switch other, ok := p.named[name]; {
	case ok && other == image.Descriptor.Digest:
		return nil
	case ok:
		return errors.New(p.options.text("two different images are called so", "有两个不同的镜像使用此名字"))
	}
	p.named[name] = image.Descriptor.Digest
	p.images = append(p.images, image)
	if err := p.walk(ctx, s, root, 0); err != nil {
		return err
	}
	if p.options.Referrers {
		return p.referrers(ctx, s, root, 0)
	}
	return nil
}

// resolve fetches the manifest that a source names.
func resolve(ctx context.Context, s Source) (oci.Manifest, error) {
	if !s.At.Digest.IsZero() {
		return s.Reader.Manifest(ctx, s.At.Repository, s.At.Digest)
	}
	if g, ok := s.Reader.(oci.TagGetter); ok {
		return g.TaggedManifest(ctx, s.At.Repository, s.At.Tag)
	}
	d, err := s.Reader.ResolveTag(ctx, s.At.Repository, s.At.Tag)
	if err != nil {
		return oci.Manifest{}, err
	}
	return s.Reader.Manifest(ctx, s.At.Repository, d.Digest)
}

// walk plans a manifest and all that it names.
func (p *planner) walk(ctx context.Context, s Source, m oci.Manifest, depth int) error {
	if _, ok := p.manifests[m.Descriptor.Digest]; ok {
		return nil
	}
	switch m.Descriptor.MediaType {
	case oci.MediaTypeDockerSchema1, oci.MediaTypeDockerSchema1JWS:
		return errors.New(p.options.text("it is of Docker's schema 1, which no archive holds", "它是 Docker schema 1 格式，无法存入归档"))
	}
	p.bytes += int64(len(m.Bytes))
	if depth > maxDepth || len(p.manifests) >= maxManifests || p.bytes > maxManifestBytes {
		return errors.New(p.options.text("the images have too many manifests for one archive", "清单过多，无法放入一个归档"))
	}
	g, err := m.Graph()
	if err != nil {
		return err
	}
	p.manifests[m.Descriptor.Digest] = m
	for _, d := range g.Blobs {
		if err := p.blob(s, d); err != nil {
			return err
		}
	}
	for _, d := range g.Manifests {
		child, err := p.child(ctx, s, d)
		if err != nil {
			return err
		}
		if err := p.walk(ctx, s, child, depth+1); err != nil {
			return err
		}
	}
	return nil
}

func (p *planner) blob(s Source, d oci.Descriptor) error {
	if other, ok := p.blobs[d.Digest]; ok {
		if other.descriptor.Size != d.Size {
			return oci.Errorf(oci.CodeManifestInvalid, "manifests tell two sizes of the blob %s", d.Digest)
		}
		return nil
	}
	p.blobs[d.Digest] = plannedBlob{descriptor: d, repo: s.At.Repository, reader: s.Reader, name: s.Name.Repository}
	return nil
}

// child fetches a manifest that an index names, as what the index says it is.
func (p *planner) child(ctx context.Context, s Source, d oci.Descriptor) (oci.Manifest, error) {
	if m, ok := p.manifests[d.Digest]; ok {
		return m, nil
	}
	m, err := s.Reader.Manifest(ctx, s.At.Repository, d.Digest)
	if err != nil {
		return oci.Manifest{}, err
	}
	if m.Descriptor.MediaType == "" {
		m.Descriptor.MediaType = d.MediaType
	}
	return m, nil
}

// referrers plans what is attached to a manifest and to its children.
func (p *planner) referrers(ctx context.Context, s Source, m oci.Manifest, depth int) error {
	if depth > maxDepth {
		return nil
	}
	list, err := s.Reader.Referrers(ctx, s.At.Repository, m.Descriptor.Digest)
	if err != nil {
		return err
	}
	for _, d := range list {
		if _, ok := p.manifests[d.Digest]; ok {
			continue
		}
		attached, err := p.child(ctx, s, d)
		if err != nil {
			return err
		}
		p.images = append(p.images, layout.Image{Descriptor: attached.Descriptor})
		if err := p.walk(ctx, s, attached, 0); err != nil {
			return err
		}
		if err := p.referrers(ctx, s, attached, depth+1); err != nil {
			return err
		}
	}
	if err := p.cosigned(ctx, s, m.Descriptor.Digest); err != nil {
		return err
	}
	g, err := m.Graph()
	if err != nil {
		return err
	}
	for _, d := range g.Manifests {
		if child, ok := p.manifests[d.Digest]; ok {
			if err := p.referrers(ctx, s, child, depth+1); err != nil {
				return err
			}
		}
	}
	return nil
}

// cosigned plans what cosign attaches to a manifest by tags that it makes of the digest.
func (p *planner) cosigned(ctx context.Context, s Source, digest oci.Digest) error {
	for _, kind := range []string{".sig", ".att", ".sbom"} {
		tag, err := oci.ParseTag(digest.Algorithm() + "-" + digest.Hex() + kind)
		if err != nil {
			return nil //nolint:nilerr // a digest that is too long for a tag has none
		}
		s.At = oci.Reference{Repository: s.At.Repository, Tag: tag}
		m, err := resolve(ctx, s)
		if oci.IsUnknown(err) {
			continue
		}
		if err != nil {
			return err
		}
		image := layout.Image{Descriptor: m.Descriptor}
		if !s.Name.Repository.IsZero() {
			image.Ref, image.Named = oci.Reference{Repository: s.Name.Repository, Tag: tag}, true
		}
		if name := image.Ref.String(); p.named[name] == m.Descriptor.Digest && image.Named {
			continue
		}
		p.named[image.Ref.String()] = m.Descriptor.Digest
		p.images = append(p.images, image)
		if err := p.walk(ctx, s, m, 0); err != nil {
			return err
		}
	}
	return nil
}
