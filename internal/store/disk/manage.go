package disk

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"sampan/internal/oci"
	"sampan/internal/store"
)

// The abilities that are discovered.
var (
	_ store.Lister = (*Store)(nil)
	_ store.Peeker = (*Store)(nil)
	_ store.Pinner = (*Store)(nil)
	_ store.Meter  = (*Store)(nil)
)

// Checked implements [store.Lister].
func (s *Store) Checked() <-chan struct{} { return s.checked }

// List implements [store.Lister].
func (s *Store) List(_ context.Context, after oci.Digest, limit int) ([]store.Entry, error) {
	q := s.quota
	var page []store.Entry
	first := 0
	if !after.IsZero() && after.Algorithm() == "sha256" {
		k, _ := keyOf(after)
		first = int(k[0])
	}
	if after.IsZero() || after.Algorithm() == "sha256" {
		for b := first; b < 256 && len(page) < limit; b++ {
			page = append(page, q.entries(func(t *table) []uint32 { return t.inByte(byte(b)) }, after)...)
		}
	}
	if len(page) < limit {
		page = append(page, q.entries((*table).otherBlobs, after)...)
	}
	return page[:min(len(page), limit)], nil
}

// otherBlobs returns the complete blobs that are not sha256.
func (t *table) otherBlobs() []uint32 {
	var all []uint32
	for k := range t.others {
		if n := t.find(k, false); n != 0 {
			all = append(all, n)
		}
	}
	return all
}

// entries returns those of some nodes that are behind after, in order.
func (q *quota) entries(of func(*table) []uint32, after oci.Digest) []store.Entry {
	q.mu.Lock()
	defer q.mu.Unlock()
	var list []store.Entry
	for _, n := range of(q.t) {
		if e := q.t.entry(n); after.IsZero() || store.Before(after, e.Digest) {
			list = append(list, e)
		}
	}
	slices.SortFunc(list, func(a, b store.Entry) int {
		if store.Before(a.Digest, b.Digest) {
			return -1
		}
		return 1
	})
	return list
}

func (t *table) entry(n uint32) store.Entry {
	x := &t.nodes[n]
	return store.Entry{
		Digest: t.digest(n), Size: x.size, Owner: t.owners[x.owner].name,
		Used: time.Unix(0, x.used), Pinned: x.flags&isPinned != 0,
	}
}

// Lookup implements [store.Lister].
func (s *Store) Lookup(_ context.Context, digest oci.Digest) (store.Entry, error) {
	s.quota.mu.Lock()
	defer s.quota.mu.Unlock()
	n := s.quota.t.at(item{digest, false})
	if n == 0 {
		return store.Entry{}, fmt.Errorf("%s: %w", digest, store.ErrNotFound)
	}
	return s.quota.t.entry(n), nil
}

// Peek implements [store.Peeker].
func (s *Store) Peek(_ context.Context, digest oci.Digest) (store.Blob, error) {
	f, err := s.fs.open(s.blobPath(digest), os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", digest, store.ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", digest, err)
	}
	b, err := s.fs.newBlob(f)
	if err != nil {
		return nil, err
	}
	return &peeked{b: b}, nil
}

// A peeked blob lets go of the pages that it has read. Pages that others have read
// meanwhile go as well, and come again.
type peeked struct {
	b             *blob
	read, dropped int64
}

// Size implements [store.Blob].
func (p *peeked) Size() int64 { return p.b.Size() }

// Seek implements [io.Seeker].
func (p *peeked) Seek(off int64, whence int) (int64, error) { return p.b.Seek(off, whence) }

// ReadAt implements [io.ReaderAt].
func (p *peeked) ReadAt(b []byte, off int64) (int, error) { return p.b.ReadAt(b, off) }

// dropEvery is how many bytes are read before their pages are let go.
const dropEvery = 8 << 20

// Read implements [io.Reader].
func (p *peeked) Read(b []byte) (int, error) {
	n, err := p.b.Read(b)
	p.read += int64(n)
	if p.read-p.dropped >= dropEvery {
		p.drop()
	}
	return n, err
}

// drop lets go of what was read since the last time.
func (p *peeked) drop() {
	forget(p.b.Fd())
	p.dropped = p.read
}

// Close implements [io.Closer].
func (p *peeked) Close() error {
	p.drop()
	return p.b.Close()
}

// SetPins implements [store.Pinner].
func (s *Store) SetPins(digests []oci.Digest) {
	now, q := time.Now(), s.quota
	wanted := make(map[key]bool, len(digests))
	for _, d := range digests {
		k, _ := keyOf(d)
		wanted[k] = true
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	for k := range q.t.pins {
		if !wanted[k] {
			q.t.setPin(k, false, now)
		}
	}
	for k := range wanted {
		q.t.setPin(k, true, now)
	}
}

// Pin implements [store.Pinner].
func (s *Store) Pin(digests ...oci.Digest) { s.setPins(digests, true) }

// Unpin implements [store.Pinner].
func (s *Store) Unpin(digests ...oci.Digest) { s.setPins(digests, false) }

func (s *Store) setPins(digests []oci.Digest, pin bool) {
	now := time.Now()
	s.quota.mu.Lock()
	defer s.quota.mu.Unlock()
	for _, d := range digests {
		k, _ := keyOf(d)
		s.quota.t.setPin(k, pin, now)
	}
}

// Pinned implements [store.Pinner].
func (s *Store) Pinned(digest oci.Digest) bool {
	k, _ := keyOf(digest)
	s.quota.mu.Lock()
	defer s.quota.mu.Unlock()
	_, pinned := s.quota.t.pins[k]
	return pinned
}

// Evicted returns how many blobs, complete and partial ones, left since the start
// for want of room or for their age, and their bytes.
func (s *Store) Evicted() (blobs, bytes int64) {
	return s.quota.evicted.Load(), s.quota.evictedBytes.Load()
}

// Usage implements [store.Meter].
func (s *Store) Usage() store.Usage {
	q := s.quota
	index, _ := q.index()
	free := q.free()
	q.mu.Lock()
	defer q.mu.Unlock()
	unwritten := q.unwritten.Load()
	u := store.Usage{
		Complete: q.t.complete, Partial: q.t.partial + q.reserved - unwritten, Reserved: unwritten, Index: index,
		Pinned: q.t.pinned, Limit: q.max, Soft: q.soft, MinFree: q.minFree, Free: free, Blobs: q.t.blobs,
		Owners: make(map[string]store.OwnerUsage, len(q.t.owners)),
	}
	for _, o := range q.t.owners {
		u.Owners[o.name] = store.OwnerUsage{Bytes: o.bytes, Max: o.maxSize, Min: o.min, Blobs: o.blobs}
	}
	return u
}

// Touch implements [store.Toucher].
func (s *Store) Touch(digest oci.Digest) { s.quota.touch(digest) }

var _ store.Toucher = (*Store)(nil)
