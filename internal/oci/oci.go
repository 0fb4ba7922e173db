// Package oci is the vocabulary of sampan: repositories, references, tags,
// digests, descriptors, the errors of the OCI distribution specification, and
// [Reader], the contract that an upstream registry, the cache, a simulated
// registry and an archive all fulfil.
//
// A value of one of its name types is valid by construction: the only ways to
// make one are the Parse and New functions, and the zero value is recognisably
// empty (IsZero). The types differ, so that a tag where a digest belongs, or a
// repository where a registry belongs, does not compile.
//
// The package knows no HTTP, no storage and no configuration.
package oci

import (
	"context"
	"io"
)

// A Reader answers for the content of any number of repositories.
//
// All methods may be called concurrently. They return an error that wraps an
// [*Error] when the answer is one of the specification's ("no such manifest",
// "denied", "too many requests"), and any other error when there is no answer
// (a broken link, a full disk).
type Reader interface {
	// ResolveTag returns the descriptor a tag points at now: media type, digest
	// and size are set. Fails with MANIFEST_UNKNOWN or NAME_UNKNOWN.
	ResolveTag(ctx context.Context, repo Repository, tag Tag) (Descriptor, error)

	// Manifest returns the manifest with the given digest, byte for byte as its
	// author wrote it. The bytes have been verified against the digest. Fails
	// with MANIFEST_UNKNOWN or NAME_UNKNOWN.
	Manifest(ctx context.Context, repo Repository, digest Digest) (Manifest, error)

	// Blob opens the blob with the given digest. The caller closes it; ctx
	// bounds the whole life of the BlobReader. Fails with BLOB_UNKNOWN or
	// NAME_UNKNOWN.
	Blob(ctx context.Context, repo Repository, digest Digest) (BlobReader, error)

	// Tags returns all tags of a repository in lexical order. Fails with
	// NAME_UNKNOWN.
	Tags(ctx context.Context, repo Repository) ([]Tag, error)

	// Referrers returns the descriptors of the manifests whose subject is the
	// given digest, of every artifact type; none is an empty slice and no error.
	Referrers(ctx context.Context, repo Repository, digest Digest) ([]Descriptor, error)
}

// A BlobReader reads one blob from any offset. Only one goroutine may use it at
// a time.
//
// Read never returns the complete bytes of a blob whose digest does not match:
// an implementation whose bytes are not yet proven keeps some of them back.
// Seek is cheap and never fails for an offset from 0 to the size.
type BlobReader interface {
	io.ReadSeekCloser

	// Descriptor tells the blob's digest and size. Size is -1 while unknown.
	Descriptor() Descriptor
}

// A BlobSeeker is a Reader that can be told where a blob will be read first, so
// that it has these bytes brought first.
type BlobSeeker interface {
	// BlobFrom is [Reader.Blob] for a caller who will begin at from; a negative
	// one counts from the end. It is no more than a hint: the reader begins at 0
	// and reads everything.
	BlobFrom(ctx context.Context, repo Repository, digest Digest, from int64) (BlobReader, error)
}

// BlobFrom opens a blob of any reader, and gives the hint to one that takes it.
func BlobFrom(ctx context.Context, r Reader, repo Repository, digest Digest, from int64) (BlobReader, error) {
	if s, ok := r.(BlobSeeker); ok {
		return s.BlobFrom(ctx, repo, digest, from)
	}
	return r.Blob(ctx, repo, digest)
}

// A BlobStater is a Reader that can tell cheaply whether a repository holds a
// blob, without opening it.
type BlobStater interface {
	// StatBlob fails like [Reader.Blob]. The Size may be -1.
	StatBlob(ctx context.Context, repo Repository, digest Digest) (Descriptor, error)
}

// A BlobProver is a BlobStater that may be wrong about what it has: whoever wrote what it
// reads may have claimed anything. Only what it proves counts as possession.
type BlobProver interface {
	BlobStater

	// ProveBlob is StatBlob for who needs certainty. It may read all of the blob, and
	// fails with DIGEST_INVALID or UNAVAILABLE where that is something else. It goes on
	// when ctx ends, for whoever asks next.
	ProveBlob(ctx context.Context, repo Repository, digest Digest) (Descriptor, error)
}

// A ManifestStater is a Reader that can tell cheaply whether a repository holds a
// manifest, without fetching it.
type ManifestStater interface {
	// StatManifest fails like [Reader.Manifest]. The Size may be -1.
	StatManifest(ctx context.Context, repo Repository, digest Digest) (Descriptor, error)
}

// A TagGetter is a Reader that can resolve a tag and fetch its manifest at the
// cost of one request.
type TagGetter interface {
	// TaggedManifest fails like [Reader.ResolveTag].
	TaggedManifest(ctx context.Context, repo Repository, tag Tag) (Manifest, error)
}
