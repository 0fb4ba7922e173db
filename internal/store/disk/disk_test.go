package disk

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sampan/internal/oci"
	"sampan/internal/store"
	"sampan/internal/store/storetest"
)

func TestStore(t *testing.T) {
	storetest.Run(t, func(t testing.TB) store.Store { return newStore(t, t.TempDir()) })
}

func newStore(t testing.TB, dir string) *Store {
	t.Helper()
	s, err := New(Options{Dir: dir})
	must(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestBlobsLieWhereTheLayoutSays(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made", "by", "sampan")
	s := newStore(t, dir)
	b := []byte("bytes")
	d := oci.DigestOf(b)
	in, err := s.Ingest(t.Context(), d)
	must(t, err)
	_, err = in.Write(b)
	must(t, err)
	partial := filepath.Join(dir, "partial", "sha256-"+d.Hex())
	whole := filepath.Join(dir, "blobs", "sha256", d.Hex()[:2], d.Hex())
	wantFile(t, partial, "bytes")
	must(t, in.Commit(t.Context(), int64(len(b))))
	wantFile(t, whole, "bytes")
	wantFile(t, filepath.Join(dir, "version"), "sampan data 2\n")
	wantFile(t, filepath.Join(dir, "lock"), fmt.Sprintf("%d\n", os.Getpid()))
	if _, err := os.Stat(partial); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the partial file is still there: %v", err)
	}
	blob, err := s.Open(t.Context(), d)
	must(t, err)
	defer blob.Close()
	if f, ok := blob.(store.FileBlob); !ok || f.File().Name() != whole {
		t.Errorf("the blob is not the plain file %s", whole)
	}
	for path, want := range map[string]os.FileMode{dir: dirMode, whole: fileMode} {
		if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != want {
			t.Errorf("%s is not private: %v, %v", path, fi.Mode(), err)
		}
	}
}

func wantFile(t *testing.T, path, want string) {
	t.Helper()
	if b, err := os.ReadFile(path); err != nil || string(b) != want {
		t.Errorf("%s holds %q, %v; want %q", path, b, err, want)
	}
}

func TestWhatWasStoredIsThereAfterReopening(t *testing.T) {
	dir := t.TempDir()
	s := newStore(t, dir)
	d, begun := oci.DigestOf([]byte("whole")), oci.DigestOf([]byte("begun"))
	must(t, store.Put(t.Context(), s, d, []byte("whole")))
	in, err := s.Ingest(t.Context(), begun)
	must(t, err)
	_, err = in.Write([]byte("beg"))
	must(t, err)
	must(t, s.Close()) // without Keep, as in a crash
	s = newStore(t, dir)
	if b, err := store.ReadAll(t.Context(), s, d, 10); err != nil || string(b) != "whole" {
		t.Errorf("%q, %v", b, err)
	}
	in, err = s.Ingest(t.Context(), begun)
	must(t, err)
	if in.Len() != 3 {
		t.Errorf("%d bytes of the partial blob are there, want 3", in.Len())
	}
	must(t, in.Keep())
}

func TestAnotherLayoutIsRefused(t *testing.T) {
	dir := t.TempDir()
	must(t, newStore(t, dir).Close())
	must(t, os.WriteFile(filepath.Join(dir, "version"), []byte("sampan data 3\n"), fileMode))
	_, err := New(Options{Dir: dir})
	if err == nil || !strings.Contains(err.Error(), `"sampan data 3"`) || !strings.Contains(err.Error(), `"sampan data 2"`) {
		t.Fatalf("got %v, want an error that names both versions", err)
	}
	// What was refused is not locked either.
	must(t, os.WriteFile(filepath.Join(dir, "version"), []byte(layoutVersion), fileMode))
	newStore(t, dir)
}

func TestASecondStoreInTheSameProcessIsRefused(t *testing.T) {
	dir := t.TempDir()
	s := newStore(t, dir)
	_, err := New(Options{Dir: dir})
	wantLocked(t, err, os.Getpid())
	must(t, s.Close())
	newStore(t, dir)
}

func wantLocked(t *testing.T, err error, pid int) {
	t.Helper()
	if !errors.Is(err, store.ErrLocked) || !strings.Contains(err.Error(), fmt.Sprintf("process %d ", pid)) {
		t.Fatalf("got %v, want ErrLocked that names process %d", err, pid)
	}
}

// emptyDir removes all that a store has made, under its feet.
func emptyDir(t *testing.T, dir string) {
	t.Helper()
	must(t, os.RemoveAll(filepath.Join(dir, "blobs")))
	must(t, os.RemoveAll(filepath.Join(dir, "partial")))
}

func TestADirectoryThatWasEmptiedMeanwhileIsMadeAgain(t *testing.T) {
	dir := t.TempDir()
	s := newStore(t, dir)
	d := oci.DigestOf([]byte("x"))
	must(t, store.Put(t.Context(), s, d, []byte("x")))
	emptyDir(t, dir)
	if _, err := s.Open(t.Context(), d); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("got %v, want ErrNotFound", err)
	}
	must(t, store.Put(t.Context(), s, d, []byte("x")))
	if b, err := store.ReadAll(t.Context(), s, d, 10); err != nil || string(b) != "x" {
		t.Fatalf("%q, %v", b, err)
	}
}

func TestBytesWhoseSyncFailedAreNeitherCommittedNorKept(t *testing.T) {
	s := newStore(t, t.TempDir())
	d := oci.DigestOf([]byte("x"))
	in, err := s.Ingest(t.Context(), d)
	must(t, err)
	_, err = in.Write([]byte("x"))
	must(t, err)
	s.fs.sync = func(*os.File) error { return &os.PathError{Op: "sync", Path: "blob", Err: unix.EIO} }
	if err := in.Commit(t.Context(), 1); !errors.Is(err, store.ErrUnwritable) {
		t.Fatalf("got %v, want ErrUnwritable", err)
	}
	// The kernel says that all is well when it is asked again.
	s.fs.sync = (*os.File).Sync
	if err := in.Commit(t.Context(), 1); !errors.Is(err, store.ErrUnwritable) {
		t.Fatalf("got %v, want ErrUnwritable", err)
	}
	must(t, in.Keep())
	if _, err := s.Open(t.Context(), d); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("got %v, want ErrNotFound", err)
	}
	in, err = s.Ingest(t.Context(), d)
	must(t, err)
	if in.Len() != 0 {
		t.Errorf("%d bytes were kept", in.Len())
	}
	must(t, in.Discard())
}

func TestADirectoryOnAReadOnlyMediumIsUnwritable(t *testing.T) {
	// /proc refuses new directories to everybody, root included.
	_, err := New(Options{Dir: "/proc/sampan"})
	if err == nil {
		t.Fatal("made a data directory in /proc")
	}
	// And what a medium says that cannot be written is told as such.
	for _, errno := range []unix.Errno{unix.EROFS, unix.ENOSPC, unix.EDQUOT, unix.EACCES, unix.EIO, unix.EUCLEAN, unix.ESTALE} {
		if err := classify(&os.PathError{Op: "open", Path: "lock", Err: errno}); !errors.Is(err, store.ErrUnwritable) {
			t.Errorf("%v is not told as ErrUnwritable", errno)
		}
	}
}
