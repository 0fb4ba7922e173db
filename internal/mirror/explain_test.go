package mirror

import (
	"testing"

	"sampan/internal/oci"
)

func explained(t *testing.T) *Names {
	t.Helper()
	registry := func(s string) oci.Registry {
		r, err := oci.ParseRegistry(s)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	n, err := New(Options{
		Domain:  "mirror.example.com",
		Default: registry("quay.io"),
		Upstreams: []Upstream{
			{Registry: oci.DockerHub, Hosts: []string{"docker"}},
			{Registry: registry("quay.io"), Hosts: []string{"quay"}},
			{Registry: registry("gcr.io")},
			{Registry: registry("registry.k8s.io")},
			{Registry: registry("corp.example:5000")},
		},
		Aliases: map[string]string{"k8s.gcr.io": "registry.k8s.io", "gcr.io/google_containers": "gcr.io/google-containers"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestImageNamesAreExplained(t *testing.T) {
	n := explained(t)
	for _, tc := range []struct {
		image, want string
		way         Way
		alias       string
	}{
		{"nginx", "docker.io/library/nginx:latest", WayName, ""},
		{"quay.io/a/b:1", "quay.io/a/b:1", WayName, ""},
		{"corp.example:5000/a:1", "corp.example:5000/a:1", WayName, ""},
		{"k8s.gcr.io/pause:3.1", "registry.k8s.io/pause:3.1", WayName, "k8s.gcr.io → registry.k8s.io"},
		{"gcr.io/google_containers/pause:3.1", "gcr.io/google-containers/pause:3.1", WayName, "gcr.io/google_containers → gcr.io/google-containers"},
		{"localhost:5000/registry.k8s.io/coredns:v1", "registry.k8s.io/coredns/coredns:v1", WayPath, "registry.k8s.io/coredns → registry.k8s.io/coredns/coredns"},
		{"localhost:5000/docker.io/nginx:1", "docker.io/library/nginx:1", WayPath, ""},
		{"localhost:5000/k8s.gcr.io/pause:1", "registry.k8s.io/pause:1", WayPath, "k8s.gcr.io → registry.k8s.io"},
		{"10.0.0.1:5000/a/b:1", "quay.io/a/b:1", WayDefault, ""},
		{"mirror.example.com/docker.io/library/nginx:1", "docker.io/library/nginx:1", WayPath, ""},
		{"mirror.example.com:8443/a/b:1", "quay.io/a/b:1", WayDefault, ""},
		{"docker.mirror.example.com/alpine:1", "docker.io/library/alpine:1", WayHost, ""},
		{"gcr.io.mirror.example.com/google_containers/pause:1", "gcr.io/google-containers/pause:1", WayHost, "gcr.io/google_containers → gcr.io/google-containers"},
	} {
		m, err := n.Explain(tc.image, "5000")
		if err != nil || m.Reference.String() != tc.want || m.Way != tc.way || m.Alias != tc.alias {
			t.Errorf("%s: %s by %s, alias %q, %v; want %s by %s, alias %q", tc.image, m.Reference, m.Way, m.Alias, err, tc.want, tc.way, tc.alias)
		}
	}
	for image, code := range map[string]oci.Code{
		"other.example/a:1":                   oci.CodeDenied,
		"localhost:5000/other.example/a:1":    oci.CodeDenied,
		"nothing.mirror.example.com/alpine:1": oci.CodeDenied,
		"UPPER/case":                          oci.CodeNameInvalid,
		"":                                    oci.CodeNameInvalid,
	} {
		if m, err := n.Explain(image, "5000"); oci.CodeOf(err) != code {
			t.Errorf("%s: %s, %v", image, m.Reference, err)
		}
	}
}

// What is explained is what a client gets who uses the name.
func FuzzExplainAgreesWithRepository(f *testing.F) {
	for _, path := range []string{"nginx", "docker.io/nginx", "k8s.gcr.io/pause", "a/b", "gcr.io/google_containers/x", "other.example/x", "localhost/x/y"} {
		for _, host := range []string{"localhost:5000", "mirror.example.com:5000", "docker.mirror.example.com:5000", "x.mirror.example.com:5000", "docker.corp:5000"} {
			f.Add(host, path)
		}
	}
	f.Fuzz(func(t *testing.T, host, path string) {
		n := explained(t)
		ref, err := oci.ParseReference(host + "/" + path + ":1")
		if err != nil || ref.Repository.Registry().String() != host || ref.Repository.Path() != path || n.known[host] != (oci.Registry{}) {
			return // not a host and a path
		}
		if !n.isMirror(host, "5000") {
			return // not a host of the mirror
		}
		m, err := n.Explain(host+"/"+path+":1", "5000")
		repo, repoErr := n.Repository(Address{Host: host, Path: path})
		if oci.CodeOf(err) != oci.CodeOf(repoErr) || err == nil && m.Reference.Repository != repo {
			t.Errorf("%s/%s: explained as %s, %v; a client gets %s, %v", host, path, m.Reference.Repository, err, repo, repoErr)
		}
	})
}
