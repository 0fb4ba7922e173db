package edge_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sampan/internal/edge"
)

// A pair is a certificate of a test, which signs itself.
type pair struct{ cert, key []byte }

func newPair(t *testing.T, serial int64, names ...string) pair {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: names[0]}, DNSNames: names,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Duration(serial) * 24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pair{
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}),
	}
}

// write puts the pair into files of a directory.
func (p pair) write(t *testing.T, dir, name string) edge.KeyPair {
	t.Helper()
	files := edge.KeyPair{Cert: filepath.Join(dir, name+".crt"), Key: filepath.Join(dir, name+".key")}
	for file, content := range map[string][]byte{files.Cert: p.cert, files.Key: p.key} {
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return files
}

// serial is that of the certificate that a server shows for a name.
func serial(t *testing.T, addr, name string, c *tls.Config) int64 {
	t.Helper()
	if c == nil {
		c = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	c = c.Clone()
	c.ServerName, c.InsecureSkipVerify = name, true
	conn, err := tls.Dial("tcp", addr, c)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
}

func TestCertificateIsChosenByNameAndRenewed(t *testing.T) {
	dir := t.TempDir()
	var log bytes.Buffer
	first := newPair(t, 1, "one.test").write(t, dir, "one")
	second := newPair(t, 2, "two.test", "*.two.test").write(t, dir, "two")
	c, err := edge.NewCertificates(slog.New(slog.NewTextHandler(&log, nil)), []edge.KeyPair{first, second})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr, stop := serveEdge(t, edge.Options{}, func(http.ResponseWriter, *http.Request) {}, edge.Listener{Listener: ln, TLS: edge.TLSConfig(c.Get, true)})
	defer stop()
	for name, want := range map[string]int64{"one.test": 1, "two.test": 2, "docker.two.test": 2, "other.test": 1, "": 1} {
		if got := serial(t, addr, name, nil); got != want {
			t.Errorf("%q gets certificate %d, want %d", name, got, want)
		}
	}

	renewed := newPair(t, 3, "two.test")
	if err := os.WriteFile(second.Cert, renewed.cert, 0o600); err != nil { // and the key not yet
		t.Fatal(err)
	}
	c.Reload()
	c.Reload()
	if got := serial(t, addr, "two.test", nil); got != 2 {
		t.Errorf("half a renewal gives certificate %d", got)
	}
	if n := strings.Count(log.String(), "certificate not renewed"); n != 1 {
		t.Errorf("told %d times: %s", n, log.String())
	}
	renewed.write(t, dir, "two")
	c.Reload()
	if got := serial(t, addr, "two.test", nil); got != 3 {
		t.Errorf("after the renewal certificate %d", got)
	}
	if err := os.Remove(second.Cert); err != nil {
		t.Fatal(err)
	}
	c.Reload()
	if got := serial(t, addr, "two.test", nil); got != 3 {
		t.Errorf("after the file is gone certificate %d", got)
	}
	if left := time.Until(c.Expiry()); left < 23*time.Hour || left > 24*time.Hour {
		t.Errorf("the first one expires in %v", left)
	}
}

func TestCertificatesThatCannotBeUsedAreRefused(t *testing.T) {
	dir := t.TempDir()
	good := newPair(t, 1, "one.test").write(t, dir, "one")
	other := newPair(t, 2, "two.test").write(t, dir, "two")
	for name, pairs := range map[string][]edge.KeyPair{
		"none":               nil,
		"a key of another":   {good, {Cert: good.Cert, Key: other.Key}},
		"a file that is not": {{Cert: filepath.Join(dir, "no"), Key: good.Key}},
	} {
		if _, err := edge.NewCertificates(slog.New(slog.DiscardHandler), pairs); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestTLSIsOfOurTime(t *testing.T) {
	c, err := edge.NewCertificates(slog.New(slog.DiscardHandler), []edge.KeyPair{newPair(t, 1, "one.test").write(t, t.TempDir(), "one")})
	if err != nil {
		t.Fatal(err)
	}
	for _, http2 := range []bool{true, false} {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addr, stop := serveEdge(t, edge.Options{HSTS: time.Hour}, func(http.ResponseWriter, *http.Request) {}, edge.Listener{Listener: ln, TLS: edge.TLSConfig(c.Get, http2)})
		old := &tls.Config{ServerName: "one.test", InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}
		if conn, err := tls.Dial("tcp", addr, old); err == nil {
			t.Error("TLS 1.1 is spoken")
			_ = conn.Close()
		}
		var protocols http.Protocols
		protocols.SetHTTP1(true)
		protocols.SetHTTP2(true)
		client := &http.Client{Transport: &http.Transport{
			TLSClientConfig: &tls.Config{ServerName: "one.test", InsecureSkipVerify: true}, Protocols: &protocols,
		}}
		resp, err := client.Get("https://" + addr + "/v2/")
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		client.CloseIdleConnections()
		want := "HTTP/1.1"
		if http2 {
			want = "HTTP/2.0"
		}
		if resp.Proto != want || resp.Header.Get("Strict-Transport-Security") != "max-age=3600" {
			t.Errorf("http2 %v: %s, HSTS %q", http2, resp.Proto, resp.Header.Get("Strict-Transport-Security"))
		}
		stop()
	}
}

func TestRedirectLeadsToTheSamePlace(t *testing.T) {
	for _, tc := range []struct{ port, host, target, want string }{
		{"443", "mirror.example.com", "/v2/a/manifests/b?ns=docker.io", "https://mirror.example.com/v2/a/manifests/b?ns=docker.io"},
		{"443", "mirror.example.com:80", "/", "https://mirror.example.com/"},
		{"8443", "mirror.example.com:8080", "/v2/", "https://mirror.example.com:8443/v2/"},
		{"8443", "[::1]:8080", "/v2/", "https://[::1]:8443/v2/"},
		{"443", "[::1]", "/v2/", "https://[::1]/v2/"},
		{"443", "[::1]:80", "/v2/", "https://[::1]/v2/"},
		{"8443", "[::1]", "/v2/", "https://[::1]:8443/v2/"},
		{"443", "mirror.example.com", "//evil.example/", "https://mirror.example.com//evil.example/"},
		{"443", "", "/v2/", ""},
	} {
		r := httptest.NewRequest(http.MethodGet, tc.target, nil)
		r.Host, r.URL.Host, r.URL.Scheme = tc.host, "", ""
		if strings.HasPrefix(tc.target, "//") {
			r.URL.Path = tc.target
		}
		w := httptest.NewRecorder()
		edge.RedirectHTTPS(tc.port).ServeHTTP(w, r)
		status := http.StatusPermanentRedirect
		if tc.want == "" {
			status = http.StatusBadRequest
		}
		if w.Code != status || w.Header().Get("Location") != tc.want {
			t.Errorf("%s %s: %d to %q, want %q", tc.host, tc.target, w.Code, w.Header().Get("Location"), tc.want)
		}
	}
}
