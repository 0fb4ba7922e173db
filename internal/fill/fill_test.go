package fill_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sampan/internal/fill"
	"sampan/internal/oci"
)

const size = 200 << 10

func TestManyReadersShareOneFetch(t *testing.T) {
	want := content(size, 1)
	d := oci.DigestOf(want)
	u := &upstream{body: want}
	s := newStore(t)
	g := newGroup(t, s)
	var readers sync.WaitGroup
	for i := range 50 {
		readers.Go(func() {
			r, err := g.Open(t.Context(), d, u.source())
			if err != nil {
				t.Error(err)
				return
			}
			defer r.Close()
			from := int64(i) * size / 50
			if _, err := r.Seek(from, io.SeekStart); err != nil {
				t.Error(err)
			}
			got, err := io.ReadAll(r)
			if err != nil || !bytes.Equal(got, want[from:]) {
				t.Errorf("reader from %d got %d bytes, err %v", from, len(got), err)
			}
		})
	}
	readers.Wait()
	g.Close() // waits for the commit
	opens, sent := u.asked()
	if len(opens) != 1 || sent != size {
		t.Errorf("upstream was opened at %v and sent %d bytes, want once and %d", opens, sent, size)
	}
	mustStored(t, s, d, want)
}

func TestBytesAreReadWhileTheyArriveAndTheTailWaitsForTheProof(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		want := content(size, 2)
		gate := make(chan struct{})
		u := &upstream{body: want, read: holdAt(size-4<<10, gate)} // all but the last bytes arrive
		g := newGroup(t, newStore(t))
		r := open(t, g, oci.DigestOf(want), u)
		var got bytes.Buffer
		done := make(chan error)
		go func() {
			_, err := io.Copy(&got, r)
			done <- err
		}()
		time.Sleep(5 * time.Millisecond) // by the bubble's clock: bytes wait for others for 2
		synctest.Wait()
		if n := got.Len(); n != size-16<<10 {
			t.Errorf("before the proof the reader has %d bytes of %d", n, size)
		}
		close(gate)
		if err := <-done; err != nil || !bytes.Equal(got.Bytes(), want) {
			t.Errorf("after the proof: %d bytes, %v", got.Len(), err)
		}
	})
}

func TestFetchGoesOnWhenItsFirstReaderLeaves(t *testing.T) {
	for name, holdFrom := range map[string]int64{"before the first byte": 0, "in the middle": size / 2} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				want := content(size, 3)
				d := oci.DigestOf(want)
				gate := make(chan struct{})
				u := &upstream{body: want, read: holdAt(holdFrom, gate)}
				s := newStore(t)
				g := newGroup(t, s)
				ctx, leave := context.WithCancel(t.Context())
				r, err := g.Open(ctx, d, u.source())
				if err != nil {
					t.Fatal(err)
				}
				defer r.Close()
				leave()
				if _, err := io.ReadAll(r); !errors.Is(err, context.Canceled) {
					t.Errorf("the reader that left got %v", err)
				}
				close(gate)
				synctest.Wait()
				mustStored(t, s, d, want)
				if opens, _ := u.asked(); len(opens) != 1 {
					t.Errorf("upstream was opened %d times", len(opens))
				}
			})
		})
	}
}

func TestBrokenFetchContinuesAtItsOffset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		want := content(size, 4)
		u := &upstream{body: want, read: breakOnce(size / 2)}
		r := open(t, newGroup(t, newStore(t)), oci.DigestOf(want), u)
		mustRead(t, r, want)
		opens, sent := u.asked()
		if len(opens) != 2 || opens[1] < size/2 || sent != size {
			t.Errorf("opened at %v, sent %d bytes of %d", opens, sent, size)
		}
	})
}

func TestBodyThatEndsEarlyIsContinued(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		want := content(size, 5)
		u := &upstream{body: want}
		short := true
		u.read = func(_ context.Context, at int64) error {
			if at >= size/3 && short {
				short = false
				return io.EOF
			}
			return nil
		}
		mustRead(t, open(t, newGroup(t, newStore(t)), oci.DigestOf(want), u), want)
	})
}

func TestStalledFetchIsAskedAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		want := content(size, 6)
		hold := true
		u := &upstream{body: want}
		u.read = func(ctx context.Context, at int64) error {
			if at < size/2 || !hold {
				return nil
			}
			hold = false
			<-ctx.Done()
			return ctx.Err()
		}
		began := time.Now()
		mustRead(t, open(t, newGroup(t, newStore(t)), oci.DigestOf(want), u), want)
		if waited := time.Since(began); waited < 30*time.Second || waited > 35*time.Second {
			t.Errorf("took %v, want the 30 s of the stall and a short pause", waited)
		}
	})
}

func TestWrongDigestIsNeverCompleteAndNeverKept(t *testing.T) {
	for name, n := range map[string]int{"large": size, "smaller than the tail": 100} {
		t.Run(name, func(t *testing.T) {
			want := content(n, 7)
			d := oci.DigestOf(want)
			wrong := slices.Clone(want)
			wrong[n/2] ^= 1
			s := newStore(t)
			g := newGroup(t, s)
			var readers sync.WaitGroup
			for range 10 {
				readers.Go(func() {
					r, err := g.Open(t.Context(), d, (&upstream{body: wrong}).source())
					if errors.Is(err, fill.ErrMismatch) {
						return
					}
					if err != nil {
						t.Error(err)
						return
					}
					defer r.Close()
					got, err := io.ReadAll(r)
					if !errors.Is(err, fill.ErrMismatch) || len(got) == n {
						t.Errorf("got %d bytes of %d and %v", len(got), n, err)
					}
				})
			}
			readers.Wait()
			mustNotBeStored(t, s, d)
			healed := &upstream{body: want}
			mustRead(t, open(t, g, d, healed), want)
			if opens, _ := healed.asked(); !slices.Equal(opens, []int64{0}) {
				t.Errorf("after the wrong content the next fetch began at %v", opens)
			}
		})
	}
}

func TestNextGroupContinuesWhereTheLastWasStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		want := content(size, 8)
		d := oci.DigestOf(want)
		s := newStore(t)
		first := newGroup(t, s)
		never := make(chan struct{})
		r := open(t, first, d, &upstream{body: want, read: holdAt(size/2, never)})
		synctest.Wait()
		first.Close()
		if _, err := io.ReadAll(r); !errors.Is(err, fill.ErrStopped) {
			t.Errorf("reader of a stopped fetch got %v", err)
		}
		u := &upstream{body: want}
		mustRead(t, open(t, newGroup(t, s), d, u), want)
		opens, sent := u.asked()
		if len(opens) != 1 || opens[0] < size/2 || sent != size-opens[0] {
			t.Errorf("opened at %v, sent %d", opens, sent)
		}
	})
}

func TestLeftoversOfAnEarlierProcess(t *testing.T) {
	want := content(size, 9)
	d := oci.DigestOf(want)
	beyond := func(_ int, offset int64) error {
		if offset > size {
			return oci.Errorf(oci.CodeRangeInvalid, "nothing there")
		}
		return nil
	}
	for name, tc := range map[string]struct {
		left  []byte
		opens []int64
	}{
		"a part is continued":                 {want[:1000], []int64{1000}},
		"all of it is proven without asking":  {want, nil},
		"more than there is is fetched again": {append(slices.Clone(want), 'x'), []int64{size + 1, 0}},
		"an empty file is no part":            {nil, []int64{0}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			in, err := s.Ingest(t.Context(), d)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := in.Write(tc.left); err != nil {
				t.Fatal(err)
			}
			if err := in.Keep(); err != nil {
				t.Fatal(err)
			}
			u := &upstream{body: want, open: beyond}
			mustRead(t, open(t, newGroup(t, s), d, u), want)
			if opens, _ := u.asked(); !slices.Equal(opens, tc.opens) {
				t.Errorf("opened at %v, want %v", opens, tc.opens)
			}
		})
	}
}

func TestRottenLeftoverCostsOneFetch(t *testing.T) {
	want := content(size, 10)
	d := oci.DigestOf(want)
	s := newStore(t)
	in, err := s.Ingest(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := in.Write(make([]byte, 5000)); err != nil {
		t.Fatal(err)
	}
	if err := in.Keep(); err != nil {
		t.Fatal(err)
	}
	g := newGroup(t, s)
	gate := make(chan struct{})
	u := &upstream{body: want, read: holdAt(6000, gate)}
	r := open(t, g, d, u)
	if _, err := io.ReadFull(r, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	close(gate)
	if got, err := io.ReadAll(r); !errors.Is(err, fill.ErrMismatch) || len(got) == size-1 {
		t.Fatalf("got %d bytes, %v", len(got), err)
	}
	mustRead(t, open(t, g, d, u), want)
}

func TestStoreThatCannotBeWritten(t *testing.T) {
	want := content(size, 12)
	d := oci.DigestOf(want)
	for name, room := range map[string]int64{"from the start": 0, "in the middle": size / 2} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			g := newGroup(t, failingStore{s, room})
			mustRead(t, open(t, g, d, &upstream{body: want}), want)
			mustNotBeStored(t, s, d)
			mustBeDiscarded(t, s, d)

			r := open(t, g, d, &upstream{body: want})
			for _, from := range []int64{size - 5, 70_000, 0} { // forwards and backwards
				if _, err := r.Seek(from, io.SeekStart); err != nil {
					t.Fatal(err)
				}
				mustRead(t, r, want[from:])
			}

			wrong := slices.Clone(want)
			wrong[1] ^= 1
			got, err := io.ReadAll(open(t, g, d, &upstream{body: wrong}))
			if !errors.Is(err, fill.ErrMismatch) || len(got) == size {
				t.Errorf("wrong content: got %d bytes, %v", len(got), err)
			}
		})
	}
}

func TestSectionsAreWrittenAsTheyArrive(t *testing.T) {
	want := content(size, 13)
	for name, room := range map[string]int64{"stored": 10 * size, "past a full store": size / 2} {
		t.Run(name, func(t *testing.T) {
			g := newGroup(t, failingStore{newStore(t), room})
			gate := make(chan struct{}) // not committed before it is opened
			r := open(t, g, oci.DigestOf(want), &upstream{body: want, read: holdAt(1000, gate)})
			close(gate)
			sw, ok := r.(interface {
				WriteSectionTo(w io.Writer, n int64) (int64, error)
			})
			if !ok {
				t.Fatalf("%T writes no sections", r)
			}
			var got bytes.Buffer
			for _, n := range []int64{10, 100 << 10, size} {
				if _, err := sw.WriteSectionTo(&got, n); err != nil {
					t.Fatal(err)
				}
			}
			if !bytes.Equal(got.Bytes(), want) {
				t.Errorf("got %d bytes", got.Len())
			}
		})
	}
}

func TestClosedGroupRefuses(t *testing.T) {
	g := newGroup(t, newStore(t))
	g.Close()
	if _, err := g.Open(t.Context(), oci.DigestOf(nil), (&upstream{}).source()); !errors.Is(err, oci.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
}
