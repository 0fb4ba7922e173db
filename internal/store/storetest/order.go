package storetest

import (
	"bytes"
	"slices"
	"sync"
	"testing"

	"sampan/internal/oci"
	"sampan/internal/store"
)

func writeAt(t testing.TB, in store.Ingest, b []byte, off int64) {
	t.Helper()
	n, err := in.WriteAt(b, off)
	must(t, err)
	if n != len(b) {
		t.Fatalf("wrote %d bytes of %d without an error", n, len(b))
	}
}

// has fails unless the ingest has exactly these bytes, of the blob b.
func has(t testing.TB, in store.Ingest, b []byte, want ...store.Range) {
	t.Helper()
	if got := slices.Collect(in.Have().All()); !slices.Equal(got, want) {
		t.Fatalf("Have is %v, want %v", got, want)
	}
	var prefix int64
	if len(want) > 0 && want[0].From == 0 {
		prefix = want[0].To
	}
	if in.Len() != prefix {
		t.Fatalf("Len is %d, want %d", in.Len(), prefix)
	}
	r, err := in.NewReader()
	must(t, err)
	defer r.Close()
	for _, x := range want {
		got := make([]byte, x.To-x.From)
		if _, err := r.ReadAt(got, x.From); err != nil || !bytes.Equal(got, b[x.From:x.To]) {
			t.Fatalf("%v reads %q, %v; want %q", x, got, err, b[x.From:x.To])
		}
	}
}

func anyOrder(t *testing.T, s store.Store) {
	b := []byte("0123456789abcdef")
	d := oci.DigestOf(b)
	in := ingest(t, s, d)
	has(t, in, b)
	writeAt(t, in, b[8:12], 8)
	has(t, in, b, store.Range{From: 8, To: 12})
	write(t, in, b[:3]) // goes on at Len
	has(t, in, b, store.Range{From: 0, To: 3}, store.Range{From: 8, To: 12})
	writeAt(t, in, nil, 14)
	writeAt(t, in, b[3:5], 3)
	writeAt(t, in, b[12:], 12)
	has(t, in, b, store.Range{From: 0, To: 5}, store.Range{From: 8, To: 16})
	write(t, in, b[5:8])
	has(t, in, b, store.Range{From: 0, To: 16})
	must(t, in.Commit(t.Context(), int64(len(b))))
	holds(t, s, d, b)
}

func keepGaps(t *testing.T, s store.Store) {
	b := []byte("0123456789abcdef")
	d := oci.DigestOf(b)
	in := ingest(t, s, d)
	write(t, in, b[:2])
	writeAt(t, in, b[6:9], 6)
	must(t, in.Keep())
	in = ingest(t, s, d)
	has(t, in, b, store.Range{From: 0, To: 2}, store.Range{From: 6, To: 9})
	writeAt(t, in, b[12:], 12)
	must(t, in.Keep())
	in = ingest(t, s, d)
	has(t, in, b, store.Range{From: 0, To: 2}, store.Range{From: 6, To: 9}, store.Range{From: 12, To: 16})
	writeAt(t, in, b[9:12], 9)
	write(t, in, b[2:6])
	must(t, in.Keep()) // without a gap again
	in = ingest(t, s, d)
	has(t, in, b, store.Range{From: 0, To: 16})
	must(t, in.Commit(t.Context(), int64(len(b))))
	holds(t, s, d, b)
}

// writersAtOnce has each of some goroutines write every n-th piece.
func writersAtOnce(t *testing.T, s store.Store) {
	const writers, piece = 4, 1000
	b := bytes.Repeat([]byte("0123456789abcdefg"), 10_000)
	d := oci.DigestOf(b)
	in := ingest(t, s, d)
	must(t, in.Expect(int64(len(b))))
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			for off := w * piece; off < len(b); off += writers * piece {
				end := min(off+piece, len(b))
				if n, err := in.WriteAt(b[off:end], int64(off)); err != nil || n != end-off {
					t.Errorf("wrote %d bytes of %d: %v", n, end-off, err)
				}
				if have := in.Have(); !have.Covers(int64(off), int64(end)) || have.EndOf(0) > in.Len() {
					t.Errorf("the bytes at %d are not there, or Len has shrunk", off)
				}
			}
		})
	}
	all.Wait()
	has(t, in, b, store.Range{From: 0, To: int64(len(b))})
	must(t, in.Commit(t.Context(), int64(len(b))))
	holds(t, s, d, b)
}

func gap(t *testing.T, s store.Store) {
	b := []byte("0123456789")
	d := oci.DigestOf(b)
	in := ingest(t, s, d)
	write(t, in, b[:3])
	writeAt(t, in, b[5:], 5)
	for _, size := range []int64{3, 8, 10} { // in front of the gap, without it, with it
		wantErr(t, in.Commit(t.Context(), size), store.ErrSize)
	}
	_, err := s.Open(t.Context(), d)
	wantErr(t, err, store.ErrNotFound)
	writeAt(t, in, b[3:5], 3)
	must(t, in.Commit(t.Context(), int64(len(b))))
	holds(t, s, d, b)
}

func forgetGaps(t *testing.T, s store.Store) {
	b := []byte("0123456789")
	d := oci.DigestOf(b)
	in := ingest(t, s, d)
	writeAt(t, in, []byte("wrong"), 5)
	must(t, in.Reset())
	has(t, in, b)
	write(t, in, b[:2])
	has(t, in, b, store.Range{From: 0, To: 2})
	writeAt(t, in, b[7:], 7)
	must(t, in.Keep())
	in = ingest(t, s, d)
	has(t, in, b, store.Range{From: 0, To: 2}, store.Range{From: 7, To: 10})
	must(t, in.Discard())
	in = ingest(t, s, d)
	has(t, in, b)
	write(t, in, b)
	must(t, in.Keep())
	in = ingest(t, s, d)
	has(t, in, b, store.Range{From: 0, To: 10})
	must(t, in.Commit(t.Context(), int64(len(b))))
	holds(t, s, d, b)
}
