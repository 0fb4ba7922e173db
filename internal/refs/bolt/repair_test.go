package bolt

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"sampan/internal/oci"
	"sampan/internal/refs"
)

func replaceVersion(db *bbolt.DB, v string) error {
	return db.Update(func(tx *bbolt.Tx) error {
		return tx.Bucket([]byte(bucketMeta)).Put([]byte(metaVersion), []byte(v))
	})
}

// livePages returns the pages in use of a kind.
func livePages(t *testing.T, path string, flags uint16) (ids []uint64) {
	t.Helper()
	must(t, withImage(path, func(m *image) error {
		free, _, err := m.free()
		if err != nil {
			return err
		}
		used := make([]bool, m.high)
		for i := range used {
			used[i] = i >= 2
		}
		for _, id := range free {
			used[id] = false
		}
		var buf []byte
		for id := range m.high {
			if !used[id] {
				continue
			}
			if p, err := m.page(id, &buf); err == nil && p.flags == flags {
				ids = append(ids, id)
			}
		}
		return nil
	}))
	return ids
}

// A leaf that is lost takes its own records with it, and no others; a branch
// that is lost takes none.
func TestRepairKeepsAllButTheLostPage(t *testing.T) {
	w := writeIndex(t)
	leaves, branches := livePages(t, w.path, pageLeaf), livePages(t, w.path, pageBranch)
	if len(leaves) < 10 || len(branches) < 1 {
		t.Fatalf("%d leaves and %d branches are too few for this test", len(leaves), len(branches))
	}
	zero := func(id uint64) {
		w.with(t, func(b []byte) []byte {
			clear(b[id*4096 : (id+1)*4096])
			return b
		})
	}
	for _, id := range branches {
		zero(id)
		if opened, n := w.survives(t, "branch"); opened || n != w.records() {
			t.Errorf("branch %d lost: opened %v, %d of %d records kept", id, opened, n, w.records())
		}
	}
	for _, id := range leaves {
		zero(id)
		const most = 40 // records of a leaf
		if opened, n := w.survives(t, "leaf"); opened || n < w.records()-most {
			t.Errorf("leaf %d lost: opened %v, %d of %d records kept", id, opened, n, w.records())
		}
	}
}

func TestRepairKeepsTheOldFileAndSaysWhatIsLost(t *testing.T) {
	w := writeIndex(t)
	leaf := livePages(t, w.path, pageLeaf)[3]
	var damagedBytes []byte
	w.with(t, func(b []byte) []byte {
		b[leaf*4096+5] ^= 1 // its number: the page is not what is looked for
		damagedBytes = b
		return b
	})
	r, err := Repair(w.path, time.Date(2026, 1, 2, 3, 4, 5, 6_000_000, time.UTC))
	must(t, err)
	if want := w.path + ".damaged-20260102T030405.006"; r.Old != want {
		t.Errorf("the old file is %s, want %s", r.Old, want)
	}
	if old, err := os.ReadFile(r.Old); err != nil || !bytes.Equal(old, damagedBytes) {
		t.Errorf("the old file was changed: %v", err)
	}
	if len(r.Unread) != 1 || r.Unread[0] != bucketLinks {
		t.Errorf("unread are %q, want the links", r.Unread)
	}
}

// A record is damaged and the structure is not: Open reports it and works.
func TestADamagedRecordIsAbsentAndReported(t *testing.T) {
	w := writeIndex(t)
	victim := w.links[100]
	w.with(t, func(b []byte) []byte {
		old := []byte(`{"m":"` + victim.MediaType + `","d":"` + victim.Digest.String())
		if !bytes.Contains(b, old) {
			t.Fatal("the record is not in the file as it was thought to be")
		}
		return bytes.ReplaceAll(b, old, bytes.Replace(old, []byte("a/"), []byte("b/"), 1))
	})
	var log bytes.Buffer
	x, err := Open(w.path, slog.New(slog.NewTextHandler(&log, nil)))
	must(t, err)
	if !strings.Contains(log.String(), "records=1") {
		t.Errorf("Open did not report one damaged record: %q", &log)
	}
	if _, err := x.Link(t.Context(), w.repo, victim.Digest); !errors.Is(err, refs.ErrNotFound) {
		t.Errorf("got %v, want ErrNotFound", err)
	}
	if n := w.compare(t, x); n != w.records()-1 {
		t.Errorf("%d of %d records are there", n, w.records())
	}
	must(t, x.PutLinks(t.Context(), w.repo, victim)) // asked again upstream
	must(t, x.Close())
	if opened, n := w.survives(t, "healed"); !opened || n != w.records() {
		t.Errorf("opened %v with %d of %d records", opened, n, w.records())
	}
}

// bbolt would write over live pages that the list of free pages names.
func TestALivePageThatIsSaidToBeFreeIsFound(t *testing.T) {
	w := writeIndex(t)
	list := livePages(t, w.path, pageFreelist)
	if len(list) != 1 {
		t.Fatalf("%d lists of free pages", len(list))
	}
	w.with(t, func(b []byte) []byte {
		at := list[0]*4096 + headerSize
		binary.NativeEndian.PutUint64(b[at:], livePages(t, w.path, pageBranch)[0])
		return b
	})
	if opened, n := w.survives(t, "free list"); opened || n != w.records() {
		t.Errorf("opened %v, %d of %d records kept", opened, n, w.records())
	}
}

func TestAFailedRepairLeavesTheFileAlone(t *testing.T) {
	w := writeIndex(t)
	w.with(t, func(b []byte) []byte { return b[:5000] })
	must(t, os.MkdirAll(filepath.Join(w.path+".new", "in the way"), 0o700))
	if _, err := Repair(w.path, time.Now()); err == nil {
		t.Fatal("repaired")
	}
	if b, err := os.ReadFile(w.path); err != nil || len(b) != 5000 {
		t.Errorf("%d bytes, %v", len(b), err)
	}
}

// The file is cut while it is open: reading its pages is a memory fault.
func TestAFileThatVanishesUnderTheIndexCostsRecordsAndNotTheProcess(t *testing.T) {
	w := writeIndex(t)
	x, err := Open(w.path, slog.New(slog.DiscardHandler))
	must(t, err)
	must(t, os.Truncate(w.path, 0))
	if n := w.compare(t, x); n != 0 {
		t.Errorf("%d records were read from nothing", n)
	}
	fresh := oci.Descriptor{Digest: oci.DigestOf([]byte("fresh")), Size: 5}
	must(t, x.PutLinks(t.Context(), w.repo, fresh))
	if err := x.Flush(t.Context()); !errors.Is(err, refs.ErrDamaged) {
		t.Errorf("Flush: got %v, want ErrDamaged", err)
	}
	if _, err := x.Link(context.Background(), w.repo, fresh.Digest); err != nil {
		t.Errorf("what was written since: %v", err)
	}
	if err := x.Close(); !errors.Is(err, refs.ErrDamaged) {
		t.Errorf("Close: got %v, want ErrDamaged", err)
	}
}
