package fill

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash"
	"io"

	"sampan/internal/oci"
	"sampan/internal/store"
)

// throughReader reads a blob past the store, for one reader: the store cannot be
// written. The whole is fetched from its beginning, so that it can be proven.
//
// What the reader has been given of a fetch that ended before it was proven is in
// former, at the places that given says: the proof covers it only if it is the
// same.
func (g *Group) throughReader(ctx context.Context, digest oci.Digest, src Source, off int64, former io.ReaderAt, given store.Ranges) (oci.BlobReader, error) {
	g.o.Log.Warn("store cannot be written, streaming past it", "digest", digest)
	return g.stream(&through{ctx: ctx, digest: digest, src: src, off: off, former: former, given: given})
}

// Through reads the blob from src alone, past the store and past the fetch that
// runs, for one reader: what others have fetched is not for it. The reader is
// proven as any other, and nothing is kept.
func (g *Group) Through(ctx context.Context, digest oci.Digest, src Source) (oci.BlobReader, error) {
	return g.stream(&through{ctx: ctx, digest: digest, src: src})
}

func (g *Group) stream(t *through) (oci.BlobReader, error) {
	g.metrics.direct.Inc()
	t.g = g
	if err := t.start(); err != nil {
		return nil, err
	}
	return t, nil
}

// A through hashes what it reads and keeps the last bytes back until the digest
// is proven.
type through struct {
	ctx    context.Context // of the request that reads
	g      *Group
	digest oci.Digest
	src    Source

	former io.ReaderAt  // unproven bytes
	given  store.Ranges // which of them the reader has

	r    *steady
	h    hash.Hash
	size int64
	at   int64  // bytes read from r and hashed
	tail []byte // the last maxTail bytes, read and hashed and not yet given
	off  int64  // the reader's offset
}

// start opens the source at its beginning.
func (t *through) start() error {
	r := newSteady(t.ctx, t.g, t.src, t.digest)
	if err := r.open(); err != nil {
		return errors.Join(err, r.Close())
	}
	size := r.size
	if size < 0 {
		return errors.Join(oci.Errorf(oci.CodeUnavailable, "%s: the upstream does not tell the size, and the store cannot be written", t.digest), r.Close())
	}
	t.r, t.size, t.h, t.at, t.tail = r, size, t.digest.Hash(), 0, nil
	if size == 0 && !t.digest.Matches(t.h) { // there is no last byte to keep back
		return errors.Join(oci.Errorf(oci.CodeUnavailable, "%s: %w", t.digest, ErrMismatch), r.Close())
	}
	return nil
}

// Descriptor implements [oci.BlobReader].
func (t *through) Descriptor() oci.Descriptor {
	return oci.Descriptor{Digest: t.digest, Size: t.size}
}

// Close implements [io.Closer].
func (t *through) Close() error { return t.r.Close() }

// Seek implements [io.Seeker].
func (t *through) Seek(offset int64, whence int) (int64, error) {
	off, err := seek(t.off, t.size, offset, whence)
	if err != nil {
		return 0, err
	}
	t.off = off
	return off, nil
}

// held is where the bytes begin that wait for the proof.
func (t *through) held() int64 { return max(0, t.size-maxTail) }

// Read implements [io.Reader].
func (t *through) Read(p []byte) (int, error) {
	if t.off >= t.size {
		return 0, io.EOF
	}
	if t.off < t.held() {
		return t.readOpen(p)
	}
	if err := t.prove(); err != nil {
		return 0, err
	}
	n := copy(p, t.tail[t.off-t.held():])
	t.off += int64(n)
	return n, nil
}

// readOpen reads bytes that need no proof yet.
func (t *through) readOpen(p []byte) (int, error) {
	if t.off < t.at { // behind what was read: begin again
		size := t.size
		if err := t.r.Close(); err != nil {
			return 0, err
		}
		if err := t.start(); err != nil {
			return 0, err
		}
		if t.size != size {
			return 0, oci.Errorf(oci.CodeUnavailable, "%s: %w", t.digest, ErrMismatch)
		}
	}
	if err := t.skip(t.off); err != nil {
		return 0, err
	}
	n, err := t.r.Read(p[:min(int64(len(p)), t.held()-t.off)])
	if _, err := t.Write(p[:n]); err != nil {
		return 0, err
	}
	t.off += int64(n)
	return n, unexpected(err)
}

// Write takes the next bytes of the source: it hashes them and holds them
// against those that were given before.
func (t *through) Write(p []byte) (int, error) {
	for x := range t.given.All() {
		from, to := max(x.From, t.at), min(x.To, t.at+int64(len(p)))
		if from >= to {
			continue
		}
		before := make([]byte, to-from)
		if _, err := t.former.ReadAt(before, from); err != nil {
			return 0, fmt.Errorf("stream %s: %w", t.digest, unexpected(err))
		}
		if !bytes.Equal(before, p[from-t.at:to-t.at]) {
			return 0, oci.Errorf(oci.CodeUnavailable, "%s: %w", t.digest, ErrMismatch)
		}
	}
	t.h.Write(p)
	t.at += int64(len(p))
	return len(p), nil
}

// skip reads and hashes up to the offset.
func (t *through) skip(to int64) error {
	if _, err := io.CopyN(t, t.r, to-t.at); err != nil {
		return fmt.Errorf("stream %s: %w", t.digest, unexpected(err))
	}
	return nil
}

// prove reads the tail and holds the digest against all.
func (t *through) prove() error {
	if t.tail != nil {
		return nil
	}
	if t.at < t.held() {
		if err := t.skip(t.held()); err != nil {
			return err
		}
	}
	tail := make([]byte, t.size-t.held())
	if _, err := io.ReadFull(t.r, tail); err != nil {
		return fmt.Errorf("stream %s: %w", t.digest, unexpected(err))
	}
	if _, err := t.Write(tail); err != nil {
		return err
	}
	if !t.digest.Matches(t.h) {
		return oci.Errorf(oci.CodeUnavailable, "%s: %w", t.digest, ErrMismatch)
	}
	t.tail = tail
	return nil
}

// unexpected: the end of the source is never the end of what was promised.
func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
