package storetest

import (
	"testing"

	"sampan/internal/oci"
	"sampan/internal/store"
)

// listed holds for stores that list.
func listed(t *testing.T, s store.Store) {
	l, ok := s.(store.Lister)
	if !ok {
		t.Skip("the store does not list")
	}
	kept, gone := stored(t, s, []byte("kept")), stored(t, s, []byte("gone"))
	in := ingest(t, s, oci.DigestOf([]byte("arriving")))
	write(t, in, []byte("arr"))
	must(t, s.Delete(t.Context(), gone))
	page, err := l.List(t.Context(), oci.Digest{}, 10)
	must(t, err)
	if len(page) != 1 || page[0].Digest != kept || page[0].Size != 4 || page[0].Used.IsZero() {
		t.Fatalf("listed are %+v", page)
	}
	page, err = l.List(t.Context(), kept, 10)
	must(t, err)
	if len(page) != 0 {
		t.Fatalf("behind the last one are %+v", page)
	}
	_, err = l.Lookup(t.Context(), gone)
	wantErr(t, err, store.ErrNotFound)
}

// peeked holds for stores that are peeked into.
func peeked(t *testing.T, s store.Store) {
	p, ok := s.(store.Peeker)
	if !ok {
		t.Skip("the store cannot be peeked into")
	}
	d := stored(t, s, []byte("some bytes"))
	b, err := p.Peek(t.Context(), d)
	must(t, err)
	must(t, s.Delete(t.Context(), d)) // it is read on
	reads(t, b, []byte("some bytes"))
	must(t, b.Close())
	_, err = p.Peek(t.Context(), d)
	wantErr(t, err, store.ErrNotFound)
}
