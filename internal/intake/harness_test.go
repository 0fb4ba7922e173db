package intake_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"sampan/internal/cache"
	"sampan/internal/fill"
	"sampan/internal/intake"
	"sampan/internal/oci"
	"sampan/internal/refs"
	"sampan/internal/refs/bolt"
	"sampan/internal/store"
	"sampan/internal/store/disk"
)

// A closedNetwork is every upstream: it counts what it is asked, and fails.
type closedNetwork struct {
	asked atomic.Int64
	err   error
}

func (n *closedNetwork) ask() error {
	n.asked.Add(1)
	return n.err
}

func (n *closedNetwork) ResolveTag(context.Context, oci.Repository, oci.Tag) (oci.Descriptor, error) {
	return oci.Descriptor{}, n.ask()
}

func (n *closedNetwork) Manifest(context.Context, oci.Repository, oci.Digest) (oci.Manifest, error) {
	return oci.Manifest{}, n.ask()
}

func (n *closedNetwork) Blob(context.Context, oci.Repository, oci.Digest) (oci.BlobReader, error) {
	return nil, n.ask()
}

func (n *closedNetwork) Tags(context.Context, oci.Repository) ([]oci.Tag, error) {
	return nil, n.ask()
}

func (n *closedNetwork) Referrers(context.Context, oci.Repository, oci.Digest) ([]oci.Descriptor, error) {
	return nil, n.ask()
}

// A mirror is an intake with the cache that serves what it takes in. Repositories of
// corp.example are private, and evil.example is a registry that may say anything.
type mirror struct {
	*intake.Intake
	cache *cache.Cache
	store *disk.Store
	index *watchedIndex
	net   *closedNetwork
	log   *slog.Logger
	fresh time.Duration // how long tags are; not changed while anything runs
}

// A watchedIndex may lose its medium.
type watchedIndex struct {
	refs.Index
	lost atomic.Bool
	tags atomic.Int64 // put
}

var errLost = errors.New("the medium is lost")

func (w *watchedIndex) Flush(ctx context.Context) error {
	if w.lost.Load() {
		return errLost
	}
	return w.Index.Flush(ctx)
}

func (w *watchedIndex) PutTag(ctx context.Context, repo oci.Repository, tag oci.Tag, e refs.TagEntry) error {
	w.tags.Add(1)
	return w.Index.PutTag(ctx, repo, tag, e)
}

func newMirror(t *testing.T, limits disk.Limits) *mirror {
	t.Helper()
	dir, log := t.TempDir(), slog.New(slog.DiscardHandler)
	m := &mirror{log: log, net: &closedNetwork{err: oci.ErrUnavailable}, fresh: time.Hour}
	var err error
	if m.store, err = disk.New(disk.Options{Dir: dir, Limits: limits}); err != nil {
		t.Fatal(err)
	}
	index, err := bolt.Open(filepath.Join(dir, "index.db"), log)
	if err != nil {
		t.Fatal(err)
	}
	m.index = &watchedIndex{Index: index}
	fills, err := fill.New(fill.Options{Store: m.store, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	m.cache, err = cache.New(cache.Options{
		Store: m.store, Refs: m.index, Fills: fills, Log: log,
		Upstream: func(oci.Registry) (oci.Reader, error) { return m.net, nil },
		Private:  func(r oci.Repository) bool { return r.Registry().String() == "corp.example" },
		Vouches:  func(r oci.Registry) bool { return r.String() != "evil.example" },
		Policy: func(oci.Repository) cache.Freshness {
			return cache.Freshness{FreshFor: m.fresh, StaleIfError: cache.Forever, MissingFor: time.Hour}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if m.Intake, err = intake.New(intake.Options{Cache: m.cache, Store: m.store, Log: log}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		m.cache.Close()
		fills.Close()
		if err := errors.Join(index.Close(), m.store.Close()); err != nil {
			t.Error(err)
		}
	})
	return m
}

func repository(t *testing.T, s string) oci.Repository {
	t.Helper()
	r, err := oci.ParseRepository(s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func tag(t *testing.T, s string) oci.Tag {
	t.Helper()
	tag, err := oci.ParseTag(s)
	if err != nil {
		t.Fatal(err)
	}
	return tag
}

func described(b []byte) oci.Descriptor {
	return oci.Descriptor{MediaType: "application/vnd.oci.image.layer.v1.tar", Digest: oci.DigestOf(b), Size: int64(len(b))}
}

// document makes a manifest of fields.
func document(t *testing.T, mediaType string, fields map[string]any) (oci.Descriptor, []byte) {
	t.Helper()
	doc := map[string]any{"schemaVersion": 2, "mediaType": mediaType}
	for k, v := range fields {
		doc[k] = v
	}
	raw, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	return oci.Descriptor{MediaType: mediaType, Digest: oci.DigestOf(raw), Size: int64(len(raw))}, raw
}

// imageOf is the manifest of an image of blobs.
func imageOf(t *testing.T, blobs ...[]byte) (oci.Descriptor, []byte) {
	t.Helper()
	var layers []oci.Descriptor
	for _, b := range blobs {
		layers = append(layers, described(b))
	}
	return document(t, oci.MediaTypeImageManifest, map[string]any{"layers": layers})
}

// A sender opens bytes, and notes from where it was read.
type sender struct {
	bytes []byte
	from  []int64
	// cut is how many bytes come at most each time; 0 is all.
	cut int
}

func (s *sender) open(_ context.Context, offset int64) (io.ReadCloser, error) {
	s.from = append(s.from, offset)
	rest := s.bytes[offset:]
	if s.cut > 0 {
		rest = rest[:min(s.cut, len(rest))]
	}
	return io.NopCloser(bytes.NewReader(rest)), nil
}

// bring puts blobs and a manifest of them, with tags.
func (m *mirror) bring(t *testing.T, repo, name string, blobs ...[]byte) oci.Descriptor {
	t.Helper()
	r := repository(t, repo)
	for _, b := range blobs {
		if err := m.PutBlob(t.Context(), r, described(b), (&sender{bytes: b}).open, nil); err != nil {
			t.Fatal(err)
		}
	}
	d, raw := imageOf(t, blobs...)
	if err := m.PutManifest(t.Context(), r, d, raw, []oci.Tag{tag(t, name)}); err != nil {
		t.Fatal(err)
	}
	return d
}

// wantServed pulls as a client does.
func (m *mirror) wantServed(t *testing.T, repo, name string, want oci.Descriptor, blobs ...[]byte) {
	t.Helper()
	r := repository(t, repo)
	d, err := m.cache.ResolveTag(t.Context(), r, tag(t, name))
	if err != nil || d.Digest != want.Digest {
		t.Fatalf("%s:%s is %v, want %v: %v", repo, name, d.Digest, want.Digest, err)
	}
	got, err := m.cache.Manifest(t.Context(), r, d.Digest)
	if err != nil || !want.Digest.Verify(got.Bytes) || got.Descriptor.MediaType != want.MediaType {
		t.Fatalf("%s@%s: %v %v", repo, d.Digest, got.Descriptor, err)
	}
	for _, b := range blobs {
		if err := m.read(t, repo, b); err != nil {
			t.Errorf("%s: %v", repo, err)
		}
	}
}

// read reads a blob as a client does.
func (m *mirror) read(t *testing.T, repo string, want []byte) error {
	t.Helper()
	b, err := m.cache.Blob(t.Context(), repository(t, repo), oci.DigestOf(want))
	if err != nil {
		return err
	}
	got, err := io.ReadAll(b)
	if err == nil && !bytes.Equal(got, want) {
		t.Errorf("%s: other bytes", repo)
	}
	return errors.Join(err, b.Close())
}

func (m *mirror) wantAsked(t *testing.T, want int64) {
	t.Helper()
	if n := m.net.asked.Swap(0); n != want {
		t.Errorf("upstreams were asked %d times, want %d", n, want)
	}
}

// stored tells whether the bytes are in the store.
func (m *mirror) stored(t *testing.T, b []byte) bool {
	t.Helper()
	_, err := m.store.Lookup(t.Context(), oci.DigestOf(b))
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		t.Fatal(err)
	}
	return err == nil
}

// wantHave wants that so many bytes of a partial blob are here.
func (m *mirror) wantHave(t *testing.T, b []byte, want int64) {
	t.Helper()
	in, err := m.store.Ingest(t.Context(), oci.DigestOf(b))
	if err != nil {
		t.Fatal(err)
	}
	if n := in.Len(); n != want {
		t.Errorf("%d bytes are here, want %d", n, want)
	}
	if err := in.Keep(); err != nil {
		t.Error(err)
	}
}
