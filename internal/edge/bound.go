package edge

import (
	"errors"
	"io"
	"log/slog"
	"net/http"
	"time"
)

const (
	maxHeaderBytes    = 64 << 10
	readHeaderTimeout = 15 * time.Second
	bodyTimeout       = 15 * time.Second
	idleTimeout       = 3 * time.Minute
	// maxBodyBytes bounds the bodies of requests to listeners that are no registry's.
	maxBodyBytes = 1 << 20
	// maxStreams is how many requests one connection of HTTP/2 may have running; a
	// client that wants more opens another, or is told to ask again.
	maxStreams = 250
)

// NewServer makes a server for a listener that is not the edge's own, such as the
// operator's: headers and bodies of requests have a largest size and a deadline, idle
// connections end, and an answer may take as long as it likes. Run it with [Serve].
func NewServer(h http.Handler, log *slog.Logger) *http.Server {
	return newServer(bounded(h, bodyTimeout), log)
}

// newServer is for a handler that bounds bodies itself.
func newServer(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           h,
		MaxHeaderBytes:    maxHeaderBytes,
		ReadHeaderTimeout: readHeaderTimeout,
		IdleTimeout:       idleTimeout,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}

// bounded bounds the bodies of requests.
func bounded(next http.Handler, within time.Duration) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if hasBody(r) {
			bound := *r
			bound.Body = hurried(w, http.MaxBytesReader(w, r.Body, maxBodyBytes), within)
			r = &bound
		}
		next.ServeHTTP(w, r)
	})
}

func hasBody(r *http.Request) bool { return r.Body != nil && r.Body != http.NoBody }

// hurried gives the body of a request its time, so that nobody holds a connection by
// one that never ends. The time is over for the body alone: where it has ended, the
// deadline would break off the answer.
func hurried(w http.ResponseWriter, body io.ReadCloser, within time.Duration) io.ReadCloser {
	c := http.NewResponseController(w)
	_ = c.SetReadDeadline(time.Now().Add(within)) // a writer that knows none is that of a test
	return &hurriedBody{body, c}
}

type hurriedBody struct {
	io.ReadCloser
	c *http.ResponseController
}

// Read implements [io.Reader].
func (b *hurriedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if errors.Is(err, io.EOF) {
		_ = b.c.SetReadDeadline(time.Time{}) // as above
	}
	return n, err
}
