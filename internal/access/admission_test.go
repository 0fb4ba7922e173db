package access

import (
	"context"
	"errors"
	"testing"

	"sampan/internal/oci"
)

// A registry that is asked as the client is asked: who may have nothing more that is
// cold has it asked no more.
func TestThePermissionItselfIsAdmitted(t *testing.T) {
	f := newFixture(t)
	var costs []oci.Cost
	tooMuch := errors.New("too much")
	ctx := oci.WithAdmission(as(t, "alice:pw"), func(_ context.Context, c oci.Cost) error {
		costs = append(costs, c)
		return tooMuch
	})
	d := oci.DigestOf([]byte("x"))
	if _, err := f.StatBlob(ctx, repository(t, "team/a"), d); !errors.Is(err, tooMuch) || f.up.count("alice:pw") != 0 {
		t.Errorf("the registry was asked: %v", err)
	}
	if len(costs) != 1 || costs[0].Blob {
		t.Errorf("it costs %+v", costs)
	}
	tooMuch = nil
	if _, err := f.StatBlob(ctx, repository(t, "team/a"), d); err != nil || f.up.count("alice:pw") != 1 {
		t.Error(err)
	}
}
