// Package disk is a [store.Store] in a directory of a local file system.
//
// Layout, version 2, below the data directory:
//
//	version                      the line "sampan data 2"
//	lock                         held by the process that uses the directory; its pid
//	blobs/sha256/ab/<hex>        a complete blob: name and content agree
//	blobs.log                    which blobs are there; see type blobLog
//	partial/sha256-<hex>         bytes of a blob that is arriving, each at its offset
//	partial/sha256-<hex>.journal which of them are there; only if there was a gap
//
// Version 1 has no journals and is read as well. Its directories become ones of
// version 2 with their first journal: who knows of none would take gaps for bytes.
//
// A blob becomes complete by sync, rename and sync of its directory, so that a
// file below blobs is whole or not there. What is written to a partial file is
// there when the process is killed; after a power cut some of it may be wrong,
// which the digest shows before anything is committed. The journal is described
// where type journal is. Nobody but the owner of the process can read the
// directory: what it holds may be private to some clients.
//
// With a limit, what was used least recently makes room for what arrives. The
// store knows each blob in memory, some 70 bytes for each, and in its log, which
// claims at any moment all that is there, or more: the record of a blob is written
// before its rename and the one of its removal some time after it. So a start reads the log
// and no directory. What an operator or a power cut does to it is found by the
// check, which compares the names in the directories with it. Uses are written to
// the log in batches: a crash forgets less than a minute of them.
//
// The package does not hash.
//
// Lock order: ingest.mu, held while a file is opened, renamed or removed by its
// name, before Store.fanMu, held while a directory is made. ingest.arrived, held
// while a journal is written, before Store.versionMu, held while the version is.
// Store.names, held while a blob is renamed or evicted and while the log is written,
// after ingest.mu and before ingest.arrived and quota.mu. Store.deleting, held while a
// blob is deleted or renamed, after ingest.mu and before Store.names; one at a time.
// ingest.growing, held while room is made for one ingest, before quota.making, held
// while a file is evicted, before quota.mu and Store.mu, which are leaves; no file
// system call happens under them.
package disk

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"sampan/internal/oci"
	"sampan/internal/store"
)

// The content of the file "version": of a directory with and without journals.
const (
	layoutVersion  = "sampan data 2\n"
	layoutVersion1 = "sampan data 1\n"
)

const (
	dirMode  = 0o700
	fileMode = 0o600
)

// Store is a directory. Make one with [New].
type Store struct {
	dir  string
	lock *os.File
	fs   medium
	log  *slog.Logger

	// names is held while a blob gets or loses its final name and the quota is
	// told, so that what is counted is what is there.
	names sync.Mutex
	// deleting are by the first byte of digests: a blob that is being deleted does not
	// get its name again before the quota is told. What is deleted is many files, and
	// nobody else waits for each.
	deleting [256]sync.Mutex

	isNew bool
	quota *quota

	blobs   *blobLog      // guarded by names
	trusted bool          // the log claims all that is there
	found   int           // blobs that it did not; guarded by names
	checked chan struct{} // closed when it is known to

	mu        sync.Mutex
	ingesting map[oci.Digest]bool

	versionMu sync.Mutex
	version   string // content of the file of that name

	fanMu sync.Mutex
	fans  map[string]bool // directories of blobs whose names are known to be synced
}

// Options of a [Store]. Dir is needed.
type Options struct {
	Dir string
	// Limits can be changed later, by Store.Limits.
	Limits Limits
	// Counted are names of files in Dir that count as the index does.
	Counted []string
	// Log is told of partial blobs that are damaged; nil for none.
	Log *slog.Logger
}

// New opens the directory, making it where it is missing, and takes its lock:
// [store.ErrLocked] tells that another process has it. [store.ErrUnwritable]
// tells that nothing can be written there; a disk that is merely full is found
// out later, by the first Ingest, unless the directory is new. The caller ends
// with Close.
func New(o Options) (*Store, error) { return open(o, osMedium()) }

func open(o Options, m medium) (*Store, error) {
	dir := o.Dir
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &Store{
		dir: dir, log: o.Log, fs: m, checked: make(chan struct{}),
		ingesting: make(map[oci.Digest]bool), fans: make(map[string]bool),
	}
	s.blobs = &blobLog{fs: &s.fs, path: filepath.Join(dir, logName)}
	if err := os.MkdirAll(dir, dirMode); err != nil {
		return nil, fmt.Errorf("data directory %s: %w", dir, classify(err))
	}
	lock, err := lockFile(filepath.Join(dir, "lock"))
	if err != nil {
		return nil, fmt.Errorf("data directory %s: %w", dir, err)
	}
	s.lock = lock
	if err := errors.Join(s.checkVersion(), s.makeDirs()); err != nil {
		return nil, errors.Join(fmt.Errorf("data directory %s: %w", dir, classify(err)), lock.Close())
	}
	s.quota = newQuota(dir, append([]string{logName}, o.Counted...), s.log, s.evict)
	if err := s.load(o.Limits); err != nil {
		return nil, errors.Join(fmt.Errorf("data directory %s: %w", dir, err), s.blobs.close(), lock.Close())
	}
	return s, nil
}

// IsNew tells whether New made the directory a data directory.
func (s *Store) IsNew() bool { return s.isNew }

// makeDirs makes the directories that are always there and syncs their names.
func (s *Store) makeDirs() error {
	blobs := filepath.Join(s.dir, "blobs")
	for _, dir := range []string{s.partialDir(), filepath.Join(blobs, "sha256"), filepath.Join(blobs, "sha512")} {
		if err := os.MkdirAll(dir, dirMode); err != nil {
			return err
		}
	}
	return errors.Join(s.fs.syncDir(blobs), s.fs.syncDir(s.dir))
}

// makeFan makes the directory of a blob and syncs its name, once in the life of
// the Store or, where it has been removed since, again. Commits that meet in a
// new directory wait here, so that none relies on a sync that is not done.
func (s *Store) makeFan(dir string, again bool) error {
	s.fanMu.Lock()
	defer s.fanMu.Unlock()
	if s.fans[dir] && !again {
		return nil
	}
	if err := s.fs.makeSynced(dir); err != nil {
		return err
	}
	s.fans[dir] = true
	return nil
}

// Close writes when blobs were used and releases the lock. Run has ended before.
// Open blobs stay readable.
func (s *Store) Close() error {
	s.closeLog()
	return s.lock.Close()
}

// Open implements [store.Store]. The Blob is a [store.FileBlob].
func (s *Store) Open(_ context.Context, digest oci.Digest) (store.Blob, error) {
	f, err := s.fs.open(s.blobPath(digest), os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		if s.quota.knows(item{digest, false}) {
			s.reconcile(digest)
		}
		return nil, fmt.Errorf("%s: %w", digest, store.ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", digest, err)
	}
	if !s.quota.touch(digest) {
		s.reconcile(digest)
	}
	return s.fs.newBlob(f)
}

// Delete implements [store.Store].
func (s *Store) Delete(_ context.Context, digest oci.Digest) error {
	deleting := &s.deleting[raw(digest)[0]]
	deleting.Lock()
	defer deleting.Unlock()
	err := s.fs.remove(s.blobPath(digest))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("delete %s: %w", digest, classify(err))
	}
	s.names.Lock()
	defer s.names.Unlock()
	s.forget(item{digest, false})
	return nil
}

func (s *Store) blobPath(d oci.Digest) string {
	hex := d.Hex()
	return s.dir + "/blobs/" + d.Algorithm() + "/" + hex[:2] + "/" + hex
}

func (s *Store) partialDir() string { return filepath.Join(s.dir, "partial") }

func (s *Store) partialPath(d oci.Digest) string {
	return filepath.Join(s.partialDir(), d.Algorithm()+"-"+d.Hex())
}

func (s *Store) checkVersion() error {
	path := filepath.Join(s.dir, "version")
	b, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) || err == nil && len(b) == 0:
		s.isNew, s.version = true, layoutVersion
		return s.fs.writeFile(path, []byte(layoutVersion))
	case err != nil:
		return err
	case string(b) != layoutVersion && string(b) != layoutVersion1:
		return fmt.Errorf("its file %q says %q and this sampan reads %q; use another directory, or the version that made it",
			"version", strings.TrimSpace(string(b)), strings.TrimSpace(layoutVersion))
	}
	s.version = string(b)
	return nil
}

// upgrade lets former versions refuse the directory.
func (s *Store) upgrade() error {
	s.versionMu.Lock()
	defer s.versionMu.Unlock()
	if s.version == layoutVersion {
		return nil
	}
	if err := s.fs.writeFile(filepath.Join(s.dir, "version"), []byte(layoutVersion)); err != nil {
		return err
	}
	s.version = layoutVersion
	return nil
}

// lockFile takes an exclusive lock that the kernel drops when the process dies.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, fileMode)
	if err != nil {
		return nil, classify(err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		defer f.Close()
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		b := make([]byte, 32)
		n, _ := f.Read(b) // for the message only
		if pid := strings.TrimSpace(string(b[:n])); pid != "" {
			return nil, fmt.Errorf("process %s has it open: %w", pid, store.ErrLocked)
		}
		return nil, store.ErrLocked
	}
	// Who holds the lock is told on a best effort: a full disk must not stop
	// what was stored from being served.
	if f.Truncate(0) == nil {
		_, _ = fmt.Fprintf(f, "%d\n", os.Getpid())
	}
	return f, nil
}

// classify wraps what a medium says when it cannot be written.
func classify(err error) error {
	for _, e := range []syscall.Errno{
		unix.ENOSPC, unix.EDQUOT, unix.EROFS, unix.EIO, unix.EACCES, unix.EPERM, unix.EFBIG,
		damaged, unix.EBADMSG, // ext4 and xfs: what the medium gives back is damaged
		unix.ESTALE, unix.ETIMEDOUT, // NFS: the server has lost or does not give it
	} {
		if errors.Is(err, e) {
			return fmt.Errorf("%w: %w", store.ErrUnwritable, err)
		}
	}
	return err
}
