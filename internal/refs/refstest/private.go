package refstest

import (
	"sync"
	"testing"

	"sampan/internal/oci"
	"sampan/internal/refs"
)

func wantHeld(t testing.TB, x refs.Index, repo oci.Repository, d oci.Digest, want bool) {
	t.Helper()
	got, err := x.Held(t.Context(), repo, d)
	must(t, err)
	if got != want {
		t.Fatalf("held in %s: %v, want %v", repo, got, want)
	}
}

func wantPrivate(t testing.TB, x refs.Index, d oci.Digest, want bool) {
	t.Helper()
	got, err := x.Private(t.Context(), d)
	must(t, err)
	if got != want {
		t.Fatalf("private: %v, want %v", got, want)
	}
}

func held(t *testing.T, x *Subject) {
	repo, other := repository(t, "nginx"), repository(t, "quay.io/a/b")
	d := descriptor(3)
	wantHeld(t, x, repo, d.Digest, false)
	must(t, x.PutLinks(t.Context(), repo, d))
	wantHeld(t, x, repo, d.Digest, false)
	must(t, x.PutHeld(t.Context(), repo, oci.Descriptor{Digest: d.Digest, Size: -1}))
	wantHeld(t, x, repo, d.Digest, true)
	wantLink(t, x, repo, d) // type and size are still known
	must(t, x.PutLinks(t.Context(), repo, d))
	wantHeld(t, x, repo, d.Digest, true)
	wantHeld(t, x, other, d.Digest, false)

	fresh := descriptor(4)
	must(t, x.PutHeld(t.Context(), repo, fresh))
	wantLink(t, x, repo, fresh)
	var all sync.WaitGroup // whoever comes last
	both := descriptor(5)
	all.Go(func() {
		if err := x.PutHeld(t.Context(), repo, both); err != nil {
			t.Error(err)
		}
	})
	all.Go(func() {
		if err := x.PutLinks(t.Context(), repo, oci.Descriptor{Digest: both.Digest, Size: -1}); err != nil {
			t.Error(err)
		}
	})
	all.Wait()
	wantHeld(t, x, repo, both.Digest, true)
	must(t, x.Flush(t.Context()))
	again := x.Reopen()
	wantHeld(t, again, repo, d.Digest, true)
	wantHeld(t, again, repo, fresh.Digest, true)
	wantHeld(t, again, other, d.Digest, false)
}

func unmarked(t *testing.T, x *Subject) {
	repo := repository(t, "nginx")
	must(t, x.PutHeld(t.Context(), repo, descriptor(1)))
	must(t, x.SetPrivate(t.Context(), false, descriptor(1).Digest))
	must(t, x.SetPrivate(t.Context(), true))
	for i := range 3 {
		wantPrivate(t, x, descriptor(i).Digest, false)
	}
	must(t, x.Flush(t.Context()))
	again := x.Reopen()
	for i := range 3 {
		wantPrivate(t, again, descriptor(i).Digest, false)
	}
}

func marked(t *testing.T, x *Subject) {
	a, b, c := descriptor(1).Digest, descriptor(2).Digest, descriptor(3).Digest
	must(t, x.SetPrivate(t.Context(), true, a, b))
	wantPrivate(t, x, a, true)
	wantPrivate(t, x, c, false)
	must(t, x.Flush(t.Context()))
	must(t, x.SetPrivate(t.Context(), false, b))
	wantPrivate(t, x, b, false)
	must(t, x.SetPrivate(t.Context(), false, c))
	must(t, x.Flush(t.Context()))
	again := x.Reopen()
	wantPrivate(t, again, a, true)
	wantPrivate(t, again, b, false)
	wantPrivate(t, again, c, false)
	must(t, again.SetPrivate(t.Context(), true, b))
	wantPrivate(t, again, b, true)
}

func distrusted(t *testing.T, x *Subject) {
	a, b, c := descriptor(1).Digest, descriptor(2).Digest, descriptor(3).Digest
	must(t, x.SetPrivate(t.Context(), true, a))
	wantPrivate(t, x, b, false)
	must(t, x.Distrust(t.Context()))
	for _, d := range []oci.Digest{a, b, c} {
		wantPrivate(t, x, d, true)
	}
	must(t, x.SetPrivate(t.Context(), false, b))
	wantPrivate(t, x, b, false)
	must(t, x.Flush(t.Context()))
	again := x.Reopen()
	wantPrivate(t, again, a, true)
	wantPrivate(t, again, b, false)
	wantPrivate(t, again, c, true)
}
