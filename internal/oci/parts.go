package oci

import (
	"context"
	"errors"
	"fmt"
	"io"
)

// A BlobFetcher is a Reader that can fetch parts of one blob, several at a time,
// at the cost of one request each: what was learned for one part (a token, where
// a redirect led) serves the others.
type BlobFetcher interface {
	// FetchBlob asks nobody; whether the blob is there, its parts tell.
	FetchBlob(repo Repository, digest Digest) BlobParts
}

// BlobParts fetches parts of one blob. It may be used concurrently, holds no
// resources and is not closed.
type BlobParts interface {
	// Part opens the bytes from from up to, not including, to; to < 0 means to
	// the end. The caller closes the Body; ctx bounds its whole life.
	//
	// It fails like [Reader.Blob], and with RANGE_INVALID for a part that is
	// empty or begins at or behind the end. The one part of an empty blob is
	// that from 0 to the end.
	Part(ctx context.Context, from, to int64) (BlobPart, error)
}

// A BlobPart is the bytes asked for, as they come; not verified.
type BlobPart struct {
	// Body ends with [io.EOF] at the offset asked for or at the end of the blob,
	// whichever is first, and with another error when it breaks or ends before;
	// while Size is unknown, an end before the offset asked for is taken for that
	// of the blob. Only one goroutine may use it at a time; the end of the
	// context interrupts a Read.
	Body io.ReadCloser
	// Size is that of the whole blob in bytes; -1 when it was not told.
	Size int64
	// From is where Body begins: the offset asked for or, where the source
	// ignores ranges, 0.
	From int64
	// Whole tells that the source is known to ignore ranges: any part of it
	// costs all that is before its end.
	Whole bool
	// Endpoint names who sends, for logs and blame; empty when there is only one
	// way.
	Endpoint string
	// Vouched tells that the sender answers for the repository as well, so that
	// this answer confirms that the repository holds the blob. Without it, the
	// sender only has the bytes.
	Vouched bool
}

// A BlobAvoider is a BlobParts that has several endpoints to choose from.
type BlobAvoider interface {
	// Avoid says that what an endpoint sent did not match the digest. Later
	// parts come from it only when nobody else sends them, and what it said
	// about the size is forgotten. A name that is not known changes nothing.
	Avoid(endpoint string)
}

// PartsOf fetches parts of a blob by the cheapest way that a reader has: its own
// when it is a [BlobFetcher], or else by opening the blob for each part.
func PartsOf(reader Reader, repo Repository, digest Digest) BlobParts {
	if f, ok := reader.(BlobFetcher); ok {
		return f.FetchBlob(repo, digest)
	}
	return openedParts{reader, repo, digest}
}

// openedParts are parts of what [Reader.Blob] opens.
type openedParts struct {
	reader Reader
	repo   Repository
	digest Digest
}

// Part implements [BlobParts].
func (p openedParts) Part(ctx context.Context, from, to int64) (BlobPart, error) {
	if from < 0 || to >= 0 && to <= from {
		return BlobPart{}, Errorf(CodeRangeInvalid, "from %d to %d is no part of a blob", from, to)
	}
	b, err := p.reader.Blob(ctx, p.repo, p.digest)
	if err != nil {
		return BlobPart{}, err
	}
	size := b.Descriptor().Size
	if size >= 0 && from > 0 && from >= size {
		err = Errorf(CodeRangeInvalid, "blob %s has only %d bytes", p.digest, size)
		return BlobPart{}, errors.Join(err, b.Close())
	}
	if _, err := b.Seek(from, io.SeekStart); err != nil {
		return BlobPart{}, errors.Join(fmt.Errorf("blob %s at %d: %w", p.digest, from, err), b.Close())
	}
	left := int64(-1)
	switch {
	case to < 0 && size >= 0:
		left = size - from
	case to >= 0 && size >= 0:
		left = min(to, size) - from
	case to >= 0:
		left = to - from
	}
	return BlobPart{Body: &openedPart{blob: b, left: left, told: size >= 0}, Size: size, From: from, Vouched: true}, nil
}

// An openedPart ends where its part does.
type openedPart struct {
	blob BlobReader
	left int64 // bytes until the end of the part; -1 while the end is not known
	told bool  // the size is known: an end before that of the part is a break
}

// Read implements [io.Reader].
func (p *openedPart) Read(b []byte) (int, error) {
	if p.left == 0 {
		return 0, io.EOF
	}
	if p.left > 0 {
		b = b[:min(int64(len(b)), p.left)]
	}
	n, err := p.blob.Read(b)
	if p.left > 0 {
		p.left -= int64(n)
	}
	if errors.Is(err, io.EOF) && p.told && p.left > 0 {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// Close implements [io.Closer].
func (p *openedPart) Close() error { return p.blob.Close() }
