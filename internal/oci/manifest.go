package oci

import (
	"encoding/json"
	"maps"
	"slices"
)

// Media types of manifests, as the image specification and Docker name them.
const (
	MediaTypeImageIndex       = "application/vnd.oci.image.index.v1+json"
	MediaTypeImageManifest    = "application/vnd.oci.image.manifest.v1+json"
	MediaTypeArtifactManifest = "application/vnd.oci.artifact.manifest.v1+json"
	MediaTypeDockerList       = "application/vnd.docker.distribution.manifest.list.v2+json"
	MediaTypeDockerManifest   = "application/vnd.docker.distribution.manifest.v2+json"
	MediaTypeDockerSchema1    = "application/vnd.docker.distribution.manifest.v1+json"
	MediaTypeDockerSchema1JWS = "application/vnd.docker.distribution.manifest.v1+prettyjws"
)

// MaxManifestSize bounds a manifest, in bytes. The specification asks for at
// least 4 MiB.
const MaxManifestSize = 8 << 20

// A Platform tells what a manifest of an index runs on.
type Platform struct {
	Architecture string   `json:"architecture"`
	OS           string   `json:"os"`
	OSVersion    string   `json:"os.version,omitempty"`
	OSFeatures   []string `json:"os.features,omitempty"`
	Variant      string   `json:"variant,omitempty"`
}

// A Descriptor points at content (image specification, "Content Descriptors").
type Descriptor struct {
	MediaType    string            `json:"mediaType"`
	Digest       Digest            `json:"digest"`
	Size         int64             `json:"size"` // bytes; -1 where the method says it may be unknown
	URLs         []string          `json:"urls,omitempty"`
	Annotations  map[string]string `json:"annotations,omitempty"`
	Platform     *Platform         `json:"platform,omitempty"`
	ArtifactType string            `json:"artifactType,omitempty"`
}

// A Manifest is the exact bytes of a manifest with what they are.
type Manifest struct {
	// Descriptor has media type, digest and size.
	Descriptor Descriptor
	// Bytes must not be changed: they are shared.
	Bytes []byte
}

// A Graph is what a manifest says of other content.
type Graph struct {
	// Manifests are the children of an index.
	Manifests []Descriptor
	// Blobs are the config and the layers of an image or artifact.
	Blobs []Descriptor
	// Subject is what the manifest is attached to; zero Digest for none.
	Subject Descriptor
	// ArtifactType as the referrers API defines it: the manifest's own, or else
	// the media type of its config.
	ArtifactType string
	// Annotations of the manifest itself.
	Annotations map[string]string
}

// IsManifestType tells whether a media type is one of the manifests above.
func IsManifestType(mediaType string) bool {
	switch mediaType {
	case MediaTypeImageIndex, MediaTypeImageManifest, MediaTypeArtifactManifest, MediaTypeDockerList,
		MediaTypeDockerManifest, MediaTypeDockerSchema1, MediaTypeDockerSchema1JWS:
		return true
	default:
		return false
	}
}

// Graph parses the manifest. A manifest that cannot be understood is
// MANIFEST_INVALID; unknown media types are read by their fields.
func (m Manifest) Graph() (Graph, error) {
	var doc struct {
		Config       *Descriptor       `json:"config"`
		Layers       []Descriptor      `json:"layers"`
		Blobs        []Descriptor      `json:"blobs"` // artifact manifests
		Manifests    []Descriptor      `json:"manifests"`
		Subject      *Descriptor       `json:"subject"`
		ArtifactType string            `json:"artifactType"`
		Annotations  map[string]string `json:"annotations"`
		FSLayers     []struct {
			BlobSum Digest `json:"blobSum"`
		} `json:"fsLayers"` // Docker schema 1
	}
	if err := json.Unmarshal(m.Bytes, &doc); err != nil {
		return Graph{}, Errorf(CodeManifestInvalid, "manifest %s cannot be read: %w", m.Descriptor.Digest, err)
	}
	g := Graph{
		Manifests:    doc.Manifests,
		ArtifactType: doc.ArtifactType,
		Annotations:  maps.Clone(doc.Annotations),
	}
	if doc.Config != nil {
		g.Blobs = append(g.Blobs, *doc.Config)
		if g.ArtifactType == "" {
			g.ArtifactType = doc.Config.MediaType
		}
	}
	g.Blobs = slices.Concat(g.Blobs, doc.Layers, doc.Blobs)
	if doc.Subject != nil {
		g.Subject = *doc.Subject
	}
	for _, d := range slices.Concat(g.Manifests, g.Blobs, []Descriptor{g.Subject}) {
		if d.Size < 0 {
			return Graph{}, Errorf(CodeManifestInvalid, "manifest %s has a descriptor of negative size", m.Descriptor.Digest)
		}
	}
	for _, l := range doc.FSLayers {
		g.Blobs = append(g.Blobs, Descriptor{Digest: l.BlobSum, Size: -1})
	}
	for _, d := range slices.Concat(g.Manifests, g.Blobs) {
		if d.Digest.IsZero() {
			return Graph{}, Errorf(CodeManifestInvalid, "manifest %s has a descriptor without digest", m.Descriptor.Digest)
		}
	}
	return g, nil
}
