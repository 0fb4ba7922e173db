package soak

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"

	"sampan/internal/oci"
)

// A stage is where the clients find the process that lives now.
type stage struct {
	mu      sync.Mutex
	now     *life         // nil between two lives
	changed chan struct{} // closed and replaced when now is
}

func newStage() *stage { return &stage{changed: make(chan struct{})} }

func (s *stage) set(l *life) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = l
	close(s.changed)
	s.changed = make(chan struct{})
}

// life waits for a process; nil when ctx was done first.
func (s *stage) life(ctx context.Context) *life {
	for {
		s.mu.Lock()
		now, changed := s.now, s.changed
		s.mu.Unlock()
		if now != nil && !now.killed.Load() {
			return now
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}

// counts is what all clients saw together.
type counts struct {
	complete atomic.Int64 // responses that came to their end
	partial  atomic.Int64 // ranges, responses left early, and those that a kill cut
	bytes    atomic.Int64
}

// A client asks whatever process lives, and compares every byte. Its methods
// return an error that is not the kill's.
type client struct {
	http   *http.Client
	stage  *stage
	cargo  *cargo
	counts *counts
	random *rand.Rand
}

func (c *client) close() { c.http.CloseIdleConnections() }

// pull fetches manifests and blobs as a container engine does, and asks again for
// what a kill cut short: sometimes from the start, sometimes from where it was.
func (c *client) pull(ctx context.Context) error {
	for _, ref := range c.cargo.manifests {
		if err := c.whole(ctx, "manifests", ref); err != nil {
			return err
		}
	}
	for _, i := range c.random.Perm(len(c.cargo.blobs)) {
		if err := c.whole(ctx, "blobs", c.cargo.blobs[i].Digest.String()); err != nil {
			return err
		}
	}
	return nil
}

// whole fetches one manifest or blob, over as many lives as it takes.
func (c *client) whole(ctx context.Context, kind, ref string) error {
	size := int64(len(c.cargo.content[ref]))
	for from := int64(0); ; {
		got, err := c.get(ctx, kind, ref, from, size, size-from)
		switch {
		case err == nil:
			return nil
		case !errors.Is(err, errKilled):
			return err
		case kind == "blobs" && from+got < size && c.random.IntN(2) == 0:
			from += got
		default:
			from = 0
		}
	}
}

// skip reads short ranges of random blobs, most of them far ahead of what is
// there, until ctx is done.
func (c *client) skip(ctx context.Context) error {
	for ctx.Err() == nil {
		b := c.blob()
		from := c.random.Int64N(b.Size)
		to := min(b.Size, from+1+c.random.Int64N(256<<10))
		if _, err := c.get(ctx, "blobs", b.Digest.String(), from, to, to-from); c.serious(ctx, err) {
			return err
		}
	}
	return nil
}

// leave asks for the rest of random blobs and hangs up early, until ctx is done.
func (c *client) leave(ctx context.Context) error {
	for ctx.Err() == nil {
		b := c.blob()
		from := c.random.Int64N(b.Size)
		most := min(b.Size-from, c.random.Int64N(128<<10))
		if _, err := c.get(ctx, "blobs", b.Digest.String(), from, b.Size, most); c.serious(ctx, err) {
			return err
		}
	}
	return nil
}

func (c *client) serious(ctx context.Context, err error) bool {
	return err != nil && !errors.Is(err, errKilled) && ctx.Err() == nil
}

func (c *client) blob() oci.Descriptor { return c.cargo.blobs[c.random.IntN(len(c.cargo.blobs))] }

// errKilled: the process was killed while it answered.
var errKilled = errors.New("killed")

// get asks for the bytes [from, to), reads the first most of them and compares
// them. It returns how many were right. An error in a process that was not killed
// is an error.
func (c *client) get(ctx context.Context, kind, ref string, from, to, most int64) (int64, error) {
	l := c.stage.life(ctx)
	if l == nil {
		return 0, context.Cause(ctx)
	}
	got, err := c.ask(ctx, l, kind, ref, from, to, most)
	c.counts.bytes.Add(got)
	if err == nil && from == 0 && got == int64(len(c.cargo.content[ref])) {
		c.counts.complete.Add(1)
	} else {
		c.counts.partial.Add(1)
	}
	if err != nil && !errors.Is(err, errWrong) && l.killed.Load() {
		return got, errKilled
	}
	if err != nil {
		return got, fmt.Errorf("%s/%s [%d, %d) after %d bytes: %w", c.cargo.repository, ref, from, to, got, err)
	}
	return got, nil
}

// errWrong: an answer is not what it should be; no kill excuses it.
var errWrong = errors.New("wrong answer")

func (c *client) ask(ctx context.Context, l *life, kind, ref string, from, to, most int64) (int64, error) {
	content := c.cargo.content[ref]
	size := int64(len(content))
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, l.url+"/v2/"+c.cargo.repository+"/"+kind+"/"+ref, nil)
	if err != nil {
		return 0, err
	}
	req.Header.Set("Accept", strings.Join([]string{oci.MediaTypeImageIndex, oci.MediaTypeImageManifest}, ", "))
	want := http.StatusOK
	if from > 0 || to < size {
		want = http.StatusPartialContent
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", from, to-1))
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	digest := resp.Header.Get("Docker-Content-Digest")
	switch {
	case resp.StatusCode != want && l.killed.Load():
		return 0, errKilled
	case resp.StatusCode != want:
		body, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10)) // for the message
		return 0, fmt.Errorf("%w: %s: %s", errWrong, resp.Status, body)
	case resp.ContentLength != to-from:
		return 0, fmt.Errorf("%w: Content-Length %d", errWrong, resp.ContentLength)
	case digest != c.cargo.digest(ref):
		return 0, fmt.Errorf("%w: Docker-Content-Digest %s", errWrong, digest)
	case want == http.StatusPartialContent && resp.Header.Get("Content-Range") != fmt.Sprintf("bytes %d-%d/%d", from, to-1, size):
		return 0, fmt.Errorf("%w: Content-Range %s", errWrong, resp.Header.Get("Content-Range"))
	}
	return compare(resp.Body, content[from:from+most])
}

// compare reads what should be want and returns how much of it was.
func compare(r io.Reader, want []byte) (got int64, err error) {
	buf := make([]byte, 64<<10)
	for len(want) > 0 {
		n, err := r.Read(buf[:min(len(buf), len(want))])
		if !bytes.Equal(buf[:n], want[:n]) {
			return got, fmt.Errorf("%w: bytes differ from the content", errWrong)
		}
		got += int64(n)
		want = want[n:]
		if err != nil && len(want) > 0 {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return got, err
		}
	}
	return got, nil
}
