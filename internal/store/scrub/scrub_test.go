package scrub_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"sampan/internal/oci"
	"sampan/internal/store"
	"sampan/internal/store/disk"
	"sampan/internal/store/scrub"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// filled is a store with some blobs of a kilobyte.
func filled(t *testing.T, blobs int) (s *disk.Store, dir string, all []oci.Digest) {
	t.Helper()
	dir = t.TempDir()
	s, err := disk.New(disk.Options{Dir: dir})
	must(t, err)
	t.Cleanup(func() { _ = s.Close() })
	for i := range blobs {
		b := fmt.Appendf(make([]byte, 1000), "%024d", i)
		d := oci.DigestOf(b)
		must(t, store.Put(t.Context(), s, d, b))
		all = append(all, d)
	}
	slices.SortFunc(all, func(a, b oci.Digest) int {
		if store.Before(a, b) {
			return -1
		}
		return 1
	})
	return s, dir, all
}

// rot changes one bit of a blob behind the store's back.
func rot(t *testing.T, dir string, d oci.Digest) {
	t.Helper()
	path := filepath.Join(dir, "blobs", d.Algorithm(), d.Hex()[:2], d.Hex())
	b, err := os.ReadFile(path)
	must(t, err)
	b[len(b)/2] ^= 1
	must(t, os.WriteFile(path, b, 0o600))
}

func newScrubber(t *testing.T, o scrub.Options) *scrub.Scrubber {
	t.Helper()
	o.Log = slog.New(slog.DiscardHandler)
	s, err := scrub.New(o)
	must(t, err)
	return s
}

func TestWhatHasRottedIsRemovedAndTheRestStays(t *testing.T) {
	s, dir, all := filled(t, 20)
	rot(t, dir, all[3])
	rot(t, dir, all[11])
	before, err := s.Lookup(t.Context(), all[0])
	must(t, err)
	var last scrub.Progress
	told := 0
	p, err := newScrubber(t, scrub.Options{Store: s}).Verify(t.Context(), func(p scrub.Progress) { last = p; told++ })
	must(t, err)
	if !slices.Equal(p.Rotten, []oci.Digest{all[3], all[11]}) || p.Blobs != 20 || p.Bytes != 20*1024 || p.TotalBlobs != 20 || p.TotalBytes != 20*1024 {
		t.Errorf("got %+v", p)
	}
	if told != 20 || last.Blobs != p.Blobs {
		t.Errorf("progress was told %d times, last %+v", told, last)
	}
	for i, d := range all {
		_, err := s.Stat(t.Context(), d)
		if gone := errors.Is(err, store.ErrNotFound); gone != (i == 3 || i == 11) {
			t.Errorf("blob %d: %v", i, err)
		}
	}
	if after, err := s.Lookup(t.Context(), all[0]); err != nil || !after.Used.Equal(before.Used) {
		t.Errorf("reading it was a use: %v, %v, %v", before.Used, after.Used, err)
	}
}

// reads notes which blobs were peeked at, and when, and stops after some.
type reads struct {
	*disk.Store
	digests []oci.Digest
	at      []time.Time
	stop    func()
	after   int
}

func (r *reads) Peek(ctx context.Context, d oci.Digest) (store.Blob, error) {
	r.digests, r.at = append(r.digests, d), append(r.at, time.Now())
	if len(r.digests) == r.after {
		r.stop()
	}
	return r.Store.Peek(ctx, d)
}

func TestAPassGoesOnWhereItWasStopped(t *testing.T) {
	s, dir, all := filled(t, 20)
	synctest.Test(t, func(t *testing.T) {
		state := filepath.Join(dir, "scrub")
		ctx, cancel := context.WithCancel(t.Context())
		r := &reads{Store: s, stop: cancel, after: 8}
		newScrubber(t, scrub.Options{Store: checkedStore{r}, Every: 24 * time.Hour, State: state}).Run(ctx)
		ctx, cancel = context.WithCancel(t.Context())
		r2 := &reads{Store: s, stop: cancel, after: 13}
		newScrubber(t, scrub.Options{Store: checkedStore{r2}, Every: 24 * time.Hour, State: state}).Run(ctx)
		// The eighth was begun and not finished, so that it is read again.
		if !slices.Equal(r.digests, all[:8]) || !slices.Equal(r2.digests, all[7:]) {
			t.Errorf("the first part read %d, and the second one %d blobs", len(r.digests), len(r2.digests))
		}
	})
}

// checkedStore is a store that has been checked.
type checkedStore struct{ *reads }

func (checkedStore) Checked() <-chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}

func TestItKeepsToItsRateAndBeginsAgainWhenItIsTime(t *testing.T) {
	s, dir, _ := filled(t, 10)
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		r := &reads{Store: s, stop: cancel, after: 11}
		began := time.Now()
		newScrubber(t, scrub.Options{
			Store: checkedStore{r}, Every: time.Hour, Rate: 512, State: filepath.Join(dir, "scrub"),
		}).Run(ctx)
		if d := r.at[9].Sub(began); d != 18*time.Second { // nine blobs at two seconds
			t.Errorf("nine blobs of a kilobyte took %s at 512 bytes a second", d)
		}
		if d := r.at[10].Sub(began); d != time.Hour {
			t.Errorf("the second pass began after %s", d)
		}
	})
}

// broken cannot be read.
type broken struct{ store.Blob }

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

type brokenStore struct{ *disk.Store }

func (s brokenStore) Peek(ctx context.Context, d oci.Digest) (store.Blob, error) {
	b, err := s.Store.Peek(ctx, d)
	return broken{b}, err
}

func TestWhatCannotBeReadIsLeftAndCounted(t *testing.T) {
	s, _, all := filled(t, 2)
	p, err := newScrubber(t, scrub.Options{Store: brokenStore{s}}).Verify(t.Context(), nil)
	must(t, err)
	if p.Unreadable != 2 || len(p.Rotten) != 0 {
		t.Errorf("got %+v", p)
	}
	if _, err := s.Stat(t.Context(), all[0]); err != nil {
		t.Error(err)
	}
}
