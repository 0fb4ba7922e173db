package edge

import (
	"errors"
	"io"
	"net/http"
	"os"
	"sync/atomic"
	"time"
)

const (
	// piece is how many bytes of a file are sent under one deadline, and patience
	// what the deadline allows beside the time that they take at the least rate:
	// for the buffers on the way.
	piece    = 1 << 20
	patience = time.Minute
)

// A countingWriter counts what is sent. It forwards ReadFrom, without which
// every file would be copied through this process.
type countingWriter struct {
	http.ResponseWriter
	rate int64 // bytes per second that the client must take; 0 is no bound
	code int
	pull bool         // it is among the pulls
	n    atomic.Int64 // bytes of the body; read by who watches, too
	// answers is called once, before the first byte of a body; nil for nobody.
	answers func()
}

// answer tells that a body begins.
func (w *countingWriter) answer() {
	if w.answers != nil {
		w.answers()
		w.answers = nil
	}
}

// Unwrap is for [http.ResponseController].
func (w *countingWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *countingWriter) status() int {
	if w.code == 0 {
		return http.StatusOK
	}
	return w.code
}

// WriteHeader implements [http.ResponseWriter].
func (w *countingWriter) WriteHeader(code int) {
	if w.code == 0 && code >= http.StatusOK { // 1xx are not the answer
		w.code = code
	}
	w.ResponseWriter.WriteHeader(code)
}

// Write implements [io.Writer].
func (w *countingWriter) Write(p []byte) (int, error) {
	w.answer()
	done := w.expect(len(p))
	n, err := w.ResponseWriter.Write(p)
	done()
	w.n.Add(int64(n))
	return n, err
}

// ReadFrom implements [io.ReaderFrom]. A file is passed on in pieces, each of which
// the kernel may still send by itself: between them it is counted, and with a least
// rate the client's time is set.
func (w *countingWriter) ReadFrom(src io.Reader) (int64, error) {
	w.answer()
	left := int64(-1) // unknown
	if lr, ok := src.(*io.LimitedReader); ok {
		src, left = lr.R, lr.N
		defer func() { lr.N = left }()
	}
	if _, file := src.(*os.File); !file {
		if w.rate <= 0 {
			if left >= 0 {
				src = io.LimitReader(src, left)
			}
			n, err := io.Copy(w.ResponseWriter, src)
			w.n.Add(n)
			left -= n
			return n, err
		}
		n, err := w.copyTimed(src, left)
		left -= n
		return n, err
	}
	var sent int64
	for left != 0 {
		n := int64(piece)
		if left > 0 {
			n = min(n, left)
		}
		done := w.expect(int(n))
		got, err := io.Copy(w.ResponseWriter, &io.LimitedReader{R: src, N: n})
		done()
		w.n.Add(got)
		sent += got
		if left > 0 {
			left -= got
		}
		if err != nil || got < n {
			return sent, err
		}
	}
	return sent, nil
}

// copyTimed copies what may keep the client waiting: only while something is
// written is the client waited for. left is negative for everything.
func (w *countingWriter) copyTimed(src io.Reader, left int64) (int64, error) {
	if left >= 0 {
		src = io.LimitReader(src, left)
	}
	return io.Copy(struct{ io.Writer }{w}, struct{ io.Reader }{src})
}

// limitEnd gives the client a last time for what is still in buffers when the
// handler has returned; net/http takes it away again before the next request.
func (w *countingWriter) limitEnd() {
	if w.rate > 0 {
		_ = http.NewResponseController(w.ResponseWriter).SetWriteDeadline(time.Now().Add(patience)) // of a test's writer, nothing
	}
}

// expect gives the client the time for n more bytes that it may take at most. done
// ends it: between writes it is not the client that is waited for.
func (w *countingWriter) expect(n int) (done func()) {
	if w.rate <= 0 {
		return func() {}
	}
	c := http.NewResponseController(w.ResponseWriter)
	d := patience + time.Duration(float64(n)/float64(w.rate)*float64(time.Second))
	if errors.Is(c.SetWriteDeadline(time.Now().Add(d)), http.ErrNotSupported) {
		w.rate = 0 // the writer of a test
		return func() {}
	}
	return func() { _ = c.SetWriteDeadline(time.Time{}) } // of a connection that is gone, too
}
