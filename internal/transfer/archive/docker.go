package archive

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"sampan/internal/oci"
	"sampan/internal/transfer/layout"
)

// Media types of what is made of an archive of Docker, which has no manifests.
const (
	typeConfig = "application/vnd.oci.image.config.v1+json"
	typeLayer  = "application/vnd.oci.image.layer.v1.tar"
)

const (
	maxDockerImages = 10_000
	maxLayers       = 4096 // of one image
)

// dockerReader makes manifests for the images of `docker save`. Layers are as they are
// in the archive: the same archive gives the same manifests, which are not those that
// the images had at a registry.
type dockerReader struct {
	*contents
	options layout.Options
	made    map[oci.Digest][]byte
	images  []layout.Image
	sums    map[region]oci.Descriptor // of layers
}

func readDocker(c *contents, raw []byte, o layout.Options) (*layout.Layout, error) {
	var images []dockerImage
	if err := json.Unmarshal(raw, &images); err != nil || len(images) > maxDockerImages {
		return nil, fmt.Errorf("%w: %s cannot be read", ErrArchive, dockerIs)
	}
	d := &dockerReader{c, o, map[oci.Digest][]byte{}, nil, map[region]oci.Descriptor{}}
	for _, i := range images {
		if err := d.add(i); err != nil {
			return nil, fmt.Errorf("%w: %s: %w", ErrArchive, dockerIs, err)
		}
	}
	index, err := layout.MarshalIndex(d.images, nil)
	if err != nil {
		return nil, err
	}
	l, err := layout.New(index, tarBlobs{c, d.made}, o)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrArchive, err)
	}
	return l, nil
}

func (d *dockerReader) add(i dockerImage) error {
	config, err := d.document(i.Config)
	if err != nil {
		return err
	}
	if config == nil {
		return fmt.Errorf("the configuration %.100q is missing", i.Config)
	}
	var doc struct {
		RootFS struct {
			DiffIDs []oci.Digest `json:"diff_ids"`
		} `json:"rootfs"`
	}
	if err := json.Unmarshal(config, &doc); err != nil {
		return fmt.Errorf("the configuration %.100q cannot be read: %w", i.Config, err)
	}
	if len(doc.RootFS.DiffIDs) != len(i.Layers) || len(i.Layers) > maxLayers {
		return fmt.Errorf("the configuration %.100q has %d layers, and not %d", i.Config, len(doc.RootFS.DiffIDs), len(i.Layers))
	}
	layers := []oci.Descriptor{}
	for n, name := range i.Layers {
		l, err := d.layer(name, doc.RootFS.DiffIDs[n])
		if err != nil {
			return err
		}
		layers = append(layers, l)
	}
	return d.name(i, config, layers)
}

// name adds the manifest of an image under all its names.
func (d *dockerReader) name(i dockerImage, config []byte, layers []oci.Descriptor) error {
	c := oci.Descriptor{MediaType: typeConfig, Digest: oci.DigestOf(config), Size: int64(len(config))}
	d.made[c.Digest] = config
	raw, err := json.Marshal(struct {
		SchemaVersion int              `json:"schemaVersion"`
		MediaType     string           `json:"mediaType"`
		Config        oci.Descriptor   `json:"config"`
		Layers        []oci.Descriptor `json:"layers"`
	}{2, oci.MediaTypeImageManifest, c, layers})
	if err != nil {
		return err
	}
	m := oci.Descriptor{MediaType: oci.MediaTypeImageManifest, Digest: oci.DigestOf(raw), Size: int64(len(raw))}
	d.made[m.Digest] = raw
	if len(i.RepoTags) == 0 {
		d.images = append(d.images, layout.Image{Descriptor: m})
	}
	for _, name := range i.RepoTags {
		ref, err := oci.ParseReference(name)
		if err != nil {
			return err
		}
		d.images = append(d.images, layout.Image{Ref: ref, Named: true, Descriptor: m})
	}
	return nil
}

// layer is what a file of the archive is as a layer. The digest of one that is not
// compressed is in the configuration, which whoever reads the layer proves.
func (d *dockerReader) layer(name string, diff oci.Digest) (oci.Descriptor, error) {
	r, ok := d.find(name)
	if !ok || diff.IsZero() {
		return oci.Descriptor{}, fmt.Errorf("the layer %.100q is missing", name)
	}
	if l, ok := d.sums[r]; ok {
		return l, nil
	}
	l := oci.Descriptor{MediaType: typeLayer, Digest: diff, Size: r.size}
	magic := make([]byte, min(4, r.size))
	if _, err := io.ReadFull(d.section(r), magic); err != nil {
		return oci.Descriptor{}, fmt.Errorf("the layer %.100q: %w", name, err)
	}
	switch {
	case strings.HasPrefix(string(magic), gzipMagic):
		l.MediaType += "+gzip"
	case string(magic) == zstdMagic:
		l.MediaType += "+zstd"
	}
	if l.MediaType != typeLayer {
		h := diff.Hash()
		if _, err := io.Copy(h, d.section(r)); err != nil {
			return oci.Descriptor{}, fmt.Errorf("the layer %.100q: %w", name, err)
		}
		digest, err := oci.ParseDigest(fmt.Sprintf("%s:%x", diff.Algorithm(), h.Sum(nil)))
		if err != nil {
			return oci.Descriptor{}, err
		}
		l.Digest = digest
	}
	d.sums[r] = l
	if _, ok := d.blobs[l.Digest]; !ok {
		d.blobs[l.Digest] = r
	}
	return l, nil
}
