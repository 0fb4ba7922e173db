package storetest

import (
	"bytes"
	"fmt"
	"io"
	"sync"
	"testing"

	"sampan/internal/oci"
	"sampan/internal/store"
)

func reads(t testing.TB, b store.Blob, want []byte) {
	t.Helper()
	if b.Size() != int64(len(want)) {
		t.Fatalf("Size is %d, want %d", b.Size(), len(want))
	}
	content(t, b, want)
}

func content(t testing.TB, b store.Blob, want []byte) {
	t.Helper()
	_, err := b.Seek(0, io.SeekStart)
	must(t, err)
	got, err := io.ReadAll(b)
	must(t, err)
	at := make([]byte, len(want))
	if _, err := b.ReadAt(at, 0); err != nil && err != io.EOF {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) || !bytes.Equal(at, want) {
		t.Fatalf("read %.40q and at %.40q, want %.40q", got, at, want)
	}
}

func reader(t testing.TB, in store.Ingest) store.Blob {
	t.Helper()
	b, err := in.NewReader()
	must(t, err)
	t.Cleanup(func() { _ = b.Close() })
	return b
}

func follow(t *testing.T, s store.Store) {
	in := ingest(t, s, oci.DigestOf([]byte("abcdef")))
	b := reader(t, in)
	reads(t, b, nil)
	write(t, in, []byte("abc"))
	content(t, b, []byte("abc"))
	write(t, in, []byte("def"))
	content(t, b, []byte("abcdef"))
	reads(t, reader(t, in), []byte("abcdef"))
}

func readersOutlive(t *testing.T, s store.Store) {
	for name, end := range map[string]func(store.Ingest) error{
		"Keep":    store.Ingest.Keep,
		"Discard": store.Ingest.Discard,
		"Commit":  func(in store.Ingest) error { return in.Commit(t.Context(), in.Len()) },
	} {
		b := []byte("bytes before " + name)
		in := ingest(t, s, oci.DigestOf(b))
		write(t, in, b)
		r := reader(t, in)
		must(t, end(in))
		reads(t, r, b)
	}
}

func readersDuringCommit(t *testing.T, s store.Store) {
	for i := range 20 {
		b := fmt.Appendf(nil, "blob %d", i)
		in := ingest(t, s, oci.DigestOf(b))
		write(t, in, b)
		begun, stop := make(chan bool), make(chan bool)
		var readers sync.WaitGroup
		readers.Go(func() {
			for n := 0; ; n++ {
				r, err := in.NewReader()
				if err != nil {
					t.Errorf("reader %d: %v", n, err)
				} else if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, b) {
					t.Errorf("reader %d: %q, %v", n, got, err)
				} else {
					_ = r.Close()
				}
				if n == 0 {
					close(begun)
				}
				select {
				case <-stop:
					return
				default:
				}
			}
		})
		<-begun
		must(t, in.Commit(t.Context(), int64(len(b))))
		close(stop)
		readers.Wait()
	}
}

func deleteWhileReading(t *testing.T, s store.Store) {
	want := bytes.Repeat([]byte("0123456789"), 10_000)
	d := stored(t, s, want)
	b, err := s.Open(t.Context(), d)
	must(t, err)
	defer b.Close()
	_, err = io.ReadFull(b, make([]byte, 10))
	must(t, err)
	must(t, s.Delete(t.Context(), d))
	_, err = s.Open(t.Context(), d)
	wantErr(t, err, store.ErrNotFound)
	reads(t, b, want)
}

func readAll(t *testing.T, s store.Store) {
	want := []byte("12345")
	d := stored(t, s, want)
	got, err := store.ReadAll(t.Context(), s, d, 5)
	must(t, err)
	if !bytes.Equal(got, want) {
		t.Fatalf("got %q", got)
	}
	if _, err := store.ReadAll(t.Context(), s, d, 4); err == nil {
		t.Fatal("a blob larger than the limit was read")
	}
	_, err = store.ReadAll(t.Context(), s, oci.DigestOf(nil), 5)
	wantErr(t, err, store.ErrNotFound)
}

func seek(t *testing.T, s store.Store) {
	b, err := s.Open(t.Context(), stored(t, s, []byte("0123456789")))
	must(t, err)
	defer b.Close()
	buf := make([]byte, 3)
	for _, at := range []struct {
		offset int64
		whence int
		want   string
	}{{4, io.SeekStart, "456"}, {-3, io.SeekEnd, "789"}, {-6, io.SeekCurrent, "456"}} {
		_, err := b.Seek(at.offset, at.whence)
		must(t, err)
		_, err = io.ReadFull(b, buf)
		must(t, err)
		if string(buf) != at.want {
			t.Fatalf("read %q, want %q", buf, at.want)
		}
	}
	if n, err := b.ReadAt(buf, 8); n != 2 || err != io.EOF {
		t.Fatalf("ReadAt across the end: %d, %v", n, err)
	}
}
