package server_test

import (
	"bufio"
	"net"
	"net/http"
	"strings"
	"testing"

	"sampan/internal/oci"
)

func TestWritesAreRefused(t *testing.T) {
	ts := newServer(t, newLibrary())
	for _, method := range []string{"POST", "PUT", "PATCH", "DELETE"} {
		for _, path := range []string{"/v2/app/blobs/uploads/", "/v2/app/manifests/v1", "/v2/"} {
			x := do(t, ts, method+" "+path)
			mustBeError(t, x, oci.CodeUnsupported)
			if x.status != http.StatusMethodNotAllowed || x.header.Get("Allow") != "GET, HEAD" {
				t.Errorf("%s %s: %d %v", method, path, x.status, x.header)
			}
		}
	}
}

func TestBadNamesAreToldByTheirCode(t *testing.T) {
	l := newLibrary()
	ts := newServer(t, l)
	long := strings.Repeat("a", 300)
	for path, want := range map[string]oci.Code{
		"/v2/App/manifests/v1":                                   oci.CodeNameInvalid,
		"/v2/-app/manifests/v1":                                  oci.CodeNameInvalid,
		"/v2/a__b..c/manifests/v1":                               oci.CodeNameInvalid,
		"/v2/" + long + "/manifests/v1":                          oci.CodeNameInvalid,
		"/v2/app/manifests/" + long:                              oci.CodeTagInvalid,
		"/v2/app/manifests/.v1":                                  oci.CodeTagInvalid,
		"/v2/app/manifests/sha256:abc":                           oci.CodeDigestInvalid,
		"/v2/app/manifests/md5:d41d8cd98f00b204e9800998ecf8427e": oci.CodeDigestInvalid,
		"/v2/app/blobs/sha256":                                   oci.CodeDigestInvalid,
		"/v2/app/blobs/sha512:" + strings.Repeat("a", 64):        oci.CodeDigestInvalid,
		"/v2/app/blobs/sha256:" + strings.Repeat("A", 64):        oci.CodeDigestInvalid,
		"/v2/app/referrers/v1":                                   oci.CodeDigestInvalid,
		"/v2/a/../../etc/passwd/manifests/v1":                    oci.CodeNameInvalid,
		"/v2/a/%2e%2e/b/manifests/v1":                            oci.CodeNameInvalid,
		"/v2/a%2Fb/manifests/v1":                                 oci.CodeNameInvalid,
		"/v2/a%00b/manifests/v1":                                 oci.CodeNameInvalid,
		"/v2/a//b/manifests/v1":                                  oci.CodeNameInvalid,
		"/v2/app/manifests/v1%2F":                                oci.CodeTagInvalid,
		"/v2/unknown.example/app/manifests/v1":                   oci.CodeDenied,
		"/v2/_catalog":                                           oci.CodeNameUnknown,
		"/":                                                      oci.CodeNameUnknown,
		"/favicon.ico":                                           oci.CodeNameUnknown,
		"/v2/app":                                                oci.CodeNameUnknown,
		"/v2/app/tags":                                           oci.CodeNameUnknown,
	} {
		l.asked = nil
		x := do(t, ts, "GET "+path)
		mustBeError(t, x, want)
		if len(l.asked) != 0 {
			t.Errorf("%s asked for %v", path, l.asked)
		}
	}
}

// What net/http's client would not send.
func TestErrorsReadWellInATerminal(t *testing.T) {
	x := do(t, newServer(t, newLibrary()), "GET /")
	if x.status != 404 || !strings.Contains(x.body, "it answers /v2/<name>/manifests") || !strings.HasSuffix(x.body, "}\n") {
		t.Errorf("%d %q", x.status, x.body)
	}
}

func TestRawRequestLinesGetAnAnswer(t *testing.T) {
	ts := newServer(t, newLibrary())
	for line, want := range map[string]int{
		"GET /v2/app/manifests/v1%zz HTTP/1.1":          400,
		"GET /v2/a\x00b/manifests/v1 HTTP/1.1":          400,
		"GET http://other.example/v2/ HTTP/1.1":         200,
		"GET * HTTP/1.1":                                404,
		"GET //v2/app/manifests/v1 HTTP/1.1":            400,
		"GET /v2/../v2/app/manifests/v1 HTTP/1.1":       400,
		"GET /v2/app/manifests/v1?ns=%zz&ns=x HTTP/1.1": 403,
		"GET /v2/app/manifests/v1?ns=/../ HTTP/1.1":     400,
	} {
		conn, err := net.Dial("tcp", ts.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write([]byte(line + "\r\nHost: mirror.example.com\r\nConnection: close\r\n\r\n")); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if resp.StatusCode != want {
			t.Errorf("%q: %d, want %d", line, resp.StatusCode, want)
		}
		_ = resp.Body.Close()
		_ = conn.Close()
	}
}

func FuzzPathsNeverPanicAndNeverEscape(f *testing.F) {
	for _, s := range []string{"/v2/", "/v2/app/manifests/v1", "/p/v2/a/b/blobs/sha256:00", "/v2/v2/v2/tags/list", "/%2f/..//v2"} {
		f.Add(s, "docker.io")
	}
	f.Fuzz(func(t *testing.T, path, ns string) {
		l := newLibrary()
		r, err := http.NewRequest(http.MethodGet, "http://mirror.example.com/", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.URL.Path = path
		r.URL.RawQuery = "ns=" + ns
		w := &recorder{header: http.Header{}}
		newHandler(t, l).ServeHTTP(w, r)
		for _, repo := range l.asked {
			if _, err := oci.ParseRepository(repo.String()); err != nil {
				t.Errorf("%q asked for %q", path, repo)
			}
		}
	})
}
