package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"

	"sampan/internal/oci"
	"sampan/internal/progress"
)

// A source opens one blob, for a writer that may begin anew.
type source struct {
	c     *copier
	parts oci.BlobParts
	size  int64 // -1 when unknown
	line  progress.Line

	opened bool
	at     int64 // how far the line has been told
	failed error // why the source cannot be read; nil while it can
}

// open is an [Open].
func (s *source) open(ctx context.Context, offset int64) (io.ReadCloser, error) {
	if offset < 0 || s.size >= 0 && offset > s.size {
		return nil, fmt.Errorf("offset %d is not in a blob of %d bytes", offset, s.size)
	}
	s.opened = true
	s.line.Add(offset - s.at)
	s.at = offset
	b := &steadyBody{s: s, ctx: ctx, at: offset}
	if err := b.connect(); err != nil {
		return nil, err
	}
	return b, nil
}

// A steadyBody reads a blob to its end, and reads on where the source breaks off.
type steadyBody struct {
	s    *source
	ctx  context.Context // of who opened it
	body io.ReadCloser   // nil while there is none
	at   int64           // offset of the next byte
	bad  int             // failures without a byte between them
}

// connect opens the source at the offset, again and again for as long as that is
// allowed.
func (b *steadyBody) connect() error {
	if b.s.size >= 0 && b.at == b.s.size && b.at > 0 {
		return nil
	}
	for {
		part, err := b.s.parts.Part(b.ctx, b.at, -1)
		if err == nil {
			err = b.begin(part)
		}
		if err == nil {
			return nil
		}
		if err = b.pause(err); err != nil {
			return err
		}
	}
}

// begin takes a part, and throws away what is before the offset.
func (b *steadyBody) begin(part oci.BlobPart) error {
	if part.Size >= 0 && b.s.size >= 0 && part.Size != b.s.size {
		_ = part.Body.Close() // it was only read
		return oci.Errorf(oci.CodeSizeInvalid, "the source has %d bytes of a blob for which the manifest says %d", part.Size, b.s.size)
	}
	if part.From < b.at {
		if _, err := io.CopyN(io.Discard, part.Body, b.at-part.From); err != nil {
			_ = part.Body.Close() // it was only read
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
	}
	b.body = part.Body
	return nil
}

// pause waits before the source is asked again, or says why it is not.
func (b *steadyBody) pause(err error) error {
	b.bad++
	if ctxErr := b.ctx.Err(); ctxErr != nil {
		return ctxErr
	}
	if !oci.IsAnswer(err) {
		if err = b.s.c.o.Pause(b.ctx, b.bad, err); err == nil {
			return nil
		}
	}
	b.s.failed = err
	return err
}

// Read implements [io.Reader].
func (b *steadyBody) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for {
		if b.s.size >= 0 && b.at >= b.s.size {
			return 0, io.EOF
		}
		if b.body == nil {
			if err := b.connect(); err != nil {
				return 0, err
			}
		}
		if b.s.size >= 0 {
			p = p[:min(int64(len(p)), b.s.size-b.at)]
		}
		n, err := b.body.Read(p)
		if n > 0 {
			b.moved(n)
			return n, nil // an error comes again, without bytes
		}
		if err == nil {
			continue
		}
		b.drop()
		if errors.Is(err, io.EOF) {
			if b.s.size < 0 {
				return 0, io.EOF
			}
			err = io.ErrUnexpectedEOF
		}
		if err := b.pause(err); err != nil {
			return 0, err
		}
	}
}

func (b *steadyBody) moved(n int) {
	b.at += int64(n)
	b.bad = 0
	b.s.line.Add(int64(n))
	b.s.at = b.at
}

func (b *steadyBody) drop() {
	if b.body != nil {
		_ = b.body.Close() // it was only read
		b.body = nil
	}
}

// Close implements [io.Closer].
func (b *steadyBody) Close() error {
	b.drop()
	return nil
}
