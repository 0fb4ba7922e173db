package syncing

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"sampan/internal/oci"
)

// maxLooks are how many manifests of a target are read at once.
const maxLooks = 8

// Doomed are the tags that pruning would delete: those of repositories whose tags the
// list chooses, that no item has. Tags of signatures belong to images and stay.
func Doomed(ctx context.Context, items []Item, target func(oci.Registry) (Target, error)) ([]oci.Reference, error) {
	type name struct {
		repo oci.Repository
		tag  oci.Tag
	}
	wanted := make(map[name]bool)
	var order []oci.Repository
	for _, it := range items {
		if it.Pruned && !slices.Contains(order, it.Target) {
			order = append(order, it.Target)
		}
		wanted[name{it.Target, it.Tag}] = true
	}
	var doomed []oci.Reference
	for _, repo := range order {
		at, err := target(repo.Registry())
		if err != nil {
			return nil, err
		}
		there, err := patiently(ctx, func() ([]oci.Tag, error) { return at.Tags(ctx, repo) })
		if errors.Is(err, oci.ErrNameUnknown) {
			continue // nothing has gone there yet
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", repo, err)
		}
		for _, tag := range there {
			if !wanted[name{repo, tag}] && !attached(tag) {
				doomed = append(doomed, oci.Reference{Repository: repo, Tag: tag})
			}
		}
	}
	return doomed, nil
}

// prune deletes what is doomed, but for tags that point at what stays.
func (r *Report) prune(ctx context.Context, items []Item, o Options) {
	doomed, err := Doomed(ctx, items, o.Target)
	if err != nil {
		r.fail(ctx, Outcome{Target: "--prune"}, err)
	}
	for _, ref := range doomed {
		if o.Agreed != nil && !slices.Contains(o.Agreed, ref) {
			continue
		}
		out := Outcome{Target: ref.String()}
		if out.Result, err = r.pruneTag(ctx, ref, o); err != nil {
			r.fail(ctx, out, err)
			continue
		}
		r.Images = append(r.Images, out)
	}
}

// pruneTag deletes one tag, or tells that a dry run would.
func (r *Report) pruneTag(ctx context.Context, ref oci.Reference, o Options) (Result, error) {
	at, err := o.Target(ref.Repository.Registry())
	if err != nil {
		return Failed, err
	}
	d, err := patiently(ctx, func() (oci.Descriptor, error) { return at.ResolveTag(ctx, ref.Repository, ref.Tag) })
	switch {
	case oci.IsUnknown(err):
		return Pruned, nil // somebody else was quicker
	case err != nil:
		return Failed, err
	}
	stays, err := r.stays(ctx, at, ref.Repository, d.Digest)
	switch {
	case err != nil:
		return Failed, err
	case stays:
		return Kept, nil
	case o.Copy.DryRun:
		return Pruned, nil
	}
	_, err = patiently(ctx, func() (struct{}, error) { return struct{}{}, at.DeleteTag(ctx, ref.Repository, ref.Tag) })
	return Pruned, err
}

// attached tells whether a tag is one under which what refers to an image is found:
// sha256-<hex>, with or without .sig, .att or .sbom.
func attached(tag oci.Tag) bool {
	rest, ok := strings.CutPrefix(tag.String(), "sha256-")
	digits, _, _ := strings.Cut(rest, ".")
	return ok && len(digits) == 64 && strings.Trim(digits, "0123456789abcdef") == ""
}

// stays tells whether a digest is that of an image that stays, or of a part of one:
// registries that delete the manifest along with its tag would leave a hole in an index.
// What the indexes name is read once for each repository of which a tag is to go.
func (r *Report) stays(ctx context.Context, at Target, repo oci.Repository, digest oci.Digest) (bool, error) {
	if _, is := r.kept[repo][digest]; is {
		return true, nil
	}
	parts, known := r.parts[repo]
	if !known {
		var err error
		if parts, err = partsOf(ctx, at, repo, r.kept[repo]); err != nil {
			return false, err
		}
		if r.parts == nil {
			r.parts = make(map[oci.Repository]map[oci.Digest]bool)
		}
		r.parts[repo] = parts
	}
	return parts[digest], nil
}

// partsOf are what the indexes among images name. One that is not at the target, as in a
// dry run, names nothing there.
func partsOf(ctx context.Context, at Target, repo oci.Repository, images map[oci.Digest]oci.Descriptor) (map[oci.Digest]bool, error) {
	parts := make(map[oci.Digest]bool)
	reader, ok := at.(manifestReader)
	if !ok {
		return parts, nil
	}
	var mu sync.Mutex
	g, inner := errgroup.WithContext(ctx)
	g.SetLimit(maxLooks)
	for digest, d := range images {
		if d.MediaType != "" && d.MediaType != oci.MediaTypeImageIndex && d.MediaType != oci.MediaTypeDockerList {
			continue
		}
		g.Go(func() error {
			m, err := patiently(inner, func() (oci.Manifest, error) { return reader.Manifest(inner, repo, digest) })
			if oci.IsUnknown(err) {
				return nil
			}
			if err != nil {
				return fmt.Errorf("%s@%s: %w", repo, digest, err)
			}
			graph, err := m.Graph()
			if err != nil {
				return fmt.Errorf("%s@%s: %w", repo, digest, err)
			}
			mu.Lock()
			defer mu.Unlock()
			for _, child := range graph.Manifests {
				parts[child.Digest] = true
			}
			return nil
		})
	}
	return parts, g.Wait()
}

// A manifestReader is a target that can be read.
type manifestReader interface {
	Manifest(ctx context.Context, repo oci.Repository, digest oci.Digest) (oci.Manifest, error)
}
