package disk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"

	"sampan/internal/oci"
	"sampan/internal/store"
)

// The blob of the test that kills writers: so large that it is not complete
// before a kill, most of the time.
const (
	orderSize  = 8 << 20
	orderPiece = 10_000
	orderLines = 4
)

func orderBlob() ([]byte, oci.Digest) { return blobOf(orderSize, 7) }

// childWritesInAnyOrder continues the blob in pieces of random order, by several
// goroutines, and says of each piece that it is written.
func childWritesInAnyOrder(args []string) error {
	seed, err := strconv.ParseUint(args[1], 10, 64)
	if err != nil {
		return err
	}
	s, err := New(Options{Dir: args[0]})
	if err != nil {
		return err
	}
	b, d := orderBlob()
	in, err := s.Ingest(context.Background(), d)
	if err != nil {
		return err
	}
	have := in.Have()
	pieces := make(chan int64, orderSize/orderPiece+1)
	for _, i := range rand.New(rand.NewPCG(seed, 0)).Perm(cap(pieces)) {
		if gap, ok := have.NextGap(int64(i)*orderPiece, orderSize); ok && gap.From/orderPiece == int64(i) {
			pieces <- int64(i)
		}
	}
	close(pieces)
	var all sync.WaitGroup
	errs := make(chan error, orderLines)
	for range orderLines {
		all.Go(func() {
			for i := range pieces {
				from, to := i*orderPiece, min((i+1)*orderPiece, orderSize)
				if _, err := in.WriteAt(b[from:to], from); err != nil {
					errs <- err
					return
				}
				fmt.Println("wrote", from, to)
			}
		})
	}
	all.Wait()
	fmt.Println("all")
	_, err = io.Copy(io.Discard, os.Stdin) // until killed
	close(errs)
	return errors.Join(err, <-errs)
}

func TestKillingWritersInAnyOrderLosesNothing(t *testing.T) {
	const kills = 20
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	b, d := orderBlob()
	dir := t.TempDir()
	resumed := 0
	for range kills {
		s, err := New(Options{Dir: dir})
		must(t, err)
		in, err := s.Ingest(t.Context(), d)
		must(t, err)
		told := in.Have()
		must(t, errors.Join(in.Keep(), s.Close()))
		cmd, lines := child(t, "order", dir, strconv.FormatUint(random.Uint64(), 10))
		note := func(line string) {
			var from, to int64
			if n, _ := fmt.Sscanf(line, "wrote %d %d", &from, &to); n == 2 {
				told.Add(from, to)
			}
		}
		for range 1 + random.IntN(150) {
			if !lines.Scan() {
				t.Fatal("the child ended by itself")
			}
			note(lines.Text())
			if lines.Text() == "all" {
				break
			}
		}
		for _, line := range kill(t, cmd, lines) {
			note(line)
		}
		if checkOrder(t, dir, b, d, told) {
			resumed++
		}
	}
	if resumed == 0 {
		t.Errorf("none of %d kills left a gap", kills)
	}
}

// checkOrder compares what a killed process left with what it said. It tells
// whether there is a gap. A blob that is complete begins again.
func checkOrder(t *testing.T, dir string, b []byte, d oci.Digest, told store.Ranges) bool {
	t.Helper()
	s, err := New(Options{Dir: dir})
	must(t, err)
	defer s.Close()
	in, err := s.Ingest(t.Context(), d)
	must(t, err)
	have := in.Have()
	for r := range told.All() {
		if !have.Covers(r.From, r.To) {
			t.Fatalf("%v were written, and %v are there", r, have)
		}
	}
	var whole store.Ranges
	whole.Add(0, orderSize)
	isThere(t, in, b, whole)
	if have.Covers(0, orderSize) {
		must(t, in.Commit(t.Context(), orderSize))
		must(t, s.Delete(t.Context(), d))
		return false
	}
	must(t, in.Keep())
	return have.EndOf(0) < have.End()
}

// counted returns the bytes that the quota counts.
func counted(s *Store) int64 {
	s.quota.mu.Lock()
	defer s.quota.mu.Unlock()
	return s.quota.sum()
}

func wantCounted(t *testing.T, s *Store, want int64) {
	t.Helper()
	if got := counted(s); got != want {
		t.Fatalf("%d bytes are counted, want %d", got, want)
	}
}

func TestTheQuotaCountsTheLengthOfAFileWithGaps(t *testing.T) {
	s := openLimited(t, t.TempDir(), limit)
	b, d := blobOf(60_000, 1)
	in := begin(t, s, b, d, store.Range{From: 40_000, To: 50_000}) // a gap counts: it will be filled
	wantCounted(t, s, 50_000)
	_, err := in.Write(b[:20_000])
	must(t, err)
	wantCounted(t, s, 50_000)
	must(t, in.Expect(60_000))
	wantCounted(t, s, 60_000)
	must(t, in.Keep())
	wantCounted(t, s, 50_000)
	must(t, s.Close())
	s = openLimited(t, s.dir, limit)
	wantCounted(t, s, 50_000)
	in = wantHave(t, s, d, store.Range{From: 0, To: 20_000}, store.Range{From: 40_000, To: 50_000})
	must(t, in.Reset())
	wantCounted(t, s, 50_000) // until its end: it will need them again
	_, err = in.WriteAt(b[30_000:], 30_000)
	must(t, err)
	wantCounted(t, s, 60_000)
	_, err = in.Write(b[:30_000])
	must(t, err)
	must(t, in.Commit(t.Context(), 60_000))
	wantCounted(t, s, 60_000)
	must(t, s.Delete(t.Context(), d))
	wantCounted(t, s, 0)
}

func TestAWriteBehindAGapThatDoesNotFitIsRefused(t *testing.T) {
	s := openLimited(t, t.TempDir(), limit)
	b, d := blobOf(100, 1)
	in := begin(t, s, b, d)
	index, _ := s.quota.index()
	room := limit - index - s.quota.ahead() // the log of blobs counts as well
	if _, err := in.WriteAt(b, room-99); !errors.Is(err, store.ErrUnwritable) {
		t.Fatalf("got %v, want ErrUnwritable", err)
	}
	wantCounted(t, s, 0)
	_, err := in.WriteAt(b, room-100)
	must(t, err)
	must(t, in.Discard())
	wantCounted(t, s, 0)
}

func TestEvictionTakesTheJournalToo(t *testing.T) {
	s := openLimited(t, t.TempDir(), limit)
	b, d := blobOf(60_000, 1)
	must(t, begin(t, s, b, d, store.Range{From: 50_000, To: 60_000}).Keep())
	if !exists(t, s.journalPath(d)) {
		t.Fatal("there is no journal")
	}
	put(t, s, 60_000, 2)
	if exists(t, s.partialPath(d)) || exists(t, s.journalPath(d)) {
		t.Error("it was not evicted, or its journal is there")
	}
	wantCounted(t, s, 60_000)
	wantHave(t, s, d)
}

func TestLimitHoldsWithGapsUnderPressure(t *testing.T) {
	s := openLimited(t, t.TempDir(), limit)
	var workers sync.WaitGroup
	for w := range uint64(4) {
		workers.Go(func() {
			random := rand.New(rand.NewPCG(w, 2))
			for range 100 {
				if err := someWrites(t.Context(), s, random); err != nil && !errors.Is(err, store.ErrUnwritable) && !errors.Is(err, store.ErrBusy) {
					t.Error(err)
				}
				if used := counted(s); used > limit || used < 0 {
					t.Errorf("%d bytes are counted", used)
				}
			}
		})
	}
	workers.Wait()
	var journals int64
	paths, err := filepath.Glob(filepath.Join(s.partialDir(), "*"+journalSuffix))
	must(t, err)
	for _, path := range paths {
		fi, err := os.Stat(path)
		must(t, err)
		journals += fi.Size()
	}
	if used, n := counted(s), onDisk(t, s)-journals; used != n {
		t.Errorf("%d bytes are counted and %d are there", used, n)
	}
}

// someWrites writes two parts of a random blob and ends it in a random way.
func someWrites(ctx context.Context, s *Store, random *rand.Rand) (err error) {
	seed := random.Uint64N(20)
	b, d := blobOf(1000+int(seed)*1000, seed)
	in, err := s.Ingest(ctx, d)
	if err != nil {
		return err
	}
	for range 2 {
		from := random.IntN(len(b))
		if _, err := in.WriteAt(b[from:from+random.IntN(len(b)-from+1)], int64(from)); err != nil {
			return errors.Join(err, in.Keep())
		}
	}
	switch random.IntN(4) {
	case 0:
		return in.Discard()
	case 1:
		return in.Keep()
	case 2:
		return errors.Join(in.Reset(), in.Keep())
	}
	if _, err := in.WriteAt(b, 0); err != nil {
		return errors.Join(err, in.Keep())
	}
	return in.Commit(ctx, int64(len(b)))
}

func TestBytesWithoutTheirRecordAreNotThere(t *testing.T) {
	s := openLimited(t, t.TempDir(), limit)
	b, d := blobOf(100, 1)
	want := []store.Range{{From: 0, To: 10}, {From: 50, To: 60}}
	in := begin(t, s, b, d, want...)
	journal := in.(*ingest).journal
	writable := journal.f
	// A record that could not be completed, and then none at all.
	_, err := writable.WriteAt([]byte("torn"), journal.size)
	must(t, err)
	journal.f, err = os.Open(s.journalPath(d))
	must(t, err)
	if n, err := in.WriteAt(b[80:], 80); n != 0 || !errors.Is(err, store.ErrUnwritable) {
		t.Fatalf("wrote %d: got %v, want ErrUnwritable", n, err)
	}
	must(t, journal.f.Close())
	journal.f = writable
	isThere(t, in, b, in.Have())
	_, err = in.WriteAt(b[10:20], 10) // the medium is well again
	must(t, err)
	must(t, in.Keep())
	wantCounted(t, s, 100) // the file is as long, until the next ingest cuts it
	in = wantHave(t, s, d, store.Range{From: 0, To: 20}, want[1])
	must(t, in.Keep())
	wantCounted(t, s, 60)
}

func TestAPartialThatIsIngestedWhileItIsEvictedIsCountedOnce(t *testing.T) {
	for name, end := range map[string]func(in store.Ingest, b []byte) error{
		"Keep":    func(in store.Ingest, _ []byte) error { return in.Keep() },
		"Discard": func(in store.Ingest, _ []byte) error { return in.Discard() },
		"Commit":  func(in store.Ingest, b []byte) error { return in.Commit(t.Context(), int64(len(b))) },
	} {
		s := openLimited(t, t.TempDir(), limit)
		b, d := blobOf(60_000, 1)
		must(t, begin(t, s, b, d, store.Range{From: 0, To: 60_000}).Keep())
		var once sync.Once
		s.quota.remove = func(i item) error { // between the choice and the removal
			once.Do(func() { must(t, end(begin(t, s, b, d), b)) })
			return s.evict(i)
		}
		put(t, s, 60_000, 2)
		if used, n := counted(s), onDisk(t, s); used != n {
			t.Errorf("%s: %d bytes are counted and %d are there", name, used, n)
		}
	}
}
