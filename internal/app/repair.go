package app

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"sampan/internal/refs"
	"sampan/internal/refs/bolt"
	"sampan/internal/store"
	"sampan/internal/store/disk"
)

// The errors of [New] and [Repair] that a person can do something about.
var (
	// ErrDamaged: the index of names is damaged; Repair makes a new one.
	ErrDamaged = refs.ErrDamaged
	// ErrLocked: another process uses the data directory.
	ErrLocked = store.ErrLocked
	// ErrUnwritable: the data directory cannot be written.
	ErrUnwritable = store.ErrUnwritable
)

// Repair makes the index of names of a data directory anew from what can still
// be read of the damaged one, which is kept beside it. It fails with [ErrLocked]
// while a mirror runs on the directory, and when there is no index at all.
func Repair(dir string, now time.Time) (bolt.Repaired, error) {
	path := filepath.Join(dir, IndexFile)
	if _, err := os.Stat(path); err != nil { // a directory must not be made by repairing it
		return bolt.Repaired{}, fmt.Errorf("index: %w", err)
	}
	lock, err := disk.New(disk.Options{Dir: dir})
	if err != nil {
		return bolt.Repaired{}, err
	}
	r, err := bolt.Repair(path, now)
	return r, errors.Join(err, lock.Close())
}
