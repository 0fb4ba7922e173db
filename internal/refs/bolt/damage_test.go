package bolt

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"sampan/internal/oci"
	"sampan/internal/refs"
)

// A written index and what was put into it: of each record the values of all
// transactions, the newest last. A crash in the midst of the last transaction is
// as if it had not begun, and so is damage to the page that ends it.
type written struct {
	path  string
	bytes []byte
	repo  oci.Repository
	tags  map[oci.Tag][]oci.Descriptor
	links []oci.Descriptor
	lists map[string]string
}

const damageLinks = 600

// writeIndex makes an index with branches, overflowing values, free pages and
// small buckets.
func writeIndex(t testing.TB) *written {
	t.Helper()
	w := &written{
		path:  filepath.Join(t.TempDir(), "index.db"),
		repo:  repository(t, "quay.io/some/repository"),
		tags:  make(map[oci.Tag][]oci.Descriptor),
		lists: make(map[string]string),
	}
	x := openIndex(t, w.path)
	ctx := t.Context()
	for i := range damageLinks {
		d := oci.Descriptor{MediaType: fmt.Sprintf("a/%d", i), Digest: oci.DigestOf(fmt.Append(nil, i)), Size: int64(i)}
		w.links = append(w.links, d)
		must(t, x.PutLinks(ctx, w.repo, d))
		if i%200 == 0 {
			must(t, x.Flush(ctx))
		}
	}
	for i := range 8 {
		v := tag(t, fmt.Sprintf("v%d", i))
		for j := range 2 {
			d := w.links[i*2+j]
			w.tags[v] = append(w.tags[v], d)
			must(t, x.PutTag(ctx, w.repo, v, refs.TagEntry{Manifest: d}))
			must(t, x.Flush(ctx))
		}
	}
	for i := range 3 {
		k := fmt.Sprintf("list %d", i)
		w.lists[k] = string(slices.Repeat([]byte{byte('a' + i)}, 10_000*i))
		must(t, x.PutList(ctx, w.repo, k, refs.ListEntry{Body: []byte(w.lists[k])}))
	}
	must(t, x.Close())
	var err error
	w.bytes, err = os.ReadFile(w.path)
	must(t, err)
	return w
}

// with writes a changed copy of the file's bytes to its path.
func (w *written) with(t testing.TB, change func(b []byte) []byte) {
	t.Helper()
	must(t, os.WriteFile(w.path, change(slices.Clone(w.bytes)), fileMode))
}

// compare fails when the index says anything that was not written. It returns
// how many records are there.
func (w *written) compare(t testing.TB, x *Index) (present int) {
	t.Helper()
	ctx := context.Background()
	count := func(err error, ok bool, what any) {
		switch {
		case errors.Is(err, refs.ErrNotFound):
		case err != nil:
			t.Errorf("%v: %v", what, err)
		case !ok:
			t.Errorf("%v has a value that was never written", what)
		default:
			present++
		}
	}
	for _, want := range w.links {
		got, err := x.Link(ctx, w.repo, want.Digest)
		count(err, got.MediaType == want.MediaType && got.Digest == want.Digest && got.Size == want.Size, want.Digest)
	}
	for v, wants := range w.tags {
		got, err := x.Tag(ctx, w.repo, v)
		count(err, slices.ContainsFunc(wants, func(d oci.Descriptor) bool { return d.Digest == got.Manifest.Digest }), v)
	}
	for k, want := range w.lists {
		got, err := x.List(ctx, w.repo, k)
		count(err, string(got.Body) == want, k)
	}
	return present
}

func (w *written) records() int { return len(w.links) + len(w.tags) + len(w.lists) }

// survives opens what is at the path: it must be refused as damaged, or say
// nothing wrong and take writes. After a repair it must do the latter.
func (w *written) survives(t testing.TB, what string) (opened bool, kept int) {
	t.Helper()
	x, err := Open(w.path, slog.New(slog.DiscardHandler))
	switch {
	case err == nil:
		opened, kept = true, w.useful(t, x)
	case !errors.Is(err, refs.ErrDamaged):
		t.Fatalf("%s: got %v, want ErrDamaged", what, err)
	default:
		if _, err := os.Stat(w.path); err != nil {
			t.Fatalf("%s: a damaged file was taken away: %v", what, err)
		}
		r, err := Repair(w.path, time.Now())
		if err != nil {
			t.Fatalf("%s: Repair: %v", what, err)
		}
		if x, err = Open(w.path, slog.New(slog.DiscardHandler)); err != nil {
			t.Fatalf("%s: after Repair: %v", what, err)
		}
		if kept = w.useful(t, x); kept != r.Kept {
			t.Errorf("%s: %d records are there, and Repair says %d", what, kept, r.Kept)
		}
		must(t, os.Remove(r.Old))
	}
	if t.Failed() {
		t.Fatalf("after: %s", what)
	}
	return opened, kept
}

func (w *written) useful(t testing.TB, x *Index) int {
	t.Helper()
	n := w.compare(t, x)
	fresh := oci.Descriptor{Digest: oci.DigestOf([]byte("fresh")), Size: 5}
	must(t, x.PutLinks(context.Background(), w.repo, fresh))
	must(t, x.Close())
	return n
}

func seeded(t *testing.T) *rand.Rand {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

func TestAnUndamagedIndexIsWhole(t *testing.T) {
	w := writeIndex(t)
	if opened, n := w.survives(t, "nothing"); !opened || n != w.records() {
		t.Fatalf("opened: %v, with %d of %d records", opened, n, w.records())
	}
}

func TestATruncatedFileNeverLies(t *testing.T) {
	w := writeIndex(t)
	random := seeded(t)
	sizes := []int{0, 1, 100, 4095, 4096, 4097, 8192, 16384, len(w.bytes) - 1, len(w.bytes) - 4096}
	for range 20 {
		sizes = append(sizes, random.IntN(len(w.bytes)))
	}
	for _, n := range sizes {
		w.with(t, func(b []byte) []byte { return b[:n] })
		w.survives(t, fmt.Sprintf("cut to %d of %d bytes", n, len(w.bytes)))
	}
}

func TestFlippedBytesNeverLie(t *testing.T) {
	w := writeIndex(t)
	random := seeded(t)
	opened := 0
	const rounds = 60
	for range rounds {
		what := "flipped"
		w.with(t, func(b []byte) []byte {
			for range 1 + random.IntN(3) {
				at, by := random.IntN(len(b)), byte(1+random.IntN(255))
				if random.IntN(2) == 0 { // where structure is: the beginning of a page
					at = at&^4095 + random.IntN(64)
				}
				b[at] ^= by
				what += fmt.Sprintf(" %d by %#x", at, by)
			}
			return b
		})
		if ok, _ := w.survives(t, what); ok {
			opened++
		}
	}
	t.Logf("%d of %d opened as they were", opened, rounds)
}

func TestLostPagesNeverLie(t *testing.T) {
	w := writeIndex(t)
	random := seeded(t)
	pages := len(w.bytes) / 4096
	for _, id := range append([]int{0, 1, 2, 3, 4, 5, 6, 7}, random.Perm(pages)[:12]...) {
		for what, fill := range map[string]func() byte{
			"zeroed":  func() byte { return 0 },
			"garbage": func() byte { return byte(random.Uint32()) },
		} {
			w.with(t, func(b []byte) []byte {
				for i := range 4096 {
					b[id*4096+i] = fill()
				}
				return b
			})
			w.survives(t, fmt.Sprintf("page %d %s", id, what))
		}
	}
}

func TestSwappedPagesNeverLie(t *testing.T) {
	w := writeIndex(t)
	random := seeded(t)
	pages := len(w.bytes) / 4096
	for range 15 {
		from, to := random.IntN(pages), random.IntN(pages)
		w.with(t, func(b []byte) []byte {
			copy(b[to*4096:(to+1)*4096], w.bytes[from*4096:(from+1)*4096])
			return b
		})
		w.survives(t, fmt.Sprintf("page %d copied over page %d", from, to))
	}
}

func TestAFileThatIsNoIndexIsRefused(t *testing.T) {
	w := writeIndex(t)
	random := seeded(t)
	garbage := make([]byte, 100_000)
	for i := range garbage {
		garbage[i] = byte(random.Uint32())
	}
	for what, b := range map[string][]byte{
		"empty":   {},
		"text":    []byte("hello\n"),
		"zeros":   make([]byte, 100_000),
		"garbage": garbage,
	} {
		w.with(t, func([]byte) []byte { return b })
		if opened, n := w.survives(t, what); opened || n != 0 {
			t.Errorf("%s: opened %v with %d records", what, opened, n)
		}
	}
}

func TestAnIndexOfALaterFormatIsNeitherOpenedNorRepaired(t *testing.T) {
	w := writeIndex(t)
	db, err := openFile(w.path)
	must(t, err)
	err = replaceVersion(db, "2")
	must(t, errors.Join(err, db.Close()))
	if _, err := Open(w.path, slog.New(slog.DiscardHandler)); err == nil || errors.Is(err, refs.ErrDamaged) {
		t.Errorf("Open: %v", err)
	}
	if _, err := Repair(w.path, time.Now()); err == nil || errors.Is(err, refs.ErrDamaged) {
		t.Errorf("Repair: %v", err)
	}
	if _, err := os.Stat(w.path); err != nil {
		t.Error(err)
	}
}
