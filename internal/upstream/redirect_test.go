package upstream

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"sampan/internal/oci"
	"sampan/internal/registrytest"
)

func TestRedirectTargetSeesTheLocationAsItIsWritten(t *testing.T) {
	blob := randomBytes(10)
	target := newFake(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(blob) })
	location := ""
	source := newFake(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Location"] = []string{location}
		w.WriteHeader(http.StatusTemporaryRedirect)
	})
	r := open(t, Options{}, source.URL)
	for _, want := range []string{
		"/id//docker/registry/v2/blobs/sha256/ab/cd/data?se=2026-01-01T00%3A00%3A00Z&sig=a%2Fb%2Bc%3D",
		"//leading/slashes",
		"/%41%7e/a%2fb?q=%7E&a=b+c",
		"/a|b^c`d{e}\"<>?x=|y",
		"/sha256:0123/@a,b;c=d!$&'()*+?&&=?/",
		"/a/../b/./c",
		"/?",
		"/a?X-Amz-Signature=1&b=é",
		"/",
	} {
		for _, location = range []string{
			target.URL + want,
			strings.TrimPrefix(target.URL, "http:") + want,
			strings.Replace(target.URL, "http://", "HTTP://user:password@", 1) + want + "#fragment",
		} {
			b, err := r.Blob(t.Context(), repository(t, "a/b"), oci.DigestOf(blob))
			if err != nil {
				t.Errorf("%s: %v", location, err)
				continue
			}
			readAll(t, b)
			calls := target.all()
			last := calls[len(calls)-1]
			if last.target != want || last.auth != "" {
				t.Errorf("asked for %q with authorization %q, want %q", last.target, last.auth, want)
			}
		}
	}
}

func TestRelativeLocationsAreResolved(t *testing.T) {
	for location, want := range map[string]string{
		"/other//blob?a=%2F": "http://registry.test/other//blob?a=%2F",
		"blob2":              "http://registry.test/v2/a/blobs/blob2",
		"../x?y":             "http://registry.test/v2/a/x?y",
		"?y=z":               "http://registry.test/v2/a/blobs/b?y=z",
		"//cdn.test/x":       "http://cdn.test/x",
		"https://cdn.test":   "https://cdn.test",
	} {
		u, err := resolve(mustURL(t, "http://registry.test/v2/a/blobs/b"), location)
		if err != nil || u.String() != want {
			t.Errorf("%q: got %v, %v, want %s", location, u, err, want)
		}
	}
	for _, bad := range []string{"", "#", "ftp://x/y", "file:///etc/passwd", "http:///x", "http://a b/", "/%zz", "mailto:x", "http://[::1/", "\x00", "http://:80/"} {
		if u, err := resolve(mustURL(t, "http://registry.test/v2/"), bad); err == nil {
			t.Errorf("%q became %v", bad, u)
		}
	}
}

func TestAuthorizationEndsAtTheOrigin(t *testing.T) {
	for name, target := range map[string]registrytest.Target{
		"other port":  registrytest.TargetCDN,
		"other host":  registrytest.TargetOtherHost,
		"sub-domain":  registrytest.TargetSubdomain,
		"same origin": registrytest.TargetSelf,
		"relative":    registrytest.TargetRelative,
	} {
		for _, status := range []int{301, 302, 303, 307, 308} {
			t.Run(fmt.Sprint(name, " ", status), func(t *testing.T) {
				behavior := registrytest.DockerHub()
				behavior.Redirect.Target, behavior.Redirect.Status, behavior.Redirect.DoubleSlash = target, status, true
				behavior.Redirect.RejectAuthorization = target != registrytest.TargetSelf && target != registrytest.TargetRelative
				reg, r := start(t, registrytest.Options{Hostname: "registry.example.test", Behavior: behavior}, Options{})
				blob := reg.AddBlob("a/b", 1000, 1)
				b, err := r.Blob(t.Context(), repository(t, "a/b"), blob.Digest)
				if target == registrytest.TargetOtherHost {
					// "localhost" is private and the configured name is not known to be.
					wantCode(t, err, oci.CodeUnavailable)
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				readAll(t, b)
			})
		}
	}
}

func TestRegistryThatIsAnotherNameOfOne(t *testing.T) {
	behavior := registrytest.GHCR()
	reg := registrytest.StartTest(t, registrytest.Options{Behavior: behavior})
	name := newFake(t, func(w http.ResponseWriter, req *http.Request) {
		if req.Header.Get("Authorization") != "" {
			t.Error("got an authorization that it did not ask for")
		}
		http.Redirect(w, req, reg.URL()+strings.Replace(req.RequestURI, "/v2/", "/v2/other/", 1), http.StatusTemporaryRedirect)
	})
	r := open(t, Options{Credentials: Static(Credential{Username: "me", Password: "secret"})}, name.URL)
	img := reg.AddImage("other/a/b", "v1", registrytest.ImageSpec{})
	repo := repository(t, "a/b")
	d, err := r.ResolveTag(t.Context(), repo, tag(t, "v1"))
	if err != nil || d.Digest != img.Manifest.Descriptor.Digest {
		t.Fatalf("got %+v, %v", d, err)
	}
	large := reg.AddBlob("other/a/b", 10<<20, 1)
	if d, err := r.StatBlob(t.Context(), repo, large.Digest); err != nil || d.Size != large.Size || reg.BytesSentOf(large.Digest) != 1 {
		t.Errorf("got %+v, %v, for %d bytes", d, err, reg.BytesSentOf(large.Digest))
	}
	for _, blob := range img.Blobs() {
		if d, err := r.StatBlob(t.Context(), repo, blob.Digest); err != nil || d.Size != blob.Size {
			t.Errorf("got %+v, %v", d, err)
		}
		b, err := r.Blob(t.Context(), repo, blob.Digest)
		if err != nil {
			t.Fatal(err)
		}
		if ok, err := blob.Digest.VerifyReader(b); !ok || err != nil {
			t.Errorf("right %v, error %v", ok, err)
		}
		_ = b.Close()
	}
	if n := reg.TokensIssued(); n != 1 {
		t.Errorf("%d tokens", n)
	}
	for _, req := range reg.Requests() {
		if req.Method != http.MethodGet {
			t.Errorf("%s of a redirect target", req.Method)
		}
		if req.Authorization == "Basic" {
			t.Errorf("credentials were sent to %s", req.Path)
		}
	}
	_, err = r.ResolveTag(t.Context(), repository(t, "no/such"), tag(t, "v1"))
	wantCode(t, err, oci.CodeNameUnknown)
}

func TestRedirectsEndAfterTenHops(t *testing.T) {
	behavior := registrytest.DockerHub()
	behavior.Redirect.Loop = true
	reg, r := start(t, registrytest.Options{Behavior: behavior}, Options{})
	blob := reg.AddBlob("a/b", 1000, 1)
	_, err := r.Blob(t.Context(), repository(t, "a/b"), blob.Digest)
	wantCode(t, err, oci.CodeUnavailable)
	if n := reg.Count(registrytest.KindCDN); n != maxHops {
		t.Errorf("followed %d redirects", n)
	}
}

func TestExpiredRedirectIsAskedForAgain(t *testing.T) {
	reg, r := start(t, registrytest.Options{Behavior: registrytest.DockerHub()}, Options{})
	blob := reg.AddBlob("a/b", 1<<20, 1)
	b, err := r.Blob(t.Context(), repository(t, "a/b"), blob.Digest)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = b.Close() }()
	reg.ExpireRedirects()
	if _, err := b.Seek(5, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Read(make([]byte, 10)); err != nil {
		t.Error(err)
	}
	if n := reg.Count(registrytest.KindBlob); n != 3 { // 401 and twice the redirect
		t.Errorf("registry was asked %d times", n)
	}
}

func TestRedirectFromTLSToPlainIsRefused(t *testing.T) {
	plain := newFake(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("x")) })
	secure := httptest.NewTLSServer(http.RedirectHandler(plain.URL+"/x?secret=1", http.StatusFound))
	t.Cleanup(secure.Close)
	r := open(t, Options{Transport: secure.Client().Transport}, secure.URL)
	_, err := r.Blob(t.Context(), repository(t, "a/b"), oci.DigestOf(nil))
	wantCode(t, err, oci.CodeUnavailable)
	if len(plain.all()) != 0 {
		t.Error("the plain server was asked")
	}
}

func TestPrivateTargetsOfAPublicEndpointAreRefused(t *testing.T) {
	inside := newFake(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("secret")) })
	_, port, err := net.SplitHostPort(inside.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"127.0.0.1", "localhost", "[::1]", "0.0.0.0", "[::ffff:127.0.0.1]", "inside.localhost", "LOCALHOST.", "169.254.169.254", "10.0.0.1", "[fd00::1]", "100.100.100.200"} {
		target := "http://" + host + ":" + port + "/latest/meta-data?secret=1"
		challenge := `Bearer realm="` + target + `"`
		answers := map[string]http.Header{
			"redirect": {"Location": {target}},
			"realm":    {"Www-Authenticate": {challenge}},
		}
		for name, header := range answers {
			status := map[string]int{"redirect": 307, "realm": 401}[name]
			r := open(t, Options{Transport: roundTripper(func(req *http.Request) (*http.Response, error) {
				if req.URL.Host != "registry.example" {
					t.Errorf("%s was asked", req.URL.Host)
				}
				return &http.Response{StatusCode: status, Header: header, Body: http.NoBody, Request: req}, nil
			})}, "http://registry.example")
			_, err := r.Blob(t.Context(), repository(t, "a/b"), oci.DigestOf(nil))
			wantCode(t, err, oci.CodeUnavailable)
			if !errors.Is(err, errPrivate) {
				t.Errorf("%s to %s: %v", name, host, err)
			}
			noSecrets(t, err)
		}
	}
	if len(inside.all()) != 0 {
		t.Error("the server inside was asked")
	}
}

func TestEndpointThatAClientNamedMustBePublic(t *testing.T) {
	inside := newFake(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"tags":["a"]}`)) })
	for public, want := range map[bool]oci.Code{true: oci.CodeUnavailable, false: ""} {
		for _, endpoint := range []string{inside.URL, strings.Replace(inside.URL, "127.0.0.1", "localhost", 1)} {
			r := open(t, Options{PublicOnly: public}, endpoint)
			_, err := r.Tags(t.Context(), repository(t, "a/b"))
			wantCode(t, err, want)
		}
	}
	if n := len(inside.all()); n != 2 {
		t.Errorf("the server inside was asked %d times", n)
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// noSecrets fails when any text of an error shows a query.
func noSecrets(t *testing.T, err error) {
	t.Helper()
	for ; err != nil; err = errors.Unwrap(err) {
		if strings.Contains(fmt.Sprintf("%v %+v", err, err), "secret") {
			t.Errorf("shows a secret: %v", err)
		}
	}
}

func TestErrorsShowNoQueryTokenOrPassword(t *testing.T) {
	closed := newFake(t, func(http.ResponseWriter, *http.Request) {})
	closed.Close()
	for name, answer := range map[string]http.HandlerFunc{
		"redirect to a dead host": func(w http.ResponseWriter, req *http.Request) {
			http.Redirect(w, req, closed.URL+"/x?sig=secret", http.StatusFound)
		},
		"redirect that cannot be parsed": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "http://x y/?sig=secret")
			w.WriteHeader(http.StatusFound)
		},
		"message with a signed address": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusForbidden)
			_, _ = fmt.Fprint(w, `{"errors":[{"code":"DENIED","message":"see https://x/y?sig=secret now"}]}`)
		},
		"realm that cannot be reached": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("WWW-Authenticate", `Bearer realm="`+closed.URL+`/token?key=secret"`)
			w.WriteHeader(http.StatusUnauthorized)
		},
		"token that no header can hold": func(w http.ResponseWriter, req *http.Request) {
			if req.URL.Path == "/token" {
				_, _ = fmt.Fprint(w, `{"token":"secret\nX: y"}`)
				return
			}
			w.Header().Set("WWW-Authenticate", `Bearer realm="http://`+req.Host+`/token"`)
			w.WriteHeader(http.StatusUnauthorized)
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t, answer)
			r := open(t, Options{Credentials: Static(Credential{Username: "me", Password: "secret"})}, f.URL)
			_, err := r.Blob(t.Context(), repository(t, "a/b"), oci.DigestOf(nil))
			if err == nil {
				t.Fatal("no error")
			}
			noSecrets(t, err)
		})
	}
	for _, c := range []Credential{{Username: "me", Password: "secret"}, {Token: "secret"}} {
		if s := fmt.Sprintf("%v %+v %#v %s %v", c, c, c, c, c.LogValue()); strings.Contains(s, "secret") {
			t.Error(s)
		}
	}
}

func TestCredentialsGoOnlyToRealmsOfTheRegistry(t *testing.T) {
	tests := map[string]struct {
		endpoint, realm string
		allowed         []string
		want            bool
	}{
		"docker.io":            {"registry-1.docker.io", "auth.docker.io", nil, true},
		"same host":            {"quay.io", "quay.io", nil, true},
		"gitlab":               {"registry.gitlab.com", "gitlab.com", nil, true},
		"elastic":              {"docker.elastic.co", "docker-auth.elastic.co", nil, true},
		"lscr":                 {"lscr.io", "ghcr.io", nil, true},
		"upper case":           {"Registry.Example.com", "AUTH.example.COM", nil, true},
		"other domain":         {"registry-1.docker.io", "evil.example", nil, false},
		"lookalike":            {"registry-1.docker.io", "auth.docker.io.evil.example", nil, false},
		"public suffix":        {"a.github.io", "b.github.io", nil, false},
		"country suffix":       {"a.co.uk", "b.co.uk", nil, false},
		"configured":           {"registry.example", "sso.example.org", []string{"SSO.example.org"}, true},
		"same address":         {"127.0.0.1", "127.0.0.1", nil, true},
		"other address":        {"10.0.0.1", "10.0.0.2", nil, false},
		"address and name":     {"127.0.0.1", "localhost", nil, false},
		"other name, no dot":   {"registry", "auth", nil, false},
		"lscr the other way":   {"ghcr.io", "lscr.io", nil, false},
		"suffix of the domain": {"docker.io", "notdocker.io", nil, false},
	}
	for name, test := range tests {
		r := open(t, Options{TokenRealms: test.allowed}, "https://"+test.endpoint)
		if got := r.mayKnowCredentials(r.endpoints[0], test.realm); got != test.want {
			t.Errorf("%s: got %v", name, got)
		}
	}
}

func TestCredentialsForARealmElsewhereAreRefusedNotLeaked(t *testing.T) {
	behavior := registrytest.DockerHub()
	behavior.Challenge.RealmHost = "localhost"
	behavior.Token = registrytest.Token{Username: "me", Password: "secret"}
	cred := Static(Credential{Username: "me", Password: "secret"})
	for name, test := range map[string]struct {
		options Options
		want    oci.Code
	}{
		"with credentials": {Options{Credentials: cred}, oci.CodeUnauthorized},
		"anonymous":        {Options{}, ""},
		"configured realm": {Options{Credentials: cred, TokenRealms: []string{"localhost"}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			reg, r := start(t, registrytest.Options{Behavior: behavior}, test.options)
			reg.AddImage("a/b", "v1", registrytest.ImageSpec{})
			_, err := r.ResolveTag(t.Context(), repository(t, "a/b"), tag(t, "v1"))
			wantCode(t, err, test.want)
			if n := reg.Count(registrytest.KindToken); (n != 0) != (test.want == "") {
				t.Errorf("the realm was asked %d times", n)
			}
		})
	}
}

func TestRealmOverPlainHTTPIsRefusedForATLSEndpoint(t *testing.T) {
	r := open(t, Options{}, "https://registry.example")
	for realm, want := range map[string]bool{
		"https://auth.example/token":        true,
		"https://auth.example/token?a=b":    true,
		"http://auth.example/token":         false,
		"/token":                            false,
		"ftp://auth.example/":               false,
		"https://":                          false,
		"javascript:alert(1)":               false,
		"https://user:secret@auth.example/": true,
	} {
		u, err := r.realm(r.endpoints[0], challenge{realm: realm})
		if (err == nil) != want {
			t.Errorf("%s: %v, %v", realm, u, err)
		}
		if u != nil && u.User != nil {
			t.Errorf("%s: keeps the user", realm)
		}
	}
}

func TestEndpointsAreChecked(t *testing.T) {
	for _, bad := range []string{"", "registry-1.docker.io", "ftp://x", "https://", "https://user@x", "https://x?y", "https://x/#y", "https:x"} {
		u, err := url.Parse(bad)
		if err != nil {
			continue
		}
		if _, err := New(Options{Registry: oci.DockerHub, Endpoints: []*url.URL{u}}); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
	if _, err := New(Options{Registry: oci.DockerHub}); err == nil {
		t.Error("no endpoint was accepted")
	}
	if _, err := New(Options{Registry: oci.DockerHub, Endpoints: []*url.URL{nil}}); err == nil {
		t.Error("a nil endpoint was accepted")
	}
}

func TestEndpointPathComesBeforeOrIsTheAPI(t *testing.T) {
	for endpoint, want := range map[string]string{
		"http://m.example":                "http://m.example/v2/a/b/tags/list repository:a/b:pull",
		"http://m.example/":               "http://m.example/v2/a/b/tags/list repository:a/b:pull",
		"http://m.example/p/q/":           "http://m.example/p/q/v2/a/b/tags/list repository:a/b:pull",
		"http://m.example/v2":             "http://m.example/v2/a/b/tags/list repository:a/b:pull",
		"http://m.example/v2/docker.io":   "http://m.example/v2/docker.io/a/b/tags/list repository:docker.io/a/b:pull",
		"http://m.example/p/v2/docker.io": "http://m.example/p/v2/docker.io/a/b/tags/list repository:docker.io/a/b:pull",
	} {
		ep, err := newEndpoint(mustURL(t, endpoint))
		if err != nil {
			t.Fatal(err)
		}
		repo := repository(t, "a/b")
		if got := ep.url(repo, "tags/list").String() + " " + ep.scope(repo); got != want {
			t.Errorf("%s: got %s", endpoint, got)
		}
	}
}
