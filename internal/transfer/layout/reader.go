package layout

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync"
	"syscall"

	"sampan/internal/oci"
)

// A Layout answers for the images that an index names.
type Layout struct {
	images []Image
	blobs  Blobs
	before map[oci.Digest]oci.Repository

	mu       sync.Mutex
	reach    map[oci.Repository]*graph // filled when a repository is first asked for
	attached []attached                // nil until all that could be has been read
}

// graph is what the images of a repository name, with those attached to them.
type graph struct {
	manifests map[oci.Digest]oci.Descriptor
	blobs     map[oci.Digest]oci.Descriptor
	referrers map[oci.Digest][]oci.Descriptor // by subject
	broken    map[oci.Digest]error            // manifests that cannot be read, and why
	failed    error                           // the first of these; nil for none
	unsure    bool                            // something could not be read that may be read later
}

// fail notes that a manifest cannot be read: whoever asks for it is told, and nobody else.
func (g *graph) fail(digest oci.Digest, err error) {
	g.broken[digest] = err
	g.unsure = g.unsure || mayPass(err)
	if g.failed == nil {
		g.failed = err
	}
}

var (
	_ oci.Reader         = (*Layout)(nil)
	_ oci.BlobStater     = (*Layout)(nil)
	_ oci.ManifestStater = (*Layout)(nil)
)

// New makes a Layout of an index.json and of where content is. What the index names
// is looked at when it is asked for.
func New(index []byte, blobs Blobs, o Options) (*Layout, error) {
	images, err := parseIndex(index, o)
	if err != nil {
		return nil, err
	}
	return &Layout{images: images, blobs: blobs, before: parseBefore(index), reach: make(map[oci.Repository]*graph)}, nil
}

// Images returns what the layout names, in its order.
func (l *Layout) Images() []Image { return slices.Clone(l.images) }

// Before tells of blobs that were left out in which repositories they are, as far as
// the layout says so. It is a hint, by its author.
func (l *Layout) Before() map[oci.Digest]oci.Repository { return maps.Clone(l.before) }

// ResolveTag implements [oci.Reader].
func (l *Layout) ResolveTag(_ context.Context, repo oci.Repository, tag oci.Tag) (oci.Descriptor, error) {
	known := false
	for _, i := range l.images {
		if i.Ref.Repository != repo {
			continue
		}
		if known = true; i.Ref.Tag == tag && !tag.IsZero() {
			return i.Descriptor, nil
		}
	}
	if !known {
		return oci.Descriptor{}, unknownName(repo)
	}
	return oci.Descriptor{}, oci.Errorf(oci.CodeManifestUnknown, "%s has no tag %s here", repo, tag)
}

// Tags implements [oci.Reader].
func (l *Layout) Tags(_ context.Context, repo oci.Repository) ([]oci.Tag, error) {
	tags, known := []oci.Tag{}, false
	for _, i := range l.images {
		if i.Ref.Repository == repo {
			if known = true; !i.Ref.Tag.IsZero() {
				tags = append(tags, i.Ref.Tag)
			}
		}
	}
	if !known {
		return nil, unknownName(repo)
	}
	slices.SortFunc(tags, func(a, b oci.Tag) int { return strings.Compare(a.String(), b.String()) })
	return tags, nil
}

// Manifest implements [oci.Reader].
func (l *Layout) Manifest(ctx context.Context, repo oci.Repository, digest oci.Digest) (oci.Manifest, error) {
	d, err := l.StatManifest(ctx, repo, digest)
	if err != nil {
		return oci.Manifest{}, err
	}
	return l.manifest(d)
}

// StatManifest implements [oci.ManifestStater].
func (l *Layout) StatManifest(ctx context.Context, repo oci.Repository, digest oci.Digest) (oci.Descriptor, error) {
	g, err := l.graph(ctx, repo)
	if err != nil {
		return oci.Descriptor{}, err
	}
	if err := g.broken[digest]; err != nil {
		return oci.Descriptor{}, err
	}
	d, ok := g.manifests[digest]
	if !ok {
		return oci.Descriptor{}, oci.Errorf(oci.CodeManifestUnknown, "%s has no manifest %s here", repo, digest)
	}
	return d, nil
}

// Blob implements [oci.Reader].
func (l *Layout) Blob(ctx context.Context, repo oci.Repository, digest oci.Digest) (oci.BlobReader, error) {
	d, c, err := l.content(ctx, repo, digest)
	if err != nil {
		return nil, err
	}
	return &blob{ctx: ctx, descriptor: oci.Descriptor{MediaType: d.MediaType, Digest: digest, Size: c.Size}, content: c, hash: digest.Hash()}, nil
}

// StatBlob implements [oci.BlobStater].
func (l *Layout) StatBlob(ctx context.Context, repo oci.Repository, digest oci.Digest) (oci.Descriptor, error) {
	d, c, err := l.content(ctx, repo, digest)
	if err != nil {
		return oci.Descriptor{}, err
	}
	d.Size = c.Size
	return d, c.close()
}

func (l *Layout) content(ctx context.Context, repo oci.Repository, digest oci.Digest) (oci.Descriptor, Content, error) {
	g, err := l.graph(ctx, repo)
	if err != nil {
		return oci.Descriptor{}, Content{}, err
	}
	return l.contentOf(g, repo, digest)
}

func (l *Layout) contentOf(g *graph, repo oci.Repository, digest oci.Digest) (oci.Descriptor, Content, error) {
	d, ok := g.blobs[digest]
	if !ok {
		return d, Content{}, oci.Errorf(oci.CodeBlobUnknown, "%s has no blob %s here", repo, digest)
	}
	c, err := l.blobs.Open(digest)
	if errors.Is(err, fs.ErrNotExist) {
		return d, Content{}, oci.Errorf(oci.CodeBlobUnknown, "the blob %s of %s is missing here", digest, repo)
	}
	if err != nil {
		return d, Content{}, fmt.Errorf("blob %s: %w", digest, err)
	}
	if d.Size >= 0 && d.Size != c.Size {
		err := oci.Errorf(oci.CodeSizeInvalid, "blob %s has %d bytes, and not the %d of its descriptor", digest, c.Size, d.Size)
		return d, Content{}, errors.Join(err, c.close())
	}
	return d, c, nil
}

// Present are the blobs of a repository that are here, and have the size that they
// should have. They are not proven. The error is that of the first image that cannot be
// read, for which nobody knows what it names.
func (l *Layout) Present(ctx context.Context, repo oci.Repository) ([]oci.Descriptor, error) {
	g, err := l.graph(ctx, repo)
	if err != nil {
		return nil, err
	}
	present, _, err := l.inventory(g, repo)
	if err != nil {
		return nil, err
	}
	return present, g.failed
}

// Missing are the blobs that the images of a repository name which can be read, and that
// are not here.
func (l *Layout) Missing(ctx context.Context, repo oci.Repository) ([]oci.Descriptor, error) {
	g, err := l.graph(ctx, repo)
	if err != nil {
		return nil, err
	}
	_, missing, err := l.inventory(g, repo)
	return missing, err
}

func (l *Layout) inventory(g *graph, repo oci.Repository) (present, missing []oci.Descriptor, err error) {
	for digest, d := range g.blobs {
		_, c, err := l.contentOf(g, repo, digest)
		if err == nil {
			err = c.close()
		}
		switch {
		case err == nil:
			present = append(present, d)
		case oci.CodeOf(err) == oci.CodeBlobUnknown:
			missing = append(missing, d)
		default:
			return nil, nil, err
		}
	}
	return present, missing, nil
}

func (c Content) close() error {
	if c.Close == nil {
		return nil
	}
	return c.Close()
}

// Referrers implements [oci.Reader].
func (l *Layout) Referrers(ctx context.Context, repo oci.Repository, digest oci.Digest) ([]oci.Descriptor, error) {
	g, err := l.graph(ctx, repo)
	if err != nil {
		return nil, err
	}
	return append([]oci.Descriptor{}, g.referrers[digest]...), nil
}

func unknownName(repo oci.Repository) error {
	return oci.Errorf(oci.CodeNameUnknown, "%s is not here", repo)
}

// manifest reads and proves one.
func (l *Layout) manifest(d oci.Descriptor) (oci.Manifest, error) {
	if d.Size > oci.MaxManifestSize {
		return oci.Manifest{}, oci.Errorf(oci.CodeManifestInvalid, "manifest %s is too large", d.Digest)
	}
	c, err := l.blobs.Open(d.Digest)
	if errors.Is(err, fs.ErrNotExist) {
		return oci.Manifest{}, oci.Errorf(oci.CodeManifestUnknown, "the manifest %s is missing here", d.Digest)
	}
	if err != nil {
		return oci.Manifest{}, fmt.Errorf("manifest %s: %w", d.Digest, err)
	}
	defer func() { _ = c.close() }() // of what is only read
	if c.Size > oci.MaxManifestSize || d.Size >= 0 && c.Size != d.Size {
		return oci.Manifest{}, oci.Errorf(oci.CodeManifestInvalid, "manifest %s has %d bytes, and not the %d of its descriptor", d.Digest, c.Size, d.Size)
	}
	raw, err := io.ReadAll(io.NewSectionReader(c, 0, c.Size))
	if err != nil {
		return oci.Manifest{}, fmt.Errorf("manifest %s: %w", d.Digest, err)
	}
	if !d.Digest.Verify(raw) {
		return oci.Manifest{}, oci.Errorf(oci.CodeDigestInvalid, "what is stored as the manifest %s is something else", d.Digest)
	}
	return oci.Manifest{Descriptor: oci.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: int64(len(raw))}, Bytes: raw}, nil
}

// mayPass tells an error of the disk, or of this process, from one of what is there.
func mayPass(err error) bool {
	return errors.As(err, new(syscall.Errno)) && !errors.Is(err, fs.ErrPermission)
}

// graph walks what the images of a repository name, once. Where the disk fails, who comes
// next walks again.
func (l *Layout) graph(ctx context.Context, repo oci.Repository) (*graph, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if g := l.reach[repo]; g != nil {
		return g, nil
	}
	g := &graph{manifests: map[oci.Digest]oci.Descriptor{}, blobs: map[oci.Digest]oci.Descriptor{}, referrers: map[oci.Digest][]oci.Descriptor{}, broken: map[oci.Digest]error{}}
	known := false
	for _, i := range l.images {
		if i.Ref.Repository != repo {
			continue
		}
		known = true
		if err := l.walk(ctx, g, i.Descriptor, 0); err != nil {
			return nil, err
		}
	}
	if !known {
		return nil, unknownName(repo)
	}
	if err := l.attach(ctx, g); err != nil {
		return nil, err
	}
	if !g.unsure {
		l.reach[repo] = g
	}
	return g, nil
}

// walk adds a manifest and what it names. One that cannot be read fails for itself, and
// the error is that of the context alone. A child that is not here is none: indexes are
// stored with a part of their platforms.
func (l *Layout) walk(ctx context.Context, g *graph, d oci.Descriptor, depth int) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	_, known := g.manifests[d.Digest]
	if _, broken := g.broken[d.Digest]; known || broken {
		return nil
	}
	if depth > maxDepth || len(g.manifests)+len(g.blobs)+len(g.broken) > maxGraph {
		g.fail(d.Digest, oci.Errorf(oci.CodeManifestInvalid, "what %s names is too deep or too much", d.Digest))
		return nil
	}
	m, err := l.manifest(d)
	if depth > 0 && oci.CodeOf(err) == oci.CodeManifestUnknown {
		return nil
	}
	var parsed oci.Graph
	if err == nil {
		parsed, err = m.Graph()
	}
	if err != nil {
		g.fail(d.Digest, err)
		return nil
	}
	d.Size = m.Descriptor.Size
	g.manifests[d.Digest] = d
	for _, b := range parsed.Blobs {
		if len(g.blobs) > maxGraph {
			g.fail(d.Digest, oci.Errorf(oci.CodeManifestInvalid, "what %s names is too much", d.Digest))
			return nil
		}
		g.blobs[b.Digest] = b
	}
	for _, child := range parsed.Manifests {
		if err := l.walk(ctx, g, child, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// attach adds the entries of the index whose subject is in the graph already, until
// there are none left.
func (l *Layout) attach(ctx context.Context, g *graph) error {
	list, sure := l.attachedLocked()
	g.unsure = g.unsure || !sure
	open := slices.Clone(list)
	for again := true; again; {
		again = false
		for n := 0; n < len(open); n++ {
			e := open[n]
			if _, ok := g.manifests[e.subject]; !ok {
				continue
			}
			if err := l.walk(ctx, g, e.descriptor, 0); err != nil {
				return err
			}
			g.referrers[e.subject] = append(g.referrers[e.subject], e.descriptor)
			open = slices.Delete(open, n, n+1)
			n--
			again = true
		}
	}
	return nil
}

// An attached is an entry of the index that has a subject.
type attached struct {
	descriptor oci.Descriptor
	subject    oci.Digest
}

// attachedLocked reads each manifest that the index names, once. It is not sure that these
// are all where the disk fails.
func (l *Layout) attachedLocked() (list []attached, sure bool) {
	if l.attached != nil {
		return l.attached, true
	}
	list, sure = []attached{}, true
	for _, i := range l.images {
		m, err := l.manifest(i.Descriptor)
		if err != nil {
			sure = sure && !mayPass(err)
			continue // whoever asks for it is told
		}
		parsed, err := m.Graph()
		if err != nil || parsed.Subject.Digest.IsZero() {
			continue
		}
		d := i.Descriptor
		d.ArtifactType, d.Annotations = parsed.ArtifactType, parsed.Annotations
		list = append(list, attached{d, parsed.Subject.Digest})
	}
	if sure {
		l.attached = list
	}
	return list, sure
}
