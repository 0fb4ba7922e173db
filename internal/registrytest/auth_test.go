package registrytest_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sampan/internal/registrytest"
)

// bearer is a Behavior that asks for tokens.
func bearer(c registrytest.Challenge, tk registrytest.Token) registrytest.Behavior {
	c.Scheme = registrytest.SchemeBearer
	return registrytest.Behavior{Challenge: c, Token: tk}
}

func TestChallenges(t *testing.T) {
	const own = `REALM,service="HOST"`
	for name, tt := range map[string]struct {
		challenge     registrytest.Challenge
		ping, request string // expected WWW-Authenticate; empty for none
		pingStatus    int
	}{
		"plain":       {registrytest.Challenge{}, own, own + `,scope="repository:a/b:pull"`, 401},
		"unquoted":    {registrytest.Challenge{Unquoted: true, Service: "gcr.io"}, `REALM,service=gcr.io`, `REALM,service=gcr.io,scope="repository:a/b:pull"`, 401},
		"no service":  {registrytest.Challenge{NoService: true}, `REALM`, `REALM,scope="repository:a/b:pull"`, 401},
		"placeholder": {registrytest.Challenge{PingScope: "repository:user/image:pull"}, own + `,scope="repository:user/image:pull"`, own + `,scope="repository:a/b:pull"`, 401},
		"fixed scope": {registrytest.Challenge{Scope: "aws"}, own + `,scope="aws"`, own + `,scope="aws"`, 401},
		"ping only":   {registrytest.Challenge{PingOnly: true}, own, "", 401},
		"open ping":   {registrytest.Challenge{PingOpen: true}, "", own + `,scope="repository:a/b:pull"`, 200},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, registrytest.Options{InMemory: true, Behavior: bearer(tt.challenge, registrytest.Token{})})
			r.AddImage("a/b", "v1", registrytest.ImageSpec{Layers: []int64{1}})
			expand := strings.NewReplacer("REALM", `Bearer realm="`+r.TokenURL()+`"`, "HOST", r.Host())
			ping := do(t, r.Client(), "GET", r.URL()+"/v2/")
			if got := ping.header.Get("Www-Authenticate"); ping.status != tt.pingStatus || got != expand.Replace(tt.ping) {
				t.Errorf("ping: %d %s", ping.status, got)
			}
			request := do(t, r.Client(), "GET", r.URL()+"/v2/a/b/manifests/v1")
			if got := request.header.Get("Www-Authenticate"); request.status != 401 || got != expand.Replace(tt.request) {
				t.Errorf("request: %d %s", request.status, got)
			}
		})
	}
}

func TestBasicWantsTheAccount(t *testing.T) {
	r := start(t, registrytest.Options{InMemory: true, Behavior: registrytest.Behavior{
		Challenge: registrytest.Challenge{Scheme: registrytest.SchemeBasic},
		Token:     registrytest.Token{Username: "me", Password: "secret"},
	}})
	if a := do(t, r.Client(), "GET", r.URL()+"/v2/"); a.status != 401 || a.header.Get("Www-Authenticate") != `Basic realm="registrytest"` {
		t.Errorf("without: %d %v", a.status, a.header)
	}
	for password, want := range map[string]int{"secret": 200, "wrong": 401} {
		u := strings.Replace(r.URL(), "://", "://me:"+password+"@", 1)
		if a := do(t, r.Client(), "GET", u+"/v2/"); a.status != want {
			t.Errorf("%s: %d", password, a.status)
		}
	}
}

func TestPublicContentNeedsNoTokenOnGCR(t *testing.T) {
	b := registrytest.GCR()
	b.Token.Private = []string{"secret"}
	r := start(t, registrytest.Options{InMemory: true, Behavior: b})
	r.AddImage("open", "v1", registrytest.ImageSpec{})
	r.AddImage("secret", "v1", registrytest.ImageSpec{})
	for path, want := range map[string]int{"/v2/": 401, "/v2/open/manifests/v1": 200, "/v2/secret/manifests/v1": 401} {
		if a := do(t, r.Client(), "GET", r.URL()+path); a.status != want {
			t.Errorf("%s: %d, want %d", path, a.status, want)
		}
	}
}

func TestTokenFields(t *testing.T) {
	for name, tt := range map[string]struct {
		token registrytest.Token
		want  string // the keys
		in    float64
	}{
		"both":         {registrytest.Token{}, "access_token expires_in issued_at token", 300},
		"token only":   {registrytest.Token{Field: registrytest.TokenOnly, Lifetime: time.Minute}, "expires_in issued_at token", 60},
		"access_token": {registrytest.Token{Field: registrytest.AccessTokenOnly, Lifetime: time.Hour}, "access_token expires_in issued_at", 3600},
		"bare":         {registrytest.Token{Field: registrytest.TokenOnly, Bare: true}, "token", 0},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, registrytest.Options{InMemory: true, Behavior: bearer(registrytest.Challenge{}, tt.token)})
			a := do(t, r.Client(), "GET", r.TokenURL()+"?service=x&scope=repository:a:pull")
			var doc map[string]any
			if err := json.Unmarshal(a.body, &doc); err != nil {
				t.Fatal(err)
			}
			var keys []string
			for _, k := range []string{"access_token", "expires_in", "issued_at", "token"} {
				if doc[k] != nil {
					keys = append(keys, k)
				}
			}
			if got := strings.Join(keys, " "); got != tt.want {
				t.Errorf("keys: %s", got)
			}
			if in, _ := doc["expires_in"].(float64); in != tt.in {
				t.Errorf("expires_in: %v", in)
			}
			if r.TokensIssued() != 1 {
				t.Errorf("%d tokens", r.TokensIssued())
			}
		})
	}
}

func TestTokensExpireAndAreRevoked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, registrytest.Options{InMemory: true, Behavior: bearer(registrytest.Challenge{}, registrytest.Token{Lifetime: time.Minute})})
		r.AddImage("a", "v1", registrytest.ImageSpec{})
		get := func(tok string) (int, string) {
			a := do(t, r.Client(), "GET", r.URL()+"/v2/a/manifests/v1", "Authorization", "Bearer "+tok)
			return a.status, a.header.Get("Www-Authenticate")
		}
		tok := token(t, r, "repository:a:pull")
		if status, _ := get(tok); status != 200 {
			t.Errorf("fresh: %d", status)
		}
		<-time.After(time.Minute)
		if status, challenge := get(tok); status != 401 || !strings.Contains(challenge, `error="invalid_token"`) {
			t.Errorf("old: %d %s", status, challenge)
		}
		tok = token(t, r, "repository:a:pull")
		r.ExpireTokens()
		if status, _ := get(tok); status != 401 {
			t.Errorf("revoked: %d", status)
		}
		other := token(t, r, "repository:b:pull")
		if status, challenge := get(other); status != 401 || !strings.Contains(challenge, `error="insufficient_scope"`) {
			t.Errorf("of another repository: %d %s", status, challenge)
		}
		if status, _ := get(other + "x"); status != 401 {
			t.Errorf("forged: %d", status)
		}
	})
}

func TestTheTokenServerRefuses(t *testing.T) {
	private := registrytest.Token{Username: "me", Password: "secret", Private: []string{"secret"}}
	forbid := private
	forbid.Forbid = true
	unbound := forbid
	unbound.Unbound = true
	for name, tt := range map[string]struct {
		token    registrytest.Token
		user     string // user:password, or empty
		scopes   []string
		status   int
		read     string // a repository to read with the token
		readWant int
	}{
		"a private repository gives a token that is good for nothing": {private, "", []string{"secret"}, 200, "secret", 401},
		"any denied scope is 403":                                     {forbid, "", []string{"open", "secret"}, 403, "", 0},
		"a wrong password is 401":                                     {private, "me:wrong", []string{"open"}, 401, "", 0},
		"the account reads what is private":                           {forbid, "me:secret", []string{"secret"}, 200, "secret", 200},
		"several scopes are one token":                                {private, "", []string{"open", "other"}, 200, "other", 200},
		"an unbound token reads what is public":                       {unbound, "", nil, 200, "open", 200},
		"an unbound token keeps privacy":                              {unbound, "", nil, 200, "secret", 401},
		"an unbound token of the account is all":                      {unbound, "me:secret", nil, 200, "secret", 200},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, registrytest.Options{InMemory: true, Behavior: bearer(registrytest.Challenge{}, tt.token)})
			for _, repo := range []string{"open", "other", "secret"} {
				r.AddImage(repo, "v1", registrytest.ImageSpec{})
			}
			query := url.Values{}
			for _, s := range tt.scopes {
				query.Add("scope", "repository:"+s+":pull")
			}
			u := r.TokenURL() + "?" + query.Encode()
			if tt.user != "" {
				u = strings.Replace(u, "://", "://"+tt.user+"@", 1)
			}
			a := do(t, r.Client(), "GET", u)
			if a.status != tt.status {
				t.Fatalf("%d %s", a.status, a.body)
			}
			if tt.read == "" {
				return
			}
			var doc struct{ Token string }
			if err := json.Unmarshal(a.body, &doc); err != nil {
				t.Fatal(err)
			}
			got := do(t, r.Client(), "GET", r.URL()+"/v2/"+tt.read+"/manifests/v1", "Authorization", "Bearer "+doc.Token)
			if got.status != tt.readWant {
				t.Errorf("reading %s: %d", tt.read, got.status)
			}
		})
	}
}

func TestATokenByPostForm(t *testing.T) {
	r := start(t, registrytest.Options{InMemory: true, Behavior: bearer(registrytest.Challenge{}, registrytest.Token{Username: "me", Password: "secret"})})
	for password, want := range map[string]int{"secret": 200, "wrong": 401} {
		resp, err := r.Client().PostForm(r.TokenURL(), url.Values{
			"grant_type": {"password"}, "username": {"me"}, "password": {password}, "scope": {"repository:a:pull"},
		})
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s: %d", password, resp.StatusCode)
		}
	}
}

func TestMissing(t *testing.T) {
	for name, tt := range map[string]struct {
		form                     registrytest.Missing
		repo, manifest           int
		contentType, bodyContain string
	}{
		"as specified": {registrytest.MissingSpec, 404, 404, "application/json", "MANIFEST_UNKNOWN"},
		"unauthorized": {registrytest.MissingUnauthorized, 401, 404, "application/json", "MANIFEST_UNKNOWN"},
		"denied":       {registrytest.MissingDenied, 403, 404, "application/json", "MANIFEST_UNKNOWN"},
		"XML":          {registrytest.MissingXML, 404, 404, "application/xml", "BlobNotFound"},
		"text":         {registrytest.MissingText, 404, 404, "text/plain; charset=utf-8", "404 page not found"},
		"empty":        {registrytest.MissingEmpty, 404, 404, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, registrytest.Options{InMemory: true, Behavior: registrytest.Behavior{Missing: tt.form}})
			r.AddImage("a", "v1", registrytest.ImageSpec{})
			if a := do(t, r.Client(), "GET", r.URL()+"/v2/none/manifests/v1"); a.status != tt.repo {
				t.Errorf("repository: %d", a.status)
			}
			a := do(t, r.Client(), "GET", r.URL()+"/v2/a/manifests/v2")
			if a.status != tt.manifest || a.header.Get("Content-Type") != tt.contentType || !strings.Contains(string(a.body), tt.bodyContain) {
				t.Errorf("manifest: %d %v %s", a.status, a.header, a.body)
			}
		})
	}
}

func TestWritesAreRefused(t *testing.T) {
	r := start(t, registrytest.Options{InMemory: true})
	if a := do(t, r.Client(), "PUT", r.URL()+"/v2/a/manifests/v1"); a.status != http.StatusMethodNotAllowed {
		t.Errorf("%d", a.status)
	}
}
