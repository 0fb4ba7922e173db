package archive

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"sampan/internal/oci"
	"sampan/internal/transfer"
	"sampan/internal/transfer/layout"
)

// A Format is the form of an archive.
type Format int

const (
	// OCI is a layout in a tar that also holds what `docker load` reads: all programs
	// load it.
	OCI Format = iota
	// Docker is the form of `docker save`, with one platform of each image.
	Docker
)

const (
	block    = 512
	dockerIs = "manifest.json"
)

// A form is where each byte of an archive will be.
type form struct {
	entries []entry
	size    int64 // bytes of the tar
}

// An entry is one file of the tar.
type entry struct {
	header []byte
	at     int64 // of the header
	data   []byte
	digest oci.Digest // of the blob that is the data; zero for data
	size   int64
}

func (e entry) dataAt() int64 { return e.at + int64(len(e.header)) }

func padded(n int64) int64 { return (n + block - 1) / block * block }

// formOf lays a plan out. The same plan has the same form.
func formOf(p *Plan, format Format, text layout.Text) (*form, error) {
	f := new(form)
	images, err := dockerImages(p, format, text)
	if err != nil {
		return nil, err
	}
	if format == Docker {
		return f, f.addDocker(p, images)
	}
	index, err := layout.MarshalIndex(p.images, p.before())
	if err != nil {
		return nil, err
	}
	if err := errors.Join(f.add(layout.File, []byte(layout.Marker)), f.add(layout.IndexFile, index)); err != nil {
		return nil, err
	}
	if len(images) > 0 {
		if err := f.addJSON(dockerIs, images); err != nil {
			return nil, err
		}
	}
	names := make(map[oci.Digest]bool, len(p.manifests)+len(p.blobs))
	for d := range p.manifests {
		names[d] = true
	}
	for d := range p.blobs {
		names[d] = true
	}
	dir := ""
	for _, digest := range sorted(names) {
		name := layout.BlobPath(digest)
		if d := path.Dir(name); d != dir {
			if dir == "" {
				err = f.addDir("blobs")
			}
			if err = errors.Join(err, f.addDir(d)); err != nil {
				return nil, err
			}
			dir = d
		}
		if m, ok := p.manifests[digest]; ok {
			err = f.add(name, m.Bytes)
		} else {
			err = f.addBlob(name, p.blobs[digest].descriptor)
		}
		if err != nil {
			return nil, err
		}
	}
	f.end()
	return f, nil
}

func (f *form) addDocker(p *Plan, images []dockerImage) error {
	if err := f.addJSON(dockerIs, images); err != nil {
		return err
	}
	added := make(map[string]bool)
	for _, i := range images {
		for n, name := range append([]string{i.Config}, i.Layers...) {
			if added[name] {
				continue
			}
			added[name] = true
			if b, ok := p.blobs[i.digests[n]]; ok { // else the other side has it
				if err := f.addBlob(name, b.descriptor); err != nil {
					return err
				}
			}
		}
	}
	f.end()
	return nil
}

func (f *form) addJSON(name string, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return f.add(name, raw)
}

func (f *form) add(name string, data []byte) error {
	return f.append(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(data))}, entry{data: data})
}

func (f *form) addBlob(name string, d oci.Descriptor) error {
	return f.append(&tar.Header{Name: name, Mode: 0o644, Size: d.Size}, entry{digest: d.Digest})
}

func (f *form) addDir(name string) error {
	return f.append(&tar.Header{Name: name + "/", Mode: 0o755, Typeflag: tar.TypeDir}, entry{})
}

// append adds an entry that belongs to nobody and is of no time.
func (f *form) append(h *tar.Header, e entry) error {
	h.ModTime = time.Unix(0, 0)
	if h.Typeflag == 0 {
		h.Typeflag = tar.TypeReg
	}
	var b bytes.Buffer
	if err := tar.NewWriter(&b).WriteHeader(h); err != nil {
		return fmt.Errorf("%s: %w", h.Name, err)
	}
	e.header, e.at, e.size = b.Bytes(), f.size, h.Size
	f.size = e.dataAt() + padded(e.size)
	f.entries = append(f.entries, e)
	return nil
}

// end adds the two empty blocks.
func (f *form) end() { f.size += 2 * block }

// A dockerImage is one entry of a manifest.json.
type dockerImage struct {
	Config   string
	RepoTags []string
	Layers   []string

	digests []oci.Digest // of Config and Layers
}

// dockerImages are the images as `docker load` reads them: for each of them one
// platform.
func dockerImages(p *Plan, format Format, text layout.Text) ([]dockerImage, error) {
	var images []dockerImage
	at := make(map[oci.Digest]int) // by manifest
	for _, i := range p.images {
		m, g, err := p.onePlatform(i.Descriptor.Digest, 0)
		if err != nil {
			return nil, err
		}
		if !IsImage(g) || !g.Subject.Digest.IsZero() {
			if format == Docker && i.Named {
				return nil, fmt.Errorf(text("%s is no image, which an archive of Docker does not hold; leave --format docker out", "%s 不是镜像，Docker 归档无法容纳；请去掉 --format docker"), i.Ref)
			}
			continue
		}
		n, ok := at[m.Descriptor.Digest]
		if !ok {
			image, err := dockerImageOf(i.Ref, g, format, text)
			if err != nil {
				return nil, err
			}
			n = len(images)
			at[m.Descriptor.Digest] = n
			images = append(images, image)
		}
		if name := tagged(i.Ref); name != "" && !slices.Contains(images[n].RepoTags, name) {
			images[n].RepoTags = append(images[n].RepoTags, name)
		}
	}
	return images, nil
}

// onePlatform is the image that an engine which knows no indexes gets: that of
// linux/amd64, or else the first.
func (p *Plan) onePlatform(digest oci.Digest, depth int) (oci.Manifest, oci.Graph, error) {
	m := p.manifests[digest]
	g, err := m.Graph()
	if err != nil || len(g.Manifests) == 0 || depth > maxDepth {
		return m, g, err
	}
	n := slices.IndexFunc(g.Manifests, func(d oci.Descriptor) bool {
		return transfer.Platform{OS: "linux", Architecture: "amd64"}.Matches(d.Platform)
	})
	return p.onePlatform(g.Manifests[max(n, 0)].Digest, depth+1)
}

// IsImage tells whether a manifest, which is no index, is that of something that runs.
func IsImage(g oci.Graph) bool {
	if len(g.Blobs) == 0 {
		return false
	}
	if !isConfig(g.Blobs[0]) {
		return false
	}
	for _, layer := range g.Blobs[1:] {
		if !strings.Contains(layer.MediaType, "tar") {
			return false
		}
	}
	return true
}

// isConfig tells whether a blob is the configuration of something that runs.
func isConfig(d oci.Descriptor) bool {
	return d.MediaType == "application/vnd.oci.image.config.v1+json" || d.MediaType == "application/vnd.docker.container.image.v1+json"
}

func dockerImageOf(ref oci.Reference, g oci.Graph, format Format, text layout.Text) (dockerImage, error) {
	image := dockerImage{RepoTags: nil, Layers: []string{}}
	for n, d := range g.Blobs {
		name := layout.BlobPath(d.Digest)
		if format == Docker {
			switch zipped := strings.HasSuffix(d.MediaType, "gzip"); {
			case n == 0:
				name = d.Digest.Hex() + ".json"
			case strings.HasSuffix(d.MediaType, "zstd"):
				return image, fmt.Errorf(text("%s has layers compressed with zstd, which an archive of Docker does not hold; leave --format docker out", "%s 的层使用 zstd 压缩，Docker 归档无法容纳；请去掉 --format docker"), ref)
			case zipped:
				name = d.Digest.Hex() + ".tar.gz"
			default:
				name = d.Digest.Hex() + ".tar"
			}
		}
		if n == 0 {
			image.Config = name
		} else {
			image.Layers = append(image.Layers, name)
		}
		image.digests = append(image.digests, d.Digest)
	}
	return image, nil
}

// tagged is a name with its tag, in full: Podman takes "nginx:1" for one of localhost.
// Empty where there is no tag.
func tagged(ref oci.Reference) string {
	if ref.Tag.IsZero() {
		return ""
	}
	return ref.Repository.String() + ":" + ref.Tag.String()
}
