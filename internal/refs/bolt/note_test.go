package bolt

import (
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"sampan/internal/oci"
	"sampan/internal/refs"
)

// Notes outlive the process and a repair, and are in no list of repositories.
func TestNotesAreKeptBesideTheNames(t *testing.T) {
	path := filepath.Join(t.TempDir(), "index.db")
	open := func() *Index {
		t.Helper()
		x, err := Open(path, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		return x
	}
	want := func(x *Index, name, want string) {
		t.Helper()
		if got, err := x.Note(t.Context(), name); err != nil || string(got) != want {
			t.Errorf("%s: %s, %v", name, got, err)
		}
	}
	ctx := t.Context()
	x := open()
	want(x, "nightly", "")
	for _, note := range []string{`{"n":1}`, `{"n":2}`} {
		if err := x.PutNote(ctx, "nightly", []byte(note)); err != nil {
			t.Fatal(err)
		}
	}
	if err := x.PutNote(ctx, "bad", []byte(`{`)); err == nil {
		t.Error("a note that is no document is kept")
	}
	want(x, "nightly", `{"n":2}`)
	repo, err := oci.ParseRepository("docker.io/library/alpine")
	if err == nil {
		err = x.PutList(ctx, repo, "tags", refs.ListEntry{Body: []byte("x"), Checked: time.Now()})
	}
	if err == nil {
		err = x.DeleteLists(ctx, repo)
	}
	if list, err := x.Repositories(ctx, oci.Repository{}, 10); err != nil || len(list) != 0 {
		t.Errorf("%v, %v", list, err)
	}
	if err != nil || x.Close() != nil {
		t.Fatal(err)
	}
	x = open()
	want(x, "nightly", `{"n":2}`)
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	if r, err := Repair(path, time.Now()); err != nil || r.Lost != 0 {
		t.Fatalf("%+v, %v", r, err)
	}
	x = open()
	want(x, "nightly", `{"n":2}`)
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
}
