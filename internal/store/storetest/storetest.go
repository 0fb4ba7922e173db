// Package storetest is the suite that every store passes: what package store
// promises, stated as tests. It knows nothing of how a store keeps its bytes;
// what becomes of them over a crash is the affair of each store's own tests.
package storetest

import (
	"bytes"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"testing"

	"sampan/internal/oci"
	"sampan/internal/store"
)

// Run runs the suite. Each call of open makes a new, empty store that lives
// until its test ends.
func Run(t *testing.T, open func(t testing.TB) store.Store) {
	for _, f := range []struct {
		fact string
		test func(*testing.T, store.Store)
	}{
		{"a blob that was never stored is not found", missing},
		{"an ingest is invisible until it is committed", commit},
		{"bytes that were kept are continued", keep},
		{"bytes are written in any order", anyOrder},
		{"bytes that were kept with gaps are continued", keepGaps},
		{"writes that do not overlap run at once", writersAtOnce},
		{"a blob with a gap is not committed", gap},
		{"Reset and Discard forget bytes behind gaps", forgetGaps},
		{"Reset begins again", reset},
		{"Discard removes what arrived", discard},
		{"a digest has one ingest at a time", busy},
		{"a commit of another size fails and leaves the ingest open", sizeDiffers},
		{"an ended ingest can be ended again", endedTwice},
		{"a reader of an ingest sees what is written later", follow},
		{"readers outlive the end of their ingest", readersOutlive},
		{"readers of an ingest are made while it commits", readersDuringCommit},
		{"a reader outlives the deletion of its blob", deleteWhileReading},
		{"Delete forgets, again and again", deleteTwice},
		{"a blob that is committed again stays", again},
		{"different digests are ingested at once", concurrent},
		{"one of many gets the ingest", race},
		{"Put stores, again and again", put},
		{"Put leaves a digest to who ingests it", putBusy},
		{"a sha512 digest and a sha256 digest are stored alike", algorithms},
		{"an empty blob is a blob", empty},
		{"ReadAll refuses what is larger than its limit", readAll},
		{"a blob can be sought and read at offsets", seek},
		{"what is listed is what is stored", listed},
		{"a blob is read by a peek as by an open", peeked},
		{"any sequence of operations agrees with a model", model},
	} {
		t.Run(f.fact, func(t *testing.T) { f.test(t, open(t)) })
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr(t testing.TB, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Fatalf("got error %v, want %v", got, want)
	}
}

func ingest(t testing.TB, s store.Store, d oci.Digest) store.Ingest {
	t.Helper()
	in, err := s.Ingest(t.Context(), d)
	must(t, err)
	t.Cleanup(func() { _ = in.Keep() })
	return in
}

func write(t testing.TB, in store.Ingest, b []byte) {
	t.Helper()
	n, err := in.Write(b)
	must(t, err)
	if n != len(b) {
		t.Fatalf("wrote %d bytes of %d without an error", n, len(b))
	}
}

// stored commits b under its digest.
func stored(t testing.TB, s store.Store, b []byte) oci.Digest {
	t.Helper()
	d := oci.DigestOf(b)
	in := ingest(t, s, d)
	write(t, in, b)
	must(t, in.Commit(t.Context(), int64(len(b))))
	return d
}

// holds fails unless the store has exactly want under d.
func holds(t testing.TB, s store.Store, d oci.Digest, want []byte) {
	t.Helper()
	b, err := s.Open(t.Context(), d)
	must(t, err)
	reads(t, b, want)
	must(t, b.Close())
}

// reads fails unless b has exactly want, by Size, Read and ReadAt.
// content is reads without Size, which is that of an earlier moment.
func missing(t *testing.T, s store.Store) {
	_, err := s.Open(t.Context(), oci.DigestOf([]byte("nothing")))
	wantErr(t, err, store.ErrNotFound)
}

func commit(t *testing.T, s store.Store) {
	b := []byte("some bytes of a blob")
	d := oci.DigestOf(b)
	in := ingest(t, s, d)
	if in.Len() != 0 {
		t.Fatalf("a new ingest has %d bytes", in.Len())
	}
	write(t, in, b[:5])
	write(t, in, b[5:])
	if in.Len() != int64(len(b)) {
		t.Fatalf("Len is %d, want %d", in.Len(), len(b))
	}
	_, err := s.Open(t.Context(), d)
	wantErr(t, err, store.ErrNotFound)
	must(t, in.Commit(t.Context(), int64(len(b))))
	holds(t, s, d, b)
}

func keep(t *testing.T, s store.Store) {
	b := []byte("begun before, ended after")
	d := oci.DigestOf(b)
	in := ingest(t, s, d)
	write(t, in, b[:7])
	must(t, in.Keep())
	_, err := s.Open(t.Context(), d)
	wantErr(t, err, store.ErrNotFound)
	_, err = in.NewReader()
	wantErr(t, err, store.ErrNotFound)
	in = ingest(t, s, d)
	if in.Len() != 7 {
		t.Fatalf("%d bytes were kept, want 7", in.Len())
	}
	reads(t, reader(t, in), b[:7])
	write(t, in, b[7:])
	must(t, in.Commit(t.Context(), int64(len(b))))
	holds(t, s, d, b)
}

func reset(t *testing.T, s store.Store) {
	b := []byte("right")
	d := oci.DigestOf(b)
	in := ingest(t, s, d)
	write(t, in, []byte("wrong and longer"))
	must(t, in.Reset())
	if in.Len() != 0 {
		t.Fatalf("Len is %d after Reset", in.Len())
	}
	write(t, in, b)
	must(t, in.Commit(t.Context(), int64(len(b))))
	holds(t, s, d, b)
}

func discard(t *testing.T, s store.Store) {
	d := oci.DigestOf([]byte("x"))
	in := ingest(t, s, d)
	write(t, in, []byte("wrong"))
	must(t, in.Discard())
	_, err := in.NewReader()
	wantErr(t, err, store.ErrNotFound)
	next := ingest(t, s, d)
	if next.Len() != 0 {
		t.Fatalf("%d bytes are left after Discard", next.Len())
	}
	// The next one's bytes are not to be had by way of the first one.
	write(t, next, []byte("next"))
	_, err = in.NewReader()
	wantErr(t, err, store.ErrNotFound)
}

func busy(t *testing.T, s store.Store) {
	d := oci.DigestOf([]byte("x"))
	for _, end := range []func(store.Ingest) error{
		store.Ingest.Keep,
		store.Ingest.Discard,
		func(in store.Ingest) error { return in.Commit(t.Context(), in.Len()) },
	} {
		in := ingest(t, s, d)
		_, err := s.Ingest(t.Context(), d)
		wantErr(t, err, store.ErrBusy)
		must(t, end(in))
		must(t, ingest(t, s, d).Discard())
	}
}

func sizeDiffers(t *testing.T, s store.Store) {
	b := []byte("four and more")
	d := oci.DigestOf(b)
	in := ingest(t, s, d)
	write(t, in, b[:4])
	for _, size := range []int64{0, 3, 5, 100} {
		wantErr(t, in.Commit(t.Context(), size), store.ErrSize)
	}
	_, err := s.Open(t.Context(), d)
	wantErr(t, err, store.ErrNotFound)
	write(t, in, b[4:])
	must(t, in.Commit(t.Context(), int64(len(b))))
	holds(t, s, d, b)
}

func endedTwice(t *testing.T, s store.Store) {
	b := []byte("whole")
	d := oci.DigestOf(b)
	in := ingest(t, s, d)
	write(t, in, b)
	must(t, in.Keep())
	must(t, in.Discard()) // does nothing: the bytes may be another's by now
	in = ingest(t, s, d)
	if in.Len() != int64(len(b)) {
		t.Fatalf("Discard after Keep removed bytes: %d are left", in.Len())
	}
	must(t, in.Commit(t.Context(), int64(len(b))))
	must(t, in.Keep())
	must(t, in.Discard())
	holds(t, s, d, b)
}

// readersDuringCommit has readers made at every moment of a commit: none may
// miss the blob between its two places.
func deleteTwice(t *testing.T, s store.Store) {
	d := stored(t, s, []byte("x"))
	must(t, s.Delete(t.Context(), d))
	must(t, s.Delete(t.Context(), d))
	must(t, s.Delete(t.Context(), oci.DigestOf([]byte("never there"))))
	holds(t, s, stored(t, s, []byte("x")), []byte("x"))
}

func again(t *testing.T, s store.Store) {
	want := []byte("the same")
	d := stored(t, s, want)
	b, err := s.Open(t.Context(), d)
	must(t, err)
	defer b.Close()
	in := ingest(t, s, d)
	if in.Len() != 0 {
		t.Fatalf("a commit left %d bytes behind", in.Len())
	}
	holds(t, s, d, want)
	write(t, in, want)
	must(t, in.Commit(t.Context(), int64(len(want))))
	reads(t, b, want)
	holds(t, s, d, want)
}

func concurrent(t *testing.T, s store.Store) {
	var all sync.WaitGroup
	for i := range 16 {
		all.Go(func() {
			b := bytes.Repeat(fmt.Appendf(nil, "blob %d ", i), 1000)
			d := oci.DigestOf(b)
			in, err := s.Ingest(t.Context(), d)
			if err != nil {
				t.Error(err)
				return
			}
			for chunk := range chunks(b, 700) {
				if _, err := in.Write(chunk); err != nil {
					t.Error(err)
				}
			}
			if err := in.Commit(t.Context(), int64(len(b))); err != nil {
				t.Error(err)
			}
			if got, err := store.ReadAll(t.Context(), s, d, 1<<20); err != nil || !bytes.Equal(got, b) {
				t.Errorf("blob %d: %d bytes, %v", i, len(got), err)
			}
		})
	}
	all.Wait()
}

func race(t *testing.T, s store.Store) {
	d := oci.DigestOf([]byte("x"))
	var all sync.WaitGroup
	won := make(chan store.Ingest, 16)
	for range cap(won) {
		all.Go(func() {
			in, err := s.Ingest(t.Context(), d)
			switch {
			case err == nil:
				won <- in
			case !errors.Is(err, store.ErrBusy):
				t.Error(err)
			}
		})
	}
	all.Wait()
	if len(won) != 1 {
		t.Fatalf("%d ingests of one digest at once", len(won))
	}
	must(t, (<-won).Discard())
}

func put(t *testing.T, s store.Store) {
	b := []byte("a manifest")
	d := oci.DigestOf(b)
	// What an earlier fetch left behind is not part of it.
	in := ingest(t, s, d)
	write(t, in, []byte("leftover"))
	must(t, in.Keep())
	for range 3 {
		must(t, store.Put(t.Context(), s, d, b))
		holds(t, s, d, b)
	}
}

func putBusy(t *testing.T, s store.Store) {
	b := []byte("a manifest")
	d := oci.DigestOf(b)
	in := ingest(t, s, d)
	write(t, in, b[:3])
	must(t, store.Put(t.Context(), s, d, b))
	write(t, in, b[3:])
	must(t, in.Commit(t.Context(), int64(len(b))))
	holds(t, s, d, b)
}

func algorithms(t *testing.T, s store.Store) {
	b := []byte("the same bytes")
	sum := sha512.Sum512(b)
	long := oci.MustParseDigest("sha512:" + hex.EncodeToString(sum[:]))
	must(t, store.Put(t.Context(), s, long, b))
	holds(t, s, long, b)
	short := oci.DigestOf(b)
	_, err := s.Open(t.Context(), short)
	wantErr(t, err, store.ErrNotFound)
	must(t, store.Put(t.Context(), s, short, b))
	must(t, s.Delete(t.Context(), long))
	holds(t, s, short, b)
}

func empty(t *testing.T, s store.Store) {
	d := stored(t, s, nil)
	holds(t, s, d, nil)
	b, err := store.ReadAll(t.Context(), s, d, 0)
	must(t, err)
	if len(b) != 0 {
		t.Fatalf("an empty blob has %d bytes", len(b))
	}
}
