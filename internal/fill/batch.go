package fill

import (
	"context"
	"math"
	"sync"
	"time"
)

// gatherTime is how long bytes wait for more that come with them.
const gatherTime = 2 * time.Millisecond

// A batch gathers the bytes of one part, however small the pieces are in which they
// come: those of TLS are 16 KiB at most. It passes them on as a piece when they
// reach a multiple of chunk in the blob, when the part or its body ends, and at
// the latest after gatherTime, also while the source is silent. The first
// ones are passed on at once. A file system takes large pieces at even offsets for
// half of the CPU time that it needs for small ones at odd offsets.
//
// Bytes in it are the claim's: nobody can take them away.
type batch struct {
	f   *flight
	c   *claim
	buf []byte // of chunk bytes; a byte's place in it is its offset modulo chunk

	quit  context.CancelCauseFunc // ends the body
	timer *time.Timer

	mu       sync.Mutex // held while bytes are passed on; before flight.mu
	from, to int        // in buf: what waits
	begun    bool       // something was passed on
	err      error      // of passing on; nothing is passed on after it
}

// newBatch makes one for a claim. It calls quit when bytes cannot be passed on
// while the source is waited for.
func newBatch(f *flight, c *claim, buf []byte, quit context.CancelCauseFunc) *batch {
	b := &batch{f: f, c: c, buf: buf, quit: quit}
	// A time that never comes: late needs the timer, and would run before it is there
	// where this goroutine has to wait for a processor.
	b.timer = time.AfterFunc(math.MaxInt64, b.late)
	b.timer.Stop()
	return b
}

// late passes on what has waited long enough.
func (b *batch) late() {
	if err := b.flush(); err != nil {
		b.quit(err)
	}
}

// room is where the next bytes go, as many as still fit.
func (b *batch) room() []byte { return b.buf[b.c.at%chunk:] }

// add takes the first n bytes of room, which were read into it. Last: no more are
// waited for.
func (b *batch) add(n int, last bool) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	place := int(b.c.at % chunk)
	n, full := b.f.arrived(b.c, n)
	waited := b.from < b.to
	if !waited {
		b.from = place
	}
	b.to = place + n
	if last || full || !b.begun || b.to == len(b.buf) {
		return b.pass()
	}
	if !waited {
		b.timer.Reset(gatherTime)
	}
	return b.err
}

// flush passes on what waits. The error is that of any pass before, too.
func (b *batch) flush() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.pass()
}

// pass is flush; the caller holds mu.
func (b *batch) pass() error {
	b.timer.Stop()
	if b.err == nil && b.from < b.to {
		b.err = b.f.accept(b.c, b.buf[b.from:b.to])
		b.begun = true
	}
	b.from = b.to
	return b.err
}
