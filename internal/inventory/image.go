package inventory

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"sampan/internal/oci"
	"sampan/internal/store"
)

// An Image is a manifest with what it refers to, as far as it is here.
type Image struct {
	Repository oci.Repository `json:"repository"`
	// Tags of the repository lead to it.
	Tags     []oci.Tag      `json:"tags"`
	Manifest oci.Descriptor `json:"manifest"`
	Pinned   bool           `json:"pinned"`
	Used     time.Time      `json:"used,omitzero"`
	// Here tells that the manifest is; without it, what follows is empty.
	Here bool `json:"here"`
	// Complete tells that all that it refers to is here, of an index all platforms
	// with all of theirs.
	Complete bool `json:"complete"`
	// Size is that of all of it that is here, in bytes, each blob once.
	Size int64 `json:"size"`
	// Platforms are the manifests of an index.
	Platforms []Child `json:"platforms,omitempty"`
	// Config and Layers are those of an image.
	Config *Part  `json:"config,omitempty"`
	Layers []Part `json:"layers,omitempty"`
	// Platform, Created and History are from the config of an image.
	Platform *oci.Platform `json:"platform,omitempty"`
	Created  time.Time     `json:"created,omitzero"`
	History  []Step        `json:"history,omitempty"`
	// Annotations of the manifest.
	Annotations map[string]string `json:"annotations,omitempty"`
	// ArtifactType and Subject of an artifact.
	ArtifactType string          `json:"artifactType,omitempty"`
	Subject      *oci.Descriptor `json:"subject,omitempty"`
}

// A Child is a manifest of an index.
type Child struct {
	oci.Descriptor
	Here     bool  `json:"here"`     // the manifest is
	Complete bool  `json:"complete"` // and all that it refers to
	Total    int64 `json:"total"`    // bytes of all of it that is here, each blob once
}

// A Part is a blob of an image.
type Part struct {
	oci.Descriptor
	Here bool `json:"here"`
}

// A Step is one of the history of an image.
type Step struct {
	Created   time.Time `json:"created,omitzero"`
	CreatedBy string    `json:"createdBy"`
	Comment   string    `json:"comment,omitempty"`
	Empty     bool      `json:"empty,omitempty"` // it made no layer
}

// maxConfig bounds what is read of the config of an image, in bytes.
const maxConfig = 4 << 20

// Image is what a tag or a digest of a repository leads to. Fails with
// [ErrNotFound].
func (v *Inventory) Image(ctx context.Context, repo oci.Repository, reference string) (*Image, error) {
	desc, err := v.resolve(ctx, repo, reference)
	if err != nil {
		return nil, err
	}
	tags, err := v.tags(ctx, repo)
	if err != nil {
		return nil, err
	}
	pins, err := v.pinned(ctx, repo)
	if err != nil {
		return nil, err
	}
	img := &Image{Repository: repo, Manifest: desc, Tags: []oci.Tag{}, Pinned: pins[desc.Digest.String()]}
	for _, t := range tags {
		if t.Manifest.Digest == desc.Digest {
			img.Tags = append(img.Tags, t.Tag)
			img.Pinned = img.Pinned || pins[t.Tag.String()]
		}
	}
	if _, img.Used, err = v.o.Blobs.Stat(ctx, desc.Digest); err != nil && !errors.Is(err, store.ErrNotFound) {
		return nil, fmt.Errorf("inventory %s: %w", repo, err)
	}
	return img, v.describe(ctx, img)
}

// resolve is where a tag or digest of a repository leads.
func (v *Inventory) resolve(ctx context.Context, repo oci.Repository, reference string) (oci.Descriptor, error) {
	if tag, err := oci.ParseTag(reference); err == nil {
		e, err := v.o.Refs.Tag(ctx, repo, tag)
		if err != nil {
			return oci.Descriptor{}, fmt.Errorf("%w: %s:%s: %w", ErrNotFound, repo, tag, err)
		}
		return e.Manifest, nil
	}
	d, err := oci.ParseDigest(reference)
	if err != nil {
		return oci.Descriptor{}, fmt.Errorf("%w: %s is neither a tag nor a digest", ErrNotFound, reference)
	}
	desc, err := v.o.Refs.Link(ctx, repo, d)
	if err != nil || desc.MediaType != "" && !oci.IsManifestType(desc.MediaType) {
		return oci.Descriptor{}, fmt.Errorf("%w: %s@%s", ErrNotFound, repo, d)
	}
	return desc, nil
}

// describe fills in what the manifest says.
func (v *Inventory) describe(ctx context.Context, img *Image) error {
	m, g, err := v.graph(ctx, img.Manifest)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	img.Here, img.Manifest.Size = true, m.Descriptor.Size
	img.Annotations = g.Annotations
	if !g.Subject.Digest.IsZero() {
		img.Subject, img.ArtifactType = &g.Subject, g.ArtifactType
	}
	t := &tally{seen: make(map[oci.Digest]bool)}
	if img.Complete, err = v.complete(ctx, img.Manifest, t, 0); err != nil {
		return err
	}
	img.Size = t.size
	for _, d := range g.Manifests {
		c := Child{Descriptor: d}
		if c.Here, err = v.here(ctx, d.Digest); err != nil {
			return err
		}
		below := &tally{seen: make(map[oci.Digest]bool)}
		if c.Complete, err = v.complete(ctx, d, below, 1); err != nil {
			return err
		}
		c.Total = below.size
		img.Platforms = append(img.Platforms, c)
	}
	for i, d := range g.Blobs {
		p := Part{Descriptor: d}
		if p.Here, err = v.here(ctx, d.Digest); err != nil {
			return err
		}
		if i == 0 && img.Config == nil && isImage(img.Manifest.MediaType) {
			img.Config = &p
			continue
		}
		img.Layers = append(img.Layers, p)
	}
	return v.history(ctx, img)
}

func isImage(mediaType string) bool {
	return mediaType == oci.MediaTypeImageManifest || mediaType == oci.MediaTypeDockerManifest
}

// graph reads a manifest that is here. What cannot be understood refers to nothing.
func (v *Inventory) graph(ctx context.Context, d oci.Descriptor) (oci.Manifest, oci.Graph, error) {
	m, err := v.manifest(ctx, d)
	if err != nil {
		return m, oci.Graph{}, fmt.Errorf("inventory %s: %w", d.Digest, err)
	}
	g, err := m.Graph()
	if err != nil {
		v.o.Log.Warn("manifest not understood", "digest", d.Digest, "err", err)
	}
	return m, g, nil
}

func (v *Inventory) here(ctx context.Context, d oci.Digest) (bool, error) {
	_, _, err := v.o.Blobs.Stat(ctx, d)
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// maxDepth bounds indexes of indexes.
const maxDepth = 8

// A tally adds up what is here.
type tally struct {
	seen map[oci.Digest]bool
	size int64
}

// complete tells whether a manifest and all that it refers to is here. Layers that
// are kept elsewhere by their URLs need not be.
func (v *Inventory) complete(ctx context.Context, d oci.Descriptor, t *tally, depth int) (bool, error) {
	if !t.add(ctx, v, d.Digest) {
		return false, nil
	}
	_, g, err := v.graph(ctx, d)
	if err != nil {
		return false, err
	}
	all := depth < maxDepth
	for _, b := range g.Blobs {
		if !t.add(ctx, v, b.Digest) && len(b.URLs) == 0 {
			all = false
		}
	}
	for _, m := range g.Manifests {
		if depth >= maxDepth {
			break
		}
		whole, err := v.complete(ctx, m, t, depth+1)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return false, err
		}
		all = all && whole
	}
	return all, nil
}

// add counts a digest once and tells whether it is here.
func (t *tally) add(ctx context.Context, v *Inventory, d oci.Digest) bool {
	if here, seen := t.seen[d]; seen {
		return here
	}
	size, _, err := v.o.Blobs.Stat(ctx, d)
	t.seen[d] = err == nil
	t.size += size
	return err == nil
}

// history reads what the config of an image tells, if that is here.
func (v *Inventory) history(ctx context.Context, img *Image) error {
	if img.Config == nil || !img.Config.Here {
		return nil
	}
	b, err := store.ReadAll(ctx, v.o.Blobs, img.Config.Digest, maxConfig)
	if err != nil {
		return nil //nolint:nilerr // it is told by its being absent
	}
	var doc struct {
		oci.Platform
		Created time.Time `json:"created"`
		History []struct {
			Created   time.Time `json:"created"`
			CreatedBy string    `json:"created_by"`
			Comment   string    `json:"comment"`
			Empty     bool      `json:"empty_layer"`
		} `json:"history"`
	}
	_ = json.Unmarshal(b, &doc) // an artifact's config may be anything, and then tells nothing
	if doc.OS != "" || doc.Architecture != "" {
		img.Platform = &doc.Platform
	}
	img.Created = doc.Created
	for _, h := range doc.History {
		img.History = append(img.History, Step{h.Created, h.CreatedBy, h.Comment, h.Empty})
	}
	return nil
}

// children of an index and all below them, the manifest itself first. What is not
// here has none.
func (v *Inventory) closure(ctx context.Context, root oci.Descriptor) (manifests []oci.Descriptor, blobs []oci.Digest, err error) {
	seen := map[oci.Digest]bool{root.Digest: true}
	manifests = []oci.Descriptor{root}
	for i := 0; i < len(manifests); i++ {
		_, g, err := v.graph(ctx, manifests[i])
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		for _, m := range g.Manifests {
			if !seen[m.Digest] {
				seen[m.Digest] = true
				manifests = append(manifests, m)
			}
		}
		for _, b := range g.Blobs {
			if !seen[b.Digest] {
				seen[b.Digest] = true
				blobs = append(blobs, b.Digest)
			}
		}
	}
	return slices.Clip(manifests), blobs, nil
}
