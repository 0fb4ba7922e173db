package bolt

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"sampan/internal/oci"
	"sampan/internal/refs"
	"sampan/internal/refs/refstest"
)

func TestIndex(t *testing.T) {
	refstest.Run(t, func(t testing.TB) *refstest.Subject {
		path := filepath.Join(t.TempDir(), "index.db")
		x := openIndex(t, path)
		return &refstest.Subject{Index: x, Reopen: func() refs.Index {
			must(t, x.Close())
			x = openIndex(t, path)
			return x
		}}
	})
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func openIndex(t testing.TB, path string) *Index {
	t.Helper()
	x, err := Open(path, slog.New(slog.DiscardHandler))
	must(t, err)
	t.Cleanup(func() { _ = x.Close() })
	return x
}

func TestCloseLeavesNoGoroutineAndWritesWhatIsPending(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	path := filepath.Join(t.TempDir(), "index.db")
	repo, latest := repository(t, "nginx"), tag(t, "latest")
	want := refs.TagEntry{Manifest: oci.Descriptor{MediaType: "a/b", Digest: oci.DigestOf(nil), Size: 1}}
	x := openIndex(t, path)
	if !x.IsNew() {
		t.Error("a file that was made is not told as new")
	}
	must(t, x.PutTag(t.Context(), repo, latest, want))
	must(t, x.Close())
	must(t, x.Close())
	if err := x.PutTag(t.Context(), repo, latest, want); err == nil {
		t.Error("a closed index takes writes")
	}
	if err := x.Flush(t.Context()); err == nil {
		t.Error("a closed index flushes")
	}
	if _, err := x.Link(t.Context(), repo, want.Manifest.Digest); err == nil || errors.Is(err, refs.ErrNotFound) {
		t.Errorf("a closed index answers %v", err)
	}
	x = openIndex(t, path)
	if x.IsNew() {
		t.Error("a file that was there is told as new")
	}
	if got, err := x.Tag(t.Context(), repo, latest); err != nil || got.Manifest.Digest != want.Manifest.Digest {
		t.Errorf("got %v, %v", got, err)
	}
	must(t, x.Close())
}

func TestASecondIndexOnAFileIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "index.db")
	openIndex(t, path)
	_, err := Open(path, slog.New(slog.DiscardHandler))
	if !errors.Is(err, errInUse) || errors.Is(err, refs.ErrDamaged) {
		t.Fatalf("got %v, want that another process has it open", err)
	}
	if _, err := Repair(path, time.Now()); !errors.Is(err, errInUse) {
		t.Fatalf("Repair: got %v, want that another process has it open", err)
	}
}

// A stream of writes must not put their batch off.
func TestABatchIsWrittenWhileWritesGoOn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "index.db")
	synctest.Test(t, func(t *testing.T) {
		x, err := Open(path, slog.New(slog.DiscardHandler))
		must(t, err)
		repo := repository(t, "nginx")
		before, err := os.ReadFile(path)
		must(t, err)
		for i := range 20 {
			must(t, x.PutLinks(t.Context(), repo, oci.Descriptor{Digest: oci.DigestOf([]byte{byte(i)})}))
			time.Sleep(flushDelay / 4) // of the bubble's clock
		}
		synctest.Wait()
		after, err := os.ReadFile(path)
		must(t, err)
		if string(before) == string(after) {
			t.Errorf("nothing was written during %v of writes", 20*flushDelay/4)
		}
		must(t, x.Close())
	})
}

func TestAKeyThatIsTooLongIsRefusedAndHarmsNothing(t *testing.T) {
	x := openIndex(t, filepath.Join(t.TempDir(), "index.db"))
	repo := repository(t, "nginx")
	if err := x.PutList(t.Context(), repo, string(make([]byte, 40_000)), refs.ListEntry{}); !errors.Is(err, errTooLong) {
		t.Errorf("got %v, want errTooLong", err)
	}
	must(t, x.PutLinks(t.Context(), repo, oci.Descriptor{Digest: oci.DigestOf(nil)}))
	must(t, x.Flush(t.Context()))
}

func TestFlushAndCloseMayMeet(t *testing.T) {
	x := openIndex(t, filepath.Join(t.TempDir(), "index.db"))
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if err := x.Flush(t.Context()); err != nil && !errors.Is(err, errClosed) {
				t.Error(err)
			}
		})
	}
	must(t, x.Close())
	all.Wait()
}
