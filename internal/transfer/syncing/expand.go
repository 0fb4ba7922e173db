package syncing

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"

	"sampan/internal/oci"
	"sampan/internal/transfer"
)

// An Item is one image of a list and one place where it goes.
type Item struct {
	Source oci.Reference
	// Target is where: a registry's repository. Tag is what it is called there; zero
	// for an image that is named by its digest alone.
	Target    oci.Repository
	Tag       oci.Tag
	Platforms []string
	Referrers bool
	// Pruned: the list says which tags Target has, so that others of it may go.
	Pruned bool
}

// A Failure is a source or an image that cannot be copied, and why.
type Failure struct {
	Source string
	Err    error
	// Targets are repositories of which is not known what the list has for them; nil where
	// that is known, or cannot be told.
	Targets []oci.Repository
}

// ErrEmpty is the Err of a repository of which the list chooses no tag. That is told and no
// failure: it may be meant.
var ErrEmpty = errors.New("its tags choose nothing")

// Place names where a source goes, below or at a target as the list has it. Without a tag
// it is there by its digest alone.
type Place func(target string, source oci.Reference) (oci.Reference, error)

// listing bounds how many repositories are asked for their tags at once.
const listing = 8

// Expand makes items of a list: it asks for the tags of repositories where patterns
// choose them, and for nothing else. What cannot be asked fails alone. The error is of
// two sources on one name, for which nothing may be sent.
func Expand(ctx context.Context, l *List, reader func(oci.Registry) (oci.Reader, error), place Place) ([]Item, []Failure, error) {
	sources := slices.Clone(l.Images)
	for _, release := range l.Kubernetes {
		images, err := KubernetesImages(release)
		if err != nil {
			return nil, nil, err
		}
		for _, ref := range images {
			sources = append(sources, Source{Source: ref.String(), ref: ref, release: true})
		}
	}
	refs := make([][]oci.Reference, len(sources))
	errs := make([]error, len(sources))
	var g errgroup.Group
	g.SetLimit(listing)
	for i := range sources {
		g.Go(func() error {
			refs[i], errs[i] = sources[i].images(ctx, reader)
			return nil
		})
	}
	_ = g.Wait() // each tells its own error
	var items []Item
	var failed []Failure
	for i, s := range sources {
		if errs[i] != nil {
			failed = append(failed, Failure{s.Source, errs[i], l.repositories(s, place)})
			continue
		}
		if len(refs[i]) == 0 {
			failed = append(failed, Failure{s.Source, ErrEmpty, nil})
		}
		for _, ref := range refs[i] {
			of, err := l.items(s, ref, place)
			if err != nil {
				failed = append(failed, Failure{ref.String(), err, nil})
			}
			items = append(items, of...)
		}
	}
	items, err := unique(items)
	return items, failed, err
}

// images are those of a source now.
func (s *Source) images(ctx context.Context, reader func(oci.Registry) (oci.Reader, error)) ([]oci.Reference, error) {
	if s.Tags.none() {
		return []oci.Reference{s.ref}, nil
	}
	tags, all := s.Tags.named()
	if !all {
		r, err := reader(s.ref.Repository.Registry())
		if err != nil {
			return nil, err
		}
		there, err := patiently(ctx, func() ([]oci.Tag, error) { return r.Tags(ctx, s.ref.Repository) })
		if err != nil {
			return nil, err
		}
		tags = s.Tags.choose(there)
	}
	refs := make([]oci.Reference, 0, len(tags))
	for _, tag := range tags {
		refs = append(refs, oci.Reference{Repository: s.ref.Repository, Tag: tag})
	}
	return refs, nil
}

// patiently asks as often as a transfer does.
func patiently[T any](ctx context.Context, question func() (T, error)) (T, error) {
	return transfer.Again(ctx, transfer.Backoff, nil, question)
}

// repositories are where something of a source goes, whatever its tags are.
func (l *List) repositories(s Source, place Place) []oci.Repository {
	latest, err := oci.ParseTag("latest")
	if err != nil {
		return nil
	}
	items, _ := l.items(s, oci.Reference{Repository: s.ref.Repository, Tag: latest}, place) // a place that cannot be named is told of images
	var list []oci.Repository
	for _, it := range items {
		list = append(list, it.Target)
	}
	return list
}

// items are the places where an image goes.
func (l *List) items(s Source, ref oci.Reference, place Place) ([]Item, error) {
	targets, platforms, referrers := s.To, s.Platforms, l.Referrers
	if len(targets) == 0 {
		targets = l.Targets
	}
	if len(platforms) == 0 {
		platforms = l.Platforms
	}
	if s.Referrers != nil {
		referrers = *s.Referrers
	}
	names := []oci.Reference{ref}
	if s.release {
		names = namesForKubeadm(ref)
	}
	var items []Item
	for _, target := range targets {
		for _, name := range names {
			named, err := place(target, name)
			if err != nil {
				return items, fmt.Errorf("%s: %w", target, err)
			}
			items = append(items, Item{
				Source: ref, Target: named.Repository, Tag: named.Tag, Platforms: platforms, Referrers: referrers, Pruned: !s.Tags.none(),
			})
		}
	}
	return items, nil
}

// A Collision is two images that would have one name at a target.
type Collision struct{ Name, One, Other string }

func (c *Collision) Error() string {
	return fmt.Sprintf("%s and %s would both be %s", c.One, c.Other, c.Name)
}

// unique makes one of what is there twice, with all that either asks for, and fails where a
// name would be two things.
func unique(items []Item) ([]Item, error) {
	type name struct {
		repo   oci.Repository
		tag    oci.Tag
		digest oci.Digest // where there is no tag
	}
	taken := make(map[name]int) // of kept
	kept := items[:0]
	for _, it := range items {
		n := name{repo: it.Target, tag: it.Tag}
		if it.Tag.IsZero() {
			n.digest = it.Source.Digest
		}
		at, there := taken[n]
		if !there {
			taken[n] = len(kept)
			kept = append(kept, it)
			continue
		}
		before := &kept[at]
		before.Referrers = before.Referrers || it.Referrers
		before.Pruned = before.Pruned || it.Pruned
		if before.Source.String() != it.Source.String() || !slices.Equal(before.Platforms, it.Platforms) {
			return nil, &Collision{Name: oci.Reference{Repository: it.Target, Tag: it.Tag, Digest: n.digest}.String(), One: before.Source.String(), Other: it.Source.String()}
		}
	}
	return kept, nil
}
