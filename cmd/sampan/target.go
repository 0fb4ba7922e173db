package main

import (
	"strings"

	"sampan/internal/mirror"
	"sampan/internal/oci"
)

// A target is where images go at a registry: a place, which is given as HOST/ or
// HOST/NAMESPACE/ and below which a rule names them, or one repository.
type target struct {
	registry oci.Registry
	below    string         // of a place; empty, or a path
	one      oci.Repository // zero for a place
	tag      oci.Tag        // of one; zero for that of the image
}

// parseTarget reads "registry.example.com/mirror/" or "localhost:5000/nginx:1". The host
// is written in full: nobody pushes to Docker Hub by leaving something out.
func parseTarget(what, s string) (target, error) {
	host, path, ok := strings.Cut(s, "/")
	registry, err := oci.ParseRegistry(host)
	if !ok || err != nil || host != "localhost" && !strings.ContainsAny(host, ".:") {
		return target{}, usagef(text("%s is HOST/, HOST/NAMESPACE/ or HOST/REPOSITORY[:TAG], not %q", "%s 应为 HOST/、HOST/NAMESPACE/ 或 HOST/REPOSITORY[:TAG]，而不是 %q"), what, s)
	}
	if path == "" || strings.HasSuffix(path, "/") {
		if _, err := registry.Repository(path + "x"); err != nil {
			return target{}, usagef("%s: %w", what, plain(err))
		}
		return target{registry: registry, below: strings.TrimSuffix(path, "/")}, nil
	}
	ref, err := oci.ParseReference(s)
	if err != nil {
		return target{}, usagef("%s: %w", what, plain(err))
	}
	if !ref.Digest.IsZero() {
		return target{}, usagef(text("%s: a copy has the digest of its source; name it by a tag, not %q", "%s：副本的摘要与来源相同，请使用标签命名，而不是 %q"), what, s)
	}
	t := target{registry: registry, one: ref.Repository, tag: ref.Tag}
	if ref.Untagged() {
		t.tag = oci.Tag{}
	}
	return t, nil
}

// isPlace tells whether a rule names what goes there.
func (t target) isPlace() bool { return t.one.IsZero() }

// name is what an image is called at the target: by its tag, where it or the target has
// one.
func (t target) name(ref oci.Reference, naming mirror.Naming) (oci.Reference, error) {
	named := oci.Reference{Repository: t.one, Tag: t.tag}
	if t.isPlace() {
		var err error
		if named.Repository, err = naming.Target(ref.Repository, t.registry, t.below); err != nil {
			return oci.Reference{}, err
		}
	}
	if named.Tag.IsZero() {
		named.Tag = ref.Tag
	}
	return named, nil
}
