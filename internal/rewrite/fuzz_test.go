package rewrite

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

// FuzzBytes holds of any file: nothing but what is told in Images changes, each place
// is told once, names that stay change nothing, and the way back gives the same bytes.
func FuzzBytes(f *testing.F) {
	for _, s := range samples() {
		f.Add("x.yaml", s)
	}
	f.Add("x.yaml", pod+"image: a:1\n  - {image: 'b', \"image\":\"c\"}\n---\nimage: {repository: d/e, tag: x}\n")
	f.Add(".gitlab-ci.yml", "image: a\nb:\n  services: [c, {name: d}]\n")
	f.Add("compose.yaml", "x-a: &a {image: b}\nservices:\n  c: {image: \"${D:-e}\"}\n  f: *a\n")
	f.Add("compose.yaml", "services:\n  c:\n    image: ${A:-${B:-c.io}/d:${E:-f}}\n    build:\n      dockerfile_inline: |\n        FROM a\n         \n        COPY --from=b / /\n      additional_contexts: [\"a=docker-image://b\"]\n")
	f.Add("x.yaml", "apiVersion: helm.cattle.io/v1\nkind: HelmChart\nspec:\n  valuesContent: |-\n   image: {repository: a/b}\n\n   x: \"y\n   z\"\n")
	f.Add("x.json", "{\"image\": \"a:1\"}\n{\"image\": \"b:2\"} {}\n")
	f.Add("Dockerfile", "ARG A=b\nFROM $A AS c\nCOPY --from=d:1 / /\n")
	there := rewriter(f, Options{Rename: func(name string) (string, error) { return "m.example.com/" + name, nil }})
	back := rewriter(f, Options{Rename: func(name string) (string, error) { return strings.TrimPrefix(name, "m.example.com/"), nil }})
	stay := rewriter(f, Options{Rename: func(name string) (string, error) { return name, nil }})
	f.Fuzz(func(t *testing.T, name, src string) {
		in := []byte(src)
		same, err := stay.Bytes(name, in)
		if err != nil || !bytes.Equal(same.Out, in) {
			t.Fatalf("%q became %q, %v", in, same.Out, err)
		}
		res, err := there.Bytes(name, in)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal([]byte(src), in) {
			t.Fatal("the input was changed")
		}
		rest, pos := []byte(nil), 0
		for _, i := range res.Images {
			if i.offset < pos || !strings.HasPrefix(src[i.offset:], i.Name) {
				t.Fatalf("%q: image %+v", src, i)
			}
			rest = append(append(rest, src[pos:i.offset]...), i.New...)
			pos = i.offset + len(i.Name)
		}
		if rest = append(rest, src[pos:]...); !bytes.Equal(rest, res.Out) {
			t.Fatalf("%q became %q, and what is told makes %q", src, res.Out, rest)
		}
		if strings.Contains(src, "m.example.com/") {
			return
		}
		again, err := back.Bytes(name, res.Out)
		if err != nil || !bytes.Equal(again.Out, in) {
			t.Fatalf("%q became %q, and that %q, %v", in, res.Out, again.Out, err)
		}
	})
}

// What another library reads in files of real projects differs in strings only, and
// only by the mirror in front.
func TestAnotherLibraryReadsTheSame(t *testing.T) {
	r := rewriter(t, Options{})
	files := 0
	err := filepath.WalkDir("testdata/corpus", func(path string, _ os.DirEntry, err error) error {
		if err != nil || !IsYAML(path) {
			return err
		}
		in, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		res, err := r.Bytes(path, in)
		if err != nil {
			return err
		}
		var before, after any
		if yaml.Unmarshal(in, &before) == nil {
			files++
			if err := yaml.Unmarshal(res.Out, &after); err != nil || !sameButNames(before, after) {
				t.Errorf("%s differs in more than names: %v", path, err)
			}
		}
		return nil
	})
	if err != nil || files < 100 {
		t.Errorf("%d files, %v", files, err)
	}
}

func sameButNames(a, b any) bool {
	switch a := a.(type) {
	case map[string]any:
		b, ok := b.(map[string]any)
		if !ok || len(a) != len(b) {
			return false
		}
		for k := range a {
			if !sameButNames(a[k], b[k]) {
				return false
			}
		}
		return true
	case []any:
		b, ok := b.([]any)
		if !ok || len(a) != len(b) {
			return false
		}
		for i := range a {
			if !sameButNames(a[i], b[i]) {
				return false
			}
		}
		return true
	case string:
		b, ok := b.(string)
		return ok && (a == b || strings.Replace(b, "M/", "", 1) == a)
	}
	return a == b || a != a //nolint:gocritic // NaN is not itself
}
