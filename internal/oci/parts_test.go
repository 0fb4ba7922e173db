package oci

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
)

// shelf is a Reader that holds one blob; no other method is called.
type shelf struct {
	Reader
	blob   []byte
	told   int64 // the size it tells
	opened int
	closed int
}

func (s *shelf) Blob(_ context.Context, _ Repository, d Digest) (BlobReader, error) {
	if d != DigestOf(s.blob) {
		return nil, ErrBlobUnknown
	}
	s.opened++
	return &shelved{bytes.NewReader(s.blob), s}, nil
}

type shelved struct {
	*bytes.Reader
	shelf *shelf
}

func (b *shelved) Descriptor() Descriptor { return Descriptor{Size: b.shelf.told} }
func (b *shelved) Close() error           { b.shelf.closed++; return nil }

// fetcher is a shelf that is a BlobFetcher itself.
type fetcher struct{ *shelf }

func (f fetcher) FetchBlob(Repository, Digest) BlobParts { return fetched{} }

type fetched struct{}

func (fetched) Part(context.Context, int64, int64) (BlobPart, error) {
	return BlobPart{}, io.ErrNoProgress
}

func TestPartsOfAReaderThatOnlyOpensBlobs(t *testing.T) {
	blob := []byte("0123456789")
	for _, told := range []int64{10, -1} {
		s := &shelf{blob: blob, told: told}
		parts := PartsOf(s, Repository{}, DigestOf(blob))
		for _, test := range []struct {
			from, to int64
			want     string
		}{{0, -1, "0123456789"}, {0, 3, "012"}, {3, -1, "3456789"}, {3, 4, "3"}, {8, 10, "89"}, {8, 50, "89"}, {0, 50, "0123456789"}} {
			p, err := parts.Part(t.Context(), test.from, test.to)
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(p.Body)
			if err != nil || string(got) != test.want || p.From != test.from || p.Size != told || p.Whole {
				t.Errorf("%d to %d: %q, %+v, %v", test.from, test.to, got, p, err)
			}
			if err := p.Body.Close(); err != nil {
				t.Error(err)
			}
		}
		for _, test := range [][2]int64{{-1, 5}, {5, 5}, {5, 2}, {0, 0}} {
			if _, err := parts.Part(t.Context(), test[0], test[1]); CodeOf(err) != CodeRangeInvalid {
				t.Errorf("%v: %v", test, err)
			}
		}
		if s.opened != s.closed {
			t.Errorf("opened %d, closed %d", s.opened, s.closed)
		}
	}
}

func TestPartsOfAReaderThatTellsAnotherSize(t *testing.T) {
	blob := []byte("0123456789")
	s := &shelf{blob: blob, told: 12}
	parts := PartsOf(s, Repository{}, DigestOf(blob))
	for _, to := range []int64{-1, 11, 12} {
		p, err := parts.Part(t.Context(), 5, to)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(p.Body); !errors.Is(err, io.ErrUnexpectedEOF) || string(got) != "56789" {
			t.Errorf("to %d: %q, %v", to, got, err)
		}
		_ = p.Body.Close()
	}
	if _, err := parts.Part(t.Context(), 12, -1); CodeOf(err) != CodeRangeInvalid || s.opened != s.closed {
		t.Errorf("behind the end: %v; opened %d, closed %d", err, s.opened, s.closed)
	}
	if _, err := PartsOf(s, Repository{}, DigestOf(nil)).Part(t.Context(), 0, -1); !errors.Is(err, ErrBlobUnknown) {
		t.Errorf("got %v", err)
	}
}

func TestPartsOfAnEmptyBlob(t *testing.T) {
	p, err := PartsOf(&shelf{}, Repository{}, DigestOf(nil)).Part(t.Context(), 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(p.Body); err != nil || len(got) != 0 || p.Size != 0 {
		t.Errorf("%q, %+v, %v", got, p, err)
	}
}

func TestPartsOfAFetcherAreItsOwn(t *testing.T) {
	s := fetcher{&shelf{}}
	if _, err := PartsOf(s, Repository{}, DigestOf(nil)).Part(t.Context(), 0, -1); !errors.Is(err, io.ErrNoProgress) || s.opened != 0 {
		t.Errorf("opened %d, %v", s.opened, err)
	}
}
