package mirror

import (
	"strings"
	"testing"

	"sampan/internal/oci"
)

func TestSpellingIsKept(t *testing.T) {
	n := newNames(t, nil)
	const base = "mirror.example.com"
	digest := oci.DigestOf(nil).String()
	for _, c := range []struct {
		fact       string
		name       string
		path, host string // empty: refused
		back       string // from the path; empty: the name
	}{
		{"a bare name", "nginx", base + "/docker.io/library/nginx", "docker." + base + "/library/nginx", ""},
		{"a tag", "nginx:1", base + "/docker.io/library/nginx:1", "docker." + base + "/library/nginx:1", ""},
		{"two components", "a/b:1", base + "/docker.io/a/b:1", "docker." + base + "/a/b:1", ""},
		{"a registry that is written", "docker.io/nginx:1", base + "/docker.io/nginx:1", "docker." + base + "/nginx:1", ""},
		{"a historic one", "index.docker.io/nginx", base + "/index.docker.io/nginx", "docker." + base + "/nginx", ""},
		{"a historic one comes back as docker.io", "index.docker.io/a/b", base + "/index.docker.io/a/b", "docker." + base + "/a/b", "docker.io/a/b"},
		{"an alias", "k8s.gcr.io/pause:3", base + "/k8s.gcr.io/pause:3", "k8s." + base + "/pause:3", ""},
		{"a digest", "quay.io/a/b@" + digest, base + "/quay.io/a/b@" + digest, "quay." + base + "/a/b@" + digest, ""},
		{"tag and digest", "a/b:1@" + digest, base + "/docker.io/a/b:1@" + digest, "docker." + base + "/a/b:1@" + digest, ""},
		{"all of a Docker Hub name comes back short", "docker.io/library/nginx", base + "/docker.io/library/nginx", "docker." + base + "/library/nginx", "nginx"},
		{"an upper-case registry comes back in lower case", "Quay.io/a/b", base + "/quay.io/a/b", "quay." + base + "/a/b", "quay.io/a/b"},
		{"a registry that is not served", "foo.example/a", "", "", ""},
		{"no name", "A b", "", "", ""},
	} {
		t.Run(c.fact, func(t *testing.T) {
			for style, want := range map[Style]string{PathStyle: c.path, HostStyle: c.host} {
				got, err := n.Spell(c.name, style, base)
				if got != want || (err == nil) != (want != "") {
					t.Fatalf("got %q, %v, want %q", got, err, want)
				}
				if want == "" {
					continue
				}
				if again, err := n.Spell(got, style, base); err != nil || again != got {
					t.Errorf("%s became %s, %v", got, again, err)
				}
			}
			if c.path == "" {
				return
			}
			want := c.back
			if want == "" {
				want = c.name
			}
			if got, err := n.Unspell(c.path, base); err != nil || got != want {
				t.Errorf("%s came back as %q, %v, want %q", c.path, got, err, want)
			}
		})
	}
	if got, err := n.Unspell("nginx", base); err == nil {
		t.Errorf("a name that is not at the mirror came back as %s", got)
	}
}

func TestSpellingsThatAreToldApart(t *testing.T) {
	n := newNames(t, nil)
	const base = "mirror.example.com"
	for name, want := range map[string]string{
		"nginx":                          "docker.io/library/nginx",
		"library/nginx:1":                "registry-1.docker.io/library/nginx:1",
		"docker.io/nginx:1":              "docker.io/nginx:1",
		"docker.io/library/nginx":        "index.docker.io/library/nginx",
		"a/b":                            "docker.io/a/b",
		"docker.io/a/b:1":                "index.docker.io/a/b:1",
		"quay.io/a/b":                    "quay.io/a/b",
		"k8s.gcr.io/pause":               "k8s.gcr.io/pause",
		"index.docker.io/nginx":          "index.docker.io/nginx",
		"gcr.io/google_containers/pause": "gcr.io/google_containers/pause",
	} {
		got, err := n.SpellExactly(name, PathStyle, base)
		if err != nil || got != base+"/"+want {
			t.Errorf("%s became %s, %v, want %s", name, got, err, want)
			continue
		}
		if back, err := n.Unspell(got, base); err != nil || back != name {
			t.Errorf("%s came back as %s, %v", name, back, err)
		}
		wantRepo, _ := n.resolve(reference(t, name).Repository.Registry(), reference(t, name).Repository.Path())
		path, _, _ := strings.Cut(want, ":")
		if repo, err := n.Repository(Address{Host: base, Path: path}); err != nil || repo != wantRepo {
			t.Errorf("%s is %s at the mirror, %v", name, repo, err)
		}
	}
	for _, same := range []string{"index.docker.io/a/b", "Docker.io/a/b"} {
		if _, err := n.SpellExactly(same, PathStyle, base); err != nil {
			t.Errorf("%s: %v", same, err)
		}
	}
	if got, err := n.SpellExactly("docker.io/a/b", HostStyle, base); err != nil || got != "docker."+base+"/a/b" {
		t.Errorf("host style has no other names: got %s, %v", got, err)
	}
}

func TestPrefixes(t *testing.T) {
	n := newNames(t, nil)
	const base = "mirror.example.com"
	for prefix, want := range map[string]struct{ path, host string }{
		"registry.k8s.io":         {base + "/registry.k8s.io", "k8s." + base},
		"registry.k8s.io/coredns": {base + "/registry.k8s.io/coredns", "k8s." + base + "/coredns"},
		"docker.io":               {base + "/docker.io", "docker." + base},
		"docker.io/library":       {base + "/docker.io/library", "docker." + base + "/library"},
		"foo.example":             {},
	} {
		for style, want := range map[Style]string{PathStyle: want.path, HostStyle: want.host} {
			got, err := n.SpellPrefix(prefix, style, base)
			if got != want || (err == nil) != (want != "") {
				t.Fatalf("%s: got %q, %v, want %q", prefix, got, err, want)
			}
			if want == "" {
				continue
			}
			if again, err := n.SpellPrefix(got, style, base); err != nil || again != got {
				t.Errorf("%s became %s, %v", got, again, err)
			}
			if back, err := n.UnspellPrefix(got, base); err != nil || back != prefix {
				t.Errorf("%s came back as %q, %v, want %s", got, back, err, prefix)
			}
		}
	}
}

// historic names come back as docker.io or without a registry.
func historic(name string) bool {
	lower := strings.ToLower(name)
	return strings.HasPrefix(lower, hubWritten+"/") || strings.HasPrefix(lower, hubLibrary+"/")
}

// FuzzSpelling holds that a name spelled at the mirror means the same image, and that
// what comes back does too.
func FuzzSpelling(f *testing.F) {
	for _, s := range []string{"nginx", "docker.io/nginx:1", "library/nginx", "index.docker.io/a/b", "quay.io/docker.io/a", "k8s.gcr.io/pause", "Docker.IO/x", "docker.io/localhost/x", "docker.io/library/a.b/c", "harbor/x"} {
		f.Add(s, true, false)
		f.Add(s, false, false)
		f.Add(s, false, true)
	}
	n := newNames(f, nil)
	const base = "mirror.example.com"
	f.Fuzz(func(t *testing.T, name string, host, exactly bool) {
		style := PathStyle
		if host {
			style = HostStyle
		}
		spell := n.Spell
		if exactly {
			spell = n.SpellExactly
		}
		spelled, err := spell(name, style, base)
		if err != nil || spelled == name {
			return
		}
		ref, err := oci.ParseReference(name)
		if err != nil {
			t.Fatal(err)
		}
		want, err := n.resolve(ref.Repository.Registry(), ref.Repository.Path())
		if err != nil {
			t.Fatal(err)
		}
		at, err := oci.ParseReference(spelled)
		if err != nil || at.Tag != ref.Tag || at.Digest != ref.Digest || at.Untagged() != ref.Untagged() {
			t.Fatalf("%s became %s, %v", name, spelled, err)
		}
		got, err := n.Repository(Address{Host: at.Repository.Registry().String(), Path: strings.TrimPrefix(at.Repository.String(), at.Repository.Registry().String()+"/")})
		if err != nil || got != want {
			t.Fatalf("%s became %s, which is %v, %v", name, spelled, got, err)
		}
		back, err := n.Unspell(spelled, base)
		if err != nil {
			t.Fatalf("%s became %s, which does not come back: %v", name, spelled, err)
		}
		again, err := spell(back, style, base)
		if err != nil || again != spelled && !exactly && !historic(name) {
			t.Fatalf("%s became %s, which came back as %s, which became %s, %v", name, spelled, back, again, err)
		}
	})
}
