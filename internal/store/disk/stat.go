package disk

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"sampan/internal/oci"
	"sampan/internal/store"
)

// Stat returns the size of a complete blob in bytes, and does not count as its
// use; [store.ErrNotFound] when there is none.
func (s *Store) Stat(_ context.Context, digest oci.Digest) (int64, error) {
	info, err := os.Stat(s.blobPath(digest))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("%s: %w", digest, store.ErrNotFound)
	}
	if err != nil {
		return 0, fmt.Errorf("stat %s: %w", digest, err)
	}
	return info.Size(), nil
}
