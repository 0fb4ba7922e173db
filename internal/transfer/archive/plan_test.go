package archive

import (
	"encoding/json"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sampan/internal/oci"
	"sampan/internal/registrytest"
	"sampan/internal/transfer/layout"
)

func TestPlatforms(t *testing.T) {
	b := start(t)
	image := b.AddImage("one", "1", threePlatforms())
	for _, c := range []struct {
		fact   string
		want   []string
		digest oci.Digest // zero for a new index
		blobs  int
	}{
		{"none means all, and the index as it is", nil, image.Manifest.Descriptor.Digest, 13},
		{"one is its image alone", []string{"linux/arm64"}, image.Platforms[1].Descriptor.Digest, 5},
		{"a variant that there is only one of", []string{"linux/arm64/v8"}, image.Platforms[1].Descriptor.Digest, 5},
		{"a variant need not be told", []string{"linux/arm"}, image.Platforms[2].Descriptor.Digest, 5},
		{"several are a new index", []string{"linux/arm64", "linux/amd64"}, oci.Digest{}, 9},
		{"all that there are keep the index", []string{"linux/arm/v7", "linux/amd64", "linux/arm64"}, image.Manifest.Descriptor.Digest, 13},
	} {
		t.Run(c.fact, func(t *testing.T) {
			p := plan(t, PlanOptions{Platforms: platform(t, c.want...)}, b.source(t, "one:1", "one:1"))
			got := p.Images()[0].Descriptor.Digest
			if !c.digest.IsZero() && got != c.digest {
				t.Errorf("got %s, want %s", got, c.digest)
			}
			if n, _ := p.Blobs(); n != c.blobs {
				t.Errorf("%d blobs, want %d", n, c.blobs)
			}
			wantWhole(t, opened(t, write(t, p, WriteOptions{})), reference(t, "one:1"), got)
		})
	}
	_, err := NewPlan(t.Context(), []Source{b.source(t, "one:1", "one:1")}, PlanOptions{Platforms: platform(t, "windows/amd64")})
	if err == nil || !strings.Contains(err.Error(), "linux/amd64, linux/arm64/v8, linux/arm/v7") {
		t.Errorf("a platform that is not there: %v", err)
	}
}

// A name by digest is that of what is saved.
func TestAPartOfAnIndexIsNotCalledByTheDigestOfAll(t *testing.T) {
	b := start(t)
	image := b.AddImage("one", "1", threePlatforms())
	all := image.Manifest.Descriptor.Digest.String()
	p := plan(t, PlanOptions{Platforms: platform(t, "linux/amd64")}, b.source(t, "one@"+all, "one@"+all))
	if got, want := p.Images()[0].Ref.String(), "docker.io/library/one@"+image.Platforms[0].Descriptor.Digest.String(); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	opened(t, write(t, p, WriteOptions{}))
}

func TestReferrersAreSaved(t *testing.T) {
	b := start(t)
	image := b.AddImage("one", "1", registrytest.ImageSpec{})
	subject := image.Manifest.Descriptor
	sbom := b.AddArtifact("one", "", "application/spdx+json", subject, []byte("{}"))
	signed := b.AddArtifact("one", "", "application/signature", sbom.Descriptor, []byte("signature"))
	cosign := "sha256-" + subject.Digest.Hex() + ".sig"
	signature := b.AddImage("one", cosign, registrytest.ImageSpec{Seed: 99})
	for _, wanted := range []bool{false, true} {
		a := opened(t, write(t, plan(t, PlanOptions{Referrers: wanted}, b.source(t, "one:1", "one:1")), WriteOptions{}))
		repo := reference(t, "one:1").Repository
		tags, err := a.Tags(t.Context(), repo)
		if err != nil || slices.ContainsFunc(tags, func(tag oci.Tag) bool { return tag.String() == cosign }) != wanted {
			t.Errorf("wanted %v: the tags are %v, %v", wanted, tags, err)
		}
		if wanted {
			wantWhole(t, a, reference(t, "one:1"), signature.Manifest.Descriptor.Digest)
		}
		for of, want := range map[oci.Digest]oci.Manifest{subject.Digest: sbom, sbom.Descriptor.Digest: signed} {
			got, err := a.Referrers(t.Context(), repo, of)
			if err != nil {
				t.Fatal(err)
			}
			if found := len(got) == 1 && got[0].Digest == want.Descriptor.Digest && got[0].ArtifactType != ""; found != wanted {
				t.Errorf("wanted %v: the referrers of %s are %v", wanted, of, got)
			}
			if wanted {
				wantWhole(t, a, reference(t, "one:1"), want.Descriptor.Digest)
			}
		}
	}
}

func TestABundleHoldsWhatIsNew(t *testing.T) {
	b := start(t)
	first := b.AddImage("app", "1", registrytest.ImageSpec{Layers: []int64{100_000, 2000}})
	layers := first.Layers[0]
	config := b.AddBytes("app", typeConfig, []byte(`{"architecture":"amd64","os":"linux","version":2}`))
	more := b.AddBlob("app", 300, 9)
	second := b.AddManifest("app", "2", oci.MediaTypeImageManifest, []byte(text(map[string]any{
		"schemaVersion": 2, "mediaType": oci.MediaTypeImageManifest, "config": config, "layers": append(slices.Clone(layers), more),
	})))
	january := write(t, plan(t, PlanOptions{}, b.source(t, "app:1", "app:1")), WriteOptions{})
	for _, since := range []string{january, january + BundleSuffix} {
		has, err := Contents(t.Context(), since, OpenOptions{})
		if err != nil {
			t.Fatal(err)
		}
		p := plan(t, PlanOptions{Without: has}, b.source(t, "app:2", "app:2"))
		left, leftBytes := p.Without()
		if n, bytes := p.Blobs(); n != 2 || bytes != config.Size+more.Size || left != 2 || leftBytes != layers[0].Size+layers[1].Size {
			t.Errorf("%d blobs of %d bytes, without %d of %d bytes", n, bytes, left, leftBytes)
		}
		february := write(t, p, WriteOptions{})
		a := opened(t, february)
		repo := reference(t, "app:2").Repository
		if m, err := a.Manifest(t.Context(), repo, second.Descriptor.Digest); err != nil || string(m.Bytes) != string(second.Bytes) {
			t.Errorf("the manifest: %v", err)
		}
		if before := a.Before(); len(before) != 2 || before[layers[0].Digest] != repo {
			t.Errorf("it tells that blobs were at %v", before)
		}
		if missing, err := a.Missing(t.Context(), repo); err != nil || len(missing) != 2 {
			t.Errorf("missing: %v, %v", missing, err)
		}
		if _, err := a.Blob(t.Context(), repo, layers[0].Digest); !errors.Is(err, oci.ErrBlobUnknown) {
			t.Errorf("a blob that was left out: %v", err)
		}
		// The next one follows both.
		has, err = ReadBundle(february + BundleSuffix)
		if err != nil || has[layers[0].Digest] != repo || has[more.Digest] != repo {
			t.Errorf("the bundle has %v, %v", has, err)
		}
	}
}

func TestNamesOfAnArchive(t *testing.T) {
	b := start(t)
	b.AddImage("one", "1", registrytest.ImageSpec{})
	b.AddImage("one", "2", registrytest.ImageSpec{Seed: 2})
	p := plan(t, PlanOptions{}, b.source(t, "one:1", "one:1"), b.source(t, "other:x", "one:1"), b.source(t, "one:1", "one:1"))
	var images []dockerImage
	var index struct {
		Manifests []oci.Descriptor `json:"manifests"`
	}
	c, err := scan(strings.NewReader(string(content(t, write(t, p, WriteOptions{})))), 1<<30, layout.English)
	if err != nil {
		t.Fatal(err)
	}
	for name, v := range map[string]any{dockerIs: &images, layout.IndexFile: &index} {
		raw, err := c.document(name)
		if err == nil {
			err = json.Unmarshal(raw, v)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(images) != 1 || !slices.Equal(images[0].RepoTags, []string{"docker.io/library/one:1", "docker.io/library/other:x"}) {
		t.Errorf("Docker reads %+v", images)
	}
	if len(index.Manifests) != 2 || index.Manifests[1].Annotations[layout.AnnotationRefName] != "docker.io/library/other:x" ||
		index.Manifests[1].Annotations[layout.AnnotationImageName] != "docker.io/library/other:x" {
		t.Errorf("others read %+v", index)
	}
	if _, err := NewPlan(t.Context(), []Source{b.source(t, "one:1", "one:1"), b.source(t, "one:1", "one:2")}, PlanOptions{}); err == nil {
		t.Error("two images have one name")
	}
}

// An archive of Docker holds one platform of each image, and nothing that is attached: its
// bundle must not tell of more, or the next archive would leave that out.
func TestAPlanForDockerHoldsWhatIsWritten(t *testing.T) {
	b := start(t)
	image := b.AddImage("one", "1", threePlatforms())
	b.AddArtifact("one", "", "application/spdx+json", image.Platforms[0].Descriptor, []byte("sbom"))
	p := plan(t, PlanOptions{Format: Docker, Referrers: true}, b.source(t, "one:1", "one:1"))
	name := write(t, p, WriteOptions{Format: Docker})
	planned, _ := p.Blobs()
	told, err := ReadBundle(name + BundleSuffix)
	if err != nil {
		t.Fatal(err)
	}
	a := opened(t, name)
	has, err := a.Present(t.Context(), a.Images()[0].Ref.Repository)
	if err != nil {
		t.Fatal(err)
	}
	const written = 5 // a configuration and four layers
	if planned != written || len(told) != written || len(has) != written {
		t.Errorf("planned %d blobs, told %d, wrote %d; want %d", planned, len(told), len(has), written)
	}
}

func TestWhatAnArchiveCannotHoldIsTold(t *testing.T) {
	b := start(t)
	b.AddChart("chart", "hello", "1.0.0")
	b.AddImage("zstd", "1", registrytest.ImageSpec{Zstd: true})
	b.AddManifest("old", "1", oci.MediaTypeDockerSchema1JWS, []byte(`{"schemaVersion":1,"name":"old","tag":"1","fsLayers":[]}`))
	name := filepath.Join(t.TempDir(), "x.tar")
	for image, says := range map[string]string{"chart:1.0.0": "no image", "zstd:1": "zstd"} {
		p := plan(t, PlanOptions{}, b.source(t, image, image))
		if _, err := Write(t.Context(), p, name, WriteOptions{Format: Docker}); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", image, err)
		}
		opened(t, write(t, p, WriteOptions{}))
	}
	if _, err := NewPlan(t.Context(), []Source{b.source(t, "old:1", "old:1")}, PlanOptions{}); err == nil || !strings.Contains(err.Error(), "schema 1") {
		t.Errorf("schema 1: %v", err)
	}
	if _, err := NewPlan(t.Context(), []Source{b.source(t, "none:1", "none:1")}, PlanOptions{}); !oci.IsUnknown(err) {
		t.Errorf("an image that is not there: %v", err)
	}
}
