package server

import (
	"context"
	"io"
	"net/http"
	"strings"

	"sampan/internal/access"
	"sampan/internal/access/rate"
)

// enter begins a request of a client, as far as it may take more.
func (s *Server) enter(ctx context.Context, c access.Client) (*rate.Visit, error) {
	if s.o.Limits == nil {
		return nil, nil //nolint:nilnil // a Visit without limits
	}
	return s.o.Limits.Enter(ctx, c)
}

// limited counts what is sent of a blob, and paces it where the client has a rate. It
// counts before it sends, so that who has got all and asks for more finds it counted,
// and takes back what could not be sent.
func limited(w http.ResponseWriter, r *http.Request, v *rate.Visit) http.ResponseWriter {
	if v == nil {
		return w
	}
	return &limitedWriter{ResponseWriter: w, ctx: r.Context(), visit: v}
}

// beginPull takes a place for the blob of a request. The parts of one blob that a
// client asks for at the same time are one pull.
func beginPull(r *http.Request, req request) error {
	if strings.HasPrefix(r.Header.Get("Range"), "bytes=") {
		return req.visit.PullPart(r.Context(), req.digest)
	}
	return req.visit.Pull(r.Context())
}

// A limitedWriter sends piece by piece what has to wait. The kernel may still send
// each piece of a file by itself.
type limitedWriter struct {
	http.ResponseWriter
	ctx   context.Context // of the request
	visit *rate.Visit     // nil: what is sent is no blob
	sent  bool            // the header
}

// Unwrap is for [http.ResponseController].
func (w *limitedWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteHeader implements [http.ResponseWriter].
func (w *limitedWriter) WriteHeader(code int) {
	if code >= http.StatusBadRequest {
		w.visit = nil
	}
	w.ResponseWriter.WriteHeader(code)
}

// piece is how much may be sent now of n. The header goes out before anything waits.
func (w *limitedWriter) piece(n int64) (int64, error) {
	if !w.sent && w.visit.Paced() {
		w.sent = true
		_ = http.NewResponseController(w.ResponseWriter).Flush() // what is wrong shows when the bytes are sent
	}
	return w.visit.Piece(w.ctx, n)
}

// Write implements [io.Writer].
func (w *limitedWriter) Write(p []byte) (int, error) {
	sent := 0
	for sent < len(p) {
		n, err := w.piece(int64(len(p) - sent))
		if err != nil {
			return sent, err
		}
		w.visit.Sent(n)
		done, err := w.ResponseWriter.Write(p[sent : sent+int(n)])
		w.visit.Sent(int64(done) - n)
		if sent += done; err != nil {
			return sent, err
		}
	}
	return sent, nil
}

// ReadFrom implements [io.ReaderFrom] for what a blobWriter passes on: a
// LimitedReader.
func (w *limitedWriter) ReadFrom(src io.Reader) (int64, error) {
	lr, ok := src.(*io.LimitedReader)
	if !ok {
		return io.Copy(struct{ io.Writer }{w}, src)
	}
	var sent int64
	for lr.N > 0 {
		n, err := w.piece(lr.N)
		if err != nil {
			return sent, err
		}
		part := &io.LimitedReader{R: lr.R, N: n}
		w.visit.Sent(n)
		done, err := io.Copy(w.ResponseWriter, part)
		w.visit.Sent(done - n)
		lr.N -= done
		if sent += done; err != nil || done < n {
			return sent, err
		}
	}
	return sent, nil
}
