// Package push carries the images of an archive to a [transfer.Writer].
//
// It promises that a manifest goes after its blobs, an index after its manifests and a
// tag after all of it, and that a blob which the target has is not read. Unlike
// [transfer.Copy] it carries archives that leave blobs out: these are taken from where
// the target has them.
//
// It reads no archives, opens no registries and finds no names.
package push

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"

	"golang.org/x/sync/errgroup"

	"sampan/internal/oci"
	"sampan/internal/progress"
	"sampan/internal/transfer"
)

const (
	atOnce   = 4 // blobs
	maxDepth = 8 // of indexes within indexes
)

// ErrLacks is what [errors.Is] finds where neither the source nor the target has a blob.
var ErrLacks = errors.New("the archive lacks a blob that the target does not have either")

// Carry puts images into a writer, one after the other. The Platforms of the jobs have
// no meaning: a source is carried with all of it that is there. hints tell repositories
// of the target that may have blobs which the source lacks; nil for none.
func Carry(ctx context.Context, jobs []transfer.Job, hints map[oci.Digest]oci.Repository, w transfer.Writer, sink progress.Sink) error {
	c := &carrier{to: w, sink: sink, at: make(map[oci.Digest]oci.Repository), hints: hints}
	for _, j := range jobs {
		m, err := j.Reader.Manifest(ctx, j.Source.Repository, j.Source.Digest)
		if err == nil {
			err = c.manifest(ctx, j, m, j.Tags, 0)
		}
		if err == nil && j.Referrers {
			err = c.referrers(ctx, j, m, 0)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", j.Target, err)
		}
	}
	return nil
}

type carrier struct {
	to   transfer.Writer
	sink progress.Sink
	at   map[oci.Digest]oci.Repository // where blobs were put, or found

	hints map[oci.Digest]oci.Repository
}

// manifest puts one, after all that it names.
func (c *carrier) manifest(ctx context.Context, j transfer.Job, m oci.Manifest, tags []oci.Tag, depth int) error {
	if depth > maxDepth {
		return oci.Errorf(oci.CodeManifestInvalid, "what %s names is too deep", m.Descriptor.Digest)
	}
	g, err := m.Graph()
	if err != nil {
		return err
	}
	for _, d := range g.Manifests {
		child, err := j.Reader.Manifest(ctx, j.Source.Repository, d.Digest)
		if err != nil {
			return err
		}
		if err := c.manifest(ctx, j, child, nil, depth+1); err != nil {
			return err
		}
	}
	if err := c.blobs(ctx, j, g.Blobs); err != nil {
		return err
	}
	return c.to.PutManifest(ctx, j.Target, m.Descriptor, m.Bytes, tags)
}

// referrers puts what is attached to a manifest, and to those that it names.
func (c *carrier) referrers(ctx context.Context, j transfer.Job, m oci.Manifest, depth int) error {
	if depth > maxDepth {
		return oci.Errorf(oci.CodeManifestInvalid, "what is attached to %s is too deep", m.Descriptor.Digest)
	}
	list, err := j.Reader.Referrers(ctx, j.Source.Repository, m.Descriptor.Digest)
	if err != nil {
		return err
	}
	for _, d := range list {
		attached, err := j.Reader.Manifest(ctx, j.Source.Repository, d.Digest)
		if err != nil {
			return err
		}
		if err := c.manifest(ctx, j, attached, nil, 0); err != nil {
			return err
		}
		if err := c.referrers(ctx, j, attached, depth+1); err != nil {
			return err
		}
	}
	g, err := m.Graph()
	if err != nil {
		return err
	}
	for _, d := range g.Manifests {
		child, err := j.Reader.Manifest(ctx, j.Source.Repository, d.Digest)
		if err != nil {
			return err
		}
		if err := c.referrers(ctx, j, child, depth+1); err != nil {
			return err
		}
	}
	return nil
}

func (c *carrier) blobs(ctx context.Context, j transfer.Job, blobs []oci.Descriptor) error {
	group, inner := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	seen := make(map[oci.Digest]bool)
	for _, d := range blobs {
		if seen[d.Digest] || c.at[d.Digest] == j.Target {
			continue
		}
		seen[d.Digest] = true
		var from []oci.Repository
		if repo, ok := c.at[d.Digest]; ok {
			from = []oci.Repository{repo}
		} else if repo, ok := c.hints[d.Digest]; ok {
			from = []oci.Repository{repo}
		}
		group.Go(func() error { return c.blob(inner, j, d, from) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	for digest := range seen {
		c.at[digest] = j.Target
	}
	return nil
}

func (c *carrier) blob(ctx context.Context, j transfer.Job, d oci.Descriptor, from []oci.Repository) error {
	c.sink.Expect(d.Size)
	line := c.sink.Start(shortName(j.Target, d.Digest), d.Size)
	has, err := c.to.Has(ctx, j.Target, oci.Descriptor{MediaType: "application/octet-stream", Digest: d.Digest, Size: d.Size})
	if err == nil && has {
		line.Add(d.Size)
		line.End(progress.Present)
		return nil
	}
	if err == nil {
		err = c.to.PutBlob(ctx, j.Target, d, func(ctx context.Context, offset int64) (io.ReadCloser, error) {
			b, err := j.Reader.Blob(ctx, j.Source.Repository, d.Digest)
			if err != nil {
				return nil, err
			}
			if _, err := b.Seek(offset, io.SeekStart); err != nil {
				return nil, errors.Join(err, b.Close())
			}
			return counted{b, line}, nil
		}, from)
	}
	if oci.CodeOf(err) == oci.CodeBlobUnknown {
		err = fmt.Errorf("%w: %s", ErrLacks, d.Digest)
	}
	if err != nil {
		line.End(progress.Failed)
		return fmt.Errorf("blob %s: %w", d.Digest, err)
	}
	line.End(progress.Done)
	return nil
}

// shortName tells blobs apart for people.
func shortName(repo oci.Repository, digest oci.Digest) string {
	const digits = 12
	return path.Base(repo.Path()) + " " + digest.Hex()[:digits]
}

// counted tells how many bytes were read.
type counted struct {
	oci.BlobReader
	line progress.Line
}

// Read implements [io.Reader].
func (c counted) Read(p []byte) (int, error) {
	n, err := c.BlobReader.Read(p)
	c.line.Add(int64(n))
	return n, err
}
