package server_test

import (
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"sampan/internal/access"
	"sampan/internal/mirror"
	"sampan/internal/oci"
	"sampan/internal/server"
)

// A guarded server has rules, users and codes. X-Address is the client's address,
// as the edge would find it out, and X-Secure that it speaks https.
type guarded struct {
	*httptest.Server
	library *library
	traces  chan *oci.Trace
}

const (
	teamCode = "0123456789abcdef"
	ann      = "ann:geheim"
)

func newGuarded(t *testing.T, rules access.Rules, pass func(mirror.Address) bool) *guarded {
	t.Helper()
	g := &guarded{library: newLibrary(), traces: make(chan *oci.Trace, 100)}
	names, err := mirror.New(mirror.Options{
		Domain: "mirror.test", HideHosts: true,
		Upstreams: []mirror.Upstream{{Registry: oci.DockerHub, Hosts: []string{"docker"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	gate, err := access.New(access.Options{
		Reader: g.library, Log: log, Rules: rules,
		Upstream: func(oci.Registry) (oci.Reader, error) { return g.library, nil },
		Level:    func(oci.Repository) access.Level { return access.Everybody },
	})
	if err != nil {
		t.Fatal(err)
	}
	s, err := server.New(server.Options{
		Reader: gate, Names: names, Log: log, Challenge: pass,
		Directory: newDirectory(t, access.DirectoryOptions{
			Users: []access.User{{Name: "ann", Password: "geheim", Groups: []string{"dev"}}},
			Codes: []access.Code{{Name: "team", Code: teamCode}},
		}),
		Reach: func(c access.Client) access.Reach { return rules.Reach(c, false) },
	})
	if err != nil {
		t.Fatal(err)
	}
	g.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		trace := &oci.Trace{Secure: r.Header.Get("X-Secure") != ""}
		trace.Client, _ = netip.ParseAddr(r.Header.Get("X-Address"))
		s.ServeHTTP(w, r.WithContext(oci.WithTrace(r.Context(), trace)))
		g.traces <- trace
	}))
	t.Cleanup(g.Close)
	return g
}

func basic(login string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(login))
}

// token asks for one as Docker does.
func (g *guarded) token(t *testing.T, headers ...string) string {
	t.Helper()
	x := do(t, g.Server, "GET /token?service=sampan&scope=repository:app:pull&account=ann&client_id=docker&offline_token=true", headers...)
	<-g.traces
	var answer struct {
		Token       string    `json:"token"`
		AccessToken string    `json:"access_token"`
		ExpiresIn   int       `json:"expires_in"`
		IssuedAt    time.Time `json:"issued_at"`
	}
	if err := json.Unmarshal([]byte(x.body), &answer); err != nil || x.status != 200 || answer.Token == "" || answer.Token != answer.AccessToken ||
		answer.ExpiresIn < 60 || answer.IssuedAt.IsZero() || x.header.Get("Cache-Control") != "no-store" {
		t.Fatalf("%d %s, %v", x.status, x.body, err)
	}
	return "Bearer " + answer.Token
}

var forUsers = access.Rules{
	{Allow: true, Networks: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}},
	{Allow: true, Users: []string{"ann"}, Codes: []string{"team"}},
	{Reason: "ask the operator"},
}

func TestWhoMayHaveItGetsIt(t *testing.T) {
	g := newGuarded(t, forUsers, nil)
	of := func(headers ...string) []string { return append(headers, "X-Address", "192.0.2.1") }
	for _, c := range []struct {
		fact    string
		headers []string
		ping    int
		get     int
		who     string
	}{
		{"within a network", []string{"X-Address", "10.1.1.1"}, 200, 200, ""},
		{"a stranger is asked", of(), 401, 401, ""},
		{"a user by password", of("Authorization", basic(ann)), 200, 200, "ann"},
		{"with a wrong password", of("Authorization", basic("ann:wrong")), 401, 401, ""},
		{"somebody nobody knows", of("Authorization", basic("bob:geheim")), 401, 401, ""},
		{"a user by token", of("Authorization", g.token(t, of("Authorization", basic(ann))...)), 200, 200, "ann"},
		{"a token of nobody", of("Authorization", g.token(t, of()...)), 200, 401, ""},
		{"no token at all", of("Authorization", "Bearer x.y.z"), 401, 401, ""},
		{"a code", of("Host", teamCode+".mirror.test"), 200, 200, "team"},
		{"a code before a registry", of("Host", teamCode+".docker.mirror.test:5000"), 200, 200, "team"},
		{"a wrong code", of("Host", "x123456789abcdef.mirror.test"), 401, 403, ""},
		{"a header that is none", of("Authorization", "Basic x"), 403, 403, ""},
	} {
		for path, want := range map[string]int{"/v2/": c.ping, "/v2/app/manifests/v1": c.get} {
			g.library.asked = nil
			x := do(t, g.Server, "GET "+path, c.headers...)
			trace := <-g.traces
			if x.status != want || trace.Who != c.who {
				t.Errorf("%s: %s got %d as %q: %s", c.fact, path, x.status, trace.Who, x.body)
			}
			if (x.header.Get("WWW-Authenticate") != "") != (want == 401) {
				t.Errorf("%s: %s is challenged by %q", c.fact, path, x.header.Get("WWW-Authenticate"))
			}
			if want != 200 && len(g.library.asked) > 0 {
				t.Errorf("%s: something was looked up", c.fact)
			}
			if strings.Contains(x.body, teamCode) || strings.Contains(x.body, "x123456789abcdef") {
				t.Errorf("%s: the code is in the answer: %s", c.fact, x.body)
			}
			if err := trace.Err; err != nil && strings.Contains(err.Error(), "x123456789abcdef") {
				t.Errorf("%s: the code is in the log: %v", c.fact, err)
			}
		}
	}
}

func TestTheChallengeSaysWhereTokensAre(t *testing.T) {
	g := newGuarded(t, forUsers, nil)
	stranger := []string{"X-Address", "192.0.2.1", "Host", "docker.mirror.test:5000"}
	with := func(more ...string) []string { return append(more, stranger...) }
	for _, c := range []struct {
		path    string
		headers []string
		want    string
	}{
		{"/v2/", stranger, `Bearer realm="http://docker.mirror.test:5000/token",service="sampan"`},
		{"/v2/", with("X-Secure", "1"), `Bearer realm="https://docker.mirror.test:5000/token",service="sampan"`},
		{"/v2/app/manifests/v1", stranger, `Bearer realm="http://docker.mirror.test:5000/token",service="sampan",scope="repository:app:pull"`},
		{"/docker.io/v2/library/app/blobs/" + oci.DigestOf(nil).String(), stranger, `Bearer realm="http://docker.mirror.test:5000/token",service="sampan",scope="repository:library/app:pull"`},
		{"/v2/app/manifests/v1", with("Authorization", "Bearer x"), `Bearer realm="http://docker.mirror.test:5000/token",service="sampan",scope="repository:app:pull",error="invalid_token"`},
		{"/v2/app/manifests/v1", with("Authorization", g.token(t, stranger...)), `Bearer realm="http://docker.mirror.test:5000/token",service="sampan",scope="repository:app:pull",error="insufficient_scope"`},
	} {
		x := do(t, g.Server, "GET "+c.path, c.headers...)
		<-g.traces
		if got := x.header.Get("WWW-Authenticate"); x.status != 401 || got != c.want {
			t.Errorf("%s: %d %s\nwant %s", c.path, x.status, got, c.want)
		}
		mustBeError(t, x, oci.CodeUnauthorized)
	}
}

// containerd posts a form, and asks with GET where that is refused.
func TestTokensAreGivenForAForm(t *testing.T) {
	g := newGuarded(t, forUsers, nil)
	for _, c := range []struct {
		fact string
		form url.Values
		want int
	}{
		{"a password", url.Values{"grant_type": {"password"}, "username": {"ann"}, "password": {"geheim"}, "service": {"sampan"}, "client_id": {"containerd-client"}}, 200},
		{"a wrong one", url.Values{"grant_type": {"password"}, "username": {"ann"}, "password": {"x"}}, 401},
		{"a refresh token", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {"x"}}, 401},
		{"nothing", url.Values{}, 401},
		{"too much", url.Values{"x": {strings.Repeat("x", 1<<20)}}, 405},
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, g.URL+"/token", strings.NewReader(c.form.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.Header.Set("X-Address", "192.0.2.1")
		res, err := g.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		var answer struct {
			AccessToken string `json:"access_token"`
		}
		_ = json.NewDecoder(res.Body).Decode(&answer) // an error has none
		_ = res.Body.Close()
		<-g.traces
		if res.StatusCode != c.want {
			t.Errorf("%s: %d", c.fact, res.StatusCode)
		}
		if c.want == 200 {
			x := do(t, g.Server, "GET /v2/app/manifests/v1", "X-Address", "192.0.2.1", "Authorization", "Bearer "+answer.AccessToken)
			<-g.traces
			if x.status != 200 {
				t.Errorf("%s: the token is worth %d", c.fact, x.status)
			}
		}
	}
}

func TestOutsideOfTheNetworksEveryPathIsDenied(t *testing.T) {
	rules := access.Rules{{Allow: true, Networks: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}, {Reason: "office only"}}
	g := newGuarded(t, rules, nil)
	blob := "/v2/app/blobs/" + oci.DigestOf(g.library.blob).String()
	for _, path := range []string{
		"/", "/v2", "/v2/", "/token", "/v2/app/manifests/v1", blob, "/v2/app/tags/list", "/v2/app/referrers/" + oci.DigestOf(nil).String(),
		"/v2/_catalog", "/docker.io/v2/app/manifests/v1", "/nope", "/v2/app/manifests/" + strings.Repeat("x", 500), "/v2//x", "/v2/nope.example/x/manifests/1",
	} {
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"} {
			// What is said is not looked at: nobody outside guesses passwords, nor learns
			// which ones are right.
			for _, who := range []string{"", basic(ann), basic("ann:wrong"), basic(":"), "Basic x", "Bearer x"} {
				x := do(t, g.Server, method+" "+path, "X-Address", "192.0.2.1", "Authorization", who)
				trace := <-g.traces
				if x.status != http.StatusForbidden || x.header.Get("WWW-Authenticate") != "" {
					t.Fatalf("%s %s as %q: %d %s", method, path, who, x.status, x.body)
				}
				if method == "GET" {
					mustBeError(t, x, oci.CodeDenied)
					if !strings.Contains(x.body, "office only") || trace.Denied != "office only" {
						t.Errorf("%s: %s; %q", path, x.body, trace.Denied)
					}
				}
			}
		}
	}
	if len(g.library.asked) > 0 {
		t.Errorf("looked up: %v", g.library.asked)
	}
}

// What a client says to a registry itself travels in its token.
func TestATokenCarriesTheLoginOfARegistry(t *testing.T) {
	passes := func(a mirror.Address) bool { return strings.HasPrefix(a.Host, "docker.") }
	g := newGuarded(t, access.Rules{{Allow: true}}, passes)
	hub := basic("bob:hub password")
	if x := do(t, g.Server, "GET /token", "Host", "mirror.test", "Authorization", hub); x.status != 401 {
		t.Errorf("who is known nowhere gets a token: %d", x.status)
	}
	<-g.traces
	token := g.token(t, "Host", "docker.mirror.test", "Authorization", hub)
	if strings.Contains(token, "hub") {
		t.Error("the token tells the login")
	}
	x := do(t, g.Server, "GET /v2/app/manifests/v1", "Host", "docker.mirror.test", "Authorization", token)
	if x.status != 200 {
		t.Errorf("%d %s", x.status, x.body)
	}
	if x := do(t, g.Server, "GET /v2/", "Host", "docker.mirror.test"); x.status != 401 {
		t.Errorf("a ping is answered with %d", x.status)
	}
}

func FuzzAuthorization(f *testing.F) {
	log := slog.New(slog.DiscardHandler)
	d, err := access.NewDirectory(access.DirectoryOptions{
		Users: []access.User{{Name: "ann", Password: "geheim"}}, Key: make([]byte, access.MinTokenKey), Guard: access.NewGuard(), Log: log,
	})
	if err != nil {
		f.Fatal(err)
	}
	names, err := mirror.New(mirror.Options{Upstreams: []mirror.Upstream{{Registry: oci.DockerHub}}})
	if err != nil {
		f.Fatal(err)
	}
	rules := access.Rules{{Allow: true, Users: []string{"*"}}}
	s, err := server.New(server.Options{Reader: newLibrary(), Names: names, Log: log, Directory: d, Reach: func(c access.Client) access.Reach { return rules.Reach(c, false) }})
	if err != nil {
		f.Fatal(err)
	}
	for _, h := range []string{"", basic(ann), basic("x"), "Basic", "Bearer", "Bearer a.b.c", "bearer \x00", "Digest x=y", "Basic " + strings.Repeat("A", 1000)} {
		f.Add(h, "service=sampan", "mirror.test")
	}
	f.Fuzz(func(t *testing.T, header, query, host string) {
		for _, path := range []string{"/token", "/v2/"} {
			r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://mirror.test"+path, nil)
			r.URL.RawQuery, r.Host = query, host
			r.Header["Authorization"] = []string{header}
			w := httptest.NewRecorder()
			s.ServeHTTP(w, r)
			user, password, _ := r.BasicAuth()
			known := user == "ann" && password == "geheim"
			nobody := header == "" || path == "/token" && user == "" && w.Code == 200
			if w.Code == 200 && !known && !nobody && user != "" {
				t.Errorf("%q is let in at %s: %s", header, path, w.Body)
			}
			if c := w.Header().Get("WWW-Authenticate"); strings.ContainsAny(c, "\r\n\x00") || w.Code == 401 && c == "" || w.Code >= 500 {
				t.Errorf("%d with the challenge %q", w.Code, c)
			}
		}
	})
}
