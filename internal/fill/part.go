package fill

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"sampan/internal/oci"
	"sampan/internal/store"
)

// part fetches one claim.
func (f *flight) part(ctx context.Context, src Source, c *claim, open bool, buf []byte) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stall := time.AfterFunc(f.group.o.Stall, func() { cancel(errStalled) })
	defer stall.Stop()
	f.mu.Lock()
	from, to := c.at, c.to
	f.mu.Unlock()
	if open {
		to = -1
	}
	asked := time.Now()
	part, err := src.Parts.Part(ctx, from, to)
	if err != nil {
		return cause(ctx, err)
	}
	f.answered(time.Since(asked))
	defer part.Body.Close()
	over, err := f.opened(src, part, c)
	if err != nil {
		return err
	}
	judge := time.AfterFunc(young, f.judge)
	defer judge.Stop()
	b := &partBody{r: part.Body, buf: buf, alive: func() { stall.Reset(f.group.o.Stall) }}
	err = f.gather(b, newBatch(f, c, buf, cancel), over)
	switch {
	case err == nil, errors.Is(err, store.ErrUnwritable):
		return err
	case err != io.EOF:
		return f.broken(cause(ctx, err))
	}
	return f.finish(c)
}

// gather reads what the claim of a batch wants of a body, behind the first over
// bytes: nil when that is all, and otherwise why there is no more. All that was
// read has been passed on then.
func (f *flight) gather(b *partBody, in *batch, over int64) error {
	err := f.pass(b, over)
	for err == nil {
		want, over := f.room(in.c, int64(len(in.room())))
		switch {
		case want == 0:
			return in.flush()
		case over > 0:
			err = f.pass(b, over)
		default:
			err = f.take(b, in, want)
		}
	}
	return err
}

// take reads at most want bytes and passes them on.
func (f *flight) take(b *partBody, in *batch, want int64) error {
	n, err := b.read(in.room()[:want])
	if failed := in.add(n, err != nil); failed != nil {
		return failed
	}
	return err
}

// pass throws n bytes away: those of a source that honours no ranges, or that are
// here already.
func (f *flight) pass(b *partBody, n int64) error {
	for n > 0 {
		got, err := b.read(b.buf[:min(n, int64(len(b.buf)))])
		n -= int64(got)
		switch {
		case n <= 0 || err == nil:
		case err == io.EOF && !f.sized():
			return errBeyond
		case err == io.EOF:
			return io.ErrUnexpectedEOF
		default:
			return err
		}
	}
	return nil
}

// A partBody reads one answer.
type partBody struct {
	r     io.Reader
	buf   []byte // for what is thrown away
	alive func() // called for each byte that comes, at least
}

// read reads once.
func (b *partBody) read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if n > 0 {
		b.alive()
	}
	return n, err
}

// broken is the error of a body that did not come to its end: no fault of this
// mirror.
func (f *flight) broken(err error) error {
	err = fmt.Errorf("fill %s: %w", f.digest, err)
	if oci.CodeOf(err) != "" {
		return err
	}
	return &oci.Error{Code: oci.CodeUnavailable, Message: "the upstream broke off the blob " + f.digest.String(), Err: err}
}

// cause prefers why a context was ended to what came of it.
func cause(ctx context.Context, err error) error {
	if c := context.Cause(ctx); c != nil {
		return c
	}
	return err
}

// answered takes note of how long the first answer took.
func (f *flight) answered(took time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.answer == 0 {
		f.answer = max(took, 1)
	}
}

// judge looks again whether readers wait in vain.
func (f *flight) judge() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.poked()
}

// opened takes note of what the answer to a part tells. It returns how many bytes
// of the body come before those that are wanted.
func (f *flight) opened(src Source, part oci.BlobPart, c *claim) (over int64, err error) {
	// Before the size is settled: as soon as it is, readers wait at places of their
	// own, and no line must be added for them.
	f.mu.Lock()
	before := f.single
	f.single = before || part.Whole || part.From != c.at
	f.mu.Unlock()
	if err := f.agree(part.Size); err != nil {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.single = before
		return 0, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.senders[sender{src.Parts, part.Endpoint}] = true
	if part.From != c.at && f.lines > 1 {
		f.plan.drop(c)
		f.plan.extend() // the others go on to the end: they cannot come back
		return 0, errNoRanges
	}
	if part.From != c.at {
		over = f.plan.restart(c, part.From)
	}
	c.open(time.Now())
	return over, nil
}

// room is how many bytes, at most most, the claim still wants of its body, and how
// many it passes over before. A body that cannot be asked for again from
// elsewhere is read to the end, over what is here already.
func (f *flight) room(c *claim, most int64) (want, over int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if c.at == c.to && c.done == c.at && (f.plan.size < 0 || f.single && f.lines == 1) {
		over = f.plan.onward(c)
	}
	return min(most, c.to-c.at), over
}

// finish ends a body. When nobody told the size, what is here is all.
func (f *flight) finish(c *claim) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.plan.size < 0 && f.plan.have.End() > c.at:
		return errBeyond
	case f.plan.size < 0:
		f.settle(c.at)
		f.wakeAll()
	case c.at < c.to:
		return f.broken(io.ErrUnexpectedEOF)
	}
	return nil
}

// arrived takes n bytes that were read for a claim, or as many as are still its own,
// and tells whether these were its last. From here on nobody can take them away.
func (f *flight) arrived(c *claim, n int) (taken int, full bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	taken = int(max(0, min(int64(n), c.to-c.at)))
	c.at += int64(taken)
	return taken, c.at == c.to
}

// accept writes and hashes the next bytes of a claim, and lets readers have them.
func (f *flight) accept(c *claim, p []byte) error {
	f.mu.Lock()
	off := c.done
	f.mu.Unlock()
	f.group.metrics.bytes.Add(float64(len(p)))
	if _, err := f.ingest.WriteAt(p, off); err != nil {
		return err
	}
	f.proof.offer(p, off)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.received == 0 {
		f.group.metrics.firstByte.Observe(time.Since(f.began).Seconds())
	}
	c.done += int64(len(p))
	f.received += int64(len(p))
	f.plan.have.Add(off, off+int64(len(p)))
	if f.plan.have.EndOf(0) > f.proof.at.Load() {
		f.proof.notify()
	}
	for w := range f.plan.waiting {
		if w.off >= off && w.off < off+int64(len(p)) || f.plan.size < 0 {
			w.signal()
		}
	}
	return nil
}
