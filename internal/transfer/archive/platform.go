package archive

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"sampan/internal/oci"
	"sampan/internal/transfer"
)

func platformOf(d oci.Descriptor) string {
	if d.Platform == nil {
		return "unknown"
	}
	return transfer.Platform{OS: d.Platform.OS, Architecture: d.Platform.Architecture, Variant: d.Platform.Variant}.String()
}

// isIndex tells whether a manifest names others.
func isIndex(mediaType string) bool {
	return mediaType == oci.MediaTypeImageIndex || mediaType == oci.MediaTypeDockerList
}

// narrow leaves of an index what the platforms choose. An image that is in no index is
// taken as it is.
func (p *planner) narrow(ctx context.Context, s Source, m oci.Manifest) (oci.Manifest, error) {
	if len(p.options.Platforms) == 0 || !isIndex(m.Descriptor.MediaType) {
		return m, nil
	}
	g, err := m.Graph()
	if err != nil {
		return oci.Manifest{}, err
	}
	var chosen []oci.Descriptor
	for _, platform := range p.options.Platforms {
		n := slices.IndexFunc(g.Manifests, func(d oci.Descriptor) bool { return platform.Matches(d.Platform) })
		if n < 0 {
			return oci.Manifest{}, p.noPlatform(platform, g.Manifests)
		}
		if d := g.Manifests[n]; !slices.ContainsFunc(chosen, func(other oci.Descriptor) bool { return other.Digest == d.Digest }) {
			chosen = append(chosen, d)
		}
	}
	if len(chosen) == 1 {
		child, err := p.child(ctx, s, chosen[0])
		if err != nil || !isIndex(child.Descriptor.MediaType) {
			return child, err
		}
		return p.narrow(ctx, s, child)
	}
	if len(chosen) == len(g.Manifests) {
		return m, nil
	}
	return indexOf(m.Descriptor.MediaType, chosen)
}

func (p *planner) noPlatform(want transfer.Platform, have []oci.Descriptor) error {
	var names []string
	for _, d := range have {
		if name := platformOf(d); !slices.Contains(names, name) && name != "unknown/unknown" {
			names = append(names, name)
		}
	}
	return fmt.Errorf(p.options.text("there is none for %s, but for %s", "没有 %s 的镜像，只有 %s"), want, strings.Join(names, ", "))
}

// indexOf is a new index of manifests.
func indexOf(mediaType string, manifests []oci.Descriptor) (oci.Manifest, error) {
	raw, err := json.Marshal(struct {
		SchemaVersion int              `json:"schemaVersion"`
		MediaType     string           `json:"mediaType"`
		Manifests     []oci.Descriptor `json:"manifests"`
	}{2, mediaType, manifests})
	if err != nil {
		return oci.Manifest{}, err
	}
	return oci.Manifest{Descriptor: oci.Descriptor{MediaType: mediaType, Digest: oci.DigestOf(raw), Size: int64(len(raw))}, Bytes: raw}, nil
}
