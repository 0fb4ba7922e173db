package server_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"sampan/internal/oci"
)

func digests(l *library) (manifest, blob string) {
	return l.manifest.Descriptor.Digest.String(), oci.DigestOf(l.blob).String()
}

func TestPingNeedsNoAuthentication(t *testing.T) {
	ts := newServer(t, newLibrary())
	for _, path := range []string{"/v2/", "/v2", "/docker.io/v2/"} {
		x := do(t, ts, "GET "+path)
		if x.status != http.StatusOK || x.header.Get("Www-Authenticate") != "" || x.header.Get("Docker-Distribution-Api-Version") != "registry/2.0" {
			t.Errorf("%s: %d %v", path, x.status, x.header)
		}
	}
}

func TestManifestIsServedByteForByteWithItsHeaders(t *testing.T) {
	l := newLibrary()
	ts := newServer(t, l)
	digest, _ := digests(l)
	for _, ref := range []string{"v1", digest, strings.Replace(digest, ":", "%3A", 1)} {
		for _, method := range []string{"GET", "HEAD"} {
			x := do(t, ts, method+" /v2/library/app/manifests/"+ref)
			want := manifestText
			if method == "HEAD" {
				want = ""
			}
			if x.status != 200 || x.body != want {
				t.Errorf("%s %s: %d %q", method, ref, x.status, x.body)
			}
			for name, value := range map[string]string{
				"Content-Type":          oci.MediaTypeImageManifest,
				"Content-Length":        fmt.Sprint(len(manifestText)),
				"Docker-Content-Digest": digest,
				"Etag":                  `"` + digest + `"`,
			} {
				if got := x.header.Get(name); got != value {
					t.Errorf("%s %s: %s is %q, want %q", method, ref, name, got, value)
				}
			}
		}
	}
}

func TestEveryShapeOfURLReachesTheRepository(t *testing.T) {
	l := newLibrary()
	ts := newServer(t, l)
	_, blob := digests(l)
	for _, tc := range []struct{ host, path string }{
		{"", "/v2/library/app/blobs/" + blob},
		{"", "/v2/app/blobs/" + blob},
		{"", "/v2/docker.io/library/app/blobs/" + blob},
		{"", "/v2/docker.io/app/blobs/" + blob},
		{"", "/v2/app/blobs/" + blob + "?ns=docker.io"},
		{"", "/v2/docker.io/app/blobs/" + blob + "?ns=docker.io"},
		{"", "/docker.io/v2/library/app/blobs/" + blob},
		{"", "/docker.io/library/app/blobs/" + blob + "?ns=docker.io"},
		{"docker.mirror.example.com", "/v2/library/app/blobs/" + blob},
		{"docker.mirror.example.com:5000", "/v2/app/blobs/" + blob},
		{"mirror.example.com", "/v2/app/blobs/" + blob},
	} {
		x := do(t, ts, "GET "+tc.path, "Host", tc.host)
		if x.status != 200 || x.body != string(l.blob) {
			t.Errorf("%s%s: %d, %d bytes", tc.host, tc.path, x.status, len(x.body))
		}
	}
}

func TestRepositoryMayHaveAComponentV2(t *testing.T) {
	l := newLibrary()
	ts := newServer(t, l)
	for path, want := range map[string]string{
		"/v2/gcr.io/api/v2/manifests/v1": "gcr.io/api/v2",
		"/v2/gcr.io/v2/web/manifests/v1": "gcr.io/v2/web",
		"/gcr.io/v2/v2/manifests/v1":     "gcr.io/v2",
	} {
		l.asked = nil
		do(t, ts, "GET "+path)
		if len(l.asked) != 1 || l.asked[0].String() != want {
			t.Errorf("%s asked for %v, want %s", path, l.asked, want)
		}
	}
}

func TestNamespaceIsToldBack(t *testing.T) {
	x := do(t, newServer(t, newLibrary()), "GET /v2/app/manifests/v1?ns=docker.io")
	if got := x.header.Get("OCI-Namespace"); got != "docker.io" {
		t.Errorf("OCI-Namespace %q", got)
	}
}

func TestConditionalRequestsAreNotModified(t *testing.T) {
	l := newLibrary()
	ts := newServer(t, l)
	manifest, blob := digests(l)
	for _, path := range []string{"/v2/app/manifests/v1", "/v2/app/manifests/" + manifest, "/v2/app/blobs/" + blob} {
		tag := do(t, ts, "HEAD "+path).header.Get("Etag")
		for value, want := range map[string]int{tag: 304, `"x", ` + tag: 304, "W/" + tag: 304, `"x"`: 200} {
			if x := do(t, ts, "GET "+path, "If-None-Match", value); x.status != want || want == 304 && x.body != "" {
				t.Errorf("%s with %s: %d, want %d", path, value, x.status, want)
			}
		}
	}
}

func TestRangesOfABlob(t *testing.T) {
	l := newLibrary()
	ts := newServer(t, l)
	_, blob := digests(l)
	size := len(l.blob)
	full := string(l.blob)
	for _, tc := range []struct {
		name, value string
		status      int
		body        string
		contentRng  string
	}{
		{"closed", "bytes=10-19", 206, full[10:20], fmt.Sprintf("bytes 10-19/%d", size)},
		{"open", "bytes=9990-", 206, full[9990:], fmt.Sprintf("bytes 9990-9999/%d", size)},
		{"from the start", "bytes=0-", 206, full, fmt.Sprintf("bytes 0-9999/%d", size)},
		{"suffix", "bytes=-10", 206, full[9990:], fmt.Sprintf("bytes 9990-9999/%d", size)},
		{"end beyond the size", "bytes=9990-20000", 206, full[9990:], fmt.Sprintf("bytes 9990-9999/%d", size)},
		{"wholly beyond the end", "bytes=10000-", 416, "", fmt.Sprintf("bytes */%d", size)},
		{"the last nothing", "bytes=-0", 416, "", fmt.Sprintf("bytes */%d", size)},
		{"malformed", "bytes=a-b", 416, "", fmt.Sprintf("bytes */%d", size)},
		{"backwards", "bytes=5-1", 416, "", fmt.Sprintf("bytes */%d", size)},
		{"another unit", "lines=1-2", 200, full, ""},
		{"of another version", "bytes=0-1", 200, full, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			headers := []string{"Range", tc.value}
			if tc.name == "of another version" {
				headers = append(headers, "If-Range", `"sha256:0"`)
			}
			x := do(t, ts, "GET /v2/app/blobs/"+blob, headers...)
			if x.status != tc.status || x.header.Get("Content-Range") != tc.contentRng {
				t.Fatalf("%d, Content-Range %q", x.status, x.header.Get("Content-Range"))
			}
			if tc.status == 416 {
				mustBeError(t, x, oci.CodeRangeInvalid)
				return
			}
			if x.body != tc.body {
				t.Errorf("%d bytes, want %d", len(x.body), len(tc.body))
			}
		})
	}
	t.Run("several", func(t *testing.T) {
		x := do(t, ts, "GET /v2/app/blobs/"+blob, "Range", "bytes=0-4,10-14")
		if x.status != 206 || !strings.HasPrefix(x.header.Get("Content-Type"), "multipart/byteranges") || strings.Count(x.body, "01234") != 2 {
			t.Errorf("%d %v %q", x.status, x.header, x.body)
		}
	})
}

func TestBlobThatCannotBeCompletedEndsWithTheConnection(t *testing.T) {
	l := newLibrary()
	l.cut = 7000
	ts := newServer(t, l)
	_, blob := digests(l)
	x := do(t, ts, "GET /v2/app/blobs/"+blob)
	if x.status != 200 || !errors.Is(x.err, io.ErrUnexpectedEOF) || x.body != string(l.blob[:7000]) {
		t.Errorf("%d, %d bytes, %v", x.status, len(x.body), x.err)
	}
}

func TestTagsArePagedAndTheLinkLeadsBackHere(t *testing.T) {
	l := newLibrary()
	ts := newServer(t, l)
	var seen []string
	path := "/v2/docker.io/app/tags/list?n=2&ns=docker.io"
	for range 3 {
		x := do(t, ts, "GET "+path)
		var page struct {
			Name string
			Tags []string
		}
		if err := json.Unmarshal([]byte(x.body), &page); err != nil || x.status != 200 || page.Name != "docker.io/app" {
			t.Fatalf("%s: %d %q %v", path, x.status, x.body, err)
		}
		seen = append(seen, page.Tags...)
		link := x.header.Get("Link")
		if link == "" {
			break
		}
		target, ok := strings.CutSuffix(strings.TrimPrefix(link, "<"), `>; rel="next"`)
		if !ok || !strings.HasPrefix(target, "/v2/docker.io/app/tags/list?") || !strings.Contains(target, "ns=docker.io") {
			t.Fatalf("Link %q", link)
		}
		path = target
	}
	if strings.Join(seen, " ") != "a b c v1" {
		t.Errorf("pages give %v", seen)
	}
	for query, want := range map[string]string{
		"n=0":           `{"name":"app","tags":[]}`,
		"last=b":        `{"name":"app","tags":["c","v1"]}`,
		"last=bb&n=1":   `{"name":"app","tags":["c"]}`,
		"last=zzz":      `{"name":"app","tags":[]}`,
		"n=100":         `{"name":"app","tags":["a","b","c","v1"]}`,
		"n=4":           `{"name":"app","tags":["a","b","c","v1"]}`,
		"":              `{"name":"app","tags":["a","b","c","v1"]}`,
		"last=v1&n=100": `{"name":"app","tags":[]}`,
	} {
		if x := do(t, ts, "GET /v2/app/tags/list?"+query); x.body != want {
			t.Errorf("%s: %s", query, x.body)
		}
	}
	for _, n := range []string{"-1", "x", "99999999999999999999"} {
		mustBeError(t, do(t, ts, "GET /v2/app/tags/list?n="+n), oci.CodeSizeInvalid)
	}
}

func TestReferrersAreAnIndexAndFiltered(t *testing.T) {
	l := newLibrary()
	ts := newServer(t, l)
	manifest, _ := digests(l)
	for query, want := range map[string]int{"": 2, "?artifactType=application/spdx%2Bjson": 1, "?artifactType=none": 0} {
		x := do(t, ts, "GET /v2/app/referrers/"+manifest+query)
		var index struct {
			SchemaVersion int
			MediaType     string
			Manifests     []oci.Descriptor
		}
		if err := json.Unmarshal([]byte(x.body), &index); err != nil {
			t.Fatal(err)
		}
		if x.status != 200 || x.header.Get("Content-Type") != oci.MediaTypeImageIndex || index.SchemaVersion != 2 || index.Manifests == nil || len(index.Manifests) != want {
			t.Errorf("%q: %d %s", query, x.status, x.body)
		}
		if applied := x.header.Get("OCI-Filters-Applied"); (applied == "artifactType") != (query != "") {
			t.Errorf("%q: filters applied %q", query, applied)
		}
	}
}

func TestStaleAnswersAreMarked(t *testing.T) {
	l := newLibrary()
	l.stale = "the upstream is away"
	ts := newServer(t, l)
	for _, path := range []string{"/v2/app/manifests/v1", "/v2/app/tags/list"} {
		if got := do(t, ts, "GET "+path).header.Get("Warning"); got != `299 - "the upstream is away"` {
			t.Errorf("%s: Warning %q", path, got)
		}
	}
}

// mustBeError asserts the specification's form of an error.
func mustBeError(t *testing.T, x exchange, code oci.Code) {
	t.Helper()
	var doc struct {
		Errors []struct{ Code, Message string }
	}
	err := json.Unmarshal([]byte(x.body), &doc)
	if err != nil || len(doc.Errors) != 1 || doc.Errors[0].Code != string(code) || doc.Errors[0].Message == "" || x.header.Get("Content-Type") != "application/json" {
		t.Errorf("want %s, got %d %s (%v)", code, x.status, x.body, err)
	}
}

func TestErrorsOfTheReaderReachTheClient(t *testing.T) {
	secret := errors.New("dial tcp 10.1.2.3: token=secret")
	for _, tc := range []struct {
		err    error
		status int
		code   oci.Code
	}{
		{oci.Errorf(oci.CodeManifestUnknown, "m"), 404, oci.CodeManifestUnknown},
		{oci.Errorf(oci.CodeNameUnknown, "m"), 404, oci.CodeNameUnknown},
		{oci.Errorf(oci.CodeBlobUnknown, "m"), 404, oci.CodeBlobUnknown},
		{oci.Errorf(oci.CodeDenied, "m"), 403, oci.CodeDenied},
		{oci.Errorf(oci.CodeUnauthorized, "m"), 403, oci.CodeDenied}, // a 401 without challenge is fatal to clients
		{oci.Errorf(oci.CodeUnavailable, "m"), 503, oci.CodeUnavailable},
		{&oci.Error{Code: oci.CodeTooManyRequests, Message: "m", RetryAfter: 1500 * time.Millisecond}, 429, oci.CodeTooManyRequests},
		{&oci.Error{Code: oci.CodeUnavailable, Message: "m", Err: secret}, 503, oci.CodeUnavailable},
		{fmt.Errorf("disk: %w", secret), 500, oci.CodeUnknown},
	} {
		l := newLibrary()
		l.err = tc.err
		ts := newServer(t, l)
		manifest, blob := digests(l)
		for _, path := range []string{"manifests/v1", "manifests/" + manifest, "blobs/" + blob, "tags/list", "referrers/" + manifest} {
			x := do(t, ts, "GET /v2/app/"+path)
			mustBeError(t, x, tc.code)
			if x.status != tc.status || strings.Contains(x.body, "secret") {
				t.Errorf("%v at %s: %d %s", tc.err, path, x.status, x.body)
			}
			if after := x.header.Get("Retry-After"); (tc.status == 429) != (after == "2") {
				t.Errorf("%v: Retry-After %q", tc.err, after)
			}
			h := do(t, ts, "HEAD /v2/app/"+path)
			if h.status != tc.status || h.body != "" {
				t.Errorf("HEAD %s: %d %q", path, h.status, h.body)
			}
			x.header.Del("Date")
			h.header.Del("Date")
			if !maps.EqualFunc(h.header, x.header, slices.Equal) {
				t.Errorf("%v at %s: HEAD has %v, GET %v", tc.err, path, h.header, x.header)
			}
		}
	}
}

// What an upstream does not support is no question of reading or writing.
func TestOnlyWritesAreToldThatTheMirrorIsReadOnly(t *testing.T) {
	l := newLibrary()
	l.err = oci.Errorf(oci.CodeUnsupported, "the registry has it in schema 1 only")
	ts := newServer(t, l)
	x := do(t, ts, "GET /v2/app/manifests/v1")
	mustBeError(t, x, oci.CodeUnsupported)
	if !strings.Contains(x.body, "不支持") || strings.Contains(x.body, "只读") {
		t.Errorf("a pull: %s", x.body)
	}
	x = do(t, ts, "PUT /v2/app/manifests/v1")
	if !strings.Contains(x.body, "read-only") || !strings.Contains(x.body, "只读") || strings.Count(x.body, "sampan load --into") != 2 {
		t.Errorf("a push: %s", x.body)
	}
}
