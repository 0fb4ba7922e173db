package transfer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"sampan/internal/oci"
)

// layerSize is that of layers, in bytes.
const layerSize = 5000

// A shelf is an [oci.Reader] of what a test puts there, the same in every repository.
type shelf struct {
	mu        sync.Mutex
	content   map[oci.Digest]string
	types     map[oci.Digest]string // of manifests
	tags      map[string]oci.Descriptor
	referring map[oci.Digest][]oci.Descriptor
	opened    map[oci.Digest]int
	resolved  func() // after each tag; nil for nothing
}

func newShelf() *shelf {
	return &shelf{
		content: map[oci.Digest]string{}, types: map[oci.Digest]string{}, tags: map[string]oci.Descriptor{},
		referring: map[oci.Digest][]oci.Descriptor{}, opened: map[oci.Digest]int{},
	}
}

func (s *shelf) blob(mediaType, content string) oci.Descriptor {
	d := oci.Descriptor{MediaType: mediaType, Digest: oci.DigestOf([]byte(content)), Size: int64(len(content))}
	s.content[d.Digest] = content
	return d
}

func (s *shelf) layer(name string) oci.Descriptor {
	return s.blob("application/vnd.oci.image.layer.v1.tar", strings.Repeat(name[:1], layerSize-len(name))+name)
}

func (s *shelf) manifest(mediaType string, document map[string]any) oci.Descriptor {
	document["schemaVersion"], document["mediaType"] = 2, mediaType
	raw, err := json.Marshal(document)
	if err != nil {
		panic(err) // it is of this file
	}
	d := s.blob(mediaType, string(raw))
	s.types[d.Digest] = mediaType
	return d
}

// image adds an image of layers.
func (s *shelf) image(config string, layers ...oci.Descriptor) oci.Descriptor {
	return s.manifest(oci.MediaTypeImageManifest, map[string]any{
		"config": s.blob("application/vnd.oci.image.config.v1+json", fmt.Sprintf("{%q:1}", config)), "layers": layers,
	})
}

// index adds an index of images for linux on the architectures.
func (s *shelf) index(children map[string]oci.Descriptor) oci.Descriptor {
	var list []oci.Descriptor
	for _, architecture := range slices.Sorted(maps.Keys(children)) {
		d := children[architecture]
		d.Platform = &oci.Platform{OS: "linux", Architecture: architecture}
		list = append(list, d)
	}
	return s.manifest(oci.MediaTypeImageIndex, map[string]any{"manifests": list})
}

// attach adds an artifact that refers to a manifest.
func (s *shelf) attach(subject oci.Descriptor, content string) oci.Descriptor {
	d := s.manifest(oci.MediaTypeImageManifest, map[string]any{
		"artifactType": "application/spdx+json", "subject": subject,
		"config": s.blob("application/vnd.oci.empty.v1+json", "{}"), "layers": []oci.Descriptor{s.blob("application/spdx+json", content)},
	})
	s.referring[subject.Digest] = append(s.referring[subject.Digest], d)
	return d
}

// without takes a blob or manifest away.
func (s *shelf) without(digest oci.Digest) { delete(s.content, digest) }

// reads counts how many times blobs were opened.
func (s *shelf) reads() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, k := range s.opened {
		n += k
	}
	return n
}

func (s *shelf) ResolveTag(_ context.Context, _ oci.Repository, tag oci.Tag) (oci.Descriptor, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d, ok := s.tags[tag.String()]
	if !ok {
		return d, oci.ErrManifestUnknown
	}
	if s.resolved != nil {
		s.resolved()
	}
	return d, nil
}

func (s *shelf) Manifest(_ context.Context, _ oci.Repository, digest oci.Digest) (oci.Manifest, error) {
	raw, ok := s.content[digest]
	if !ok || s.types[digest] == "" {
		return oci.Manifest{}, oci.ErrManifestUnknown
	}
	return oci.Manifest{Descriptor: oci.Descriptor{MediaType: s.types[digest], Digest: digest, Size: int64(len(raw))}, Bytes: []byte(raw)}, nil
}

// text is an [oci.BlobReader] of a string.
type text struct {
	*strings.Reader
	d oci.Descriptor
}

func (t text) Close() error               { return nil }
func (t text) Descriptor() oci.Descriptor { return t.d }

func (s *shelf) Blob(_ context.Context, _ oci.Repository, digest oci.Digest) (oci.BlobReader, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	raw, ok := s.content[digest]
	if !ok {
		return nil, oci.ErrBlobUnknown
	}
	s.opened[digest]++
	return text{strings.NewReader(raw), oci.Descriptor{Digest: digest, Size: int64(len(raw))}}, nil
}

func (s *shelf) StatBlob(_ context.Context, _ oci.Repository, digest oci.Digest) (oci.Descriptor, error) {
	raw, ok := s.content[digest]
	if !ok {
		return oci.Descriptor{}, oci.ErrBlobUnknown
	}
	return oci.Descriptor{Digest: digest, Size: int64(len(raw))}, nil
}

func (s *shelf) Tags(context.Context, oci.Repository) ([]oci.Tag, error) { return nil, nil }

func (s *shelf) Referrers(_ context.Context, _ oci.Repository, digest oci.Digest) ([]oci.Descriptor, error) {
	return s.referring[digest], nil
}

// A pier is a [Writer] that is strict: it takes no manifest without what that names, and
// no blob that is not its digest. It is no [oci.Reader].
type pier struct {
	noMount bool // what it has is not taken from another repository
	sparse  bool // an index may name what is not here
	// before is called before each step, "put blob", "put manifest" or "has"; an error
	// ends it. Nil means that all goes well.
	before func(ctx context.Context, step string, d oci.Descriptor) error

	mu      sync.Mutex
	content map[string]string // "repository@digest"
	tags    map[string]oci.Descriptor
	log     []string // what was stored: "blob", "mount", "manifest" or "tag", and its name
	asked   []string // "repository@digest"
}

func newPier() *pier { return &pier{content: map[string]string{}, tags: map[string]oci.Descriptor{}} }

func at(repo oci.Repository, digest oci.Digest) string { return repo.Path() + "@" + digest.String() }

// put has a blob of a shelf there beforehand.
func (p *pier) put(s *shelf, repo oci.Repository, d oci.Descriptor) {
	p.content[at(repo, d.Digest)] = s.content[d.Digest]
}

func (p *pier) step(ctx context.Context, step string, d oci.Descriptor) error {
	if p.before != nil {
		if err := p.before(ctx, step, d); err != nil {
			return err
		}
	}
	return ctx.Err()
}

func (p *pier) Has(ctx context.Context, repo oci.Repository, d oci.Descriptor) (bool, error) {
	if err := p.step(ctx, "has", d); err != nil {
		return false, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked = append(p.asked, at(repo, d.Digest))
	_, ok := p.content[at(repo, d.Digest)]
	return ok, nil
}

func (p *pier) PutBlob(ctx context.Context, repo oci.Repository, d oci.Descriptor, open Open, from []oci.Repository) error {
	if err := p.step(ctx, "put blob", d); err != nil {
		return err
	}
	for _, other := range from {
		p.mu.Lock()
		content, ok := p.content[at(other, d.Digest)]
		if ok && !p.noMount {
			p.content[at(repo, d.Digest)] = content
			p.log = append(p.log, "mount "+at(repo, d.Digest))
		}
		p.mu.Unlock()
		if ok && !p.noMount {
			return nil
		}
	}
	body, err := open(ctx, 0)
	if err != nil {
		return err
	}
	raw, err := io.ReadAll(body)
	if err = errors.Join(err, body.Close()); err != nil {
		return err
	}
	if int64(len(raw)) != d.Size || !d.Digest.Verify(raw) {
		return oci.Errorf(oci.CodeDigestInvalid, "%s is something else", d.Digest)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.content[at(repo, d.Digest)] = string(raw)
	p.log = append(p.log, "blob "+at(repo, d.Digest))
	return nil
}

func (p *pier) PutManifest(ctx context.Context, repo oci.Repository, d oci.Descriptor, raw []byte, tags []oci.Tag) error {
	if err := p.step(ctx, "put manifest", d); err != nil {
		return err
	}
	if !d.Digest.Verify(raw) {
		return oci.Errorf(oci.CodeDigestInvalid, "%s is something else", d.Digest)
	}
	g, err := oci.Manifest{Descriptor: d, Bytes: raw}.Graph()
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, named := range slices.Concat(g.Blobs, g.Manifests) {
		_, here := p.content[at(repo, named.Digest)]
		if may := undistributed(named) || p.sparse && oci.IsManifestType(named.MediaType); !here && !may {
			return oci.Errorf(oci.CodeManifestInvalid, "%s is not here", named.Digest)
		}
	}
	p.content[at(repo, d.Digest)] = string(raw)
	p.log = append(p.log, "manifest "+at(repo, d.Digest))
	for _, tag := range tags {
		p.tags[repo.Path()+":"+tag.String()] = d
		p.log = append(p.log, "tag "+repo.Path()+":"+tag.String())
	}
	return nil
}

func (p *pier) ResolveTag(_ context.Context, repo oci.Repository, tag oci.Tag) (oci.Descriptor, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	d, ok := p.tags[repo.Path()+":"+tag.String()]
	if !ok {
		return d, oci.ErrManifestUnknown
	}
	return d, nil
}

// stored counts what was stored of a kind, or in all for "".
func (p *pier) stored(kind string) int {
	n := 0
	for _, line := range p.log {
		if strings.HasPrefix(line, kind) {
			n++
		}
	}
	return n
}

// asks counts how many times it was asked for something.
func (p *pier) asks(repo oci.Repository, digest oci.Digest) int {
	n := 0
	for _, name := range p.asked {
		if name == at(repo, digest) {
			n++
		}
	}
	return n
}

// A readablePier can be read, too.
type readablePier struct{ *pier }

func (p readablePier) Manifest(context.Context, oci.Repository, oci.Digest) (oci.Manifest, error) {
	return oci.Manifest{}, oci.ErrManifestUnknown
}

func (p readablePier) Tags(context.Context, oci.Repository) ([]oci.Tag, error) { return nil, nil }

func (p readablePier) Referrers(context.Context, oci.Repository, oci.Digest) ([]oci.Descriptor, error) {
	return nil, nil
}

func (p readablePier) Blob(_ context.Context, repo oci.Repository, digest oci.Digest) (oci.BlobReader, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	raw, ok := p.content[at(repo, digest)]
	if !ok {
		return nil, oci.ErrBlobUnknown
	}
	return text{strings.NewReader(raw), oci.Descriptor{Digest: digest, Size: int64(len(raw))}}, nil
}

// repository is one of the target.
func repository(t *testing.T, path string) oci.Repository {
	t.Helper()
	ref, err := oci.ParseReference("target.example/" + path)
	if err != nil {
		t.Fatal(err)
	}
	return ref.Repository
}

func tag(t *testing.T, s string) oci.Tag {
	t.Helper()
	parsed, err := oci.ParseTag(s)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

// jobOf copies a manifest to "path:tag" at the target, or to "path".
func jobOf(t *testing.T, s *shelf, d oci.Descriptor, target string) Job {
	t.Helper()
	source, err := oci.ParseReference("source.example/app")
	if err != nil {
		t.Fatal(err)
	}
	path, name, tagged := strings.Cut(target, ":")
	job := Job{Source: oci.Reference{Repository: source.Repository, Digest: d.Digest}, Reader: s, Target: repository(t, path)}
	if tagged {
		job.Tags = []oci.Tag{tag(t, name)}
	}
	return job
}

// never is a Pause that gives up.
func never(_ context.Context, _ int, err error) error { return err }

// fourTimes is a Pause that takes no time and gives up later.
func fourTimes(_ context.Context, n int, err error) error {
	if n > 4 || oci.IsAnswer(err) {
		return err
	}
	return nil
}

// run copies with a Pause that takes no time.
func run(t *testing.T, w Writer, o Options, jobs ...Job) (Report, error) {
	t.Helper()
	if o.Pause == nil {
		o.Pause = never
	}
	return Copy(t.Context(), jobs, w, o)
}
