package edge

import (
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
//
// A [BodyBounder] sets size and deadline of its bodies itself: until it sets another, they
// have the usual deadline.
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

// A BodyBounder is a handler that bounds some bodies itself, in size and in time.
type BodyBounder interface {
	BoundsBody(r *http.Request) bool
}

// bounded bounds the bodies of requests.
func bounded(next http.Handler, within time.Duration) http.Handler {
	own, _ := next.(BodyBounder)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if hasBody(r) {
			hurry(w, within)
			if own == nil || !own.BoundsBody(r) {
				bound := *r
				bound.Body = http.MaxBytesReader(w, r.Body, maxBodyBytes)
				r = &bound
			}
		}
		next.ServeHTTP(w, r)
	})
}

func hasBody(r *http.Request) bool { return r.Body != nil && r.Body != http.NoBody }

// hurry gives the body of a request its time, so that nobody holds a connection by one
// that never ends. It is over for the body alone: net/http takes the deadline away when
// the body has ended, and an answer may take longer.
func hurry(w http.ResponseWriter, within time.Duration) {
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(within)) // a writer that knows none is that of a test
}
