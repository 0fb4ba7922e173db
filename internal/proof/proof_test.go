package proof

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"testing"

	"sampan/internal/oci"
)

func repository(t *testing.T, s string) oci.Repository {
	t.Helper()
	repo, err := oci.ParseRepository(s)
	if err != nil {
		t.Fatal(err)
	}
	return repo
}

// other is a reader that has nothing, and says so in its own words.
type other struct{ asked int }

var errOther = errors.New("the other was asked")

func (o *other) ResolveTag(context.Context, oci.Repository, oci.Tag) (oci.Descriptor, error) {
	o.asked++
	return oci.Descriptor{}, errOther
}

func (o *other) Manifest(context.Context, oci.Repository, oci.Digest) (oci.Manifest, error) {
	o.asked++
	return oci.Manifest{}, errOther
}

func (o *other) Blob(context.Context, oci.Repository, oci.Digest) (oci.BlobReader, error) {
	o.asked++
	return nil, errOther
}

func (o *other) Tags(context.Context, oci.Repository) ([]oci.Tag, error) {
	o.asked++
	return nil, errOther
}

func (o *other) Referrers(context.Context, oci.Repository, oci.Digest) ([]oci.Descriptor, error) {
	o.asked++
	return nil, errOther
}

func read(t *testing.T, r *Reader, repo oci.Repository, d oci.Descriptor) io.Reader {
	t.Helper()
	b, err := r.Blob(t.Context(), repo, d.Digest)
	if err != nil {
		t.Fatal(err)
	}
	stat, err := r.StatBlob(t.Context(), repo, d.Digest)
	if err != nil || stat.Size != d.Size || stat.Digest != d.Digest {
		t.Errorf("the blob is %+v, %v; its descriptor says %+v", stat, err, d)
	}
	return b
}

func TestTheImageIsWholeForEveryPlatformUnderAnyTag(t *testing.T) {
	behind := &other{}
	r := New(behind)
	for _, name := range []string{"docker.io/library/sampan-proof", "registry.k8s.io/library/sampan-proof"} {
		repo := repository(t, name)
		desc, err := r.ResolveTag(t.Context(), repo, Nonce())
		if err != nil || desc.Digest != Digest() {
			t.Fatalf("%s: %v, %v", name, desc, err)
		}
		index, err := r.Manifest(t.Context(), repo, desc.Digest)
		if err != nil || oci.DigestOf(index.Bytes) != desc.Digest || int64(len(index.Bytes)) != desc.Size {
			t.Fatalf("%s: %v", name, err)
		}
		g, err := index.Graph()
		if err != nil || len(g.Manifests) != len(platforms()) {
			t.Fatalf("%s: %d platforms, %v", name, len(g.Manifests), err)
		}
		for _, child := range g.Manifests {
			m, err := r.Manifest(t.Context(), repo, child.Digest)
			if err != nil || oci.DigestOf(m.Bytes) != child.Digest {
				t.Fatalf("%v: %v", child.Platform, err)
			}
			g, err := m.Graph()
			if err != nil || len(g.Blobs) != 2 {
				t.Fatalf("%v: %v, %v", child.Platform, g.Blobs, err)
			}
			for _, b := range g.Blobs {
				raw, err := io.ReadAll(read(t, r, repo, b))
				if err != nil || oci.DigestOf(raw) != b.Digest {
					t.Errorf("%v: %s: %v", child.Platform, b.Digest, err)
				}
			}
			z, err := gzip.NewReader(read(t, r, repo, g.Blobs[1]))
			if err != nil {
				t.Fatal(err)
			}
			files := tar.NewReader(z)
			h, err := files.Next()
			if err != nil || h.Name != "sampan-proof.txt" {
				t.Fatalf("%v, %v", h, err)
			}
			if text, err := io.ReadAll(files); err != nil || string(text) != Text {
				t.Errorf("%q, %v", text, err)
			}
		}
	}
	if behind.asked != 0 {
		t.Errorf("the reader behind was asked %d times", behind.asked)
	}
}

func TestTheDigestIsTheSameInEveryVersionOfTheProgram(t *testing.T) {
	// A new one makes nothing wrong, but is no accident: runtimes keep the old image.
	const known = "sha256:02b62aaa887461a8c0eec729b17422a77d3442a997cb580d5ff373fb64163fed"
	if got := Digest().String(); got != known {
		t.Errorf("got %s", got)
	}
}

func TestNoncesDiffer(t *testing.T) {
	if a, b := Nonce(), Nonce(); a == b {
		t.Errorf("%s twice", a)
	}
}

func TestEverythingElseIsTheOthers(t *testing.T) {
	behind := &other{}
	r := New(behind)
	for _, name := range []string{"docker.io/library/nginx", "quay.io/sampan-proof", "quay.io/a/library/sampan-proof"} {
		repo, d := repository(t, name), Digest()
		for what, err := range map[string]error{
			"tag":       second(r.ResolveTag(t.Context(), repo, Nonce())),
			"manifest":  second(r.Manifest(t.Context(), repo, d)),
			"stat":      second(r.StatManifest(t.Context(), repo, d)),
			"blob":      second(r.Blob(t.Context(), repo, d)),
			"stat blob": second(r.StatBlob(t.Context(), repo, d)),
			"tags":      second(r.Tags(t.Context(), repo)),
			"referrers": second(r.Referrers(t.Context(), repo, d)),
		} {
			if !errors.Is(err, errOther) {
				t.Errorf("%s: %s: %v", name, what, err)
			}
		}
	}
	if behind.asked == 0 {
		t.Error("nobody was asked")
	}
}

func TestWhatTheProofLacksIsUnknown(t *testing.T) {
	r, repo, none := New(&other{}), repository(t, "quay.io/"+Path), oci.DigestOf([]byte("none"))
	if _, err := r.Manifest(t.Context(), repo, none); !errors.Is(err, oci.ErrManifestUnknown) {
		t.Error(err)
	}
	if _, err := r.Blob(t.Context(), repo, none); !errors.Is(err, oci.ErrBlobUnknown) {
		t.Error(err)
	}
	if tags, err := r.Tags(t.Context(), repo); err != nil || len(tags) > 0 {
		t.Error(tags, err)
	}
	if list, err := r.Referrers(t.Context(), repo, Digest()); err != nil || len(list) > 0 {
		t.Error(list, err)
	}
}

func second[T any](_ T, err error) error { return err }
