//go:build e2e

package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// A pruned registry is one that tags are deleted from.
type pruned struct {
	address string
	tokens  *tokenServer // nil for none
}

// distributionServer starts docker-registry or its successor.
func distributionServer(path, more string) func(*testing.T) pruned {
	return func(t *testing.T) pruned {
		dir := testDir(t, "pruned")
		p := pruned{address: freeAddress()}
		config := fmt.Sprintf("version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\nstorage: {filesystem: {rootdirectory: %s}%s}\nhttp: {addr: %q, secret: e2e}\n", filepath.Join(dir, "data"), more, p.address)
		if strings.Contains(more, "enabled: true") {
			p.tokens = newTokenServer(t)
			config += fmt.Sprintf("auth: {token: {realm: '%s', service: pruned, issuer: e2e, rootcertbundle: %s}}\n", p.tokens.URL+"/token", p.tokens.certificate)
		}
		file := writeFile(t, filepath.Join(dir, "config.yml"), config)
		d := startTestDaemon(t, cleanEnv(dir), filepath.Join(dir, "log"), path, "serve", file)
		listens := func() error {
			conn, err := net.Dial("tcp", p.address)
			if err == nil {
				conn.Close()
			}
			return err
		}
		if err := d.ready(listens); err != nil {
			t.Fatal(err)
		}
		return p
	}
}

// get reads what is below a repository.
func (p pruned) get(t *testing.T, repository, below string) []byte {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, "http://"+p.address+"/v2/"+repository+"/"+below, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", manifestTypes)
	if p.tokens != nil {
		req.Header.Set("Authorization", "Bearer "+p.tokens.token(t, "repository:"+repository+":pull"))
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Errorf("%s of %s: %s: %v: %s", below, repository, resp.Status, err, body)
	}
	return body
}

// tags are those of a repository.
func (p pruned) tags(t *testing.T, repository string) []string {
	t.Helper()
	var list struct{ Tags []string }
	if err := json.Unmarshal(p.get(t, repository, "tags/list"), &list); err != nil {
		t.Fatal(err)
	}
	slices.Sort(list.Tags)
	return list.Tags
}

// Tags that the list chooses no longer go, by tokens that hold what was asked for; that
// which is the same image as a tag that stays does not. Registries that keep their tags
// say so; distribution 3 deletes them by default.
func TestSyncPrunes(t *testing.T) {
	olareg := func(t *testing.T) pruned {
		dir := testDir(t, "pruned")
		p := pruned{address: freeAddress()}
		host, port, _ := strings.Cut(p.address, ":")
		d := startTestDaemon(t, cleanEnv(dir), filepath.Join(dir, "log"), tool("olareg"), "serve", "--addr", host, "--port", port, "--dir", dir, "--api-delete", "--gc-frequency", "-1s")
		if err := d.ready(answers("http://" + p.address + "/v2/")); err != nil {
			t.Fatal(err)
		}
		return p
	}
	for name, c := range map[string]struct {
		start   func(*testing.T) pruned
		deletes bool
	}{
		"docker-registry":            {distributionServer(registryPath, ", delete: {enabled: true}"), true},
		"distribution 3":             {distributionServer(tool("distribution3"), ", delete: {enabled: true}"), true},
		"olareg":                     {olareg, true},
		"docker-registry by default": {distributionServer(registryPath, ""), false},
		"distribution 3 by default":  {distributionServer(tool("distribution3"), ""), true},
	} {
		t.Run(name, func(t *testing.T) {
			at := c.start(t)
			s := newCopier(t)
			hub := bed.registries["docker.io"]
			for tag, image := range map[string]string{"1.0": "library/tiny:latest", "1.1": "library/tiny:latest", "again": "library/tiny:latest", "0.8": "me/app:1", "0.9": "me/app:1"} {
				s.run(t, "copy", "--quiet", hub+"/"+image, at.address+"/kept/tiny:"+tag)
			}
			image := original(t, "docker.io", "library/tiny", "latest")
			for _, tag := range []string{"1.0", "1.1"} {
				s.run(t, "copy", "--quiet", hub+"/library/tiny:latest", hub+"/pruned/tiny:"+tag)
			}
			list := writeFile(t, filepath.Join(s.dir, "sync.yaml"), fmt.Sprintf("targets: ['%s/kept/tiny']\nimages: [{source: '%s/pruned/tiny', tags: ['1.*']}]\n", at.address, hub))
			if out := s.run(t, "sync", "--file", list, "--prune", "--dry-run", "--quiet"); strings.Count(out, "would be deleted") != 3 || len(at.tags(t, "kept/tiny")) != 5 {
				t.Errorf("a dry run: %s, there is %v", out, at.tags(t, "kept/tiny"))
			}
			args := []string{"sync", "--file", list, "--prune", "--yes", "--quiet"}
			if !c.deletes {
				out := s.fail(t, args...)
				if !strings.Contains(out, "UNSUPPORTED") || len(at.tags(t, "kept/tiny")) != 5 {
					t.Errorf("it says %s; there is %v", out, at.tags(t, "kept/tiny"))
				}
				return
			}
			out := s.run(t, args...)
			if got, want := at.tags(t, "kept/tiny"), []string{"1.0", "1.1", "again"}; !slices.Equal(got, want) || !strings.Contains(out, "kept/tiny:again: kept") {
				t.Errorf("there is %v, want %v; it says %s", got, want, out)
			}
			for _, tag := range []string{"1.0", "again"} {
				if got := digestOf(at.get(t, "kept/tiny", "manifests/"+tag)); got != image.digest {
					t.Errorf("%s is %s now, want %s", tag, got, image.digest)
				}
			}
			if at.tokens == nil {
				return
			}
			if !slices.Contains(at.tokens.scopes(), "repository:kept/tiny:pull,push,delete") {
				t.Errorf("tokens were asked for %v", at.tokens.scopes())
			}
		})
	}
}

// A tokenServer signs tokens for what is asked, and for nothing else.
type tokenServer struct {
	*httptest.Server
	certificate string // a file
	chain       string
	key         *ecdsa.PrivateKey

	mu    sync.Mutex
	asked []string
}

func newTokenServer(t *testing.T) *tokenServer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "e2e"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	s := &tokenServer{key: key, chain: base64.StdEncoding.EncodeToString(der)}
	s.certificate = writeFile(t, filepath.Join(testDir(t, "tokens"), "root.pem"), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		scopes := r.URL.Query()["scope"]
		s.mu.Lock()
		s.asked = append(s.asked, scopes...)
		s.mu.Unlock()
		json.NewEncoder(w).Encode(map[string]any{"token": s.token(t, scopes...), "expires_in": 300})
	}))
	t.Cleanup(s.Close)
	return s
}

// scopes are those that were asked for.
func (s *tokenServer) scopes() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.asked)
}

// token is a JSON web token for scopes (token specification of the registry).
func (s *tokenServer) token(t *testing.T, scopes ...string) string {
	access := []map[string]any{}
	for _, scope := range strings.Fields(strings.Join(scopes, " ")) {
		kind, rest, _ := strings.Cut(scope, ":")
		at := strings.LastIndexByte(rest, ':')
		access = append(access, map[string]any{"type": kind, "name": rest[:at], "actions": strings.Split(rest[at+1:], ",")})
	}
	now := time.Now().Unix()
	part := func(v any) string {
		raw, err := json.Marshal(v)
		if err != nil {
			t.Error(err)
		}
		return base64.RawURLEncoding.EncodeToString(raw)
	}
	signed := part(map[string]any{"typ": "JWT", "alg": "ES256", "x5c": []string{s.chain}}) + "." +
		part(map[string]any{"iss": "e2e", "sub": "", "aud": "pruned", "iat": now, "nbf": now - 10, "exp": now + 300, "jti": fmt.Sprint(now), "access": access})
	sum := sha256.Sum256([]byte(signed))
	a, b, err := ecdsa.Sign(rand.Reader, s.key, sum[:])
	if err != nil {
		t.Error(err)
		return ""
	}
	signature := append(a.FillBytes(make([]byte, 32)), b.FillBytes(make([]byte, 32))...)
	return signed + "." + base64.RawURLEncoding.EncodeToString(signature)
}
