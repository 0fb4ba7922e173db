// Package store is the contract of content-addressed storage: complete blobs,
// found by digest, and partial ones that are still arriving.
//
// What is promised by every store: a blob that Open returns is complete and
// never changes while it is open, also when it is deleted meanwhile; a commit is
// all or nothing, also across a power cut; what was ingested before a crash is
// still there afterwards or is gone, and whoever continues it finds out which by
// [Ingest.Have].
//
// A store knows bytes and no names, and it does not hash: who commits has proven
// the digest, and who reads a partial blob knows that nothing is proven yet.
//
// The suite that every store passes is in package storetest.
package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"sampan/internal/oci"
)

// Errors that stores wrap.
var (
	// ErrNotFound: the store does not hold the digest.
	ErrNotFound = errors.New("not in the store")
	// ErrBusy: somebody else ingests the digest at this moment.
	ErrBusy = errors.New("digest is being ingested")
	// ErrUnwritable: the medium refuses writes: full, read-only or broken. What
	// was stored before can still be read.
	ErrUnwritable = errors.New("the store cannot be written")
	// ErrLocked: another process uses the store.
	ErrLocked = errors.New("another process uses this store")
	// ErrSize: the bytes ingested are not as many as the commit says.
	ErrSize = errors.New("size differs")
)

// A Store holds blobs by digest. Its methods may be called concurrently.
type Store interface {
	// Open opens a complete blob; ErrNotFound when there is none.
	Open(ctx context.Context, digest oci.Digest) (Blob, error)

	// Ingest starts or continues a partial blob. There is one Ingest of a digest
	// at a time; ErrBusy for a second one, ErrUnwritable when the medium refuses.
	Ingest(ctx context.Context, digest oci.Digest) (Ingest, error)

	// Delete forgets a complete blob. A digest that is not there is no error.
	Delete(ctx context.Context, digest oci.Digest) error
}

// A Blob reads stored bytes. One goroutine may use Read and Seek at a time.
type Blob interface {
	io.ReadSeekCloser
	io.ReaderAt

	// Size is the number of bytes when the blob was opened.
	Size() int64
}

// A FileBlob is a Blob that is a plain file, so that the kernel can send it.
type FileBlob interface {
	Blob

	// File shares its offset with the Blob and is closed by it.
	File() *os.File
}

// An Ingest is one partial blob that is being written, in any order. WriteAt,
// Have, Len, Expect and NewReader may be called by several goroutines at once.
// Write belongs to one of them. Reset, Commit, Keep and Discard are called when
// no write is running.
type Ingest interface {
	// Write appends at Len. It wraps ErrUnwritable when the medium refuses.
	io.Writer

	// WriteAt writes at an offset, behind a gap or into one. Writes that run at
	// the same time do not overlap. The first bytes of p, as many as it returns,
	// are there afterwards; it wraps ErrUnwritable when the medium refuses.
	io.WriterAt

	// Have returns the bytes that are there, those of earlier ingests included.
	// A write that is running is not in it.
	Have() Ranges

	// Len is the number of bytes in front of the first gap, Have().EndOf(0).
	Len() int64

	// NewReader reads what has been and what will be written; what it reads
	// elsewhere than in Have means nothing. Its Size is of the moment: where the
	// last byte ends, gaps or not. It stays valid after Commit, Keep and Discard.
	// NewReader itself works on after Commit, and fails with ErrNotFound after
	// Keep and Discard.
	NewReader() (Blob, error)

	// Expect tells the size that the blob will have, in bytes, so that room can
	// be made at once. It wraps ErrUnwritable when there cannot be enough.
	Expect(size int64) error

	// Reset forgets all bytes. Readers made before it see what comes after it.
	Reset() error

	// Commit makes the blob complete under its digest and ends the Ingest. Unless
	// the first size bytes are there, and no others, it fails with ErrSize. After
	// an error the Ingest is still open.
	Commit(ctx context.Context, size int64) error

	// Keep ends the Ingest and leaves its bytes for the next one, unless a failed
	// Commit has shown that the medium lost some. After Commit or Discard it does
	// nothing.
	Keep() error

	// Discard ends the Ingest and removes its bytes. After Commit or Keep it does
	// nothing.
	Discard() error
}

// Put stores b under digest, which b has been proven to match. A blob that is
// there already, or is being ingested by somebody else, is no error.
func Put(ctx context.Context, s Store, digest oci.Digest, b []byte) error {
	in, err := s.Ingest(ctx, digest)
	if errors.Is(err, ErrBusy) {
		return nil
	}
	if err != nil {
		return err
	}
	err = put(ctx, in, b)
	if err != nil {
		return errors.Join(err, in.Discard())
	}
	return nil
}

func put(ctx context.Context, in Ingest, b []byte) error {
	if err := in.Reset(); err != nil {
		return err
	}
	if _, err := in.Write(b); err != nil {
		return err
	}
	return in.Commit(ctx, int64(len(b)))
}

// An Opener opens complete blobs as a [Store] does.
type Opener interface {
	Open(ctx context.Context, digest oci.Digest) (Blob, error)
}

// ReadAll returns the bytes of a stored blob. A blob larger than limit (bytes)
// is an error.
func ReadAll(ctx context.Context, s Opener, digest oci.Digest, limit int64) ([]byte, error) {
	b, err := s.Open(ctx, digest)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	if b.Size() > limit {
		return nil, fmt.Errorf("%s has %d bytes, more than %d", digest, b.Size(), limit)
	}
	buf := make([]byte, b.Size())
	if _, err := io.ReadFull(b, buf); err != nil {
		return nil, fmt.Errorf("read %s: %w", digest, err)
	}
	return buf, nil
}
