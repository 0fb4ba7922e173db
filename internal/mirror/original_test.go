package mirror

import (
	"errors"
	"testing"

	"sampan/internal/oci"
)

func TestOriginal(t *testing.T) {
	n := newNames(t, nil)
	digest := oci.DigestOf(nil).String()
	for _, c := range []struct {
		fact string
		name string
		base string
		want string // empty: refused
	}{
		{"path style", "mirror.example.com/docker.io/library/nginx:1.27", "", "docker.io/library/nginx:1.27"},
		{"path style without library", "mirror.example.com/docker.io/nginx:1.27", "", "docker.io/library/nginx:1.27"},
		{"no registry is the default", "mirror.example.com/me/app:1", "", "docker.io/me/app:1"},
		{"host style", "quay.mirror.example.com/a/b:v1", "", "quay.io/a/b:v1"},
		{"host style with a port", "quay.mirror.example.com:8443/a/b:v1", "mirror.example.com:8443", "quay.io/a/b:v1"},
		{"an address", "127.0.0.1:5000/quay.io/a/b:v1", "127.0.0.1:5000", "quay.io/a/b:v1"},
		{"an alias keeps its spelling", "mirror.example.com/k8s.gcr.io/pause:3", "", "k8s.gcr.io/pause:3"},
		{"tag and digest stay", "mirror.example.com/quay.io/a:v1@" + digest, "", "quay.io/a:v1@" + digest},
		{"a digest stays", "quay.mirror.example.com/a@" + digest, "", "quay.io/a@" + digest},
		{"another port is another mirror", "mirror.example.com:1/quay.io/a:1", "", ""},
		{"an image's own name is not here", "quay.io/a:1", "", ""},
		{"a registry that is not served", "mirror.example.com/foo.example/a:1", "", ""},
		{"a host that chooses nothing", "foo.mirror.example.com/a:1", "", ""},
		{"nothing is below an address", "docker.127.0.0.1:5000/a:1", "127.0.0.1:5000", ""},
		{"no name", "mirror.example.com/UPPER", "", ""},
	} {
		t.Run(c.fact, func(t *testing.T) {
			got, err := n.Original(c.name, c.base)
			if got.String() != c.want && c.want != "" || (err == nil) != (c.want != "") {
				t.Fatalf("got %v, %v, want %q", got, err, c.want)
			}
			var e *oci.Error
			if err != nil && !errors.As(err, &e) {
				t.Errorf("%v has no code", err)
			}
		})
	}
}

// What Name makes, Original undoes.
func FuzzOriginalUndoesName(f *testing.F) {
	for _, s := range []string{"nginx", "quay.io/docker.io/a:v1", "k8s.gcr.io/pause", "gcr.io/google_containers/pause:1", "a.b/c"} {
		f.Add(s, "mirror.example.com", true)
		f.Add(s, "localhost:5000", false)
	}
	n := newNames(f, func(o *Options) { o.Open = true })
	f.Fuzz(func(t *testing.T, s, base string, hostStyle bool) {
		ref, err := oci.ParseReference(s)
		if err != nil {
			return
		}
		style := PathStyle
		if hostStyle {
			style = HostStyle
		}
		name, err := n.Name(ref, style, base)
		if err != nil {
			return
		}
		back, err := n.Original(name, base)
		if err != nil {
			t.Fatalf("%s was named %s, which is refused: %v", ref, name, err)
		}
		want := ref.Repository
		if style == HostStyle && n.firstHost[want.Registry()] == "" {
			if want, err = n.resolve(want.Registry(), want.Path()); err != nil {
				t.Fatal(err)
			}
			back.Repository, _ = n.resolve(back.Repository.Registry(), back.Repository.Path())
		}
		if back.Repository != want || back.Tag != ref.Tag || back.Digest != ref.Digest {
			t.Fatalf("%s was named %s, which is %s", ref, name, back)
		}
	})
}
