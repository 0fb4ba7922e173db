// Package proof is how a client shows that it uses a mirror: an image that mirrors
// have and registries do not.
//
// Every registry that a mirror serves has, at this mirror, the repository
// library/sampan-proof, with one tiny image for all common platforms under any tag. A
// runtime that pulls it by the registry's name was answered by a mirror. The image is
// the same bytes always: a tag that nobody used before ([Nonce]) is what makes sure
// that it was asked for just now.
//
// [Reader] puts that repository in front of another [oci.Reader]. It promises that
// everything else is the other's, and asks and keeps nothing. It does not decide who
// may pull.
package proof

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/rand"
	"encoding/json"
	"strings"
	"time"

	"sampan/internal/oci"
)

// Path is the repository in every registry.
const Path = "library/sampan-proof"

// Text is the content of the file /sampan-proof.txt of the image.
const Text = "A mirror by sampan has answered.\n"

// Serves tells whether a repository is the one of the proof.
func Serves(repo oci.Repository) bool { return repo.Path() == Path }

// Nonce is a tag that nobody used before.
func Nonce() oci.Tag {
	tag, err := oci.ParseTag(strings.ToLower(rand.Text()))
	if err != nil {
		panic("proof: " + err.Error()) // base32 is a tag
	}
	return tag
}

// Reference is the image at a registry.
func Reference(registry oci.Registry, tag oci.Tag) (oci.Reference, error) {
	repo, err := registry.Repository(Path)
	return oci.Reference{Repository: repo, Tag: tag}, err
}

// Digest is that of the image, whatever its tag.
func Digest() oci.Digest { return build().index.Descriptor.Digest }

const (
	configType = "application/vnd.oci.image.config.v1+json"
	layerType  = "application/vnd.oci.image.layer.v1.tar+gzip"
)

// platforms are those that runtimes ask for.
func platforms() []oci.Platform {
	return []oci.Platform{
		{OS: "linux", Architecture: "amd64"},
		{OS: "linux", Architecture: "arm64", Variant: "v8"},
		{OS: "linux", Architecture: "arm", Variant: "v7"},
		{OS: "linux", Architecture: "386"},
		{OS: "linux", Architecture: "ppc64le"},
		{OS: "linux", Architecture: "riscv64"},
		{OS: "linux", Architecture: "s390x"},
	}
}

// An image is all of it.
type image struct {
	index     oci.Manifest
	manifests map[oci.Digest]oci.Manifest
	blobs     map[oci.Digest][]byte
}

// build makes the image: the same bytes each time.
func build() *image {
	i := &image{manifests: make(map[oci.Digest]oci.Manifest), blobs: make(map[oci.Digest][]byte)}
	plain, packed := layer()
	layerDesc := i.blob(layerType, packed)
	var children []oci.Descriptor
	for _, p := range platforms() {
		config := i.blob(configType, encode(map[string]any{
			"architecture": p.Architecture, "variant": p.Variant, "os": p.OS,
			"config": map[string]any{},
			"rootfs": map[string]any{"type": "layers", "diff_ids": []string{oci.DigestOf(plain).String()}},
		}))
		child := i.manifest(oci.MediaTypeImageManifest, map[string]any{
			"schemaVersion": 2, "mediaType": oci.MediaTypeImageManifest, "config": config, "layers": []oci.Descriptor{layerDesc},
		}).Descriptor
		child.Platform = &p
		children = append(children, child)
	}
	i.index = i.manifest(oci.MediaTypeImageIndex, map[string]any{
		"schemaVersion": 2, "mediaType": oci.MediaTypeImageIndex, "manifests": children,
	})
	return i
}

func (i *image) blob(mediaType string, content []byte) oci.Descriptor {
	d := oci.DigestOf(content)
	i.blobs[d] = content
	return oci.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(content))}
}

func (i *image) manifest(mediaType string, doc map[string]any) oci.Manifest {
	raw := encode(doc)
	m := oci.Manifest{Descriptor: oci.Descriptor{MediaType: mediaType, Digest: oci.DigestOf(raw), Size: int64(len(raw))}, Bytes: raw}
	i.manifests[m.Descriptor.Digest] = m
	return m
}

// encode is JSON, whose keys are in order.
func encode(v any) []byte {
	raw, err := json.Marshal(v)
	if err != nil {
		panic("proof: " + err.Error()) // strings and numbers
	}
	return raw
}

// layer is the image's one layer, as it is and compressed.
func layer() (plain, packed []byte) {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	err := w.WriteHeader(&tar.Header{
		Name: "sampan-proof.txt", Mode: 0o644, Size: int64(len(Text)), ModTime: time.Unix(0, 0), Typeflag: tar.TypeReg, Format: tar.FormatUSTAR,
	})
	if err == nil {
		_, err = w.Write([]byte(Text))
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		panic("proof: " + err.Error()) // memory takes everything
	}
	var z bytes.Buffer
	c := gzip.NewWriter(&z)
	_, _ = c.Write(out.Bytes()) // memory takes everything
	_ = c.Close()
	return out.Bytes(), z.Bytes()
}
