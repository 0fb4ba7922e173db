package refs

import (
	"context"
	"time"

	"sampan/internal/oci"
)

// A Catalog is an [Index] that can tell what is in it, page by page. A page is in
// order of its names and begins behind the one given, or with the first for zero;
// fewer than n entries (more than 0) are the last page. What is written while
// somebody turns pages may be in them or not. Records that cannot be read any more
// are not there.
type Catalog interface {
	Index

	// Repositories are those that have tags, links or pins.
	Repositories(ctx context.Context, after oci.Repository, n int) ([]oci.Repository, error)
	// Tags are those of a repository.
	Tags(ctx context.Context, repo oci.Repository, after oci.Tag, n int) ([]TagRecord, error)
	// Links are the digests of a repository, in order of their text.
	Links(ctx context.Context, repo oci.Repository, after oci.Digest, n int) ([]LinkRecord, error)

	// DeleteLinks forgets digests of a repository. It may not serve them any more
	// until they are linked again. Digests that are not linked are no error.
	DeleteLinks(ctx context.Context, repo oci.Repository, digests ...oci.Digest) error
	// DeleteLists forgets all answers of a repository that are lists.
	DeleteLists(ctx context.Context, repo oci.Repository) error

	// SetPin pins what a tag or a digest of a repository leads to, or ends that. The
	// reference is the text of either.
	SetPin(ctx context.Context, repo oci.Repository, reference string, pinned bool) error
	// Pins are all of them: there are few.
	Pins(ctx context.Context) ([]Pin, error)
}

// A TagRecord is a tag with what the index knows of it.
type TagRecord struct {
	Tag oci.Tag
	TagEntry
}

// A LinkRecord is a digest of a repository: media type, digest, and size, which is
// -1 when it is unknown.
type LinkRecord struct {
	oci.Descriptor
	// Held tells that the repository's own registry had it: see [Index.PutHeld].
	Held bool
}

// A Pin is what an operator wants to stay.
type Pin struct {
	Repository oci.Repository `json:"repository"`
	Reference  string         `json:"reference"` // a tag or a digest
	Since      time.Time      `json:"since"`
}
