package bolt

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"go.etcd.io/bbolt"

	"sampan/internal/refs"
)

// A Repaired tells what [Repair] did.
type Repaired struct {
	// Kept and Lost count records; Lost are those whose checksum differed, as
	// far as they could be found at all.
	Kept, Lost int
	// Old is where the damaged file is now.
	Old string
	// Unread are the buckets that could not be read to their end.
	Unread []string
}

// repairBatch bounds the records that a repair keeps in memory.
const repairBatch = 10_000

// Repair makes a new index of the records of a damaged one that can still be
// read, and keeps the old file beside it. No process may have the file open.
// What is lost is asked for again upstream, and so is whether a repository holds
// what it names; no blob is touched. When it fails,
// the file is where it was.
func Repair(path string, now time.Time) (Repaired, error) {
	s := salvage{Repaired: Repaired{Old: path + ".damaged-" + now.UTC().Format("20060102T150405.000")}}
	err := replace(path, func(into *bbolt.DB) error {
		s.into = into
		err := withImage(path, s.run)
		if errors.Is(err, refs.ErrDamaged) { // nothing can be read: the counts say so
			s.Unread = recordBuckets()
			err = nil
		}
		if err == nil && (s.Lost > 0 || len(s.Unread) > 0) {
			err = s.distrust()
		}
		if err == nil {
			err = s.flush()
		}
		if err == nil {
			err = keepOld(path, s.Old)
		}
		return err
	})
	if err != nil {
		return s.Repaired, fmt.Errorf("index %s: %w", path, err)
	}
	return s.Repaired, nil
}

// keepOld gives the damaged file a second name, or where the file system has no
// such thing, another one.
func keepOld(path, old string) error {
	if err := os.Link(path, old); err == nil || errors.Is(err, fs.ErrExist) {
		return err
	}
	return os.Rename(path, old)
}

// A salvage copies records out of an image.
type salvage struct {
	Repaired
	into  *bbolt.DB
	batch map[key][]byte
}

// run walks the trees as far as they can be walked. What hangs below a page that
// is lost is then looked for in all pages that are neither seen nor free.
func (s *salvage) run(m *image) error {
	w := newWalk(m)
	torn := false
	w.trouble = func(bucket string, err error) error {
		if !errors.Is(err, refs.ErrDamaged) {
			return err
		}
		torn = true
		s.unread(bucket)
		return nil
	}
	w.record = func(bucket string, name, value []byte) error {
		switch {
		case bucket != bucketMeta:
			return s.keep(key{bucket, string(name)}, value)
		case string(name) == metaVersion && string(value) != formatVersion:
			return errVersion(string(value)) // of a later sampan: nothing would be kept
		}
		return nil
	}
	if err := w.run(); err != nil || !torn {
		return err
	}
	return s.orphans(w)
}

// unread notes a bucket that has gaps; "" is the list of buckets itself.
func (s *salvage) unread(bucket string) {
	buckets := []string{bucket}
	if !slices.Contains(recordBuckets(), bucket) {
		buckets = recordBuckets()
	}
	for _, b := range buckets {
		if !slices.Contains(s.Unread, b) {
			s.Unread = append(s.Unread, b)
		}
	}
}

// keep copies a record that is whole.
func (s *salvage) keep(k key, value []byte) error {
	if !slices.Contains(recordBuckets(), k.bucket) {
		return nil
	}
	if _, err := unseal(k, value); err != nil {
		s.Lost++
		return nil //nolint:nilerr // a record that is damaged is counted, and the others are kept
	}
	if s.batch == nil {
		s.batch = make(map[key][]byte)
	}
	s.batch[k] = slices.Clone(value)
	s.Kept++
	if len(s.batch) < repairBatch {
		return nil
	}
	return s.flush()
}

// distrust makes every digest private whose mark may have been lost.
func (s *salvage) distrust() error {
	if s.batch == nil {
		s.batch = make(map[key][]byte)
	}
	return addMark(s.batch, key{bucketLinks, markOfAll}, true)
}

func (s *salvage) flush() error {
	batch := s.batch
	s.batch = nil
	return s.into.Update(func(tx *bbolt.Tx) error { return apply(tx, batch) })
}

// orphans looks through the pages that the walk did not reach. A free page may
// have an older state of a record, so that nothing is done when the list of free
// pages is lost too.
func (s *salvage) orphans(w *walk) error {
	ids, self, err := w.free()
	if err != nil {
		return nil //nolint:nilerr // the buckets are reported as unread already
	}
	for i := range self {
		w.seen[w.freelist+i] = true
	}
	for _, id := range ids {
		w.seen[id] = true
	}
	if err := s.flush(); err != nil { // so that adopt sees what is known
		return err
	}
	var buf []byte
	for id := uint64(2); id < w.high; id++ {
		if w.seen[id] {
			continue
		}
		p, err := w.page(id, &buf)
		if err != nil || p.flags != pageLeaf {
			continue
		}
		if err := s.adopt(p); err != nil {
			return err
		}
		id += p.overflow
	}
	return nil
}

// adopt keeps the records of a leaf that nothing refers to any more. The
// checksum tells which bucket they were in.
func (s *salvage) adopt(p page) error {
	for i := range p.count {
		e, err := p.element(i)
		if err != nil {
			s.Lost++
			continue
		}
		if e.bucket {
			if root, inline, err := bucketRoot(e.value); err == nil && root == 0 && inline.id == 0 {
				if err := s.adoptInline(inline); err != nil {
					return err
				}
			}
			continue
		}
		if err := s.adoptRecord(e); err != nil {
			return err
		}
	}
	return nil
}

// adoptInline keeps the records of a small bucket, which has no buckets in it.
func (s *salvage) adoptInline(p page) error {
	for i := range p.count {
		e, err := p.element(i)
		if err != nil || e.bucket {
			s.Lost++
			continue
		}
		if err := s.adoptRecord(e); err != nil {
			return err
		}
	}
	return nil
}

func (s *salvage) adoptRecord(e element) error {
	for _, bucket := range recordBuckets() {
		k := key{bucket, string(e.key)}
		if _, err := unseal(k, e.value); err != nil {
			continue
		}
		known := false
		err := s.into.View(func(tx *bbolt.Tx) error {
			known = tx.Bucket([]byte(bucket)).Get(e.key) != nil
			return nil
		})
		if err != nil || known {
			return err
		}
		return s.keep(k, e.value)
	}
	if string(e.key) != metaVersion {
		s.Lost++
	}
	return nil
}
