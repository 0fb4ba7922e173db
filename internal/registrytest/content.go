package registrytest

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"hash"
	"io"
	"slices"
	"sync"
	"sync/atomic"

	"sampan/internal/oci"
)

// content is what the registry holds.
type content struct {
	base []byte

	mu      sync.RWMutex
	repos   map[string]*repository
	blobs   map[oci.Digest]*blob // of all repositories, manifests included
	digests map[generatedKey]oci.Digest
}

type generatedKey struct {
	algorithm string
	size      int64
	seed      uint64
}

// A blob is any content with a digest.
type blob struct {
	desc oci.Descriptor
	src  io.ReaderAt
	data []byte        // of manifests and small blobs; nil for generated ones
	sent *atomic.Int64 // body bytes, shared by all blobs of the digest
}

type repository struct {
	blobs     map[oci.Digest]*blob
	manifests map[oci.Digest]*blob
	tags      map[string]oci.Digest
	order     []string // of the tags, oldest first
}

func (c *content) init() {
	c.base = makeBase()
	c.repos = make(map[string]*repository)
	c.blobs = make(map[oci.Digest]*blob)
	c.digests = make(map[generatedKey]oci.Digest)
}

// repo returns the repository, made if need be. The lock is held for writing.
func (c *content) repo(name string) *repository {
	p := c.repos[name]
	if p == nil {
		p = &repository{
			blobs:     make(map[oci.Digest]*blob),
			manifests: make(map[oci.Digest]*blob),
			tags:      make(map[string]oci.Digest),
		}
		c.repos[name] = p
	}
	return p
}

// keep adds b to the blobs of all repositories. The lock is held for writing.
func (c *content) keep(b *blob) {
	if have := c.blobs[b.desc.Digest]; have != nil {
		b.sent = have.sent
		return
	}
	c.blobs[b.desc.Digest] = b
}

func (c *content) addBlob(repo string, b *blob) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.keep(b)
	c.repo(repo).blobs[b.desc.Digest] = b
}

func (c *content) addManifest(repo, tag string, b *blob) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.repo(repo)
	c.keep(b)
	p.manifests[b.desc.Digest] = b
	if tag != "" {
		p.setTag(tag, b.desc.Digest)
	}
}

func (p *repository) setTag(tag string, d oci.Digest) {
	if _, ok := p.tags[tag]; !ok {
		p.order = append(p.order, tag)
	}
	p.tags[tag] = d
}

// hasRepo tells whether anything was ever added under the name.
func (c *content) hasRepo(name string) bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.repos[name] != nil
}

// blob returns a blob of a repository, or nil. Manifests are no blobs.
func (c *content) blob(repo string, d oci.Digest) *blob {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if p := c.repos[repo]; p != nil {
		return p.blobs[d]
	}
	return nil
}

// anyBlob returns content of any repository, or nil.
func (c *content) anyBlob(d oci.Digest) *blob {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.blobs[d]
}

// manifest returns the manifest that a tag or digest names, or nil.
func (c *content) manifest(repo, ref string) *blob {
	c.mu.RLock()
	defer c.mu.RUnlock()
	p := c.repos[repo]
	if p == nil {
		return nil
	}
	if d, err := oci.ParseDigest(ref); err == nil {
		return p.manifests[d]
	}
	return p.manifests[p.tags[ref]]
}

// tags returns the tags of a repository, oldest first, and whether it exists.
func (c *content) tags(repo string) ([]string, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	p := c.repos[repo]
	if p == nil {
		return nil, false
	}
	return slices.Clone(p.order), true
}

// manifests returns all manifests of a repository in the order of their
// digests.
func (c *content) manifests(repo string) []oci.Manifest {
	c.mu.RLock()
	defer c.mu.RUnlock()
	p := c.repos[repo]
	if p == nil {
		return nil
	}
	var all []oci.Manifest
	for _, b := range p.manifests {
		all = append(all, oci.Manifest{Descriptor: b.desc, Bytes: b.data})
	}
	slices.SortFunc(all, func(a, b oci.Manifest) int {
		return cmp.Compare(a.Descriptor.Digest.String(), b.Descriptor.Digest.String())
	})
	return all
}

func (c *content) counter(d oci.Digest) *atomic.Int64 {
	if b := c.anyBlob(d); b != nil {
		return b.sent
	}
	return new(atomic.Int64)
}

func (c *content) resetCounters() {
	c.mu.RLock()
	defer c.mu.RUnlock()
	for _, b := range c.blobs {
		b.sent.Store(0)
	}
}

// generate describes a blob of size bytes; its digest is computed once.
func (c *content) generate(algorithm string, size int64, seed uint64) *blob {
	g := generated{base: c.base, seed: seed, size: size}
	key := generatedKey{algorithm, size, seed}
	c.mu.RLock()
	d, ok := c.digests[key]
	c.mu.RUnlock()
	if !ok {
		h := newHash(algorithm)
		// Neither side can fail.
		_, _ = io.CopyBuffer(struct{ io.Writer }{h}, struct{ io.Reader }{io.NewSectionReader(g, 0, size)}, make([]byte, 256<<10))
		d = digestOf(algorithm, h)
		c.mu.Lock()
		c.digests[key] = d
		c.mu.Unlock()
	}
	return &blob{desc: oci.Descriptor{MediaType: octets, Digest: d, Size: size}, src: g, sent: new(atomic.Int64)}
}

// literal describes given bytes by their sha256 digest.
func literal(mediaType string, data []byte) *blob {
	return &blob{
		desc: oci.Descriptor{MediaType: mediaType, Digest: oci.DigestOf(data), Size: int64(len(data))},
		src:  bytes.NewReader(data),
		data: data,
		sent: new(atomic.Int64),
	}
}

func newHash(algorithm string) hash.Hash {
	if algorithm == "sha512" {
		return sha512.New()
	}
	return sha256.New()
}

func digestOf(algorithm string, h hash.Hash) oci.Digest {
	return oci.MustParseDigest(algorithm + ":" + hex.EncodeToString(h.Sum(nil)))
}
