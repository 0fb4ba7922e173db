package fill_test

import (
	"testing"
	"testing/synctest"

	"sampan/internal/oci"
	"sampan/internal/store"
	"sampan/internal/store/disk"
)

// A part of a blob that is larger than the store streams past it, and makes nothing
// leave.
func TestPartOfABlobBeyondTheLimitEvictsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := disk.New(disk.Options{Dir: t.TempDir(), Limits: disk.Limits{MaxSize: disk.Bytes(16 << 20)}})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		kept := content(10<<20, 120)
		if err := store.Put(t.Context(), s, oci.DigestOf(kept), kept); err != nil {
			t.Fatal(err)
		}
		want := content(20<<20, 121)
		u := &upstream{body: want}
		src := u.source()
		src.From = 12 << 20
		g := linesGroup(t, s, 0)
		defer g.Close()
		readAt(t, g, oci.DigestOf(want), src, 12<<20, 1<<20, want)
		synctest.Wait()
		mustStored(t, s, oci.DigestOf(kept), kept)
		mustNotBeStored(t, s, oci.DigestOf(want))
	})
}
