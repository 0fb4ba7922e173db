package fill_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"sampan/internal/fill"
	"sampan/internal/store"
	"sampan/internal/store/disk"
)

// onDisk is the size of the blobs and partial blobs in the directory.
func (r *run) onDisk(t *testing.T) (n int64) {
	t.Helper()
	err := filepath.WalkDir(r.dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || !strings.Contains(path, "sha256") || strings.Contains(path, ".journal") {
			return err
		}
		fi, err := e.Info()
		if err == nil {
			n += fi.Size()
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	return n
}

// account holds what all sources sent against the size. What may cross in vain is
// one Read for each answer; more only where a source begins at 0 whatever it is
// asked, lies, or the store does not take the blob.
func (r *run) account() {
	var sent, vain int64
	for _, p := range r.played {
		sent += p.sent
		vain += int64(p.opens) * p.step
		if p.wholes > 0 {
			return
		}
	}
	if r.lied() || r.maxSize > 0 {
		return
	}
	if sent > r.size+vain {
		r.fail("%d bytes were sent for %d, of which %d may be in vain", sent, r.size, vain)
	}
}

// end: a healthy source brings the blob, and then it is there, unless it does not
// fit.
func (r *run) end(ctx context.Context, g *fill.Group, s *disk.Store) {
	synctest.Wait()
	healthy := newPlayed(programSource{step: 64 << 10, liesAt: -1, whole: -1}, r.want)
	r.played = append(r.played, healthy)
	all := programReader{length: r.size, leaves: -1, chunk: 64 << 10}
	err := r.read(ctx, g, healthy, all)
	if errors.Is(err, fill.ErrMismatch) && r.lied() { // the lie that was left has cost one fetch
		err = r.read(ctx, g, healthy, all)
	}
	if err != nil {
		r.fail("from a healthy source: %w", err)
	}
	synctest.Wait()
	got, err := store.ReadAll(ctx, s, r.digest, r.size)
	switch fits := r.maxSize == 0 || r.size <= r.maxSize; {
	case !fits && r.size <= r.maxSize+logRoom: // the store may have the room
	case fits && err != nil:
		r.fail("not stored: %w", err)
	case err == nil && !bytes.Equal(got, r.want):
		r.fail("stored wrong")
	case !fits && !errors.Is(err, store.ErrNotFound):
		r.fail("stored beyond the limit: %w", err)
	}
}
