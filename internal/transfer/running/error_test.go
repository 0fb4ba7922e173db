package running

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"sampan/internal/oci"
)

func TestWhatIsNoAddressIsRefused(t *testing.T) {
	for _, address := range []string{"", "127.0.0.1:5001", "ftp://127.0.0.1", "http://", "http://[::1", "/x"} {
		if m, err := New(Options{Address: address}); err == nil {
			m.Close()
			t.Errorf("%q is taken", address)
		}
	}
}

// What the mirror says is told with who said it, and tells an answer from one that may be
// another later.
func TestARefusalIsAnAnswerUnlessItMayPass(t *testing.T) {
	for status, c := range map[int]struct {
		answer, unknown bool
	}{
		http.StatusBadRequest:                   {true, false},
		http.StatusUnauthorized:                 {true, false},
		http.StatusNotFound:                     {true, true},
		http.StatusUnprocessableEntity:          {true, false},
		http.StatusInsufficientStorage:          {true, false},
		http.StatusConflict:                     {false, false},
		http.StatusRequestedRangeNotSatisfiable: {false, false},
		http.StatusBadGateway:                   {false, false},
		http.StatusServiceUnavailable:           {false, false},
		http.StatusGatewayTimeout:               {false, false},
	} {
		t.Run(http.StatusText(status), func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(says(status, "because")))
			defer server.Close()
			m := mirrorAt(t, server.URL, Options{Token: "secret"})
			_, err := m.ResolveTag(t.Context(), mustRepository(t, "docker.io/library/app"), mustTag(t, "1"))
			var refusal *Refusal
			if !errors.As(err, &refusal) || refusal.Code != status || refusal.Said != "because" || !refusal.Token {
				t.Fatalf("got %#v", err)
			}
			if !strings.HasPrefix(err.Error(), strings.TrimPrefix(server.URL, "http://")+": ") || strings.Contains(err.Error(), "secret") {
				t.Errorf("it says %q", err)
			}
			if oci.IsAnswer(err) != c.answer || oci.IsUnknown(err) != c.unknown {
				t.Errorf("it is an answer: %v; that it is not there: %v", oci.IsAnswer(err), oci.IsUnknown(err))
			}
		})
	}
}

func TestWhoIsNoMirrorIsTold(t *testing.T) {
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) }))
	defer page.Close()
	repo, tag := mustRepository(t, "docker.io/library/app"), mustTag(t, "1")
	if _, err := mirrorAt(t, page.URL, Options{}).ResolveTag(t.Context(), repo, tag); !errors.Is(err, ErrForeign) {
		t.Errorf("a page: %v", err)
	}
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	_, err := mirrorAt(t, gone.URL, Options{}).ResolveTag(t.Context(), repo, tag)
	var silence *Silence
	if !errors.As(err, &silence) || silence.Host != strings.TrimPrefix(gone.URL, "http://") || strings.Contains(err.Error(), "library") || errors.Is(err, ErrNoAnswer) {
		t.Errorf("nobody: %v", err)
	}
}

func mustTag(t *testing.T, s string) oci.Tag {
	t.Helper()
	tag, err := oci.ParseTag(s)
	if err != nil {
		t.Fatal(err)
	}
	return tag
}
