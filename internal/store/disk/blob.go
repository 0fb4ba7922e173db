package disk

import (
	"fmt"
	"io"
	"os"
)

// file is the embedded type under a name that leaves "File" to the method.
type file = os.File

// blob is a [store.FileBlob].
type blob struct {
	*file
	size int64
	read func(f *os.File, p []byte, off int64) (int, error) // nil: as the file does
}

func (m *medium) newBlob(f *os.File) (*blob, error) {
	fi, err := f.Stat()
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("stat: %w", err)
	}
	return &blob{f, fi.Size(), m.read}, nil
}

func (b *blob) Size() int64 { return b.size }

// File implements [store.FileBlob].
func (b *blob) File() *os.File {
	if b.read != nil {
		return nil
	}
	return b.file
}

// ReadAt implements [io.ReaderAt].
func (b *blob) ReadAt(p []byte, off int64) (int, error) {
	if b.read != nil {
		return b.read(b.file, p, off)
	}
	return b.file.ReadAt(p, off)
}

// Read implements [io.Reader].
func (b *blob) Read(p []byte) (int, error) {
	if b.read == nil {
		return b.file.Read(p)
	}
	off, err := b.Seek(0, io.SeekCurrent)
	if err != nil {
		return 0, err
	}
	n, err := b.read(b.file, p, off)
	if _, serr := b.Seek(int64(n), io.SeekCurrent); serr != nil {
		return n, serr
	}
	if n > 0 && err == io.EOF {
		err = nil
	}
	return n, err
}
