package inventory

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sync/errgroup"

	"sampan/internal/oci"
	"sampan/internal/store"
)

// removers is how many blobs are removed at once: one after the other, each would wait
// for its turn behind all that is served meanwhile.
const removers = 16

// removeAll deletes the bytes of what leaves and is not pinned.
func (p *plan) removeAll(ctx context.Context, pins map[oci.Digest]struct{}, dry bool) error {
	var mu sync.Mutex // of the report
	group, running := errgroup.WithContext(ctx)
	group.SetLimit(removers)
	for d, isManifest := range p.leave {
		if running.Err() != nil {
			break
		}
		if _, pinned := pins[d]; pinned {
			continue
		}
		group.Go(func() error {
			size, err := p.remove(running, d, dry)
			if errors.Is(err, store.ErrNotFound) {
				return nil
			}
			if err != nil {
				return fmt.Errorf("inventory: delete %s: %w", d, err)
			}
			mu.Lock()
			defer mu.Unlock()
			p.report.Bytes += size
			if isManifest {
				p.report.Manifests++
			} else {
				p.report.Blobs++
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return ctx.Err()
}

// remove deletes the bytes of one digest and returns how many they were.
func (p *plan) remove(ctx context.Context, d oci.Digest, dry bool) (int64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	size, _, err := p.v.o.Blobs.Stat(ctx, d)
	if err == nil && !dry {
		err = p.v.o.Blobs.Delete(ctx, d)
	}
	return size, err
}
