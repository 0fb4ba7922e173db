package fill_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sampan/internal/fill"
	"sampan/internal/oci"
	"sampan/internal/store"
	"sampan/internal/store/disk"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// content is n bytes that depend on the seed alone.
func content(n int, seed uint64) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	_, _ = r.Read(b) // never fails
	return b
}

// An upstream is a source that a test controls and asks what it was asked.
type upstream struct {
	body []byte
	size int64 // told; 0 means the true one
	// piece is how many bytes a Read gives at most; 0 means 4 KiB, so that a blob
	// takes many steps.
	piece int
	// read is called before each Read with its offset; it may wait, and its
	// error breaks the body there.
	read func(ctx context.Context, at int64) error
	// noRanges sends everything whatever part is asked for.
	noRanges bool
	// open fails an Open, by its number from 0.
	open func(n int, offset int64) error

	mu    sync.Mutex
	opens []int64 // the offsets asked for
	sent  int64
}

func (u *upstream) source() fill.Source {
	return fill.Source{Upstream: "test", Repository: "test/app", Parts: u}
}

// Part implements [oci.BlobParts].
func (u *upstream) Part(ctx context.Context, from, to int64) (oci.BlobPart, error) {
	u.mu.Lock()
	n := len(u.opens)
	u.opens = append(u.opens, from)
	u.mu.Unlock()
	if u.open != nil {
		if err := u.open(n, from); err != nil {
			return oci.BlobPart{}, err
		}
	}
	size := u.size
	if size == 0 {
		size = int64(len(u.body))
	}
	if u.noRanges {
		from, to = 0, -1
	}
	if to < 0 {
		to = int64(len(u.body))
	}
	return oci.BlobPart{Body: &body{u: u, ctx: ctx, at: from, to: to}, Size: size, From: from}, nil
}

// asked returns the offsets of all opens and the bytes sent.
func (u *upstream) asked() ([]int64, int64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return append([]int64(nil), u.opens...), u.sent
}

type body struct {
	u      *upstream
	ctx    context.Context
	at, to int64
}

func (b *body) Close() error { return nil }

func (b *body) Read(p []byte) (int, error) {
	if b.u.read != nil {
		if err := b.u.read(b.ctx, b.at); err != nil {
			return 0, err
		}
	}
	if b.at >= b.to {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), cmp.Or(b.u.piece, 4<<10))], b.u.body[b.at:b.to])
	b.at += int64(n)
	b.u.mu.Lock()
	b.u.sent += int64(n)
	b.u.mu.Unlock()
	return n, nil
}

// breakOnce breaks the body once at an offset.
func breakOnce(at int64) func(context.Context, int64) error {
	var once sync.Once
	return func(_ context.Context, now int64) (err error) {
		if now >= at {
			once.Do(func() { err = errors.New("connection reset") })
		}
		return err
	}
}

// holdAt holds the body at an offset until the gate is closed or the fetch ends.
func holdAt(at int64, gate <-chan struct{}) func(context.Context, int64) error {
	return func(ctx context.Context, now int64) error {
		if now < at {
			return nil
		}
		select {
		case <-gate:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func newStore(t testing.TB) *disk.Store {
	t.Helper()
	s, err := disk.New(disk.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// newGroup makes a group that is closed with the test, before its store.
func newGroup(t testing.TB, s store.Store) *fill.Group {
	t.Helper()
	g, err := fill.New(fill.Options{Store: s, Log: slog.New(slog.DiscardHandler), Stall: 30 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	return g
}

func open(t *testing.T, g *fill.Group, d oci.Digest, u *upstream) oci.BlobReader {
	t.Helper()
	r, err := g.Open(t.Context(), d, u.source())
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

// mustRead reads to the end and compares.
func mustRead(t *testing.T, r io.Reader, want []byte) {
	t.Helper()
	got, err := io.ReadAll(r)
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("read %d bytes, want %d, equal %v, err %v", len(got), len(want), bytes.Equal(got, want), err)
	}
}

func mustStored(t *testing.T, s store.Store, d oci.Digest, want []byte) {
	t.Helper()
	got, err := store.ReadAll(t.Context(), s, d, int64(len(want)))
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("stored %d bytes, want %d, err %v", len(got), len(want), err)
	}
}

func mustNotBeStored(t *testing.T, s store.Store, d oci.Digest) {
	t.Helper()
	if b, err := s.Open(t.Context(), d); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("the store has %v (err %v)", b, err)
	}
}

// mustBeDiscarded asserts that nothing partial takes room.
func mustBeDiscarded(t *testing.T, s store.Store, d oci.Digest) {
	t.Helper()
	in, err := s.Ingest(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	if n := in.Len(); n != 0 {
		t.Errorf("%d bytes were left", n)
	}
	if err := in.Discard(); err != nil {
		t.Error(err)
	}
}

// A failingStore refuses writes behind a number of bytes of each ingest.
type failingStore struct {
	store.Store
	room int64
}

type failingIngest struct {
	store.Ingest
	room int64
}

func (s failingStore) Ingest(ctx context.Context, d oci.Digest) (store.Ingest, error) {
	if s.room == 0 {
		return nil, store.ErrUnwritable
	}
	in, err := s.Store.Ingest(ctx, d)
	return failingIngest{in, s.room}, err
}

func (in failingIngest) WriteAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > in.room {
		return 0, store.ErrUnwritable
	}
	return in.Ingest.WriteAt(p, off)
}

func (in failingIngest) Write(p []byte) (int, error) {
	if in.Len()+int64(len(p)) > in.room {
		return 0, store.ErrUnwritable
	}
	return in.Ingest.Write(p)
}
