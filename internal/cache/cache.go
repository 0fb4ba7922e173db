// Package cache answers from what is here, and asks upstream for the rest: an
// [oci.Reader] over a store of bytes, an index of names, running fetches and
// the readers of upstreams.
//
// What it promises: a digest that a repository was seen to hold is served
// without asking anybody; a tag is asked for again when it is no longer fresh,
// once for all who ask at the same time, and served as it was (marked stale)
// when the upstream gives no answer, within the bound that [Freshness] sets; an
// upstream's "unknown", "unauthorized" and "denied" are answers, passed on and
// remembered for a moment, and never masked by what was served before. A client
// with an old answer to get waits seconds, not minutes, for an upstream that
// hangs, and not again for each tag. Bytes that are here under one
// repository's name are served under another's only when a manifest of that one
// names them or its upstream confirms it; naming is not enough for bytes that
// came from a repository which not everybody may read.
//
// It knows no HTTP and decides no access: whoever asks may read the repository.
// A context with an [oci.Login] is answered for that one: its questions are asked
// upstream as it and not shared with others.
//
// What an operator brings himself is kept by the same rules: see [Cache.Accept].
//
// Lock order: Cache holds no lock over a call, but for listing, which is before those
// of the index; every other lock in this package is a leaf.
package cache

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/singleflight"

	"sampan/internal/fill"
	"sampan/internal/oci"
	"sampan/internal/refs"
	"sampan/internal/store"
)

// Options of a [Cache]. Store, Refs, Fills, Upstream, Policy and Log are needed.
type Options struct {
	Store store.Store
	Refs  refs.Index
	Fills *fill.Group
	// Upstream returns the reader of a registry, or why there is none.
	Upstream func(oci.Registry) (oci.Reader, error)
	// Private tells whether not everybody may read a repository; nil means that
	// there is none of that kind. What is fetched from one is served under another
	// name only when that one's own upstream has it, too.
	Private func(oci.Repository) bool
	// Vouches tells whether a registry's word counts that it has a blob; nil means
	// that each one's does. Of one that may say anything, the bytes count.
	Vouches func(oci.Registry) bool
	// Policy says how the answers about a repository age. It is asked often.
	Policy func(oci.Repository) Freshness
	// Offline asks no upstream anything: what is here is served, tags without a
	// bound to their age, and what is not is UNAVAILABLE.
	Offline bool
	// Prefetch makes [Cache.Prefetch] fetch; without it, that does nothing.
	Prefetch bool
	// MaxSize is what the store may hold, in bytes, so that nothing is prefetched
	// that would only make others leave; 0 means no limit.
	MaxSize int64
	// Registerer gets the metrics; nil means none. Registries are those that the
	// metrics name; answers about others are counted under "other".
	Registerer prometheus.Registerer
	Registries []oci.Registry
	Log        *slog.Logger
}

// memoSize bounds the manifests kept in memory, in bytes.
const memoSize = 8 << 20

// Cache is the reader. Make one with [New] and end it with Close.
type Cache struct {
	o          Options
	asking     singleflight.Group
	life       life
	memo       memo
	missing    missing
	outages    outages
	metrics    *metrics
	prefetches prefetches
	refreshes  refreshes
	key        [32]byte   // of the sums of logins
	listing    sync.Mutex // held while a list that is known is added to
}

var (
	_ oci.Reader     = (*Cache)(nil)
	_ oci.BlobStater = (*Cache)(nil)
	_ oci.BlobSeeker = (*Cache)(nil)
)

// New makes a Cache.
func New(o Options) (*Cache, error) {
	if o.Store == nil || o.Refs == nil || o.Fills == nil || o.Upstream == nil || o.Policy == nil || o.Log == nil {
		return nil, errors.New("cache: Store, Refs, Fills, Upstream, Policy and Log are needed")
	}
	m, err := newMetrics(o.Registerer, o.Registries)
	if err != nil {
		return nil, fmt.Errorf("cache: %w", err)
	}
	c := &Cache{o: o, metrics: m, memo: memo{limit: memoSize, m: make(map[oci.Digest][]byte)}}
	c.life.init()
	c.prefetches.begin()
	if _, err := rand.Read(c.key[:]); err != nil {
		return nil, fmt.Errorf("cache: %w", err)
	}
	return c, nil
}

// errOffline: what is not here is not asked for. Clients with a fallback take it
// for a reason to go elsewhere.
var errOffline = &oci.Error{
	Code: oci.CodeUnavailable,
	Message: "this mirror is offline and does not have it: pull from the registry itself, or have the mirror's operator go online. " +
		"镜像站处于离线模式，本地没有该内容：请直接从源仓库拉取，或联系管理员恢复在线。",
}

// upstream returns the reader for a repository; none of an offline Cache.
func (c *Cache) upstream(repo oci.Repository) (oci.Reader, error) {
	if c.o.Offline {
		return nil, errOffline
	}
	return c.o.Upstream(repo.Registry())
}

// linked returns the link of a digest and whether there is one that suffices to
// serve it.
func (c *Cache) linked(ctx context.Context, repo oci.Repository, d oci.Digest) (oci.Descriptor, bool, error) {
	desc, err := c.o.Refs.Link(ctx, repo, d)
	switch {
	case errors.Is(err, refs.ErrNotFound):
		return oci.Descriptor{}, false, nil
	case err != nil:
		return oci.Descriptor{}, false, fmt.Errorf("cache %s@%s: %w", repo, d, err)
	}
	ok, err := c.suffices(ctx, repo, d)
	return desc, ok, err
}

// A memo keeps the manifests that came or were read from the store last in memory,
// proven: the oldest leaves first, however often it is used.
type memo struct {
	limit int64

	mu    sync.Mutex
	m     map[oci.Digest][]byte
	order []oci.Digest // oldest first
	size  int64
}

func (m *memo) get(d oci.Digest) ([]byte, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	b, ok := m.m[d]
	return b, ok
}

func (m *memo) put(d oci.Digest, b []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.m[d]; ok || int64(len(b)) > m.limit {
		return
	}
	m.m[d] = b
	m.order = append(m.order, d)
	m.size += int64(len(b))
	for m.size > m.limit {
		m.size -= int64(len(m.m[m.order[0]]))
		delete(m.m, m.order[0])
		m.order = m.order[1:]
	}
}
