package oci

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/distribution/reference"
	"pgregory.net/rapid"
)

var zeroDigest = DigestOf(nil).String()

func TestParseReference(t *testing.T) {
	for _, c := range []struct{ fact, in, want string }{
		{"a bare name is Docker Hub's library, latest", "nginx", "docker.io/library/nginx:latest"},
		{"two components are Docker Hub's", "grafana/grafana", "docker.io/grafana/grafana:latest"},
		{"docker.io alone gets library", "docker.io/nginx:1", "docker.io/library/nginx:1"},
		{"the historic host is docker.io", "index.docker.io/nginx", "docker.io/library/nginx:latest"},
		{"a registry is kept", "quay.io/a/b:v1", "quay.io/a/b:v1"},
		{"a port is kept", "registry.corp:5000/a", "registry.corp:5000/a:latest"},
		{"Docker Hub in upper case gets library too", "Docker.IO/nginx", "docker.io/library/nginx:latest"},
		{"localhost is a registry", "localhost/a", "localhost/a:latest"},
		{"an IPv6 address is a registry", "[::1]:5000/a", "[::1]:5000/a:latest"},
		{"a registry in upper case is lowered", "Quay.IO/a", "quay.io/a:latest"},
		{"a digest needs no tag", "quay.io/a@" + zeroDigest, "quay.io/a@" + zeroDigest},
		{"tag and digest are both kept", "quay.io/a:v1@" + zeroDigest, "quay.io/a:v1@" + zeroDigest},
	} {
		t.Run(c.fact, func(t *testing.T) {
			got, err := ParseReference(c.in)
			if err != nil || got.String() != c.want {
				t.Errorf("got %v, %v, want %s", got, err, c.want)
			}
		})
	}
}

func TestParseReferenceRefuses(t *testing.T) {
	long := strings.Repeat("a", 129)
	for fact, in := range map[string]string{
		"nothing":                       "",
		"upper case":                    "quay.io/A",
		"upper case before a slash":     "Foo/bar",
		"a space":                       "quay.io/a b",
		"dots":                          "quay.io/../a",
		"a doubled slash":               "quay.io//a",
		"a slash at the end":            "quay.io/a/",
		"a tag that is empty":           "quay.io/a:",
		"a tag of 129 bytes":            "quay.io/a:" + long,
		"a name of 256 bytes":           "quay.io/" + strings.Repeat("a", 248),
		"an unknown digest algorithm":   "quay.io/a@md5:" + strings.Repeat("0", 32),
		"a short digest":                "quay.io/a@sha256:00",
		"an upper-case digest":          "quay.io/a@" + strings.ToUpper(zeroDigest[:7]) + zeroDigest[7:],
		"a digest without a repository": "@" + zeroDigest,
		"a scheme":                      "https://quay.io/a",
		"a NUL":                         "quay.io/a\x00",
		"an identifier of an image":     strings.Repeat("a", 64),
	} {
		t.Run(fact, func(t *testing.T) {
			got, err := ParseReference(in)
			if err == nil {
				t.Fatalf("accepted as %v", got)
			}
			switch code := CodeOf(err); code {
			case CodeNameInvalid, CodeTagInvalid, CodeDigestInvalid:
			default:
				t.Errorf("the code is %q", code)
			}
		})
	}
}

func TestParseRegistry(t *testing.T) {
	for in, want := range map[string]string{
		"quay.io": "quay.io", "Quay.IO": "quay.io", "localhost": "localhost", "harbor": "harbor", "10.0.0.1:5000": "10.0.0.1:5000",
		"[::1]:5000": "[::1]:5000", "index.docker.io": "docker.io", "a--b.example": "a--b.example",
	} {
		if got, err := ParseRegistry(in); err != nil || got.String() != want {
			t.Errorf("%s: got %v, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "a/b", "quay.io/", "https://quay.io", "a b", "-a", "a_b", "quay.io:", ":5000", "a:b", "..", "::1", strings.Repeat("a", 254)} {
		if got, err := ParseRegistry(in); CodeOf(err) != CodeNameInvalid {
			t.Errorf("%q: got %v, %v", in, got, err)
		}
	}
}

func TestParseRepositoryRefusesMoreThanARepository(t *testing.T) {
	for _, in := range []string{"nginx:1", "nginx@" + zeroDigest, "nginx:latest"} {
		if got, err := ParseRepository(in); CodeOf(err) != CodeNameInvalid {
			t.Errorf("%s: got %v, %v", in, got, err)
		}
	}
	if got, err := ParseRepository("nginx"); err != nil || got.String() != "docker.io/library/nginx" {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestRepositoryKeepsTheRegistrysSpelling(t *testing.T) {
	if got, err := DockerHub.Repository("nginx"); err != nil || got.Path() != "nginx" || got.String() != "docker.io/nginx" {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestANameHasAtMost255BytesWithItsHost(t *testing.T) {
	most := strings.Repeat("a", 255-len("docker.io/"))
	if _, err := DockerHub.Repository(most); err != nil {
		t.Error(err)
	}
	if _, err := DockerHub.Repository(most + "a"); CodeOf(err) != CodeNameInvalid {
		t.Errorf("got %v", err)
	}
}

func TestTags(t *testing.T) {
	for _, s := range []string{"latest", "_", "1.2.3-rc.1", "A", strings.Repeat("a", 128)} {
		if tag, err := ParseTag(s); err != nil || tag.String() != s || tag.IsZero() {
			t.Errorf("%s: %v, %v", s, tag, err)
		}
	}
	for _, s := range []string{"", ".a", "-a", "a/b", "a:b", "a b", "ü", "a\n", strings.Repeat("a", 129)} {
		if _, err := ParseTag(s); CodeOf(err) != CodeTagInvalid {
			t.Errorf("%q: %v", s, err)
		}
	}
}

func TestZeroValuesAreEmpty(t *testing.T) {
	if !(Registry{}).IsZero() || !(Repository{}).IsZero() || !(Tag{}).IsZero() || !(Digest{}).IsZero() ||
		(Repository{}).String() != "" || (Reference{}).String() != "" || (Digest{}).String() != "" {
		t.Error("a zero value is not empty")
	}
}

func TestMessagesAreSafeAndShort(t *testing.T) {
	_, err := DockerHub.Repository(strings.Repeat("\x1b[31m\n", 1000))
	if err == nil || len(err.Error()) > 1000 || strings.ContainsAny(err.Error(), "\x1b\n") {
		t.Errorf("got %q", err)
	}
}

// The grammar written by hand is the library's.

func libraryPath(s string) bool {
	named, err := reference.WithName("example.com/" + s)
	return err == nil && reference.Domain(named) == "example.com" && reference.Path(named) == s
}

func checkPath(t interface{ Fatalf(string, ...any) }, s string) {
	if got, want := validPath(s), libraryPath(s); got != want {
		t.Fatalf("validPath(%q) = %v, the library says %v", s, got, want)
	}
}

func TestValidPathIsTheLibrarysGrammar(t *testing.T) {
	for _, s := range []string{
		"", "a", "a/b", "a.b", "a..b", "a_b", "a__b", "a___b", "a-b", "a---b", "a.-b", "a-.b", "a_-b", "-a", "a-", "_a", "a_", ".a", "a.",
		"a//b", "/a", "a/", "A", "a b", "ü", "a:b", "a@b", "0", "a\n", "a\x00", strings.Repeat("a", 255), strings.Repeat("a", 256),
	} {
		checkPath(t, s)
	}
	rapid.Check(t, func(t *rapid.T) {
		checkPath(t, rapid.StringOfN(rapid.RuneFrom([]rune("ab0._-/A:")), 0, 12, -1).Draw(t, "path"))
	})
}

func FuzzValidPath(f *testing.F) {
	for _, s := range []string{"library/nginx", "a__b/c--d.e", "a.-b", "_", strings.Repeat("a/", 127) + "a"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		checkPath(t, s)
		if got, want := validComponent(s), libraryPath(s) && !strings.Contains(s, "/"); len(s) <= maxName && got != want {
			t.Fatalf("validComponent(%q) = %v, the library says %v", s, got, want)
		}
		if got, want := validTag(s), reference.TagRegexp.FindString(s) == s && s != ""; got != want {
			t.Fatalf("validTag(%q) = %v, the library says %v", s, got, want)
		}
	})
}

// FuzzParseReference holds that what is accepted is printed in a form that means
// the same, and that its parts are valid on their own.
func FuzzParseReference(f *testing.F) {
	for _, s := range []string{"nginx", "quay.io/a/b:v1@" + zeroDigest, "[::1]:5000/a", "LOCALHOST/a", "Foo/bar", "index.docker.io/a", "a.b:80/c"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		ref, err := ParseReference(s)
		if err != nil {
			if CodeOf(err) == "" {
				t.Fatalf("an error without a code: %v", err)
			}
			return
		}
		again, err := ParseReference(ref.String())
		if err != nil || again.Repository != ref.Repository || again.Tag != ref.Tag || again.Digest != ref.Digest {
			t.Fatalf("%q is %s, which is %v, %v", s, ref, again, err)
		}
		registry, err := ParseRegistry(ref.Repository.Registry().String())
		if err != nil || registry != ref.Repository.Registry() {
			t.Fatalf("%q has the registry %v: %v, %v", s, ref.Repository.Registry(), registry, err)
		}
		repo, err := registry.Repository(ref.Repository.Path())
		if err != nil || repo != ref.Repository {
			t.Fatalf("%q has the repository %v: %v", s, ref.Repository, err)
		}
		if repo.Registry() == DockerHub && !strings.Contains(repo.Path(), "/") {
			t.Fatalf("%q is %s on Docker Hub", s, repo)
		}
	})
}

func BenchmarkRepository(b *testing.B) {
	for b.Loop() {
		if _, err := DockerHub.Repository("library/nginx"); err != nil {
			b.Fatal(err)
		}
	}
}

func TestRepositoriesAreWrittenAsTheirNames(t *testing.T) {
	repo, err := ParseRepository("quay.io/team/app")
	if err != nil {
		t.Fatal(err)
	}
	for want, v := range map[string]any{`"quay.io/team/app"`: repo, `""`: Repository{}} {
		if b, err := json.Marshal(v); err != nil || string(b) != want {
			t.Errorf("%s, %v; want %s", b, err, want)
		}
	}
}

func TestUntagged(t *testing.T) {
	for in, want := range map[string]bool{"nginx": true, "nginx:latest": false, "nginx@" + zeroDigest: false, "quay.io/a/b": true} {
		ref, err := ParseReference(in)
		if err != nil || ref.Untagged() != want {
			t.Errorf("%s: %v, %v", in, ref.Untagged(), err)
		}
	}
}

func TestLoopback(t *testing.T) {
	for host, want := range map[string]bool{
		"localhost": true, "localhost:5000": true, "a.localhost:1": true, "127.0.0.1": true, "127.9.9.9:5000": true, "[::1]:5000": true, "[::1]": true, "::1": true,
		"localhost.example.com": false, "notlocalhost": false, "10.0.0.1:5000": false, "128.0.0.1": false, "[::2]:1": false, "mirror.example.com": false, "": false,
	} {
		if got := Loopback(host); got != want {
			t.Errorf("%q: %v", host, got)
		}
	}
}
