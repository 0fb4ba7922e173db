package syncing

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sampan/internal/oci"
	"sampan/internal/registrytest"
	"sampan/internal/transfer"
	"sampan/internal/transfer/remote"
	"sampan/internal/upstream"
)

// index makes an index of one image for each architecture, in a registry.
func (m *memory) index(t *testing.T, name string, architectures ...string) oci.Digest {
	t.Helper()
	ref, err := oci.ParseReference(name)
	if err != nil {
		t.Fatal(err)
	}
	var children []oci.Descriptor
	for _, arch := range architectures {
		d := m.manifests[m.add(t, name, name+" for "+arch)].Descriptor
		d.Platform = &oci.Platform{OS: "linux", Architecture: arch}
		children = append(children, d)
	}
	raw, err := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": oci.MediaTypeImageIndex, "manifests": children})
	if err != nil {
		t.Fatal(err)
	}
	d := oci.DigestOf(raw)
	m.manifests[d] = oci.Manifest{Descriptor: oci.Descriptor{MediaType: oci.MediaTypeImageIndex, Digest: d, Size: int64(len(raw))}, Bytes: raw}
	m.tags[ref.Repository.String()+":"+ref.Tag.String()] = d
	return d
}

// forget begins to count anew.
func (m *memory) forget() { m.heads, m.reads, m.asked = 0, 0, 0 }

// counts are how often a registry was asked where a tag points, whether it has
// something, and for a manifest or blob.
func (m *memory) counts() string {
	return fmt.Sprintf("%d tags, %d digests, %d reads", m.heads, m.asked, m.reads)
}

func TestWhatASyncWithNothingToDoAsks(t *testing.T) {
	const digest = "@DIGEST"
	for fact, c := range map[string]struct {
		list, source, target string
		verify               bool
	}{
		"an index by its tag":                  {"quay.io/a/b:v1", "1 tags, 0 digests, 0 reads", "1 tags, 0 digests, 0 reads", false},
		"by its digest":                        {"quay.io/a/b" + digest, "0 tags, 0 digests, 0 reads", "0 tags, 1 digests, 0 reads", false},
		"by both":                              {"quay.io/a/b:v1" + digest, "0 tags, 0 digests, 0 reads", "1 tags, 0 digests, 0 reads", false},
		"by its tag, verified":                 {"quay.io/a/b:v1", "1 tags, 0 digests, 1 reads", "1 tags, 3 digests, 0 reads", true},
		"by its digest, verified":              {"quay.io/a/b" + digest, "0 tags, 0 digests, 1 reads", "0 tags, 4 digests, 0 reads", true},
		"one platform":                         {"{source: quay.io/a/b:v1, platforms: [linux/arm64]}", "1 tags, 0 digests, 1 reads", "1 tags, 0 digests, 0 reads", false},
		"two of three platforms":               {"{source: quay.io/a/b:v1, platforms: [linux/arm64, linux/amd64]}", "1 tags, 0 digests, 1 reads", "1 tags, 2 digests, 0 reads", false},
		"a manifest by its tag, also verified": {"quay.io/a/c:v1", "1 tags, 0 digests, 0 reads", "1 tags, 0 digests, 0 reads", true},
	} {
		t.Run(fact, func(t *testing.T) {
			from, to := newMemory(), newMemory()
			d := from.index(t, "quay.io/a/b:v1", "amd64", "arm64", "s390x")
			from.add(t, "quay.io/a/c:v1", "one")
			list := "targets: [m.test/]\nimages: [" + strings.ReplaceAll(c.list, digest, "@"+d.String()) + "]\n"
			if r, got := run(t, list, from, to, Options{Verify: c.verify}); r.Count(Copied) != 1 || !r.Complete {
				t.Fatalf("got %v", got)
			}
			from.forget()
			to.forget()
			if r, got := run(t, list, from, to, Options{Verify: c.verify}); r.Count(Unchanged) != 1 || !r.Complete {
				t.Errorf("the second time: %v", got)
			}
			if from.counts() != c.source || to.counts() != c.target {
				t.Errorf("the source was asked %s, the target %s; want %s and %s", from.counts(), to.counts(), c.source, c.target)
			}
		})
	}
}

// children are those of an index that a registry has.
func (m *memory) children(t *testing.T, index oci.Digest) int {
	t.Helper()
	g, err := m.manifests[index].Graph()
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, d := range g.Manifests {
		if _, ok := m.manifests[d.Digest]; ok {
			n++
		}
	}
	return n
}

// The price of one question for each tag: an index that was put for some platforms
// passes for whole, until somebody asks for it to be verified. A list that has
// platforms always looks.
func TestAnIndexThatLacksChildren(t *testing.T) {
	list := func(platforms string) string {
		return "targets: [m.test/]\nimages: [{source: quay.io/a/b, tags: [v1]" + platforms + "}]\n"
	}
	from, to := newMemory(), newMemory()
	d := from.index(t, "quay.io/a/b:v1", "amd64", "arm64", "s390x", "riscv64")
	for _, step := range []struct {
		fact, platforms string
		verify          bool
		result          Result
		children        int
	}{
		{"some platforms", ", platforms: [linux/amd64, linux/arm64]", false, Copied, 2},
		{"another platform", ", platforms: [linux/amd64, linux/s390x]", false, Copied, 3},
		{"all, unseen", "", false, Unchanged, 3},
		{"all, verified", "", true, Copied, 4},
		{"all, verified again", "", true, Unchanged, 4},
	} {
		r, got := run(t, list(step.platforms), from, to, Options{Verify: step.verify})
		if r.Count(step.result) != 1 || to.children(t, d) != step.children || to.tags["m.test/a/b:v1"] != d {
			t.Errorf("%s: %v, with %d children at the target, want %d", step.fact, got, to.children(t, d), step.children)
		}
	}
}

// A tag that points at the index does not hide that one platform was asked for.
func TestOnePlatformTakesThePlaceOfTheIndex(t *testing.T) {
	from, to := newMemory(), newMemory()
	d := from.index(t, "quay.io/a/b:v1", "amd64", "arm64")
	if r, got := run(t, "targets: [m.test/]\nimages: [quay.io/a/b:v1]\n", from, to, Options{}); !r.Complete {
		t.Fatalf("got %v", got)
	}
	one := "targets: [m.test/]\nimages: [{source: quay.io/a/b:v1@" + d.String() + ", platforms: [linux/arm64]}]\n"
	r, got := run(t, one, from, to, Options{})
	g, err := from.manifests[d].Graph()
	if err != nil || r.Count(Copied) != 1 || to.tags["m.test/a/b:v1"] != g.Manifests[1].Digest {
		t.Errorf("%v, %v; the tag is %s, want %s", err, got, to.tags["m.test/a/b:v1"], g.Manifests[1].Digest)
	}
}

// An index may have one manifest for two platforms.
func TestTwoPlatformsOfOneManifest(t *testing.T) {
	from, to := newMemory(), newMemory()
	child := from.manifests[from.add(t, "quay.io/a/b:one", "one")].Descriptor
	list := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"manifests":[`, oci.MediaTypeImageIndex)
	for i, variant := range []string{"v6", "v7"} {
		child.Platform = &oci.Platform{OS: "linux", Architecture: "arm", Variant: variant}
		raw, err := json.Marshal(child)
		if err != nil {
			t.Fatal(err)
		}
		list += []string{"", ","}[i] + string(raw)
	}
	raw := []byte(list + "]}")
	d := oci.DigestOf(raw)
	from.manifests[d] = oci.Manifest{Descriptor: oci.Descriptor{MediaType: oci.MediaTypeImageIndex, Digest: d, Size: int64(len(raw))}, Bytes: raw}
	from.tags["quay.io/a/b:both"] = d
	for platforms, want := range map[string]oci.Digest{"linux/arm/v6, linux/arm/v7": d, "linux/arm/v7": child.Digest} {
		r, got := run(t, "targets: [m.test/]\nimages: [{source: quay.io/a/b:both, platforms: ["+platforms+"]}]\n", from, to, Options{})
		if !r.Complete || to.tags["m.test/a/b:both"] != want {
			t.Errorf("%s: %v, %s; the tag is %s, want %s", platforms, got, r.Images[0].Error, to.tags["m.test/a/b:both"], want)
		}
	}
}

// slowly is a registry that takes a second for each question about a digest.
type slowly struct {
	*memory
	now, most int
}

func (s *slowly) Has(ctx context.Context, repo oci.Repository, d oci.Descriptor) (bool, error) {
	s.mu.Lock()
	s.now++
	s.most = max(s.most, s.now)
	s.mu.Unlock()
	time.Sleep(time.Second)
	s.mu.Lock()
	s.now--
	s.mu.Unlock()
	return s.memory.Has(ctx, repo, d)
}

func TestChildrenOfAnIndexAreLookedAtTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		from, to := newMemory(), &slowly{memory: newMemory()}
		var architectures []string
		for i := range 40 {
			architectures = append(architectures, fmt.Sprintf("a%d", i))
		}
		d := from.index(t, "quay.io/a/b:v1", architectures...)
		to.index(t, "quay.io/a/b:v1", architectures...)
		delete(to.manifests, d)
		ref, err := oci.ParseReference("quay.io/a/b:v1")
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		report, err := transfer.Copy(t.Context(), []transfer.Job{{Source: ref, Reader: from, Target: ref.Repository}}, to, transfer.Options{Lookups: 5})
		if err != nil || report.Images[0].Manifests != 1 {
			t.Fatalf("%v, %+v", err, report.Images[0])
		}
		// The index, and then 40 children, five at a time.
		if took := time.Since(began); took != 9*time.Second || to.most != 5 {
			t.Errorf("it took %s, with %d questions at once", took, to.most)
		}
	})
}

// A thousand tags that are in step cost one HEAD at each side, over HTTP, and what is
// needed to ask: a page of tags, a challenge, and a token for each registry.
func TestAThousandTagsCostAThousandQuestions(t *testing.T) {
	const tags = 1000
	source, target := registrytest.StartTest(t, registrytest.Options{}), registrytest.StartTest(t, registrytest.Options{})
	bearer := registrytest.Behavior{Challenge: registrytest.Challenge{Scheme: registrytest.SchemeBearer}}
	for at, repo := range map[*registrytest.Registry]string{source: "a/b", target: "copies/a/b"} {
		at.SetBehavior(bearer)
		for i := range tags {
			spec := registrytest.ImageSpec{Layers: []int64{10}, Seed: uint64(i)}
			if i%2 == 0 {
				spec.Platforms = []oci.Platform{{OS: "linux", Architecture: "amd64"}, {OS: "linux", Architecture: "arm64"}, {OS: "linux", Architecture: "s390x"}}
			}
			at.AddImage(repo, fmt.Sprintf("v%d", i), spec)
		}
		at.ResetCounts()
	}
	list := read(t, fmt.Sprintf("targets: [%s/copies/]\nimages: [{source: %s/a/b, tags: [\"v*\"]}]\n", target.Host(), source.Host()))
	open := func(name oci.Registry, writing bool) *remote.Registry {
		r, err := remote.Open(name, remote.Options{}, writing)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { r.Close() })
		return r
	}
	host := func(at *registrytest.Registry) oci.Registry {
		name, err := oci.ParseRegistry(at.Host())
		if err != nil {
			t.Fatal(err)
		}
		return name
	}
	from, to := open(host(source), false), open(host(target), true)
	o := Options{
		Reader: func(oci.Registry) (oci.Reader, error) { return from, nil },
		Target: func(oci.Registry) (Target, error) { return to, nil },
	}
	items, failed, err := Expand(t.Context(), list, o.Reader, below)
	if err != nil {
		t.Fatal(err)
	}
	r := Run(t.Context(), items, failed, o)
	if !r.Complete || r.Count(Unchanged) != tags || len(r.Images) != tags {
		t.Fatalf("%d images, %d unchanged: %+v", len(r.Images), r.Count(Unchanged), r.Images[0])
	}
	for side, at := range map[string]*registrytest.Registry{"source": source, "target": target} {
		seen := map[string]int{}
		for _, q := range at.Requests() {
			switch {
			case q.Kind == registrytest.KindToken, q.Kind == registrytest.KindTags && q.Status == 200:
				seen[string(q.Kind)]++
			case q.Method == http.MethodHead && q.Kind == registrytest.KindManifest && q.Status == 200:
				seen[q.Path]++
			case q.Status == 401:
				seen["challenge"]++
			default:
				t.Errorf("the %s was asked %s %s: %d", side, q.Method, q.Path, q.Status)
			}
		}
		delete(seen, "challenge") // of each question that was on its way before the first was answered
		for what, n := range seen {
			if n != 1 {
				t.Errorf("the %s was asked for %s %d times", side, what, n)
			}
		}
		others := map[string]int{"source": 2, "target": 1}[side] // token and list of tags
		if len(seen) != tags+others {
			t.Errorf("the %s was asked %d things, want %d", side, len(seen), tags+others)
		}
		if n := at.Count(registrytest.KindAny) - len(seen); n > 8 {
			t.Errorf("the %s refused %d questions", side, n)
		}
	}
}

// A source that lets ask 40 times a minute is waited for in the middle of a run, by all
// that have a question: nothing fails, and nobody asks while it says to wait.
func TestTheRateLimitOfASourceIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const tags, pulls = 90, 40
		source := registrytest.StartTest(t, registrytest.Options{InMemory: true, Behavior: registrytest.Behavior{
			RateLimit: registrytest.RateLimit{Pulls: pulls, Window: time.Minute, RetryAfter: 61 * time.Second, Heads: true},
		}})
		for i := range tags {
			source.AddImage("a/b", fmt.Sprintf("v%d", i), registrytest.ImageSpec{Layers: []int64{10}, Seed: uint64(i)})
		}
		name, err := oci.ParseRegistry("quay.io")
		if err != nil {
			t.Fatal(err)
		}
		at, err := url.Parse(source.URL())
		if err != nil {
			t.Fatal(err)
		}
		from, err := upstream.New(upstream.Options{Registry: name, Endpoints: []*url.URL{at}, Transport: source.Transport()})
		if err != nil {
			t.Fatal(err)
		}
		defer from.Close()
		to := newMemory()
		o := Options{
			Reader: func(oci.Registry) (oci.Reader, error) { return from, nil },
			Target: func(oci.Registry) (Target, error) { return to, nil },
		}
		items, failed, err := Expand(t.Context(), read(t, versions), o.Reader, below)
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		r := Run(t.Context(), items, failed, o)
		if !r.Complete || r.Count(Copied) != tags {
			t.Fatalf("%d copied, %d failed", r.Count(Copied), r.Count(Failed))
		}
		// A HEAD and a GET for each tag: 180 questions in windows of 40.
		if took := time.Since(began); took < 4*time.Minute || took > 6*time.Minute {
			t.Errorf("it took %s", took)
		}
		refused := source.Count(registrytest.KindManifest) - 2*tags
		if refused < 4 || refused > 4*8 {
			t.Errorf("%d questions were refused", refused)
		}
		if slices.ContainsFunc(r.Images, func(out Outcome) bool { return out.Error != "" }) {
			t.Errorf("got %+v", r.Images)
		}
	})
}

// limited is a registry that answers a list of tags with an error first, and a deletion.
type limited struct {
	*memory
	left int
	err  error
}

// failing is an error of a registry that is there.
type failing struct{}

func (failing) Error() string  { return "status 500" }
func (failing) Answered() bool { return true }

func (l *limited) Tags(ctx context.Context, repo oci.Repository) ([]oci.Tag, error) {
	if l.left--; l.left >= 0 {
		return nil, l.err
	}
	return l.memory.Tags(ctx, repo)
}

func (l *limited) DeleteTag(ctx context.Context, repo oci.Repository, tag oci.Tag) error {
	if l.left++; l.left == 0 {
		return l.err
	}
	return l.memory.DeleteTag(ctx, repo, tag)
}

func TestListsOfTagsAndDeletionsAreAskedForPatiently(t *testing.T) {
	t.Run("where the rate is limited", func(t *testing.T) {
		patient(t, 2, &oci.Error{Code: oci.CodeTooManyRequests, RetryAfter: 10 * time.Second}, 20*time.Second, 40*time.Second)
	})
	t.Run("where somebody fails", func(t *testing.T) {
		patient(t, 4, failing{}, 7500*time.Millisecond, 8500*time.Millisecond)
	})
}

// patient runs a list whose source fails so many times, and whose target once at a list and
// once at a deletion; it is told how long it takes to know the list, and in all.
func patient(t *testing.T, times int, err error, listed, done time.Duration) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		from, to := &limited{newMemory(), times, err}, &limited{newMemory(), 1, err}
		from.add(t, "quay.io/a/b:v1", "one")
		to.add(t, "m.test/a/b:v0", "old")
		o := Options{
			Reader: func(oci.Registry) (oci.Reader, error) { return from, nil },
			Target: func(oci.Registry) (Target, error) { return to, nil },
			Prune:  true,
		}
		began := time.Now()
		items, failed, err := Expand(t.Context(), read(t, versions), o.Reader, below)
		if err != nil || len(failed) > 0 || time.Since(began) != listed {
			t.Fatalf("%v, %v after %s", err, failed, time.Since(began))
		}
		r := Run(t.Context(), items, failed, o)
		if !r.Complete || r.Count(Pruned) != 1 || !to.tags["m.test/a/b:v0"].IsZero() || time.Since(began) != done {
			t.Errorf("%+v after %s", r.Images, time.Since(began))
		}
	})
}

// Pruning asks once for each tag that may go, however many stay.
func TestPruningAsksOnceForEachTagThatGoes(t *testing.T) {
	from, to := newMemory(), newMemory()
	for i := range 50 {
		from.add(t, fmt.Sprintf("quay.io/a/b:v%d", i), fmt.Sprint(i))
	}
	if r, got := run(t, versions, from, to, Options{}); !r.Complete {
		t.Fatalf("got %v", got)
	}
	to.add(t, "m.test/a/b:old", "old")
	to.add(t, "m.test/a/b:older", "older")
	to.tags["m.test/a/b:same"] = from.tags["quay.io/a/b:v7"]
	to.forget()
	r, got := run(t, versions, from, to, Options{Prune: true})
	if !r.Complete || r.Count(Pruned) != 2 || r.Count(Kept) != 1 || r.Count(Unchanged) != 50 {
		t.Errorf("got %v", got)
	}
	if to.counts() != "53 tags, 0 digests, 0 reads" {
		t.Errorf("the target was asked %s", to.counts())
	}
}
