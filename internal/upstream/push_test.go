package upstream

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	"sampan/internal/oci"
)

// Where a registry leads an upload to what nobody may follow, that is its answer: asking
// again would say the same. Where nothing goes on, the place that it names is of no
// account.
func TestUploadsThatAreLedAstray(t *testing.T) {
	header := http.Header{}
	status := 0
	asked := 0
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked++
		w.Header()["Location"] = header["Location"]
		w.WriteHeader(status)
	}))
	t.Cleanup(server.Close)
	r := open(t, Options{Transport: server.Client().Transport, Write: true}, server.URL)
	push := func(location string, s int) (Pushed, error) {
		header.Set("Location", location)
		status, asked = s, 0
		return r.Push(t.Context(), Push{Method: http.MethodPost, Repository: repository(t, "a/b"), Below: "blobs/uploads/"})
	}
	for _, location := range []string{
		"file:///etc/passwd", "javascript:alert(1)", "ftp://registry.example/x", "https:///x", "mailto:me@registry.example", "http://%zz/", "%zz://x",
		"http://registry.example/v2/a/b/blobs/uploads/1?secret=1",
	} {
		for _, status := range []int{http.StatusAccepted, http.StatusNoContent, http.StatusTemporaryRedirect} {
			_, err := push(location, status)
			if !oci.IsAnswer(err) || oci.IsUnknown(err) || asked != 1 {
				t.Errorf("%d to %s: asked %d times, got %v", status, location, asked, err)
			}
			noSecrets(t, err)
		}
		if a, err := push(location, http.StatusCreated); err != nil || a.Location != nil {
			t.Errorf("%s, which is done: %v %v", location, a.Location, err)
		}
	}
	if _, err := push("", http.StatusTemporaryRedirect); !oci.IsAnswer(err) {
		t.Errorf("a redirect to nowhere: got %v", err)
	}
	if a, err := push("", http.StatusAccepted); err != nil || a.Location != nil {
		t.Errorf("no place is named: %v %v", a.Location, err)
	}
	if a, err := push("1?_state=a", http.StatusAccepted); err != nil || a.Location.String() != server.URL+"/v2/a/b/blobs/uploads/1?_state=a" {
		t.Errorf("a relative place: %v %v", a.Location, err)
	}
	if _, err := push(server.URL+"/v2/again", http.StatusTemporaryRedirect); !oci.IsAnswer(err) || asked != maxHops+1 {
		t.Errorf("in a circle: asked %d times, got %v", asked, err)
	}
}

// A public registry leads nobody into a private network, and is not asked twice to.
func TestUploadsThatAreLedToAPrivateAddress(t *testing.T) {
	for _, status := range []int{http.StatusTemporaryRedirect, http.StatusAccepted} {
		asked := 0
		r := open(t, Options{Write: true, Transport: roundTripper(func(req *http.Request) (*http.Response, error) {
			asked++
			header := http.Header{"Location": {"http://10.0.0.1/latest?secret=1"}}
			return &http.Response{StatusCode: status, Header: header, Body: http.NoBody, Request: req}, nil
		})}, "http://registry.example")
		p := Push{Method: http.MethodPost, Repository: repository(t, "a/b"), Below: "blobs/uploads/"}
		a, err := r.Push(t.Context(), p)
		if status == http.StatusAccepted && err == nil {
			p.Method, p.URL = http.MethodPut, a.Location
			_, err = r.Push(t.Context(), p)
		}
		if !oci.IsAnswer(err) || !errors.Is(err, errPrivate) || asked != 1 {
			t.Errorf("%d: asked %d times, got %v", status, asked, err)
		}
		noSecrets(t, err)
	}
}
