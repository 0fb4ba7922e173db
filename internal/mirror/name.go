package mirror

import (
	"strings"

	"sampan/internal/oci"
)

// A Style is where the name of a registry goes in a name at this mirror.
type Style int

// The styles.
const (
	// PathStyle puts it first in the path:
	// mirror.example.com/docker.io/library/nginx.
	PathStyle Style = iota
	// HostStyle puts it first in the host name:
	// docker.mirror.example.com/library/nginx.
	HostStyle
)

// Name returns the address of ref at this mirror, with its tag and digest, as a
// client that knows nothing of the mirror would write it. The base is the
// mirror's host with an optional port; empty means the configured domain.
//
// The result leads back through [Names.Repository] to the repository that ref
// means after aliases. The registry is called in it as ref calls it, except in host
// style where that is an alias without a label: then the name is that of what the
// alias stands for. Where no such name exists (a registry with a port has no
// path style, an IP address no names below it) the error is NAME_INVALID; where
// the registry is not served it is DENIED.
func (n *Names) Name(ref oci.Reference, style Style, base string) (string, error) {
	if base == "" {
		base = n.domain
	}
	if _, err := oci.ParseRegistry(base); err != nil {
		return "", unnameable(ref, base)
	}
	registry, path := ref.Repository.Registry(), ref.Repository.Path()
	want, err := n.resolve(registry, path)
	if err != nil {
		return "", err
	}
	host := base
	if style == HostStyle {
		if isAddress(hostOnly(base)) {
			return "", unnameable(ref, base)
		}
		if n.firstHost[registry] == "" && n.firstHost[want.Registry()] != "" {
			// An alias: no wildcard certificate covers its own name below the base.
			registry, path = want.Registry(), want.Path()
		}
		host = n.label(registry) + "." + base
	} else {
		path = registry.String() + "/" + path
	}
	got, err := n.Repository(Address{Host: host, Path: path})
	if err != nil || got != want {
		return "", unnameable(ref, base)
	}
	name := host + "/" + path + strings.TrimPrefix(ref.String(), ref.Repository.String())
	if back, err := oci.ParseReference(name); err != nil || back.Repository.String() != strings.ToLower(host)+"/"+path {
		return "", unnameable(ref, base)
	}
	return name, nil
}

// HostName is [Names.Name] in host style, below the configured domain.
func (n *Names) HostName(ref oci.Reference) (string, error) { return n.Name(ref, HostStyle, "") }

// PathName is [Names.Name] in path style, at the configured domain.
func (n *Names) PathName(ref oci.Reference) (string, error) { return n.Name(ref, PathStyle, "") }

// label is what names a registry below the domain.
func (n *Names) label(r oci.Registry) string {
	if label := n.firstHost[r]; label != "" {
		return label
	}
	return r.String()
}
