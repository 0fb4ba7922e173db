package cache_test

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sampan/internal/cache"
	"sampan/internal/fill"
	"sampan/internal/oci"
	"sampan/internal/refs/bolt"
	"sampan/internal/store/disk"
)

// A registry is an upstream in memory that counts what it is asked.
type registry struct {
	mu        sync.Mutex
	tags      map[string]oci.Manifest // "registry/path:tag"
	manifests map[string]oci.Manifest // "registry/path@digest"
	blobs     map[string][]byte       // "registry/path@digest"
	referrers []oci.Descriptor
	fail      error          // the answer to everything, when set
	asked     map[string]int // by method
	spare     bool           // little may still be asked
	gate      chan struct{}  // when set, questions about tags wait until it is closed
}

func newRegistry() *registry {
	return &registry{
		tags:      make(map[string]oci.Manifest),
		manifests: make(map[string]oci.Manifest),
		blobs:     make(map[string][]byte),
		asked:     make(map[string]int),
	}
}

// push makes an image of the blobs and tags it.
func (r *registry) push(t *testing.T, ref string, blobs ...[]byte) oci.Manifest {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	p, err := oci.ParseReference(ref)
	if err != nil {
		t.Fatal(err)
	}
	var layers []oci.Descriptor
	for _, b := range blobs {
		d := oci.DigestOf(b)
		layers = append(layers, oci.Descriptor{MediaType: "application/vnd.oci.image.layer.v1.tar", Digest: d, Size: int64(len(b))})
		r.blobs[p.Repository.String()+"@"+d.String()] = b
	}
	doc, err := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": oci.MediaTypeImageManifest, "layers": layers})
	if err != nil {
		t.Fatal(err)
	}
	m := oci.Manifest{
		Descriptor: oci.Descriptor{MediaType: oci.MediaTypeImageManifest, Digest: oci.DigestOf(doc), Size: int64(len(doc))},
		Bytes:      doc,
	}
	r.tags[p.Repository.String()+":"+p.Tag.String()] = m
	r.manifests[p.Repository.String()+"@"+m.Descriptor.Digest.String()] = m
	return m
}

// ask counts and returns the failure that is set.
func (r *registry) ask(method string) error {
	r.asked[method]++
	return r.fail
}

// count returns how often a method was asked and forgets it.
func (r *registry) count(method string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.asked[method]
	delete(r.asked, method)
	return n
}

// total returns how much was asked in all and forgets it.
func (r *registry) total() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, c := range r.asked {
		n += c
	}
	clear(r.asked)
	return n
}

func (r *registry) set(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fail = err
}

// Spare tells the cache to ask little.
func (r *registry) Spare(oci.Repository) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.spare
}

// hang makes questions about tags wait until the returned function is called.
func (r *registry) hang() (release func()) {
	gate := make(chan struct{})
	r.mu.Lock()
	defer r.mu.Unlock()
	r.gate = gate
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.gate = nil
		close(gate)
	}
}

func (r *registry) ResolveTag(ctx context.Context, repo oci.Repository, tag oci.Tag) (oci.Descriptor, error) {
	r.mu.Lock()
	gate := r.gate
	if gate != nil {
		r.asked["hanging"]++
	}
	r.mu.Unlock()
	if gate != nil {
		select {
		case <-gate:
		case <-ctx.Done():
			return oci.Descriptor{}, ctx.Err()
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	m, err := get(r, "resolve", r.tags, repo.String()+":"+tag.String(), oci.ErrManifestUnknown)
	return m.Descriptor, err
}

func (r *registry) TaggedManifest(_ context.Context, repo oci.Repository, tag oci.Tag) (oci.Manifest, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return get(r, "tagged", r.tags, repo.String()+":"+tag.String(), oci.ErrManifestUnknown)
}

func (r *registry) Manifest(_ context.Context, repo oci.Repository, d oci.Digest) (oci.Manifest, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return get(r, "manifest", r.manifests, repo.String()+"@"+d.String(), oci.ErrManifestUnknown)
}

func (r *registry) StatBlob(_ context.Context, repo oci.Repository, d oci.Digest) (oci.Descriptor, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	b, err := get(r, "stat", r.blobs, repo.String()+"@"+d.String(), oci.ErrBlobUnknown)
	return oci.Descriptor{Digest: d, Size: int64(len(b))}, err
}

func (r *registry) Blob(_ context.Context, repo oci.Repository, d oci.Digest) (oci.BlobReader, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	b, err := get(r, "blob", r.blobs, repo.String()+"@"+d.String(), oci.ErrBlobUnknown)
	if err != nil {
		return nil, err
	}
	return body{bytes.NewReader(b), oci.Descriptor{Digest: d, Size: int64(len(b))}}, nil
}

func (r *registry) Tags(_ context.Context, repo oci.Repository) ([]oci.Tag, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.ask("tags"); err != nil {
		return nil, err
	}
	return []oci.Tag{mustTag("a"), mustTag("b")}, nil
}

func (r *registry) Referrers(context.Context, oci.Repository, oci.Digest) ([]oci.Descriptor, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.referrers, r.ask("referrers")
}

func get[V any](r *registry, method string, m map[string]V, key string, missing error) (V, error) {
	var zero V
	if err := r.ask(method); err != nil {
		return zero, err
	}
	v, ok := m[key]
	if !ok {
		return zero, missing
	}
	return v, nil
}

type body struct {
	*bytes.Reader
	desc oci.Descriptor
}

func (b body) Descriptor() oci.Descriptor { return b.desc }
func (b body) Close() error               { return nil }

func mustTag(s string) oci.Tag {
	t, err := oci.ParseTag(s)
	if err != nil {
		panic(err)
	}
	return t
}

func mustRepo(t *testing.T, s string) oci.Repository {
	t.Helper()
	r, err := oci.ParseRepository(s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// A fixture is a cache over an upstream, with its data directory.
type fixture struct {
	*cache.Cache
	up      *registry
	store   *disk.Store
	fills   *fill.Group
	index   *bolt.Index
	policy  cache.Freshness // not changed while anything runs
	metrics *prometheus.Registry
}

const freshFor = time.Minute

func newFixture(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{
		up:      newRegistry(),
		policy:  cache.Freshness{FreshFor: freshFor, StaleIfError: cache.Forever},
		metrics: prometheus.NewRegistry(),
	}
	dir := t.TempDir()
	log := slog.New(slog.DiscardHandler)
	var err error
	if f.store, err = disk.New(disk.Options{Dir: dir}); err != nil {
		t.Fatal(err)
	}
	if f.index, err = bolt.Open(filepath.Join(dir, "index.db"), log); err != nil {
		t.Fatal(err)
	}
	if f.fills, err = fill.New(fill.Options{Store: f.store, Log: log}); err != nil {
		t.Fatal(err)
	}
	o := f.options(f.up)
	o.Registerer = f.metrics
	f.Cache, err = cache.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		f.Close()
		f.fills.Close()
		if err := f.index.Close(); err != nil {
			t.Error(err)
		}
		if err := f.store.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

func (f *fixture) fresh(oci.Repository) cache.Freshness { return f.policy }

// options are those of a cache over the fixture's data with an upstream.
func (f *fixture) options(up oci.Reader) cache.Options {
	return cache.Options{
		Store:      f.store,
		Refs:       f.index,
		Fills:      f.fills,
		Upstream:   func(oci.Registry) (oci.Reader, error) { return up, nil },
		Policy:     f.fresh,
		Registries: []oci.Registry{oci.DockerHub},
		Log:        slog.New(slog.DiscardHandler),
	}
}
