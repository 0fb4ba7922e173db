package local

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"sampan/internal/oci"
	"sampan/internal/registrytest"
	"sampan/internal/transfer/layout"
	"sampan/internal/upstream"
)

const (
	configType = "application/vnd.oci.image.config.v1+json"
	layerType  = "application/vnd.oci.image.layer.v1.tar"
)

// An image is one that a test puts into a layout: its name there, and its only layer.
type image struct {
	name, layer string
	subject     *oci.Descriptor
}

func encode(v any) []byte {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return raw
}

func describe(mediaType string, b []byte) oci.Descriptor {
	return oci.Descriptor{MediaType: mediaType, Digest: oci.DigestOf(b), Size: int64(len(b))}
}

func (i image) config() []byte { return []byte(`{"architecture":"amd64","os":"linux"}`) }

func (i image) manifest() []byte {
	doc := map[string]any{
		"schemaVersion": 2, "mediaType": oci.MediaTypeImageManifest,
		"config": describe(configType, i.config()), "layers": []oci.Descriptor{describe(layerType, []byte(i.layer))},
	}
	if i.subject != nil {
		doc["subject"] = i.subject
	}
	return encode(doc)
}

func (i image) descriptor() oci.Descriptor { return describe(oci.MediaTypeImageManifest, i.manifest()) }
func (i image) digest() oci.Digest         { return i.descriptor().Digest }
func (i image) blob() oci.Digest           { return oci.DigestOf([]byte(i.layer)) }

// files are those of a layout of images, by their names.
func files(images ...image) map[string][]byte {
	all := map[string][]byte{layout.File: []byte(layout.Marker)}
	index := []oci.Descriptor{}
	for _, i := range images {
		d := i.descriptor()
		if i.name != "" {
			d.Annotations = map[string]string{layout.AnnotationRefName: i.name}
		}
		index = append(index, d)
		for _, b := range [][]byte{i.config(), i.manifest(), []byte(i.layer)} {
			all[layout.BlobPath(oci.DigestOf(b))] = b
		}
	}
	all[layout.IndexFile] = encode(map[string]any{"schemaVersion": 2, "manifests": index})
	return all
}

// writeArchive puts an archive in the place of what has the name, as a whole.
func writeArchive(t testing.TB, name string, content map[string][]byte) {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, file := range slices.Sorted(maps.Keys(content)) {
		if err := w.WriteHeader(&tar.Header{Name: file, Mode: 0o644, Typeflag: tar.TypeReg, Size: int64(len(content[file]))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(content[file]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	replace(t, name, b.Bytes())
}

func replace(t testing.TB, name string, content []byte) {
	t.Helper()
	if err := os.WriteFile(name+".new", content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(name+".new", name); err != nil {
		t.Fatal(err)
	}
}

func writeLayout(t testing.TB, dir string, content map[string][]byte) {
	t.Helper()
	for name, b := range content {
		if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		replace(t, filepath.Join(dir, name), b)
	}
}

// archiveOf is an archive of images in a directory of its own.
func archiveOf(t testing.TB, images ...image) Place {
	t.Helper()
	p := Place{Path: filepath.Join(t.TempDir(), "images.tar")}
	writeArchive(t, p.Path, files(images...))
	return p
}

// hub is what most tests serve.
func hub(t testing.TB) oci.Registry {
	t.Helper()
	return repository(t, "docker.io/team/app").Registry()
}

func repository(t testing.TB, name string) oci.Repository {
	t.Helper()
	r, err := oci.ParseRepository(name)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func tag(t testing.TB, name string) oci.Tag {
	t.Helper()
	v, err := oci.ParseTag(name)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// serve makes an upstream of places.
func serve(t testing.TB, next *upstream.Registry, places ...Place) *Upstream {
	t.Helper()
	o := Options{Registry: hub(t), Pool: NewPool(slog.New(slog.DiscardHandler)), Next: next}
	for _, p := range places {
		o.Endpoints = append(o.Endpoints, Endpoint{Place: p})
	}
	return made(t, o)
}

func made(t testing.TB, o Options) *Upstream {
	t.Helper()
	u, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := u.Close(); err != nil {
			t.Error(err)
		}
	})
	return u
}

// network is a registry, and what asks it as docker.io.
func network(t testing.TB) (*registrytest.Registry, *upstream.Registry) {
	t.Helper()
	r := registrytest.StartTest(t, registrytest.Options{})
	endpoint, err := url.Parse(r.URL())
	if err != nil {
		t.Fatal(err)
	}
	up, err := upstream.New(upstream.Options{Registry: hub(t), Endpoints: []*url.URL{endpoint}})
	if err != nil {
		t.Fatal(err)
	}
	return r, up
}

// add puts an image into a registry.
func (i image) add(r *registrytest.Registry, repo, tag string) {
	r.AddBytes(repo, configType, i.config())
	r.AddBytes(repo, layerType, []byte(i.layer))
	r.AddManifest(repo, tag, oci.MediaTypeImageManifest, i.manifest())
}

// wantTag fails unless a tag leads to an image.
func wantTag(t testing.TB, r oci.Reader, repo, name string, want image) {
	t.Helper()
	d, err := r.ResolveTag(t.Context(), repository(t, repo), tag(t, name))
	if err != nil || d.Digest != want.digest() {
		t.Errorf("%s:%s is %s, %v; want %s", repo, name, d.Digest, err, want.digest())
	}
}

// wantCode fails unless an error has a code.
func wantCode(t testing.TB, err error, want oci.Code) {
	t.Helper()
	if oci.CodeOf(err) != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// readPart reads a part to its end.
func readPart(t testing.TB, p oci.BlobParts, from, to int64) (string, error) {
	t.Helper()
	part, err := p.Part(t.Context(), from, to)
	if err != nil {
		return "", err
	}
	b, err := io.ReadAll(part.Body)
	if err := part.Body.Close(); err != nil {
		t.Error(err)
	}
	return string(b), err
}
