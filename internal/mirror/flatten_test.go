package mirror

import (
	"strings"
	"testing"

	"sampan/internal/oci"
)

func TestNamesOfCopies(t *testing.T) {
	long := strings.Repeat("a/", 100) + "a"
	for _, c := range []struct {
		fact          string
		naming        Naming
		source, below string
		target, want  string // want is empty for a name that cannot be
	}{
		{"the path is kept", Naming{}, "gcr.io/a/b", "team", "h.example", "h.example/team/a/b"},
		{"library is a part of the path", Naming{}, "nginx", "team", "h.example", "h.example/team/library/nginx"},
		{"nothing may be in front", Naming{}, "gcr.io/a/b", "", "h.example", "h.example/a/b"},
		{"slashes become points", Naming{Flatten: true}, "gcr.io/google-samples/microservices-demo/emailservice", "anjia0532", "docker.io", "docker.io/anjia0532/google-samples.microservices-demo.emailservice"},
		{"library is left out", Naming{Flatten: true}, "nginx", "me", "docker.io", "docker.io/me/nginx"},
		{"but only that of Docker Hub", Naming{Flatten: true}, "quay.io/library/nginx", "me", "docker.io", "docker.io/me/library.nginx"},
		{"with the registry in front", Naming{Flatten: true, Registry: true}, "gcr.io/a/b", "me", "h.example", "h.example/me/gcr.io.a.b"},
		{"the registry as a path", Naming{Registry: true}, "gcr.io/a/b", "", "h.example", "h.example/gcr.io/a/b"},
		{"a port is no part of a name", Naming{Registry: true}, "h.example:5000/a", "", "h.example", "h.example/h.example-5000/a"},
		{"another separator", Naming{Flatten: true, Separator: "__"}, "gcr.io/a/b", "", "h.example", "h.example/a__b"},
		{"a separator of what is flattened by a template", Naming{Template: "{flat}", Separator: "_"}, "gcr.io/a/b", "", "h.example", "h.example/a_b"},
		{"a separator of nothing", Naming{Separator: "_"}, "gcr.io/a/b", "", "h.example", ""},
		{"a template that separates nothing", Naming{Template: "{name}", Separator: "_"}, "gcr.io/a/b", "", "h.example", ""},
		{"no separator of a name", Naming{Flatten: true, Separator: "+"}, "gcr.io/a/b", "", "h.example", ""},
		{"a template", Naming{Template: "{registry}/{name}"}, "gcr.io/a/b/c", "x", "h.example", "h.example/x/gcr.io/c"},
		{"a template with all words", Naming{Template: "{namespace}/{name}-{flat}"}, "gcr.io/a/b", "", "h.example", "h.example/a/b-a.b"},
		{"a template where there is no namespace", Naming{Template: "{namespace}/{name}"}, "gcr.io/b", "", "h.example", "h.example/b"},
		{"a template with a word of no meaning", Naming{Template: "{tag}/{name}"}, "gcr.io/a/b", "", "h.example", ""},
		{"a template that is not closed", Naming{Template: "{name"}, "gcr.io/a/b", "", "h.example", ""},
		{"a template that is one name", Naming{Template: "x"}, "gcr.io/a/b", "", "h.example", ""},
		{"a template that leaves the grammar", Naming{Template: "{name}.."}, "gcr.io/a/b", "", "h.example", ""},
		{"Docker Hub has one level, so that names are flattened there", Naming{}, "gcr.io/google-samples/microservices-demo/emailservice", "me", "docker.io", "docker.io/me/google-samples.microservices-demo.emailservice"},
		{"also with the registry in front", Naming{Registry: true}, "gcr.io/a", "me", "docker.io", "docker.io/me/gcr.io.a"},
		{"also those of Docker Hub itself", Naming{}, "nginx", "me", "docker.io", "docker.io/me/nginx"},
		{"what is flat stays as it is", Naming{}, "registry.k8s.io/pause", "me", "docker.io", "docker.io/me/pause"},
		{"a namespace and a name need no other", Naming{}, "gcr.io/a/b", "", "docker.io", "docker.io/a/b"},
		{"what a template makes is not flattened", Naming{Template: "{path}"}, "gcr.io/a/b", "me", "docker.io", ""},
		{"Docker Hub has one namespace", Naming{}, "gcr.io/a/b", "me/too", "docker.io", ""},
		{"and wants a namespace", Naming{Flatten: true}, "gcr.io/a/b", "", "docker.io", ""},
		{"a name that is too long", Naming{}, "gcr.io/" + long, strings.Repeat("b", 60), "h.example", ""},
	} {
		t.Run(c.fact, func(t *testing.T) {
			source, err := oci.ParseRepository(c.source)
			if err != nil {
				t.Fatal(err)
			}
			registry, err := oci.ParseRegistry(c.target)
			if err != nil {
				t.Fatal(err)
			}
			got, err := c.naming.Target(source, registry, c.below)
			if (err != nil) != (c.want == "") || got.String() != c.want {
				t.Errorf("got %s, %v; want %q", got, err, c.want)
			}
			if err != nil && oci.CodeOf(err) != oci.CodeNameInvalid {
				t.Errorf("got %v", err)
			}
		})
	}
}
