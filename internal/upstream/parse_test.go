package upstream

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"sampan/internal/oci"
)

func TestChallengesAsRegistriesWriteThem(t *testing.T) {
	type want struct{ scheme, realm, service, scope string }
	tests := map[string]struct {
		values []string
		want   want
	}{
		"docker.io":        {[]string{`Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/busybox:pull"`}, want{"bearer", "https://auth.docker.io/token", "registry.docker.io", "own"}},
		"gcr.io":           {[]string{`Bearer realm="https://gcr.io/v2/token",service=gcr.io`}, want{"bearer", "https://gcr.io/v2/token", "gcr.io", "own"}},
		"pkg.dev":          {[]string{`Bearer realm="https://us-docker.pkg.dev/v2/token"`}, want{"bearer", "https://us-docker.pkg.dev/v2/token", "", "own"}},
		"ghcr.io":          {[]string{`Bearer realm="https://ghcr.io/token",service="ghcr.io",scope="repository:user/image:pull"`}, want{"bearer", "https://ghcr.io/token", "ghcr.io", "own"}},
		"public.ecr.aws":   {[]string{`Bearer realm="https://public.ecr.aws/token/",service="public.ecr.aws",scope="aws"`}, want{"bearer", "https://public.ecr.aws/token/", "public.ecr.aws", "aws"}},
		"nvcr.io":          {[]string{`Bearer realm="https://nvcr.io/proxy_auth",scope=""`}, want{"bearer", "https://nvcr.io/proxy_auth", "", "own"}},
		"catalog":          {[]string{`Bearer realm="https://x/t",scope="registry:catalog:*"`}, want{"bearer", "https://x/t", "", "own"}},
		"basic":            {[]string{`Basic realm="Registry"`}, want{"basic", "Registry", "", "own"}},
		"basic alone":      {[]string{`Basic`}, want{"basic", "", "", "own"}},
		"both, one value":  {[]string{`Basic realm="Registry", Bearer realm="https://x/t",service="x"`}, want{"bearer", "https://x/t", "x", "own"}},
		"both, two values": {[]string{`Bearer realm="https://x/t"`, `Basic realm="Registry"`}, want{"bearer", "https://x/t", "", "own"}},
		"bearer unusable":  {[]string{`Bearer service="x"`, `Basic realm="Registry"`}, want{"basic", "Registry", "", "own"}},
		"with Negotiate":   {[]string{`Negotiate abc/def+==, Basic realm="r"`}, want{"basic", "r", "", "own"}},
		"blanks":           {[]string{`  bEARER   Realm = "https://x/t" ,, SERVICE= x `}, want{"bearer", "https://x/t", "x", "own"}},
		"blanks for comma": {[]string{`Bearer realm=https://x/t service=x`}, want{"bearer", "https://x/t", "x", "own"}},
		"commas, escapes":  {[]string{`Bearer realm="https://x/t?a=1,2",service="a\"b, c"`}, want{"bearer", "https://x/t?a=1,2", `a"b, c`, "own"}},
		"no closing quote": {[]string{`Bearer realm="https://x/t`}, want{"bearer", "https://x/t", "", "own"}},
		"twice":            {[]string{`Bearer realm="https://x/t",realm="https://evil/t"`}, want{"bearer", "https://x/t", "", "own"}},
		"none":             {nil, want{scope: "own"}},
		"empty":            {[]string{"", " , "}, want{scope: "own"}},
		"garbage":          {[]string{`="x", "y" =`, "\x00\xff"}, want{scope: "own"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			c, _ := chooseChallenge(http.Header{"Www-Authenticate": test.values})
			got := want{c.scheme, c.realm, c.params["service"], c.scope("own")}
			if diff := cmp.Diff(test.want, got, cmp.AllowUnexported(want{})); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func FuzzChallenge(f *testing.F) {
	f.Add(`Bearer realm="https://x/t",service="x",scope="a b"`)
	f.Add(`Basic realm="\"", Negotiate a==`)
	f.Fuzz(func(t *testing.T, s string) {
		c, _ := chooseChallenge(http.Header{"Www-Authenticate": {s}})
		if c.scheme != "" && !c.usable() {
			t.Errorf("chose %+v", c)
		}
		if c.scheme != "" && !strings.Contains(strings.ToLower(s), c.scheme) {
			t.Errorf("made up %+v", c)
		}
	})
}

func TestRetryAfterAsRegistriesWriteIt(t *testing.T) {
	now := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	for name, test := range map[string]struct {
		header, message string
		want            time.Duration
	}{
		"seconds":            {"30", "", 30 * time.Second},
		"fractions":          {"1.5", "", 1500 * time.Millisecond},
		"date":               {"Fri, 20 Nov 2026 12:01:00 GMT", "", time.Minute},
		"date that is past":  {"Fri, 20 Nov 2026 11:01:00 GMT", "", 0},
		"since 1970":         {"1795176090", "", 90 * time.Second},
		"header comes first": {"30", "retry-after: 1s", 30 * time.Second},
		"ghcr.io":            {"", "retry-after: 43.988µs, allowed: 44000/minute", 43988 * time.Nanosecond},
		"ghcr.io, seconds":   {"", "Retry-After: 2s, allowed: 1/minute", 2 * time.Second},
		"negative":           {"-5", "", 0},
		"not a number":       {"NaN", "", 0},
		"infinite":           {"inf", "", 24 * time.Hour},
		"far away":           {"999999999", "", 24 * time.Hour},
		"garbage":            {"soon", "retry-after: soon", 0},
		"nothing":            {"", "", 0},
	} {
		if got := retryAfter(test.header, test.message, now); got != test.want {
			t.Errorf("%s: got %v, want %v", name, got, test.want)
		}
	}
}

func FuzzRetryAfter(f *testing.F) {
	f.Add("30", "retry-after: 43.988µs, allowed: 44000/minute")
	f.Add("Fri, 20 Nov 2026 12:01:00 GMT", "")
	f.Add("1e400", "retry-after: -9999999h")
	f.Fuzz(func(t *testing.T, header, message string) {
		if d := retryAfter(header, message, time.Unix(1_800_000_000, 0)); d < 0 || d > 24*time.Hour {
			t.Errorf("got %v", d)
		}
	})
}

func TestNextLink(t *testing.T) {
	for name, test := range map[string]struct {
		values []string
		want   string
	}{
		"usual":            {[]string{`</v2/a/tags/list?last=x&n=100>; rel="next"`}, "/v2/a/tags/list?last=x&n=100"},
		"unquoted":         {[]string{`</x>;rel=next`}, "/x"},
		"other relations":  {[]string{`</p>; rel="prev", </x>; title="a, b; c"; rel="last NEXT"`}, "/x"},
		"several values":   {[]string{`</p>; rel=prev`, `</x>; rel=next`}, "/x"},
		"comma in address": {[]string{`</x?a=1,2>; rel=next`}, "/x?a=1,2"},
		"no relation":      {[]string{`</x>`}, ""},
		"not next":         {[]string{`</x>; rel="nextish"`}, ""},
		"not closed":       {[]string{`</x; rel=next`}, ""},
		"none":             {nil, ""},
	} {
		if got := nextLink(test.values); got != test.want {
			t.Errorf("%s: got %q", name, got)
		}
	}
}

func FuzzLink(f *testing.F) {
	f.Add(`</v2/a/tags/list?last=x&n=100>; rel="next"`)
	f.Add(`<https://registry.test//x>; rel=prev, <?y>; rel="a next"`)
	base := &url.URL{Scheme: "https", Host: "registry.test", Path: "/v2/a/tags/list"}
	f.Fuzz(func(t *testing.T, s string) {
		u, err := nextPage(base, []string{s})
		if err == nil && u != nil && (u.Host != base.Host || u.Scheme != "https" || u.User != nil) {
			t.Errorf("led to %v", u)
		}
	})
}

func FuzzResolve(f *testing.F) {
	f.Add("/id//x?sig=a%2Fb")
	f.Add("HTTPS://user@cdn.test/a|b^c?d#e")
	f.Add("//cdn.test/x y")
	base := &url.URL{Scheme: "https", Host: "registry.test", Path: "/v2/a/blobs/b"}
	f.Fuzz(func(t *testing.T, s string) {
		u, err := resolve(base, s)
		if err != nil {
			return
		}
		target := u.RequestURI()
		if u.Host == "" || u.User != nil || u.Fragment != "" || strings.ContainsAny(target, " \r\n\x00") {
			t.Errorf("%q became %q at %q", s, target, u.Host)
		}
	})
}

func FuzzErrorBody(f *testing.F) {
	f.Add([]byte(`{"errors":[{"code":"DENIED","message":"no\n\u001b[31m https://x?y=z"}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, message := parseError(b)
		if len(message) > 210 || !utf8.ValidString(message) || strings.ContainsAny(message, "\r\n\x1b\x00") {
			t.Errorf("message %q", message)
		}
	})
}

func FuzzContentRange(f *testing.F) {
	f.Add("bytes 0-1/2")
	f.Add("bytes 5-9/*")
	f.Fuzz(func(t *testing.T, s string) {
		start, stop, size, ok := parseContentRange(s)
		if ok && (start < 0 || stop <= start || size != -1 && stop > size) {
			t.Errorf("%q: %d to %d of %d", s, start, stop, size)
		}
	})
}

func TestMediaTypeOfAManifest(t *testing.T) {
	for name, test := range map[string]struct{ declared, body, want string }{
		"declared":           {oci.MediaTypeDockerList, `{"mediaType":"` + oci.MediaTypeImageIndex + `"}`, oci.MediaTypeDockerList},
		"says itself":        {"application/json", `{"mediaType":"` + oci.MediaTypeDockerList + `","manifests":[]}`, oci.MediaTypeDockerList},
		"index by fields":    {"", `{"schemaVersion":2,"manifests":[]}`, oci.MediaTypeImageIndex},
		"image by fields":    {"text/plain", `{"schemaVersion":2,"config":{},"layers":[]}`, oci.MediaTypeImageManifest},
		"artifact by fields": {"binary/octet-stream", `{"blobs":[]}`, oci.MediaTypeArtifactManifest},
		"schema 1":           {"application/json", `{"fsLayers":[]}`, oci.MediaTypeDockerSchema1},
		"an error":           {"application/json", `{"errors":[]}`, ""},
		"not JSON":           {oci.MediaTypeImageIndex, `hello`, ""},
		"a list":             {"application/json", `[]`, ""},
		"nothing":            {"", ``, ""},
	} {
		if got := manifestType(test.declared, []byte(test.body)); got != test.want {
			t.Errorf("%s: got %q, want %q", name, got, test.want)
		}
	}
}

func TestTokensAreReadInEveryForm(t *testing.T) {
	start := time.Now()
	for body, want := range map[string]time.Duration{
		`{"token":"a"}`:                             time.Minute,
		`{"access_token":"a","expires_in":300}`:     270 * time.Second,
		`{"token":"a","expires_in":"100"}`:          90 * time.Second,
		`{"token":"a","expires_in":null}`:           time.Minute,
		`{"token":"a","expires_in":0}`:              time.Minute,
		`{"token":"a","expires_in":-1}`:             time.Minute,
		`{"token":"a","expires_in":"x"}`:            time.Minute,
		`{"token":"a","expires_in":1e300}`:          24 * time.Hour * 9 / 10,
		`{"token":"","access_token":"a","foo":[1]}`: time.Minute,
	} {
		if tok, ok := parseToken([]byte(body), start); !ok || tok.value != "a" || tok.expires.Sub(start) != want {
			t.Errorf("%s: got %v, %v", body, tok.expires.Sub(start), ok)
		}
	}
	for _, bad := range []string{``, `{}`, `[]`, `"a"`, `{"token":5}`, `{"token":"a b"}`, `{"token":"a\r\nX: y"}`, `<html>`} {
		if _, ok := parseToken([]byte(bad), start); ok {
			t.Errorf("%s was accepted", bad)
		}
	}
}

func TestRememberedTokensAreBounded(t *testing.T) {
	tokens, now := newTokens(), time.Now()
	for i := range maxTokens + 100 {
		tokens.put(strings.Repeat("x", i%7)+time.Duration(i).String(), token{"a", now.Add(time.Duration(i%100) * time.Second)}, now)
	}
	if n := len(tokens.byKey); n > maxTokens {
		t.Errorf("%d tokens", n)
	}
}
