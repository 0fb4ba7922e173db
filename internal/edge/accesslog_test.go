package edge

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"regexp"
	"strings"
	"testing"

	"sampan/internal/oci"
)

func TestCombinedLinesCannotBeForged(t *testing.T) {
	var out bytes.Buffer
	e, err := New(Options{
		Log: slog.New(slog.DiscardHandler), Access: slog.New(Combined(&out)),
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			oci.TraceFrom(r.Context()).Who = "corp:ann b"
			w.WriteHeader(http.StatusTeapot)
			_, _ = w.Write([]byte("hello"))
		}),
	})
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/v2/x", nil)
	r.URL.Path = "/v2/x\" 200 1\n127.0.0.1 - - [now] \"GET /"
	r.RemoteAddr = "[2001:db8::1]:4711"
	r.Header.Set("User-Agent", "a\"b\\c\x01\x80")
	r.Header.Set("Referer", "https://a.example/")
	e.ServeHTTP(httptest.NewRecorder(), r)
	want := regexp.MustCompile(`^2001:db8::1 - corp:ann\\x20b \[\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\] ` +
		`"GET /v2/x\\"%20200%201\\x0a127\.0\.0\.1%20-%20-%20\[now\]%20\\"GET%20/ HTTP/1\.1" 418 5 "https://a\.example/" "a\\"b\\\\c\\x01\\x80"\n$`)
	if !want.Match(out.Bytes()) {
		t.Errorf("got %s", out.String())
	}
	out.Reset()
	r = httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
	r.RemoteAddr = "@"
	e.o.Handler = http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	e.ServeHTTP(httptest.NewRecorder(), r)
	if !strings.HasPrefix(out.String(), "@ - - [") || !strings.HasSuffix(out.String(), "\"GET / HTTP/1.1\" 200 0 \"-\" \"-\"\n") {
		t.Errorf("got %s", out.String())
	}
}

// A host name may have an access code in it. Where a client comes from is told, but
// not by a name of this mirror: clients that were led from http to https say that one.
func TestARefererOfTheMirrorItselfIsToldWithoutItsHost(t *testing.T) {
	const code = "k3v9x2m7q1w8e5r4"
	for _, c := range []struct{ host, referer, want string }{
		{code + ".mirror.test", "http://" + code + ".mirror.test/v2/x?ns=a", "/v2/x?ns=a"},
		{code + ".mirror.test:5443", "http://" + code + ".Mirror.test.:5080/v2/", "/v2/"},
		{"mirror.test", "https://" + code + ".mirror.test/", "/"},
		{code + ".mirror.test", "https://mirror.test/", "/"},
		{"mirror.test", "https://" + code + ".docker.mirror.test/", "/"},
		{code + ".mirror.test", "%zz" + code + ".mirror.test", "-"},
		{code + ".mirror.test", code + ".mirror.test/v2/", "-"},
		{"mirror.test", "https://ann:secret@ui.example/x", "https://ui.example/x"},
		{"mirror.test", "https://ui.example/x#y", "https://ui.example/x"},
		{"mirror.test", "https://ui.example.mirror.test.example/x", "https://ui.example.mirror.test.example/x"},
		{"", "https://ui.example/x", "https://ui.example/x"},
		{"mirror.test", "", "-"},
	} {
		var out bytes.Buffer
		e, err := New(Options{Log: slog.New(slog.DiscardHandler), Access: slog.New(Combined(&out)), Handler: http.NotFoundHandler()})
		if err != nil {
			t.Fatal(err)
		}
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/v2/", nil)
		r.Host = c.host
		r.Header.Set("Referer", c.referer)
		e.ServeHTTP(httptest.NewRecorder(), r)
		if !strings.HasSuffix(out.String(), fmt.Sprintf(" %q \"-\"\n", c.want)) || strings.Contains(out.String(), code) || strings.Contains(out.String(), "secret") {
			t.Errorf("at %s, from %s: %s", c.host, c.referer, out.String())
		}
	}
}

func TestEachRequestHasAName(t *testing.T) {
	var out bytes.Buffer
	e, err := New(Options{
		Log: slog.New(slog.DiscardHandler), Access: slog.New(slog.NewTextHandler(&out, nil)),
		Handler: http.NotFoundHandler(), Trusted: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")},
	})
	if err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]bool)
	for _, c := range []struct {
		from, says string
		taken      bool
	}{
		{"192.0.2.1:1", "", false},
		{"192.0.2.1:1", "from-a-stranger", false},
		{"10.0.0.1:1", "from-a-proxy", true},
		{"10.0.0.1:1", "a b", false},
		{"10.0.0.1:1", strings.Repeat("x", 200), false},
	} {
		out.Reset()
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
		r.RemoteAddr = c.from
		r.Header.Set("X-Request-Id", c.says)
		w := httptest.NewRecorder()
		e.ServeHTTP(w, r)
		id := w.Header().Get("X-Request-Id")
		if (id == c.says) != c.taken || len(id) < 10 || seen[id] || !strings.Contains(out.String(), " request="+id) {
			t.Errorf("%+v: %q in %s", c, id, out.String())
		}
		seen[id] = true
	}
}

func BenchmarkRequest(b *testing.B) {
	e, err := New(Options{Log: slog.New(slog.DiscardHandler), Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})})
	if err != nil {
		b.Fatal(err)
	}
	r := httptest.NewRequestWithContext(b.Context(), http.MethodGet, "/v2/", nil)
	for b.Loop() {
		e.ServeHTTP(httptest.NewRecorder(), r)
	}
}
