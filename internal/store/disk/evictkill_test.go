package disk

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"sampan/internal/store"
)

// many is what a variable says of a long form, or the short one.
func many(t *testing.T, variable string, short int) int {
	t.Helper()
	text := os.Getenv(variable)
	if text == "" {
		return short
	}
	n, err := strconv.Atoi(text)
	must(t, err)
	return n
}

// childEvicts commits, evicts and deletes until it is killed, and counts aloud.
func childEvicts(args []string) error {
	ctx := context.Background()
	s, err := New(Options{Dir: args[0], Limits: Limits{MaxSize: Bytes(limit), SoftSize: Bytes(limit / 2)}})
	if err != nil {
		return err
	}
	go s.Run(ctx)
	seed, err := strconv.ParseUint(args[1], 10, 64)
	if err != nil {
		return err
	}
	random := rand.New(rand.NewPCG(seed, 1))
	for n := 0; ; n++ {
		which := random.Uint64N(200)
		b, d := blobOf(500+int(which)*40, which)
		if err := store.Put(ctx, s, d, b); err != nil {
			return err
		}
		if n%3 == 0 {
			_, other := blobOf(500+int(which/2)*40, which/2)
			if err := s.Delete(ctx, other); err != nil {
				return err
			}
		}
		if n%50 == 0 {
			s.saveUses()
		}
		fmt.Println(n)
	}
}

// After kill -9 the log claims all that is there, and the disk has no more than
// the limit.
func TestKilledWhileItEvictsItClaimsNoLessThanIsThere(t *testing.T) {
	dir := t.TempDir()
	for k := range many(t, "SOAK_STORE_KILLS", 8) {
		cmd, lines := child(t, "evict", dir, strconv.Itoa(k))
		for range 1 + rand.IntN(150) {
			if !lines.Scan() {
				t.Fatal("the child ended")
			}
		}
		kill(t, cmd, lines)
		s := openLimited(t, dir, 1<<20) // more than it had, so that nothing leaves
		if !s.trusted {
			t.Fatal("the log is not believed after a kill")
		}
		there, claimed := onDisk(t, s), counted(s)
		if there > claimed || there > limit {
			t.Fatalf("kill %d: %d bytes are there, %d are claimed, %d are allowed", k, there, claimed, limit)
		}
		must(t, s.check(t.Context()))
		if got := counted(s); got != there {
			t.Fatalf("kill %d: %d bytes are counted after the check, %d are there", k, got, there)
		}
		must(t, s.Close())
	}
}

// A start with many blobs: SOAK_STORE_BLOBS of them, which have a time to keep to. In go
// test alone there are a few, any time is good, and TestAStartReadsNoDirectoryOfBlobs counts
// the calls.
func TestAStartKnowsManyBlobs(t *testing.T) {
	const few = 5000
	blobs := many(t, "SOAK_STORE_BLOBS", few)
	dir := t.TempDir()
	must(t, newStore(t, dir).Close())
	must(t, os.Remove(dir+"/"+logName))
	began := time.Now()
	plant(t, dir, blobs, "x")
	t.Logf("%d files made in %s", blobs, time.Since(began))
	began = time.Now()
	s := openLimited(t, dir, 1<<40)
	t.Logf("without a log: %s", time.Since(began))
	must(t, s.Close())
	before := heap()
	began = time.Now()
	s = openLimited(t, dir, 1<<40)
	took := time.Since(began)
	each := float64(heap()-before) / float64(blobs)
	t.Logf("with its log: %s, %.0f bytes of memory for each blob", took, each)
	if s.Usage().Blobs != blobs {
		t.Errorf("%d blobs are known", s.Usage().Blobs)
	}
	if bound := time.Duration(blobs) * 10 * time.Microsecond; blobs > few && took > bound {
		t.Errorf("more than %s", bound)
	}
	if each > 100 {
		t.Errorf("%.0f bytes for each blob", each)
	}
	began = time.Now()
	must(t, s.check(t.Context()))
	t.Logf("the check: %s", time.Since(began))
}
