package edge

import (
	"cmp"
	"net/http"
	"path"
	"slices"
	"strconv"
	"sync"
	"time"

	"sampan/internal/oci"
)

// A Pull is the body of a blob that is being sent.
type Pull struct {
	// Request names it, as in the access log.
	Request string
	// Client is the address, without port, and User the name of who asks; empty where
	// they are not known.
	Client, User string
	Repository   oci.Repository
	// Digest is that of the blob, as the client wrote it.
	Digest string
	// Size is how many bytes the body has; -1 when that is not known. Bytes are sent.
	Size, Bytes int64
	// Rate is how many bytes per second were sent lately.
	Rate float64
	// Since is when the request came.
	Since time.Time
}

// pulls are those that run. Its lock is a leaf and is taken twice for each blob, and
// not at all for other requests.
type pulls struct {
	mu      sync.Mutex
	running map[*countingWriter]*pull
}

// A pull is a Pull whose rate is measured.
type pull struct {
	Pull
	at   time.Time // of the last measurement
	seen int64     // bytes then
}

// enter takes in a response whose body begins, if it is that of a blob.
func (l *pulls) enter(w *countingWriter, r *http.Request, t *oci.Trace, began time.Time) {
	if t.Kind != "blob" || r.Method != http.MethodGet || w.status() >= http.StatusMultipleChoices {
		return
	}
	p := &pull{Pull: Pull{
		Request: t.ID, User: t.Who, Repository: t.Repository, Digest: path.Base(r.URL.Path), Size: -1, Since: began,
	}, at: began}
	if t.Client.IsValid() {
		p.Client = t.Client.String()
	}
	if n, err := strconv.ParseInt(w.Header().Get("Content-Length"), 10, 64); err == nil {
		p.Size = n
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.running == nil {
		l.running = make(map[*countingWriter]*pull)
	}
	l.running[w] = p
	w.pull = true
}

// leave takes it out again.
func (l *pulls) leave(w *countingWriter) {
	if !w.pull {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.running, w)
}

// Pulls tells about the blobs that are being sent, the oldest first.
func (e *Edge) Pulls() []Pull {
	now := time.Now()
	l := &e.pulls
	l.mu.Lock()
	list := make([]Pull, 0, len(l.running))
	for w, p := range l.running {
		p.Bytes = w.n.Load()
		if d := now.Sub(p.at); d >= time.Second || d > 0 && p.Rate == 0 {
			p.Rate = float64(p.Bytes-p.seen) / d.Seconds()
			if d >= time.Second {
				p.at, p.seen = now, p.Bytes
			}
		}
		list = append(list, p.Pull)
	}
	l.mu.Unlock()
	slices.SortFunc(list, func(a, b Pull) int {
		return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.Request, b.Request))
	})
	return list
}
