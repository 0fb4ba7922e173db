package cache_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"

	"sampan/internal/cache"
	"sampan/internal/fill"
	"sampan/internal/oci"
	"sampan/internal/store"
)

// A dying disk gives what it has no more.
type dying struct {
	store.Store
	gone atomic.Bool
	only oci.Digest // zero: all
}

func (d *dying) Open(ctx context.Context, digest oci.Digest) (store.Blob, error) {
	b, err := d.Store.Open(ctx, digest)
	if err == nil && d.gone.Load() && (d.only.IsZero() || d.only == digest) {
		return nil, errors.Join(syscall.EIO, b.Close())
	}
	return b, err
}

// One bad block does not keep an image from everybody who can still have it from its
// registry.
func TestWhatCannotBeOpenedIsReadFromUpstream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		disk := &dying{Store: f.store}
		over := func() {
			o := f.options(f.up)
			o.Store = disk
			c, err := cache.New(o)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(c.Close)
			f.Cache = c // which remembers no manifest
		}
		m := f.up.push(t, "docker.io/library/app:v1", layerA)
		over()
		f.pull(t, "app", "v1", layerA)
		synctest.Wait() // it is committed
		over()
		disk.gone.Store(true)
		f.up.total()

		got, err := f.Manifest(t.Context(), mustRepo(t, "app"), m.Descriptor.Digest)
		if err != nil || !bytes.Equal(got.Bytes, m.Bytes) {
			t.Errorf("manifest: %q, %v", got.Bytes, err)
		}
		b, err := f.Blob(t.Context(), mustRepo(t, "app"), oci.DigestOf(layerA))
		if err != nil {
			t.Fatal(err)
		}
		all, err := io.ReadAll(b)
		if err != nil || !bytes.Equal(all, layerA) {
			t.Errorf("blob: %d bytes, %v", len(all), err)
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
		if n := f.up.total(); n != 2 {
			t.Errorf("asked %d times", n)
		}

		// Without the registry it is not to be had, which is no fault of the client's.
		f.up.set(errors.New("connection refused"))
		if b, err := f.Blob(t.Context(), mustRepo(t, "app"), oci.DigestOf(layerA)); err == nil {
			t.Errorf("a blob from nowhere: %v", b)
		}
		disk.gone.Store(false)
		if err := f.blob(t, "docker.io/library/app", layerA); err != nil {
			t.Errorf("when it can be opened again: %v", err)
		}
	})
}

// It is no reason to prefetch nothing from its registry for a while.
func TestWhatCannotBeOpenedStopsNoPrefetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		disk := &dying{Store: f.store, only: oci.DigestOf(layerA)}
		fills, err := fill.New(fill.Options{Store: disk, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		defer fills.Close()
		c := f.prefetching(t, f.up, func(o *cache.Options) { o.Store, o.Fills = disk, fills })
		first := f.up.push(t, "docker.io/library/app:v1", layerA)
		second := f.up.push(t, "docker.io/library/app:v2", layerB)
		f.pull(t, "app", "v1", layerA)
		synctest.Wait()
		disk.gone.Store(true)
		clientGets(t, c, "app", first.Descriptor.Digest)
		synctest.Wait()
		clientGets(t, c, "app", second.Descriptor.Digest)
		synctest.Wait()
		if !f.stored(t, oci.DigestOf(layerB)) {
			t.Error("what can be had was not prefetched")
		}
	})
}
