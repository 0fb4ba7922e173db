package store

import (
	"context"
	"time"

	"sampan/internal/oci"
)

// What follows are abilities that a store may have besides [Store]: discovered
// interfaces, for those who look after a store and not for those who serve from it.

// An Entry is what a store knows of one complete blob.
type Entry struct {
	Digest oci.Digest
	Size   int64 // bytes
	// Owner is the upstream for which the blob was fetched, as [WithOwner] has said;
	// empty when nobody said, or when it is forgotten.
	Owner string
	// Used is when it was last opened, or committed; after a crash up to a minute
	// too early.
	Used   time.Time
	Pinned bool
}

// A Lister lists the complete blobs.
type Lister interface {
	// List returns the blobs behind after, in the order of [Before], at most limit
	// of them; the zero digest is before all. Fewer than limit: there are no more.
	// A blob that is there all the while is listed exactly once by a walk; one that
	// comes or goes meanwhile may be. Listing is no use.
	List(ctx context.Context, after oci.Digest, limit int) ([]Entry, error)

	// Lookup returns one of them; ErrNotFound when there is none. It is no use.
	Lookup(ctx context.Context, digest oci.Digest) (Entry, error)

	// Checked is closed once the store knows that it lists all that is there. Before,
	// some may be missing, or listed and not there.
	Checked() <-chan struct{}
}

// A Peeker reads blobs without using them.
type Peeker interface {
	// Peek is [Store.Open] and counts as no use. What is read through it does not
	// push other bytes out of memory, as far as the system allows that.
	Peek(ctx context.Context, digest oci.Digest) (Blob, error)
}

// A Toucher is told of uses that it does not see: of bytes that are also in memory.
type Toucher interface {
	// Touch counts as opening the blob. A digest that the store does not hold is no
	// error.
	Touch(digest oci.Digest)
}

// A Pinner keeps blobs that are not to be evicted. Which ones is decided by who
// knows names. A store forgets pins when it is closed: the caller sets them at the
// start, before the store evicts in the background.
type Pinner interface {
	// SetPins replaces the set. Digests that the store does not hold count once it
	// does. What is unpinned counts as used at this moment.
	SetPins(digests []oci.Digest)
	// Pin and Unpin change the set. A digest is pinned or not, it is not counted how
	// often.
	Pin(digests ...oci.Digest)
	Unpin(digests ...oci.Digest)
	// Pinned tells whether the digest is in the set.
	Pinned(digest oci.Digest) bool
}

// A Meter tells how full a store is.
type Meter interface {
	Usage() Usage
}

// Usage is how full a store is, in bytes. What the limits are held against is the
// sum of Complete, Partial, Reserved and Index.
type Usage struct {
	Complete int64 // of complete blobs
	Partial  int64 // that have arrived of partial ones, and those left by interrupted fetches
	Reserved int64 // for what is still to arrive
	Index    int64 // of the files that say what is here
	Pinned   int64 // of complete blobs that are pinned; in Complete as well
	Limit    int64 // 0: none
	Soft     int64 // above it the store evicts in the background; 0: none
	MinFree  int64 // that the file system is to keep free; 0: none
	Free     int64 // of the file system; -1: unknown
	Blobs    int   // complete ones
	// Owners are the complete blobs by owner.
	Owners map[string]OwnerUsage
}

// Total is what the limits are held against, in bytes.
func (u Usage) Total() int64 { return u.Complete + u.Partial + u.Reserved + u.Index }

// OwnerUsage is the share of one owner.
type OwnerUsage struct {
	Bytes, Max, Min int64 // Max and Min: 0 for none
	Blobs           int
}

// Before tells whether a comes before b in a listing: sha256 before sha512, then by
// the hexadecimal digits. The zero digest is before all.
func Before(a, b oci.Digest) bool { return a.String() < b.String() }

type ownerKey struct{}

// WithOwner returns a context on which [Store.Ingest] stores for an upstream, such
// as "docker.io". The blob stays with it until it leaves the store, whoever else
// uses it; after that it is whose fetch brings it.
func WithOwner(ctx context.Context, owner string) context.Context {
	return context.WithValue(ctx, ownerKey{}, owner)
}

// OwnerFrom returns what [WithOwner] has said; empty when nobody did.
func OwnerFrom(ctx context.Context) string {
	owner, _ := ctx.Value(ownerKey{}).(string)
	return owner
}
