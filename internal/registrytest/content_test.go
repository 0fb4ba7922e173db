package registrytest_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"sampan/internal/oci"
	"sampan/internal/registrytest"
)

func TestABlobReadsTheSameFromAnyOffset(t *testing.T) {
	r := start(t, registrytest.Options{InMemory: true})
	d := r.AddBlob("a", 700_001, 42)
	whole := bytesOf(t, r, d)
	if !d.Digest.Verify(whole) {
		t.Fatal("the digest is wrong")
	}
	rapid.Check(t, func(t *rapid.T) {
		off := rapid.Int64Range(0, d.Size).Draw(t, "offset")
		n := rapid.IntRange(0, 300_000).Draw(t, "length")
		p := make([]byte, n)
		got, err := r.Content(d.Digest).ReadAt(p, off)
		want := whole[off:min(d.Size, off+int64(n))]
		if !bytes.Equal(p[:got], want) || (err == io.EOF) != (got < n || off == d.Size) {
			t.Fatalf("%d bytes at %d: %d, %v", n, off, got, err)
		}
	})
}

func TestSeedAndSizeChooseTheBlob(t *testing.T) {
	r, again := start(t, registrytest.Options{InMemory: true}), start(t, registrytest.Options{InMemory: true})
	seen := make(map[oci.Digest]string)
	for _, size := range []int64{9, 4096, 100_000} {
		for seed := range uint64(20) {
			d := r.AddBlob("a", size, seed)
			if other := again.AddBlob("b", size, seed); other.Digest != d.Digest {
				t.Errorf("%d/%d differs in another registry", size, seed)
			}
			name := fmt.Sprintf("%d/%d", size, seed)
			if twin := seen[d.Digest]; twin != "" {
				t.Errorf("%s is also %s", name, twin)
			}
			seen[d.Digest] = name
		}
	}
}

func TestPagesOfABlobDiffer(t *testing.T) {
	r := start(t, registrytest.Options{InMemory: true})
	whole := bytesOf(t, r, r.AddBlob("a", 2<<20, 1))
	seen := make(map[string]bool)
	for page := range slices.Chunk(whole, 4<<10) {
		seen[string(page)] = true
	}
	if len(seen) != 512 {
		t.Errorf("%d different pages of 512", len(seen))
	}
}

func TestASHA512BlobIsServed(t *testing.T) {
	r := start(t, registrytest.Options{InMemory: true})
	d := r.AddBlobSHA512("a", 5000, 1)
	if a := do(t, r.Client(), "GET", blobURL(r, "a", d)); d.Digest.Algorithm() != "sha512" || !d.Digest.Verify(a.body) {
		t.Errorf("%s: %d", d.Digest, a.status)
	}
}

func TestFilesMakeARealLayer(t *testing.T) {
	r := start(t, registrytest.Options{InMemory: true})
	img := r.AddImage("a", "v1", registrytest.ImageSpec{Docker: true, Files: map[string]string{"bin/sh": "#!", "etc/os-release": "ID=x"}})
	zr, err := gzip.NewReader(bytes.NewReader(bytesOf(t, r, img.Layers[0][0])))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	tr := tar.NewReader(zr)
	for {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
	}
	if want := []string{"bin/sh", "etc/os-release"}; !slices.Equal(names, want) {
		t.Errorf("%v", names)
	}
	if img.Manifest.Descriptor.MediaType != oci.MediaTypeDockerManifest {
		t.Errorf("media type %s", img.Manifest.Descriptor.MediaType)
	}
}

func TestReferrers(t *testing.T) {
	r := start(t, registrytest.Options{InMemory: true})
	img := r.AddImage("a", "v1", registrytest.ImageSpec{})
	subject := img.Manifest.Descriptor
	sbom := r.AddArtifact("a", "", "application/spdx+json", subject, []byte("{}"))
	r.AddArtifact("a", "", "application/other", subject, []byte("x"))
	list := func(query string) []string {
		a := do(t, r.Client(), "GET", r.URL()+"/v2/a/referrers/"+subject.Digest.String()+query)
		if a.status != 200 || a.header.Get("Content-Type") != oci.MediaTypeImageIndex {
			t.Fatalf("%d %v", a.status, a.header)
		}
		if query != "" && a.header.Get("OCI-Filters-Applied") != "artifactType" {
			t.Error("the filter is not acknowledged")
		}
		return artifactTypes(t, a.body)
	}
	if got := list(""); !slices.Equal(got, []string{"application/other", "application/spdx+json"}) {
		t.Errorf("all: %v", got)
	}
	if got := list("?artifactType=" + url.QueryEscape("application/spdx+json")); !slices.Equal(got, []string{"application/spdx+json"}) {
		t.Errorf("filtered: %v", got)
	}
	a := do(t, r.Client(), "GET", r.URL()+"/v2/a/referrers/"+sbom.Descriptor.Digest.String())
	if got := artifactTypes(t, a.body); len(got) != 0 || !strings.Contains(string(a.body), `"manifests":[]`) {
		t.Errorf("none: %s", a.body)
	}
	if bad := do(t, r.Client(), "GET", r.URL()+"/v2/a/referrers/sha256:12"); bad.status != 400 {
		t.Errorf("bad digest: %d", bad.status)
	}

	r.SetBehavior(registrytest.Behavior{NoReferrers: true})
	if a := do(t, r.Client(), "GET", r.URL()+"/v2/a/referrers/"+subject.Digest.String()); a.status != 404 {
		t.Errorf("without the API: %d", a.status)
	}
	fallback := do(t, r.Client(), "GET", r.URL()+"/v2/a/manifests/sha256-"+subject.Digest.Hex())
	if got := artifactTypes(t, fallback.body); len(got) != 2 {
		t.Errorf("tag schema: %d %s", fallback.status, fallback.body)
	}
}

func artifactTypes(t *testing.T, index []byte) []string {
	t.Helper()
	var doc struct{ Manifests []oci.Descriptor }
	if err := json.Unmarshal(index, &doc); err != nil {
		t.Fatal(err)
	}
	var types []string
	for _, d := range doc.Manifests {
		types = append(types, d.ArtifactType)
	}
	slices.Sort(types)
	return types
}

func TestAChartHasHelmsMediaTypes(t *testing.T) {
	r := start(t, registrytest.Options{InMemory: true})
	m := r.AddChart("charts/hello", "hello", "0.1.0")
	g, err := m.Graph()
	if err != nil {
		t.Fatal(err)
	}
	if g.ArtifactType != "application/vnd.cncf.helm.config.v1+json" || len(g.Blobs) != 2 {
		t.Errorf("%+v", g)
	}
}

func TestTags(t *testing.T) {
	for name, tt := range map[string]struct {
		form  registrytest.TagsForm
		query string
		want  []string
		link  string
	}{
		"sorted":              {registrytest.TagsForm{}, "", []string{"a", "b", "c"}, ""},
		"oldest first":        {registrytest.TagsForm{Unsorted: true}, "", []string{"c", "a", "b"}, ""},
		"a page":              {registrytest.TagsForm{}, "?n=2", []string{"a", "b"}, "</v2/r/tags/list?last=b&n=2>; rel=\"next\""},
		"the next page":       {registrytest.TagsForm{}, "?n=2&last=b", []string{"c"}, ""},
		"none":                {registrytest.TagsForm{}, "?n=0", nil, ""},
		"after a missing tag": {registrytest.TagsForm{}, "?last=aa", []string{"b", "c"}, ""},
		"pages of its own":    {registrytest.TagsForm{Page: 1, Unsorted: true}, "?n=1000&last=c", []string{"a"}, "</v2/r/tags/list?last=a&n=1>; rel=\"next\""},
		"an absolute link":    {registrytest.TagsForm{Page: 1, AbsoluteLink: true}, "", []string{"a"}, "<http://registry.test:5000/v2/r/tags/list?last=a&n=1>; rel=\"next\""},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, registrytest.Options{InMemory: true, Behavior: registrytest.Behavior{Tags: tt.form}})
			for _, tag := range []string{"c", "a", "b"} {
				r.AddImage("r", tag, registrytest.ImageSpec{})
			}
			a := do(t, r.Client(), "GET", r.URL()+"/v2/r/tags/list"+tt.query)
			var doc struct{ Tags []string }
			if err := json.Unmarshal(a.body, &doc); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(doc.Tags, tt.want) || a.header.Get("Link") != tt.link {
				t.Errorf("%v %s", doc.Tags, a.header.Get("Link"))
			}
		})
	}
}

func TestExtraFieldsBesideTheTags(t *testing.T) {
	r := start(t, registrytest.Options{InMemory: true, Behavior: registrytest.GCR()})
	r.AddImage("r", "v1", registrytest.ImageSpec{})
	a := do(t, r.Client(), "GET", r.URL()+"/v2/r/tags/list")
	var doc map[string]any
	if err := json.Unmarshal(a.body, &doc); err != nil || doc["manifest"] == nil || doc["child"] == nil {
		t.Errorf("%s %v", a.body, err)
	}
}

func TestRemovedContentIsGone(t *testing.T) {
	r := start(t, registrytest.Options{InMemory: true})
	img := r.AddImage("a", "v1", registrytest.ImageSpec{})
	status := func(path string) int { return do(t, r.Client(), "GET", r.URL()+path).status }
	byDigest := "/v2/a/manifests/" + img.Manifest.Descriptor.Digest.String()
	r.Remove("a", "v1")
	if got := []int{status("/v2/a/manifests/v1"), status(byDigest)}; !cmp.Equal(got, []int{404, 200}) {
		t.Errorf("a tag: %v", got)
	}
	r.SetTag("a", "v2", img.Manifest.Descriptor.Digest)
	r.Remove("a", img.Manifest.Descriptor.Digest.String())
	if got := []int{status("/v2/a/manifests/v2"), status(byDigest), status("/v2/a/tags/list")}; !cmp.Equal(got, []int{404, 404, 200}) {
		t.Errorf("a manifest: %v", got)
	}
	r.RemoveRepository("a")
	if got := status("/v2/a/tags/list"); got != 404 {
		t.Errorf("a repository: %v", got)
	}
}

// BenchmarkContent reads a generated blob as a response does.
func BenchmarkContent(b *testing.B) {
	r := registrytest.StartTest(b, registrytest.Options{InMemory: true})
	d := r.AddBlob("a", 64<<20, 1)
	src := r.Content(d.Digest)
	buf := make([]byte, 256<<10)
	b.SetBytes(int64(len(buf)))
	var off int64
	for b.Loop() {
		if _, err := src.ReadAt(buf, off); err != nil {
			b.Fatal(err)
		}
		off = (off + int64(len(buf))) % (64<<20 - int64(len(buf)))
	}
}
