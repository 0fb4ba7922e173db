// Package scrub reads what a store holds and removes what is no longer what its
// digest names: disks lose bits, and files are changed by hand.
//
// What has rotted is deleted, so that the next use fetches it again; what cannot
// be read is left and reported, since a cable may be loose. A pass goes through
// the digests in order and is resumable: its position is a file, so that a restart
// continues it. Reading is no use of a blob, keeps to a rate, and does not push
// other bytes out of memory, as far as the store's Peek does not.
//
// It does not know names, and it does not fetch. It has no locks.
package scrub

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sampan/internal/oci"
	"sampan/internal/store"
)

// Storage is what is scrubbed.
type Storage interface {
	store.Lister
	store.Peeker
	Delete(ctx context.Context, digest oci.Digest) error
}

// Options of a [Scrubber]. Store and Log are needed.
type Options struct {
	Store Storage
	// Rate bounds the bytes per second that Run reads; 0: nothing does.
	Rate int64
	// Every is from the beginning of one pass to that of the next; 0: Run does nothing.
	Every time.Duration
	// State is the file that keeps the position; empty: each Run begins again.
	State string
	Log   *slog.Logger
	// Registerer receives the metrics; nil for none.
	Registerer prometheus.Registerer
}

// A Scrubber scrubs one store. Make one with [New].
type Scrubber struct {
	o       Options
	metrics *metrics
}

// New checks the options. Nothing is read before Run or Verify.
func New(o Options) (*Scrubber, error) {
	if o.Store == nil || o.Log == nil {
		return nil, errors.New("scrub: Store and Log are needed")
	}
	m, err := newMetrics(o.Registerer)
	return &Scrubber{o, m}, err
}

// Progress is how far a pass has come.
type Progress struct {
	Blobs, Bytes           int64        // that were read
	TotalBlobs, TotalBytes int64        // of the store, when the pass began; 0 where it does not tell
	Rotten                 []oci.Digest // were not what their digests name, and are removed
	Unreadable             int64        // blobs that could not be read, and are left
}

// page is how many blobs are listed at once.
const page = 1000

// Verify reads all that the store holds, now and at full speed, and tells after
// each blob how far it is; progress may be nil. The error is that of ctx or of
// listing.
func (s *Scrubber) Verify(ctx context.Context, progress func(Progress)) (Progress, error) {
	return s.VerifyAt(ctx, 0, progress)
}

// VerifyAt is Verify at rate bytes per second; 0: at full speed. The passes of Run are
// neither helped nor hindered by it.
func (s *Scrubber) VerifyAt(ctx context.Context, rate int64, progress func(Progress)) (Progress, error) {
	var p Progress
	if m, ok := s.o.Store.(store.Meter); ok {
		u := m.Usage()
		p.TotalBlobs, p.TotalBytes = int64(u.Blobs), u.Complete
	}
	err := s.walk(ctx, oci.Digest{}, &p, rate, func(oci.Digest) {
		if progress != nil {
			progress(p)
		}
	})
	return p, err
}

// walk verifies the blobs behind after.
func (s *Scrubber) walk(ctx context.Context, after oci.Digest, p *Progress, rate int64, done func(oci.Digest)) error {
	for {
		list, err := s.o.Store.List(ctx, after, page)
		if err != nil {
			return fmt.Errorf("scrub: %w", err)
		}
		for _, e := range list {
			if err := s.verify(ctx, e.Digest, p, rate); err != nil {
				return err
			}
			done(e.Digest)
			after = e.Digest
		}
		if len(list) < page {
			return nil
		}
	}
}

// verify reads one blob. The error is that of ctx.
func (s *Scrubber) verify(ctx context.Context, d oci.Digest, p *Progress, rate int64) error {
	b, err := s.o.Store.Peek(ctx, d)
	if errors.Is(err, store.ErrNotFound) { // has left meanwhile
		return ctx.Err()
	}
	var same bool
	if err == nil {
		r := &paced{ctx: ctx, r: b, rate: rate, began: time.Now()}
		same, err = d.VerifyReader(r)
		err = errors.Join(err, b.Close())
		p.Bytes += r.n
		s.metrics.read(r.n)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	p.Blobs++
	switch {
	case err != nil:
		p.Unreadable++
		s.metrics.bad("unreadable")
		s.o.Log.Error("stored blob cannot be read", "digest", d, "err", err)
	case !same:
		p.Rotten = append(p.Rotten, d)
		s.metrics.bad("rotten")
		s.o.Log.Error("stored blob does not match its digest, removing it", "digest", d)
		if err := s.o.Store.Delete(ctx, d); err != nil {
			s.o.Log.Error("stored blob that does not match its digest cannot be removed", "digest", d, "err", err)
		}
	}
	return nil
}

// A paced reader reads rate bytes per second; 0: as fast as it can.
type paced struct {
	ctx   context.Context
	r     io.Reader
	rate  int64
	began time.Time
	n     int64
}

// chunk is how many bytes are read at once: a fraction of a second at any rate
// that makes sense.
const chunk = 256 << 10

// Read implements [io.Reader].
func (p *paced) Read(b []byte) (int, error) {
	if err := p.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := p.r.Read(b[:min(len(b), chunk)])
	p.n += int64(n)
	if p.rate > 0 {
		due := time.Duration(float64(p.n) / float64(p.rate) * float64(time.Second))
		if !sleep(p.ctx, due-time.Since(p.began)) {
			return n, p.ctx.Err()
		}
	}
	return n, err
}

// sleep waits; false: ctx was done first.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// Run passes over the store again and again until ctx is done.
func (s *Scrubber) Run(ctx context.Context) {
	if s.o.Every <= 0 {
		return
	}
	select {
	case <-s.o.Store.Checked():
	case <-ctx.Done():
		return
	}
	at := s.load()
	for {
		if at.began.IsZero() || !at.running && time.Since(at.began) >= s.o.Every {
			at = position{began: time.Now(), running: true}
		}
		if at.running && !s.pass(ctx, &at) {
			return
		}
		if !sleep(ctx, max(time.Second, time.Until(at.began.Add(s.o.Every)))) {
			return
		}
	}
}

// saveEvery is how many blobs a restart may read a second time, and saveAfter how
// long it may take to read them.
const (
	saveEvery = 1000
	saveAfter = 10 * time.Second
)

// pass goes on with a pass to its end; false: ctx was done first, or it cannot.
func (s *Scrubber) pass(ctx context.Context, at *position) bool {
	var p Progress
	count, saved := 0, time.Now()
	err := s.walk(ctx, at.after, &p, s.o.Rate, func(d oci.Digest) {
		at.after = d
		if count++; count%saveEvery == 0 || time.Since(saved) > saveAfter {
			saved = time.Now()
			s.save(*at)
		}
	})
	if err == nil {
		at.after, at.running = oci.Digest{}, false
		s.o.Log.Info("scrub ended", "blobs", p.Blobs, "bytes", p.Bytes, "rotten", len(p.Rotten), "unreadable", p.Unreadable)
		s.metrics.passed()
	}
	s.save(*at)
	return err == nil
}

// A position is where a pass is.
type position struct {
	began   time.Time
	after   oci.Digest // verified last; zero: none yet, or all
	running bool
}

// load reads the position. One that cannot be read is none: a pass too many.
func (s *Scrubber) load() position {
	b, err := os.ReadFile(s.o.State)
	began, after, ok := strings.Cut(strings.TrimSpace(string(b)), " ")
	t, terr := time.Parse(time.RFC3339, began)
	if err != nil || !ok || terr != nil {
		return position{}
	}
	d, derr := oci.ParseDigest(after)
	if derr != nil {
		return position{began: t, running: after == "begun"}
	}
	return position{began: t, after: d, running: true}
}

// save writes the position, for which a crash costs a part of a pass.
func (s *Scrubber) save(at position) {
	if s.o.State == "" {
		return
	}
	after := at.after.String()
	switch {
	case !at.running:
		after = "ended"
	case at.after.IsZero():
		after = "begun"
	}
	line := at.began.UTC().Format(time.RFC3339) + " " + after + "\n"
	tmp := s.o.State + ".new"
	err := os.WriteFile(tmp, []byte(line), 0o600)
	if err == nil {
		err = os.Rename(tmp, s.o.State)
	}
	if err != nil {
		s.o.Log.Warn("position of the scrub not kept", "err", err)
	}
}
