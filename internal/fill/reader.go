package fill

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"sampan/internal/oci"
	"sampan/internal/store"
)

// open waits until the size is known and makes a reader. Of an empty blob there
// is no last byte to keep back: it is opened when it is proven. errGone: the
// flight has ended, and the caller looks again.
func (f *flight) open(ctx context.Context, own *offer) (oci.BlobReader, error) {
	err := f.await(ctx, 0, func() bool { return f.plan.size > 0 || f.plan.size == 0 && f.proven })
	if past(err) || errors.Is(err, store.ErrBusy) {
		return f.group.throughReader(ctx, f.digest, own.Source, 0, nil, store.Ranges{})
	}
	f.mu.Lock()
	ingest, size, refused := f.ingest, f.plan.size, own.err
	f.mu.Unlock()
	switch {
	case err != nil && refused != nil && ctx.Err() == nil:
		return nil, refused // not what was said to somebody else
	case err != nil:
		return nil, err
	}
	b, err := ingest.NewReader()
	if errors.Is(err, store.ErrNotFound) {
		return nil, errGone
	}
	if err != nil {
		f.group.o.Log.Warn("partial blob cannot be read", "digest", f.digest, "err", err)
		return f.group.throughReader(ctx, f.digest, own.Source, 0, nil, store.Ranges{})
	}
	f.mu.Lock()
	f.readers++
	f.mu.Unlock()
	return &reader{f: f, ctx: ctx, src: own.Source, b: b, size: size}, nil
}

func (w *waiter) signal() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// await returns when cond holds, which is called with the lock held. It fails
// when the flight ends before, or ctx is done. Meanwhile it counts as waiting for
// the byte at off.
func (f *flight) await(ctx context.Context, off int64, cond func() bool) error {
	w := &waiter{off: off, since: time.Now(), wake: make(chan struct{}, 1)}
	f.mu.Lock()
	defer f.mu.Unlock()
	for {
		switch {
		case cond():
			return nil
		case f.ended && f.err == nil: // proven, and shorter than the upstream had told
			return io.ErrUnexpectedEOF
		case f.ended:
			return f.err
		}
		f.plan.waiting[w] = true
		if f.plan.vain(time.Now(), w) {
			f.poked()
		}
		f.mu.Unlock()
		var left error
		select {
		case <-w.wake:
		case <-ctx.Done():
			left = context.Cause(ctx)
		}
		f.mu.Lock()
		delete(f.plan.waiting, w)
		if left != nil {
			return left
		}
	}
}

// grant is how many of the want bytes at off a reader may have now. What it
// grants counts as served. The caller holds mu.
func (f *flight) grant(off, want int64) int64 {
	if f.lost {
		return 0
	}
	limit := f.plan.have.EndOf(off)
	if limit > off && !f.proven {
		if f.hole.From <= off && off < f.hole.To && !f.moveHole(f.hole.From, max(f.hole.To, off+want)) {
			return 0
		}
		if off < f.hole.From {
			limit = min(limit, f.hole.From)
		}
	}
	n := min(want, limit-off, f.plan.size-off)
	if n > 0 {
		f.granted = true
		f.served.Add(off, off+n)
	}
	return max(n, 0)
}

// moveHole keeps other bytes back than those from from to to, because a reader
// wants some of these who is far ahead of all others: bytes that nobody has had, so
// that still nobody can have all. It tells whether there are such bytes.
func (f *flight) moveHole(from, to int64) bool {
	var found store.Range
	for at := int64(0); ; {
		gap, ok := f.served.NextGap(at, f.plan.size)
		if !ok {
			break
		}
		at = gap.To
		for _, free := range []store.Range{
			{From: gap.From, To: min(gap.To, from)},
			{From: max(gap.From, to), To: gap.To},
		} {
			// The last one before the reader will be needed last.
			if free.From < free.To && (free.To <= from || found.To == 0) {
				found = free
			}
		}
	}
	if found.To == 0 {
		return false
	}
	f.hole = store.Range{From: max(found.From, found.To-maxTail), To: found.To}
	return true
}

// A reader follows a flight through its partial file. When the store fails in
// mid-flight it goes on with a fetch of its own.
type reader struct {
	f    *flight
	ctx  context.Context // of the request that reads; a BlobReader lives as long
	src  Source
	b    store.Blob
	size int64
	off  int64

	given store.Ranges   // what the caller has of the flight
	own   oci.BlobReader // nil unless the store failed
}

// Descriptor implements [oci.BlobReader].
func (r *reader) Descriptor() oci.Descriptor {
	return oci.Descriptor{Digest: r.f.digest, Size: r.size}
}

// Seek implements [io.Seeker].
func (r *reader) Seek(offset int64, whence int) (int64, error) {
	off, err := seek(r.off, r.size, offset, whence)
	if err != nil {
		return 0, err
	}
	r.off = off
	return off, nil
}

// Close implements [io.Closer].
func (r *reader) Close() error {
	r.f.mu.Lock()
	r.f.readers--
	r.f.mu.Unlock()
	err := r.b.Close()
	if r.own != nil {
		err = errors.Join(err, r.own.Close())
	}
	return err
}

// Read implements [io.Reader].
func (r *reader) Read(p []byte) (int, error) {
	if r.off >= r.size {
		return 0, io.EOF
	}
	if len(p) == 0 {
		return 0, nil
	}
	n, err := r.available(int64(len(p)))
	if err != nil {
		return 0, err
	}
	if r.own != nil {
		got, err := r.own.Read(p)
		r.off += int64(got)
		return got, err
	}
	got, err := r.b.ReadAt(p[:n], r.off)
	r.advance(int64(got))
	if err != nil {
		err = r.goOn(fmt.Errorf("fill %s: %w: %w", r.f.digest, errUnreadable, err))
	}
	return got, err
}

// goOn continues past the store when the flight is of no use any more because of
// err.
func (r *reader) goOn(err error) error {
	if !past(err) {
		return err
	}
	r.f.group.o.Log.Warn("fetch is left", "digest", r.f.digest, "err", err)
	r.own, err = r.f.group.throughReader(r.ctx, r.f.digest, r.src, r.off, r.b, r.given)
	return err
}

// advance notes that the caller has got n more bytes of the flight. Those that
// another reader has had are saved: they did not have to cross again.
func (r *reader) advance(n int64) {
	r.given.Add(r.off, r.off+n)
	f := r.f
	f.mu.Lock()
	before := f.given.Total()
	f.given.Add(r.off, r.off+n)
	saved := n - (f.given.Total() - before)
	f.mu.Unlock()
	f.group.metrics.saved.Add(float64(saved))
	r.off += n
}

// available waits for bytes at the reader's offset and returns how many of want
// there are, at least one. When the reader is on its own it does not wait.
func (r *reader) available(want int64) (int64, error) {
	if r.own != nil {
		return want, r.follow()
	}
	var n int64
	err := r.f.await(r.ctx, r.off, func() bool {
		n = r.f.grant(r.off, min(want, r.size-r.off))
		return n > 0
	})
	if past(err) {
		return want, r.goOn(err)
	}
	return n, err
}

// follow moves the reader's own fetch to its offset.
func (r *reader) follow() error {
	_, err := r.own.Seek(r.off, io.SeekStart)
	return err
}

// WriteSectionTo writes the next n bytes to w as they arrive, through the kernel
// where w and the store allow it. It returns how many were written.
func (r *reader) WriteSectionTo(w io.Writer, n int64) (int64, error) {
	var file *os.File
	if fb, ok := r.b.(store.FileBlob); ok {
		file = fb.File()
	}
	n = min(n, r.size-r.off)
	var done int64
	for done < n {
		have, err := r.available(n - done)
		if err != nil {
			return done, err
		}
		var src io.Reader = r
		if r.own == nil && file != nil {
			if _, err := file.Seek(r.off, io.SeekStart); err != nil {
				return done, fmt.Errorf("fill %s: %w", r.f.digest, err)
			}
			src = file
		}
		got, err := io.CopyN(w, src, have)
		done += got
		if src != r {
			r.advance(got)
		}
		if src != r && errors.Is(err, syscall.EIO) { // of the file: a connection has other errors
			err = r.goOn(fmt.Errorf("%w: %w", errUnreadable, err))
		}
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// seek is the arithmetic of [io.Seeker] on size bytes.
func seek(now, size, offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += now
	case io.SeekEnd:
		offset += size
	}
	if offset < 0 {
		return 0, fmt.Errorf("seek to %d: negative position", offset)
	}
	return offset, nil
}

// A StoredReader is a complete blob of a store as an [oci.BlobReader].
type StoredReader struct {
	store.Blob
	desc oci.Descriptor
}

// Stored makes a StoredReader, which closes b.
func Stored(b store.Blob, desc oci.Descriptor) *StoredReader { return &StoredReader{b, desc} }

// Descriptor implements [oci.BlobReader].
func (r *StoredReader) Descriptor() oci.Descriptor { return r.desc }

// File returns the file that the blob is, positioned where the reader is, or
// nil.
func (r *StoredReader) File() *os.File {
	if fb, ok := r.Blob.(store.FileBlob); ok {
		return fb.File()
	}
	return nil
}
