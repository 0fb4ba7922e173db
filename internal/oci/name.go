package oci

import (
	"net"
	"net/netip"
	"strings"

	"github.com/distribution/reference"
)

// DockerHub is the registry that a name without a host belongs to.
var DockerHub = Registry{"docker.io"}

// maxName is the specification's bound on a repository name with its host,
// in bytes.
const maxName = 255

// A Registry is the canonical name of a registry: a host name with an optional
// port, in lower case. The zero value is empty.
type Registry struct{ host string }

// ParseRegistry accepts a host name or address with an optional port. The
// spellings of Docker Hub that are only historic (index.docker.io) are made
// docker.io.
func ParseRegistry(s string) (Registry, error) {
	host := strings.ToLower(s)
	named, err := reference.WithName(host + "/x")
	if err != nil || reference.Domain(named) != host || len(host) > maxName-2 {
		return Registry{}, Errorf(CodeNameInvalid, "%s is not the name of a registry", clip(s))
	}
	if host == "index.docker.io" {
		host = "docker.io"
	}
	return Registry{host}, nil
}

// Loopback tells whether a host, with or without a port, can only be this machine:
// localhost, names below it, and the loopback addresses.
func Loopback(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	ip, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && ip.IsLoopback()
}

// String returns the host with its port.
func (r Registry) String() string { return r.host }

// IsZero tells whether r is empty.
func (r Registry) IsZero() bool { return r.host == "" }

// MarshalText implements [encoding.TextMarshaler].
func (r Registry) MarshalText() ([]byte, error) { return []byte(r.host), nil }

// Repository returns the repository of this registry with the given path, as
// the registry itself spells it: "library/nginx", not "nginx". Anything the
// grammar of the specification refuses is NAME_INVALID.
func (r Registry) Repository(path string) (Repository, error) {
	if !validPath(path) || len(r.host)+1+len(path) > maxName {
		return Repository{}, Errorf(CodeNameInvalid, "%s is not a valid repository name", clip(path))
	}
	return Repository{r, path}, nil
}

// A Repository is one repository of one registry. The zero value is empty.
// Repositories are comparable.
type Repository struct {
	registry Registry
	path     string
}

// ParseRepository reads what a person types, with Docker's rules: a name
// without a host is on Docker Hub, where one component alone gets "library/".
func ParseRepository(s string) (Repository, error) {
	ref, err := ParseReference(s)
	if err != nil {
		return Repository{}, err
	}
	if ref.explicit {
		return Repository{}, Errorf(CodeNameInvalid, "%s names more than a repository", clip(s))
	}
	return ref.Repository, nil
}

// Registry returns the registry of the repository.
func (r Repository) Registry() Registry { return r.registry }

// Path returns the name within the registry, such as "library/nginx".
func (r Repository) Path() string { return r.path }

// String returns "registry/path".
func (r Repository) String() string {
	if r.IsZero() {
		return ""
	}
	return r.registry.host + "/" + r.path
}

// MarshalText implements [encoding.TextMarshaler]; zero is empty.
func (r Repository) MarshalText() ([]byte, error) {
	if r.IsZero() {
		return nil, nil
	}
	return []byte(r.String()), nil
}

// IsZero tells whether r is empty.
func (r Repository) IsZero() bool { return r.path == "" }

// A Tag is a valid tag. The zero value is empty.
type Tag struct{ s string }

// ParseTag accepts [a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}; anything else is
// TAG_INVALID.
func ParseTag(s string) (Tag, error) {
	if !validTag(s) {
		return Tag{}, Errorf(CodeTagInvalid, "%s is not a valid tag", clip(s))
	}
	return Tag{s}, nil
}

// String returns the tag.
func (t Tag) String() string { return t.s }

// IsZero tells whether t is empty.
func (t Tag) IsZero() bool { return t.s == "" }

// MarshalText implements [encoding.TextMarshaler].
func (t Tag) MarshalText() ([]byte, error) { return []byte(t.s), nil }

// A Reference names a manifest of a repository, by tag, by digest, or by both
// (then the digest decides and the tag is only told).
type Reference struct {
	Repository Repository
	Tag        Tag    // zero when there is none
	Digest     Digest // zero when there is none

	explicit bool // a tag or digest was written, not assumed
}

// ParseReference reads what a person types: "nginx", "quay.io/a/b:v1",
// "gcr.io/x@sha256:…". Docker's rules fill in docker.io, "library/" and, where
// neither tag nor digest is written, the tag "latest".
func ParseReference(s string) (Reference, error) {
	named, err := reference.ParseNormalizedNamed(s)
	if err != nil {
		return Reference{}, Errorf(CodeNameInvalid, "%s is not an image name: %v", clip(s), err)
	}
	registry, err := ParseRegistry(reference.Domain(named))
	if err != nil {
		return Reference{}, err
	}
	// The library takes the first part of "Foo/bar" for a host; in lower case it
	// would mean something else.
	if host := registry.host; host != "localhost" && !strings.ContainsAny(host, ".:") {
		return Reference{}, Errorf(CodeNameInvalid, "%s is not an image name: it must be in lower case", clip(s))
	}
	path := reference.Path(named)
	if registry == DockerHub && !strings.Contains(path, "/") {
		path = "library/" + path // the library overlooks "Docker.IO/nginx"
	}
	repo, err := registry.Repository(path)
	if err != nil {
		return Reference{}, err
	}
	ref := Reference{Repository: repo}
	if t, ok := named.(reference.Tagged); ok {
		if ref.Tag, err = ParseTag(t.Tag()); err != nil {
			return Reference{}, err
		}
		ref.explicit = true
	}
	if d, ok := named.(reference.Digested); ok {
		if ref.Digest, err = ParseDigest(d.Digest().String()); err != nil {
			return Reference{}, err
		}
		ref.explicit = true
	}
	if !ref.explicit {
		ref.Tag = Tag{"latest"}
	}
	return ref, nil
}

// Untagged tells whether neither tag nor digest was written, so that the tag "latest"
// is an assumption of [ParseReference].
func (r Reference) Untagged() bool { return !r.explicit && r.Tag.s == "latest" && r.Digest.IsZero() }

// String returns "registry/path:tag@digest" with what there is.
func (r Reference) String() string {
	s := r.Repository.String()
	if !r.Tag.IsZero() {
		s += ":" + r.Tag.s
	}
	if !r.Digest.IsZero() {
		s += "@" + r.Digest.String()
	}
	return s
}

// validPath is the specification's grammar for names,
// [a-z0-9]+((\.|_|__|-+)[a-z0-9]+)* separated by slashes, written by hand
// because it runs on every request; a fuzz test holds it against the library.
func validPath(s string) bool {
	if s == "" || len(s) > maxName {
		return false
	}
	for component := range strings.SplitSeq(s, "/") {
		if !validComponent(component) {
			return false
		}
	}
	return true
}

func validComponent(s string) bool {
	for i := 0; i < len(s); {
		start := i
		for i < len(s) && isLowerAlnum(s[i]) {
			i++
		}
		if i == start {
			return false
		}
		if i == len(s) {
			return true
		}
		switch s[i] {
		case '.':
			i++
		case '_':
			i++
			if i < len(s) && s[i] == '_' {
				i++
			}
		case '-':
			for i < len(s) && s[i] == '-' {
				i++
			}
		default:
			return false
		}
	}
	return false
}

func validTag(s string) bool {
	if s == "" || len(s) > 128 || s[0] == '.' || s[0] == '-' {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if !isLowerAlnum(c) && (c < 'A' || c > 'Z') && c != '_' && c != '.' && c != '-' {
			return false
		}
	}
	return true
}

func isLowerAlnum(c byte) bool { return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' }
