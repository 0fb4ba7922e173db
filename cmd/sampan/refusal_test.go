package main

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"sampan/internal/oci"
	"sampan/internal/transfer/remote"
	"sampan/internal/transfer/running"
)

func TestARefusalIsToldWithWhatToDo(t *testing.T) {
	for fact, c := range map[string]struct {
		err  error
		says string // empty for nothing
	}{
		"no room":                 {&oci.Error{Code: oci.CodeDenied, Err: remote.ErrFull}, "Make room there"},
		"a kind that is refused":  {&oci.Error{Code: oci.CodeManifestInvalid, Err: fmt.Errorf("%w: old", remote.ErrRefused)}, "too old for this"},
		"an index without all":    {&oci.Error{Code: oci.CodeManifestInvalid, Err: remote.ErrSparse}, "one alone"},
		"a rate limit of an hour": {&oci.Error{Code: oci.CodeTooManyRequests, RetryAfter: time.Hour}, "again in 1h0m0s"},
		"a rate limit":            {&oci.Error{Code: oci.CodeTooManyRequests}, "again later"},
		"no right":                {&oci.Error{Code: oci.CodeDenied}, "docker login"},
		"no credentials":          {&oci.Error{Code: oci.CodeUnauthorized}, "docker login"},
		"a mirror without room":   {&running.Refusal{Code: http.StatusInsufficientStorage}, "raise data.max_size"},
		"a mirror with a token":   {&running.Refusal{Code: http.StatusUnauthorized}, "--admin-token-file"},
		"another token":           {&running.Refusal{Code: http.StatusUnauthorized, Token: true}, "is another than"},
		"no admin listener":       {&running.Refusal{Code: http.StatusNotFound}, "not where clients pull"},
		"nor a question for one":  {&running.Refusal{Code: http.StatusMethodNotAllowed}, "not where clients pull"},
		"a name that is refused":  {&running.Refusal{Code: http.StatusBadRequest}, ""},
		"a mirror that is silent": {&running.Silence{Err: running.ErrNoAnswer}, "Is the mirror running"},
		"what is not there":       {&oci.Error{Code: oci.CodeManifestUnknown}, ""},
		"something else":          {fmt.Errorf("no"), ""},
	} {
		t.Run(fact, func(t *testing.T) {
			got := advice(fmt.Errorf("copy a/b:1: %w", c.err))
			if c.says == "" && got != "" || !strings.Contains(got, c.says) {
				t.Errorf("got %q", got)
			}
		})
	}
}

// An error of several causes is told in the words that somebody gave it.
func TestWhatWasJoinedIsToldOneByOne(t *testing.T) {
	one, two := errors.New("one"), errors.New("two")
	for want, err := range map[string]error{
		"one":                 one,
		"one\ntwo":            errors.Join(one, two),
		"x: one, because two": fmt.Errorf("x: %w, because %w", one, two),
	} {
		if n := len(eachOf(err)); n != strings.Count(want, "\n")+1 {
			t.Errorf("%q are %d", want, n)
		}
		for name, tell := range map[string]func(error) error{"copy": copyError, "load": loadError} {
			if got := tell(err); got == nil || got.Error() != want {
				t.Errorf("%s: got %q, want %q", name, got, want)
			}
		}
	}
}
