package admin_test

import (
	"testing"

	"sampan/internal/admin"
)

func TestTheLastIncidentsAreKeptTheNewestFirst(t *testing.T) {
	var l admin.Incidents
	if got := l.List(); len(got) != 0 {
		t.Errorf("got %v", got)
	}
	for i := range admin.RecentIncidents + 7 {
		l.Add(admin.Incident{Status: i})
	}
	got := l.List()
	if len(got) != admin.RecentIncidents {
		t.Fatalf("%d are kept", len(got))
	}
	for i, one := range got {
		if want := admin.RecentIncidents + 6 - i; one.Status != want {
			t.Fatalf("the one at %d is %d, want %d", i, one.Status, want)
		}
	}
}
