package disk

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"sampan/internal/oci"
	"sampan/internal/store"
)

// Ingest implements [store.Store].
func (s *Store) Ingest(ctx context.Context, digest oci.Digest) (store.Ingest, error) {
	if !s.claim(digest) {
		return nil, fmt.Errorf("ingest %s: %w", digest, store.ErrBusy)
	}
	in, err := s.openPartial(digest, store.OwnerFrom(ctx))
	if err != nil {
		s.quota.setAside(item{digest, true}, false)
		s.release(digest)
		return nil, fmt.Errorf("ingest %s: %w", digest, classify(err))
	}
	return in, nil
}

func (s *Store) openPartial(digest oci.Digest, owner string) (*ingest, error) {
	const flags = os.O_RDWR | os.O_CREATE
	f, err := s.fs.open(s.partialPath(digest), flags)
	if errors.Is(err, fs.ErrNotExist) { // somebody emptied the data directory
		if err := s.fs.makeSynced(s.partialDir()); err != nil {
			return nil, err
		}
		f, err = s.fs.open(s.partialPath(digest), flags)
	}
	if err != nil {
		return nil, err
	}
	fi, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	in := &ingest{store: s, digest: digest, owner: owner, f: f, reserved: fi.Size()}
	if err := in.recover(fi.Size()); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	s.quota.take(item{digest, true}, in.reserved, in.have.Total())
	return in, nil
}

func (s *Store) claim(digest oci.Digest) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ingesting[digest] {
		return false
	}
	s.ingesting[digest] = true
	return true
}

func (s *Store) release(digest oci.Digest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.ingesting, digest)
}

// ingest is one open partial file.
type ingest struct {
	store  *Store
	digest oci.Digest
	owner  string
	f      *os.File

	growing  sync.Mutex
	reserved int64 // bytes that the quota counts: at least as many as the file has

	arrived sync.Mutex // held while a journal is made or appended to
	have    store.Ranges
	journal *journal // nil: there is no gap, and the length of the file says all

	// broken is why nothing is written, committed or kept any more: what is on
	// the medium is unknown. It is set when no write is running.
	broken error

	// mu keeps the file under the name that state says while it is opened by
	// that name. An inode number proves nothing: the next file may get it.
	mu    sync.Mutex
	state state
}

// A state says what became of an ingest.
type state int

const (
	arriving  state = iota // under its partial name
	committed              // under its digest
	ended                  // kept or discarded: the name may be another's
)

// Have implements [store.Ingest].
func (in *ingest) Have() store.Ranges {
	in.arrived.Lock()
	defer in.arrived.Unlock()
	return in.have.Clone()
}

// Len implements [store.Ingest].
func (in *ingest) Len() int64 {
	in.arrived.Lock()
	defer in.arrived.Unlock()
	return in.have.EndOf(0)
}

// Expect implements [store.Ingest].
func (in *ingest) Expect(size int64) error {
	in.growing.Lock()
	defer in.growing.Unlock()
	if size <= in.reserved {
		return nil
	}
	if err := in.store.quota.reserve(size - in.reserved); err != nil {
		return fmt.Errorf("ingest %s: %w", in.digest, err)
	}
	in.reserved = size
	return nil
}

// Write implements [store.Ingest].
func (in *ingest) Write(p []byte) (int, error) { return in.WriteAt(p, in.Len()) }

// WriteAt implements [store.Ingest]. The bytes are written before the journal
// says that they are there, and a journal is there before a gap.
func (in *ingest) WriteAt(p []byte, off int64) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if in.broken != nil {
		return 0, fmt.Errorf("write %s: %w", in.digest, in.broken)
	}
	if err := in.Expect(off + int64(len(p))); err != nil {
		return 0, err
	}
	if err := in.allowGap(off); err != nil {
		return 0, fmt.Errorf("write %s: %w: %w", in.digest, store.ErrUnwritable, err)
	}
	n, err := in.store.fs.write(in.f, p, off)
	if jerr := in.note(off, off+int64(n)); jerr != nil {
		return 0, errors.Join(fmt.Errorf("write %s: %w: %w", in.digest, store.ErrUnwritable, jerr), err)
	}
	if err != nil {
		return n, fmt.Errorf("write %s: %w", in.digest, classify(err))
	}
	return n, nil
}

// NewReader opens the file anew, so that each reader has an offset of its own:
// under its partial name or, once committed, under its digest.
func (in *ingest) NewReader() (store.Blob, error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	var path string
	switch in.state {
	case arriving:
		path = in.store.partialPath(in.digest)
	case committed:
		path = in.store.blobPath(in.digest)
	case ended:
		return nil, fmt.Errorf("read partial %s: %w", in.digest, store.ErrNotFound)
	}
	f, err := in.store.fs.open(path, os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) { // deleted since
		return nil, fmt.Errorf("read partial %s: %w", in.digest, store.ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("read partial %s: %w", in.digest, err)
	}
	return in.store.fs.newBlob(f)
}

// Reset implements [store.Ingest].
func (in *ingest) Reset() error {
	in.arrived.Lock()
	defer in.arrived.Unlock()
	if err := in.store.fs.truncate(in.f, 0); err != nil {
		return fmt.Errorf("reset %s: %w", in.digest, classify(err))
	}
	in.store.quota.unwritten.Add(in.have.Total())
	in.have = store.Ranges{}
	if err := in.dropJournal(); err != nil {
		in.broken = fmt.Errorf("%w: a journal of other bytes cannot be removed: %w", store.ErrUnwritable, err)
		return fmt.Errorf("reset %s: %w", in.digest, in.broken)
	}
	return nil
}

// Commit implements [store.Ingest].
func (in *ingest) Commit(_ context.Context, size int64) error {
	if have := in.Have(); have.EndOf(0) != size || have.Total() != size {
		return fmt.Errorf("commit %s: %d bytes, the first %d without a gap, of %d: %w",
			in.digest, have.Total(), have.EndOf(0), size, store.ErrSize)
	}
	if err := in.publish(); err != nil {
		return fmt.Errorf("commit %s: %w", in.digest, classify(err))
	}
	_ = in.end() // all is synced: closing has nothing left to lose
	return nil
}

// publish syncs the file, renames it and syncs the directory. A sync that failed
// is not tried again: the kernel reports lost pages once, and then calls them
// clean.
func (in *ingest) publish() error {
	if in.broken != nil {
		return in.broken
	}
	if err := in.store.fs.sync(in.f); err != nil {
		in.broken = fmt.Errorf("%w: an earlier sync failed", store.ErrUnwritable)
		return err
	}
	to := in.store.blobPath(in.digest)
	if err := in.rename(to); err != nil {
		return err
	}
	return in.store.fs.syncDir(filepath.Dir(to))
}

// rename gives the file its final name, unless an earlier commit that failed
// behind it has done so.
func (in *ingest) rename(to string) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.state == committed {
		return nil
	}
	from, dir := in.store.partialPath(in.digest), filepath.Dir(to)
	if err := in.store.makeFan(dir, false); err != nil {
		return err
	}
	err := in.take(from, to)
	if errors.Is(err, fs.ErrNotExist) { // somebody emptied the data directory
		if err := in.store.makeFan(dir, true); err != nil {
			return err
		}
		err = in.take(from, to)
	}
	if err != nil {
		return err
	}
	in.state = committed
	_ = in.dropJournal() // one that is left is removed by the next ingest or New
	return nil
}

// Keep implements [store.Ingest]. Bytes whose sync failed are not kept: they may
// read well from memory until the day they are read from the medium.
func (in *ingest) Keep() error {
	if in.broken != nil {
		return in.Discard()
	}
	if in.over() {
		return nil
	}
	if in.have.Total() == 0 { // nothing to keep
		return in.Discard()
	}
	return in.end()
}

// Discard implements [store.Ingest].
func (in *ingest) Discard() error {
	if in.over() {
		return nil
	}
	return errors.Join(in.remove(), in.end())
}

// remove removes the partial file, and then its journal; a file that has its
// final name stays.
func (in *ingest) remove() error {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.state == committed {
		return nil
	}
	in.state = ended
	if err := in.store.fs.removeFile(in.store.partialPath(in.digest)); err != nil {
		return err
	}
	return in.dropJournal()
}

func (in *ingest) over() bool { return in.f == nil }

// take gives the file its final name and tells the log before, so that it never
// claims less than is there, and the quota behind.
func (in *ingest) take(from, to string) error {
	s := in.store
	deleting := &s.deleting[raw(in.digest)[0]]
	deleting.Lock()
	defer deleting.Unlock()
	s.names.Lock()
	defer s.names.Unlock()
	size := in.size()
	if err := s.record(in.digest, in.owner, size); err != nil {
		return err
	}
	if err := s.fs.rename(from, to); err != nil {
		return err
	}
	s.quota.hold(item{in.digest, false}, size, in.reserved, in.Have().Total(), in.owner)
	return nil
}

// size is what the file takes of the quota; where that cannot be found out, as
// much as it can be.
func (in *ingest) size() int64 {
	fi, err := in.f.Stat()
	if err != nil {
		return in.reserved
	}
	return fi.Size()
}

// end closes the file before it lets the next one in.
func (in *ingest) end() error {
	in.mu.Lock()
	was := in.state
	if in.state == arriving {
		in.state = ended
	}
	in.mu.Unlock()
	size := in.size()
	err := errors.Join(in.f.Close(), in.journal.close())
	in.f, in.journal = nil, nil
	q := in.store.quota
	switch was {
	case arriving:
		q.hold(item{in.digest, true}, size, in.reserved, in.Have().Total(), in.owner)
	case ended:
		q.release(in.reserved, in.Have().Total())
	case committed: // as it was taken
	}
	in.store.release(in.digest)
	return err
}
