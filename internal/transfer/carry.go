package transfer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"sampan/internal/oci"
	"sampan/internal/progress"
)

// A blobState is what is known of one blob at the target.
type blobState struct {
	turn chan struct{}    // held by whoever sees to the blob
	at   []oci.Repository // that have it
	seen []oci.Repository // that were seen to, and counted
}

// blobType is what is said of a blob whose kind does not matter.
const blobType = "application/octet-stream"

// A flight is a manifest that is put, once for all who need it.
type flight struct {
	done chan struct{}
	err  error
}

// carry sends what an image lacks.
func (c *copier) carry(ctx context.Context, im *image) error {
	if im.result.Unchanged {
		return nil
	}
	put, err := c.put(ctx, im, im.root)
	if err != nil {
		return err
	}
	im.result.Manifests += put
	for _, n := range im.extra { // each after what it refers to
		put, err := c.put(ctx, im, n)
		if err != nil {
			return err
		}
		im.result.Manifests += put
	}
	return nil
}

// put sends what is below a manifest, then the manifest, and then points its tags at
// it. It tells how many manifests were put.
func (c *copier) put(ctx context.Context, im *image, n *node) (int, error) {
	if !n.toDo() {
		return 0, nil
	}
	total := 0
	if !n.here || slices.ContainsFunc(n.children, (*node).toDo) {
		parts, err := c.putParts(ctx, im, n)
		if err != nil {
			return 0, err
		}
		total = parts
	}
	if n.here && len(n.tags) == 0 {
		return total, nil
	}
	if n.manifest.Bytes == nil { // the target has it, and it needs a tag
		if err := c.read(ctx, im, n); err != nil {
			return 0, err
		}
	}
	key := place{im.job.Target, n.manifest.Descriptor.Digest}
	err := c.once(ctx, key, len(n.tags) > 0, func() error {
		_, err := again(ctx, c, targetOf(im.job), func() (struct{}, error) {
			return struct{}{}, c.w.PutManifest(ctx, key.repo, n.manifest.Descriptor, n.manifest.Bytes, n.tags)
		})
		return err
	})
	return total + 1, err
}

// putParts sends the blobs and children of a manifest, all at once. When one fails the
// others go on: what has arrived need not be sent by the next copy.
func (c *copier) putParts(ctx context.Context, im *image, n *node) (int, error) {
	var g errgroup.Group
	counts := make([]int, len(n.children))
	errs := make([]error, len(n.children)+len(n.graph.Blobs))
	for i, child := range n.children {
		g.Go(func() error {
			counts[i], errs[i] = c.put(ctx, im, child)
			return nil
		})
	}
	if !n.here {
		for i, d := range n.graph.Blobs {
			g.Go(func() error {
				errs[len(n.children)+i] = c.blob(ctx, im, d)
				return nil
			})
		}
	}
	_ = g.Wait() // the errors are in errs
	total := 0
	for _, k := range counts {
		total += k
	}
	var first error // one is enough for a person, and best one that was not the end of ctx
	for _, err := range errs {
		if err != nil && (first == nil || errors.Is(first, context.Canceled)) {
			first = err
		}
	}
	return total, first
}

// once does work for a place of the target, where others that need the same wait for it.
// Who has a name to give does the work in any case, after the others.
func (c *copier) once(ctx context.Context, key place, always bool, work func() error) error {
	for {
		c.mu.Lock()
		f := c.byPut[key]
		if f == nil {
			f = &flight{done: make(chan struct{})}
			c.byPut[key] = f
			c.mu.Unlock()
			f.err = work()
			close(f.done)
			return f.err
		}
		c.mu.Unlock()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-f.done:
		}
		if !always {
			return f.err
		}
		c.mu.Lock()
		if c.byPut[key] == f {
			delete(c.byPut, key)
		}
		c.mu.Unlock()
	}
}

// undistributed tells blobs that are not copied: the manifest says where everybody gets
// them (image specification, "Non-Distributable Layers").
func undistributed(d oci.Descriptor) bool {
	return len(d.URLs) > 0 && (strings.Contains(d.MediaType, "nondistributable") || strings.Contains(d.MediaType, "foreign"))
}

// blob sees to it that a repository of the target has a blob.
func (c *copier) blob(ctx context.Context, im *image, d oci.Descriptor) error {
	if undistributed(d) {
		return nil
	}
	s, release, err := c.state(ctx, d.Digest)
	if err != nil {
		return err
	}
	defer release()
	repo := im.job.Target
	if slices.Contains(s.seen, repo) {
		return nil
	}
	select {
	case c.blobs <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-c.blobs }()
	name := shortName(im.job, d)
	blob := oci.Descriptor{MediaType: blobType, Digest: d.Digest, Size: d.Size}
	here := slices.Contains(s.at, repo)
	if !here {
		if here, err = c.has(ctx, repo, blob); err != nil {
			return err
		}
	}
	if here {
		s.have(repo)
		c.count(&c.present, d.Size)
		line := c.o.Progress.Start(name, d.Size)
		line.Add(max(d.Size, 0))
		line.End(progress.Present)
		return nil
	}
	from := slices.Clone(s.at)
	if im.job.Source.Repository.Registry() == repo.Registry() && im.job.Source.Repository != repo {
		from = append(from, im.job.Source.Repository)
	}
	if err := c.send(ctx, im, blob, name, from); err != nil {
		return err
	}
	s.have(repo)
	return nil
}

// have notes that a repository has the blob now.
func (s *blobState) have(repo oci.Repository) {
	s.seen = append(s.seen, repo)
	if !slices.Contains(s.at, repo) {
		s.at = append(s.at, repo)
	}
}

// send puts a blob that the target lacks.
func (c *copier) send(ctx context.Context, im *image, d oci.Descriptor, name string, from []oci.Repository) error {
	line := c.o.Progress.Start(name, d.Size)
	src := &source{SteadyBlob: SteadyBlob{Parts: c.parts(im, d.Digest, from), Size: d.Size, Line: line, Pause: c.o.Pause}}
	if err := c.w.PutBlob(ctx, im.job.Target, d, src.open, from); err != nil {
		line.End(progress.Failed)
		if _, lacks := im.lacks[d.Digest]; lacks && oci.IsUnknown(src.failed()) {
			return &Lacks{Digests: []oci.Digest{d.Digest}} // it is gone, or is not mounted
		}
		if failed := src.failed(); failed != nil && ctx.Err() == nil {
			err = failed
		}
		return fmt.Errorf("blob %s: %w", d.Digest, err)
	}
	if src.last != nil {
		c.count(&c.sent, d.Size)
		line.End(progress.Done)
		return nil
	}
	c.count(&c.present, d.Size) // the target has taken it from elsewhere
	line.Add(max(d.Size, 0))
	line.End(progress.Present)
	return nil
}

// parts are where a blob is read from: the source, or, for what that lacks and the target
// does not take from another of its repositories, the target itself.
func (c *copier) parts(im *image, digest oci.Digest, from []oci.Repository) oci.BlobParts {
	if _, lacks := im.lacks[digest]; lacks && len(from) > 0 {
		if r, ok := c.w.(oci.Reader); ok {
			return oci.PartsOf(r, from[0], digest)
		}
	}
	return oci.PartsOf(im.job.Reader, im.job.Source.Repository, digest)
}

// shortName is what a person is shown of a blob.
func shortName(job Job, d oci.Descriptor) string {
	const digits = 12
	hex := d.Digest.Hex()
	path := job.Source.Repository.Path()
	return path[strings.LastIndexByte(path, '/')+1:] + " " + hex[:min(digits, len(hex))]
}

func (c *copier) count(to *Count, size int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	to.Blobs++
	to.Bytes += max(size, 0)
}

// state takes the turn of a blob: all who need the same one wait, wherever it goes.
func (c *copier) state(ctx context.Context, digest oci.Digest) (*blobState, func(), error) {
	c.mu.Lock()
	s := c.byBlob[digest]
	if s == nil {
		s = &blobState{turn: make(chan struct{}, 1)}
		c.byBlob[digest] = s
	}
	c.mu.Unlock()
	select {
	case s.turn <- struct{}{}:
		return s, func() { <-s.turn }, nil
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
}

// expect tells what there is to do, each blob once for each repository. A dry run asks
// the target for each, and counts.
func (c *copier) expect(ctx context.Context, images []*image) {
	seen := map[place]bool{}
	crossed := map[oci.Digest]bool{}
	for _, im := range images {
		if im.result.Err != nil || im.result.Unchanged {
			continue
		}
		for _, n := range im.all() {
			if n.here {
				continue
			}
			for _, d := range n.graph.Blobs {
				key := place{im.job.Target, d.Digest}
				if seen[key] || undistributed(d) {
					continue
				}
				seen[key] = true
				c.o.Progress.Expect(max(d.Size, 0))
				if !c.o.DryRun {
					continue
				}
				_, lacks := im.lacks[d.Digest]
				here, err := lacks, error(nil) // it was found by now
				if !lacks {
					here, err = c.has(ctx, key.repo, oci.Descriptor{MediaType: blobType, Digest: d.Digest, Size: d.Size})
				}
				switch {
				case err != nil:
					im.result.Err = err
				case here || crossed[d.Digest]:
					crossed[d.Digest] = true // it is mounted from there
					c.count(&c.present, d.Size)
				default:
					crossed[d.Digest] = true
					c.count(&c.sent, d.Size)
				}
			}
			if c.o.DryRun {
				im.result.Manifests++
			}
		}
	}
}
