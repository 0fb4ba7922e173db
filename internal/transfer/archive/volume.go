package archive

import (
	"errors"
	"fmt"
	"io"
	"os"
)

const partialSuffix = ".partial"

// MaxVolumes is how many files one archive may be split into.
const MaxVolumes = 999

// VolumeName is the name of the n-th volume of an archive, from 1 on.
func VolumeName(name string, n int) string { return fmt.Sprintf("%s.%03d", name, n) }

// volumes are files that are one: all but the last are of the same size. The zero size
// means that there is only one.
type volumes struct {
	files []*os.File
	each  int64 // bytes
}

// names are the files that an archive of size bytes has.
func volumeNames(name string, size, each int64) ([]string, error) {
	if each <= 0 {
		return []string{name}, nil
	}
	n := max((size+each-1)/each, 1)
	if n > MaxVolumes {
		return nil, fmt.Errorf("%d volumes: %w", n, ErrVolumes)
	}
	var names []string
	for i := range n {
		names = append(names, VolumeName(name, int(i)+1))
	}
	return names, nil
}

// ErrVolumes is what [errors.Is] finds where there would be more than [MaxVolumes].
var ErrVolumes = errors.New("too many volumes")

// span calls f for each file that holds a part of n bytes at off.
func (v *volumes) span(p []byte, off int64, f func(file *os.File, p []byte, off int64) (int, error)) (int, error) {
	done := 0
	for done < len(p) {
		i, at, n := 0, off, int64(len(p)-done)
		if v.each > 0 {
			i, at = int(off/v.each), off%v.each
			n = min(n, v.each-at)
		}
		if off < 0 || i >= len(v.files) {
			return done, io.EOF
		}
		m, err := f(v.files[i], p[done:done+int(n)], at)
		done += m
		off += int64(m)
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// WriteAt implements [io.WriterAt].
func (v *volumes) WriteAt(p []byte, off int64) (int, error) {
	return v.span(p, off, func(f *os.File, p []byte, off int64) (int, error) { return f.WriteAt(p, off) })
}

// ReadAt implements [io.ReaderAt].
func (v *volumes) ReadAt(p []byte, off int64) (int, error) {
	return v.span(p, off, func(f *os.File, p []byte, off int64) (int, error) { return f.ReadAt(p, off) })
}

// Close closes all files.
func (v *volumes) Close() error {
	var errs []error
	for _, f := range v.files {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}

// sync makes last what was written.
func (v *volumes) sync() error {
	for _, f := range v.files {
		if err := f.Sync(); err != nil {
			return err
		}
	}
	return nil
}

// resize gives each file its part of size bytes.
func (v *volumes) resize(size int64) error {
	for _, f := range v.files {
		part := size
		if v.each > 0 {
			part = min(size, v.each)
		}
		if err := f.Truncate(part); err != nil {
			return err
		}
		size -= part
	}
	return nil
}
