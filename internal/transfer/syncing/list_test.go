package syncing

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sampan/internal/oci"
)

func english(s, _ string) string { return s }

func read(t *testing.T, text string) *List {
	t.Helper()
	l, err := Read(strings.NewReader(text), "sync.yaml", More{}, english)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func tagsOf(t *testing.T, names ...string) []oci.Tag {
	t.Helper()
	var tags []oci.Tag
	for _, n := range names {
		tag, err := oci.ParseTag(n)
		if err != nil {
			t.Fatal(err)
		}
		tags = append(tags, tag)
	}
	return tags
}

func TestWhichTags(t *testing.T) {
	there := tagsOf(t, "1.0.0", "1.10.0", "1.2.0", "1.9", "2.0.0-rc.1", "2.0.0", "latest", "nightly", "v1.2.0", "3.20-alpine")
	for _, c := range []struct {
		fact, tags string
		want       string
	}{
		{"names", "[latest, 1.2.0]", "latest 1.2.0"},
		{"a name that is not there is tried all the same", "[gone, 1.2.0]", "gone 1.2.0"},
		{"a pattern", `["1.*"]`, "1.0.0 1.10.0 1.2.0 1.9"},
		{"what is excluded goes", `{include: ["1.*"], exclude: ["1.?.0"]}`, "1.10.0 1.9"},
		{"all but", `{exclude: ["*[a-z]*"]}`, "1.0.0 1.10.0 1.2.0 1.9 2.0.0"},
		{"a range, the highest first, without pre-releases", `{semver: ">=1.2 <3"}`, "2.0.0 1.10.0 1.9 1.2.0 v1.2.0"},
		{"a range with pre-releases", `{semver: ">=2.0.0-0"}`, "3.20-alpine 2.0.0 2.0.0-rc.1"},
		{"the newest", `{newest: 2, exclude: ["*-*"]}`, "2.0.0 1.10.0"},
		{"the newest of a range", `{newest: 1, semver: "1.x"}`, "1.10.0"},
		{"a name beside the newest", `{include: [latest, "*"], newest: 1, exclude: ["*-*"]}`, "latest 2.0.0"},
		{"a name is taken once", `{include: [2.0.0, "2*"]}`, "2.0.0 2.0.0-rc.1"},
		{"a number as it is written", "[1.30, 010, 0x1f, 1_0, 1.10]", "1.30 010 0x1f 1_0 1.10"},
		{"one number alone", "1.30", "1.30"},
		{"numbers in each field", `{include: [1.20, "1.*"], exclude: [1.9, &a 1.10, *a]}`, "1.20 1.0.0 1.10.0 1.2.0"},
		{"a number as a range", "{semver: 1.10}", "1.10.0"},
		{"more than there are", `{newest: 99, include: ["1.*"]}`, "1.10.0 1.9 1.2.0 1.0.0"},
	} {
		l := read(t, "targets: [m.test/]\nimages: [{source: quay.io/a/b, tags: "+c.tags+"}]\n")
		var got []string
		for _, tag := range l.Images[0].Tags.choose(there) {
			got = append(got, tag.String())
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: got %v, want %s", c.fact, got, c.want)
		}
	}
}

func TestMistakesAreToldWithTheirPlace(t *testing.T) {
	const text = `targets: [m.test/]
every: 10s
schedule: "0 3 * *"
names: {rule: flat}
platforms: [a/b/c/d]
images:
  - UPPER
  - source: nginx:1
    tags: ["1.*"]
  - source: quay.io/a/b
    tags: {semver: "new", newest: -1, include: ["["]}
    platforms: [linux/amd64, linux/]
`
	_, err := Read(strings.NewReader(text), "sync.yaml", More{}, english)
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{
		"sync.yaml:2:8: every: schedule and every", "sync.yaml:2:8: every: at least 1m", `sync.yaml:3:11: schedule: "0 3 * *" is not five fields of cron (minute,`, `names.rule: keep, flatten or template, not "flat"`,
		"sync.yaml:5:13: platforms[0]", `sync.yaml:7:5: images[0]: "UPPER" is not`, "images[1]: nginx:1 names one image",
		"sync.yaml:11:20: images[2].tags.semver", "images[2].tags.newest: 0", `images[2].tags.include[0]: "["`, "sync.yaml:12:30: images[2].platforms[1]",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("nothing says %q in\n%v", want, err)
		}
	}
	for _, text := range []string{"", "targets: [m.test/]", "images: [nginx]", "kubernetes: [v1.31.0]", "imagse: []", "images: {", "images: [{sources: x}]"} {
		if l, err := Read(strings.NewReader(text), "sync.yaml", More{}, english); err == nil || !strings.Contains(err.Error(), "sync.yaml") {
			t.Errorf("%q: %+v, %v", text, l, err)
		}
	}
	if l := read(t, "targets: [m.test/]\nimages: [{source: quay.io/a/b, tags: '1.*'}]\n"); !slices.Equal(l.Images[0].Tags.Include, []string{"1.*"}) {
		t.Errorf("one pattern alone: %+v", l.Images[0].Tags)
	}
	chinese := func(_, s string) string { return s }
	if _, err := Read(strings.NewReader("images: [nginx]"), "sync.yaml", More{}, chinese); err == nil || !strings.Contains(err.Error(), "复制到哪里") {
		t.Errorf("in Chinese: %v", err)
	}
}

// What only who reaches registries can judge is told with its place, too, and what the list
// says twice, or in vain.
func TestTargetsAndNamesAreCheckedBeforeAnythingIsAsked(t *testing.T) {
	more := More{
		Target: func(s string) error {
			if strings.Contains(s, "bad") {
				return errors.New("it is bad")
			}
			return nil
		},
		Naming: func(n Naming) error {
			if n.Separator == "/" {
				return errors.New("it separates")
			}
			return nil
		},
	}
	for text, want := range map[string]string{
		"targets: [m.test/, bad]\nimages: [nginx]":                                        "sync.yaml:1:20: targets[1]: it is bad",
		"targets: [m.test/]\nimages: [{source: nginx, to: [bad/]}]":                       "sync.yaml:2:31: images[0].to[0]: it is bad",
		"targets: [m.test/]\nnames: {rule: flatten, separator: /}\nimages: [nginx]":       "sync.yaml:2:8: names: it separates",
		"targets: [m.test/]\nnames: {rule: template}\nimages: [nginx]":                    "sync.yaml:2:15: names.rule: ",
		"targets: [m.test/]\nnames: {rule: flatten, template: '{name}'}\nimages: [nginx]": "sync.yaml:2:34: names.template: ",
		"targets: [m.test/]\nkubernetes: [v1.31.0, v1.99.0]":                              "sync.yaml:2:23: kubernetes[1]: v1.99.0 is not among the releases",
		"targets: [m.test/]\nkubernetes: [new]":                                           "sync.yaml:2:14: kubernetes[0]: ",
		"targets: [m.test/]\nimages: [nginx]\n---\ntargets: [n.test/]\nimages: [nginx]":   "sync.yaml: more than one document",
	} {
		_, err := Read(strings.NewReader(text), "sync.yaml", more, english)
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s\ngot %v\nwant %s", text, err, want)
		}
	}
	if _, err := Read(strings.NewReader("---\ntargets: [m.test/]\nimages: [nginx]\n---\n"), "sync.yaml", more, english); err != nil {
		t.Errorf("a document and an empty one: %v", err)
	}
	more.Images = []oci.Reference{{}, {}}
	if _, err := Read(strings.NewReader(""), "", more, english); err == nil || err.Error() != "--to says where the images of --kubeadm go, or targets of the list" {
		t.Errorf("images of the command without a target: %v", err)
	}
}

// lister has tags of repositories, and counts who asks.
type lister struct {
	oci.Reader
	tags map[string][]oci.Tag

	mu    sync.Mutex
	asked []string
}

func (l *lister) Tags(_ context.Context, repo oci.Repository) ([]oci.Tag, error) {
	l.mu.Lock()
	l.asked = append(l.asked, repo.String())
	l.mu.Unlock()
	tags, ok := l.tags[repo.String()]
	if !ok {
		return nil, oci.ErrNameUnknown
	}
	return tags, nil
}

// below puts everything below a target by its own path.
func below(target string, source oci.Reference) (oci.Reference, error) {
	repo, err := oci.ParseRepository(target + source.Repository.Path())
	return oci.Reference{Repository: repo, Tag: source.Tag}, err
}

func expand(t *testing.T, text string, r *lister, place Place) ([]string, []Failure, error) {
	t.Helper()
	items, failed, err := Expand(t.Context(), read(t, text), func(oci.Registry) (oci.Reader, error) { return r, nil }, place)
	var got []string
	for _, it := range items {
		got = append(got, fmt.Sprintf("%s>%s:%s", it.Source, it.Target, it.Tag))
	}
	return got, failed, err
}

func TestExpand(t *testing.T) {
	r := &lister{tags: map[string][]oci.Tag{"quay.io/a/b": tagsOf(t, "1", "2")}}
	got, failed, err := expand(t, `
targets: [m.test/x/]
images:
  - nginx:1
  - {source: quay.io/a/b, tags: ["*"], to: [m.test/x/, n.test/]}
  - {source: quay.io/a/c, tags: [5]}
  - {source: quay.io/gone, tags: ["*"]}
  - nginx:1
`, r, below)
	want := []string{
		"docker.io/library/nginx:1>m.test/x/library/nginx:1",
		"quay.io/a/b:1>m.test/x/a/b:1", "quay.io/a/b:1>n.test/a/b:1", "quay.io/a/b:2>m.test/x/a/b:2", "quay.io/a/b:2>n.test/a/b:2",
		"quay.io/a/c:5>m.test/x/a/c:5",
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v\nwant %v", got, err, want)
	}
	if len(failed) != 1 || failed[0].Source != "quay.io/gone" || !errors.Is(failed[0].Err, oci.ErrNameUnknown) {
		t.Errorf("failed: %v", failed)
	}
	slices.Sort(r.asked)
	if !slices.Equal(r.asked, []string{"quay.io/a/b", "quay.io/gone"}) {
		t.Errorf("asked for tags of %v: those that are named need no question", r.asked)
	}
}

// A target may tell the tag, too: of an image that is named by its digest, or in the place
// of its own.
func TestATargetMayTellTheTag(t *testing.T) {
	named := func(target string, _ oci.Reference) (oci.Reference, error) { return oci.ParseReference(target) }
	digest := "sha256:" + strings.Repeat("a", 64)
	got, failed, err := expand(t, "images:\n- {source: quay.io/a/b:1, to: ['m.test/x:stable']}\n- {source: 'quay.io/a/b@"+digest+"', to: ['m.test/y:pinned']}\n", &lister{}, named)
	want := []string{"quay.io/a/b:1>m.test/x:stable", "quay.io/a/b@" + digest + ">m.test/y:pinned"}
	if err != nil || len(failed) > 0 || !slices.Equal(got, want) {
		t.Errorf("got %v, %v, %v, want %v", got, failed, err, want)
	}
	var c *Collision
	if _, _, err = expand(t, "images: [{source: quay.io/a/b, tags: ['1', '2'], to: ['m.test/x:stable']}]\n", &lister{}, named); !errors.As(err, &c) {
		t.Errorf("two tags under one: %v", err)
	}
}

func TestTwoSourcesOnOneNameAreRefused(t *testing.T) {
	_, _, err := expand(t, "targets: [m.test/]\nimages: [quay.io/a/b:1, ghcr.io/a/b:1]\n", &lister{}, below)
	var c *Collision
	if !errors.As(err, &c) || c.Name != "m.test/a/b:1" || c.One != "quay.io/a/b:1" || c.Other != "ghcr.io/a/b:1" {
		t.Errorf("got %v", err)
	}
	_, _, err = expand(t, "targets: [m.test/]\nimages: [quay.io/a/b:1, {source: 'quay.io/a/b:1', platforms: [linux/amd64]}]\n", &lister{}, below)
	if !errors.As(err, &c) {
		t.Errorf("one image for different platforms: %v", err)
	}
}

// An image that the list has twice is copied with all that either asks for.
func TestAnImageThatIsThereTwiceIsOne(t *testing.T) {
	l := read(t, "targets: [m.test/]\nimages: [quay.io/a/b:1, {source: 'quay.io/a/b:1', referrers: true}, {source: quay.io/a/b, tags: ['1']}]\n")
	items, failed, err := Expand(t.Context(), l, func(oci.Registry) (oci.Reader, error) { return &lister{}, nil }, below)
	if err != nil || len(failed) > 0 || len(items) != 1 || !items[0].Referrers || !items[0].Pruned {
		t.Errorf("got %+v, %v, %v", items, failed, err)
	}
}

// kubeadm asks a repository that is not its default for coredns, without the folder in which
// it is; whoever lists that image otherwise means what was written.
func TestCoreDNSOfAReleaseHasTheNameThatKubeadmAsksFor(t *testing.T) {
	const source = "registry.k8s.io/coredns/coredns:v1.11.1>m.test/"
	image := func(s string) oci.Reference {
		t.Helper()
		ref, err := oci.ParseReference(s)
		if err != nil {
			t.Fatal(err)
		}
		return ref
	}
	more := More{Images: []oci.Reference{image("registry.k8s.io/coredns/coredns:v1.11.1"), image("registry.k8s.io/pause:3.10")}, Targets: []string{"m.test/"}}
	l, err := Read(strings.NewReader("images: ['registry.k8s.io/coredns/coredns:v1.10.1']\n"), "", more, english)
	if err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]struct {
		list  *List
		want  int
		plain string
	}{
		"a release":           {read(t, "targets: [m.test/]\nkubernetes: [v1.31.0]\n"), 8, ""},
		"a list of kubeadm's": {l, 4, "v1.10.1"},
	} {
		items, failed, err := Expand(t.Context(), c.list, func(oci.Registry) (oci.Reader, error) { return &lister{}, nil }, below)
		if err != nil || len(failed) > 0 || len(items) != c.want {
			t.Errorf("%s: got %v, %v, %v", what, items, failed, err)
		}
		found := make(map[string]bool)
		for _, it := range items {
			found[fmt.Sprintf("%s>%s", it.Source, it.Target)] = true
			if it.Target.Path() == "coredns" && it.Tag.String() == c.plain {
				t.Errorf("%s: %s goes to %s", what, it.Source, it.Target)
			}
		}
		if !found[source+"coredns"] || !found[source+"coredns/coredns"] {
			t.Errorf("%s: got %v", what, items)
		}
	}
}

func TestANameThatCannotBeIsAFailureOfItsImage(t *testing.T) {
	refuse := func(target string, ref oci.Reference) (oci.Reference, error) {
		if strings.Contains(ref.String(), "bad") {
			return oci.Reference{}, oci.Errorf(oci.CodeNameInvalid, "no")
		}
		return below(target, ref)
	}
	got, failed, err := expand(t, "targets: [m.test/]\nimages: [quay.io/a/bad:1, quay.io/a/b:1]\n", &lister{}, refuse)
	if err != nil || len(got) != 1 || len(failed) != 1 || failed[0].Source != "quay.io/a/bad:1" {
		t.Errorf("got %v, %v, %v", got, failed, err)
	}
}

func TestWhenTheNextRunIs(t *testing.T) {
	begin := time.Date(2026, 3, 1, 12, 0, 0, 0, time.Local)
	for text, want := range map[string]time.Time{
		"every: 90m":             begin.Add(90 * time.Minute),
		`schedule: "30 3 * * *"`: time.Date(2026, 3, 2, 3, 30, 0, 0, time.Local),
	} {
		l := read(t, "targets: [m.test/]\nimages: [nginx]\n"+text)
		if got := l.Next(begin); !l.Repeats() || !got.Equal(want) {
			t.Errorf("%s: %v, want %v", text, got, want)
		}
	}
	if read(t, "targets: [m.test/]\nimages: [nginx]\n").Repeats() {
		t.Error("a list without a schedule runs again")
	}
}
