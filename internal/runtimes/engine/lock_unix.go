//go:build unix

package engine

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// lock waits until no other pull of this user has what is named, in this process or
// another. Where no lock can be made, it goes on without: the lock keeps two pulls from
// taking each other's names away, and nothing else. The files stay; there are at most
// 4096, and they are empty.
func lock(ctx context.Context, name string) (unlock func(), err error) {
	nothing := func() {}
	dir, err := os.UserCacheDir()
	if err != nil {
		return nothing, nil // without a place there is no lock
	}
	dir = filepath.Join(dir, "sampan", "pull")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nothing, nil // a home that cannot be written has no lock
	}
	const digits = 3
	sum := sha256.Sum256([]byte(name))
	f, err := os.OpenFile(filepath.Join(dir, hex.EncodeToString(sum[:])[:digits]+".lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nothing, nil // as above
	}
	const again = 100 * time.Millisecond
	tick := time.NewTicker(again)
	defer tick.Stop()
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case err == nil:
			return func() { f.Close() }, nil
		case !errors.Is(err, unix.EWOULDBLOCK):
			f.Close()
			return nothing, nil // a file system without locks
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			f.Close()
			return nil, fmt.Errorf("another pull of it is running: %w", ctx.Err())
		}
	}
}
