package layout

import (
	"context"
	"errors"
	"fmt"
	"io"

	"sampan/internal/oci"
)

// Part opens some bytes of a blob as they are stored, like [oci.BlobParts]. They are
// not proven: it is for who proves the whole blob himself, in which case proving it here
// would be reading it once more for each part.
func (l *Layout) Part(ctx context.Context, repo oci.Repository, digest oci.Digest, from, to int64) (oci.BlobPart, error) {
	if from < 0 || to >= 0 && to <= from {
		return oci.BlobPart{}, oci.Errorf(oci.CodeRangeInvalid, "from %d to %d is no part of a blob", from, to)
	}
	_, c, err := l.content(ctx, repo, digest)
	if err != nil {
		return oci.BlobPart{}, err
	}
	if from > 0 && from >= c.Size {
		err := oci.Errorf(oci.CodeRangeInvalid, "blob %s has only %d bytes", digest, c.Size)
		return oci.BlobPart{}, errors.Join(err, c.close())
	}
	end := c.Size
	if to >= 0 {
		end = min(end, to)
	}
	body := &part{ctx: ctx, digest: digest, content: c, at: from, end: end}
	return oci.BlobPart{Body: body, Size: c.Size, From: from, Vouched: true}, nil
}

// A part reads content up to an end.
type part struct {
	ctx     context.Context // bounds its whole life
	digest  oci.Digest
	content Content
	at, end int64
}

// Read implements [io.Reader].
func (p *part) Read(b []byte) (int, error) {
	if err := p.ctx.Err(); err != nil {
		return 0, err
	}
	if p.at >= p.end {
		return 0, io.EOF
	}
	n, err := p.content.ReadAt(b[:min(int64(len(b)), p.end-p.at)], p.at)
	p.at += int64(n)
	switch {
	case n > 0 || err == nil:
		return n, nil
	case errors.Is(err, io.EOF):
		err = io.ErrUnexpectedEOF
	}
	return 0, fmt.Errorf("blob %s at %d: %w", p.digest, p.at, err)
}

// Close implements [io.Closer].
func (p *part) Close() error { return p.content.close() }
