// Package transfer carries image graphs from readers to writers: indexes,
// manifests, configs and layers, and what refers to them.
//
// It promises:
//   - digests never change: what arrives is byte for byte what the source has;
//   - nothing is sent before every job was looked at: a source that is not there,
//     two sources on one name, and what the target says that it cannot hold are
//     told first;
//   - nothing incomplete gets a name: a manifest goes after its blobs, an index
//     after its manifests, a tag after all of it, so that a copy that was killed
//     at any moment has published nothing wrong, and running it again finishes it;
//   - a blob that the target has is not read at all, and one that several images
//     share is read once for each target, however many repositories it goes to;
//   - a source whose tag moves while it is copied is copied as it was first seen;
//   - a source that breaks off is read on from where it did;
//   - what a partial source leaves out is taken from where the target has it, or told
//     before anything is sent.
//
// What the target has is asked manifest by manifest, because it may hold an index
// without all of its children: copies for several platforms make such ones, and other
// programs do. With [Options.Trust] an index at the target is taken for whole instead,
// because a copy puts it after its children. With nothing to do, a tag then costs one
// question at its source and one at its target. What that overlooks is an index that was
// put for some platforms, where all are wanted now, and children that the target has
// lost since.
//
// It knows neither registries nor archives, and does not decide how things are
// named: readers and writers arrive with the jobs. It does not convert anything
// and deletes nothing.
//
// Lock order: none; no function holds two of its locks while it waits.
package transfer

import (
	"context"
	"io"

	"sampan/internal/oci"
	"sampan/internal/progress"
)

// A Writer is where content goes: a registry, a layout, an archive, a store. Its
// methods may be called concurrently, but never at once for the same digest of the
// same repository.
type Writer interface {
	// Has tells whether repo holds what d names: a manifest where its media type is
	// one ([oci.IsManifestType]), a blob otherwise. That a repository does not exist
	// is no error.
	Has(ctx context.Context, repo oci.Repository, d oci.Descriptor) (bool, error)

	// PutBlob stores a blob, of which digest and size are set. It proves the digest,
	// or has it proven by who stores it, before the blob counts as stored. from names
	// repositories of the same target that hold the blob: a hint, which may be
	// wrong.
	PutBlob(ctx context.Context, repo oci.Repository, d oci.Descriptor, open Open, from []oci.Repository) error

	// PutManifest stores a manifest, whose digest has been verified, and points the
	// tags at it; without tags it is found by its digest alone. All that it names
	// has been stored before, but for its subject, for blobs that are not
	// distributed, and for the children that [Job.Platforms] left out.
	PutManifest(ctx context.Context, repo oci.Repository, d oci.Descriptor, raw []byte, tags []oci.Tag) error
}

// Open opens a blob at an offset in bytes, from 0 to the size. What it opens ends
// with [io.EOF] at the size and nowhere else. It may be called again, one after the
// other: whoever reads only once never needs to.
type Open func(ctx context.Context, offset int64) (io.ReadCloser, error)

// A TagResolver is a Writer that can tell where a tag points. Copy asks it what is
// there already. It fails with NAME_UNKNOWN or MANIFEST_UNKNOWN.
type TagResolver interface {
	ResolveTag(ctx context.Context, repo oci.Repository, tag oci.Tag) (oci.Descriptor, error)
}

// A Refuser is a Writer that can find out beforehand what it cannot hold. It is asked for
// each manifest that is to be put, before anything is sent, and not in a dry run: it may
// have to ask by what looks like sending. An error ends that job.
type Refuser interface {
	Refuses(ctx context.Context, repo oci.Repository, m oci.Manifest, g oci.Graph) error
}

// A ReferrerLister is a Writer that may hold what refers to a manifest and not list it, after
// a copy that was killed between the two. Copy puts again what is not listed. Lists tells
// whether digest is where clients look for what refers to subject.
type ReferrerLister interface {
	Lists(ctx context.Context, repo oci.Repository, subject, digest oci.Digest) (bool, error)
}

// A Noter is a Writer that has something to say before anything is sent, about
// jobs that will be done nevertheless. referrers tells whether any goes to repo.
type Noter interface {
	Notes(ctx context.Context, repo oci.Repository, referrers bool) ([]Note, error)
}

// A Note is a fact about a target that a person should know beforehand.
type Note struct {
	Kind       NoteKind       `json:"kind"`
	Repository oci.Repository `json:"repository"`
}

// A NoteKind says what a Note is about.
type NoteKind string

// NoteReferrersByTag says that the target has no referrers API, so that signatures, SBOMs
// and attestations are listed there under the tag that the specification provides.
const NoteReferrersByTag NoteKind = "referrers-by-tag"

// A Job is one image, or artifact, to be copied.
type Job struct {
	// Source is what to copy, by tag or by digest; the digest decides.
	Source oci.Reference
	// Reader reads Source.
	Reader oci.Reader
	// Target is the repository at the writer.
	Target oci.Repository
	// Tags are what the copy is called there; none leaves it to its digest.
	Tags []oci.Tag
	// Platforms leave out of an index what is for others; none means all. A single
	// one puts its manifest in the place of the index. Several keep the index, whose
	// other children are not copied. What is no index is copied as it is.
	Platforms []Platform
	// Referrers copies what refers to any of the manifests too: signatures, SBOMs,
	// attestations, by the referrers API and by the tags that cosign makes.
	Referrers bool
	// Partial tells that Reader may lack some of what its manifests name, as a bundle of
	// what was new does. It is asked for each blob that is to be sent beforehand, and what
	// it lacks is taken from where the target has it. What the target lacks too is a
	// [*Lacks], or, where it is children of an index, a [*Sparse].
	Partial bool
}

// Options of [Copy]. The zero value is a good setting.
type Options struct {
	// Blobs and Images bound how many are carried at once; zero means 6 and 4.
	Blobs, Images int
	// Lookups bounds how many questions are asked at once of what source and target have;
	// zero means 8.
	Lookups int
	// Trust takes an index for whole at the target where a tag of it points at it, or,
	// for a job of a digest alone, where it is there at all: see the package comment.
	// Jobs with Platforms or Referrers are looked at in any case.
	Trust bool
	// KeepGoing carries the other jobs where the source or the target of one cannot be
	// looked at; otherwise nothing is sent then.
	KeepGoing bool
	// DryRun looks at everything and sends nothing.
	DryRun bool
	// Hints tell repositories of the target that may have what partial sources lack; nil
	// means that nobody knows.
	Hints map[oci.Digest][]oci.Repository
	// Progress hears how it goes; nil means nobody.
	Progress progress.Sink
	// Noted hears the notes of the target before anything is sent; nil means nobody.
	Noted func([]Note)
	// Pause waits before a source or target that gave no answer is asked again, the n-th
	// time from 1 on without progress, or returns why not; nil means [Backoff].
	Pause func(ctx context.Context, n int, err error) error
}

// A Report tells what became of each job, in their order.
type Report struct {
	Images []Result `json:"images"`
	// Notes were told before anything was sent.
	Notes []Note `json:"notes,omitempty"`
	// Sent counts blobs that have crossed; a dry run counts those that would.
	Sent Count `json:"sent"`
	// Present counts those of them that need not: the target had them, or took them
	// from another of its repositories.
	Present Count `json:"present"`
}

// A Count is a number of blobs with their bytes.
type Count struct {
	Blobs int   `json:"blobs"`
	Bytes int64 `json:"bytes"`
}

// A Result is what became of a job.
type Result struct {
	Job Job `json:"-"`
	// Descriptor is what was copied: digest, size and media type at the target.
	Descriptor oci.Descriptor `json:"descriptor"`
	// Unchanged tells that everything was there, tags included.
	Unchanged bool `json:"unchanged"`
	// Manifests are how many were put.
	Manifests int `json:"manifests"`
	// Err says why it failed; nil for success.
	Err error `json:"-"`
}
