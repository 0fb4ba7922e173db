package cache_test

import (
	"strings"
	"testing"
	"time"

	"sampan/internal/cache"
	"sampan/internal/oci"
)

func TestOfflineServesWhatIsHereAndAsksNobody(t *testing.T) {
	inBubble(t, cache.Freshness{FreshFor: freshFor, StaleIfError: time.Hour}, func(t *testing.T, f *fixture, m oci.Manifest) {
		repo := mustRepo(t, "app")
		if _, err := f.Tags(t.Context(), repo); err != nil {
			t.Fatal(err)
		}
		f.fills.Close() // commits
		f.up.total()
		f.Cache = f.offline(t)
		pass(1000 * time.Hour)
		got, trace := f.pull(t, "app", "v1", layerA)
		if got.Descriptor.Digest != m.Descriptor.Digest || trace.Result != oci.ResultStale || !strings.Contains(trace.Stale, "offline") {
			t.Errorf("got %s, %+v", got.Descriptor.Digest, trace)
		}
		if _, err := f.Tags(t.Context(), repo); err != nil {
			t.Errorf("tags: %v", err)
		}
		for name, err := range map[string]error{
			"tag":      second(f.ResolveTag(t.Context(), repo, mustTag("other"))),
			"manifest": second(f.Manifest(t.Context(), repo, oci.DigestOf(layerB))),
			"blob":     second(f.Blob(t.Context(), repo, oci.DigestOf(layerB))),
			"stat":     second(f.StatBlob(t.Context(), repo, oci.DigestOf(layerB))),
			"tags":     second(f.Tags(t.Context(), mustRepo(t, "other"))),
		} {
			if oci.CodeOf(err) != oci.CodeUnavailable || !strings.Contains(err.Error(), "离线") {
				t.Errorf("%s that is not here: %v", name, err)
			}
		}
		if n := f.up.total(); n != 0 {
			t.Errorf("asked %d times", n)
		}
	})
}

func second[T any](_ T, err error) error { return err }

// offline is an offline cache over the same data.
func (f *fixture) offline(t *testing.T) *cache.Cache {
	t.Helper()
	o := f.options(f.up)
	o.Offline = true
	c, err := cache.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}
