package registrytest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"maps"
	"slices"
	"strconv"

	"sampan/internal/oci"
)

// Media types of what the manifests made here point at.
const (
	octets           = "application/octet-stream"
	ociConfig        = "application/vnd.oci.image.config.v1+json"
	ociLayer         = "application/vnd.oci.image.layer.v1.tar+gzip"
	ociLayerZstd     = "application/vnd.oci.image.layer.v1.tar+zstd"
	dockerConfig     = "application/vnd.docker.container.image.v1+json"
	dockerLayer      = "application/vnd.docker.image.rootfs.diff.tar.gzip"
	emptyType        = "application/vnd.oci.empty.v1+json"
	helmConfig       = "application/vnd.cncf.helm.config.v1+json"
	helmChart        = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
	emptyConfigBytes = "{}"
)

// An ImageSpec says what [Registry.AddImage] generates. The zero value is one
// layer of 64 KiB for linux/amd64, without an index.
type ImageSpec struct {
	// Layers are sizes in bytes. Their content is noise, whatever their media
	// type says: clients that unpack need Files. Nil is one of 64 KiB, unless
	// there are Files.
	Layers []int64
	// Files are the content of one more, real layer, a gzipped tar; the key is
	// the path without a slash at its start. Every file is executable.
	Files map[string]string
	// Platforms makes an index of one image per platform, each with layers of
	// its own. None makes an image without index.
	Platforms []oci.Platform
	// Docker uses Docker's media types instead of the image specification's.
	Docker bool
	// Zstd labels the layers as zstd instead of gzip.
	Zstd bool
	// Seed chooses the noise; the same spec is the same image.
	Seed uint64
	// Annotations of the manifests; part of their bytes.
	Annotations map[string]string
}

// An Image is what was generated.
type Image struct {
	// Manifest is what the tag points at: the index if there is one.
	Manifest oci.Manifest
	// Platforms are the image manifests in the order of the spec, one if there
	// is no index.
	Platforms []oci.Manifest
	// Configs has the config blob of each of Platforms.
	Configs []oci.Descriptor
	// Layers has the layers of each of Platforms.
	Layers [][]oci.Descriptor
}

// Blobs returns all configs and layers.
func (i Image) Blobs() []oci.Descriptor {
	return slices.Concat(i.Configs, slices.Concat(i.Layers...))
}

// manifestDoc is a manifest of either family.
type manifestDoc struct {
	SchemaVersion int               `json:"schemaVersion"`
	MediaType     string            `json:"mediaType,omitempty"`
	ArtifactType  string            `json:"artifactType,omitempty"`
	Config        *oci.Descriptor   `json:"config,omitempty"`
	Layers        []oci.Descriptor  `json:"layers,omitempty"`
	Manifests     []oci.Descriptor  `json:"manifests,omitempty"`
	Subject       *oci.Descriptor   `json:"subject,omitempty"`
	Annotations   map[string]string `json:"annotations,omitempty"`
}

// AddImage generates an image and points the tag at it; an empty tag leaves it
// reachable by digest alone.
func (r *Registry) AddImage(repo, tag string, spec ImageSpec) Image {
	platforms := spec.Platforms
	if len(platforms) == 0 {
		platforms = []oci.Platform{{OS: "linux", Architecture: "amd64"}}
	}
	var img Image
	var children []oci.Descriptor
	for i, p := range platforms {
		m, config, layers := r.addPlatform(repo, spec, i, p)
		img.Platforms = append(img.Platforms, m)
		img.Configs = append(img.Configs, config)
		img.Layers = append(img.Layers, layers)
		child := m.Descriptor
		child.Platform = &p
		children = append(children, child)
	}
	if len(spec.Platforms) == 0 {
		img.Manifest = img.Platforms[0]
		if tag != "" {
			r.SetTag(repo, tag, img.Manifest.Descriptor.Digest)
		}
		return img
	}
	mediaType := oci.MediaTypeImageIndex
	if spec.Docker {
		mediaType = oci.MediaTypeDockerList
	}
	img.Manifest = r.AddManifest(repo, tag, mediaType, encode(manifestDoc{
		SchemaVersion: 2, MediaType: mediaType, Manifests: children, Annotations: spec.Annotations,
	}))
	return img
}

// addPlatform generates the image of the nth platform.
func (r *Registry) addPlatform(repo string, spec ImageSpec, n int, p oci.Platform) (oci.Manifest, oci.Descriptor, []oci.Descriptor) {
	mediaType, configType, layerType := oci.MediaTypeImageManifest, ociConfig, ociLayer
	switch {
	case spec.Docker:
		mediaType, configType, layerType = oci.MediaTypeDockerManifest, dockerConfig, dockerLayer
	case spec.Zstd:
		layerType = ociLayerZstd
	}
	sizes := spec.Layers
	if sizes == nil && spec.Files == nil {
		sizes = []int64{64 << 10}
	}
	var layers []oci.Descriptor
	var diffs []oci.Digest
	if spec.Files != nil {
		packed, diff := pack(spec.Files)
		layers = append(layers, r.AddBytes(repo, layerType, packed))
		diffs = append(diffs, diff)
	}
	for i, size := range sizes {
		seed := mix(mix(spec.Seed+uint64(n)<<32) + uint64(i)) // platforms and layers all differ
		d := r.AddBlob(repo, size, seed)
		d.MediaType = layerType
		layers = append(layers, d)
		diffs = append(diffs, d.Digest)
	}
	config := r.AddBytes(repo, configType, encode(map[string]any{
		"architecture": p.Architecture, "os": p.OS, "variant": p.Variant, "os.version": p.OSVersion,
		"config": map[string]any{"Cmd": []string{"/bin/sh"}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": diffs},
		"author": "registrytest", "created": "2024-01-01T00:00:00Z",
		"history": []any{map[string]any{"comment": "seed", "created_by": strconv.FormatUint(spec.Seed, 10), "empty_layer": true}},
	}))
	m := r.AddManifest(repo, "", mediaType, encode(manifestDoc{
		SchemaVersion: 2, MediaType: mediaType, Config: &config, Layers: layers, Annotations: spec.Annotations,
	}))
	return m, config, layers
}

// AddBlob generates a blob of size bytes from a seed, under its sha256 digest.
// The same size and seed are the same blob, in any repository and process.
func (r *Registry) AddBlob(repo string, size int64, seed uint64) oci.Descriptor {
	b := r.content.generate("sha256", size, seed)
	r.content.addBlob(repo, b)
	return b.desc
}

// AddBlobSHA512 is AddBlob under the sha512 digest.
func (r *Registry) AddBlobSHA512(repo string, size int64, seed uint64) oci.Descriptor {
	b := r.content.generate("sha512", size, seed)
	r.content.addBlob(repo, b)
	return b.desc
}

// AddBytes adds a blob of given bytes, which must not change afterwards.
func (r *Registry) AddBytes(repo, mediaType string, data []byte) oci.Descriptor {
	b := literal(mediaType, data)
	r.content.addBlob(repo, b)
	return b.desc
}

// AddManifest adds given bytes as a manifest, without looking at them, and
// points the tag at it unless that is empty. The bytes must not change
// afterwards.
func (r *Registry) AddManifest(repo, tag, mediaType string, data []byte) oci.Manifest {
	b := literal(mediaType, data)
	r.content.addManifest(repo, tag, b)
	return oci.Manifest{Descriptor: b.desc, Bytes: data}
}

// AddArtifact adds an artifact of one small blob that is attached to subject,
// whose zero value attaches it to nothing. The tag may be empty.
func (r *Registry) AddArtifact(repo, tag, artifactType string, subject oci.Descriptor, data []byte) oci.Manifest {
	config := r.AddBytes(repo, emptyType, []byte(emptyConfigBytes))
	doc := manifestDoc{
		SchemaVersion: 2, MediaType: oci.MediaTypeImageManifest, ArtifactType: artifactType,
		Config: &config, Layers: []oci.Descriptor{r.AddBytes(repo, artifactType, data)},
	}
	if !subject.Digest.IsZero() {
		doc.Subject = &oci.Descriptor{MediaType: subject.MediaType, Digest: subject.Digest, Size: subject.Size}
	}
	return r.AddManifest(repo, tag, oci.MediaTypeImageManifest, encode(doc))
}

// AddChart adds a Helm chart with the given name and version, which is also its
// tag.
func (r *Registry) AddChart(repo, name, version string) oci.Manifest {
	chart := "apiVersion: v2\nname: " + name + "\nversion: " + version + "\n"
	packed, _ := pack(map[string]string{name + "/Chart.yaml": chart, name + "/values.yaml": "{}\n"})
	config := r.AddBytes(repo, helmConfig, encode(map[string]string{"apiVersion": "v2", "name": name, "version": version}))
	return r.AddManifest(repo, version, oci.MediaTypeImageManifest, encode(manifestDoc{
		SchemaVersion: 2, MediaType: oci.MediaTypeImageManifest, Config: &config,
		Layers: []oci.Descriptor{r.AddBytes(repo, helmChart, packed)},
	}))
}

// SetTag points a tag at a manifest, which need not exist.
func (r *Registry) SetTag(repo, tag string, d oci.Digest) {
	r.content.mu.Lock()
	defer r.content.mu.Unlock()
	r.content.repo(repo).setTag(tag, d)
}

// Remove forgets a tag, or the manifest or blob of a digest, in one repository.
// What is not there is no error.
func (r *Registry) Remove(repo, ref string) {
	r.content.mu.Lock()
	defer r.content.mu.Unlock()
	p := r.content.repos[repo]
	if p == nil {
		return
	}
	if d, err := oci.ParseDigest(ref); err == nil {
		delete(p.manifests, d)
		delete(p.blobs, d)
		return
	}
	delete(p.tags, ref)
	p.order = slices.DeleteFunc(p.order, func(t string) bool { return t == ref })
}

// RemoveRepository forgets a repository.
func (r *Registry) RemoveRepository(repo string) {
	r.content.mu.Lock()
	defer r.content.mu.Unlock()
	delete(r.content.repos, repo)
}

// Content returns the right bytes of a blob or manifest that was added, whatever
// the behaviour; nil for what was not. It may be used concurrently.
func (r *Registry) Content(d oci.Digest) io.ReaderAt {
	if b := r.content.anyBlob(d); b != nil {
		return b.src
	}
	return nil
}

// encode cannot fail for the values of this package.
func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic("registrytest: " + err.Error())
	}
	return b
}

// pack returns the gzipped tar of files and the digest of the tar itself.
// Writing to memory cannot fail.
func pack(files map[string]string) ([]byte, oci.Digest) {
	var plain bytes.Buffer
	tw := tar.NewWriter(&plain)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		_ = tw.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o755, Size: int64(len(files[name]))})
		_, _ = io.WriteString(tw, files[name])
	}
	_ = tw.Close()
	var packed bytes.Buffer
	zw := gzip.NewWriter(&packed)
	_, _ = zw.Write(plain.Bytes())
	_ = zw.Close()
	return packed.Bytes(), oci.DigestOf(plain.Bytes())
}
