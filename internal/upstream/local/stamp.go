package local

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"sampan/internal/transfer/archive"
	"sampan/internal/transfer/layout"
)

// A stamp tells whether files are still the same: which they are, how long they are, and
// when they were changed. Nil is that of nothing.
type stamp []fs.FileInfo

// same tells whether two stamps are of the same files in the same state.
func (s stamp) same(t stamp) bool {
	return s != nil && t != nil && slices.EqualFunc(s, t, func(a, b fs.FileInfo) bool {
		return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
	})
}

// stampOf takes that of a place: of the index of a layout, or of an archive or all its
// volumes.
func stampOf(p Place) (stamp, error) {
	if p.Layout {
		return stampFile(nil, filepath.Join(p.Path, layout.IndexFile))
	}
	s, err := stampFile(nil, p.Path)
	if base := archive.Base(p.Path); base == p.Path && !errors.Is(err, fs.ErrNotExist) {
		return s, err
	}
	return stampVolumes(p.Path, err)
}

// stampVolumes takes that of all volumes of an archive. Where there are none, the error
// is that of the name which is configured.
func stampVolumes(name string, err error) (s stamp, _ error) {
	for n := 1; n <= archive.MaxVolumes; n++ {
		more, missing := stampFile(s, archive.VolumeName(archive.Base(name), n))
		switch {
		case missing == nil:
			s = more
		case !errors.Is(missing, fs.ErrNotExist):
			return nil, missing
		case n == 1:
			return nil, err
		default:
			return s, nil
		}
	}
	return s, nil
}

func stampFile(s stamp, name string) (stamp, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: %w", name, archive.ErrArchive)
	}
	return append(s, info), nil
}
