package main

import (
	"strings"

	"sampan/internal/oci"
)

// A target is where images go at a registry: a namespace, which is given as HOST/ or
// HOST/NAMESPACE/ and in which images keep their paths, or one repository.
type target struct {
	registry  oci.Registry
	namespace string         // empty, or with a slash at its end
	one       oci.Repository // zero for a namespace
	tag       oci.Tag        // of one; zero for that of the image
}

// parseTarget reads "registry.example.com/mirror/" or "localhost:5000/nginx:1".
func parseTarget(flag, s string) (target, error) {
	host, path, ok := strings.Cut(s, "/")
	registry, err := oci.ParseRegistry(host)
	if !ok || err != nil || host != "localhost" && !strings.ContainsAny(host, ".:") {
		return target{}, usagef(text("%s is HOST/, HOST/NAMESPACE/ or HOST/REPOSITORY[:TAG], not %q", "%s 应为 HOST/、HOST/NAMESPACE/ 或 HOST/REPOSITORY[:TAG]，而不是 %q"), flag, s)
	}
	if path == "" || strings.HasSuffix(path, "/") {
		if _, err := registry.Repository(path + "x"); err != nil {
			return target{}, usagef("%s: %w", flag, plain(err))
		}
		return target{registry: registry, namespace: path}, nil
	}
	ref, err := oci.ParseReference(s)
	if err != nil {
		return target{}, usagef("%s: %w", flag, plain(err))
	}
	if !ref.Digest.IsZero() {
		return target{}, usagef(text("%s is a name without digest, not %q", "%s 不能带摘要：%q"), flag, s)
	}
	t := target{registry: registry, one: ref.Repository, tag: ref.Tag}
	if ref.Untagged() {
		t.tag = oci.Tag{}
	}
	return t, nil
}

// name is what an image is called at the target.
func (t target) name(ref oci.Reference) (oci.Reference, error) {
	named := oci.Reference{Repository: t.one, Tag: t.tag}
	if t.one.IsZero() {
		repo, err := t.registry.Repository(t.namespace + ref.Repository.Path())
		if err != nil {
			return oci.Reference{}, err
		}
		named.Repository = repo
	}
	if named.Tag.IsZero() {
		named.Tag = ref.Tag
	}
	return named, nil
}
