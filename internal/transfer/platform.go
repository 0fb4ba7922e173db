package transfer

import (
	"fmt"
	"strings"

	"sampan/internal/oci"
)

// A Platform is what a person asks for: "linux/arm64", "linux/arm/v7", "windows/amd64".
// The zero value is none.
type Platform struct{ OS, Architecture, Variant string }

// ParsePlatform reads os/architecture or os/architecture/variant, in lower case;
// an architecture alone is for linux.
func ParsePlatform(s string) (Platform, error) {
	parts := strings.Split(strings.ToLower(strings.TrimSpace(s)), "/")
	if len(parts) == 1 {
		parts = []string{"linux", parts[0]}
	}
	if len(parts) > 3 {
		return Platform{}, fmt.Errorf("%.40q is no platform: write os/architecture or os/architecture/variant", s)
	}
	for _, p := range parts {
		if p == "" || strings.Trim(p, "abcdefghijklmnopqrstuvwxyz0123456789._-") != "" {
			return Platform{}, fmt.Errorf("%.40q is no platform: write os/architecture or os/architecture/variant", s)
		}
	}
	p := Platform{OS: parts[0], Architecture: normal(parts[1])}
	if len(parts) == 3 {
		p.Variant = parts[2]
	}
	if p.Architecture == "arm64" && p.Variant == "v8" { // the only one there is
		p.Variant = ""
	}
	return p, nil
}

// normal is the name that Go and the image specification have for an architecture.
func normal(architecture string) string {
	switch architecture {
	case "x86_64", "x86-64":
		return "amd64"
	case "aarch64":
		return "arm64"
	case "i386", "x86":
		return "386"
	default:
		return architecture
	}
}

// String returns what ParsePlatform reads.
func (p Platform) String() string {
	s := p.OS + "/" + p.Architecture
	if p.Variant != "" {
		s += "/" + p.Variant
	}
	return s
}

// Matches tells whether what an index says of a child is what is asked for. Without a
// variant, every one will do.
func (p Platform) Matches(have *oci.Platform) bool {
	if have == nil || have.OS != p.OS || normal(have.Architecture) != p.Architecture {
		return false
	}
	return p.Variant == "" || have.Variant == p.Variant
}

// platformOf is what an index says of a child.
func platformOf(p oci.Platform) Platform {
	return Platform{p.OS, normal(p.Architecture), p.Variant}
}
