package fill

import (
	"context"
	"errors"
	"fmt"
	"time"

	"sampan/internal/oci"
	"sampan/internal/store"
)

// Fetch has the blob named digest in the store and returns when it is, or why it
// is not; nobody reads. The end of ctx ends the waiting and not the fetch.
//
// A fetch that only Fetch has asked for gives way to those that are read: it
// begins when its upstream has a line to spare, and stays at one. As soon as
// somebody opens the blob it is a fetch like any other.
func (g *Group) Fetch(ctx context.Context, digest oci.Digest, src Source) error {
	for {
		b, err := g.o.Store.Open(ctx, digest)
		if err == nil {
			return b.Close()
		}
		if !errors.Is(err, store.ErrNotFound) {
			return fmt.Errorf("fill %s: %w", digest, err)
		}
		own := &offer{Source: src, quiet: true}
		f, joined, err := g.join(ctx, digest, own)
		if err != nil {
			return err
		}
		select {
		case <-f.gone:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if joined {
			return f.outcome(own)
		}
	}
}

// outcome is how a flight that is gone ended for one who lent it a source.
func (f *flight) outcome(own *offer) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.err == nil, errors.Is(f.err, errGone):
		return nil
	case own.err != nil:
		return own.err
	}
	return f.err
}

// spareEvery is how often a fetch that nobody reads looks for a line to spare.
const spareEvery = 250 * time.Millisecond

// turn waits for the first line of the flight.
func (f *flight) turn(ctx context.Context, upstream string) error {
	again := time.NewTicker(spareEvery)
	defer again.Stop()
	for f.isQuiet() {
		if f.group.limits.spare(upstream) {
			return nil
		}
		select {
		case <-again.C:
		case <-f.poke: // perhaps somebody wants to read
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return f.group.limits.acquire(ctx, upstream)
}

func (f *flight) isQuiet() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.quiet
}
