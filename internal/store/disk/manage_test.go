package disk

import (
	"bytes"
	"context"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sampan/internal/oci"
	"sampan/internal/store"
)

func openWith(t *testing.T, dir string, l Limits) *Store {
	t.Helper()
	s, err := New(Options{Dir: dir, Limits: l})
	must(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func putFor(t *testing.T, s *Store, owner string, n int, seed uint64) oci.Digest {
	t.Helper()
	b, d := blobOf(n, seed)
	must(t, store.Put(store.WithOwner(t.Context(), owner), s, d, b))
	return d
}

func there(s *Store, d oci.Digest) bool {
	_, err := s.Stat(context.Background(), d)
	return err == nil
}

// trim does what Run does at each look.
func trim(t *testing.T, s *Store) {
	t.Helper()
	must(t, s.quota.trim(func() bool { return false }))
}

func TestOneAboveItsShareGivesFirstAndOneAtItsLeastLast(t *testing.T) {
	s := openWith(t, t.TempDir(), Limits{MaxSize: Bytes(limit), SoftSize: Bound{Share: 1}, Owners: map[string]OwnerLimits{
		"greedy": {MaxSize: Bound{Share: 0.3}}, "modest": {MinSize: Bytes(20_000)},
	}})
	modest := putFor(t, s, "modest", 20_000, 1) // the oldest
	other := putFor(t, s, "other", 20_000, 2)
	greedy1, greedy2 := putFor(t, s, "greedy", 25_000, 3), putFor(t, s, "greedy", 25_000, 4)
	putFor(t, s, "other", 20_000, 5)
	if there(s, greedy1) || !there(s, greedy2) || !there(s, other) || !there(s, modest) {
		t.Error("not the oldest of the one above its share has left")
	}
	putFor(t, s, "other", 20_000, 6)
	if there(s, other) || !there(s, modest) {
		t.Error("the one at its least gave while another could")
	}
	u := s.Usage()
	if o := u.Owners["greedy"]; o.Bytes != 25_000 || o.Blobs != 1 || o.Max != 30_000 {
		t.Errorf("got %+v", u.Owners)
	}
}

func TestAShareIsKeptInTheBackgroundThoughThereIsRoom(t *testing.T) {
	s := openWith(t, t.TempDir(), Limits{MaxSize: Bytes(10 * limit), Owners: map[string]OwnerLimits{"a": {MaxSize: Bytes(30_000)}}})
	first, second := putFor(t, s, "a", 20_000, 1), putFor(t, s, "a", 20_000, 2)
	trim(t, s)
	if there(s, first) || !there(s, second) {
		t.Error("the share is not kept")
	}
}

func TestRoomIsMadeInTheBackgroundAboveTheSoftLimit(t *testing.T) {
	s := openWith(t, t.TempDir(), Limits{MaxSize: Bytes(limit)})
	var all []oci.Digest
	for i := range uint64(9) {
		all = append(all, put(t, s, 10_900, i))
	}
	if u := s.Usage(); u.Total() <= u.Soft || u.Soft != 95_000 {
		t.Fatalf("got %+v", u)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); s.Run(ctx) }()
	for s.Usage().Total() > 95_000 && ctx.Err() == nil {
		put(t, s, 1, 99) // also wakes
	}
	cancel()
	<-ended
	if there(s, all[0]) || !there(s, all[1]) {
		t.Error("not the oldest one has left, or more than that")
	}
}

func TestFreeSpaceThatOthersTakeIsMade(t *testing.T) {
	s := openWith(t, t.TempDir(), Limits{MinFree: 50_000})
	disk := int64(200_000) // what the file system has for all
	taken := int64(0)
	s.quota.free = func() int64 { return disk - taken - onDisk(t, s) }
	first, second := put(t, s, 60_000, 1), put(t, s, 60_000, 2)
	third := put(t, s, 60_000, 3)
	if there(s, first) || !there(s, second) || !there(s, third) {
		t.Error("a reservation has not left space free")
	}
	taken = 60_000
	trim(t, s)
	if there(s, second) || !there(s, third) {
		t.Error("what others have taken was not made up for")
	}
	if err := s.quota.reserve(100_000); !errors.Is(err, store.ErrUnwritable) {
		t.Errorf("got %v", err)
	}
	if !there(s, third) {
		t.Error("what could not help was removed")
	}
}

func TestWhatIsReservedAndNotWrittenIsNotFree(t *testing.T) {
	s := openWith(t, t.TempDir(), Limits{MinFree: 50_000})
	s.quota.free = func() int64 { return 200_000 - onDisk(t, s) }
	b, d := blobOf(100_000, 1)
	in, err := s.Ingest(t.Context(), d)
	must(t, err)
	must(t, in.Expect(100_000))
	if err := s.quota.reserve(60_000); !errors.Is(err, store.ErrUnwritable) {
		t.Errorf("the same space was given twice: %v", err)
	}
	_, err = in.Write(b)
	must(t, err)
	if u := s.Usage(); u.Reserved != 0 || u.Partial != 100_000 {
		t.Errorf("got %+v", u)
	}
	must(t, in.Discard())
	if u := s.Usage(); u.Reserved != 0 || u.Partial != 0 {
		t.Errorf("got %+v", u)
	}
}

func TestPinsStayAndFillTheDiskWithOneWordInTheLog(t *testing.T) {
	var log bytes.Buffer
	s, err := New(Options{Dir: t.TempDir(), Limits: Limits{MaxSize: Bytes(limit)}, Log: slog.New(slog.NewTextHandler(&log, nil))})
	must(t, err)
	defer s.Close()
	_, later := blobOf(40_000, 2)
	pinned := put(t, s, 40_000, 1)
	s.SetPins([]oci.Digest{pinned, later})
	put(t, s, 40_000, 2)
	for range 2 {
		b, d := blobOf(40_000, 3)
		if err := store.Put(t.Context(), s, d, b); !errors.Is(err, store.ErrUnwritable) {
			t.Fatalf("got %v, want ErrUnwritable", err)
		}
	}
	if n := strings.Count(log.String(), "pinned blobs fill the disk"); n != 1 {
		t.Errorf("it was told %d times: %s", n, log.String())
	}
	if u := s.Usage(); u.Pinned != 80_000 || !there(s, pinned) || !there(s, later) {
		t.Errorf("got %+v", u)
	}
	s.Unpin(pinned)
	put(t, s, 40_000, 3)
	if there(s, pinned) || !there(s, later) {
		t.Error("not the one that was unpinned has left")
	}
	must(t, s.Delete(t.Context(), later)) // an order
	if there(s, later) || !s.Pinned(later) {
		t.Error("what is pinned cannot be deleted, or its pin went with it")
	}
}

func TestWhatIsNotUsedLeavesByItsAge(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s, err := New(Options{Dir: dir, Limits: Limits{MaxAge: 48 * time.Hour, Owners: map[string]OwnerLimits{"short": {MaxAge: time.Hour}}}})
		must(t, err)
		defer s.Close()
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { defer close(ended); s.Run(ctx) }()
		short, long, pinned := putFor(t, s, "short", 10, 1), putFor(t, s, "", 10, 2), putFor(t, s, "short", 10, 3)
		s.Pin(pinned)
		used := putFor(t, s, "short", 10, 4)
		time.Sleep(50 * time.Minute)
		has(t, s, used)
		time.Sleep(20 * time.Minute)
		if there(s, short) || !there(s, long) || !there(s, pinned) || !there(s, used) {
			t.Error("after an hour, not the unused ones of one upstream have left")
		}
		time.Sleep(48 * time.Hour)
		if there(s, long) || !there(s, pinned) || there(s, used) {
			t.Error("after two days, not all have left that are not pinned")
		}
		cancel()
		<-ended
	})
}

func TestAListingGoesThroughAllInOrder(t *testing.T) {
	s := openWith(t, t.TempDir(), Limits{})
	var want []string
	for i := range uint64(300) {
		want = append(want, putFor(t, s, "quay.io", 5, i).String())
	}
	sum := sha512.Sum512([]byte("other"))
	other := oci.MustParseDigest("sha512:" + hex.EncodeToString(sum[:]))
	must(t, store.Put(t.Context(), s, other, []byte("other")))
	slices.Sort(want)
	want = append(want, other.String())
	for _, limit := range []int{1, 7, 300, 301, 1000} {
		var got []string
		var after oci.Digest
		for {
			page, err := s.List(t.Context(), after, limit)
			must(t, err)
			for _, e := range page {
				got, after = append(got, e.Digest.String()), e.Digest
			}
			if len(page) < limit {
				break
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("by %d: %d blobs, want %d, or in another order", limit, len(got), len(want))
		}
	}
	e, err := s.Lookup(t.Context(), oci.MustParseDigest(want[0]))
	if err != nil || e.Owner != "quay.io" || e.Size != 5 || e.Pinned {
		t.Errorf("got %+v, %v", e, err)
	}
}
