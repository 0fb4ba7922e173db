// Package layout is an OCI image layout (image specification, "OCI Image Layout
// Specification") as an [oci.Reader], and a writer of layouts in directories.
//
// It promises:
//   - nothing in a layout is believed: an index is bounded, a manifest is returned
//     only after its digest was proven, and the last byte of a blob only after that of
//     all of it was;
//   - content is found by digest alone. No name that a layout holds becomes a path, and
//     no link in a directory is followed out of it;
//   - a repository answers for what its own images name, and for nothing else that
//     happens to lie beside it;
//   - what is written appears under its final name only when it is complete, proven and
//     synced, and the index after all that it names.
//
// It does not know archives, registries or compression: [Blobs] is where content comes
// from, whatever holds it.
//
// Lock order: Layout.mu and Dir.mu are leaves, but that Layout.mu is held while
// manifests are read from Blobs.
package layout

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"strings"

	"sampan/internal/oci"
)

// The names of files of a layout.
const (
	// File marks a layout, and holds [Marker].
	File = "oci-layout"
	// IndexFile names the images of a layout.
	IndexFile = "index.json"
	// Marker is what is written to [File].
	Marker = `{"imageLayoutVersion":"1.0.0"}`
)

// The annotations of an index by which programs name images. Docker and containerd
// read the first, Podman and Skopeo the second.
const (
	AnnotationImageName = "io.containerd.image.name"
	AnnotationRefName   = "org.opencontainers.image.ref.name"
)

// Bounds on what is read.
const (
	maxIndex  = 16 << 20 // bytes of an index.json
	maxImages = 50_000   // entries of an index.json
	maxGraph  = 200_000  // descriptors that the images of one repository name
	maxDepth  = 8        // of indexes within indexes
)

// Unnamed is the repository of images that have no name in a layout, for want of
// another.
const Unnamed = "localhost/unnamed"

// Text chooses the language of what a person reads.
type Text func(english, chinese string) string

// English is a [Text].
func English(english, _ string) string { return english }

// Blobs is where the content of a layout comes from.
type Blobs interface {
	// Open opens what claims to have a digest; nobody has proven it. The error is
	// [fs.ErrNotExist] where it is not here.
	Open(digest oci.Digest) (Content, error)
}

// Content is some bytes that can be read at any offset, by one goroutine.
type Content struct {
	io.ReaderAt
	Size  int64        // bytes
	Close func() error // nil for nothing to close
}

// An Image is one entry of a layout.
type Image struct {
	// Ref names the image. Its repository is Options.Base where the layout does not
	// tell one; its tag and digest are zero where it has none.
	Ref oci.Reference
	// Named tells that the layout itself told the repository.
	Named bool
	// Descriptor is what the name stands for, without the annotations that name it.
	Descriptor oci.Descriptor
}

// Options say how to read a layout.
type Options struct {
	// Base is the repository of images for which the layout tells none; zero means
	// [Unnamed].
	Base oci.Repository
	// Text is the language of errors; nil means English.
	Text Text
}

func (o Options) text(english, chinese string) string {
	if o.Text == nil {
		return english
	}
	return o.Text(english, chinese)
}

// index is what is read of an index.json, and written.
type index struct {
	SchemaVersion int              `json:"schemaVersion"`
	MediaType     string           `json:"mediaType"`
	Manifests     []oci.Descriptor `json:"manifests"`

	Annotations map[string]string `json:"annotations,omitempty"`
}

// annotationBefore holds, as JSON, the digests of blobs that a layout leaves out, and the
// repositories in which those who get it have them.
const annotationBefore = "dev.sampan.before"

// parseBefore reads where blobs are that an index.json says to be left out. It is a
// hint: what cannot be read is none.
func parseBefore(raw []byte) map[oci.Digest]oci.Repository {
	var doc struct {
		Annotations map[string]string `json:"annotations"`
	}
	var names map[string]string
	if json.Unmarshal(raw, &doc) != nil || json.Unmarshal([]byte(doc.Annotations[annotationBefore]), &names) != nil {
		return nil
	}
	before := make(map[oci.Digest]oci.Repository)
	for d, name := range names {
		digest, err := oci.ParseDigest(d)
		if err != nil {
			continue
		}
		if repo, err := oci.ParseRepository(name); err == nil {
			before[digest] = repo
		}
	}
	return before
}

// parseIndex reads an index.json. Two different images of one name are refused, the
// same one twice is one.
func parseIndex(raw []byte, o Options) ([]Image, error) {
	var doc index
	if err := json.Unmarshal(raw, &doc); err != nil {
		return nil, fmt.Errorf(o.text("%s cannot be read: %w", "无法解析 %s：%w"), IndexFile, err)
	}
	if len(doc.Manifests) > maxImages {
		return nil, fmt.Errorf(o.text("%s names more than %d images", "%s 中的镜像超过 %d 个"), IndexFile, maxImages)
	}
	if o.Base.IsZero() {
		base, err := oci.ParseRepository(Unnamed)
		if err != nil {
			return nil, err
		}
		o.Base = base
	}
	images := make([]Image, 0, len(doc.Manifests))
	seen := make(map[string]oci.Digest)
	for _, d := range doc.Manifests {
		if d.Digest.IsZero() || d.Size < 0 || d.Size > oci.MaxManifestSize {
			return nil, fmt.Errorf(o.text("%s has an entry without a valid digest and size", "%s 中有条目缺少有效的摘要或大小"), IndexFile)
		}
		image, err := imageOf(d, o.Base)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", IndexFile, err)
		}
		name := image.Ref.String()
		if image.Ref.Tag.IsZero() {
			name += "@" + d.Digest.String()
		}
		switch other, ok := seen[name]; {
		case ok && other == d.Digest:
			continue
		case ok:
			return nil, fmt.Errorf(o.text("%s has two images of the name %s", "%s 中有两个名为 %s 的镜像"), IndexFile, name)
		}
		seen[name] = d.Digest
		images = append(images, image)
	}
	return images, nil
}

// imageOf names an entry of an index. A name that is no more than a tag is one of base.
func imageOf(d oci.Descriptor, base oci.Repository) (Image, error) {
	name := d.Annotations[AnnotationImageName]
	if name == "" {
		name = d.Annotations[AnnotationRefName]
	}
	d.Annotations = maps.Clone(d.Annotations)
	delete(d.Annotations, AnnotationImageName)
	delete(d.Annotations, AnnotationRefName)
	if len(d.Annotations) == 0 {
		d.Annotations = nil
	}
	image := Image{Ref: oci.Reference{Repository: base}, Descriptor: d}
	switch {
	case name == "":
	case strings.ContainsAny(name, "/:"):
		ref, err := oci.ParseReference(name)
		if err != nil {
			return Image{}, err
		}
		if !ref.Digest.IsZero() && ref.Digest != d.Digest {
			return Image{}, oci.Errorf(oci.CodeDigestInvalid, "the name %s belongs to another digest than %s", ref, d.Digest)
		}
		image.Ref, image.Named = ref, true
		if ref.Untagged() { // what was not written is not added
			image.Ref.Tag = oci.Tag{}
		}
	default:
		tag, err := oci.ParseTag(name)
		if err != nil {
			return Image{}, err
		}
		image.Ref.Tag = tag
	}
	return image, nil
}

// Descriptor names the image in the way of all programs: what [WriteIndex] writes.
func (i Image) named() oci.Descriptor {
	d := i.Descriptor
	if !i.Named {
		return d
	}
	d.Annotations = maps.Clone(d.Annotations)
	if d.Annotations == nil {
		d.Annotations = make(map[string]string, 2)
	}
	d.Annotations[AnnotationImageName] = i.Ref.String()
	d.Annotations[AnnotationRefName] = i.Ref.String()
	return d
}

// MarshalIndex is the index.json of images, in their order. The same images give the
// same bytes. before tells of blobs that are left out in which repository they are; nil
// for none.
func MarshalIndex(images []Image, before map[oci.Digest]oci.Repository) ([]byte, error) {
	doc := index{SchemaVersion: 2, MediaType: oci.MediaTypeImageIndex, Manifests: []oci.Descriptor{}}
	names := make(map[string]string)
	for digest, repo := range before {
		if !repo.IsZero() {
			names[digest.String()] = repo.String()
		}
	}
	if len(names) > 0 {
		raw, err := json.Marshal(names)
		if err != nil {
			return nil, err
		}
		doc.Annotations = map[string]string{annotationBefore: string(raw)}
	}
	for _, i := range images {
		doc.Manifests = append(doc.Manifests, i.named())
	}
	return json.Marshal(doc)
}
