package fill_test

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"sampan/internal/fill"
	"sampan/internal/oci"
)

// An empty body has no last byte that could be kept back.
func TestEmptyBodyUnderAnotherDigestIsRefused(t *testing.T) {
	d := oci.DigestOf([]byte("something"))
	for name, room := range map[string]int64{"stored": size, "past a full store": 0} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			g := newGroup(t, failingStore{s, room})
			r, err := g.Open(t.Context(), d, (&upstream{}).source())
			if !errors.Is(err, fill.ErrMismatch) || oci.CodeOf(err) != oci.CodeUnavailable {
				t.Errorf("got %v, %v", r, err)
			}
			mustNotBeStored(t, s, d)
		})
	}
}

func TestEmptyBlobIsServed(t *testing.T) {
	s := newStore(t)
	g := newGroup(t, s)
	d := oci.DigestOf(nil)
	mustRead(t, open(t, g, d, &upstream{}), []byte{})
	g.Close()
	mustStored(t, s, d, []byte{})
}

// What a reader got before the store failed was not proven, and what it gets
// afterwards is of another fetch: together they must be one blob.
func TestReaderThatOutlivesTheStoreGetsOneBlob(t *testing.T) {
	want := content(size, 30)
	for name, wrongAt := range map[string]int{"given bytes were right": -1, "given bytes were wrong": 10} {
		t.Run(name, func(t *testing.T) {
			sent := bytes.Clone(want)
			if wrongAt >= 0 {
				sent[wrongAt] ^= 1
			}
			gate := make(chan struct{})
			u := &upstream{body: sent, read: holdAt(size/2, gate)}
			u.open = func(n int, _ int64) error {
				if n > 0 {
					u.body = want // it has healed
				}
				return nil
			}
			g := newGroup(t, failingStore{newStore(t), size/2 + 1})
			r := open(t, g, oci.DigestOf(want), u)
			begin := make([]byte, 1000)
			if _, err := io.ReadFull(r, begin); err != nil {
				t.Fatal(err)
			}
			close(gate) // the store fails at the next byte
			rest, err := io.ReadAll(r)
			got := append(begin, rest...)
			switch {
			case wrongAt < 0 && (err != nil || !bytes.Equal(got, want)):
				t.Errorf("%d bytes, %v", len(got), err)
			case wrongAt >= 0 && (!errors.Is(err, fill.ErrMismatch) || len(got) == size):
				t.Errorf("%d bytes of a blob that is not the one asked for, %v", len(got), err)
			}
		})
	}
}

// A doubted upstream counts how often it was told that its bytes were wrong.
type doubted struct {
	*upstream
	times int
}

func (d *doubted) Avoid(string) { d.times++ }

func TestSourceIsToldThatItsBytesWereWrong(t *testing.T) {
	want := content(size, 32)
	for name, wrong := range map[string]bool{"right": false, "wrong": true} {
		t.Run(name, func(t *testing.T) {
			u := &doubted{upstream: &upstream{body: bytes.Clone(want)}}
			if wrong {
				u.body[0] ^= 1
			}
			gate := make(chan struct{})
			u.read = holdAt(0, gate) // so that the reader is of this fetch
			g := newGroup(t, newStore(t))
			r, err := g.Open(t.Context(), oci.DigestOf(want), fill.Source{Parts: u})
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			close(gate)
			_, err = io.ReadAll(r)
			g.Close() // waits for the fetch
			if errors.Is(err, fill.ErrMismatch) != wrong || (u.times > 0) != wrong {
				t.Errorf("told %d times, %v", u.times, err)
			}
		})
	}
}
