package transfer

import (
	"context"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"

	"sampan/internal/oci"
)

// A Lacks is the error of a partial source where the target does not have either blobs
// that the source leaves out.
type Lacks struct {
	// Digests are those of the blobs that nobody has, at least one.
	Digests []oci.Digest
}

// Error implements error.
func (e *Lacks) Error() string {
	s := fmt.Sprintf("the source lacks %s, which the target does not have either", e.Digests[0])
	if more := len(e.Digests) - 1; more > 0 {
		s += fmt.Sprintf(", and %d more", more)
	}
	return s
}

// A Sparse is the error of a partial source that has a part of an index, where the target
// does not have the rest: most registries take an index only with all that it names.
type Sparse struct {
	Source oci.Reference
	There  []Platform // what the source or the target has; may be empty
}

// Error implements error.
func (e *Sparse) Error() string {
	return fmt.Sprintf("of %s there is only a part: %s", e.Source, e.List())
}

// List are the platforms that there are, for people.
func (e *Sparse) List() string { return listOf(e.There) }

// leftOut notes the blobs that a partial source names for what is to be put, and does
// not hold.
func (c *copier) leftOut(ctx context.Context, im *image) error {
	if !im.job.Partial {
		return nil
	}
	im.lacks = map[oci.Digest]oci.Descriptor{}
	for _, n := range im.all() {
		if n.here {
			continue
		}
		for _, d := range n.graph.Blobs {
			if _, known := im.lacks[d.Digest]; known || undistributed(d) {
				continue
			}
			held, err := c.holds(ctx, im.job, d.Digest)
			if err != nil {
				return err
			}
			if !held {
				im.lacks[d.Digest] = d
			}
		}
	}
	return nil
}

// holds asks a source whether it has a blob.
func (c *copier) holds(ctx context.Context, job Job, digest oci.Digest) (bool, error) {
	_, err := again(ctx, c, sourceOf(job), func() (oci.Descriptor, error) {
		if s, ok := job.Reader.(oci.BlobStater); ok {
			return s.StatBlob(ctx, job.Source.Repository, digest)
		}
		b, err := job.Reader.Blob(ctx, job.Source.Repository, digest)
		if err != nil {
			return oci.Descriptor{}, err
		}
		return b.Descriptor(), b.Close()
	})
	if oci.IsUnknown(err) {
		return false, nil
	}
	return err == nil, err
}

// elsewhere asks the target for a child that a partial source leaves out.
func (c *copier) elsewhere(ctx context.Context, im *image, n *node) (err error) {
	n.here, err = c.has(ctx, im.job.Target, n.manifest.Descriptor)
	n.nowhere = !n.here
	return err
}

// whole refuses an image of which children are nowhere.
func (im *image) whole() error {
	gone := false
	var there []Platform
	for _, n := range im.all() {
		d := n.manifest.Descriptor
		switch {
		case n.nowhere:
			gone = true
		case d.Platform != nil && d.Annotations[attestationOf] == "":
			there = append(there, platformOf(*d.Platform))
		}
	}
	if !gone {
		return nil
	}
	return &Sparse{Source: im.job.Source, There: there}
}

// A search is for a blob that a source lacks.
type search struct {
	blob   oci.Descriptor
	repos  []oci.Repository // that are to have it
	at     []oci.Repository // that have it
	failed error
}

// locate looks in the target for what sources lack: where it is to go, where the hints
// say, and where it is to go for other images. An image of which something is nowhere
// fails.
func (c *copier) locate(ctx context.Context, images []*image) {
	searches := map[oci.Digest]*search{}
	for _, im := range images {
		if im.result.Err != nil {
			continue
		}
		for digest, d := range im.lacks {
			s := searches[digest]
			if s == nil {
				s = &search{blob: oci.Descriptor{MediaType: blobType, Digest: digest, Size: d.Size}}
				searches[digest] = s
			}
			if !slices.Contains(s.repos, im.job.Target) {
				s.repos = append(s.repos, im.job.Target)
			}
		}
	}
	var g errgroup.Group
	g.SetLimit(c.o.Blobs)
	for _, s := range searches {
		g.Go(func() error {
			s.at, s.failed = c.find(ctx, s)
			return nil
		})
	}
	_ = g.Wait() // each search has its own error
	for digest, s := range searches {
		c.byBlob[digest] = &blobState{turn: make(chan struct{}, 1), at: s.at}
	}
	for _, im := range images {
		if im.result.Err == nil {
			im.result.Err = im.nowhere(searches)
		}
	}
}

// find are the repositories of the target that have a blob: of those that are to have
// it, or else the first of the hints.
func (c *copier) find(ctx context.Context, s *search) ([]oci.Repository, error) {
	var at []oci.Repository
	for i, repo := range slices.Concat(s.repos, c.o.Hints[s.blob.Digest]) {
		if i >= len(s.repos) && len(at) > 0 {
			break
		}
		here, err := c.has(ctx, repo, s.blob)
		if err != nil {
			return nil, err
		}
		if here {
			at = append(at, repo)
		}
	}
	return at, nil
}

// nowhere is the error of an image of which neither side has everything; nil where the
// target has what the source lacks.
func (im *image) nowhere(searches map[oci.Digest]*search) error {
	var gone []oci.Digest
	seen := map[oci.Digest]bool{}
	for _, n := range im.all() {
		for _, d := range n.graph.Blobs { // in the order of the manifests
			if _, lacks := im.lacks[d.Digest]; !lacks || seen[d.Digest] {
				continue
			}
			seen[d.Digest] = true
			if err := searches[d.Digest].failed; err != nil {
				return err
			}
			if len(searches[d.Digest].at) == 0 {
				gone = append(gone, d.Digest)
			}
		}
	}
	if len(gone) > 0 {
		return &Lacks{Digests: gone}
	}
	return nil
}
