package upstream

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"sampan/internal/oci"
)

// An answer to HEAD has no body to explain it. What a client is told must not depend
// on which of the two it has asked with, nor who has asked first.
func TestHeadAndGetOfABlobAreRefusedAlike(t *testing.T) {
	said := func(code, message string) string {
		return `{"errors":[{"code":"` + code + `","message":"` + message + `"}]}`
	}
	for name, c := range map[string]struct {
		status int
		body   string
		want   oci.Code
		gets   int // by StatBlob
	}{
		"not found":             {404, said("BLOB_UNKNOWN", "no such blob"), oci.CodeBlobUnknown, 1},
		"no such repository":    {404, said("NAME_UNKNOWN", "no such name"), oci.CodeNameUnknown, 1},
		"not found, in text":    {404, "404 page not found", oci.CodeBlobUnknown, 1},
		"gone":                  {410, "", oci.CodeBlobUnknown, 1},
		"denied":                {403, said("DENIED", "ask your administrator"), oci.CodeDenied, 1},
		"too many, as a denial": {403, said("TOOMANYREQUESTS", "slow down"), oci.CodeTooManyRequests, 1},
		"for legal reasons":     {451, said("DENIED", "the law"), oci.CodeDenied, 1},
		"a bad name":            {400, said("NAME_INVALID", "what a name"), oci.CodeNameInvalid, 1},
		"unauthorized":          {401, said("UNAUTHORIZED", "who are you"), oci.CodeUnauthorized, 0},
		"too many":              {429, said("TOOMANYREQUESTS", "slow down"), oci.CodeTooManyRequests, 0}, // it is not asked still more
	} {
		t.Run(name, func(t *testing.T) {
			gets := 0
			transport := func(req *http.Request) (*http.Response, error) {
				body := c.body
				switch {
				case req.Method == http.MethodHead:
					body = ""
				case strings.Contains(req.URL.Path, "/blobs/"):
					gets++
				}
				return &http.Response{StatusCode: c.status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(c.body)), Request: req}, nil
			}
			refusal := func(ask func(*Registry) error) *oci.Error {
				t.Helper()
				err := ask(open(t, Options{Transport: roundTripper(transport)}, "https://registry.example"))
				var e *oci.Error
				if !errors.As(err, &e) || e.Code != c.want {
					t.Fatalf("want %s, got %v", c.want, err)
				}
				return e
			}
			repo, digest := repository(t, "a/b"), oci.DigestOf(nil)
			get := refusal(func(r *Registry) error { _, err := r.Blob(t.Context(), repo, digest); return err })
			gets = 0
			head := refusal(func(r *Registry) error { _, err := r.StatBlob(t.Context(), repo, digest); return err })
			if head.Message != get.Message && c.status != http.StatusTooManyRequests {
				t.Errorf("HEAD: %q\nGET:  %q", head.Message, get.Message)
			}
			if gets != c.gets {
				t.Errorf("after HEAD come %d GETs, want %d", gets, c.gets)
			}
		})
	}
}

// A registry that takes no HEAD of blobs has them all the same.
func TestABlobIsFoundWhereHeadIsNotLiked(t *testing.T) {
	for _, status := range []int{403, 404, 405, 501} {
		transport := func(req *http.Request) (*http.Response, error) {
			if req.Method == http.MethodHead {
				return &http.Response{StatusCode: status, Header: http.Header{}, Body: http.NoBody, Request: req}, nil
			}
			if got := req.Header.Get("Range"); got != oneByte {
				t.Errorf("status %d: asked for %q", status, got)
			}
			return &http.Response{
				StatusCode: http.StatusPartialContent, Header: http.Header{"Content-Range": {"bytes 0-0/1234"}},
				Body: io.NopCloser(strings.NewReader("x")), ContentLength: 1, Request: req,
			}, nil
		}
		r := open(t, Options{Transport: roundTripper(transport)}, "https://registry.example")
		if d, err := r.StatBlob(t.Context(), repository(t, "a/b"), oci.DigestOf(nil)); err != nil || d.Size != 1234 {
			t.Errorf("status %d: %+v, %v", status, d, err)
		}
	}
}
