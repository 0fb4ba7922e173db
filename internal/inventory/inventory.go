// Package inventory is what is here, by name: it lists registries, repositories,
// tags and the images behind them, deletes and purges, and pins.
//
// It promises that nothing is deleted which something that stays refers to: a blob
// that another repository is linked to, a manifest that another index or tag of the
// repository leads to, and what is pinned. A deletion is in force at once for
// whoever asks next; who is reading reads on. When whoever asked for it leaves, the
// repository that it is at is ended and no other begun. When it is cut off by a crash,
// what is left is complete or honestly missing, and [Inventory.Resume] removes the bytes
// that have lost their names.
//
// It asks no upstream, and what it finds missing it leaves missing.
//
// Lock order: Inventory.changing is held over a change and is before every lock of
// the rooms below.
package inventory

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"sampan/internal/oci"
	"sampan/internal/refs"
	"sampan/internal/store"
)

// Blobs are the bytes that are here.
type Blobs interface {
	store.Opener
	// Stat returns the size of a blob in bytes and when it was last used, which
	// this is not; [store.ErrNotFound] when it is not here.
	Stat(ctx context.Context, digest oci.Digest) (size int64, used time.Time, err error)
	Delete(ctx context.Context, digest oci.Digest) error
	// Pin replaces the set of digests that stay whatever else has to go.
	Pin(digests map[oci.Digest]struct{})
}

// Options of an [Inventory]. Refs, Blobs and Log are needed.
type Options struct {
	Refs  refs.Catalog
	Blobs Blobs
	// Journal is the file that says what a deletion is about while it runs, so that one
	// that a crash cuts off is ended by [Inventory.Resume]; empty: nothing does.
	Journal string
	Log     *slog.Logger
}

// An Inventory is made by [New]. Its methods may be called concurrently.
type Inventory struct {
	o        Options
	changing sync.Mutex
}

// Errors of an [Inventory].
var (
	// ErrNotFound: there is nothing of that name.
	ErrNotFound = errors.New("there is nothing of that name here")
	// ErrPinned: it is pinned, and deleting was not told to end that.
	ErrPinned = errors.New("it is pinned")
)

// New makes an Inventory.
func New(o Options) (*Inventory, error) {
	if o.Refs == nil || o.Blobs == nil || o.Log == nil {
		return nil, errors.New("inventory: Refs, Blobs and Log are needed")
	}
	return &Inventory{o: o}, nil
}

// pageSize is how many records of the index are read at once.
const pageSize = 1000

// repositories calls f with each repository, in order, until f is false.
func (v *Inventory) repositories(ctx context.Context, after oci.Repository, f func(oci.Repository) (bool, error)) error {
	for {
		page, err := v.o.Refs.Repositories(ctx, after, 100)
		if err != nil {
			return fmt.Errorf("inventory: %w", err)
		}
		for _, repo := range page {
			if more, err := f(repo); !more || err != nil {
				return err
			}
			after = repo
		}
		if len(page) < 100 {
			return nil
		}
	}
}

// tags are all of a repository.
func (v *Inventory) tags(ctx context.Context, repo oci.Repository) (all []refs.TagRecord, err error) {
	var after oci.Tag
	for {
		page, err := v.o.Refs.Tags(ctx, repo, after, pageSize)
		if err != nil {
			return nil, fmt.Errorf("inventory %s: %w", repo, err)
		}
		all = append(all, page...)
		if len(page) < pageSize {
			return all, nil
		}
		after = page[len(page)-1].Tag
	}
}

// links calls f with each link of a repository.
func (v *Inventory) links(ctx context.Context, repo oci.Repository, f func(refs.LinkRecord)) error {
	var after oci.Digest
	for {
		page, err := v.o.Refs.Links(ctx, repo, after, pageSize)
		if err != nil {
			return fmt.Errorf("inventory %s: %w", repo, err)
		}
		for _, l := range page {
			f(l)
		}
		if len(page) < pageSize {
			return nil
		}
		after = page[len(page)-1].Digest
	}
}

// A Registry is one with something here.
type Registry struct {
	Name         oci.Registry `json:"name"`
	Repositories int          `json:"repositories"`
}

// Registries are those with something here, by name.
func (v *Inventory) Registries(ctx context.Context) ([]Registry, error) {
	list := []Registry{}
	err := v.repositories(ctx, oci.Repository{}, func(repo oci.Repository) (bool, error) {
		if n := len(list); n == 0 || list[n-1].Name != repo.Registry() {
			list = append(list, Registry{Name: repo.Registry()})
		}
		list[len(list)-1].Repositories++
		return true, nil
	})
	return list, err
}

// A Filter chooses repositories. The zero value chooses all.
type Filter struct {
	// Registry is the one; zero is any.
	Registry oci.Registry
	// Pattern matches the path; zero is any.
	Pattern oci.Pattern
	// Search is a part of the name, in any case; empty is any.
	Search string
}

func (f Filter) match(repo oci.Repository) bool {
	return (f.Registry.IsZero() || f.Registry == repo.Registry()) && (f.Pattern.IsZero() || f.Pattern.Match(repo.Path())) &&
		strings.Contains(strings.ToLower(repo.String()), strings.ToLower(f.Search))
}

// Repositories are those that the filter chooses, by name, behind after, at most n.
func (v *Inventory) Repositories(ctx context.Context, f Filter, after oci.Repository, n int) ([]oci.Repository, error) {
	list := []oci.Repository{}
	err := v.repositories(ctx, after, func(repo oci.Repository) (bool, error) {
		if f.match(repo) {
			list = append(list, repo)
		}
		return len(list) < n, nil
	})
	return list, err
}

// A Tag is a tag with what is known of where it leads.
type Tag struct {
	Name     oci.Tag        `json:"name"`
	Manifest oci.Descriptor `json:"manifest"`
	// Checked is when the upstream last confirmed it, and Used when its manifest was
	// last used; zero when that is not known.
	Checked time.Time `json:"checked"`
	Used    time.Time `json:"used,omitzero"`
	// Here tells that the manifest is.
	Here   bool `json:"here"`
	Pinned bool `json:"pinned"`
}

// Tags are those of a repository, by name, behind after, at most n.
func (v *Inventory) Tags(ctx context.Context, repo oci.Repository, after oci.Tag, n int) ([]Tag, error) {
	page, err := v.o.Refs.Tags(ctx, repo, after, n)
	if err != nil {
		return nil, fmt.Errorf("inventory %s: %w", repo, err)
	}
	pins, err := v.pinned(ctx, repo)
	if err != nil {
		return nil, err
	}
	list := []Tag{}
	for _, r := range page {
		t := Tag{Name: r.Tag, Manifest: r.Manifest, Checked: r.Checked, Pinned: pins[r.Tag.String()]}
		_, t.Used, err = v.o.Blobs.Stat(ctx, r.Manifest.Digest)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return nil, fmt.Errorf("inventory %s: %w", repo, err)
		}
		t.Here = err == nil
		list = append(list, t)
	}
	return list, nil
}

// manifest reads a manifest that is here; [store.ErrNotFound] when it is not.
func (v *Inventory) manifest(ctx context.Context, d oci.Descriptor) (oci.Manifest, error) {
	if _, _, err := v.o.Blobs.Stat(ctx, d.Digest); err != nil {
		return oci.Manifest{}, err
	}
	b, err := store.ReadAll(ctx, v.o.Blobs, d.Digest, oci.MaxManifestSize)
	if err != nil {
		return oci.Manifest{}, err
	}
	d.Size = int64(len(b))
	return oci.Manifest{Descriptor: d, Bytes: b}, nil
}

// Holders are the repositories that are linked to a digest, by name.
func (v *Inventory) Holders(ctx context.Context, d oci.Digest) (list []oci.Repository, err error) {
	err = v.repositories(ctx, oci.Repository{}, func(repo oci.Repository) (bool, error) {
		_, err := v.o.Refs.Link(ctx, repo, d)
		if err == nil {
			list = append(list, repo)
		}
		if errors.Is(err, refs.ErrNotFound) {
			err = nil
		}
		return true, err
	})
	return list, err
}
