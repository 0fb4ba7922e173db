package archive

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"sampan/internal/oci"
	"sampan/internal/transfer/layout"
)

// dockerSave is an archive as old versions of Docker write it, with a layer that two
// images share by a link.
func dockerSave(t testing.TB, more ...item) []byte {
	t.Helper()
	const layer = "layer of one and two"
	config := func(n int) string {
		return fmt.Sprintf(`{"n":%d,"rootfs":{"type":"layers","diff_ids":[%q]}}`, n, oci.DigestOf([]byte(layer)))
	}
	items := []item{
		{name: "aaa/", kind: tar.TypeDir},
		{name: "aaa/layer.tar", data: layer},
		{name: "bbb/layer.tar", link: "../aaa/layer.tar", kind: tar.TypeSymlink},
		{name: "one.json", data: config(1)},
		{name: "two.json", data: config(2)},
		{name: "manifest.json", data: text([]dockerImage{
			{Config: "one.json", RepoTags: []string{"one:1", "quay.io/a/one:x"}, Layers: []string{"aaa/layer.tar"}},
			{Config: "two.json", RepoTags: nil, Layers: []string{"bbb/layer.tar"}},
		})},
	}
	return tarOf(t, append(items, more...)...)
}

func TestWhatDockerSavedIsRead(t *testing.T) {
	a, err := openBytes(t, dockerSave(t))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, i := range a.Images() {
		names = append(names, i.Ref.String())
	}
	if got, want := strings.Join(names, " "), "docker.io/library/one:1 quay.io/a/one:x "+layout.Unnamed; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if err := readAll(t.Context(), a); err != nil {
		t.Error(err)
	}
	again, err := openBytes(t, dockerSave(t))
	if err != nil || again.Images()[0].Descriptor.Digest != a.Images()[0].Descriptor.Digest {
		t.Errorf("the same archive has other digests: %v", err)
	}
}

func TestCompressedLayersOfDockerKeepTheirBytes(t *testing.T) {
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	fmt.Fprint(w, "the layer")
	w.Close()
	a, err := openBytes(t, tarOf(t,
		item{name: "c.json", data: fmt.Sprintf(`{"rootfs":{"diff_ids":[%q]}}`, oci.DigestOf([]byte("the layer")))},
		item{name: "l.tar.gz", data: z.String()},
		item{name: "manifest.json", data: `[{"Config":"c.json","RepoTags":["a:1"],"Layers":["l.tar.gz"]}]`}))
	if err != nil {
		t.Fatal(err)
	}
	if err := readAll(t.Context(), a); err != nil {
		t.Error(err)
	}
	m, err := a.Manifest(t.Context(), a.Images()[0].Ref.Repository, a.Images()[0].Descriptor.Digest)
	if err != nil || !strings.Contains(string(m.Bytes), typeLayer+"+gzip") || !strings.Contains(string(m.Bytes), oci.DigestOf(z.Bytes()).String()) {
		t.Errorf("%s, %v", m.Bytes, err)
	}
}

func TestOrderAndSpellingOfEntriesDoNotMatter(t *testing.T) {
	items := smallImage("docker.io/library/a:1")
	for fact, change := range map[string]func([]item) []item{
		"in order":              func(l []item) []item { return l },
		"backwards":             func(l []item) []item { return []item{l[4], l[3], l[2], l[1], l[0]} },
		"with ./ in front":      func(l []item) []item { return prefixed(l, "./") },
		"with folders":          func(l []item) []item { return append([]item{{name: "blobs/", kind: tar.TypeDir}}, l...) },
		"with a blob twice":     func(l []item) []item { return append(l, l[4]) },
		"with a blob by a link": func(l []item) []item { return linked(l) },
		"with strangers": func(l []item) []item {
			return append([]item{
				{name: "../../etc/passwd", data: "x"},
				{name: "/etc/shadow", data: "x"},
				{name: "dev", kind: tar.TypeBlock},
				{name: "evil", link: "/etc/passwd", kind: tar.TypeSymlink},
				{name: "up", link: "../../../etc/passwd", kind: tar.TypeLink},
				{name: "loop", link: "loop", kind: tar.TypeSymlink},
				{name: strings.Repeat("long/", 300), kind: tar.TypeDir},
				{name: "fifo", kind: tar.TypeFifo},
				{name: "README", data: "hello"},
			}, l...)
		},
	} {
		t.Run(fact, func(t *testing.T) {
			a, err := openBytes(t, tarOf(t, change(items)...))
			if err != nil {
				t.Fatal(err)
			}
			if got := a.Images()[0].Ref.String(); got != "docker.io/library/a:1" {
				t.Errorf("got %s", got)
			}
			if err := readAll(t.Context(), a); err != nil {
				t.Error(err)
			}
		})
	}
}

func prefixed(items []item, with string) []item {
	var list []item
	for _, i := range items {
		i.name = with + i.name
		list = append(list, i)
	}
	return list
}

func linked(items []item) []item {
	layer := items[4]
	link := item{name: layer.name, link: "../../elsewhere", kind: tar.TypeSymlink}
	layer.name = "elsewhere"
	return append(items[:4:4], layer, link)
}

func TestHostileArchivesAreRefused(t *testing.T) {
	small := smallImage("a:1")
	index := func(s string) []byte {
		return tarOf(t, item{name: layout.File, data: layout.Marker}, item{name: layout.IndexFile, data: s})
	}
	docker := func(config, manifest string) []byte {
		return tarOf(t, item{name: "c.json", data: config}, item{name: "l", data: "layer"}, item{name: "manifest.json", data: manifest})
	}
	sound := fmt.Sprintf(`{"rootfs":{"diff_ids":[%q]}}`, oci.DigestOf([]byte("layer")))
	for fact, raw := range map[string][]byte{
		"nothing":                             {},
		"text":                                []byte("hello"),
		"zeros":                               make([]byte, 10_000),
		"a tar of something else":             tarOf(t, item{name: "x", data: "y"}),
		"a link to a document of the machine": tarOf(t, item{name: layout.File, data: layout.Marker}, item{name: layout.IndexFile, link: "/etc/passwd", kind: tar.TypeSymlink}),
		"an index that is no JSON":            index("{"),
		"an index with a digest that is none": index(`{"manifests":[{"digest":"sha256:../../etc/passwd","size":1}]}`),
		"an index without digests":            index(`{"manifests":[{"size":1}]}`),
		"an index with a negative size":       index(`{"manifests":[{"digest":"` + oci.DigestOf(nil).String() + `","size":-1}]}`),
		"an index with a huge size":           index(`{"manifests":[{"digest":"` + oci.DigestOf(nil).String() + `","size":99999999999}]}`),
		"an index with a name that is none":   index(`{"manifests":[{"digest":"` + oci.DigestOf(nil).String() + `","size":1,"annotations":{"org.opencontainers.image.ref.name":"../x:y"}}]}`),
		"two images of one name": index(`{"manifests":[{"digest":"` + oci.DigestOf(nil).String() + `","size":1,"annotations":{"org.opencontainers.image.ref.name":"a:1"}},` +
			`{"digest":"` + oci.DigestOf([]byte("x")).String() + `","size":1,"annotations":{"org.opencontainers.image.ref.name":"a:1"}}]}`),
		"another version of layouts":                tarOf(t, item{name: layout.File, data: `{"imageLayoutVersion":"2.0.0"}`}, small[1]),
		"two indexes":                               tarOf(t, small[0], small[1], item{name: "./" + layout.IndexFile, data: "{}"}),
		"a document that is too large":              tarOf(t, small[0], item{name: layout.IndexFile, data: strings.Repeat(" ", maxDocument+1)}),
		"Docker: no JSON":                           docker(sound, "x"),
		"Docker: a configuration that is missing":   docker(sound, `[{"Config":"x.json","Layers":["l"]}]`),
		"Docker: a configuration that is a path":    docker(sound, `[{"Config":"../../../../etc/passwd","Layers":["l"]}]`),
		"Docker: a layer that is missing":           docker(sound, `[{"Config":"c.json","Layers":["x"]}]`),
		"Docker: more layers than there should be":  docker(sound, `[{"Config":"c.json","Layers":["l","l"]}]`),
		"Docker: a configuration that is no JSON":   docker("x", `[{"Config":"c.json","Layers":["l"]}]`),
		"Docker: a digest that is none":             docker(`{"rootfs":{"diff_ids":["x"]}}`, `[{"Config":"c.json","Layers":["l"]}]`),
		"Docker: a digest that is empty":            docker(`{"rootfs":{"diff_ids":[""]}}`, `[{"Config":"c.json","Layers":["l"]}]`),
		"Docker: a name that is none":               docker(sound, `[{"Config":"c.json","RepoTags":["A B"],"Layers":["l"]}]`),
		"cut off in a header":                       tarOf(t, small...)[:700],
		"cut off in a blob":                         tarOf(t, small...)[:len(tarOf(t, small...))-1024-512],
		"gzip that is cut off":                      zipped(t, tarOf(t, small...))[:200],
		"an entry that says it is larger than all":  lying64(tarOf(t, small...)),
		"an old archive of Docker without manifest": tarOf(t, item{name: "repositories", data: "{}"}),
	} {
		t.Run(fact, func(t *testing.T) {
			if a, err := openBytes(t, raw); !errors.Is(err, ErrArchive) {
				t.Errorf("got %v, %v", a, err)
			}
		})
	}
}

func zipped(t *testing.T, raw []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(raw); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// lying64 makes the first entry of a tar one of 8 GiB.
func lying64(raw []byte) []byte {
	raw = bytes.Clone(raw)
	copy(raw[124:], "77777777777\x00")
	for i := 148; i < 156; i++ {
		raw[i] = ' '
	}
	sum := 0
	for _, c := range raw[:512] {
		sum += int(c)
	}
	copy(raw[148:], fmt.Sprintf("%06o\x00 ", sum))
	return raw
}

// A digest that lies is found out before the last byte of it was read.
func TestDigestsThatLieAreFoundOut(t *testing.T) {
	for _, n := range []int{2, 3, 4} { // manifest, config, layer
		items := smallImage("a:1")
		items[n].data = strings.Repeat("x", len(items[n].data))
		a, err := openBytes(t, tarOf(t, items...))
		if err == nil {
			err = readAll(t.Context(), a)
		}
		if oci.CodeOf(err) != oci.CodeDigestInvalid {
			t.Errorf("item %d: %v", n, err)
		}
	}
	for fact, change := range map[string]func(string) string{
		"longer": func(s string) string { return s + "x" }, "shorter": func(s string) string { return s[1:] },
	} {
		items := smallImage("a:1")
		items[4].data = change(items[4].data)
		a, err := openBytes(t, tarOf(t, items...))
		if err == nil {
			err = readAll(t.Context(), a)
		}
		if oci.CodeOf(err) != oci.CodeSizeInvalid {
			t.Errorf("a layer that is %s: %v", fact, err)
		}
	}
	raw := dockerSave(t)
	a, err := openBytes(t, bytes.Replace(raw, []byte("layer of one"), []byte("layer of ONE"), 1))
	if err == nil {
		err = readAll(t.Context(), a)
	}
	if oci.CodeOf(err) != oci.CodeDigestInvalid {
		t.Errorf("a layer of Docker: %v", err)
	}
}

func TestABombIsNotUnpacked(t *testing.T) {
	for name, make := range map[string]func(io.Writer) io.WriteCloser{
		"gzip": func(w io.Writer) io.WriteCloser { return gzip.NewWriter(w) },
		"zstd": func(w io.Writer) io.WriteCloser {
			z, err := zstd.NewWriter(w)
			if err != nil {
				t.Fatal(err)
			}
			return z
		},
	} {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			w := make(&b)
			if _, err := io.CopyN(w, zeros{}, 20<<20); err != nil {
				t.Fatal(err)
			}
			w.Close()
			dir := t.TempDir()
			_, err := openFile(t.Context(), bytes.NewReader(b.Bytes()), int64(b.Len()), OpenOptions{Text: layout.English, TempDir: dir, MaxSpool: 10 << 20})
			if !errors.Is(err, ErrBomb) {
				t.Errorf("got %v", err)
			}
			if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestAMillionEntriesAreTooMany(t *testing.T) {
	one := tarOf(t, item{name: "x/", kind: tar.TypeDir})[:512]
	_, err := openBytes(t, bytes.Repeat(one, maxEntries+1))
	if !errors.Is(err, ErrArchive) || !strings.Contains(err.Error(), "more than") {
		t.Errorf("got %v", err)
	}
}

// A file with holes has other bytes than those in the archive.
func TestHolesAreRefused(t *testing.T) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	h := &tar.Header{Name: "index.json", Size: 2, Format: tar.FormatPAX, PAXRecords: map[string]string{"XXX.sparse.realsize": "2"}}
	if err := w.WriteHeader(h); err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(w, "{}")
	w.Close()
	raw := bytes.Replace(b.Bytes(), []byte("XXX.sparse"), []byte("GNU.sparse"), 1)
	if _, err := openBytes(t, raw); !errors.Is(err, ErrArchive) || !strings.Contains(err.Error(), "holes") {
		t.Errorf("got %v", err)
	}
	if !sparse(&tar.Header{PAXRecords: map[string]string{"GNU.sparse.major": "1"}}) {
		t.Error("holes are not seen")
	}
}

func TestStandardInputIsSpooledAndGone(t *testing.T) {
	dir := t.TempDir()
	a, err := Read(t.Context(), bytes.NewReader(zipped(t, tarOf(t, smallImage("a:1")...))), OpenOptions{TempDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if err := readAll(t.Context(), a); err != nil {
		t.Error(err)
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// Whatever an archive is, it is refused or read, and no blob is read whole that is
// another.
func FuzzOpen(f *testing.F) {
	f.Add(tarOf(f, smallImage("a:1")...))
	f.Add(dockerSave(f))
	f.Add(tarOf(f, linked(smallImage("quay.io/a/b:1"))...))
	f.Add([]byte(gzipMagic + "xx"))
	f.Add([]byte(zstdMagic + "xx"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		a, err := openFile(t.Context(), bytes.NewReader(raw), int64(len(raw)), OpenOptions{Text: layout.English, TempDir: t.TempDir(), MaxSpool: 1 << 20})
		if err != nil {
			return
		}
		defer a.Close()
		if err := readAll(t.Context(), a); err != nil && strings.Contains(err.Error(), "complete bytes of another") {
			t.Fatal(err)
		}
	})
}
