package syncing

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"sampan/internal/oci"
	"sampan/internal/transfer"
)

// memory is a registry, to read from and to write to, that counts what it is asked.
type memory struct {
	mu        sync.Mutex
	tags      map[string]oci.Digest // "repository:tag"
	manifests map[oci.Digest]oci.Manifest
	blobs     map[oci.Digest][]byte
	heads     int
	asked     int // whether something is there
	reads     int // of manifests and blobs
	keepTags  bool
}

func newMemory() *memory {
	return &memory{tags: map[string]oci.Digest{}, manifests: map[oci.Digest]oci.Manifest{}, blobs: map[oci.Digest][]byte{}}
}

// add makes an image of one layer.
func (m *memory) add(t *testing.T, name, layer string) oci.Digest {
	t.Helper()
	ref, err := oci.ParseReference(name)
	if err != nil {
		t.Fatal(err)
	}
	blob := func(mediaType string, content []byte) oci.Descriptor {
		d := oci.DigestOf(content)
		m.blobs[d] = content
		return oci.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(content))}
	}
	raw, err := json.Marshal(map[string]any{
		"schemaVersion": 2, "mediaType": oci.MediaTypeImageManifest,
		"config": blob("application/vnd.oci.image.config.v1+json", []byte("{}")),
		"layers": []oci.Descriptor{blob("application/vnd.oci.image.layer.v1.tar", []byte(layer))},
	})
	if err != nil {
		t.Fatal(err)
	}
	d := oci.DigestOf(raw)
	m.manifests[d] = oci.Manifest{Descriptor: oci.Descriptor{MediaType: oci.MediaTypeImageManifest, Digest: d, Size: int64(len(raw))}, Bytes: raw}
	m.tags[ref.Repository.String()+":"+ref.Tag.String()] = d
	return d
}

func (m *memory) ResolveTag(_ context.Context, repo oci.Repository, tag oci.Tag) (oci.Descriptor, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.heads++
	d, ok := m.tags[repo.String()+":"+tag.String()]
	if !ok {
		return oci.Descriptor{}, oci.ErrManifestUnknown
	}
	return m.manifests[d].Descriptor, nil
}

func (m *memory) Manifest(_ context.Context, _ oci.Repository, d oci.Digest) (oci.Manifest, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.reads++
	found, ok := m.manifests[d]
	if !ok {
		return oci.Manifest{}, oci.ErrManifestUnknown
	}
	return found, nil
}

type memoryBlob struct {
	*bytes.Reader
	d oci.Descriptor
}

func (b memoryBlob) Descriptor() oci.Descriptor { return b.d }
func (b memoryBlob) Close() error               { return nil }

func (m *memory) Blob(_ context.Context, _ oci.Repository, d oci.Digest) (oci.BlobReader, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.reads++
	content, ok := m.blobs[d]
	if !ok {
		return nil, oci.ErrBlobUnknown
	}
	return memoryBlob{bytes.NewReader(content), oci.Descriptor{Digest: d, Size: int64(len(content))}}, nil
}

func (m *memory) Tags(_ context.Context, repo oci.Repository) ([]oci.Tag, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var tags []oci.Tag
	for name := range m.tags {
		if rest, ok := strings.CutPrefix(name, repo.String()+":"); ok {
			tag, err := oci.ParseTag(rest)
			if err != nil {
				return nil, err
			}
			tags = append(tags, tag)
		}
	}
	if tags == nil {
		return nil, oci.ErrNameUnknown
	}
	slices.SortFunc(tags, func(a, b oci.Tag) int { return strings.Compare(a.String(), b.String()) })
	return tags, nil
}

func (m *memory) Referrers(context.Context, oci.Repository, oci.Digest) ([]oci.Descriptor, error) {
	return nil, nil
}

func (m *memory) Has(_ context.Context, _ oci.Repository, d oci.Descriptor) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked++
	_, blob := m.blobs[d.Digest]
	_, manifest := m.manifests[d.Digest]
	return blob || manifest, nil
}

func (m *memory) PutBlob(ctx context.Context, _ oci.Repository, d oci.Descriptor, open transfer.Open, _ []oci.Repository) error {
	r, err := open(ctx, 0)
	if err != nil {
		return err
	}
	defer r.Close()
	content, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.blobs[d.Digest] = content
	return nil
}

func (m *memory) PutManifest(_ context.Context, repo oci.Repository, d oci.Descriptor, raw []byte, tags []oci.Tag) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.manifests[d.Digest] = oci.Manifest{Descriptor: d, Bytes: raw}
	for _, tag := range tags {
		m.tags[repo.String()+":"+tag.String()] = d.Digest
	}
	return nil
}

func (m *memory) DeleteTag(_ context.Context, repo oci.Repository, tag oci.Tag) error {
	if m.keepTags {
		return oci.Errorf(oci.CodeUnsupported, "tags stay here")
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.tags, repo.String()+":"+tag.String())
	return nil
}

// run runs a list from one registry to another, and tells what came of each image.
func run(t *testing.T, list string, from, to *memory, o Options) (*Report, []string) {
	t.Helper()
	o.Reader = func(oci.Registry) (oci.Reader, error) { return from, nil }
	o.Target = func(oci.Registry) (Target, error) { return to, nil }
	items, failed, err := Expand(t.Context(), read(t, list), o.Reader, below)
	if err != nil {
		t.Fatal(err)
	}
	r := Run(t.Context(), items, failed, o)
	var got []string
	for _, i := range r.Images {
		got = append(got, fmt.Sprintf("%s>%s %s", i.Source, i.Target, i.Result))
	}
	return r, got
}

const versions = "targets: [m.test/]\nimages: [{source: quay.io/a/b, tags: [\"v*\"]}]\n"

func TestOnlyWhatIsMissingOrMovedIsCopied(t *testing.T) {
	from, to := newMemory(), newMemory()
	from.add(t, "quay.io/a/b:v1", "one")
	moved := from.add(t, "quay.io/a/b:v2", "two")
	r, got := run(t, versions, from, to, Options{})
	want := []string{"quay.io/a/b:v1>m.test/a/b:v1 copied", "quay.io/a/b:v2>m.test/a/b:v2 copied"}
	if !slices.Equal(got, want) || !r.Complete || r.Blobs != 3 {
		t.Fatalf("got %v, %d blobs", got, r.Blobs)
	}
	if to.tags["m.test/a/b:v2"] != moved {
		t.Errorf("v2 is %s", to.tags["m.test/a/b:v2"])
	}

	from.heads, from.reads, to.heads = 0, 0, 0
	r, got = run(t, versions, from, to, Options{})
	if !slices.Equal(got, []string{"quay.io/a/b:v1>m.test/a/b:v1 unchanged", "quay.io/a/b:v2>m.test/a/b:v2 unchanged"}) || r.Blobs != 0 {
		t.Errorf("the second time: %v, %d blobs", got, r.Blobs)
	}
	if from.heads > 2 || to.heads > 2 || from.reads > 0 {
		t.Errorf("with nothing to do, the source was asked %d times and read %d times, the target %d times", from.heads, from.reads, to.heads)
	}

	moved = from.add(t, "quay.io/a/b:v2", "changed")
	if _, got = run(t, versions, from, to, Options{}); !slices.Equal(got, []string{"quay.io/a/b:v1>m.test/a/b:v1 unchanged", "quay.io/a/b:v2>m.test/a/b:v2 copied"}) || to.tags["m.test/a/b:v2"] != moved {
		t.Errorf("after v2 moved: %v", got)
	}
}

func TestAnImageThatFailsKeepsNoOtherFromGoing(t *testing.T) {
	from, to := newMemory(), newMemory()
	from.add(t, "quay.io/a/b:v1", "one")
	r, got := run(t, "targets: [m.test/]\nimages: [quay.io/gone:1, quay.io/a/b:v1, {source: quay.io/none, tags: ['*']}]\n", from, to, Options{Prune: true})
	want := []string{"quay.io/none> failed", "quay.io/gone:1>m.test/gone:1 failed", "quay.io/a/b:v1>m.test/a/b:v1 copied"}
	if !slices.Equal(got, want) || r.Complete {
		t.Errorf("got %v, complete %v", got, r.Complete)
	}
	if r.Images[1].Error == "" {
		t.Error("nobody says why")
	}
}

// A slow target takes nothing until another has its image.
type slow struct {
	*memory
	until <-chan struct{}
}

func (s slow) PutBlob(ctx context.Context, repo oci.Repository, d oci.Descriptor, open transfer.Open, from []oci.Repository) error {
	select {
	case <-s.until:
	case <-ctx.Done():
		return ctx.Err()
	}
	return s.memory.PutBlob(ctx, repo, d, open, from)
}

// A quick target tells when it has an image.
type quick struct {
	*memory
	done chan<- struct{}
}

func (q quick) PutManifest(ctx context.Context, repo oci.Repository, d oci.Descriptor, raw []byte, tags []oci.Tag) error {
	defer close(q.done)
	return q.memory.PutManifest(ctx, repo, d, raw, tags)
}

func TestASlowTargetHoldsUpNoOther(t *testing.T) {
	from, a, b := newMemory(), newMemory(), newMemory()
	digest := from.add(t, "quay.io/a/b:v1", "one")
	done := make(chan struct{})
	at := map[string]Target{"slow.test": slow{a, done}, "quick.test": quick{b, done}}
	o := Options{
		Reader: func(oci.Registry) (oci.Reader, error) { return from, nil },
		Target: func(r oci.Registry) (Target, error) { return at[r.String()], nil },
	}
	items, failed, err := Expand(t.Context(), read(t, "targets: [slow.test/, quick.test/]\nimages: [quay.io/a/b:v1]\n"), o.Reader, below)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // where one waits for the other
	defer cancel()
	r := Run(ctx, items, failed, o)
	if len(r.Images) != 2 || r.Images[0].Target != "slow.test/a/b:v1" || r.Images[1].Target != "quick.test/a/b:v1" || !r.Complete || r.Blobs != 4 {
		t.Errorf("%+v", r)
	}
	if a.tags["slow.test/a/b:v1"] != digest || b.tags["quick.test/a/b:v1"] != digest {
		t.Errorf("%v, %v", a.tags, b.tags)
	}
}

func TestPruningDeletesWhatTheListLooksAfterAlone(t *testing.T) {
	signature := "sha256-" + strings.Repeat("a", 64) + ".sig"
	from, to := newMemory(), newMemory()
	from.add(t, "quay.io/a/b:v1", "one")
	for _, name := range []string{"m.test/a/b:v0", "m.test/a/b:" + signature, "m.test/a/b:by-hand", "m.test/other:v0"} {
		to.add(t, name, "old "+name)
	}
	const list = versions + "  - quay.io/a/b:by-hand\n"
	from.add(t, "quay.io/a/b:by-hand", "hand")
	text := strings.Replace(list, "images: [{source: quay.io/a/b, tags: [\"v*\"]}]", "images:\n  - {source: quay.io/a/b, tags: [\"v*\"]}", 1)
	_, got := run(t, text, from, to, Options{Prune: true, Copy: transfer.Options{DryRun: true}})
	if !slices.Contains(got, ">m.test/a/b:v0 pruned") || len(got) != 3 || to.tags["m.test/a/b:v0"].IsZero() {
		t.Fatalf("a dry run: %v", got)
	}
	r, got := run(t, text, from, to, Options{Prune: true})
	if !r.Complete || r.Count(Pruned) != 1 {
		t.Fatalf("got %v", got)
	}
	for name, stays := range map[string]bool{"m.test/a/b:v0": false, "m.test/a/b:v1": true, "m.test/a/b:by-hand": true, "m.test/a/b:" + signature: true, "m.test/other:v0": true} {
		if to.tags[name].IsZero() == stays {
			t.Errorf("%s: stays is %v", name, !stays)
		}
	}
}

func TestATagThatIsTheSameAsOneThatStaysIsKept(t *testing.T) {
	from, to := newMemory(), newMemory()
	from.add(t, "quay.io/a/b:v1", "one")
	to.add(t, "m.test/a/b:same", "one")
	to.add(t, "m.test/a/b:other", "other")
	r, got := run(t, versions, from, to, Options{Prune: true})
	if !r.Complete || !slices.Contains(got, ">m.test/a/b:same kept") || !slices.Contains(got, ">m.test/a/b:other pruned") {
		t.Errorf("got %v", got)
	}
	if to.tags["m.test/a/b:same"].IsZero() || !to.tags["m.test/a/b:other"].IsZero() {
		t.Errorf("there is %v", to.tags)
	}
}

// Where a registry deletes a manifest along with its tag, the index that stays would have a
// hole. An index is read for that only where a tag is to go.
func TestATagThatIsAPartOfOneThatStaysIsKept(t *testing.T) {
	from, to := newMemory(), newMemory()
	index := from.index(t, "quay.io/a/b:v1", "amd64", "arm64")
	if r, got := run(t, versions, from, to, Options{Prune: true}); !r.Complete || to.reads != 0 {
		t.Fatalf("with nothing to prune, the target was read %d times: %v", to.reads, got)
	}
	g, err := from.manifests[index].Graph()
	if err != nil || len(g.Manifests) != 2 {
		t.Fatalf("%v, %v", g.Manifests, err)
	}
	to.tags["m.test/a/b:v1-arm64"] = g.Manifests[1].Digest
	to.add(t, "m.test/a/b:v0", "old")
	to.add(t, "m.test/a/b:v0a", "older")
	r, got := run(t, versions, from, to, Options{Prune: true})
	if !r.Complete || !slices.Contains(got, ">m.test/a/b:v1-arm64 kept") || r.Count(Pruned) != 2 || to.reads != 1 {
		t.Errorf("the target was read %d times: %v", to.reads, got)
	}
	if to.tags["m.test/a/b:v1-arm64"].IsZero() || !to.tags["m.test/a/b:v0"].IsZero() {
		t.Errorf("there is %v", to.tags)
	}
}

func TestNothingIsPrunedWhereSomethingFailed(t *testing.T) {
	from, to := newMemory(), newMemory()
	from.add(t, "quay.io/a/b:v1", "one")
	to.add(t, "m.test/a/b:v0", "old")
	if r, got := run(t, "targets: [m.test/]\nimages: [quay.io/gone:1, {source: quay.io/a/b, tags: ['v*']}]\n", from, to, Options{Prune: true}); r.Count(Pruned) != 0 || to.tags["m.test/a/b:v0"].IsZero() {
		t.Errorf("got %v", got)
	}
	to.keepTags = true
	r, got := run(t, versions, from, to, Options{Prune: true})
	var said bytes.Buffer
	if err := r.WriteText(&said, english, bytesOf); err != nil || r.Complete || !slices.Contains(got, ">m.test/a/b:v0 failed") {
		t.Errorf("a registry that cannot delete: %v, %v", err, got)
	}
	if want := "m.test/a/b:v0: failed: UNSUPPORTED: tags stay here\n"; !strings.Contains(said.String(), want) {
		t.Errorf("no %q in\n%s", want, said.String())
	}
}

// bytesOf writes a number of bytes as it is.
func bytesOf(n int64) string { return strconv.FormatInt(n, 10) + " bytes" }

func TestReports(t *testing.T) {
	from, to := newMemory(), newMemory()
	from.add(t, "quay.io/a/b:v1", "one")
	r, _ := run(t, versions+"kubernetes: [v1.31.0]\n", from, to, Options{})
	var text, metrics bytes.Buffer
	if err := errors.Join(r.WriteText(&text, english, bytesOf), r.WriteMetrics(&metrics)); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"quay.io/a/b:v1 → m.test/a/b:v1: copied\n", "registry.k8s.io/etcd:3.5.15-0 → m.test/etcd:3.5.15-0: failed: ", "1 copied, 8 failed; 2 blobs, 5 bytes"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("no %q in\n%s", want, text.String())
		}
	}
	for _, want := range []string{"sampan_sync_images{result=\"copied\"} 1\n", "sampan_sync_images{result=\"failed\"} 8\n", "sampan_sync_bytes 5\n", "sampan_sync_complete 0\n"} {
		if !strings.Contains(metrics.String(), want) {
			t.Errorf("no %q in\n%s", want, metrics.String())
		}
	}
	raw, err := json.Marshal(r)
	if err != nil || !strings.Contains(string(raw), `"result":"copied"`) {
		t.Errorf("%s, %v", raw, err)
	}
}
