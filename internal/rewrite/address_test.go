package rewrite

import (
	"reflect"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// A mirror at an IPv6 address has brackets in its name, which in YAML mean something:
// what comes out reads as what was there, but for the names.
func TestNamesWithBracketsStayTexts(t *testing.T) {
	const mirror = "[fd00::1]:5000/"
	r := rewriter(t, Options{Rename: func(name string) (string, error) { return mirror + name, nil }})
	const chart = "apiVersion: helm.cattle.io/v1\nkind: HelmChart\nspec:\n  valuesContent: "
	const build = "services:\n  a:\n    build:\n      "
	for _, c := range []struct {
		fact, file, doc string
		images          int // that are renamed; the others are reported
	}{
		{"a plain name", "x.yaml", "image: a/b:1 # x\n", 1},
		{"a name in braces", "x.yaml", "{image: a/b:1}\n", 1},
		{"a default in a block", "compose.yaml", "services:\n  a:\n    image: ${A:-b/c:1}\n", 1},
		{"a default in quotes in braces", "compose.yaml", "services: {a: {image: '${A:-b/c:1}'}}\n", 1},
		{"a scheme in brackets", ".github/workflows/a.yaml", "jobs: {a: {steps: [{uses: docker://b/c}]}}\non: push\n", 1},
		{"a context in a block", "compose.yaml", build + "additional_contexts:\n        - a=docker-image://b/c\n", 1},
		{"a context in braces", "compose.yaml", build + "additional_contexts: {a: docker-image://b/c}\n", 1},
		{"a context in brackets", "compose.yaml", build + "additional_contexts: [a=docker-image://b/c]\n", 1},
		{"a context in brackets with a quote in it", "compose.yaml", build + "additional_contexts: [a\"=docker-image://b/c]\n", 0},
		{"a text in double quotes", "x.yaml", chart + "\"image: a/b:1\"\n", 0},
		{"a text in single quotes", "x.yaml", chart + "'image: a/b:1'\n", 1},
		{"a text of JSON", "x.yaml", chart + "'{\"image\": \"a/b:1\"}'\n", 1},
		{"a text in a block", "x.yaml", chart + "|\n    image: a/b:1\n", 1},
		{"a line of a Dockerfile", "compose.yaml", build + "dockerfile_inline: FROM a/b:1\n", 1},
		{"the same in braces", "compose.yaml", "services: {a: {build: {dockerfile_inline: FROM a/b:1}}}\n", 0},
	} {
		res, err := r.Bytes(c.file, []byte(c.doc))
		if err != nil {
			t.Fatal(err)
		}
		var before, after any
		if err := yaml.Unmarshal([]byte(c.doc), &before); err != nil {
			t.Fatal(err)
		}
		if err := yaml.Unmarshal(res.Out, &after); err != nil {
			t.Errorf("%s: %q: %v", c.fact, res.Out, err)
			continue
		}
		if strings.Count(string(res.Out), mirror) != c.images || len(res.Images) != c.images {
			t.Errorf("%s: %q, %d images, %+v", c.fact, res.Out, len(res.Images), res.Undecided)
		}
		if back := without(after, mirror); !reflect.DeepEqual(unquotedTexts(back), unquotedTexts(before)) {
			t.Errorf("%s: %q reads as %v", c.fact, res.Out, after)
		}
	}
}

// without takes a text out of all that are in a value.
func without(v any, text string) any {
	switch v := v.(type) {
	case map[string]any:
		for k := range v {
			v[k] = without(v[k], text)
		}
	case []any:
		for i := range v {
			v[i] = without(v[i], text)
		}
	case string:
		return strings.ReplaceAll(v, text, "")
	}
	return v
}

// unquotedTexts reads the texts in a value that are YAML.
func unquotedTexts(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k := range v {
			v[k] = unquotedTexts(v[k])
		}
	case []any:
		for i := range v {
			v[i] = unquotedTexts(v[i])
		}
	case string:
		var in any
		if yaml.Unmarshal([]byte(v), &in) == nil {
			return in
		}
	}
	return v
}
