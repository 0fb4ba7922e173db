package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"sampan/internal/oci"
	"sampan/internal/store"
)

// chunks cuts b into pieces of n bytes.
func chunks(b []byte, n int) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for len(b) > 0 {
			k := min(n, len(b))
			if !yield(b[:k]) {
				return
			}
			b = b[k:]
		}
	}
}

// modelSlots is how many digests a sequence of operations plays with: few, so
// that operations meet.
const modelSlots = 3

// A slot is what the model knows of one digest.
type slot struct {
	digest  oci.Digest
	blob    []byte // committed; nil for none
	partial []byte // zero where nothing was written
	// begun counts the blobs that began here: their bytes differ. A byte is never
	// zero, and the same whenever it is written again.
	begun   int
	in      store.Ingest // nil for none
	readers []modelReader
}

// bytesAt are the bytes of the blob that is arriving.
func (m *slot) bytesAt(off int64, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(1 + (m.begun*101+int(off)+i)%255)
	}
	return b
}

// have is what Have must say.
func (m *slot) have() (have store.Ranges) {
	for i, b := range m.partial {
		if b != 0 {
			have.Add(int64(i), int64(i+1))
		}
	}
	return have
}

// A modelReader must read at least want, where it is not zero, whatever happens
// to its blob.
type modelReader struct {
	b    store.Blob
	want []byte
}

// model runs random operations against the store and a map in memory. The bytes
// are not those of the digests: a store does not hash.
func model(t *testing.T, s store.Store) {
	round := 0
	rapid.Check(t, func(rt *rapid.T) {
		round++
		slots := make([]*slot, modelSlots)
		for i := range slots {
			slots[i] = &slot{digest: oci.DigestOf(fmt.Appendf(nil, "round %d slot %d", round, i))}
		}
		pick := func(rt *rapid.T) *slot { return rapid.SampledFrom(slots).Draw(rt, "slot") }
		open := func(rt *rapid.T) *slot {
			m := pick(rt)
			if m.in == nil {
				rt.Skip("no ingest")
			}
			return m
		}
		rt.Repeat(map[string]func(*rapid.T){
			"ingest":  func(rt *rapid.T) { pick(rt).ingest(rt, t, s) },
			"write":   func(rt *rapid.T) { open(rt).write(rt) },
			"writeAt": func(rt *rapid.T) { open(rt).writeAt(rt) },
			"reset":   func(rt *rapid.T) { open(rt).reset(rt) },
			"commit":  func(rt *rapid.T) { open(rt).commit(rt, t) },
			"keep":    func(rt *rapid.T) { m := open(rt); m.end(rt, m.in.Keep(), m.partial) },
			"discard": func(rt *rapid.T) { m := open(rt); m.end(rt, m.in.Discard(), nil) },
			"follow":  func(rt *rapid.T) { open(rt).follow(rt) },
			"read":    func(rt *rapid.T) { pick(rt).read(rt, t, s) },
			"delete": func(rt *rapid.T) {
				m := pick(rt)
				ok(rt, s.Delete(t.Context(), m.digest))
				m.blob = nil
			},
			"": func(rt *rapid.T) {
				for _, m := range slots {
					m.agree(rt, t, s)
				}
			},
		})
		for _, m := range slots {
			m.close(rt)
		}
	})
}

func ok(rt *rapid.T, err error) {
	if err != nil {
		rt.Fatal(err)
	}
}

func (m *slot) ingest(rt *rapid.T, t *testing.T, s store.Store) {
	in, err := s.Ingest(t.Context(), m.digest)
	if m.in != nil {
		if !errors.Is(err, store.ErrBusy) {
			rt.Fatalf("a second ingest: %v", err)
		}
		return
	}
	ok(rt, err)
	m.in = in
}

func (m *slot) write(rt *rapid.T) {
	off := m.have().EndOf(0)
	b := m.bytesAt(off, rapid.IntRange(0, 50).Draw(rt, "bytes"))
	_, err := m.in.Write(b)
	ok(rt, err)
	m.wrote(b, off)
}

func (m *slot) writeAt(rt *rapid.T) {
	off := rapid.Int64Range(0, 150).Draw(rt, "offset")
	b := m.bytesAt(off, rapid.IntRange(0, 50).Draw(rt, "bytes"))
	_, err := m.in.WriteAt(b, off)
	ok(rt, err)
	m.wrote(b, off)
}

func (m *slot) wrote(b []byte, off int64) {
	if end := int(off) + len(b); len(b) > 0 && len(m.partial) < end {
		m.partial = append(m.partial, make([]byte, end-len(m.partial))...)
	}
	copy(m.partial[min(int(off), len(m.partial)):], b)
}

func (m *slot) reset(rt *rapid.T) {
	ok(rt, m.in.Reset())
	m.partial = nil
	m.begun++
	m.dropReaders(rt) // of the ingest: they follow it
}

func (m *slot) commit(rt *rapid.T, t *testing.T) {
	size := int64(len(m.partial)) + rapid.SampledFrom([]int64{0, 0, 0, 1, -1}).Draw(rt, "wrong by")
	err := m.in.Commit(t.Context(), size)
	if size != int64(len(m.partial)) || size != m.have().EndOf(0) {
		if !errors.Is(err, store.ErrSize) {
			rt.Fatalf("commit of a wrong size: %v", err)
		}
		return
	}
	ok(rt, err)
	m.blob, m.partial, m.in = append([]byte{}, m.partial...), nil, nil
	m.begun++
}

func (m *slot) end(rt *rapid.T, err error, left []byte) {
	ok(rt, err)
	m.in, m.partial = nil, left
	if left == nil {
		m.begun++
	}
}

func (m *slot) follow(rt *rapid.T) {
	b, err := m.in.NewReader()
	ok(rt, err)
	m.readers = append(m.readers, modelReader{b, bytes.Clone(m.partial)})
}

func (m *slot) read(rt *rapid.T, t *testing.T, s store.Store) {
	b, err := s.Open(t.Context(), m.digest)
	if m.blob == nil {
		if !errors.Is(err, store.ErrNotFound) {
			rt.Fatalf("open of what is not there: %v", err)
		}
		return
	}
	ok(rt, err)
	if b.Size() != int64(len(m.blob)) {
		rt.Fatalf("size %d, want %d", b.Size(), len(m.blob))
	}
	m.readers = append(m.readers, modelReader{b, m.blob})
}

// agree compares the store with the model, readers included.
func (m *slot) agree(rt *rapid.T, t *testing.T, s store.Store) {
	got, err := store.ReadAll(t.Context(), s, m.digest, 1<<20)
	switch {
	case m.blob == nil && !errors.Is(err, store.ErrNotFound):
		rt.Fatalf("the store has %q, %v, and the model nothing", got, err)
	case m.blob != nil && (err != nil || !bytes.Equal(got, m.blob)):
		rt.Fatalf("the store has %q, %v, and the model %q", got, err, m.blob)
	case m.in != nil:
		have, want := m.in.Have(), m.have()
		if !slices.Equal(slices.Collect(have.All()), slices.Collect(want.All())) || m.in.Len() != want.EndOf(0) {
			rt.Fatalf("an ingest has %v and Len %d, and the model %v", have, m.in.Len(), want)
		}
	}
	for _, r := range m.readers {
		got := make([]byte, len(r.want))
		if n, err := r.b.ReadAt(got, 0); n != len(got) || err != nil && err != io.EOF || !r.agrees(got) {
			rt.Fatalf("a reader reads %q, %v, want %q", got[:n], err, r.want)
		}
	}
}

// agrees compares where something was written when the reader was made.
func (r modelReader) agrees(got []byte) bool {
	for i, b := range r.want {
		if b != 0 && got[i] != b {
			return false
		}
	}
	return true
}

func (m *slot) dropReaders(rt *rapid.T) {
	for _, r := range m.readers {
		ok(rt, r.b.Close())
	}
	m.readers = nil
}

func (m *slot) close(rt *rapid.T) {
	m.dropReaders(rt)
	if m.in != nil {
		ok(rt, m.in.Discard())
	}
}
