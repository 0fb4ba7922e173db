package mirror

import (
	"strings"

	"sampan/internal/oci"
)

// Spell is [Names.Name] for a name in a file: what is written of it is kept, so that
// [Names.Unspell] can give it back. In path style a registry that is written stays as
// it is, and "library/" is added only where none is: nginx becomes
// mirror.example.com/docker.io/library/nginx, and docker.io/nginx becomes
// mirror.example.com/docker.io/nginx, which the mirror takes for the same. No tag is
// added. A name that already is at the base stays.
func (n *Names) Spell(name string, style Style, base string) (string, error) {
	ref, err := oci.ParseReference(name)
	if err != nil {
		return "", err
	}
	if _, err := n.Original(name, base); err == nil {
		return name, nil
	}
	if ref.Untagged() {
		ref.Tag = oci.Tag{}
	}
	full, err := n.Name(ref, style, base)
	if err != nil {
		return "", err
	}
	first, rest, written := cutRegistry(name)
	if !written {
		return full, nil
	}
	host, path, _ := strings.Cut(full, "/")
	kept := host + "/" + name
	if style == HostStyle {
		if ref.Repository.Registry() != oci.DockerHub || strings.Contains(rest, "/") {
			return full, nil
		}
		kept = host + "/" + rest
	} else if strings.HasPrefix(path, first+"/"+rest) {
		return full, nil
	}
	if back, err := n.Original(kept, base); err == nil && back.Repository == ref.Repository {
		return kept, nil
	}
	return full, nil // "Docker.IO/nginx"
}

// The names of Docker Hub by which SpellExactly tells spellings apart that would become
// the same: that of names with docker.io, and that of names with library alone.
const (
	hubWritten = "index.docker.io"
	hubLibrary = "registry-1.docker.io"
)

// SpellExactly is [Names.Spell], and calls Docker Hub by another of its names where
// [Names.Unspell] would give back another spelling otherwise: docker.io/a/b becomes
// mirror.example.com/index.docker.io/a/b, since a/b becomes
// mirror.example.com/docker.io/a/b. It does so in path style, and where the mirror
// knows these names; the few spellings that still come back differently are those of
// historic names.
func (n *Names) SpellExactly(name string, style Style, base string) (string, error) {
	spelled, err := n.Spell(name, style, base)
	if err != nil || spelled == name || style != PathStyle {
		return spelled, err
	}
	if back, err := n.Unspell(spelled, base); err == nil && back == name {
		return spelled, nil
	}
	first, rest, _ := cutRegistry(name)
	other := base + "/" + hubWritten + "/" + rest
	if first == "" {
		other = base + "/" + hubLibrary + "/" + rest
	}
	if back, err := n.Unspell(other, base); err == nil && back == name {
		return other, nil
	}
	return spelled, nil
}

// Unspell is the way back from [Names.Spell] and [Names.SpellExactly], for a name at
// the base: mirror.example.com/docker.io/library/nginx is nginx again, and
// mirror.example.com/docker.io/nginx is docker.io/nginx. Names that are spelled
// differently and become the same come back in the shortest spelling.
func (n *Names) Unspell(name, base string) (string, error) {
	ref, err := n.Original(name, base)
	if err != nil {
		return "", err
	}
	if ref.Untagged() {
		ref.Tag = oci.Tag{}
	}
	own := ref.String()
	_, path, _ := strings.Cut(name, "/")
	if first, rest, written := cutRegistry(path); written {
		if r, err := oci.ParseRegistry(first); err == nil && (r == ref.Repository.Registry() || first == hubLibrary) {
			switch long := strings.Contains(rest, "/"); {
			case first == hubWritten && long:
				return oci.DockerHub.String() + "/" + rest, nil
			case first == hubLibrary && strings.HasPrefix(rest, "library/"):
				return rest, nil
			case first == oci.DockerHub.String() && long:
				return shortest(own, ref), nil
			}
			return path, nil
		}
	}
	host, _, _ := strings.Cut(own, "/")
	if host == oci.DockerHub.String() && !strings.Contains(path, "/") {
		return host + "/" + path, nil // docker.mirror.example.com/nginx was docker.io/nginx
	}
	return shortest(own, ref), nil
}

// shortest leaves out docker.io/ and docker.io/library/ where the rest means the same.
func shortest(own string, ref oci.Reference) string {
	rest, hub := strings.CutPrefix(own, oci.DockerHub.String()+"/")
	if !hub {
		return own
	}
	short := strings.TrimPrefix(rest, "library/")
	if back, err := oci.ParseReference(short); err != nil || back.Repository != ref.Repository {
		return own
	}
	return short
}

// SpellPrefix is [Names.Spell] for the beginning of names: a registry, or a registry
// and more. What has no registry is on Docker Hub.
func (n *Names) SpellPrefix(prefix string, style Style, base string) (string, error) {
	if _, err := n.UnspellPrefix(prefix, base); err == nil {
		return prefix, nil
	}
	name, err := n.Spell(prefix+leaf, style, base)
	return strings.TrimSuffix(name, leaf), err
}

// UnspellPrefix is the way back from [Names.SpellPrefix]. The registry is always
// written in what it returns.
func (n *Names) UnspellPrefix(prefix, base string) (string, error) {
	ref, err := n.Original(prefix+leaf, base)
	if err != nil {
		return "", err
	}
	_, path, _ := strings.Cut(prefix+leaf, "/")
	if first, _, written := cutRegistry(path); written {
		if r, err := oci.ParseRegistry(first); err == nil && r == ref.Repository.Registry() {
			return strings.TrimSuffix(path, leaf), nil
		}
	}
	return strings.TrimSuffix(ref.Repository.Registry().String()+"/"+path, leaf), nil
}

// leaf makes a name of the beginning of one.
const leaf = "/x"

// cutRegistry cuts a registry off a name, where one is written, by Docker's rule.
func cutRegistry(name string) (registry, rest string, written bool) {
	first, rest, more := strings.Cut(name, "/")
	if !more || first != "localhost" && !strings.ContainsAny(first, ".:") {
		return "", name, false
	}
	return first, rest, true
}
