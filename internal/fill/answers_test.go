package fill_test

import (
	"context"
	"errors"
	"io"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"sampan/internal/oci"
)

func TestAnswersOfTheSource(t *testing.T) {
	want := content(size, 11)
	d := oci.DigestOf(want)
	unknown := &upstream{open: func(int, int64) error { return oci.Errorf(oci.CodeBlobUnknown, "no") }}

	t.Run("an unknown blob is told at once", func(t *testing.T) {
		g := newGroup(t, newStore(t))
		if _, err := g.Open(t.Context(), d, unknown.source()); !errors.Is(err, oci.ErrBlobUnknown) {
			t.Fatalf("got %v", err)
		}
	})
	t.Run("a failure before the first byte is tried twice", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			g := newGroup(t, newStore(t))
			down := &upstream{open: func(int, int64) error { return oci.Errorf(oci.CodeUnavailable, "down") }}
			if _, err := g.Open(t.Context(), d, down.source()); !errors.Is(err, oci.ErrUnavailable) {
				t.Fatalf("got %v", err)
			}
			if opens, _ := down.asked(); len(opens) != 2 {
				t.Errorf("asked %d times", len(opens))
			}
		})
	})
	t.Run("a source that is down for a while is told at once", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			g := newGroup(t, newStore(t))
			down := &upstream{open: func(int, int64) error {
				return &oci.Error{Code: oci.CodeUnavailable, Message: "down", RetryAfter: 20 * time.Second}
			}}
			began := time.Now()
			var e *oci.Error
			if _, err := g.Open(t.Context(), d, down.source()); !errors.As(err, &e) || e.RetryAfter != 20*time.Second || time.Since(began) != 0 {
				t.Fatalf("got %v after %v", err, time.Since(began))
			}
			if opens, _ := down.asked(); len(opens) != 1 {
				t.Errorf("asked %d times", len(opens))
			}
		})
	})
	t.Run("and waited for in the middle of the blob", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			u := &upstream{body: want, read: func(_ context.Context, at int64) error {
				if at == 0 {
					return nil
				}
				return errors.New("reset")
			}}
			began := time.Now()
			u.open = func(n int, _ int64) error {
				if n > 0 && time.Since(began) < 20*time.Second {
					u.read = nil
					return &oci.Error{Code: oci.CodeUnavailable, Message: "down", RetryAfter: 20 * time.Second}
				}
				return nil
			}
			mustRead(t, open(t, newGroup(t, newStore(t)), d, u), want)
			if took := time.Since(began); took < 20*time.Second || took > 30*time.Second {
				t.Errorf("took %v", took)
			}
		})
	})
	t.Run("the source of another caller takes over", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			g := newGroup(t, newStore(t))
			gate := make(chan struct{})
			bad := &upstream{open: func(int, int64) error {
				<-gate
				return oci.Errorf(oci.CodeBlobUnknown, "no")
			}}
			good := &upstream{body: want}
			go func() { _, _ = g.Open(t.Context(), d, bad.source()) }()
			synctest.Wait()
			go func() { synctest.Wait(); close(gate) }()
			mustRead(t, open(t, g, d, good), want)
		})
	})
	t.Run("the budget is spent in the middle: short, and kept", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newStore(t)
			g := newGroup(t, s)
			u := &upstream{body: want, read: func(_ context.Context, at int64) error {
				if at >= size/2 {
					return errors.New("reset")
				}
				return nil
			}}
			got, err := io.ReadAll(open(t, g, d, u))
			if err == nil || len(got) < size/4 || len(got) > size/2+8<<10 {
				t.Fatalf("got %d bytes, %v", len(got), err)
			}
			healed := &upstream{body: want}
			mustRead(t, open(t, g, d, healed), want)
			if opens, _ := healed.asked(); len(opens) != 1 || opens[0] < size/2 {
				t.Errorf("continued at %v", opens)
			}
		})
	})
	t.Run("a size that is not told is waited for", func(t *testing.T) {
		u := &upstream{body: want, size: -1}
		r := open(t, newGroup(t, newStore(t)), d, u)
		if got := r.Descriptor().Size; got != size {
			t.Errorf("size %d", got)
		}
		mustRead(t, r, want)
	})
	t.Run("bytes beyond the size told are not read", func(t *testing.T) {
		u := &upstream{body: append(slices.Clone(want), make([]byte, 1<<20)...), size: size}
		mustRead(t, open(t, newGroup(t, newStore(t)), d, u), want)
		if _, sent := u.asked(); sent != size {
			t.Errorf("read %d bytes of %d", sent, size)
		}
	})
	t.Run("a size told too large: short, and right the next time", func(t *testing.T) {
		s := newStore(t)
		g := newGroup(t, s)
		u := &upstream{body: want, size: size + 10, open: func(_ int, offset int64) error {
			if offset >= size {
				return oci.Errorf(oci.CodeRangeInvalid, "nothing there")
			}
			return nil
		}}
		if got, err := io.ReadAll(open(t, g, d, u)); err == nil {
			t.Errorf("got %d bytes and no error", len(got))
		}
		mustRead(t, open(t, g, d, u), want)
	})
	t.Run("a size told too small is never the blob", func(t *testing.T) {
		s := newStore(t)
		u := &upstream{body: want, size: size - 10}
		if got, err := io.ReadAll(open(t, newGroup(t, s), d, u)); err == nil || len(got) >= size-10 {
			t.Errorf("got %d bytes, %v", len(got), err)
		}
		mustNotBeStored(t, s, d)
	})
}
