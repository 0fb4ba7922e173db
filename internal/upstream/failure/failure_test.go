package failure

import (
	"errors"
	"fmt"
	"testing"

	"sampan/internal/oci"
)

// What another error was caused by is not what it is about.
func TestFactsAreOfTheErrorItself(t *testing.T) {
	inner := &oci.Error{Code: oci.CodeDenied, Err: &Facts{Kind: Forbidden}}
	for fact, e := range map[string]*oci.Error{
		"none":          nil,
		"without cause": {Code: oci.CodeDenied},
		"caused by it":  {Code: oci.CodeDenied, Err: fmt.Errorf("no room: %w", inner)},
	} {
		if f := Of(e); f != nil {
			t.Errorf("%s: %+v", fact, f)
		}
	}
	if f := Of(inner); f == nil || f.Kind != Forbidden {
		t.Errorf("got %+v", f)
	}
}

// The cause is for the log alone, and found by who looks for it.
func TestTheCauseIsNotToldToClients(t *testing.T) {
	cause := errors.New("dial tcp 192.0.2.1: no route")
	f := &Facts{Kind: Unreachable, Registry: oci.DockerHub, Err: cause}
	if got := f.Sentence(); got != "docker.io cannot be reached" {
		t.Errorf("got %q", got)
	}
	if !errors.Is(f, cause) || f.Error() != cause.Error() {
		t.Errorf("got %v", f)
	}
	e := &oci.Error{Code: oci.CodeDenied, Message: "no", Err: &Facts{Kind: Forbidden}}
	if got := e.Error(); got != "DENIED: no" {
		t.Errorf("got %q: nothing is told of a cause that there is not", got)
	}
}
