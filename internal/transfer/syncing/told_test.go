package syncing

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"sampan/internal/transfer"
)

// said is a report as text.
func said(t *testing.T, r *Report) string {
	t.Helper()
	var b strings.Builder
	if err := r.WriteText(&b, func(english, _ string) string { return english }, func(n int64) string { return fmt.Sprint(n) }); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// Tags that choose nothing may be meant, and may be a slip: it is told, and is no failure.
func TestTagsThatChooseNothingAreTold(t *testing.T) {
	from, to := newMemory(), newMemory()
	from.add(t, "quay.io/a/b:v1", "one")
	from.add(t, "quay.io/a/c:latest", "two")
	to.add(t, "m.test/a/c:v0", "old")
	const list = "targets: [m.test/]\nimages: [{source: quay.io/a/b, tags: ['v*']}, {source: quay.io/a/c, tags: ['v*']}]\n"
	r, got := run(t, list, from, to, Options{Prune: true})
	if !slices.Equal(got, []string{"quay.io/a/b:v1>m.test/a/b:v1 copied"}) || !r.Complete || !slices.Equal(r.Empty, []string{"quay.io/a/c"}) {
		t.Errorf("got %v, nothing of %v, complete: %t", got, r.Empty, r.Complete)
	}
	if s := said(t, r); !strings.Contains(s, "quay.io/a/c: its tags choose nothing\n") || strings.Contains(s, "quay.io/a/b: its") {
		t.Errorf("it says\n%s", s)
	}
	if to.tags["m.test/a/c:v0"].IsZero() {
		t.Error("what nobody looks after was deleted")
	}
}

// A dry run shows what would be deleted also where something fails, and that nothing would.
// What is not known, because a source of the same repository cannot be asked, is not shown.
func TestADryRunShowsDeletionsThatFailuresHoldBack(t *testing.T) {
	from, to := newMemory(), newMemory()
	from.add(t, "quay.io/a/b:v1", "one")
	from.add(t, "quay.io/a/c:v1", "two")
	to.add(t, "m.test/a/b:v0", "old")
	to.add(t, "m.test/a/c:v0", "older")
	const list = "targets: [m.test/]\nimages:\n  - quay.io/gone:1\n  - {source: quay.io/a/b, tags: ['v*']}\n" +
		"  - {source: quay.io/a/c, tags: ['v*']}\n  - {source: ghcr.io/a/c, tags: ['*']}\n"
	for _, dry := range []bool{true, false} {
		r, got := run(t, list, from, to, Options{Prune: true, Copy: transfer.Options{DryRun: dry}})
		if r.Complete || !r.Withheld || slices.Contains(got, ">m.test/a/b:v0 pruned") != dry || slices.Contains(got, ">m.test/a/c:v0 pruned") {
			t.Errorf("dry: %t, withheld: %t, got %v", dry, r.Withheld, got)
		}
		if to.tags["m.test/a/b:v0"].IsZero() || to.tags["m.test/a/c:v0"].IsZero() {
			t.Error("something was deleted")
		}
		s, line := said(t, r), "nothing was deleted, because something failed\n"
		if dry {
			line = "nothing would be deleted, because something fails\n"
			if !strings.Contains(s, "m.test/a/b:v0: would be deleted if nothing failed\n") {
				t.Errorf("it says\n%s", s)
			}
		}
		if !strings.Contains(s, line) {
			t.Errorf("it says\n%s", s)
		}
	}
	sound := strings.Replace(list, "  - quay.io/gone:1\n", "", 1)
	sound, _, _ = strings.Cut(sound, "  - {source: ghcr.io")
	if r, got := run(t, sound, from, to, Options{Prune: true, Copy: transfer.Options{DryRun: true}}); r.Withheld || !r.Complete || r.Count(Pruned) != 2 || strings.Contains(said(t, r), "nothing") {
		t.Errorf("where all is well: %v\n%s", got, said(t, r))
	}
}
