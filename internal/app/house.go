package app

import (
	"context"
	"errors"
	"maps"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"time"

	"sampan/internal/admin"
	"sampan/internal/audit"
	"sampan/internal/intake"
	"sampan/internal/inventory"
	"sampan/internal/oci"
	"sampan/internal/prefetch"
	"sampan/internal/store"
	"sampan/internal/store/disk"
)

// deletingFile says, within the data directory, what a deletion is about.
const deletingFile = "deleting"

// repinEvery is how often it is looked where pinned tags lead.
const repinEvery = 5 * time.Minute

// stored is the disk as the inventory looks at it: without using what it looks at.
type stored struct{ *disk.Store }

// Open reads without counting as a use.
func (s stored) Open(ctx context.Context, d oci.Digest) (store.Blob, error) { return s.Peek(ctx, d) }

// Stat tells size and last use.
func (s stored) Stat(ctx context.Context, d oci.Digest) (int64, time.Time, error) {
	e, err := s.Lookup(ctx, d)
	return e.Size, e.Used, err
}

// Pin replaces what is pinned.
func (s stored) Pin(set map[oci.Digest]struct{}) { s.SetPins(slices.Collect(maps.Keys(set))) }

// AddPins adds to it.
func (s stored) AddPins(set map[oci.Digest]struct{}) {
	s.Store.Pin(slices.Collect(maps.Keys(set))...)
}

// keepHouse makes what looks after the content and does so at set times, and pins what is pinned before
// anything can be evicted in the background.
func (a *App) keepHouse() (err error) {
	if a.inventory, err = inventory.New(inventory.Options{
		Refs: a.index, Blobs: stored{a.store}, Journal: filepath.Join(a.o.Config.Data.Dir, deletingFile), Log: a.o.Log,
	}); err != nil {
		return err
	}
	if err := a.inventory.Repin(context.Background()); err != nil {
		return err
	}
	if err := a.inventory.Resume(context.Background()); err != nil {
		a.o.Log.Warn("deletion that was cut off not ended", "err", err)
	}
	if a.prefetch, err = prefetch.New(prefetch.Options{Reader: a.cache, Done: a.repin, Log: a.o.Log}); err != nil {
		return err
	}
	if a.intake, err = intake.New(intake.Options{Cache: a.cache, Store: a.store, Log: a.o.Log}); err != nil {
		return err
	}
	return a.openSchedule(a.o.Config)
}

// repin looks anew where pinned tags lead.
func (a *App) repin() {
	if err := a.inventory.Repin(context.Background()); err != nil {
		a.o.Log.Warn("pins not renewed", "err", err)
	}
}

// repinning does so until ctx is done.
func (a *App) repinning(ctx context.Context) {
	tick := time.NewTicker(repinEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			a.repin()
		case <-ctx.Done():
			return
		}
	}
}

// content is what the admin listener offers of it.
func (a *App) content(x *admin.Explainer) *admin.Content {
	return &admin.Content{
		Inventory: a.inventory, Prefetch: a.prefetch, Intake: a.intake, Usage: a.store.Usage, Locate: x.Locate,
		Blobs: a.store, Verify: a.verify,
		Audit: func(r *http.Request, act, about string, result any, err error) {
			e := audit.Event{Event: act, Method: r.Method, Path: r.URL.Path, Repository: about, Detail: result}
			if host, _, bad := net.SplitHostPort(r.RemoteAddr); bad == nil {
				e.Client = host
			}
			if err != nil {
				e.Reason = err.Error()
				if !errors.Is(err, context.Canceled) { // nothing was done
					e.Detail = nil
				}
			}
			a.audit.Record(e)
		},
	}
}
