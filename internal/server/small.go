package server

import (
	"bytes"
	"io"
	"os"
)

// smallBlob is up to how many bytes a stored blob is read at once and sent together
// with its header: sendfile would cost a second packet and four system calls more
// than it saves of copying.
const smallBlob = 16 << 10

// held is the content of a file, positioned at its beginning: a [smallContent] when
// it is small and can be read, and otherwise the file itself, whose error shows
// when it is sent.
func held(file *os.File, size int64) io.ReadSeeker {
	if size > smallBlob {
		return file
	}
	b := make([]byte, size)
	if _, err := file.ReadAt(b, 0); err != nil {
		return file
	}
	return &smallContent{bytes.NewReader(b), b}
}

// A smallContent is a whole blob in memory.
type smallContent struct {
	*bytes.Reader
	all []byte
}

// WriteSectionTo writes the next n bytes in one piece.
func (c *smallContent) WriteSectionTo(w io.Writer, n int64) (int64, error) {
	from := len(c.all) - c.Len()
	sent, err := w.Write(c.all[from:][:min(n, int64(c.Len()))])
	if _, serr := c.Seek(int64(sent), io.SeekCurrent); err == nil {
		err = serr
	}
	return int64(sent), err
}
