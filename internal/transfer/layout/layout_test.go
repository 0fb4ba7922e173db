package layout

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sampan/internal/oci"
)

const (
	config = `{"architecture":"amd64","os":"linux"}`
	layer  = "the bytes of the layer"
)

func describe(mediaType, content string) oci.Descriptor {
	return oci.Descriptor{MediaType: mediaType, Digest: oci.DigestOf([]byte(content)), Size: int64(len(content))}
}

func encode(t testing.TB, v any) string {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// manifest is that of an image, or of what is attached to a subject.
func manifest(t testing.TB, subject *oci.Descriptor, n int) string {
	t.Helper()
	return encode(t, map[string]any{
		"schemaVersion": 2, "mediaType": oci.MediaTypeImageManifest, "n": n, "subject": subject,
		"config": describe("application/vnd.oci.image.config.v1+json", config),
		"layers": []oci.Descriptor{describe("application/vnd.oci.image.layer.v1.tar", layer)},
	})
}

func reference(t testing.TB, s string) oci.Reference {
	t.Helper()
	ref, err := oci.ParseReference(s)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

// make writes a layout of one image and returns its directory and manifest.
func create(t *testing.T, name string) (dir string, m oci.Descriptor) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "layout")
	w, err := Create(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	raw := manifest(t, nil, 0)
	m = describe(oci.MediaTypeImageManifest, raw)
	for _, s := range []string{config, layer, raw} {
		if err := w.Put(t.Context(), describe("", s), strings.NewReader(s)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Name(Image{Ref: reference(t, name), Named: true, Descriptor: m}); err != nil {
		t.Fatal(err)
	}
	return dir, m
}

func openDir(t *testing.T, dir string, o Options) *Dir {
	t.Helper()
	d, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	dir, m := create(t, "quay.io/a/b:1")
	d := openDir(t, dir, Options{})
	ref := reference(t, "quay.io/a/b:1")
	got, err := d.ResolveTag(t.Context(), ref.Repository, ref.Tag)
	if err != nil || got.Digest != m.Digest || got.Size != m.Size || got.MediaType != m.MediaType {
		t.Errorf("got %+v, %v", got, err)
	}
	if read, err := d.Manifest(t.Context(), ref.Repository, m.Digest); err != nil || string(read.Bytes) != manifest(t, nil, 0) {
		t.Errorf("the manifest: %v", err)
	}
	b, err := d.Blob(t.Context(), ref.Repository, describe("", layer).Digest)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if raw, err := io.ReadAll(b); err != nil || string(raw) != layer {
		t.Errorf("got %q, %v", raw, err)
	}
	if tags, err := d.Tags(t.Context(), ref.Repository); err != nil || len(tags) != 1 || tags[0] != ref.Tag {
		t.Errorf("the tags are %v, %v", tags, err)
	}
}

// A repository answers for its own images alone.
func TestAnotherRepositoryHasNothing(t *testing.T) {
	dir, m := create(t, "quay.io/a/b:1")
	w, err := Create(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	raw := encode(t, map[string]any{"schemaVersion": 2, "config": describe("c", config), "layers": []any{}})
	other := describe(oci.MediaTypeImageManifest, raw)
	if err := w.Put(t.Context(), other, strings.NewReader(raw)); err != nil {
		t.Fatal(err)
	}
	if err := w.Name(Image{Ref: reference(t, "private:1"), Named: true, Descriptor: other}); err != nil {
		t.Fatal(err)
	}
	d := openDir(t, dir, Options{})
	private := reference(t, "private:1").Repository
	if _, err := d.Manifest(t.Context(), private, m.Digest); !errors.Is(err, oci.ErrManifestUnknown) {
		t.Errorf("a manifest of another repository: %v", err)
	}
	if _, err := d.Blob(t.Context(), private, describe("", layer).Digest); !errors.Is(err, oci.ErrBlobUnknown) {
		t.Errorf("a blob of another repository: %v", err)
	}
	if _, err := d.Blob(t.Context(), private, describe("", config).Digest); err != nil {
		t.Errorf("a blob that both have: %v", err)
	}
	if _, err := d.Tags(t.Context(), reference(t, "none").Repository); !errors.Is(err, oci.ErrNameUnknown) {
		t.Errorf("a repository that is not here: %v", err)
	}
}

func TestNames(t *testing.T) {
	d := `"mediaType":"` + oci.MediaTypeImageManifest + `","digest":"` + oci.DigestOf([]byte("x")).String() + `","size":1`
	for _, c := range []struct{ fact, annotations, want string }{
		{"a full name", `{"org.opencontainers.image.ref.name":"quay.io/a/b:1"}`, "quay.io/a/b:1"},
		{"the name for containerd is preferred", `{"io.containerd.image.name":"docker.io/library/a:1","org.opencontainers.image.ref.name":"1"}`, "docker.io/library/a:1"},
		{"a short name is one of Docker Hub", `{"org.opencontainers.image.ref.name":"a:1"}`, "docker.io/library/a:1"},
		{"a tag alone is one of the base", `{"org.opencontainers.image.ref.name":"v1"}`, "example.com/base:v1"},
		{"no name is the base", `{}`, "example.com/base"},
		{"a name without tag gets none", `{"org.opencontainers.image.ref.name":"quay.io/a/b"}`, "quay.io/a/b"},
		{"a digest that is its own", `{"org.opencontainers.image.ref.name":"a@` + oci.DigestOf([]byte("x")).String() + `"}`, "docker.io/library/a@" + oci.DigestOf([]byte("x")).String()},
		{"a digest that is not", `{"org.opencontainers.image.ref.name":"a@` + oci.DigestOf([]byte("y")).String() + `"}`, ""},
		{"no name at all", `{"org.opencontainers.image.ref.name":"a b:c"}`, ""},
		{"no tag at all", `{"org.opencontainers.image.ref.name":"-"}`, ""},
	} {
		t.Run(c.fact, func(t *testing.T) {
			images, err := parseIndex([]byte(`{"manifests":[{`+d+`,"annotations":`+c.annotations+`}]}`), Options{Base: reference(t, "example.com/base").Repository})
			if c.want == "" {
				if err == nil {
					t.Errorf("got %+v", images)
				}
				return
			}
			if err != nil || images[0].Ref.String() != c.want || images[0].Descriptor.Annotations != nil {
				t.Errorf("got %+v, %v", images, err)
			}
		})
	}
}

// However a blob is read, its last byte is not given before all of it is proven.
func TestTheLastByteIsProven(t *testing.T) {
	dir, _ := create(t, "a:1")
	repo := reference(t, "a:1").Repository
	path := filepath.Join(dir, filepath.FromSlash(BlobPath(describe("", layer).Digest)))
	read := map[string]func(oci.BlobReader) ([]byte, error){
		"at once":       func(b oci.BlobReader) ([]byte, error) { return io.ReadAll(b) },
		"byte by byte":  func(b oci.BlobReader) ([]byte, error) { return io.ReadAll(&single{b}) },
		"the end first": func(b oci.BlobReader) ([]byte, error) { return parts(b, len(layer)-5, 5, 0, len(layer)-5) },
		"half, then whole": func(b oci.BlobReader) ([]byte, error) {
			return parts(b, 0, len(layer)/2, 0, len(layer))
		},
	}
	for fact, f := range read {
		for _, spoil := range []int{-1, 0, len(layer) - 1} {
			content := []byte(layer)
			if spoil >= 0 {
				content[spoil] ^= 1
			}
			if err := os.WriteFile(path, content, 0o600); err != nil {
				t.Fatal(err)
			}
			d := openDir(t, dir, Options{})
			b, err := d.Blob(t.Context(), repo, describe("", layer).Digest)
			if err != nil {
				t.Fatal(err)
			}
			_, err = f(b)
			if spoil < 0 && err != nil || spoil >= 0 && oci.CodeOf(err) != oci.CodeDigestInvalid {
				t.Errorf("%s, byte %d is wrong: %v", fact, spoil, err)
			}
			b.Close()
		}
	}
}

type single struct{ r io.Reader }

func (s *single) Read(p []byte) (int, error) { return s.r.Read(p[:1]) }

// parts reads pairs of offset and length.
func parts(b oci.BlobReader, pairs ...int) ([]byte, error) {
	var all []byte
	for i := 0; i < len(pairs); i += 2 {
		if _, err := b.Seek(int64(pairs[i]), io.SeekStart); err != nil {
			return nil, err
		}
		p := make([]byte, pairs[i+1])
		if _, err := io.ReadFull(b, p); err != nil {
			return nil, err
		}
		all = append(all, p...)
	}
	return all, nil
}

func TestHostileDirectoriesAreRefused(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte(layer), 0o600); err != nil {
		t.Fatal(err)
	}
	blob := func(dir, content string) string {
		return filepath.Join(dir, filepath.FromSlash(BlobPath(describe("", content).Digest)))
	}
	replace := func(path string, with func() error) error {
		if err := os.Remove(path); err != nil {
			return err
		}
		return with()
	}
	for fact, spoil := range map[string]func(dir string) error{
		"a blob is a link out of it": func(dir string) error {
			return replace(blob(dir, layer), func() error { return os.Symlink(secret, blob(dir, layer)) })
		},
		"a blob is a folder": func(dir string) error {
			return replace(blob(dir, layer), func() error { return os.Mkdir(blob(dir, layer), 0o700) })
		},
		"a blob is missing": func(dir string) error { return os.Remove(blob(dir, layer)) },
		"a blob is longer":  func(dir string) error { return os.WriteFile(blob(dir, layer), []byte(layer+"x"), 0o600) },
		"the index is a link": func(dir string) error {
			return replace(filepath.Join(dir, IndexFile), func() error { return os.Symlink(secret, filepath.Join(dir, IndexFile)) })
		},
		"the index is missing": func(dir string) error { return os.Remove(filepath.Join(dir, IndexFile)) },
		"the index is another": func(dir string) error { return os.WriteFile(filepath.Join(dir, IndexFile), []byte("[]"), 0o600) },
		"it is no layout":      func(dir string) error { return os.Remove(filepath.Join(dir, File)) },
		"it is of another version": func(dir string) error {
			return os.WriteFile(filepath.Join(dir, File), []byte(`{"imageLayoutVersion":"9"}`), 0o600)
		},
		"the manifest is cut off": func(dir string) error { return os.Truncate(blob(dir, manifest(t, nil, 0)), 10) },
		"the manifest was changed": func(dir string) error {
			return os.WriteFile(blob(dir, manifest(t, nil, 0)), []byte(strings.Replace(manifest(t, nil, 0), `"n":0`, `"n":1`, 1)), 0o600)
		},
		"the index is far too large": func(dir string) error { return os.Truncate(filepath.Join(dir, IndexFile), maxIndex+1) },
	} {
		t.Run(fact, func(t *testing.T) {
			dir, m := create(t, "a:1")
			if err := spoil(dir); err != nil {
				t.Fatal(err)
			}
			d, err := Open(dir, Options{})
			if err == nil {
				defer d.Close()
				repo := reference(t, "a:1").Repository
				if _, err = d.Manifest(t.Context(), repo, m.Digest); err == nil {
					_, err = d.Blob(t.Context(), repo, describe("", layer).Digest)
				}
			}
			if err == nil {
				t.Error("it was read")
			}
		})
	}
}

func TestWhatIsWrongIsNotWritten(t *testing.T) {
	dir, _ := create(t, "a:1")
	w, err := Create(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	d := describe("", "new")
	for fact, content := range map[string]string{"another": "wen", "shorter": "ne", "longer": "new!"} {
		if err := w.Put(t.Context(), d, strings.NewReader(content)); oci.CodeOf(err) != oci.CodeDigestInvalid {
			t.Errorf("%s: %v", fact, err)
		}
		if has, err := w.Has(t.Context(), oci.Repository{}, d); has || err != nil {
			t.Errorf("%s: it has it: %v", fact, err)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "blobs", "sha256", ".tmp-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	path := filepath.Join(dir, filepath.FromSlash(BlobPath(describe("", layer).Digest)))
	if err := os.WriteFile(path, bytes.ToUpper([]byte(layer)), 0o600); err != nil {
		t.Fatal(err)
	}
	if has, err := w.Has(t.Context(), oci.Repository{}, describe("", layer)); has || err != nil {
		t.Errorf("a blob that rotted counts as here: %v", err)
	}
}

func TestADirectoryOfSomethingElseIsLeftAlone(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "thesis.txt"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Create(dir, Options{}); !errors.Is(err, fs.ErrExist) {
		t.Errorf("got %v", err)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("there are %v", entries)
	}
}

func TestANameMoves(t *testing.T) {
	dir, _ := create(t, "a:1")
	w, err := Create(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	raw := manifest(t, nil, 1)
	d := describe(oci.MediaTypeImageManifest, raw)
	if err := w.Put(t.Context(), d, strings.NewReader(raw)); err != nil {
		t.Fatal(err)
	}
	if err := w.Name(Image{Ref: reference(t, "a:1"), Named: true, Descriptor: d}); err != nil {
		t.Fatal(err)
	}
	images := openDir(t, dir, Options{}).Images()
	if len(images) != 1 || images[0].Descriptor.Digest != d.Digest {
		t.Errorf("got %+v", images)
	}
}

func TestReferrersAreEntriesWithASubject(t *testing.T) {
	dir, m := create(t, "a:1")
	w, err := Create(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	raw := manifest(t, &m, 1)
	d := describe(oci.MediaTypeImageManifest, raw)
	if err := w.Put(t.Context(), d, strings.NewReader(raw)); err != nil {
		t.Fatal(err)
	}
	if err := w.Name(Image{Descriptor: d}); err != nil {
		t.Fatal(err)
	}
	l := openDir(t, dir, Options{})
	repo := reference(t, "a:1").Repository
	got, err := l.Referrers(t.Context(), repo, m.Digest)
	if err != nil || len(got) != 1 || got[0].Digest != d.Digest {
		t.Errorf("got %v, %v", got, err)
	}
	if _, err := l.Manifest(t.Context(), repo, d.Digest); err != nil {
		t.Error(err)
	}
	if none, err := l.Referrers(t.Context(), repo, d.Digest); err != nil || len(none) != 0 || none == nil {
		t.Errorf("got %v, %v", none, err)
	}
}

// What transfer puts is named by its tags, and what is attached by its subject.
func TestTransferPutsIntoALayout(t *testing.T) {
	w, err := Create(filepath.Join(t.TempDir(), "layout"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	repo := reference(t, "quay.io/a/b").Repository
	for _, s := range []string{config, layer} {
		open := func(context.Context, int64) (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(s)), nil }
		if err := w.PutBlob(t.Context(), repo, describe("", s), open, nil); err != nil {
			t.Fatal(err)
		}
	}
	child, image := manifest(t, nil, 1), manifest(t, nil, 2)
	m := describe(oci.MediaTypeImageManifest, image)
	attached := manifest(t, &m, 3)
	tag, err := oci.ParseTag("1")
	if err != nil {
		t.Fatal(err)
	}
	for raw, tags := range map[string][]oci.Tag{child: nil, image: {tag}, attached: nil} {
		if err := w.PutManifest(t.Context(), repo, describe(oci.MediaTypeImageManifest, raw), []byte(raw), tags); err != nil {
			t.Fatal(err)
		}
	}
	d := openDir(t, w.root.Name(), Options{})
	if images := d.Images(); len(images) != 2 {
		t.Errorf("the index names %+v", images)
	}
	if got, err := d.Referrers(t.Context(), repo, m.Digest); err != nil || len(got) != 1 {
		t.Errorf("attached is %v, %v", got, err)
	}
	if _, err := d.ResolveTag(t.Context(), repo, tag); err != nil {
		t.Error(err)
	}
}

func FuzzIndex(f *testing.F) {
	f.Add([]byte(`{"manifests":[{"digest":"` + oci.DigestOf(nil).String() + `","size":1,"annotations":{"org.opencontainers.image.ref.name":"a:1"}}]}`))
	f.Add([]byte(`{"manifests":[{"digest":"` + oci.DigestOf(nil).String() + `","size":1,"annotations":{"io.containerd.image.name":"quay.io/x@` + oci.DigestOf(nil).String() + `"}}]}`))
	f.Add([]byte(`{"manifests":null}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		images, err := parseIndex(raw, Options{})
		if err != nil {
			return
		}
		written, err := MarshalIndex(images, parseBefore(raw))
		if err != nil {
			t.Fatal(err)
		}
		again, err := parseIndex(written, Options{})
		if err != nil {
			t.Fatalf("what was read cannot be written and read again: %v", err)
		}
		for n, i := range again {
			if i.Named && i.Ref.String() != images[n].Ref.String() {
				t.Fatalf("%s has become %s", images[n].Ref, i.Ref)
			}
		}
	})
}
