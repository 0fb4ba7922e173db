package server

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// A pieceWriter counts the pieces of a body.
type pieceWriter struct {
	*httptest.ResponseRecorder
	pieces int
}

func (w *pieceWriter) Write(p []byte) (int, error) {
	w.pieces++
	return w.ResponseRecorder.Write(p)
}

func blobFile(t *testing.T, b []byte) *os.File {
	t.Helper()
	path := filepath.Join(t.TempDir(), "blob")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func TestSmallBlobIsSentInOnePieceBehindItsHeader(t *testing.T) {
	want := bytes.Repeat([]byte("0123456789"), smallBlob/10)
	for rng, part := range map[string][]byte{"": want, "bytes=5-": want[5:], "bytes=10-4999": want[10:5000], "bytes=-3": want[len(want)-3:]} {
		w := &pieceWriter{ResponseRecorder: httptest.NewRecorder()}
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
		r.Header.Set("Range", rng)
		bw := &blobWriter{ResponseWriter: w, r: r, size: int64(len(want))}
		bw.Header().Set("Content-Type", "application/octet-stream")
		http.ServeContent(bw, r, "", time.Time{}, held(blobFile(t, want), int64(len(want))))
		if bw.err != nil || !bytes.Equal(w.Body.Bytes(), part) {
			t.Errorf("%q: %d bytes, %v", rng, w.Body.Len(), bw.err)
		}
		if w.pieces != 1 || w.Flushed {
			t.Errorf("%q: %d pieces, flushed %v", rng, w.pieces, w.Flushed)
		}
	}
}

// The error of a file that cannot be read shows where it did before: when the
// response ends short.
func TestFileIsSentItselfWhereItIsLargeOrCannotBeRead(t *testing.T) {
	for name, c := range map[string]struct{ there, size int64 }{
		"larger":                     {smallBlob + 1, smallBlob + 1},
		"cut since it was committed": {10, 11},
	} {
		f := blobFile(t, make([]byte, c.there))
		if got := held(f, c.size); got != io.ReadSeeker(f) {
			t.Errorf("%s: %T", name, got)
		}
		if at, err := f.Seek(0, io.SeekCurrent); at != 0 || err != nil {
			t.Errorf("%s: the file is at %d, %v", name, at, err)
		}
	}
}
