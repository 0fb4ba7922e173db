package mirror

import (
	"strings"
	"testing"

	"sampan/internal/oci"
)

func reference(t testing.TB, s string) oci.Reference {
	t.Helper()
	ref, err := oci.ParseReference(s)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

func TestName(t *testing.T) {
	n := newNames(t, nil)
	digest := oci.DigestOf(nil).String()
	for _, c := range []struct {
		fact  string
		ref   string
		style Style
		base  string
		want  string // empty: refused
	}{
		{"path style", "nginx:1.27", PathStyle, "", "mirror.example.com/docker.io/library/nginx:1.27"},
		{"path style at an address", "quay.io/a/b:v1", PathStyle, "127.0.0.1:5000", "127.0.0.1:5000/quay.io/a/b:v1"},
		{"host style", "nginx:1.27", HostStyle, "", "docker.mirror.example.com/library/nginx:1.27"},
		{"host style with a port", "quay.io/a/b:v1", HostStyle, "mirror.example.com:8443", "quay.mirror.example.com:8443/a/b:v1"},
		{"host style without a label takes the full name", "docker.elastic.co/a:1", HostStyle, "", "docker.elastic.co.mirror.example.com/a:1"},
		{"a digest stays", "quay.io/a/b@" + digest, PathStyle, "", "mirror.example.com/quay.io/a/b@" + digest},
		{"tag and digest stay", "quay.io/a/b:v1@" + digest, HostStyle, "", "quay.mirror.example.com/a/b:v1@" + digest},
		{"an aliased name keeps its spelling", "k8s.gcr.io/pause:3", PathStyle, "", "mirror.example.com/k8s.gcr.io/pause:3"},
		{"a registry with a port has a host style by its label", "registry.corp:5000/a:1", HostStyle, "", "corp.mirror.example.com/a:1"},
		{"a registry with a port has no path style", "registry.corp:5000/a:1", PathStyle, "", ""},
		{"an address has no names below it", "quay.io/a:1", HostStyle, "127.0.0.1:5000", ""},
		{"host style outside the domain leads nowhere", "quay.io/a:1", HostStyle, "other.example", ""},
		{"a registry that is not served has no name", "foo.example/a:1", PathStyle, "", ""},
		{"a base with a path is no host", "quay.io/a:1", HostStyle, "mirror.example.com/x", ""},
		{"a base of one word is no host to clients", "quay.io/a:1", PathStyle, "mirror", ""},
	} {
		t.Run(c.fact, func(t *testing.T) {
			got, err := n.Name(reference(t, c.ref), c.style, c.base)
			if got != c.want || (err == nil) != (c.want != "") {
				t.Fatalf("got %q, %v, want %q", got, err, c.want)
			}
		})
	}
}

// TestEveryNameOfAWellKnownRegistryCanBeMade guards the other half of the
// promise: Name does not win the round trip by refusing.
func TestEveryNameOfAWellKnownRegistryCanBeMade(t *testing.T) {
	for _, domain := range []string{"mirror.example.com", ""} {
		n := newNames(t, func(o *Options) { o.Domain = domain })
		for _, s := range []string{"nginx", "quay.io/a/b/c", "registry.k8s.io/pause:3", "gcr.io/google_containers/pause:1", "docker.elastic.co/x/y"} {
			for _, style := range []Style{PathStyle, HostStyle} {
				if _, err := n.Name(reference(t, s), style, "mirror.example.com:5000"); err != nil {
					t.Errorf("domain %q, style %d: %v", domain, style, err)
				}
			}
		}
	}
}

func FuzzNameLeadsBack(f *testing.F) {
	for _, s := range []string{"nginx", "quay.io/docker.io/a:v1", "k8s.gcr.io/pause", "harbor/x", "a.b/c", "docker.io/quay.io/x"} {
		for _, host := range []string{"mirror.example.com", "localhost:5000", "quay.io", "docker.localhost:1"} {
			f.Add(s, host, true)
			f.Add(s, host, false)
		}
	}
	withDomain := newNames(f, nil)
	open := newNames(f, func(o *Options) { o.Domain, o.Open = "", true })
	f.Fuzz(func(t *testing.T, s, base string, hostStyle bool) {
		ref, err := oci.ParseReference(s)
		if err != nil {
			return
		}
		style := PathStyle
		if hostStyle {
			style = HostStyle
		}
		for _, n := range []*Names{withDomain, open} {
			name, err := n.Name(ref, style, base)
			if err != nil {
				continue
			}
			want, err := n.resolve(ref.Repository.Registry(), ref.Repository.Path())
			if err != nil {
				t.Fatalf("%s was named %s although it is refused: %v", ref, name, err)
			}
			at, err := oci.ParseReference(name)
			if err != nil {
				t.Fatalf("%s was named %s: %v", ref, name, err)
			}
			if at.Tag != ref.Tag || at.Digest != ref.Digest {
				t.Fatalf("%s was named %s", ref, name)
			}
			host, path, _ := strings.Cut(name, "/")
			path, _, _ = strings.Cut(path, "@")
			path, _, _ = strings.Cut(path, ":")
			got, err := n.Repository(Address{Host: host, Path: path})
			if err != nil || got != want {
				t.Fatalf("%s was named %s, which leads to %v, %v", ref, name, got, err)
			}
		}
	})
}

// FuzzRepository holds that any address is answered: a valid repository that is
// served, or one of the two refusals.
func FuzzRepository(f *testing.F) {
	f.Add("mirror.example.com", "", "docker.io/library/nginx", "")
	f.Add("docker.mirror.example.com:80", "x/y", "nginx", "registry-1.docker.io")
	f.Add("[::1]:5000", "docker.io/library", "../..", "a b")
	closed := newNames(f, nil)
	open := newNames(f, func(o *Options) { o.Domain, o.Open = "", true })
	f.Fuzz(func(t *testing.T, host, prefix, path, ns string) {
		for _, n := range []*Names{closed, open} {
			repo, err := n.Repository(Address{host, prefix, path, ns})
			if err != nil {
				if code := oci.CodeOf(err); code != oci.CodeDenied && code != oci.CodeNameInvalid {
					t.Fatalf("unexpected refusal: %v", err)
				}
				continue
			}
			if !n.allowed(repo.Registry()) {
				t.Fatalf("%s is not allowed", repo)
			}
			if again, err := repo.Registry().Repository(repo.Path()); err != nil || again != repo {
				t.Fatalf("%s is not valid: %v", repo, err)
			}
		}
	})
}
