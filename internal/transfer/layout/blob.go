package layout

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"

	"sampan/internal/oci"
)

// A blob reads content and proves it on the way: whoever reads from the beginning to
// the end pays for one pass, whoever jumps pays for one more at the end.
type blob struct {
	ctx        context.Context // bounds its whole life
	descriptor oci.Descriptor
	content    Content
	pos        int64

	hash   hash.Hash
	hashed int64 // how much of the beginning hash has seen, bytes
	proven bool
}

// Descriptor implements [oci.BlobReader].
func (b *blob) Descriptor() oci.Descriptor { return b.descriptor }

// Read implements [io.Reader].
func (b *blob) Read(p []byte) (int, error) {
	if err := b.ctx.Err(); err != nil {
		return 0, err
	}
	left := b.descriptor.Size - b.pos
	if left <= 0 {
		if err := b.prove(); err != nil {
			return 0, err
		}
		return 0, io.EOF
	}
	if len(p) == 0 {
		return 0, nil
	}
	p = p[:min(int64(len(p)), left)]
	n, err := b.content.ReadAt(p, b.pos)
	if n == 0 {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return 0, fmt.Errorf("blob %s at %d: %w", b.descriptor.Digest, b.pos, err)
	}
	end := b.pos + int64(n)
	if b.pos <= b.hashed && end > b.hashed {
		_, _ = b.hash.Write(p[b.hashed-b.pos : n]) // a hash does not fail
		b.hashed = end
	}
	if end == b.descriptor.Size {
		if err := b.prove(); err != nil {
			return 0, err
		}
	}
	b.pos = end
	return n, nil
}

// prove looks at all of the blob that nobody has read.
func (b *blob) prove() error {
	if b.proven {
		return nil
	}
	if rest := b.descriptor.Size - b.hashed; rest > 0 {
		n, err := io.Copy(b.hash, io.NewSectionReader(b.content, b.hashed, rest))
		b.hashed += n
		if err == nil && n < rest {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return fmt.Errorf("blob %s: %w", b.descriptor.Digest, err)
		}
	}
	if !b.descriptor.Digest.Matches(b.hash) {
		return oci.Errorf(oci.CodeDigestInvalid, "what is stored as the blob %s is something else", b.descriptor.Digest)
	}
	b.proven = true
	return nil
}

// Seek implements [io.Seeker].
func (b *blob) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekStart:
	case io.SeekCurrent:
		offset += b.pos
	case io.SeekEnd:
		offset += b.descriptor.Size
	default:
		return 0, fmt.Errorf("blob %s: no such whence: %d", b.descriptor.Digest, whence)
	}
	if offset < 0 {
		return 0, fmt.Errorf("blob %s: offset %d is before the beginning", b.descriptor.Digest, offset)
	}
	b.pos = offset
	return offset, nil
}

// Close implements [io.Closer].
func (b *blob) Close() error { return b.content.close() }
