package app_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"sampan/internal/registrytest"
)

// People of a provider and workloads of a cluster come with tokens that these have
// given to them: in place of a password, or as they are.
func TestTokensOfIssuersOpenWhatRulesSay(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "k", Use: "sig"}}})
	if err != nil {
		t.Fatal(err)
	}
	var provider *httptest.Server
	provider = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/keys" {
			_, _ = w.Write(keys)
			return
		}
		_, _ = fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":%q}`, provider.URL, provider.URL+"/keys")
	}))
	t.Cleanup(provider.Close)
	dir := t.TempDir()
	file := func(name string, text []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	ca := file("ca.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: provider.Certificate().Raw}))
	up := registrytest.StartTest(t, registrytest.Options{})
	up.AddImage("team/app", "1", registrytest.ImageSpec{})
	m := startReloadable(t, fmt.Sprintf(`upstreams: {up.test: {endpoints: [{url: %q}]}}
issuers:
  - {name: corp, url: %q, audience: mirror.test, ca_file: %s, user_claim: email}
  - {name: k8s, url: "https://kubernetes.default.svc", audience: mirror.test, keys_file: %s}
access:
  - {action: allow, users: ["corp:ann@example.com"], groups: ["k8s:system:serviceaccounts:ci"]}
`, up.URL(), provider.URL, ca, file("keys.json", keys)))
	token := func(claims map[string]any) string {
		claims["aud"], claims["exp"] = "mirror.test", time.Now().Add(time.Hour).Unix()
		s, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key, KeyID: "k"}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		payload, err := json.Marshal(claims)
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
	ann := token(map[string]any{"iss": provider.URL, "sub": "1", "email": "ann@example.com", "email_verified": true})
	bob := token(map[string]any{"iss": provider.URL, "sub": "2", "email": "bob@example.com", "email_verified": true})
	ci := token(map[string]any{"iss": "https://kubernetes.default.svc", "sub": "system:serviceaccount:ci:builder"})
	other := token(map[string]any{"iss": "https://kubernetes.default.svc", "sub": "system:serviceaccount:dev:builder"})
	get := func(path string, auth func(*http.Request)) (int, []byte) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+m.app.Addr()+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		auth(req)
		resp, err := m.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var body json.RawMessage
		_ = json.NewDecoder(resp.Body).Decode(&body) // what it is shows
		return resp.StatusCode, body
	}
	for _, c := range []struct {
		who, token   string
		login, after int
	}{
		{"ann", ann, 200, 200},
		{"bob", bob, 403, 403},
		{"a workload of ci", ci, 200, 200},
		{"one of another namespace", other, 403, 403},
		{"a stranger", "x.y.z", 401, 401},
	} {
		bearer := c.token
		for _, step := range []string{"as it is", "by docker login"} {
			if step == "by docker login" {
				status, body := get("/token?service=sampan", func(r *http.Request) { r.SetBasicAuth("whoever", c.token) })
				var answer struct{ Token string }
				if err := json.Unmarshal(body, &answer); err != nil || status != c.login {
					t.Errorf("%s: the token service says %d %s", c.who, status, body)
				}
				if bearer = answer.Token; bearer == "" {
					continue
				}
			}
			status, body := get("/v2/up.test/team/app/manifests/1", func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+bearer) })
			if status != c.after {
				t.Errorf("%s, %s: %d %s", c.who, step, status, body)
			}
		}
	}
}
