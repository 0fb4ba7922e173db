package issuer

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"sampan/internal/access"
	"sampan/internal/oci"
)

// A provider is an issuer over TLS.
type provider struct {
	*httptest.Server
	ca string // file

	mu     sync.Mutex
	signer crypto.Signer
	kid    string
	asked  map[string]int
	answer func(w http.ResponseWriter, r *http.Request) bool // true: it has answered
}

func newProvider(t *testing.T) *provider {
	t.Helper()
	p := &provider{asked: make(map[string]int)}
	p.rotate(t, "one")
	p.Server = httptest.NewTLSServer(p)
	t.Cleanup(p.Close)
	p.ca = filepath.Join(t.TempDir(), "ca.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.Certificate().Raw})
	if err := os.WriteFile(p.ca, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *provider) rotate(t *testing.T, kid string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.signer, p.kid = key, kid
}

func (p *provider) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked[r.URL.Path]++
	if p.answer != nil && p.answer(w, r) {
		return
	}
	switch r.URL.Path {
	case "/.well-known/openid-configuration":
		_, _ = fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":%q}`, p.URL, p.URL+"/keys")
	case "/keys":
		_, _ = w.Write(p.set())
	default:
		http.NotFound(w, r)
	}
}

func (p *provider) set() []byte {
	text, _ := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: p.signer.Public(), KeyID: p.kid, Use: "sig"}}})
	return text
}

func (p *provider) count(path string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.asked[path]
}

type claims map[string]any

// good are the claims of ann.
func (p *provider) good(change claims) claims {
	now := time.Now()
	c := claims{
		"iss": p.URL, "aud": []string{"other", "mirror.test"}, "sub": "ann", "iat": now.Unix(), "exp": now.Add(time.Hour).Unix(),
		"groups": []string{"dev", "a b", "ops"}, "email": "ann@example.com", "email_verified": true,
	}
	for k, v := range change {
		if c[k] = v; v == nil {
			delete(c, k)
		}
	}
	return c
}

func (p *provider) token(t *testing.T, c claims) string {
	t.Helper()
	return sign(t, jose.ES256, p.signer, p.kid, c)
}

func sign(t *testing.T, alg jose.SignatureAlgorithm, key any, kid string, c claims) string {
	t.Helper()
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: jose.JSONWebKey{Key: key, KeyID: kid}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	payload, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	jws, err := s.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	text, err := jws.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func (p *provider) issuers(t *testing.T, change func(*Options)) *Issuers {
	t.Helper()
	o := Options{Name: "corp", URL: p.URL, Audience: "mirror.test", CAFile: p.ca}
	if change != nil {
		change(&o)
	}
	i, err := New(o, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return Of([]*Issuer{i}, nil)
}

func TestATokenTellsWhoItIs(t *testing.T) {
	p := newProvider(t)
	for _, c := range []struct {
		fact   string
		claims claims
		change func(*Options)
		name   string
		groups string
	}{
		{"by its subject", nil, nil, "corp:ann", "corp:dev corp:ops"},
		{"by its address", nil, func(o *Options) { o.UserClaim = "email" }, "corp:ann@example.com", "corp:dev corp:ops"},
		{"by an address that is not verified", claims{"email_verified": false}, func(o *Options) { o.UserClaim = "email" }, "", ""},
		{"by one of which that is not said", claims{"email_verified": nil}, func(o *Options) { o.UserClaim = "email" }, "", ""},
		{"for one audience", claims{"aud": "mirror.test"}, nil, "corp:ann", "corp:dev corp:ops"},
		{"with one group", claims{"groups": "dev"}, nil, "corp:ann", "corp:dev"},
		{"with groups of another claim", claims{"roles": []string{"x"}}, func(o *Options) { o.GroupsClaim = "roles" }, "corp:ann", "corp:x"},
		{"with no groups", claims{"groups": 7}, nil, "corp:ann", ""},
		{"a service account", claims{"sub": "system:serviceaccount:ci:builder", "groups": nil}, nil, "corp:system:serviceaccount:ci:builder", "corp:system:serviceaccounts corp:system:serviceaccounts:ci"},
		{"for somebody else", claims{"aud": "other"}, nil, "", ""},
		{"over", claims{"exp": time.Now().Add(-time.Minute).Unix()}, nil, "", ""},
		{"without an end", claims{"exp": nil}, nil, "", ""},
		{"not yet", claims{"nbf": time.Now().Add(time.Hour).Unix()}, nil, "", ""},
		{"of nobody", claims{"sub": ""}, nil, "", ""},
		{"of a name that cannot be written", claims{"sub": "a\nb"}, nil, "", ""},
		{"of a number", claims{"sub": 7}, nil, "", ""},
	} {
		name, groups, until, err := p.issuers(t, c.change).Verify(t.Context(), p.token(t, p.good(c.claims)))
		if name != c.name || strings.Join(groups, " ") != c.groups || (err == nil) != (c.name != "") {
			t.Errorf("%s: %q, %v, %v", c.fact, name, groups, err)
		}
		if err == nil && (time.Until(until) < 50*time.Minute || time.Until(until) > time.Hour) {
			t.Errorf("%s: until %v", c.fact, until)
		}
	}
}

func TestOnlyTheIssuersOwnSignatureCounts(t *testing.T) {
	p := newProvider(t)
	i := p.issuers(t, nil)
	good := p.token(t, p.good(nil))
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	encode := func(v any) string {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return base64.RawURLEncoding.EncodeToString(b)
	}
	parts := strings.Split(good, ".")
	public := p.set()
	for fact, token := range map[string]string{
		"another key":                       sign(t, jose.RS256, other, "one", p.good(nil)),
		"a secret, which is the public key": sign(t, jose.HS256, public, "one", p.good(nil)),
		"none":                              encode(claims{"alg": "none"}) + "." + encode(p.good(nil)) + ".",
		"that of another text":              parts[0] + "." + encode(p.good(claims{"sub": "root"})) + "." + parts[2],
		"cut off":                           good[:len(good)-2],
	} {
		if name, _, _, err := i.Verify(t.Context(), token); err == nil || errors.Is(err, access.ErrForeign) {
			t.Errorf("%s: %q, %v", fact, name, err)
		}
	}
	for fact, token := range map[string]string{
		"of somebody else": p.token(t, p.good(claims{"iss": "https://other.example"})),
		"no token":         "a.b.c", "nothing": "", "two parts": "a.b", "too long": strings.Repeat("x", maxToken) + "." + parts[1] + ".x",
	} {
		if name, _, _, err := i.Verify(t.Context(), token); !errors.Is(err, access.ErrForeign) {
			t.Errorf("%s: %q, %v", fact, name, err)
		}
	}
	if _, _, _, err := i.Verify(t.Context(), good); err != nil {
		t.Error(err)
	}
}

func TestKeysAreAskedForSparinglyAndOutliveTheirIssuer(t *testing.T) {
	p := newProvider(t)
	i := p.issuers(t, nil)
	if n := p.count("/keys"); n != 0 {
		t.Errorf("asked %d times before anybody came", n)
	}
	var wg sync.WaitGroup
	for range 50 {
		token := p.token(t, p.good(nil))
		wg.Go(func() {
			if _, _, _, err := i.Verify(t.Context(), token); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for n := range 50 { // strangers with keys that nobody knows
		if _, _, _, err := i.Verify(t.Context(), sign(t, jose.ES256, p.signer, fmt.Sprint(n), p.good(nil))); err == nil {
			t.Error("a key that the issuer does not name counts")
		}
	}
	if n := p.count("/keys"); n != 1 {
		t.Errorf("asked %d times", n)
	}
	good := p.token(t, p.good(nil))
	k := i.list[0].keys
	p.rotate(t, "two")
	next := p.token(t, p.good(nil))
	if _, _, _, err := i.Verify(t.Context(), next); err == nil {
		t.Error("a new key is known without asking")
	}
	k.asked = k.asked.Add(-askAgain)
	if _, _, _, err := i.Verify(t.Context(), next); err != nil {
		t.Errorf("a new key after a while: %v", err)
	}
	if _, _, _, err := i.Verify(t.Context(), good); err == nil {
		t.Error("a key that the issuer has taken back counts")
	}
	p.CloseClientConnections()
	p.Close()
	k.asked, k.got = k.asked.Add(-2*fresh), k.got.Add(-2*fresh)
	if _, _, _, err := i.Verify(t.Context(), next); err != nil {
		t.Errorf("with the issuer down: %v", err)
	}
	fresh := p.issuers(t, nil)
	if _, _, _, err := fresh.Verify(t.Context(), next); oci.CodeOf(err) != oci.CodeUnavailable {
		t.Errorf("without keys: %v", err)
	}
}

// While the issuer is asked about a key that nobody knows and does not answer, those
// with known keys are let in.
func TestKnownKeysCountWhileTheIssuerHangs(t *testing.T) {
	p := newProvider(t)
	i := p.issuers(t, nil)
	good := p.token(t, p.good(nil))
	if _, _, _, err := i.Verify(t.Context(), good); err != nil {
		t.Fatal(err)
	}
	hangs, goOn := make(chan struct{}), make(chan struct{})
	p.mu.Lock()
	p.answer = func(http.ResponseWriter, *http.Request) bool { close(hangs); <-goOn; return true }
	p.mu.Unlock()
	k := i.list[0].keys
	k.mu.Lock()
	k.asked = k.asked.Add(-askAgain)
	k.mu.Unlock()
	stranger := sign(t, jose.ES256, p.signer, "unknown", p.good(nil))
	ctx, leave := context.WithCancel(t.Context())
	left := make(chan error, 1)
	go func() {
		_, _, _, err := i.Verify(ctx, stranger)
		left <- err
	}()
	<-hangs
	if _, _, _, err := i.Verify(t.Context(), good); err != nil {
		t.Errorf("with a known key: %v", err)
	}
	leave()
	if err := <-left; err == nil {
		t.Error("a key that the issuer does not name counts")
	}
	k.mu.Lock()
	k.got, k.asked = k.got.Add(-2*fresh), k.asked.Add(-moment)
	k.mu.Unlock()
	if _, _, _, err := i.Verify(t.Context(), good); err != nil {
		t.Errorf("with a key that is no longer fresh: %v", err)
	}
	close(goOn)
}

// An API server of Kubernetes tells the address of its keys as others know it.
func TestTheTokenForAskingGoesToTheIssuerAlone(t *testing.T) {
	p := newProvider(t)
	other := httptest.NewTLSServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("another host is asked, with %q", r.Header.Get("Authorization"))
	}))
	t.Cleanup(other.Close)
	p.answer = func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == "/keys" {
			return false
		}
		_, _ = fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":%q}`, p.URL, other.URL+"/keys")
		return true
	}
	bearer := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(bearer, []byte("to ask with"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := p.issuers(t, func(o *Options) { o.TokenFile = bearer }).Verify(t.Context(), p.token(t, p.good(nil))); err != nil {
		t.Error(err)
	}
}

func TestAnIssuerIsStillTheSame(t *testing.T) {
	p := newProvider(t)
	o := Options{Name: "corp", URL: p.URL, Audience: "mirror.test", CAFile: p.ca}
	i, err := New(o, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	other := o
	other.Audience = "another"
	if !i.Still(o) || i.Still(other) {
		t.Errorf("the same: %t, another: %t", i.Still(o), i.Still(other))
	}
	if err := os.WriteFile(p.ca, []byte("another certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	if i.Still(o) {
		t.Error("its authority is another, and it is the same")
	}
}

func TestAnIssuerThatIsNotWhatItSaysIsNotBelieved(t *testing.T) {
	for fact, answer := range map[string]func(p *provider, w http.ResponseWriter, r *http.Request) bool{
		"another name": func(_ *provider, w http.ResponseWriter, r *http.Request) bool {
			_, _ = w.Write([]byte(`{"issuer":"https://other.example","jwks_uri":"https://other.example/keys"}`))
			return true
		},
		"keys over http": func(p *provider, w http.ResponseWriter, _ *http.Request) bool {
			_, _ = fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":"http://127.0.0.1/keys"}`, p.URL)
			return true
		},
		"a redirect elsewhere": func(_ *provider, w http.ResponseWriter, r *http.Request) bool {
			http.Redirect(w, r, "https://127.0.0.1:1/x", http.StatusFound)
			return true
		},
		"too much": func(_ *provider, w http.ResponseWriter, _ *http.Request) bool {
			_, _ = w.Write(bytes.Repeat([]byte(" "), maxAnswer+1))
			return true
		},
		"an error": func(_ *provider, w http.ResponseWriter, _ *http.Request) bool {
			w.WriteHeader(http.StatusInternalServerError)
			return true
		},
		"no keys": func(_ *provider, w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path != "/keys" {
				return false
			}
			_, _ = w.Write([]byte(`{"keys":[]}`))
			return true
		},
	} {
		p := newProvider(t)
		p.answer = func(w http.ResponseWriter, r *http.Request) bool { return answer(p, w, r) }
		if name, _, _, err := p.issuers(t, nil).Verify(t.Context(), p.token(t, p.good(nil))); oci.CodeOf(err) != oci.CodeUnavailable {
			t.Errorf("%s: %q, %v", fact, name, err)
		}
	}
}

func TestKeysAndTheTokenForAskingComeFromFiles(t *testing.T) {
	p := newProvider(t)
	dir := t.TempDir()
	keys, bearer := filepath.Join(dir, "keys.json"), filepath.Join(dir, "token")
	for name, text := range map[string][]byte{keys: p.set(), bearer: []byte("to ask with\n")} {
		if err := os.WriteFile(name, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	token := p.token(t, p.good(nil))
	if _, _, _, err := p.issuers(t, func(o *Options) { o.KeysFile = keys }).Verify(t.Context(), token); err != nil || p.count("/keys") != 0 {
		t.Errorf("%v, asked %d times", err, p.count("/keys"))
	}
	var got []string
	p.answer = func(_ http.ResponseWriter, r *http.Request) bool {
		got = append(got, r.Header.Get("Authorization"))
		return false
	}
	if _, _, _, err := p.issuers(t, func(o *Options) { o.TokenFile = bearer }).Verify(t.Context(), token); err != nil || !slices.Equal(got, []string{"Bearer to ask with", "Bearer to ask with"}) {
		t.Errorf("%v, asked with %q", err, got)
	}
	if _, err := New(Options{Name: "x", URL: p.URL, Audience: "y", KeysFile: bearer}, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("a file without keys is taken")
	}
}

func TestTokensAreCountedByTheirIssuer(t *testing.T) {
	up, down := newProvider(t), newProvider(t)
	down.answer = func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(http.StatusInternalServerError)
		return true
	}
	r := prometheus.NewRegistry()
	m, err := access.NewMetrics(r)
	if err != nil {
		t.Fatal(err)
	}
	var list []*Issuer
	for name, p := range map[string]*provider{"corp": up, "away": down} {
		i, err := New(Options{Name: name, URL: p.URL, Audience: "mirror.test", CAFile: p.ca}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, i)
	}
	all := Of(list, m)
	left, leave := context.WithCancel(t.Context())
	leave()
	for _, token := range []string{
		up.token(t, up.good(nil)), up.token(t, up.good(nil)), up.token(t, up.good(claims{"aud": "other"})),
		down.token(t, down.good(nil)), up.token(t, up.good(claims{"iss": "https://other.example"})), "a.b.c", // a password
	} {
		_, _, _, _ = all.Verify(t.Context(), token)
	}
	_, _, _, _ = all.Verify(left, down.token(t, down.good(nil))) // who leaves is no result
	want := `
# HELP sampan_access_tokens_total Tokens of issuers that clients came with, by issuer and result: accepted, refused, or unavailable for keys that could not be had; the issuer is _other for tokens of nobody who is known here.
# TYPE sampan_access_tokens_total counter
sampan_access_tokens_total{issuer="_other",result="refused"} 1
sampan_access_tokens_total{issuer="away",result="accepted"} 0
sampan_access_tokens_total{issuer="away",result="refused"} 0
sampan_access_tokens_total{issuer="away",result="unavailable"} 1
sampan_access_tokens_total{issuer="corp",result="accepted"} 2
sampan_access_tokens_total{issuer="corp",result="refused"} 1
sampan_access_tokens_total{issuer="corp",result="unavailable"} 0
`
	if err := testutil.GatherAndCompare(r, strings.NewReader(want), "sampan_access_tokens_total"); err != nil {
		t.Error(err)
	}
}

func FuzzVerify(f *testing.F) {
	i, err := New(Options{Name: "x", URL: "https://127.0.0.1:1", Audience: "y"}, slog.New(slog.DiscardHandler))
	if err != nil {
		f.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	f.Add("a.b.c")
	f.Add("eyJhbGciOiJub25lIn0.eyJpc3MiOiJodHRwczovLzEyNy4wLjAuMToxIn0.")
	f.Fuzz(func(t *testing.T, token string) {
		if name, _, _, err := Of([]*Issuer{i}, nil).Verify(ctx, token); err == nil {
			t.Errorf("%q is %q", token, name)
		}
	})
}
