// Package refs is the contract of the index of names: per repository, which tag
// points where and when that was last confirmed, which digests belong to it, and
// the last answers to questions that are lists.
//
// What is promised by every index: a write is visible to every read that begins
// after it; it becomes durable soon after, or when Flush returns; a crash loses
// at most what was not flushed and never leaves half a record. A record that
// cannot be read any more is not there: it is reported and asked for again
// upstream, never guessed.
//
// An index knows names and no bytes: a link says that a repository names a
// digest, not that the bytes are here. Whether naming it suffices to serve it
// depends on where its bytes came from: what is marked private is served only by
// repositories that hold it. The suite that every index passes is in
// package refstest; the embedded form is package refs/bolt.
package refs

import (
	"context"
	"errors"
	"time"

	"sampan/internal/oci"
)

// Errors that indexes wrap.
var (
	// ErrNotFound: the index has no such record.
	ErrNotFound = errors.New("not in the index")
	// ErrDamaged: the index as a whole cannot be trusted.
	ErrDamaged = errors.New("the index is damaged")
)

// A TagEntry says where a tag pointed when it was last asked for.
type TagEntry struct {
	// Manifest has media type, digest and size.
	Manifest oci.Descriptor
	// Checked is when an upstream last confirmed it.
	Checked time.Time
}

// A ListEntry is the last answer to a question that is a list.
type ListEntry struct {
	Body    []byte
	Checked time.Time
}

// Index is the contract. Its methods may be called concurrently. Writes fail
// only when the context is done or the index is closed: an index whose medium
// refuses keeps what is written in memory, up to a bound, reports it, and tries
// again. What it has to forget is as after a crash.
type Index interface {
	// Tag fails with ErrNotFound.
	Tag(ctx context.Context, repo oci.Repository, tag oci.Tag) (TagEntry, error)
	// PutTag replaces what the tag said.
	PutTag(ctx context.Context, repo oci.Repository, tag oci.Tag, e TagEntry) error
	// DeleteTag forgets the tag and leaves links alone.
	DeleteTag(ctx context.Context, repo oci.Repository, tag oci.Tag) error

	// Link tells that the repository may serve a digest, with the media type and
	// size (-1 when unknown) that are known of it. Fails with ErrNotFound.
	Link(ctx context.Context, repo oci.Repository, digest oci.Digest) (oci.Descriptor, error)
	// PutLinks links digests to the repository. Of each descriptor the media
	// type, digest and size are kept. A media type that is known is not
	// overwritten by an empty one, nor a size by -1; this holds between
	// concurrent calls too.
	PutLinks(ctx context.Context, repo oci.Repository, descs ...oci.Descriptor) error

	// Held tells whether the digest was linked by PutHeld: the repository's own
	// registry had it. A link that only names it, or none, is false.
	Held(ctx context.Context, repo oci.Repository, digest oci.Digest) (bool, error)
	// PutHeld is PutLinks for digests that the repository's own registry has
	// delivered or confirmed. A link that is held stays so.
	PutHeld(ctx context.Context, repo oci.Repository, descs ...oci.Descriptor) error

	// Private tells whether the bytes of a digest are known from repositories
	// that not everybody may read, and from no other. Without any mark that is
	// false, or, after Distrust, true.
	Private(ctx context.Context, digest oci.Digest) (bool, error)
	// SetPrivate marks digests as private, or as known to everybody.
	SetPrivate(ctx context.Context, private bool, digests ...oci.Digest) error
	// Distrust makes every digest private that has no mark: where the marks may
	// have been lost and the bytes were not.
	Distrust(ctx context.Context) error

	// List fails with ErrNotFound. The key is the caller's, at most 2 KiB of any
	// bytes.
	List(ctx context.Context, repo oci.Repository, key string) (ListEntry, error)
	// PutList replaces the answer. It keeps no reference to the body.
	PutList(ctx context.Context, repo oci.Repository, key string, e ListEntry) error

	// Flush returns when everything written before is durable, or why not.
	Flush(ctx context.Context) error
}
