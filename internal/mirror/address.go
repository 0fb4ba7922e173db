package mirror

import (
	"strings"

	"sampan/internal/oci"
)

// An Address is how a client named a repository, in the parts of its request.
type Address struct {
	Host   string // the Host header, with or without port
	Prefix string // the path before /v2/ without slashes at its ends: "docker.io"
	Path   string // the repository as in the URL, after /v2/
	NS     string // the ns parameter; empty when there is none
}

// Repository decides which repository of which upstream a client means:
//
//  1. The host, when it is the name of a registry or below the mirror's domain.
//  2. A registry in the path before /v2/, with leading components of the name.
//  3. ns. A registry that is known wins over host and prefix, because it is what
//     the client believes it pulls from; one that is not loses to them. The
//     first path element is dropped where it repeats ns.
//  4. The first path element, when it is or looks like a registry.
//  5. Otherwise the default registry.
//
// A host that only resembles a choice (no domain is configured, or its port is
// unusual) loses to a known registry as the first path element.
//
// Fails with NAME_INVALID, or with DENIED and the configuration key that allows
// what was asked for.
func (n *Names) Repository(a Address) (oci.Repository, error) {
	host, strength, err := n.byHost(a.Host)
	if err != nil {
		return oci.Repository{}, err
	}
	chosen, lead := host, ""
	ns := n.foreign(a.NS, a.Host)
	if a.Prefix != "" {
		r, rest, ok := n.byPrefix(a.Prefix)
		switch {
		case ok:
			chosen, lead, strength = r, rest, certain
		case ns == "":
			return oci.Repository{}, deniedPrefix(a.Prefix)
		}
	}
	if ns != "" {
		return n.byNamespace(ns, chosen, lead, strength, a.Path)
	}
	switch strength {
	case certain:
		return n.resolve(chosen, join(lead, a.Path))
	case likely:
		if r, rest, ok := n.byElement(a.Path); ok {
			return n.resolve(r, rest)
		}
		return n.resolve(chosen, a.Path)
	default:
		return n.byPath(a.Path)
	}
}

// strength is how much the host says about the registry.
type strength int

const (
	silent  strength = iota // nothing
	likely                  // a choice, unless the path names a registry
	certain                 // a choice
)

// byHost finds the registry that a Host header chooses.
func (n *Names) byHost(authority string) (oci.Registry, strength, error) {
	authority = strings.ToLower(authority)
	host := strings.TrimSuffix(hostOnly(authority), ".")
	if host == "" || host == n.domain {
		return oci.Registry{}, silent, nil
	}
	if r, ok := n.known[authority]; ok {
		return r, certain, nil
	}
	if isAddress(host) || !strings.Contains(host, ".") {
		return oci.Registry{}, silent, nil
	}
	if r, ok := n.known[host]; ok {
		if strings.HasSuffix(authority, ":443") || strings.HasSuffix(authority, ":80") || !strings.Contains(authority, ":") {
			return r, certain, nil
		}
		return r, likely, nil
	}
	if n.domain == "" {
		r, ok := n.byLeadingLabels(host)
		if !ok {
			return oci.Registry{}, silent, nil
		}
		return r, likely, nil
	}
	label, ok := strings.CutSuffix(host, "."+n.domain)
	if !ok {
		return oci.Registry{}, silent, nil
	}
	if r, ok := n.labels[label]; ok {
		return r, certain, nil
	}
	if r, ok := n.registry(label); ok {
		return r, certain, nil
	}
	if n.hideHosts {
		return oci.Registry{}, silent, deniedHiddenHost(n.domain)
	}
	return oci.Registry{}, silent, deniedHost(host, label, n.domain)
}

// byLeadingLabels finds a registry at the start of a host name whose rest is
// unknown: its full name, the longest first, or a label that stands for it.
func (n *Names) byLeadingLabels(host string) (oci.Registry, bool) {
	for end := strings.LastIndexByte(host, '.'); end > 0; end = strings.LastIndexByte(host[:end], '.') {
		if r, ok := n.known[host[:end]]; ok && strings.Contains(host[:end], ".") {
			return r, true
		}
	}
	label, _, _ := strings.Cut(host, ".")
	r, ok := n.labels[label]
	return r, ok
}

// foreign returns ns, or nothing when it is only this mirror's own name: a
// client that pulls mirror.example.com/docker.io/x says ns=mirror.example.com.
func (n *Names) foreign(ns, host string) string {
	if ns == "" || strings.EqualFold(ns, host) {
		return ""
	}
	if n.domain != "" && strings.EqualFold(hostOnly(ns), n.domain) {
		return ""
	}
	return ns
}

// byPrefix splits the path before /v2/ into a registry and the beginning of a
// repository name.
func (n *Names) byPrefix(prefix string) (r oci.Registry, rest string, ok bool) {
	first, rest, _ := strings.Cut(prefix, "/")
	r, ok = n.registry(first)
	return r, rest, ok
}

// byElement splits off a first path element that is a known registry, where
// more follows.
func (n *Names) byElement(path string) (r oci.Registry, rest string, ok bool) {
	first, rest, more := strings.Cut(path, "/")
	if !more {
		return oci.Registry{}, "", false
	}
	r, ok = n.lookup(first)
	return r, rest, ok
}

// registry is lookup, and any public name where the mirror is open.
func (n *Names) registry(name string) (oci.Registry, bool) {
	if r, ok := n.lookup(name); ok {
		return r, true
	}
	if !n.open {
		return oci.Registry{}, false
	}
	r, err := oci.ParseRegistry(name)
	return r, err == nil && public(r.String())
}

// byNamespace decides where ns is present.
func (n *Names) byNamespace(ns string, chosen oci.Registry, lead string, s strength, path string) (oci.Repository, error) {
	path, repeated := n.dropRepeated(ns, path)
	if r, ok := n.lookup(ns); ok {
		if lead != "" && n.canonical(r) != n.canonical(chosen) {
			lead = "" // it belonged to the registry that lost
		}
		return n.resolve(r, join(lead, path))
	}
	if s != silent {
		return n.resolve(chosen, join(lead, path))
	}
	if r, rest, ok := n.byElement(path); ok && !repeated {
		return n.resolve(r, rest)
	}
	r, err := oci.ParseRegistry(ns)
	if err != nil {
		return oci.Repository{}, err
	}
	if n.allowed(r) {
		return n.resolve(r, path)
	}
	return oci.Repository{}, deniedNamespace(r.String())
}

// dropRepeated cuts the first element off a path where it says the same as ns.
func (n *Names) dropRepeated(ns, path string) (rest string, repeated bool) {
	first, rest, more := strings.Cut(path, "/")
	if !more {
		return path, false
	}
	if strings.EqualFold(first, ns) {
		return rest, true
	}
	a, ok := n.lookup(first)
	if !ok {
		return path, false
	}
	b, ok := n.lookup(ns)
	if ok && n.canonical(a) == n.canonical(b) {
		return rest, true
	}
	return path, false
}

// byPath decides where only the path can.
func (n *Names) byPath(path string) (oci.Repository, error) {
	if r, rest, ok := n.byElement(path); ok {
		return n.resolve(r, rest)
	}
	first, rest, more := strings.Cut(path, "/")
	if more && (first == "localhost" || strings.ContainsAny(first, ".:")) {
		r, err := oci.ParseRegistry(first)
		if err != nil {
			return oci.Repository{}, err
		}
		return n.resolve(r, rest)
	}
	return n.resolve(n.fallback, path)
}
