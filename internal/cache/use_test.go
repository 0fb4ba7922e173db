package cache_test

import (
	"testing"
	"testing/synctest"
	"time"

	"sampan/internal/store"
)

// A manifest that is served from memory is used, too: or what is pulled most often
// would be the first to leave the disk.
func TestAManifestOfTheMemoryIsUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		m := f.up.push(t, "docker.io/team/app:1", []byte("x"))
		repo := mustRepo(t, "docker.io/team/app")
		used := func() time.Time {
			var lister store.Lister = f.store
			e, err := lister.Lookup(t.Context(), m.Descriptor.Digest)
			if err != nil {
				t.Fatal(err)
			}
			return e.Used
		}
		for range 2 {
			if _, err := f.Manifest(t.Context(), repo, m.Descriptor.Digest); err != nil {
				t.Fatal(err)
			}
		}
		before := used()
		time.Sleep(time.Hour)
		if _, err := f.Manifest(t.Context(), repo, m.Descriptor.Digest); err != nil {
			t.Fatal(err)
		}
		if got := used(); got.Sub(before) < 59*time.Minute {
			t.Errorf("it was last used at %v, after %v", got, before)
		}
	})
}
