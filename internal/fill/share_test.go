package fill_test

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"

	"sampan/internal/oci"
)

// What one repository's upstream says is not the answer to another repository.
func TestEachCallerGetsTheErrorOfItsOwnSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := oci.DigestOf([]byte("x"))
		gate := make(chan struct{})
		refuse := func(err error) *upstream {
			return &upstream{open: func(int, int64) error {
				<-gate
				return err
			}}
		}
		unknown := oci.Errorf(oci.CodeBlobUnknown, "not in a/b")
		denied := oci.Errorf(oci.CodeDenied, "not for you in c/d")
		g := newGroup(t, newStore(t))
		errs := make([]chan error, 2)
		for i, err := range []error{unknown, denied} {
			errs[i] = make(chan error)
			go func() {
				_, err := g.Open(t.Context(), d, refuse(err).source())
				errs[i] <- err
			}()
			synctest.Wait() // so that the order is known
		}
		close(gate)
		if err := <-errs[0]; !errors.Is(err, unknown) {
			t.Errorf("the first got %v", err)
		}
		if err := <-errs[1]; !errors.Is(err, denied) {
			t.Errorf("the second got %v", err)
		}
	})
}

// A body that breaks before its size is known is no failure of the mirror.
func TestBrokenBodyOfUnknownSizeIsUnavailable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := &upstream{body: content(size, 31), size: -1, read: func(_ context.Context, at int64) error {
			if at > 1000 {
				return io.ErrUnexpectedEOF
			}
			return nil
		}}
		_, err := newGroup(t, newStore(t)).Open(t.Context(), oci.DigestOf(nil), u.source())
		if oci.CodeOf(err) != oci.CodeUnavailable || !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("got %v", err)
		}
	})
}
