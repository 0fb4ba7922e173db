package mirror

import (
	"strings"

	"sampan/internal/oci"
)

// A Way is how a name chooses its registry.
type Way string

// The ways.
const (
	WayName    Way = "name"    // the image's own name, as clients with a mirror setting use it
	WayHost    Way = "host"    // the host name of the mirror
	WayPath    Way = "path"    // the first element of the path
	WayDefault Way = "default" // nothing says which: the default
)

// A Meeting is what an image name meets at the mirror.
type Meeting struct {
	// Reference is the image at its registry.
	Reference oci.Reference
	Way       Way
	// Alias is "from → to" where an alias applied, as it is configured, or where only
	// the folder of CoreDNS was added; empty where neither was.
	Alias string
}

// Explain tells what an image name means here that a person typed: its own name,
// or one with this mirror's host in front. A host with the given port (that the
// mirror listens on; empty for none) is the mirror, unless it is the name of a
// registry. Fails as [Names.Repository] does.
func (n *Names) Explain(image, port string) (Meeting, error) {
	ref, err := oci.ParseReference(image)
	if err != nil {
		return Meeting{}, err
	}
	host, path := ref.Repository.Registry().String(), ref.Repository.Path()
	var m Meeting
	var r oci.Registry // before aliases
	if known, ok := n.known[host]; ok {
		m.Way, r = WayName, known
	} else if n.isMirror(host, port) {
		if m.Way, r, path, err = n.way(host, path); err != nil {
			return Meeting{}, err
		}
	} else {
		m.Way, r = WayName, ref.Repository.Registry()
	}
	m.Alias = n.aliasOf(r, withLibrary(r, path))
	m.Reference = ref
	m.Reference.Repository, err = n.resolve(r, path)
	return m, err
}

// isMirror tells whether a host in front of an image name is this mirror.
func (n *Names) isMirror(host, port string) bool {
	bare := hostOnly(host)
	if n.domain != "" && (bare == n.domain || strings.HasSuffix(bare, "."+n.domain)) {
		return true
	}
	if port != "" && strings.HasSuffix(host, ":"+port) {
		return true
	}
	_, s, err := n.byHost(host)
	return err == nil && s != silent
}

// way tells how [Names.Repository] finds the registry of a path at a host of the
// mirror, and what of the path is left.
func (n *Names) way(host, path string) (Way, oci.Registry, string, error) {
	chosen, s, err := n.byHost(host)
	if err != nil {
		return "", oci.Registry{}, "", err
	}
	if s == certain {
		return WayHost, chosen, path, nil
	}
	if r, rest, ok := n.byElement(path); ok {
		return WayPath, r, rest, nil
	}
	if s == likely {
		return WayHost, chosen, path, nil
	}
	first, rest, more := strings.Cut(path, "/")
	if more && (first == "localhost" || strings.ContainsAny(first, ".:")) {
		r, err := oci.ParseRegistry(first)
		return WayPath, r, rest, err
	}
	return WayDefault, n.fallback, path, nil
}

// aliasOf describes the alias that applies to a path of a registry.
func (n *Names) aliasOf(r oci.Registry, path string) string {
	for _, a := range n.aliases[r] {
		if _, ok := below(path, a.from); ok {
			return join(r.String(), a.from) + " → " + join(a.to.String(), a.toPath)
		}
	}
	if repo, err := r.Repository(path); err == nil {
		if to, err := inFolder(repo); err == nil && to != repo {
			return repo.String() + " → " + to.String()
		}
	}
	return ""
}
