package inventory_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"sync"
	"testing"
	"time"

	"sampan/internal/inventory"
	"sampan/internal/oci"
	"sampan/internal/refs"
	"sampan/internal/refs/bolt"
	"sampan/internal/store"
)

// blobs are bytes in memory.
type blobs struct {
	mu     sync.Mutex
	m      map[oci.Digest][]byte
	used   map[oci.Digest]time.Time
	pinned map[oci.Digest]struct{}
}

type blob struct {
	*bytes.Reader
}

func (blob) Close() error { return nil }

func (b *blobs) Open(_ context.Context, d oci.Digest) (store.Blob, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	text, ok := b.m[d]
	if !ok {
		return nil, store.ErrNotFound
	}
	return blob{bytes.NewReader(text)}, nil
}

func (b *blobs) Stat(_ context.Context, d oci.Digest) (int64, time.Time, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	text, ok := b.m[d]
	if !ok {
		return 0, time.Time{}, store.ErrNotFound
	}
	return int64(len(text)), b.used[d], nil
}

func (b *blobs) Delete(_ context.Context, d oci.Digest) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.m, d)
	return nil
}

func (b *blobs) Pin(set map[oci.Digest]struct{}) { b.pinned = set }

// A fixture is an inventory that tests fill.
type fixture struct {
	*inventory.Inventory
	blobs *blobs
	index *bolt.Index
	names map[oci.Digest]string
	used  time.Time // of what is added
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	index, err := bolt.Open(filepath.Join(t.TempDir(), "index.db"), log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := index.Close(); err != nil {
			t.Error(err)
		}
	})
	f := &fixture{
		index: index, names: make(map[oci.Digest]string), used: time.Now(),
		blobs: &blobs{m: make(map[oci.Digest][]byte), used: make(map[oci.Digest]time.Time)},
	}
	if f.Inventory, err = inventory.New(inventory.Options{Refs: index, Blobs: f.blobs, Log: log}); err != nil {
		t.Fatal(err)
	}
	return f
}

func (f *fixture) put(name string, b []byte, mediaType string) oci.Descriptor {
	d := oci.DigestOf(b)
	f.blobs.m[d], f.blobs.used[d], f.names[d] = b, f.used, name
	return oci.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(b))}
}

// blob adds one of that content.
func (f *fixture) blob(name string) oci.Descriptor {
	return f.put(name, []byte(strings.Repeat(name, 10)), "application/vnd.oci.image.layer.v1.tar+gzip")
}

// manifest adds a manifest of a repository, linked with what it names.
func (f *fixture) manifest(t *testing.T, repo, name, mediaType string, doc map[string]any) oci.Descriptor {
	t.Helper()
	doc["schemaVersion"], doc["mediaType"], doc["annotations"] = 2, mediaType, map[string]string{"name": name}
	text, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	d := f.put(name, text, mediaType)
	f.link(t, repo, d)
	return d
}

func (f *fixture) link(t *testing.T, repo string, d oci.Descriptor) {
	t.Helper()
	text := f.blobs.m[d.Digest]
	g, err := oci.Manifest{Descriptor: d, Bytes: text}.Graph()
	if err != nil {
		t.Fatal(err)
	}
	links := slices.Concat([]oci.Descriptor{d}, g.Manifests, g.Blobs)
	if err := f.index.PutLinks(t.Context(), repository(t, repo), links...); err != nil {
		t.Fatal(err)
	}
}

// image adds one of such layers, with a config of its own.
func (f *fixture) image(t *testing.T, repo, name string, layers ...string) oci.Descriptor {
	t.Helper()
	config := f.put("config of "+name, fmt.Appendf(nil, `{"architecture":"amd64","os":"linux","created":"2026-01-02T03:04:05Z","history":[{"created_by":"COPY %s"}]}`, name), "application/vnd.oci.image.config.v1+json")
	var list []oci.Descriptor
	for _, l := range layers {
		list = append(list, f.blob(l))
	}
	return f.manifest(t, repo, name, oci.MediaTypeImageManifest, map[string]any{"config": config, "layers": list})
}

func (f *fixture) tag(t *testing.T, repo, tag string, d oci.Descriptor) {
	t.Helper()
	parsed, err := oci.ParseTag(tag)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.index.PutTag(t.Context(), repository(t, repo), parsed, refs.TagEntry{Manifest: d, Checked: time.Now()}); err != nil {
		t.Fatal(err)
	}
}

func repository(t *testing.T, s string) oci.Repository {
	t.Helper()
	r, err := oci.ParseRepository(s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// left are the names of what is still here.
func (f *fixture) left() string {
	var names []string
	for d := range f.blobs.m {
		names = append(names, f.names[d])
	}
	sort.Strings(names)
	return strings.Join(names, ", ")
}

const (
	app   = "docker.io/team/app"
	other = "quay.io/team/other"
)

func TestOnlyWhatNothingElseRefersToIsDeleted(t *testing.T) {
	for _, c := range []struct {
		fact      string
		fill      func(t *testing.T, f *fixture)
		repo, ref string
		left      string
		report    string // tags manifests blobs
	}{
		{
			"an image with its blobs", func(t *testing.T, f *fixture) {
				f.tag(t, app, "1", f.image(t, app, "one", "a", "b"))
			}, app, "1", "", "1 1 3",
		},
		{
			"not the layers that another image of the repository has", func(t *testing.T, f *fixture) {
				f.tag(t, app, "1", f.image(t, app, "one", "a", "b"))
				f.tag(t, app, "2", f.image(t, app, "two", "b", "c"))
			}, app, "1", "b, c, config of two, two", "1 1 2",
		},
		{
			"not those that another repository has", func(t *testing.T, f *fixture) {
				f.tag(t, app, "1", f.image(t, app, "one", "a", "b"))
				f.tag(t, other, "1", f.image(t, other, "two", "b"))
			}, app, "1", "b, config of two, two", "1 1 2",
		},
		{
			"not an image that another tag leads to", func(t *testing.T, f *fixture) {
				one := f.image(t, app, "one", "a")
				f.tag(t, app, "1", one)
				f.tag(t, app, "latest", one)
			}, app, "1", "a, config of one, one", "1 0 0",
		},
		{
			"not an image that another repository has, too", func(t *testing.T, f *fixture) {
				one := f.image(t, app, "one", "a")
				f.tag(t, app, "1", one)
				f.link(t, other, one)
			}, app, "1", "a, config of one, one", "1 0 0",
		},
		{
			"an index with its platforms", func(t *testing.T, f *fixture) {
				amd, arm := f.image(t, app, "amd", "base", "a"), f.image(t, app, "arm", "b")
				f.tag(t, app, "1", f.manifest(t, app, "index", oci.MediaTypeImageIndex, map[string]any{"manifests": []oci.Descriptor{amd, arm}}))
				f.tag(t, app, "2", f.image(t, app, "two", "base"))
			}, app, "1", "base, config of two, two", "1 3 4",
		},
		{
			"not a platform that has a tag", func(t *testing.T, f *fixture) {
				amd, arm := f.image(t, app, "amd", "a"), f.image(t, app, "arm", "b")
				f.tag(t, app, "1", f.manifest(t, app, "index", oci.MediaTypeImageIndex, map[string]any{"manifests": []oci.Descriptor{amd, arm}}))
				f.tag(t, app, "amd", amd)
			}, app, "1", "a, amd, config of amd", "1 2 2",
		},
		{
			"what is attached to it", func(t *testing.T, f *fixture) {
				one := f.image(t, app, "one", "a")
				f.tag(t, app, "1", one)
				f.manifest(t, app, "signature", oci.MediaTypeImageManifest, map[string]any{"subject": one, "layers": []oci.Descriptor{f.blob("sig")}})
				two := f.image(t, app, "two", "b")
				f.tag(t, app, "2", two)
				f.manifest(t, app, "its signature", oci.MediaTypeImageManifest, map[string]any{"subject": two, "layers": []oci.Descriptor{f.blob("sig 2")}})
			}, app, "1", "b, config of two, its signature, sig 2, two", "1 2 3",
		},
		{
			"by digest, all tags that lead there", func(t *testing.T, f *fixture) {
				one := f.image(t, app, "one", "a")
				f.tag(t, app, "1", one)
				f.tag(t, app, "latest", one)
			}, app, "digest of one", "", "2 1 2",
		},
		{
			"a repository as a whole, but what another has", func(t *testing.T, f *fixture) {
				f.tag(t, app, "1", f.image(t, app, "one", "a", "b"))
				f.tag(t, app, "2", f.image(t, app, "two", "b", "c"))
				f.tag(t, other, "1", f.image(t, other, "three", "c"))
			}, app, "", "c, config of three, three", "2 2 4",
		},
		{
			"a tag whose manifest was evicted", func(t *testing.T, f *fixture) {
				one := f.image(t, app, "one", "a")
				f.tag(t, app, "1", one)
				delete(f.blobs.m, one.Digest)
			}, app, "1", "a, config of one", "1 0 0",
		},
	} {
		t.Run(c.fact, func(t *testing.T) {
			f := newFixture(t)
			c.fill(t, f)
			ref := c.ref
			if name, ok := strings.CutPrefix(ref, "digest of "); ok {
				for d, n := range f.names {
					if n == name {
						ref = d.String()
					}
				}
			}
			before := f.left()
			dry, err := f.Delete(t.Context(), repository(t, c.repo), ref, true)
			if err != nil || f.left() != before {
				t.Fatalf("a dry run changes something: %v, %s", err, f.left())
			}
			r, err := f.Delete(t.Context(), repository(t, c.repo), ref, false)
			if err != nil {
				t.Fatal(err)
			}
			if got := f.left(); got != c.left {
				t.Errorf("left: %s, want %s", got, c.left)
			}
			if got := fmt.Sprint(r.Tags, r.Manifests, r.Blobs); got != c.report || fmt.Sprint(dry.Tags, dry.Manifests, dry.Blobs, dry.Bytes) != fmt.Sprint(r.Tags, r.Manifests, r.Blobs, r.Bytes) {
				t.Errorf("reported %s, want %s; dry %+v", got, c.report, dry)
			}
			if _, err := f.Image(t.Context(), repository(t, c.repo), c.ref); c.ref != "" && !errors.Is(err, inventory.ErrNotFound) {
				t.Errorf("it is still there by name: %v", err)
			}
		})
	}
}

func TestWhatIsPinnedStays(t *testing.T) {
	f := newFixture(t)
	one := f.image(t, app, "one", "a", "b")
	f.tag(t, app, "1", one)
	f.tag(t, app, "2", f.image(t, app, "two", "b", "c"))
	repo := repository(t, app)
	if err := f.SetPin(t.Context(), repo, "1", true); err != nil {
		t.Fatal(err)
	}
	var names []string
	for d := range f.blobs.pinned {
		names = append(names, f.names[d])
	}
	sort.Strings(names)
	if got := strings.Join(names, ", "); got != "a, b, config of one, one" {
		t.Errorf("pinned: %s", got)
	}
	if _, err := f.Delete(t.Context(), repo, "1", false); !errors.Is(err, inventory.ErrPinned) {
		t.Errorf("got %v", err)
	}
	r, err := f.Delete(t.Context(), repo, "", false)
	if err != nil || f.left() != "a, b, config of one, one" || len(r.Kept) != 1 || r.Kept[0] != app+":1" {
		t.Errorf("left %s, %+v, %v", f.left(), r, err)
	}
	if err := f.SetPin(t.Context(), repo, "1", false); err != nil || len(f.blobs.pinned) != 0 {
		t.Errorf("%v, %v", err, f.blobs.pinned)
	}
	if _, err := f.Delete(t.Context(), repo, "1", false); err != nil || f.left() != "" {
		t.Errorf("left %s, %v", f.left(), err)
	}
	if err := f.SetPin(t.Context(), repo, "later", true); err != nil {
		t.Errorf("a tag that has not come yet: %v", err)
	}
	f.tag(t, app, "later", f.image(t, app, "three", "d"))
	if err := f.Repin(t.Context()); err != nil || len(f.blobs.pinned) != 3 {
		t.Errorf("%v, %v", err, f.blobs.pinned)
	}
	if err := f.SetPin(t.Context(), repo, "not a tag", true); !errors.Is(err, inventory.ErrNotFound) {
		t.Errorf("got %v", err)
	}
}

// addedTo are blobs to whose pins can be added; it counts what is read.
type addedTo struct {
	*blobs
	read map[oci.Digest]int
}

func (a *addedTo) AddPins(set map[oci.Digest]struct{}) { maps.Copy(a.pinned, set) }

func (a *addedTo) Open(ctx context.Context, d oci.Digest) (store.Blob, error) {
	a.read[d]++
	return a.blobs.Open(ctx, d)
}

// A pin more looks at what it is about, and at none of the others; one less looks at all.
func TestAPinMoreLooksAtNoOther(t *testing.T) {
	f := newFixture(t)
	a := &addedTo{f.blobs, make(map[oci.Digest]int)}
	v, err := inventory.New(inventory.Options{Refs: f.index, Blobs: a, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	repo := repository(t, app)
	one, two := f.image(t, app, "one", "a"), f.image(t, app, "two", "b")
	f.tag(t, app, "1", one)
	f.tag(t, app, "2", two)
	f.blobs.pinned = make(map[oci.Digest]struct{})
	for _, tag := range []string{"1", "2"} {
		if err := v.SetPin(t.Context(), repo, tag, true); err != nil {
			t.Fatal(err)
		}
	}
	if a.read[one.Digest] != 1 || a.read[two.Digest] != 1 || len(f.blobs.pinned) != 6 {
		t.Errorf("the manifests were read %d and %d times, and %d are pinned", a.read[one.Digest], a.read[two.Digest], len(f.blobs.pinned))
	}
	if err := v.SetPin(t.Context(), repo, "1", false); err != nil || len(f.blobs.pinned) != 3 {
		t.Errorf("%d are pinned: %v", len(f.blobs.pinned), err)
	}
}

func TestWhatWasNotUsedIsPurged(t *testing.T) {
	f := newFixture(t)
	day := 24 * time.Hour
	ago := func(d time.Duration) { f.used = time.Now().Add(-d) }
	ago(40 * day)
	f.tag(t, app, "old", f.image(t, app, "old", "a", "shared"))
	f.tag(t, app, "pinned", f.image(t, app, "pinned", "p"))
	child := f.image(t, app, "child", "x")
	ago(2 * day)
	f.tag(t, app, "new", f.image(t, app, "new", "b", "shared"))
	ago(40 * day)
	index := f.manifest(t, app, "index", oci.MediaTypeImageIndex, map[string]any{"manifests": []oci.Descriptor{child}})
	f.tag(t, app, "multi", index)
	f.blobs.used[child.Digest] = time.Now() // clients come with its digest
	f.tag(t, other, "old", f.image(t, other, "old of other", "o"))
	if err := f.SetPin(t.Context(), repository(t, app), "pinned", true); err != nil {
		t.Fatal(err)
	}
	quay, err := oci.ParseRegistry("quay.io")
	if err != nil {
		t.Fatal(err)
	}
	r, err := f.Purge(t.Context(), inventory.Selection{Filter: inventory.Filter{Registry: oci.DockerHub}, Unused: 30 * day}, false, nil)
	if err != nil || len(r.Names) != 1 || r.Names[0] != app+":old" || len(r.Kept) != 1 {
		t.Errorf("%+v, %v", r, err)
	}
	const left = "b, child, config of child, config of new, config of old of other, config of pinned, index, new, o, old of other, p, pinned, shared, x"
	if f.left() != left {
		t.Errorf("left %s", f.left())
	}
	looked := 0
	if _, err = f.Purge(t.Context(), inventory.Selection{Filter: inventory.Filter{Registry: quay}}, false, func(n int) { looked = n }); err != nil || looked != 2 {
		t.Errorf("%d, %v", looked, err)
	}
	if repos, err := f.Repositories(t.Context(), inventory.Filter{}, oci.Repository{}, 10); err != nil || len(repos) != 1 {
		t.Errorf("%v, %v", repos, err)
	}
}

func TestAnImageIsToldAsItIs(t *testing.T) {
	f := newFixture(t)
	amd, arm := f.image(t, app, "amd", "base", "a"), f.image(t, app, "arm", "base", "b")
	amd.Platform = &oci.Platform{OS: "linux", Architecture: "amd64"}
	index := f.manifest(t, app, "index", oci.MediaTypeImageIndex, map[string]any{"manifests": []oci.Descriptor{amd, arm}})
	f.tag(t, app, "1", index)
	f.tag(t, app, "latest", index)
	gone := oci.DigestOf([]byte(strings.Repeat("b", 10)))
	delete(f.blobs.m, gone)
	img, err := f.Image(t.Context(), repository(t, app), "1")
	if err != nil || !img.Here || img.Complete || len(img.Tags) != 2 || len(img.Platforms) != 2 || !img.Platforms[0].Complete || img.Platforms[1].Complete ||
		img.Platforms[0].Platform == nil || img.Platforms[0].Platform.Architecture != "amd64" {
		t.Errorf("%+v, %v", img, err)
	}
	var size int64
	for _, b := range f.blobs.m {
		size += int64(len(b))
	}
	if img.Size != size {
		t.Errorf("%d bytes, want %d", img.Size, size)
	}
	img, err = f.Image(t.Context(), repository(t, app), arm.Digest.String())
	if err != nil || img.Complete || len(img.Layers) != 2 || img.Layers[1].Here || !img.Config.Here || img.Platform.Architecture != "amd64" ||
		img.Created.Year() != 2026 || len(img.History) != 1 || img.History[0].CreatedBy != "COPY arm" {
		t.Errorf("%+v, %v", img, err)
	}
	for _, ref := range []string{"nope", gone.String(), "not a tag", oci.DigestOf(nil).String()} {
		if _, err := f.Image(t.Context(), repository(t, app), ref); !errors.Is(err, inventory.ErrNotFound) {
			t.Errorf("%s: %v", ref, err)
		}
	}
	registries, err := f.Registries(t.Context())
	if err != nil || len(registries) != 1 || registries[0].Repositories != 1 {
		t.Errorf("%+v, %v", registries, err)
	}
	tags, err := f.Tags(t.Context(), repository(t, app), oci.Tag{}, 1)
	if err != nil || len(tags) != 1 || tags[0].Name.String() != "1" || !tags[0].Here || tags[0].Used.IsZero() {
		t.Errorf("%+v, %v", tags, err)
	}
}
