package rewrite_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"testing"

	"github.com/distribution/reference"
	"github.com/goccy/go-yaml"

	"sampan/internal/client"
)

// The formats of the corpus, as this test tells them.
const (
	inDockerfile = "Dockerfile"
	inKubernetes = "Kubernetes"
	inJSON       = "JSON"
	inCompose    = "Compose"
	inGitHub     = "GitHub"
	inGitLab     = "GitLab"
	inValues     = "Helm values"
	inTemplate   = "template" // which is no YAML yet
	inOther      = "other"
)

func formatOf(s sample) string {
	base := strings.ToLower(path.Base(s.name))
	ext := path.Ext(base)
	switch {
	case ext != ".yaml" && ext != ".yml" && ext != ".json":
		return inDockerfile
	case strings.Contains(s.name, ".github/workflows/"):
		return inGitHub
	case base == ".gitlab-ci.yml":
		return inGitLab
	}
	documents, err := decoded(s.in)
	switch {
	case err != nil:
		return inTemplate
	case ext == ".json":
		return inJSON
	case len(documents) > 0 && has(documents[0], "services") && (strings.Contains(base, "compose") || has(documents[0], "version")):
		return inCompose
	}
	for _, d := range documents {
		if has(d, "apiVersion") && has(d, "kind") {
			return inKubernetes
		}
	}
	if base == "values.yaml" {
		return inValues
	}
	return inOther
}

func has(document any, key string) bool {
	m, _ := document.(yaml.MapSlice)
	_, ok := get(m, key)
	return ok
}

func get(m yaml.MapSlice, key string) (any, bool) {
	for _, item := range m {
		if item.Key == key {
			return item.Value, true
		}
	}
	return nil, false
}

func text(m yaml.MapSlice, key string) string {
	v, _ := get(m, key)
	s, _ := v.(string)
	return s
}

// decoded reads a stream with a library that the rewriter does not use.
func decoded(in []byte) ([]any, error) {
	d := yaml.NewDecoder(bytes.NewReader(bytes.TrimPrefix(in, []byte("\ufeff"))), yaml.UseOrderedMap(), yaml.AllowDuplicateMapKey())
	var all []any
	for {
		var v any
		err := d.Decode(&v)
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		all = append(all, v)
	}
}

// A leaf is a scalar of a document.
type leaf struct {
	path   []string // keys; "[]" for what is in a list
	value  string   // with its type
	text   string   // of a string
	within yaml.MapSlice
	object yaml.MapSlice // the innermost with a kind, or nil
}

func (l leaf) key(back int) string {
	if back >= len(l.path) {
		return ""
	}
	return l.path[len(l.path)-1-back]
}

func leaves(v any, path []string, within, object yaml.MapSlice) []leaf {
	var all []leaf
	switch v := v.(type) {
	case yaml.MapSlice:
		if has(v, "kind") && has(v, "apiVersion") {
			object = v
		}
		for _, item := range v {
			all = append(all, leaves(item.Value, append(path[:len(path):len(path)], fmt.Sprint(item.Key)), v, object)...)
		}
	case []any:
		for _, item := range v {
			all = append(all, leaves(item, append(path[:len(path):len(path)], "[]"), within, object)...)
		}
	default:
		s, _ := v.(string)
		all = append(all, leaf{path, fmt.Sprintf("%T %v", v, v), s, within, object})
	}
	return all
}

func imageKey(key string) bool {
	return strings.HasSuffix(strings.ToLower(key), "image")
}

// mayName says, by how people call things and not by how the rewriter finds them,
// whether a field may name an image or the registry of one.
func mayName(l leaf) bool {
	switch key := l.key(0); {
	case imageKey(key):
		return l.key(1) != "machine" // CircleCI's virtual machines
	case key == "[]":
		return l.key(1) == "services" || l.key(1) == "images"
	default:
		switch key {
		case "newName", "repository", "imageRepository", "imageRegistry", "registry", "container", "hub":
			return true
		case "uses":
			return strings.HasPrefix(l.text, "docker://")
		case "reference", "name":
			return imageKey(l.key(1)) || l.key(2) == "services" || l.key(2) == "images"
		}
	}
	return false
}

// mustName says whether a field certainly names an image.
func mustName(format string, l leaf) bool {
	if strings.ContainsAny(l.text, "$ {") {
		return false
	}
	switch format {
	case inKubernetes, inJSON:
		if l.object == nil || text(l.object, "kind") == "CustomResourceDefinition" {
			return false
		}
		list := l.key(2)
		return l.key(0) == "image" && l.key(1) == "[]" && (list == "containers" || list == "initContainers" || list == "ephemeralContainers") ||
			l.key(0) == "reference" && l.key(1) == "image" && l.key(3) == "volumes"
	case inCompose:
		_, made := get(l.within, "build") // then the name is of what is built here
		return len(l.path) == 3 && l.path[0] == "services" && l.path[2] == "image" && !made
	case inGitHub:
		if l.key(0) == "uses" {
			return strings.HasPrefix(l.text, "docker://")
		}
		return len(l.path) > 2 && l.path[0] == "jobs" && (len(l.path) == 3 && l.path[2] == "container" ||
			len(l.path) == 4 && l.path[2] == "container" && l.path[3] == "image" ||
			len(l.path) == 5 && l.path[2] == "services" && l.path[4] == "image")
	case inGitLab:
		return len(l.path) <= 2 && l.key(0) == "image" || l.key(0) == "name" && l.key(1) == "image" || l.key(0) == "[]" && l.key(1) == "services"
	case inValues:
		return l.key(0) == "repository" && imageKey(l.key(1)) && text(l.within, "registry") == ""
	}
	return false
}

// whole is the name that a field takes part in: in Helm values it is written in parts.
func (l leaf) whole() string {
	name := strings.TrimPrefix(l.text, "docker://")
	if registry := text(l.within, "registry"); l.key(0) == "repository" && registry != "" {
		name = registry + "/" + name
	}
	return name
}

// Documents that are rewritten differ in fields that name images, and in those as far
// as the mirror has a name for them. Both are read with another library than the
// rewriter's, and this test has its own idea of what such fields are.
func TestRealDocumentsDifferInImagesOnly(t *testing.T) {
	m := person(t, "path")
	there, _ := rewriters(t, m)
	compared, must := 0, make(map[string]int)
	for _, s := range corpusFiles(t) {
		format := formatOf(s)
		if format == inDockerfile || format == inTemplate {
			continue
		}
		out := rewritten(t, there, s.name, s.in).Out
		before, err := decoded(s.in)
		if err != nil {
			t.Errorf("%s: %v", s, err)
			continue
		}
		after, err := decoded(out)
		if err != nil || len(before) != len(after) {
			t.Errorf("%s has %d documents, and rewritten %d: %v", s, len(before), len(after), err)
			continue
		}
		for d := range before {
			a, b := leaves(before[d], nil, nil, nil), leaves(after[d], nil, nil, nil)
			if len(a) != len(b) {
				t.Errorf("%s has %d scalars, and rewritten %d", s, len(a), len(b))
				continue
			}
			for i := range a {
				compared++
				must[format] += compareLeaf(t, s, m, format, a[i], b[i])
			}
		}
	}
	t.Logf("%d scalars, of which must change %v", compared, must)
	for format, least := range map[string]int{inKubernetes: 95, inJSON: 1, inCompose: 50, inGitHub: 25, inGitLab: 4, inValues: 8} {
		if must[format] < least {
			t.Errorf("%s: %d names must change, want %d at least for the test to mean something", format, must[format], least)
		}
	}
}

// compareLeaf returns 1 for a field that must change, and 0 for others.
func compareLeaf(t *testing.T, s sample, m *client.Mirror, format string, before, after leaf) int {
	t.Helper()
	at := fmt.Sprintf("%s: %s", s, strings.Join(before.path, "."))
	if strings.Join(before.path, ".") != strings.Join(after.path, ".") {
		t.Errorf("%s became the field %s", at, strings.Join(after.path, "."))
		return 0
	}
	if before.value != after.value && !mayName(before) {
		t.Errorf("%s is no image, and %s became %s", at, before.value, after.value)
	}
	if !mustName(format, before) {
		return 0
	}
	named, err := reference.ParseNormalizedNamed(before.whole())
	if err != nil {
		return 0
	}
	if _, err := m.Spell(before.whole()); err != nil {
		return 0 // of a registry that the mirror does not serve
	}
	own, err := m.Original(after.whole())
	if err != nil || own.Repository.String() != named.Name() {
		t.Errorf("%s: %s became %s, which is not %s at the mirror: %v", at, before.text, after.text, named.Name(), err)
		return 1
	}
	if tail(before.text) != tail(after.text) {
		t.Errorf("%s: %s became %s, with another tag or digest", at, before.text, after.text)
	}
	return 1
}

// tail is the tag and digest of a name, as written.
func tail(name string) string {
	name = name[strings.LastIndex(name, "/")+1:]
	if i := strings.IndexAny(name, ":@"); i >= 0 {
		return name[i:]
	}
	return ""
}

// What is no YAML stays, and that is told. The library of the rewriter takes some
// templates for YAML; in those a name that is written out is a name.
func TestRealTemplatesStayAndAreReported(t *testing.T) {
	there, _ := rewriters(t, person(t, "path"))
	templates := 0
	for _, s := range corpusFiles(t) {
		if formatOf(s) != inTemplate {
			continue
		}
		templates++
		res := rewritten(t, there, s.name, s.in)
		if len(res.Undecided) == 0 && changed(res) == 0 {
			t.Errorf("%s: nothing is reported", s)
		}
		before, after := strings.Split(string(s.in), "\n"), strings.Split(string(res.Out), "\n")
		for i := range before {
			template := ""
			if at := strings.Index(before[i], "{{"); at >= 0 {
				template = before[i][at:]
			}
			if before[i] != after[i] && (!strings.HasSuffix(after[i], template) || !strings.Contains(before[i], "image: ")) {
				t.Errorf("%s:%d: %q became %q", s, i+1, before[i], after[i])
			}
		}
	}
	if templates < 19 {
		t.Errorf("%d templates", templates)
	}
}

// The Kubernetes API keeps an object of each kind with every field set. In those, the
// containers of three sorts and the volume that is an image change; the image of a
// block device of Ceph, which is called image as well, does not.
func TestEveryImageOfTheKubernetesAPI(t *testing.T) {
	there, _ := rewriters(t, person(t, "path"))
	kinds, devices := make(map[string]bool), 0
	for _, s := range corpusFiles(t) {
		if s.project != "k8s-io-api" {
			continue
		}
		in := bytes.ReplaceAll(s.in, []byte("imageValue"), []byte("quay.io/team/app:1"))
		in = bytes.ReplaceAll(in, []byte("referenceValue"), []byte("quay.io/team/app:1"))
		before, err := decoded(in)
		if err != nil {
			t.Fatal(err)
		}
		after, err := decoded(rewritten(t, there, s.name, in).Out)
		if err != nil {
			t.Fatal(err)
		}
		names := 0
		a, b := leaves(before[0], nil, nil, nil), leaves(after[0], nil, nil, nil)
		for i := range a {
			switch field := strings.Join(a[i].path, "."); {
			case mustName(inKubernetes, a[i]):
				names++
				if b[i].text != address+"/"+a[i].text {
					t.Errorf("%s: %s became %q", s, field, b[i].text)
				}
			case a[i].value != b[i].value:
				t.Errorf("%s: %s became %q", s, field, b[i].text)
			case a[i].key(1) == "rbd" && a[i].key(0) == "image":
				devices++
			}
		}
		kind := text(a[0].object, "kind")
		kinds[kind] = true
		if want := map[bool]int{true: 1, false: 4}[kind == "ImageReview"]; names != want {
			t.Errorf("%s names %d images, want %d", s, names, want)
		}
	}
	if len(kinds) < 9 || devices < 9 {
		t.Errorf("%d kinds and %d block devices", len(kinds), devices)
	}
}
