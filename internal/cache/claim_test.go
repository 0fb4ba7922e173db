package cache_test

import (
	"context"
	"log/slog"
	"strings"
	"testing"

	"sampan/internal/cache"
	"sampan/internal/oci"
)

// A claimant claims every blob, and can prove none.
type claimant struct{ *registry }

func (c claimant) StatBlob(_ context.Context, _ oci.Repository, d oci.Digest) (oci.Descriptor, error) {
	return oci.Descriptor{Digest: d, Size: int64(len(layerA))}, nil
}

func (c claimant) ProveBlob(context.Context, oci.Repository, oci.Digest) (oci.Descriptor, error) {
	return oci.Descriptor{}, oci.ErrUnavailable
}

// newClaimFixture is newFixture where disk.example only claims what it has, and
// repositories of corp.example and disk.example/private are private.
func newClaimFixture(t *testing.T) *fixture {
	t.Helper()
	f := newFixture(t)
	var err error
	f.Cache, err = cache.New(cache.Options{
		Store: f.store, Refs: f.index, Fills: f.fills, Log: slog.New(slog.DiscardHandler),
		Policy: func(oci.Repository) cache.Freshness { return f.policy },
		Upstream: func(r oci.Registry) (oci.Reader, error) {
			if r.String() == "disk.example" {
				return claimant{f.up}, nil
			}
			return f.up, nil
		},
		Private: func(r oci.Repository) bool {
			return r.Registry().String() == "corp.example" || strings.HasPrefix(r.String(), "disk.example/private/")
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Cache.Close)
	return f
}

// It does not matter whether the claim is made before the private bytes come or after.
func TestAClaimIsNoPossession(t *testing.T) {
	f := newClaimFixture(t)
	f.up.push(t, "corp.example/team/app:v1", layerA)
	claim := func() {
		t.Helper()
		for _, repo := range []string{"disk.example/open/app", "disk.example/private/app"} {
			_, _ = f.StatBlob(t.Context(), mustRepo(t, repo), oci.DigestOf(layerA)) // what it is told does not matter
		}
	}
	claim()
	f.pull(t, "corp.example/team/app", "v1", layerA)
	f.fills.Close()
	for range 2 {
		for _, repo := range []string{"disk.example/open/app", "disk.example/private/app"} {
			if err := f.blob(t, repo, layerA); err == nil {
				t.Errorf("%s serves what it only claims to have", repo)
			}
		}
		claim()
	}
	if err := f.blob(t, "corp.example/team/app", layerA); err != nil {
		t.Errorf("owner: %v", err)
	}
}
