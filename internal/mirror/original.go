package mirror

import (
	"strings"

	"sampan/internal/oci"
)

// Original is the way back from [Names.Name]: the image that a name at this mirror
// stands for, as its registry is called in that name, before aliases:
// mirror.example.com/k8s.gcr.io/pause:3.1 is k8s.gcr.io/pause:3.1. The base is as
// for Name.
//
// The error is NAME_INVALID where name is none, or none at this mirror, and DENIED
// where its registry is not served.
func (n *Names) Original(name, base string) (oci.Reference, error) {
	if base == "" {
		base = n.domain
	}
	ref, err := oci.ParseReference(name)
	if err != nil {
		return oci.Reference{}, err
	}
	host, path := ref.Repository.Registry().String(), ref.Repository.Path()
	if !atBase(host, strings.ToLower(base)) {
		return oci.Reference{}, notHere(ref, base)
	}
	_, registry, path, err := n.way(host, path)
	if err != nil {
		return oci.Reference{}, err
	}
	path = withLibrary(registry, path)
	if _, err := n.resolve(registry, path); err != nil {
		return oci.Reference{}, err
	}
	ref.Repository, err = registry.Repository(path)
	return ref, err
}

// atBase tells whether a host is the base or below it. A base that is an address has
// nothing below it.
func atBase(host, base string) bool {
	if host == base {
		return true
	}
	return !isAddress(hostOnly(base)) && strings.HasSuffix(host, "."+base)
}
