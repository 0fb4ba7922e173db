// Package intake takes images in that somebody brings: a [transfer.Writer] over the
// mirror's own store and index of names, for networks in which no registry can be
// asked.
//
// It promises:
//   - a blob counts as stored when its digest is proven and its bytes are durable, and
//     not before; what has arrived of one that broke off is kept for whoever brings it
//     again, and is the first to go when room is needed;
//   - a manifest is stored after its blobs, and a tag after its manifest: whatever
//     moment the process is killed at, no tag leads to what was never here;
//   - a manifest is refused when a blob that it names is not here, or is here for
//     others only; not so blobs that are not distributed, nor children of an index, of
//     which one at least has to be here;
//   - what is brought is linked as what the repository's own registry delivers
//     ([cache.Cache.Accept]): bytes of a private repository stay private, and bytes
//     that are here already are not given to a repository unless they may be, or are
//     brought once more. So of a private blob that is here in part, only the repository
//     goes on with it that has brought that part.
//
// It pins nothing: blobs to which no manifest came, like all others, leave when room is
// needed and they were not used for longest. It decides neither who may bring something
// nor what names mean.
//
// Lock order: parts.mu is a leaf.
package intake

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"strings"

	"sampan/internal/cache"
	"sampan/internal/oci"
	"sampan/internal/store"
	"sampan/internal/transfer"
)

// Errors of an [Intake], beside those of the specification and of [store].
var (
	// ErrShort: the bytes ended before the size that was told.
	ErrShort = errors.New("the bytes have ended early")
	// ErrLong: there are more bytes than was told.
	ErrLong = errors.New("there are more bytes than the size says")
	// ErrLacks: what a manifest names is not here.
	ErrLacks = errors.New("what the manifest names is not here")
)

// Options of an [Intake]. All are needed.
type Options struct {
	Cache *cache.Cache
	Store store.Store
	Log   *slog.Logger
}

// An Intake is made by [New]. Its methods may be called concurrently.
type Intake struct {
	o     Options
	parts parts
}

var (
	_ transfer.Writer      = (*Intake)(nil)
	_ transfer.TagResolver = (*Intake)(nil)
)

// New makes an Intake.
func New(o Options) (*Intake, error) {
	if o.Cache == nil || o.Store == nil || o.Log == nil {
		return nil, errors.New("intake: Cache, Store and Log are needed")
	}
	return &Intake{o: o}, nil
}

// Has implements [transfer.Writer]. A blob that is here and that everybody may have is
// one that every repository has. An image's manifest is had with its blobs alone, because
// a mirror may have lost these; an index is had by itself.
func (i *Intake) Has(ctx context.Context, repo oci.Repository, d oci.Descriptor) (bool, error) {
	if !oci.IsManifestType(d.MediaType) {
		return i.o.Cache.Holds(ctx, repo, d.Digest)
	}
	m, err := i.o.Cache.LocalManifest(ctx, repo, d.Digest)
	if oci.IsUnknown(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	g, err := m.Graph()
	if err != nil {
		return false, err
	}
	lacks, err := i.lacks(ctx, repo, g.Blobs)
	return len(lacks) == 0, err
}

// Manifest tells of a manifest that is had; MANIFEST_UNKNOWN otherwise.
func (i *Intake) Manifest(ctx context.Context, repo oci.Repository, digest oci.Digest) (oci.Descriptor, error) {
	m, err := i.o.Cache.LocalManifest(ctx, repo, digest)
	if err != nil {
		return oci.Descriptor{}, err
	}
	has, err := i.Has(ctx, repo, m.Descriptor)
	if err == nil && !has {
		err = oci.ErrManifestUnknown
	}
	return m.Descriptor, err
}

// lacks are those of some blobs that cannot be served under the name of a repository.
func (i *Intake) lacks(ctx context.Context, repo oci.Repository, blobs []oci.Descriptor) (list []oci.Descriptor, err error) {
	for _, b := range blobs {
		if undistributed(b) {
			continue
		}
		has, err := i.o.Cache.Holds(ctx, repo, b.Digest)
		if err != nil {
			return nil, err
		}
		if !has {
			list = append(list, b)
		}
	}
	return list, nil
}

// undistributed tells blobs that clients get from elsewhere (image specification,
// "Non-Distributable Layers").
func undistributed(d oci.Descriptor) bool {
	return len(d.URLs) > 0 && (strings.Contains(d.MediaType, "nondistributable") || strings.Contains(d.MediaType, "foreign"))
}

// ResolveTag implements [transfer.TagResolver]: a tag is only told when what it leads to
// is had.
func (i *Intake) ResolveTag(ctx context.Context, repo oci.Repository, tag oci.Tag) (oci.Descriptor, error) {
	d, err := i.o.Cache.LocalTag(ctx, repo, tag)
	if err != nil {
		return oci.Descriptor{}, err
	}
	return i.Manifest(ctx, repo, d.Digest)
}

// PutManifest implements [transfer.Writer]. It fails with DIGEST_INVALID, SIZE_INVALID,
// MANIFEST_INVALID, [ErrLacks], [store.ErrBusy] or [store.ErrUnwritable].
func (i *Intake) PutManifest(ctx context.Context, repo oci.Repository, d oci.Descriptor, raw []byte, tags []oci.Tag) error {
	m := oci.Manifest{Descriptor: oci.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: int64(len(raw))}, Bytes: raw}
	g, err := understood(m)
	if err != nil {
		return err
	}
	blobs := slices.Clone(g.Blobs)
	var children []oci.Descriptor
	for _, child := range g.Manifests {
		if oci.IsManifestType(child.MediaType) {
			children = append(children, child)
		} else {
			blobs = append(blobs, child)
		}
	}
	lacks, err := i.lacks(ctx, repo, blobs)
	if err != nil {
		return err
	}
	if len(lacks) > 0 {
		return lacking(d.Digest, "blob", lacks)
	}
	if lacks, err = i.lacks(ctx, repo, children); err != nil {
		return err
	}
	if len(children) > 0 && len(lacks) == len(children) {
		return lacking(d.Digest, "manifest", lacks)
	}
	return i.o.Cache.AcceptManifest(ctx, repo, m, tags)
}

// understood proves a manifest and reads it.
func understood(m oci.Manifest) (oci.Graph, error) {
	d := m.Descriptor
	switch {
	case len(m.Bytes) > oci.MaxManifestSize:
		return oci.Graph{}, oci.Errorf(oci.CodeSizeInvalid, "a manifest has at most %d bytes", oci.MaxManifestSize)
	case !oci.IsManifestType(d.MediaType):
		return oci.Graph{}, oci.Errorf(oci.CodeManifestInvalid, "%q is not the media type of a manifest", d.MediaType)
	case d.Digest.IsZero() || !d.Digest.Verify(m.Bytes):
		return oci.Graph{}, oci.Errorf(oci.CodeDigestInvalid, "the bytes of the manifest are not those of %s", d.Digest)
	}
	var doc struct {
		MediaType string `json:"mediaType"`
	}
	if err := json.Unmarshal(m.Bytes, &doc); err != nil {
		return oci.Graph{}, oci.Errorf(oci.CodeManifestInvalid, "manifest %s cannot be read: %w", d.Digest, err)
	}
	if doc.MediaType != "" && doc.MediaType != d.MediaType {
		return oci.Graph{}, oci.Errorf(oci.CodeManifestInvalid, "manifest %s says that it is %q, not %q", d.Digest, doc.MediaType, d.MediaType)
	}
	return m.Graph()
}

// lacking says what a manifest needs first.
func lacking(d oci.Digest, what string, list []oci.Descriptor) error {
	e := oci.Errorf(oci.CodeManifestInvalid, "manifest %s names %d of kind %s that this repository does not have here: bring %s first", d, len(list), what, list[0].Digest)
	e.Err = ErrLacks
	return e
}
