package edge

import (
	"bytes"
	"io"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// A timed writer remembers the deadlines that it was given.
type timed struct {
	*httptest.ResponseRecorder
	deadlines []time.Time
}

func (w *timed) SetWriteDeadline(t time.Time) error {
	w.deadlines = append(w.deadlines, t)
	return nil
}

// Each piece has as much time as it takes at the least rate, and a minute for what
// is in buffers; between pieces there is no deadline.
func TestDeadlinesOfPieces(t *testing.T) {
	const size = 2*piece + 100
	file := filepath.Join(t.TempDir(), "blob")
	if err := os.WriteFile(file, make([]byte, size), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for name, src := range map[string]io.Reader{
		"a part of a file": &io.LimitedReader{R: f, N: size},
		"no file":          bytes.NewReader(make([]byte, size)),
	} {
		w := &timed{ResponseRecorder: httptest.NewRecorder()}
		cw := &countingWriter{ResponseWriter: w, rate: piece / 10}
		began := time.Now()
		n, err := cw.ReadFrom(src)
		if err != nil || n != size || cw.n.Load() != size || w.Body.Len() != size {
			t.Errorf("%s: %d bytes, counted %d, %v", name, n, cw.n.Load(), err)
		}
		if n := len(w.deadlines); n == 0 || n%2 > 0 || name == "a part of a file" && n != 6 {
			t.Fatalf("%s: %d deadlines for three pieces", name, n)
		}
		for i, d := range w.deadlines {
			if i%2 == 1 && !d.IsZero() {
				t.Errorf("%s: a deadline between pieces: %v", name, d)
			}
		}
		if allowed := w.deadlines[0].Sub(began); allowed < patience || allowed > patience+time.Minute || name == "a part of a file" && allowed < patience+10*time.Second {
			t.Errorf("%s: a piece that takes 10 s at the least rate may take %v", name, allowed)
		}
	}
	w := &timed{ResponseRecorder: httptest.NewRecorder()}
	if n, err := (&countingWriter{ResponseWriter: w}).ReadFrom(bytes.NewReader(make([]byte, size))); n != size || err != nil || len(w.deadlines) != 0 {
		t.Errorf("without a least rate: %d bytes, %v, %d deadlines", n, err, len(w.deadlines))
	}
}
