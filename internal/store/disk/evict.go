package disk

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"sampan/internal/oci"
)

// errInUse: a partial blob is being written again.
var errInUse = errors.New("in use")

// evict removes a file to make room.
func (s *Store) evict(i item) error {
	if i.partial {
		if !s.claim(i.digest) {
			s.quota.setAside(i, true) // until it is taken, or is not
			return errInUse
		}
		defer s.release(i.digest)
	}
	s.names.Lock()
	defer s.names.Unlock()
	if !s.quota.isLeaving(i) { // ingested, committed again or deleted meanwhile
		return nil
	}
	if err := s.fs.removeFile(s.path(i)); err != nil {
		return fmt.Errorf("evict %s: %w", i.digest, err)
	}
	if i.partial { // the bytes are gone; a journal that is left is removed by the next ingest or New
		_ = s.fs.removeFile(s.journalPath(i.digest))
	}
	s.forget(i)
	return nil
}

// forget notes that the file of an item is not there any more. The caller holds
// names.
func (s *Store) forget(i item) {
	if !i.partial && s.quota.knows(i) {
		s.blobs.appendLate(appendFrame(nil, recDelete, raw(i.digest)))
		s.quota.late.Store(int64(len(s.blobs.late)))
	}
	s.quota.removed(i)
}

func (s *Store) path(i item) string {
	if i.partial {
		return s.partialPath(i.digest)
	}
	return s.blobPath(i.digest)
}

// itemAt returns the item whose file has that path.
func (s *Store) itemAt(path string) (item, bool) {
	name, algorithm := filepath.Base(path), filepath.Base(filepath.Dir(filepath.Dir(path)))
	partial := filepath.Dir(path) == s.partialDir()
	if partial {
		algorithm, name, _ = strings.Cut(name, "-")
	}
	d, err := oci.ParseDigest(algorithm + ":" + name)
	if err != nil {
		return item{}, false
	}
	i := item{d, partial}
	return i, filepath.Clean(s.path(i)) == filepath.Clean(path)
}
