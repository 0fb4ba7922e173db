package disk

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sampan/internal/oci"
	"sampan/internal/store"
)

// begin ingests the ranges of b, in their order.
func begin(t *testing.T, s *Store, b []byte, d oci.Digest, ranges ...store.Range) store.Ingest {
	t.Helper()
	in, err := s.Ingest(t.Context(), d)
	must(t, err)
	for _, r := range ranges {
		_, err := in.WriteAt(b[r.From:r.To], r.From)
		must(t, err)
	}
	return in
}

// gapped leaves a directory behind in which the first ten bytes of a blob of 100
// are there, and ten more at 20 and at 50.
func gapped(t *testing.T) (s *Store, b []byte, d oci.Digest) {
	t.Helper()
	s = newStore(t, t.TempDir())
	b, d = blobOf(100, 1)
	must(t, begin(t, s, b, d, gaps()...).Keep())
	return s, b, d
}

func gaps() []store.Range {
	return []store.Range{{From: 0, To: 10}, {From: 20, To: 30}, {From: 50, To: 60}}
}

// reopen opens the directory of a store as the next process does.
func reopen(t *testing.T, s *Store) *Store {
	t.Helper()
	must(t, s.Close())
	return newStore(t, s.dir)
}

// wantHave ingests d, compares what is there, and returns the ingest.
func wantHave(t *testing.T, s *Store, d oci.Digest, want ...store.Range) store.Ingest {
	t.Helper()
	in, err := s.Ingest(t.Context(), d)
	must(t, err)
	t.Cleanup(func() { _ = in.Keep() })
	if got := slices.Collect(in.Have().All()); !slices.Equal(got, want) {
		t.Fatalf("%v are there, want %v", got, want)
	}
	return in
}

// isThere fails unless Have and the bytes of an ingest agree: what it claims was
// written, and is of b.
func isThere(t *testing.T, in store.Ingest, b []byte, written store.Ranges) {
	t.Helper()
	r, err := in.NewReader()
	must(t, err)
	defer r.Close()
	for x := range in.Have().All() {
		if !written.Covers(x.From, x.To) {
			t.Fatalf("%v are claimed, and %v were written", x, written)
		}
		got := make([]byte, x.To-x.From)
		if _, err := r.ReadAt(got, x.From); err != nil || !bytes.Equal(got, b[x.From:x.To]) {
			t.Fatalf("%v differ (%v)", x, err)
		}
	}
}

func exists(t *testing.T, path string) bool {
	t.Helper()
	_, err := os.Stat(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return err == nil
}

func TestAJournalIsThereWhileThereIsAGap(t *testing.T) {
	s := newStore(t, t.TempDir())
	b, d := blobOf(100, 1)
	path := s.journalPath(d)
	in := begin(t, s, b, d, store.Range{From: 0, To: 10}, store.Range{From: 10, To: 20})
	if exists(t, path) {
		t.Fatal("a journal of a file without a gap")
	}
	_, err := in.WriteAt(b[50:60], 50)
	must(t, err)
	want := []byte("sampan journal 1\n")
	for _, r := range []store.Range{{From: 0, To: 20}, {From: 50, To: 60}} {
		want = appendRecord(want, r)
	}
	wantFile(t, path, string(want))
	if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != fileMode {
		t.Errorf("the journal is not private: %v, %v", fi, err)
	}
	for _, r := range []store.Range{{From: 60, To: 100}, {From: 20, To: 50}} {
		_, err := in.WriteAt(b[r.From:r.To], r.From)
		must(t, err)
	}
	must(t, in.Commit(t.Context(), 100))
	if exists(t, path) {
		t.Error("the journal of a blob that is complete")
	}
}

func TestARecordIsTheseBytes(t *testing.T) {
	const want = "\x00\x00\x00\x00\x00\x00\x01\x00" + "\x00\x00\x00\x00\x00\x00\x10\x00" + "\xb6\xe3\x10\xce"
	if got := appendRecord(nil, store.Range{From: 0x100, To: 0x1100}); string(got) != want {
		t.Errorf("got %x, want %x", got, want)
	}
}

func TestGapsSurviveTheProcess(t *testing.T) {
	s, b, d := gapped(t)
	in := wantHave(t, reopen(t, s), d, gaps()...)
	isThere(t, in, b, in.Have())
	for _, r := range []store.Range{{From: 60, To: 100}, {From: 10, To: 20}, {From: 30, To: 50}} {
		_, err := in.WriteAt(b[r.From:r.To], r.From)
		must(t, err)
	}
	must(t, in.Commit(t.Context(), 100))
}

func TestAGapThatWasFilledNeedsNoJournalAnyMore(t *testing.T) {
	s, b, d := gapped(t)
	must(t, begin(t, s, b, d, store.Range{From: 10, To: 20}, store.Range{From: 30, To: 50}).Keep())
	wantHave(t, s, d, store.Range{From: 0, To: 60})
	if exists(t, s.journalPath(d)) {
		t.Error("there still is one")
	}
}

func TestADamagedJournalClaimsNothingThatIsNotThere(t *testing.T) {
	s, b, d := gapped(t)
	journal, err := os.ReadFile(s.journalPath(d))
	must(t, err)
	partial, err := os.ReadFile(s.partialPath(d))
	must(t, err)
	var written store.Ranges
	for _, r := range gaps() {
		written.Add(r.From, r.To)
	}
	check := func(damaged []byte) (total int64) {
		t.Helper()
		must(t, os.WriteFile(s.partialPath(d), partial, fileMode))
		must(t, os.WriteFile(s.journalPath(d), damaged, fileMode))
		in, err := s.Ingest(t.Context(), d)
		must(t, err)
		isThere(t, in, b, written)
		total = in.Have().Total()
		// What follows is not confused by what was there.
		_, err = in.WriteAt(b[80:90], 80)
		must(t, err)
		after := written.Clone()
		after.Add(80, 90)
		must(t, in.Keep())
		in, err = s.Ingest(t.Context(), d)
		must(t, err)
		isThere(t, in, b, after)
		if got := in.Have().Total(); got != total+10 {
			t.Fatalf("%d bytes are there, want %d", got, total+10)
		}
		must(t, in.Keep())
		return total
	}
	for n := range journal {
		want := int64(max(n-len(journalHeader), 0) / recordSize * 10)
		if got := check(journal[:n]); got != want {
			t.Errorf("cut at %d: %d bytes are there, want %d", n, got, want)
		}
	}
	for i := range journal {
		for _, flip := range []byte{0x01, 0x80, 0xff} {
			damaged := bytes.Clone(journal)
			damaged[i] ^= flip
			want := int64(max(i-len(journalHeader), 0) / recordSize * 10)
			if got := check(damaged); got != want {
				t.Errorf("byte %d ^ %#x: %d bytes are there, want %d", i, flip, got, want)
			}
		}
	}
	zeros := append(bytes.Clone(journal), make([]byte, 4096)...)
	if got := check(zeros); got != 30 {
		t.Errorf("zeros behind the end: %d bytes are there, want 30", got)
	}
}

func TestRecordsThatCannotBeAreRefused(t *testing.T) {
	for _, r := range []store.Range{{From: 5, To: 5}, {From: 5, To: 4}, {From: -1, To: 5}, {From: 1<<63 - 1, To: -1 << 63}} {
		b := appendRecord([]byte(journalHeader), r)
		if have, err := readJournal(bytes.NewReader(b), 100); have.Total() != 0 || !errors.Is(err, errJournal) {
			t.Errorf("%v gives %v, %v", r, have, err)
		}
	}
}

func TestAnUnknownJournalMakesItsPartialWorthless(t *testing.T) {
	s, _, d := gapped(t)
	must(t, os.WriteFile(s.journalPath(d), []byte("sampan journal 2\nand what only that one knows"), fileMode))
	in := wantHave(t, s, d)
	if fi, err := os.Stat(s.partialPath(d)); err != nil || fi.Size() != 0 {
		t.Errorf("the file was not emptied: %v, %v", fi, err)
	}
	must(t, in.Discard())
}

func TestBytesBeyondTheEndOfTheFileAreNotThereNorComeBack(t *testing.T) {
	s, b, d := gapped(t)
	must(t, os.Truncate(s.partialPath(d), 55))
	in := wantHave(t, s, d, store.Range{From: 0, To: 10}, store.Range{From: 20, To: 30}, store.Range{From: 50, To: 55})
	_, err := in.WriteAt(b[58:60], 58)
	must(t, err)
	must(t, in.Keep())
	wantHave(t, s, d, store.Range{From: 0, To: 10}, store.Range{From: 20, To: 30}, store.Range{From: 50, To: 55}, store.Range{From: 58, To: 60})
}

func TestAWriteThatWasKilledBeforeItsRecordIsCutOff(t *testing.T) {
	s, b, d := gapped(t)
	f, err := os.OpenFile(s.partialPath(d), os.O_WRONLY, fileMode)
	must(t, err)
	_, err = f.WriteAt([]byte("half a write"), 70)
	must(t, errors.Join(err, f.Close()))
	in := wantHave(t, s, d, gaps()...)
	isThere(t, in, b, in.Have())
	must(t, begunEnds(in, b))
	wantHave(t, s, d, store.Range{From: 0, To: 60})
}

// begunEnds fills the gaps.
func begunEnds(in store.Ingest, b []byte) error {
	_, err1 := in.WriteAt(b[10:20], 10)
	_, err2 := in.WriteAt(b[30:50], 30)
	return errors.Join(err1, err2, in.Keep())
}

// A crash point is what a process leaves that was killed between two steps, made
// by hand of the directory of gapped.
func TestEveryCrashPointIsHarmless(t *testing.T) {
	for _, tc := range []struct {
		between string
		make    func(t *testing.T, s *Store, d oci.Digest)
		want    []store.Range
	}{
		{"a journal was begun and not renamed", func(t *testing.T, s *Store, d oci.Digest) {
			must(t, os.Truncate(s.partialPath(d), 10))
			must(t, os.Rename(s.journalPath(d), s.journalPath(d)+newSuffix))
			must(t, os.Truncate(s.journalPath(d)+newSuffix, 5))
		}, gaps()[:1]},
		{"a journal was made and no gap written", func(t *testing.T, s *Store, d oci.Digest) {
			must(t, os.Truncate(s.partialPath(d), 10))
			must(t, os.Truncate(s.journalPath(d), int64(len(journalHeader)+recordSize)))
		}, gaps()[:1]},
		{"a gap was written and not its record", func(t *testing.T, s *Store, d oci.Digest) {
			must(t, os.Truncate(s.journalPath(d), int64(len(journalHeader)+2*recordSize)))
		}, gaps()[:2]},
		{"a journal was being made again", func(t *testing.T, s *Store, d oci.Digest) {
			must(t, os.WriteFile(s.journalPath(d)+newSuffix, []byte(journalHeader), fileMode))
		}, gaps()},
		{"Discard or eviction has removed the file", func(t *testing.T, s *Store, d oci.Digest) {
			must(t, os.Remove(s.partialPath(d)))
		}, nil},
		{"Reset has emptied the file", func(t *testing.T, s *Store, d oci.Digest) {
			must(t, os.Truncate(s.partialPath(d), 0))
		}, nil},
		{"Commit has renamed the file", func(t *testing.T, s *Store, d oci.Digest) {
			must(t, os.MkdirAll(filepath.Dir(s.blobPath(d)), dirMode))
			must(t, os.Rename(s.partialPath(d), s.blobPath(d)))
		}, nil},
	} {
		t.Run(tc.between, func(t *testing.T) {
			for _, restart := range []bool{false, true} {
				s, b, d := gapped(t)
				tc.make(t, s, d)
				if restart {
					s = reopen(t, s)
					wantNoOrphans(t, s)
				}
				in := wantHave(t, s, d, tc.want...)
				isThere(t, in, b, in.Have())
				if len(tc.want) == 0 { // what comes now is not measured by an old journal
					_, err := in.Write(b[:15])
					must(t, errors.Join(err, in.Keep()))
					in = wantHave(t, s, d, store.Range{From: 0, To: 15})
				}
				_, err := in.WriteAt(b, 0)
				must(t, err)
				must(t, in.Commit(t.Context(), 100))
				if got, err := store.ReadAll(t.Context(), s, d, 100); err != nil || !bytes.Equal(got, b) {
					t.Errorf("the blob differs: %v", err)
				}
				wantNoOrphans(t, reopen(t, s))
			}
		})
	}
}

// wantNoOrphans fails when there is a journal without its file.
func wantNoOrphans(t *testing.T, s *Store) {
	t.Helper()
	names, err := os.ReadDir(s.partialDir())
	must(t, err)
	for _, e := range names {
		path := filepath.Join(s.partialDir(), e.Name())
		if data, is := strings.CutSuffix(path, journalSuffix); is && !exists(t, data) || strings.HasSuffix(path, newSuffix) {
			t.Errorf("%s was left", e.Name())
		}
	}
}

func TestEndsRemoveTheJournalToo(t *testing.T) {
	for name, end := range map[string]func(store.Ingest) error{
		"Discard": store.Ingest.Discard,
		"Reset":   func(in store.Ingest) error { return errors.Join(in.Reset(), in.Keep()) },
		"Commit after Reset": func(in store.Ingest) error {
			return errors.Join(in.Reset(), in.Commit(t.Context(), 0))
		},
	} {
		s, b, d := gapped(t)
		if err := end(begin(t, s, b, d)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if exists(t, s.journalPath(d)) {
			t.Errorf("%s left the journal", name)
		}
		wantHave(t, s, d)
	}
}

func TestAJournalOfOtherBytesThatStaysBreaksTheIngest(t *testing.T) {
	s, b, d := gapped(t)
	in := begin(t, s, b, d)
	// A directory in its place cannot be removed as a file is.
	must(t, os.Remove(s.journalPath(d)))
	must(t, os.MkdirAll(filepath.Join(s.journalPath(d), "x"), dirMode))
	if err := in.Reset(); !errors.Is(err, store.ErrUnwritable) {
		t.Fatalf("Reset: got %v, want ErrUnwritable", err)
	}
	if _, err := in.Write(b); !errors.Is(err, store.ErrUnwritable) {
		t.Errorf("Write: got %v, want ErrUnwritable", err)
	}
	if err := in.Commit(t.Context(), 0); !errors.Is(err, store.ErrUnwritable) {
		t.Errorf("Commit: got %v, want ErrUnwritable", err)
	}
	if err := in.Keep(); err == nil {
		t.Error("Keep hides what it could not remove")
	}
	if exists(t, s.partialPath(d)) {
		t.Error("its bytes were kept")
	}
	must(t, os.RemoveAll(s.journalPath(d)))
	wantHave(t, s, d)
}

func TestAJournalThatCannotBeWrittenRefusesGaps(t *testing.T) {
	s := newStore(t, t.TempDir())
	b, d := blobOf(100, 1)
	must(t, os.Mkdir(s.journalPath(d)+newSuffix, dirMode))
	in := begin(t, s, b, d, store.Range{From: 0, To: 10})
	if _, err := in.WriteAt(b[50:60], 50); !errors.Is(err, store.ErrUnwritable) || !errors.Is(err, unix.EISDIR) {
		t.Fatalf("got %v, want ErrUnwritable and EISDIR", err)
	}
	_, err := in.WriteAt(b[10:20], 10) // without a gap it goes on
	must(t, err)
	must(t, in.Keep())
	wantHave(t, s, d, store.Range{From: 0, To: 20})
}

func TestADirectoryOfVersion1IsReadAndBecomesVersion2WithItsFirstGap(t *testing.T) {
	dir := t.TempDir()
	s := newStore(t, dir)
	b, d := blobOf(100, 1)
	version := filepath.Join(dir, "version")
	must(t, begin(t, s, b, d, store.Range{From: 0, To: 10}).Keep())
	must(t, os.WriteFile(version, []byte("sampan data 1\n"), fileMode))
	s = reopen(t, s)
	in := wantHave(t, s, d, store.Range{From: 0, To: 10})
	_, err := in.Write(b[10:20])
	must(t, err)
	wantFile(t, version, "sampan data 1\n")
	_, err = in.WriteAt(b[50:60], 50)
	must(t, err)
	wantFile(t, version, "sampan data 2\n")
	must(t, in.Keep())
	wantHave(t, reopen(t, s), d, store.Range{From: 0, To: 20}, store.Range{From: 50, To: 60})
}
