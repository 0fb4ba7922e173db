package inventory

import (
	"context"
	"errors"
	"fmt"

	"sampan/internal/oci"
	"sampan/internal/refs"
)

// A Pin is what an operator wants to stay: a tag, wherever it leads, or a digest.
type Pin = refs.Pin

// Pins are all of them.
func (v *Inventory) Pins(ctx context.Context) ([]Pin, error) {
	list, err := v.o.Refs.Pins(ctx)
	if err != nil {
		return nil, fmt.Errorf("inventory: %w", err)
	}
	return append([]Pin{}, list...), nil
}

// SetPin pins a tag or a digest of a repository, which need not be here yet, or ends
// that. What is here of it stays from now on; see [Inventory.Repin].
func (v *Inventory) SetPin(ctx context.Context, repo oci.Repository, reference string, pinned bool) error {
	_, tag := oci.ParseTag(reference)
	if _, err := oci.ParseDigest(reference); tag != nil && err != nil {
		return fmt.Errorf("%w: %s is neither a tag nor a digest", ErrNotFound, reference)
	}
	v.changing.Lock()
	defer v.changing.Unlock()
	if err := v.o.Refs.SetPin(ctx, repo, reference, pinned); err != nil {
		return fmt.Errorf("inventory: %w", err)
	}
	a, ok := v.o.Blobs.(PinAdder)
	if !pinned || !ok {
		return v.repin(ctx)
	}
	set := make(map[oci.Digest]struct{})
	if err := v.led(ctx, Pin{Repository: repo, Reference: reference}, set); err != nil {
		return err
	}
	a.AddPins(set)
	return nil
}

// A PinAdder are [Blobs] that can be told of more that stays: then one pin more does not
// cost a look at all the others.
type PinAdder interface {
	AddPins(digests map[oci.Digest]struct{})
}

// Repin tells the blobs anew what is pinned: a tag that is pinned may have moved, and
// more of an image may have come. It is called at the start, before anything may be
// evicted, and from time to time.
func (v *Inventory) Repin(ctx context.Context) error {
	v.changing.Lock()
	defer v.changing.Unlock()
	return v.repin(ctx)
}

func (v *Inventory) repin(ctx context.Context) error {
	set, err := v.pinnedDigests(ctx)
	if err != nil {
		return err
	}
	v.o.Blobs.Pin(set)
	return nil
}

// pinnedDigests are those of all that is pinned, here or not.
func (v *Inventory) pinnedDigests(ctx context.Context) (map[oci.Digest]struct{}, error) {
	pins, err := v.o.Refs.Pins(ctx)
	if err != nil {
		return nil, fmt.Errorf("inventory: %w", err)
	}
	set := make(map[oci.Digest]struct{})
	for _, p := range pins {
		if err := v.led(ctx, p, set); err != nil {
			return nil, err
		}
	}
	return set, nil
}

// led adds to set what a pin leads to; nothing for a tag that has not come yet.
func (v *Inventory) led(ctx context.Context, p Pin, set map[oci.Digest]struct{}) error {
	desc, err := v.resolve(ctx, p.Repository, p.Reference)
	if errors.Is(err, ErrNotFound) {
		d, err := oci.ParseDigest(p.Reference)
		if err != nil {
			return nil //nolint:nilerr // a tag that has not come yet
		}
		desc = oci.Descriptor{Digest: d}
	} else if err != nil {
		return err
	}
	manifests, blobs, err := v.closure(ctx, desc)
	if err != nil {
		return err
	}
	for _, m := range manifests {
		set[m.Digest] = struct{}{}
	}
	for _, b := range blobs {
		set[b] = struct{}{}
	}
	return nil
}

// pinned are the references of a repository that are pinned.
func (v *Inventory) pinned(ctx context.Context, repo oci.Repository) (map[string]bool, error) {
	pins, err := v.o.Refs.Pins(ctx)
	if err != nil {
		return nil, fmt.Errorf("inventory: %w", err)
	}
	set := make(map[string]bool)
	for _, p := range pins {
		if p.Repository == repo {
			set[p.Reference] = true
		}
	}
	return set, nil
}
