package bolt

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"sampan/internal/refs"
)

// The buckets; their names are part of the format.
const (
	bucketMeta  = "meta"
	bucketTags  = "tags"
	bucketLinks = "links"
	bucketLists = "lists"
)

// formatVersion stands in the bucket "meta" under "version".
const (
	metaVersion   = "version"
	formatVersion = "1"
)

const (
	// lockTimeout bounds the wait for the file's own lock, which only matters
	// where the data directory's lock is not held.
	lockTimeout = time.Second
	fileMode    = 0o600
)

// errInUse: another process has the file.
var errInUse = errors.New("another process has it open")

// recordBuckets are the buckets whose values are sealed records.
func recordBuckets() []string { return []string{bucketTags, bucketLinks, bucketLists} }

func errVersion(v string) error {
	return fmt.Errorf("its format is %.20q and this sampan reads %q", v, formatVersion)
}

// open opens the file and checks it; a missing one is made. It returns how many
// records fail their checksum.
func open(path string) (db *bbolt.DB, lost int, err error) {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		if err := create(path); err != nil {
			return nil, 0, err
		}
	}
	// The check reads the file by itself: bbolt trusts what it maps.
	var txid uint64
	err = withImage(path, func(m *image) (err error) {
		txid = m.txid
		lost, err = m.check()
		return err
	})
	if err != nil {
		return nil, 0, err
	}
	if db, err = openFile(path); err != nil {
		return nil, 0, err
	}
	err = guard(func() error {
		return db.View(func(tx *bbolt.Tx) error {
			if uint64(tx.ID()) != txid {
				return errInUse // somebody wrote between the check and now
			}
			return nil
		})
	})
	if err != nil {
		return nil, 0, errors.Join(err, db.Close())
	}
	return db, lost, nil
}

// withImage runs f on the bytes of a file that nobody writes.
func withImage(path string, f func(*image) error) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close() // and the lock with it
	if err := unix.Flock(int(file.Fd()), unix.LOCK_SH|unix.LOCK_NB); err != nil {
		return fmt.Errorf("%w: %w", errInUse, err)
	}
	fi, err := file.Stat()
	if err != nil {
		return err
	}
	m, err := readImage(file, fi.Size())
	if err != nil {
		return err
	}
	return f(m)
}

// create makes the file under another name and moves it to its own when whole:
// an index that was cut off while it was made must not pass for an empty one.
func create(path string) error {
	return replace(path, func(*bbolt.DB) error { return nil })
}

// replace makes a new file, lets fill put records into it, and moves it to path.
// When it fails, what is at path has not changed.
func replace(path string, fill func(*bbolt.DB) error) error {
	tmp := path + ".new"
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	db, err := openFile(tmp)
	if err == nil {
		err = errors.Join(makeBuckets(db), fill(db), db.Close())
	}
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		_ = os.Remove(tmp) // it may not even be there
		return err
	}
	return syncDir(filepath.Dir(path))
}

func makeBuckets(db *bbolt.DB) error {
	return db.Update(func(tx *bbolt.Tx) error {
		for _, name := range recordBuckets() {
			if _, err := tx.CreateBucket([]byte(name)); err != nil {
				return err
			}
		}
		meta, err := tx.CreateBucket([]byte(bucketMeta))
		if err != nil {
			return err
		}
		return meta.Put([]byte(metaVersion), []byte(formatVersion))
	})
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

func openFile(path string) (db *bbolt.DB, err error) {
	err = guard(func() (err error) {
		db, err = bbolt.Open(path, fileMode, &bbolt.Options{
			Timeout:      lockTimeout,
			FreelistType: bbolt.FreelistMapType,
		})
		return err
	})
	return db, err
}

// guard turns the panics of bbolt on a damaged file, and the memory faults of
// its pointers into the mapped file (a disk that cannot be read any more, a file
// that was cut), into [refs.ErrDamaged].
func guard(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", refs.ErrDamaged, p)
		}
	}()
	return f()
}
