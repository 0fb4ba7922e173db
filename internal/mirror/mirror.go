// Package mirror is the naming of the mirror: from the address a client wrote
// to the repository of an upstream registry, and back.
//
// A client chooses the upstream in four ways: by the host name it speaks to, by
// a path before /v2/, by the ns parameter that containerd and BuildKit add, and
// by the first element of the repository name. [Names.Repository] decides among
// them. What it returns is a repository as its registry spells it: aliases are
// applied, "library/" is added where Docker Hub needs it, and the folder of CoreDNS
// where kubeadm leaves it out.
//
// The package promises that a name it makes ([Names.Name]) leads back to the
// repository it was made for, and that no repository of a registry is returned
// that the configuration does not allow. It does not parse URLs, dial, resolve
// host names, or decide who may read what.
//
// Names never changes after New and takes no lock.
package mirror

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"sampan/internal/oci"
)

// An Upstream is a registry that the mirror serves.
type Upstream struct {
	Registry oci.Registry
	// Hosts are the labels below the domain that choose this registry: "docker"
	// for docker.mirror.example.com. May be empty: the full name works always.
	Hosts []string
}

// Options are what New needs. The zero value serves nothing.
type Options struct {
	// Domain is the mirror's own host name without port; names below it choose
	// the upstream. Empty: the first label of any host name may.
	Domain string
	// Default is the registry of names that choose none; zero is docker.io.
	Default oci.Registry
	// Upstreams are the registries served.
	Upstreams []Upstream
	// Aliases maps "registry" or "registry/path" to the same of another place:
	// {"k8s.gcr.io": "registry.k8s.io"}. The longest key that fits is applied,
	// once. An upstream with the name of an alias wins over the alias.
	Aliases map[string]string
	// Open allows registries that are not among Upstreams, as long as their name
	// cannot mean this machine or a private network: it has a dot, is no IP
	// address, and is not below localhost, local or internal. What the name
	// resolves to must be checked by who dials.
	Open bool
	// HideHosts keeps host names that are not known out of errors: they may be
	// access codes, mistyped or revoked.
	HideHosts bool
}

// Names translates addresses. Its methods may be called concurrently.
type Names struct {
	domain    string
	fallback  oci.Registry
	served    map[oci.Registry]bool
	ordered   []oci.Registry          // of served, by name
	known     map[string]oci.Registry // names of upstreams and of registries with aliases
	labels    map[string]oci.Registry
	firstHost map[oci.Registry]string // the label that names a registry in host style
	aliases   map[oci.Registry][]alias
	open      bool
	hideHosts bool
}

// An alias moves a registry, or the repositories below a path of it.
type alias struct {
	from   string // path; empty for the whole registry
	to     oci.Registry
	toPath string // may be empty
}

// New checks the options. A label that two upstreams claim, an alias that is
// not a name, and a default that is not served are errors.
func New(o Options) (*Names, error) {
	n := &Names{
		domain:    strings.ToLower(strings.TrimSuffix(o.Domain, ".")),
		fallback:  o.Default,
		served:    make(map[oci.Registry]bool),
		known:     make(map[string]oci.Registry),
		labels:    make(map[string]oci.Registry),
		firstHost: make(map[oci.Registry]string),
		aliases:   make(map[oci.Registry][]alias),
		open:      o.Open,
		hideHosts: o.HideHosts,
	}
	for _, u := range o.Upstreams {
		if err := n.addUpstream(u); err != nil {
			return nil, err
		}
	}
	if n.fallback.IsZero() {
		n.fallback = oci.DockerHub
	} else if !n.served[n.fallback] {
		return nil, fmt.Errorf("mirror: default registry %s is not an upstream", n.fallback)
	}
	for from, to := range o.Aliases {
		if err := n.addAlias(from, to); err != nil {
			return nil, fmt.Errorf("mirror: alias %q: %w", from, err)
		}
	}
	for _, list := range n.aliases {
		slices.SortFunc(list, func(a, b alias) int { return len(b.from) - len(a.from) })
	}
	slices.SortFunc(n.ordered, func(a, b oci.Registry) int { return strings.Compare(a.String(), b.String()) })
	return n, nil
}

func (n *Names) addUpstream(u Upstream) error {
	if u.Registry.IsZero() {
		return fmt.Errorf("mirror: an upstream without a name")
	}
	if n.served[u.Registry] {
		return fmt.Errorf("mirror: upstream %s is given twice", u.Registry)
	}
	n.served[u.Registry] = true
	n.ordered = append(n.ordered, u.Registry)
	n.known[u.Registry.String()] = u.Registry
	for _, label := range u.Hosts {
		label = strings.ToLower(label)
		if other, taken := n.labels[label]; taken {
			return fmt.Errorf("mirror: host label %q belongs to %s and to %s", label, other, u.Registry)
		}
		n.labels[label] = u.Registry
		if n.firstHost[u.Registry] == "" {
			n.firstHost[u.Registry] = label
		}
	}
	return nil
}

func (n *Names) addAlias(from, to string) error {
	fromName, fromPath, _ := strings.Cut(from, "/")
	fromRegistry, err := oci.ParseRegistry(fromName)
	if err != nil {
		return err
	}
	toName, toPath, _ := strings.Cut(to, "/")
	toRegistry, err := oci.ParseRegistry(toName)
	if err != nil {
		return err
	}
	for registry, path := range map[oci.Registry]string{fromRegistry: fromPath, toRegistry: toPath} {
		if path == "" {
			continue
		}
		if _, err := registry.Repository(path); err != nil {
			return err
		}
	}
	n.known[strings.ToLower(fromName)] = fromRegistry
	if fromPath == "" && (n.served[fromRegistry] || fromRegistry == toRegistry) {
		return nil
	}
	n.aliases[fromRegistry] = append(n.aliases[fromRegistry], alias{fromPath, toRegistry, toPath})
	return nil
}

// Registries returns the registries served, by name. The caller may keep it.
func (n *Names) Registries() []oci.Registry { return slices.Clone(n.ordered) }

// Spelled returns the registries served and those that stand for one of them whole,
// such as k8s.gcr.io, by name. The caller may keep it.
func (n *Names) Spelled() []oci.Registry {
	list := n.Registries()
	for r := range n.aliases {
		if c := n.canonical(r); c != r && n.served[c] {
			list = append(list, r)
		}
	}
	slices.SortFunc(list, func(a, b oci.Registry) int { return strings.Compare(a.String(), b.String()) })
	return list
}

// lookup finds the registry of a name that the configuration mentions. The
// result is the registry before aliases.
func (n *Names) lookup(name string) (oci.Registry, bool) {
	r, ok := n.known[strings.ToLower(name)]
	return r, ok
}

// canonical is the registry that r stands for, alone.
func (n *Names) canonical(r oci.Registry) oci.Registry {
	for _, a := range n.aliases[r] {
		if a.from == "" && a.toPath == "" {
			return a.to
		}
	}
	return r
}

// resolve makes the repository of a registry and a path as they were written:
// it applies aliases, adds "library/" and the folder of CoreDNS, and refuses what is not served.
func (n *Names) resolve(r oci.Registry, path string) (oci.Repository, error) {
	path = withLibrary(r, path)
	written, err := r.Repository(path)
	if err != nil {
		return oci.Repository{}, err
	}
	for _, a := range n.aliases[r] {
		rest, ok := below(path, a.from)
		if !ok {
			continue
		}
		path = withLibrary(a.to, join(a.toPath, rest))
		if written, err = a.to.Repository(path); err != nil {
			return oci.Repository{}, err
		}
		break
	}
	if written, err = inFolder(written); err != nil {
		return oci.Repository{}, err
	}
	if !n.allowed(written.Registry()) {
		return oci.Repository{}, deniedRegistry(written.Registry())
	}
	return written, nil
}

// allowed tells whether content of r may be asked for.
func (n *Names) allowed(r oci.Registry) bool {
	return n.served[r] || n.open && public(r.String())
}

// withLibrary adds the namespace that Docker Hub alone leaves out.
func withLibrary(r oci.Registry, path string) string {
	if r == oci.DockerHub && path != "" && !strings.Contains(path, "/") {
		return "library/" + path
	}
	return path
}

// kubernetes is the registry whose CoreDNS lies in a folder, and coreDNS the path of the
// folder as well as of what lies in it.
const (
	kubernetes = "registry.k8s.io"
	coreDNS    = "coredns"
)

// inFolder adds the folder of CoreDNS. kubeadm asks for it without, where its
// imageRepository is not the default, as it is at a mirror (GetDNSImage in
// k8s.io/kubernetes/cmd/kubeadm/app/images). The repository without has nothing but
// versions before 1.8, see [Moved].
func inFolder(repo oci.Repository) (oci.Repository, error) {
	if repo.Path() == coreDNS && repo.Registry().String() == kubernetes {
		return repo.Registry().Repository(coreDNS + "/" + coreDNS)
	}
	return repo, nil
}

// Moved tells where a registry has old content of repositories that [Names] gives for
// others of it: by path, the path of the other one. Nil for most registries.
func Moved(r oci.Registry) map[string]string {
	if r.String() == kubernetes {
		return map[string]string{coreDNS + "/" + coreDNS: coreDNS}
	}
	return nil
}

// below returns what path has after prefix, in whole components.
func below(path, prefix string) (rest string, ok bool) {
	if prefix == "" {
		return path, true
	}
	rest, ok = strings.CutPrefix(path, prefix)
	if !ok || rest != "" && rest[0] != '/' {
		return "", false
	}
	return strings.TrimPrefix(rest, "/"), true
}

// join puts two paths together, either of which may be empty.
func join(a, b string) string {
	if a == "" || b == "" {
		return a + b
	}
	return a + "/" + b
}

// public tells whether the name of a registry can only mean a host of the
// public DNS. It says nothing of the addresses behind it.
func public(name string) bool {
	host := hostOnly(name)
	dot := strings.LastIndexByte(host, '.')
	if dot < 0 || isAddress(host) {
		return false
	}
	switch last := host[dot+1:]; last {
	case "localhost", "local", "internal":
		return false
	default:
		// "127.1" and "0x7f.0x1" are addresses to some resolvers.
		return last != "" && (last[0] < '0' || last[0] > '9')
	}
}

// hostOnly cuts the port off an authority; an IPv6 address loses its brackets.
func hostOnly(authority string) string {
	if rest, ok := strings.CutPrefix(authority, "["); ok {
		host, _, _ := strings.Cut(rest, "]")
		return host
	}
	if i := strings.LastIndexByte(authority, ':'); i >= 0 {
		return authority[:i]
	}
	return authority
}

func isAddress(host string) bool {
	_, err := netip.ParseAddr(host)
	return err == nil
}
