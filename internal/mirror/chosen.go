package mirror

import "sampan/internal/oci"

// Chosen returns the registry that an address chooses before any repository is
// named: by ns, by a path before /v2/ or by its host, in the order of
// [Names.Repository]. False: the repository's name will decide, and may name any
// registry served. A host that only resembles a choice counts as one.
func (n *Names) Chosen(a Address) (oci.Registry, bool) {
	if ns := n.foreign(a.NS, a.Host); ns != "" {
		if r, ok := n.lookup(ns); ok {
			return n.canonical(r), true
		}
	}
	if a.Prefix != "" {
		if r, _, ok := n.byPrefix(a.Prefix); ok {
			return n.canonical(r), true
		}
	}
	if r, strength, err := n.byHost(a.Host); err == nil && strength != silent {
		return n.canonical(r), true
	}
	return oci.Registry{}, false
}
