//go:build e2e

package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// standIns serve HTTPS under the names of the real registries.
type standIns struct {
	certificate string // the file with the certificate to trust

	mu    sync.Mutex
	asked map[string]int // by host name
}

// backends are the servers behind the host names of the registries' APIs.
var backends = map[string]string{
	"registry-1.docker.io": "docker.io",
	"gcr.io":               "gcr.io",
	"registry.k8s.io":      "registry.k8s.io",
	"quay.io":              "quay.io",
	"ghcr.io":              "ghcr.io",
}

// startStandIns makes the names of the real registries lead to servers of the
// testbed until the test ends.
func startStandIns(t *testing.T) *standIns {
	t.Helper()
	const address = "127.0.0.3"
	s := &standIns{asked: map[string]int{}}
	certificate, encoded := selfSigned(t, realRegistries)
	s.certificate = writeFile(t, filepath.Join(testDir(t, "stand-ins"), "ca.crt"), string(encoded))
	listener, err := tls.Listen("tcp", net.JoinHostPort(address, "443"), &tls.Config{
		Certificates: []tls.Certificate{certificate}, NextProtos: []string{"h2", "http/1.1"},
	})
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: s, ErrorLog: log.New(io.Discard, "", 0)}
	go server.Serve(listener)
	t.Cleanup(func() { server.Close() })

	hosts := hostsFile()
	if err := os.WriteFile("/etc/hosts", []byte(strings.ReplaceAll(hosts, originAddress, address)), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.WriteFile("/etc/hosts", []byte(hosts), 0o644); err != nil {
			t.Error(err)
		}
	})
	return s
}

func (s *standIns) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.asked[r.Host]++
	s.mu.Unlock()
	name, ok := backends[r.Host]
	if !ok {
		http.Error(w, "no stand-in for "+r.Host, http.StatusNotFound)
		return
	}
	httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: bed.registries[name]}).ServeHTTP(w, r)
}

func (s *standIns) count(host string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked[host]
}

// selfSigned makes a certificate for the names, that is its own authority.
func selfSigned(t *testing.T, names []string) (tls.Certificate, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "sampan e2e"}, DNSNames: names,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true, IsCA: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// "sampan serve" and nothing else: no file, no flag. The built-in registries are
// asked under their real names, over TLS.
func TestServeWithoutConfiguration(t *testing.T) {
	s := startStandIns(t)
	dir := testDir(t, "sampan")
	m := &mirror{
		address: "127.0.0.1:5000", admin: "127.0.0.1:5001", data: dir, args: []string{"serve"},
		env: []string{"SSL_CERT_FILE=" + s.certificate, "XDG_DATA_HOME=" + filepath.Join(dir, "data")},
	}
	m.start(t)
	d := startDocker(t, "{}")
	for _, c := range []struct{ name, host, upstream, repository, reference string }{
		{"localhost:5000/tiny", "registry-1.docker.io", "docker.io", "library/tiny", "latest"},
		{"localhost:5000/gcr.io/google_containers/pause:3.1", "gcr.io", "gcr.io", "google-containers/pause", "3.1"},
		{"localhost:5000/k8s.gcr.io/pause:3.1", "registry.k8s.io", "registry.k8s.io", "pause", "3.1"},
		{"localhost:5000/quay.io/team/tool:1", "quay.io", "quay.io", "team/tool", "1"},
		{"localhost:5000/ghcr.io/me/app:1", "ghcr.io", "ghcr.io", "me/app", "1"},
	} {
		before := s.count(c.host)
		d.run(t, "pull", "--quiet", c.name)
		d.wantImage(t, c.name, original(t, c.upstream, c.repository, c.reference))
		d.wantRun(t, c.name, said(c.upstream, c.repository))
		if s.count(c.host) == before {
			t.Errorf("%s was not asked for %s", c.host, c.name)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for host := range s.asked {
		if _, ok := backends[host]; !ok {
			t.Errorf("%s was asked", host)
		}
	}
	if entries, err := os.ReadDir(filepath.Join(dir, "data", "sampan")); err != nil || len(entries) == 0 {
		t.Errorf("nothing is kept in the folder of XDG_DATA_HOME: %v", err)
	}
	m.wantSoundLog(t)
}
