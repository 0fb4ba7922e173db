package archive

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"sampan/internal/oci"
	"sampan/internal/registrytest"
	"sampan/internal/transfer/layout"
	"sampan/internal/upstream"
)

// bed is a registry with a reader of it.
type bed struct {
	*registrytest.Registry
	reader oci.Reader
}

func start(t *testing.T) bed {
	t.Helper()
	r := registrytest.StartTest(t, registrytest.Options{})
	endpoint, err := url.Parse(r.URL())
	if err != nil {
		t.Fatal(err)
	}
	name, err := oci.ParseRegistry(r.Host())
	if err != nil {
		t.Fatal(err)
	}
	u, err := upstream.New(upstream.Options{Registry: name, Endpoints: []*url.URL{endpoint}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { u.Close() })
	return bed{r, u}
}

// source is an image of the registry under a name of its own.
func (b bed) source(t *testing.T, name, at string) Source {
	t.Helper()
	return Source{Name: reference(t, name), At: reference(t, b.Host()+"/"+at), Reader: b.reader}
}

func reference(t *testing.T, s string) oci.Reference {
	t.Helper()
	ref, err := oci.ParseReference(s)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

func plan(t *testing.T, o PlanOptions, sources ...Source) *Plan {
	t.Helper()
	p, err := NewPlan(t.Context(), sources, o)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func noPause(_ context.Context, n int, err error) error {
	if n >= 5 {
		return err
	}
	return nil
}

// write writes a plan to a file of its own.
func write(t *testing.T, p *Plan, o WriteOptions) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "images.tar")
	o.Pause = noPause
	if _, err := Write(t.Context(), p, name, o); err != nil {
		t.Fatal(err)
	}
	return name
}

func opened(t *testing.T, name string) *Archive {
	t.Helper()
	a, err := Open(t.Context(), name, OpenOptions{TempDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	return a
}

// wantWhole fails unless a reader has an image with all that it names.
func wantWhole(t *testing.T, r oci.Reader, ref oci.Reference, digest oci.Digest) {
	t.Helper()
	m, err := r.Manifest(t.Context(), ref.Repository, digest)
	if err != nil {
		t.Fatal(err)
	}
	g, err := m.Graph()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range g.Manifests {
		wantWhole(t, r, ref, d.Digest)
	}
	for _, d := range g.Blobs {
		b, err := r.Blob(t.Context(), ref.Repository, d.Digest)
		if err != nil {
			t.Fatal(err)
		}
		if ok, err := d.Digest.VerifyReader(b); err != nil || !ok {
			t.Errorf("blob %s: %v, %v", d.Digest, ok, err)
		}
		b.Close()
	}
}

func content(t *testing.T, name string) []byte {
	t.Helper()
	raw, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// An item is an entry of a tar that a test makes.
type item struct {
	name string
	data string
	link string
	kind byte
}

// tarOf is a tar of items, which may be a lie.
func tarOf(t testing.TB, items ...item) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, i := range items {
		h := &tar.Header{Name: i.name, Mode: 0o644, Typeflag: i.kind, Linkname: i.link, Size: int64(len(i.data)), ModTime: time.Unix(0, 0)}
		if i.kind == 0 {
			h.Typeflag = tar.TypeReg
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, i.data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// openBytes opens an archive that a test made.
func openBytes(t testing.TB, raw []byte) (*Archive, error) {
	t.Helper()
	a, err := openFile(context.Background(), bytes.NewReader(raw), int64(len(raw)), OpenOptions{Text: layout.English, TempDir: t.TempDir()})
	if err == nil {
		t.Cleanup(func() { a.Close() })
	}
	return a, err
}

func text(v any) string {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(raw)
}

func blobItem(content string) item {
	return item{name: layout.BlobPath(oci.DigestOf([]byte(content))), data: content}
}

// smallImage is a layout of one image, as items: marker, index, manifest, config, layer.
func smallImage(name string) []item {
	const config, layer = `{"architecture":"amd64","os":"linux"}`, "the layer"
	m := text(map[string]any{
		"schemaVersion": 2, "mediaType": oci.MediaTypeImageManifest,
		"config": oci.Descriptor{MediaType: typeConfig, Digest: oci.DigestOf([]byte(config)), Size: int64(len(config))},
		"layers": []oci.Descriptor{{MediaType: typeLayer, Digest: oci.DigestOf([]byte(layer)), Size: int64(len(layer))}},
	})
	index := text(map[string]any{"schemaVersion": 2, "manifests": []oci.Descriptor{{
		MediaType: oci.MediaTypeImageManifest, Digest: oci.DigestOf([]byte(m)), Size: int64(len(m)),
		Annotations: map[string]string{layout.AnnotationRefName: name},
	}}})
	return []item{{name: layout.File, data: layout.Marker}, {name: layout.IndexFile, data: index}, blobItem(m), blobItem(config), blobItem(layer)}
}

// readAll reads each image of an archive with all its blobs, and returns the first
// error.
func readAll(ctx context.Context, a *Archive) error {
	for _, i := range a.Images() {
		m, err := a.Manifest(ctx, i.Ref.Repository, i.Descriptor.Digest)
		if err != nil {
			return err
		}
		g, err := m.Graph()
		if err != nil {
			return err
		}
		for _, d := range g.Blobs {
			b, err := a.Blob(ctx, i.Ref.Repository, d.Digest)
			if err != nil {
				return err
			}
			ok, err := d.Digest.VerifyReader(b)
			b.Close()
			if err != nil {
				return err
			}
			if !ok {
				return errors.New("the complete bytes of another blob were read")
			}
		}
	}
	return nil
}
