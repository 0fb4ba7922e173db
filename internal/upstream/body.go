package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"time"

	"sampan/internal/oci"
	"sampan/internal/upstream/failure"
)

var errBodyClosed = errors.New("upstream: read of a closed blob")

// A partBody reads one part of a blob from an answer, which must keep moving.
type partBody struct {
	registry *Registry
	ctx      context.Context // of who asked for the part; bounds the answer's life
	reply    *reply          // nil after the end, a failure, and Close
	digest   oci.Digest
	at       int64 // offset in the blob of the next byte
	end      int64 // offset at which the part ends; -1 while unknown
	stop     int64 // offset at which the answer ends; -1 while unknown
	told     bool  // the blob's size is known: an end before end is a break

	watch *watch // told how it goes
	timer *time.Timer
	stall time.Duration // for how long it may stand still; set with timer
	err   error         // of every Read after the answer has gone
}

// Read implements [io.Reader].
func (b *partBody) Read(p []byte) (int, error) {
	switch {
	case b.err != nil:
		return 0, b.err
	case b.end >= 0 && b.at >= b.end:
		b.release(io.EOF)
		return 0, io.EOF
	case len(p) == 0:
		return 0, nil
	}
	if b.end >= 0 {
		p = p[:min(int64(len(p)), b.end-b.at)]
	}
	n, err := b.receive(p)
	b.at += int64(n)
	b.registry.metrics.received(kindBlob, n)
	switch {
	case b.end >= 0 && b.at >= b.end:
		err = io.EOF
	case err == nil && !b.watch.slow(b.end-b.at):
		return n, nil
	case err == nil:
		err = b.registry.broken(b.ctx, b.reply.url, errSlower)
	case errors.Is(err, io.EOF) && !b.told:
	default:
		err = b.broken(err)
	}
	b.release(err)
	return n, err
}

// receive reads once, for not longer than the body may stand still.
func (b *partBody) receive(p []byte) (int, error) {
	if b.timer == nil {
		rep := b.reply
		b.stall = b.registry.stallOf(rep.url)
		b.timer = time.AfterFunc(b.stall, func() { rep.cancel(errStalled) })
	} else {
		b.timer.Reset(b.stall)
	}
	began := time.Now()
	n, err := b.reply.Body.Read(p)
	b.timer.Stop()
	b.watch.received(n, time.Since(began))
	return n, err
}

// stallOf is how long the bytes of a blob from u may stand still.
func (r *Registry) stallOf(u *url.URL) time.Duration {
	if t, ok := r.transport.(*Transport); ok {
		return orDefault(t.stall(u), r.stallTimeout)
	}
	return r.stallTimeout
}

// broken is the error of a body that failed or ended before its part did.
func (b *partBody) broken(err error) error {
	r := b.registry
	if ctxErr := b.ctx.Err(); ctxErr != nil {
		return fmt.Errorf("upstream %s: %w", r.registry, ctxErr)
	}
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		err = &failure.Facts{
			Kind: failure.BrokenOff, Registry: r.registry, Host: b.reply.url.Host,
			Err: fmt.Errorf("upstream %s: blob %s broke off at %d bytes: %w", r.registry, b.digest, b.at, io.ErrUnexpectedEOF),
		}
	case errors.Is(context.Cause(b.reply.ctx), errStalled):
		err = r.broken(b.ctx, b.reply.url, errStalled)
	default:
		err = r.broken(b.ctx, b.reply.url, err)
	}
	b.watch.broke(err, b.reply.moved)
	return err
}

// Close implements [io.Closer].
func (b *partBody) Close() error {
	b.release(errBodyClosed)
	return nil
}

// release gives the answer back. What little is left of it is read, for the
// connection's sake.
func (b *partBody) release(err error) {
	if b.reply == nil {
		return
	}
	if b.timer != nil {
		b.timer.Stop()
	}
	healthy := errors.Is(err, io.EOF) || errors.Is(err, errBodyClosed)
	if healthy && b.stop >= 0 && b.stop-b.at <= drainBytes {
		b.reply.close()
	} else {
		b.reply.cut()
	}
	b.reply, b.err = nil, err
	b.watch.ended(errors.Is(err, io.EOF))
}
