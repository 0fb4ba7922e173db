package disk

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"

	"sampan/internal/oci"
	"sampan/internal/store"
)

const limit = 100_000

func openLimited(t *testing.T, dir string, maxSize int64) *Store {
	t.Helper()
	s, err := New(Options{Dir: dir, Limits: Limits{MaxSize: Bytes(maxSize)}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() }) // a second time where the test has closed it
	return s
}

// blobOf returns n bytes that depend on the seed, and their digest.
func blobOf(n int, seed uint64) ([]byte, oci.Digest) {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	_, _ = r.Read(b) // never fails
	return b, oci.DigestOf(b)
}

func put(t *testing.T, s *Store, n int, seed uint64) oci.Digest {
	t.Helper()
	b, d := blobOf(n, seed)
	if err := store.Put(t.Context(), s, d, b); err != nil {
		t.Fatal(err)
	}
	return d
}

func has(t *testing.T, s *Store, d oci.Digest) bool {
	t.Helper()
	b, err := s.Open(t.Context(), d)
	if errors.Is(err, store.ErrNotFound) {
		return false
	}
	if err != nil {
		t.Fatal(err)
	}
	_ = b.Close()
	return true
}

// onDisk counts the bytes of complete and partial blobs.
func onDisk(t *testing.T, s *Store) int64 {
	t.Helper()
	var n int64
	for _, sub := range []string{"blobs", "partial"} {
		err := filepath.Walk(filepath.Join(s.dir, sub), func(_ string, fi os.FileInfo, err error) error {
			if errors.Is(err, os.ErrNotExist) {
				return nil // evicted meanwhile
			}
			if err == nil && fi.Mode().IsRegular() {
				n += fi.Size()
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return n
}

func TestTheLeastRecentlyUsedMakesRoom(t *testing.T) {
	s := openLimited(t, t.TempDir(), limit)
	a, b, c := put(t, s, 40_000, 1), put(t, s, 40_000, 2), put(t, s, 10_000, 3)
	if !has(t, s, a) { // used now
		t.Fatal("a is gone")
	}
	d := put(t, s, 40_000, 4)
	for name, tc := range map[string]struct {
		digest oci.Digest
		want   bool
	}{"used": {a, true}, "unused": {b, false}, "newer": {c, true}, "newest": {d, true}} {
		if got := has(t, s, tc.digest); got != tc.want {
			t.Errorf("%s: there %v, want %v", name, got, tc.want)
		}
	}
}

func TestOrderOfUseSurvivesTheProcess(t *testing.T) {
	dir := t.TempDir()
	s := openLimited(t, dir, limit)
	a, b := put(t, s, 40_000, 1), put(t, s, 40_000, 2)
	has(t, s, a)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openLimited(t, dir, limit)
	put(t, s, 40_000, 3)
	if !has(t, s, a) || has(t, s, b) {
		t.Error("not the least recently used was evicted")
	}
}

func TestLoweredLimitHoldsAtOnce(t *testing.T) {
	dir := t.TempDir()
	s := openLimited(t, dir, 0)
	for i := range uint64(10) {
		put(t, s, 20_000, i)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openLimited(t, dir, limit)
	must(t, s.quota.trim(func() bool { return false })) // as Run begins
	if n := onDisk(t, s); n > limit || n < limit-20_000 {
		t.Errorf("%d bytes on the disk", n)
	}
}

func TestBlobBeyondTheLimitIsRefusedAndEvictsNothing(t *testing.T) {
	s := openLimited(t, t.TempDir(), limit)
	a := put(t, s, 40_000, 1)
	_, d := blobOf(1, 2)
	in, err := s.Ingest(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	if err := in.Expect(limit + 1); !errors.Is(err, store.ErrUnwritable) {
		t.Errorf("got %v", err)
	}
	if err := in.Discard(); err != nil {
		t.Fatal(err)
	}
	if !has(t, s, a) {
		t.Error("another blob was evicted for nothing")
	}
}

func TestLeftoversCountAndAreEvicted(t *testing.T) {
	dir := t.TempDir()
	s := openLimited(t, dir, limit)
	left, d := blobOf(60_000, 1)
	in, err := s.Ingest(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := in.Write(left); err != nil {
		t.Fatal(err)
	}
	if err := in.Keep(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openLimited(t, dir, limit)
	put(t, s, 60_000, 2)
	in, err = s.Ingest(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	if n := in.Len(); n != 0 {
		t.Errorf("the leftover of %d bytes is still there", n)
	}
	if err := in.Discard(); err != nil {
		t.Fatal(err)
	}
}

func TestOpenReaderIsNotCutOffByEviction(t *testing.T) {
	s := openLimited(t, t.TempDir(), limit)
	want, _ := blobOf(60_000, 1)
	a := put(t, s, 60_000, 1)
	r, err := s.Open(t.Context(), a)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	put(t, s, 60_000, 2)
	if has(t, s, a) {
		t.Fatal("it was not evicted")
	}
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, want) {
		t.Errorf("read %d bytes, %v", len(got), err)
	}
}

func TestLimitHoldsUnderPressure(t *testing.T) {
	s := openLimited(t, t.TempDir(), limit)
	var workers sync.WaitGroup
	stop, cancel := context.WithCancel(t.Context())
	for w := range uint64(4) {
		workers.Go(func() {
			random := rand.New(rand.NewPCG(w, 1))
			for range 100 {
				seed := random.Uint64N(60)
				b, d := blobOf(1000+int(seed)*300, seed)
				err := store.Put(t.Context(), s, d, b)
				if err != nil && !errors.Is(err, store.ErrUnwritable) {
					t.Error(err)
				}
				if random.IntN(10) == 0 {
					if err := s.Delete(t.Context(), d); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	go func() { workers.Wait(); cancel() }()
	for stop.Err() == nil { // a walk would count what comes and goes meanwhile
		s.quota.mu.Lock()
		used := s.quota.sum()
		s.quota.mu.Unlock()
		if used > limit || used < 0 {
			t.Errorf("%d bytes are counted", used)
			break
		}
		runtime.Gosched()
	}
	workers.Wait()
	if used, n := s.quota.sum(), onDisk(t, s); used != n {
		t.Errorf("%d bytes are counted and %d are there", used, n)
	}
}

// An index grows by steps, and nobody asks for room before: so much is left free for
// it, and for the copy of the log.
func TestTheLimitLeavesRoomForAnIndexToGrow(t *testing.T) {
	const index = 10_000
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "index.db"), make([]byte, index), 0o600))
	s, err := New(Options{Dir: dir, Limits: Limits{MaxSize: Bytes(limit), SoftSize: Bytes(limit)}, Counted: []string{"index.db"}})
	must(t, err)
	t.Cleanup(func() { must(t, s.Close()) })
	for seed := range uint64(40) {
		put(t, s, 5000, seed)
	}
	if blobs, _ := s.Evicted(); blobs == 0 {
		t.Fatal("nothing was evicted")
	}
	log, err := os.Stat(filepath.Join(dir, logName))
	must(t, err)
	live := int64(s.Usage().Blobs) * addSize
	if most := onDisk(t, s) + 2*index + log.Size() + live; most > limit {
		t.Errorf("with an index of twice the size and a second log there are %d bytes of %d", most, limit)
	}
	if used := onDisk(t, s); used < limit-2*index-5000-2*log.Size()-live {
		t.Errorf("%d bytes are used", used)
	}
}

// Deleting and committing the same blobs at once leaves the count, the log and the disk
// of one mind.
func TestWhatIsDeletedWhileItComesIsCountedAsItIs(t *testing.T) {
	dir := t.TempDir()
	s := openLimited(t, dir, 1<<20)
	var workers sync.WaitGroup
	for w := range uint64(6) {
		workers.Go(func() {
			for n := range uint64(60) {
				b, d := blobOf(100+int(n%3), n%3)
				var err error
				if w%2 == 0 {
					err = store.Put(t.Context(), s, d, b)
				} else {
					err = s.Delete(t.Context(), d)
				}
				if err != nil && !errors.Is(err, store.ErrBusy) {
					t.Error(err)
				}
			}
		})
	}
	workers.Wait()
	there := onDisk(t, s)
	if used := counted(s); used != there {
		t.Errorf("%d bytes are counted and %d are there", used, there)
	}
	must(t, s.Close())
	s = openLimited(t, dir, 1<<20)
	if used := counted(s); used != there {
		t.Errorf("the log claims %d bytes and %d are there", used, there)
	}
	must(t, s.Close())
}

// A size that an upstream made up must not wrap the count around.
func TestSizeThatNothingHasDoesNotFit(t *testing.T) {
	s := openLimited(t, t.TempDir(), limit)
	kept := put(t, s, limit/2, 90)
	_, d := blobOf(1, 91)
	in, err := s.Ingest(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	if err := in.Expect(1<<63 - 1); !errors.Is(err, store.ErrUnwritable) {
		t.Errorf("got %v", err)
	}
	if err := in.Discard(); err != nil {
		t.Error(err)
	}
	if !has(t, s, kept) {
		t.Error("what was there has left")
	}
	put(t, s, limit*3/4, 92)
	if has(t, s, kept) {
		t.Error("the limit no longer holds")
	}
}
