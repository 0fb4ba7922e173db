package intake_test

import (
	"bytes"
	"errors"
	"testing"

	"sampan/internal/intake"
	"sampan/internal/oci"
	"sampan/internal/store/disk"
)

// What a manifest needs is there before it, and what it says is proven.
func TestManifestsAreTakenOrRefused(t *testing.T) {
	gone := bytes.Repeat([]byte("gone "), 100)
	child, childRaw := imageOf(t, two)
	absent, _ := imageOf(t, gone)
	elsewhere := described(gone)
	elsewhere.MediaType, elsewhere.URLs = "application/vnd.oci.image.layer.nondistributable.v1.tar", []string{"https://example.com/x"}
	linked := described(gone)
	linked.URLs = elsewhere.URLs
	type fields = map[string]any
	whole, wholeRaw := imageOf(t, two)
	code := func(want oci.Code) func(error) bool {
		return func(err error) bool { return oci.CodeOf(err) == want && !errors.Is(err, intake.ErrLacks) }
	}
	lacks := func(err error) bool { return errors.Is(err, intake.ErrLacks) }
	taken := func(err error) bool { return err == nil }
	made := func(mediaType string, f fields) func() (oci.Descriptor, []byte) {
		return func() (oci.Descriptor, []byte) { return document(t, mediaType, f) }
	}
	for _, c := range []struct {
		name string
		doc  func() (oci.Descriptor, []byte)
		want func(error) bool
	}{
		{"all is here", func() (oci.Descriptor, []byte) { return whole, wholeRaw }, taken},
		{"a layer is not here", func() (oci.Descriptor, []byte) { return imageOf(t, two, gone) }, lacks},
		{"a config is not here", made(oci.MediaTypeImageManifest, fields{"config": described(gone), "layers": []oci.Descriptor{described(two)}}), lacks},
		{"a layer that is not distributed", made(oci.MediaTypeImageManifest, fields{"layers": []oci.Descriptor{described(two), elsewhere}}), taken},
		{"a layer with another address", made(oci.MediaTypeImageManifest, fields{"layers": []oci.Descriptor{linked}}), lacks},
		{"a subject that is not here", made(oci.MediaTypeImageManifest, fields{"layers": []oci.Descriptor{described(two)}, "subject": absent}), taken},
		{"an index of what is here", made(oci.MediaTypeImageIndex, fields{"manifests": []oci.Descriptor{child}}), taken},
		{"an index of which a part is here", made(oci.MediaTypeImageIndex, fields{"manifests": []oci.Descriptor{absent, child}}), taken},
		{"an index of nothing that is here", made(oci.MediaTypeImageIndex, fields{"manifests": []oci.Descriptor{absent}}), lacks},
		{"an empty index", made(oci.MediaTypeImageIndex, fields{"manifests": []oci.Descriptor{}}), taken},
		{"an index of a blob that is not here", made(oci.MediaTypeImageIndex, fields{"manifests": []oci.Descriptor{child, described(gone)}}), lacks},
		{"another digest", func() (oci.Descriptor, []byte) {
			d := whole
			d.Digest = absent.Digest
			return d, wholeRaw
		}, code(oci.CodeDigestInvalid)},
		{"another media type", func() (oci.Descriptor, []byte) {
			d := whole
			d.MediaType = oci.MediaTypeDockerManifest
			return d, wholeRaw
		}, code(oci.CodeManifestInvalid)},
		{"no media type of a manifest", made("application/json", nil), code(oci.CodeManifestInvalid)},
		{"no JSON", func() (oci.Descriptor, []byte) {
			raw := []byte("{")
			return oci.Descriptor{MediaType: oci.MediaTypeImageManifest, Digest: oci.DigestOf(raw)}, raw
		}, code(oci.CodeManifestInvalid)},
		{"too large", func() (oci.Descriptor, []byte) {
			raw := append([]byte("{}"), bytes.Repeat([]byte(" "), oci.MaxManifestSize)...)
			return oci.Descriptor{MediaType: oci.MediaTypeImageManifest, Digest: oci.DigestOf(raw)}, raw
		}, code(oci.CodeSizeInvalid)},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMirror(t, disk.Limits{})
			r := repository(t, "docker.io/library/app")
			if err := m.PutBlob(t.Context(), r, described(two), (&sender{bytes: two}).open, nil); err != nil {
				t.Fatal(err)
			}
			if err := m.PutManifest(t.Context(), r, child, childRaw, nil); err != nil {
				t.Fatal(err)
			}
			d, raw := c.doc()
			err := m.PutManifest(t.Context(), r, d, raw, []oci.Tag{tag(t, "v1")})
			if !c.want(err) {
				t.Errorf("got %v", err)
			}
			if err == nil {
				m.wantServed(t, r.String(), "v1", d)
			} else if _, err := m.cache.ResolveTag(t.Context(), r, tag(t, "v1")); err == nil {
				t.Error("a tag leads to what was refused")
			}
		})
	}
}

// An index of which one platform was brought is served with that one.
func TestAnIndexIsHadByItselfAndAnImageWithItsBlobs(t *testing.T) {
	m := newMirror(t, disk.Limits{})
	r := repository(t, "docker.io/library/app")
	child := m.bring(t, r.String(), "child", two)
	absent, _ := imageOf(t, one)
	index, raw := document(t, oci.MediaTypeImageIndex, map[string]any{"manifests": []oci.Descriptor{child, absent}})
	if err := m.PutManifest(t.Context(), r, index, raw, []oci.Tag{tag(t, "v1")}); err != nil {
		t.Fatal(err)
	}
	for d, want := range map[oci.Digest]bool{index.Digest: true, child.Digest: true, absent.Digest: false} {
		if has, err := m.Has(t.Context(), r, oci.Descriptor{MediaType: oci.MediaTypeImageIndex, Digest: d}); has != want || err != nil {
			t.Errorf("%s: %v, want %v: %v", d, has, want, err)
		}
	}
	if err := m.store.Delete(t.Context(), oci.DigestOf(two)); err != nil {
		t.Fatal(err)
	}
	if has, err := m.Has(t.Context(), r, child); has || err != nil {
		t.Errorf("an image without its layer is had: %v", err)
	}
	if _, err := m.ResolveTag(t.Context(), r, tag(t, "child")); !oci.IsUnknown(err) {
		t.Errorf("a tag of an image without its layer: %v", err)
	}
}

// A tag is not even asked to be kept before what it leads to is durable.
func TestATagComesAfterWhatItLeadsToIsDurable(t *testing.T) {
	m := newMirror(t, disk.Limits{})
	r := repository(t, "docker.io/library/app")
	if err := m.PutBlob(t.Context(), r, described(two), (&sender{bytes: two}).open, nil); err != nil {
		t.Fatal(err)
	}
	d, raw := imageOf(t, two)
	m.index.lost.Store(true)
	if err := m.PutManifest(t.Context(), r, d, raw, []oci.Tag{tag(t, "v1")}); !errors.Is(err, errLost) {
		t.Errorf("got %v", err)
	}
	if n := m.index.tags.Load(); n != 0 {
		t.Errorf("%d tags were put", n)
	}
}

// Bytes that came for a private repository are served there alone, until somebody brings
// them for one that everybody may read.
func TestPrivateBytesStayPrivate(t *testing.T) {
	m := newMirror(t, disk.Limits{})
	d := m.bring(t, "corp.example/app", "v1", two)
	m.wantServed(t, "corp.example/app", "v1", d, two)
	m.wantAsked(t, 0)
	_, raw := imageOf(t, two)
	for _, repo := range []string{"docker.io/library/app", "corp.example/other", "evil.example/app"} {
		r := repository(t, repo)
		if has, err := m.Has(t.Context(), r, described(two)); has || err != nil {
			t.Errorf("%s has what is another's: %v", repo, err)
		}
		if err := m.PutManifest(t.Context(), r, d, raw, []oci.Tag{tag(t, "v1")}); !errors.Is(err, intake.ErrLacks) {
			t.Errorf("%s: a manifest that names what is another's: %v", repo, err)
		}
		if err := m.read(t, repo, two); err == nil {
			t.Errorf("%s serves what is another's", repo)
		}
		lie := append([]byte("!"), two[1:]...)
		if err := m.PutBlob(t.Context(), r, described(two), (&sender{bytes: lie}).open, nil); oci.CodeOf(err) != oci.CodeDigestInvalid {
			t.Errorf("%s: who does not have the bytes: %v", repo, err)
		}
		if has, err := m.Has(t.Context(), r, described(two)); has || err != nil {
			t.Errorf("%s has what it was lied about: %v", repo, err)
		}
	}
	m.net.asked.Store(0)
	for _, repo := range []string{"corp.example/other", "evil.example/app", "docker.io/library/app"} {
		d := m.bring(t, repo, "v1", two)
		m.wantServed(t, repo, "v1", d, two)
	}
	m.wantAsked(t, 0)
}
