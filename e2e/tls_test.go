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
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// An authority is a private one, made for a test.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string // its certificate, PEM
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	file := writeFile(t, filepath.Join(testDir(t, "authority"), "ca.crt"), encode("CERTIFICATE", der))
	return &authority{cert, key, file}
}

func encode(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

// issue writes a certificate and its key into two files.
func (a *authority) issue(t *testing.T, serial int64, cert, key string, names ...string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: names[0]}, DNSNames: names,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, private.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, cert, encode("CERTIFICATE", der))
	writeFile(t, key, encode("PRIVATE KEY", keyDER))
}

// startTLS starts a mirror with a certificate of the authority for its domain.
func startTLS(t *testing.T, a *authority) (m *mirror, name, cert, key, redirect string) {
	t.Helper()
	dir := testDir(t, "tls")
	cert, key, redirect = filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key"), freeAddress()
	a.issue(t, 2, cert, key, mirrorDomain, "*."+mirrorDomain)
	m = startMirror(t, options{config: fmt.Sprintf("tls: {certificates: [{cert: %s, key: %s}], redirect: '%s'}\n", cert, key, redirect)})
	_, port, _ := strings.Cut(m.address, ":")
	return m, mirrorDomain + ":" + port, cert, key, redirect
}

// Each client trusts the private authority in its own way, and pulls by name.
func TestClientsPullOverTLSWithAPrivateAuthority(t *testing.T) {
	a := newAuthority(t)
	m, host, _, _, _ := startTLS(t, a)
	tiny := original(t, "docker.io", "library/tiny", "latest")
	pem, err := os.ReadFile(a.file)
	if err != nil {
		t.Fatal(err)
	}

	t.Run("docker", func(t *testing.T) {
		writeFile(t, "/etc/docker/certs.d/docker."+host+"/ca.crt", string(pem))
		d := startDocker(t, "{}")
		d.run(t, "pull", "--quiet", "docker."+host+"/tiny")
		d.wantImage(t, "docker."+host+"/tiny", tiny)
		d.wantRun(t, "docker."+host+"/tiny", said("docker.io", "library/tiny"))
	})
	t.Run("a client that does not trust it", func(t *testing.T) {
		if out, err := newTool(t, "crane").output("digest", "quay."+host+"/team/tool:1"); err == nil || !strings.Contains(err.Error(), "certificate") {
			t.Errorf("got %s, %v", out, err)
		}
	})
	eachContainerd(t, func(t *testing.T, v containerdVersion) {
		c := startContainerd(t, v, map[string]string{"_default": hostsFor("", "https://"+host, "ca = \""+a.file+"\"")}, "")
		if _, err := criPull(c.socket, "docker.io/library/tiny:latest"); err != nil {
			t.Fatal(err)
		}
		c.wantImage(t, "k8s.io", "docker.io/library/tiny:latest", tiny)
	})
	t.Run("podman", func(t *testing.T) {
		writeFile(t, "/etc/containers/certs.d/"+host+"/ca.crt", string(pem))
		env := newContainersEnv(t, fmt.Sprintf("[[registry]]\nprefix = \"docker.io\"\nlocation = \"%s/docker.io\"\n", host))
		env.command(podmanPath).run(t, "pull", "--quiet", "docker.io/library/tiny:latest")
		wantStored(t, env.command(buildahPath), "docker.io/library/tiny:latest", tiny)
	})
	t.Run("skopeo", func(t *testing.T) {
		dir := testDir(t, "layout")
		newContainersEnv(t, "").command(skopeoPath).run(t, "copy", "--quiet", "--src-cert-dir", filepath.Dir(a.file), "docker://"+host+"/library/tiny", "dir:"+dir)
		if raw, err := os.ReadFile(filepath.Join(dir, "manifest.json")); err != nil || string(raw) != string(tiny.raw) {
			t.Errorf("another manifest: %v\n%s", err, raw)
		}
	})
	t.Run("crane, over HTTP/2", func(t *testing.T) {
		crane := newTool(t, "crane")
		crane.env = append(crane.env, "SSL_CERT_FILE="+a.file)
		crane.run(t, "validate", "--remote", host+"/library/tiny")
		if got := strings.TrimSpace(crane.run(t, "digest", host+"/library/tiny")); got != tiny.digest {
			t.Errorf("the digest is %s", got)
		}
	})
	m.upstream(t, "docker.io").wantAsked(t, "^GET .*/blobs/"+tiny.Layers[0].Digest, 1, 1)
}

// A certificate that is renewed on the disk is shown to new connections; pulls go
// on, and plain HTTP leads to https.
func TestCertificateIsRenewedWhileItRuns(t *testing.T) {
	a := newAuthority(t)
	_, host, cert, key, redirect := startTLS(t, a)
	roots := x509.NewCertPool()
	roots.AddCert(a.cert)
	shown := func() (int64, error) {
		conn, err := tls.Dial("tcp", host, &tls.Config{RootCAs: roots})
		if err != nil {
			return 0, err
		}
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64(), nil
	}
	if serial, err := shown(); err != nil || serial != 2 {
		t.Fatalf("certificate %d, %v", serial, err)
	}
	a.issue(t, 3, cert, key, mirrorDomain)
	err := poll(startTimeout, func() error {
		serial, err := shown()
		if err == nil && serial != 3 {
			err = fmt.Errorf("certificate %d is shown", serial)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	status, head, _ := curl(t, "http://"+redirect+"/v2/library/tiny/manifests/latest?ns=docker.io", "-H", "Host: "+mirrorDomain)
	if !strings.Contains(status, "308") {
		t.Errorf("plain HTTP is answered with %s", status)
	}
	_, port, _ := strings.Cut(host, ":")
	wantHeader(t, head, "Location", "https://"+mirrorDomain+":"+port+"/v2/library/tiny/manifests/latest?ns=docker.io")
}

// A real ACME server gives certificates: by a challenge at the mirror's own port,
// by plain HTTP, and by a record that a program sets, for a wildcard.
func TestCertificatesOfAnAuthority(t *testing.T) {
	for _, c := range []struct{ name, challenge, domain, ask string }{
		{"tls-alpn", "tls-alpn", mirrorDomain, mirrorDomain},
		{"http", "http", mirrorDomain, mirrorDomain},
		{"dns", "dns", "'*." + mirrorDomain + "'", "docker." + mirrorDomain},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := testDir(t, "acme")
			listen, redirect := freeAddress(), freeAddress()
			p := startPebble(t, listen, redirect)
			hook := ""
			if c.challenge == "dns" {
				hook = ", hook: " + p.hook(t)
			}
			m := &mirror{address: listen, admin: freeAddress(), data: dir, upstreams: map[string]*upstream{}}
			u := newUpstream(t, bed.registries["docker.io"])
			m.upstreams["docker.io"] = u
			m.args = []string{"serve", "--listen", listen, "--admin-listen", m.admin, "--data", filepath.Join(dir, "data"), "--upstream", "docker.io=" + u.url(), "--config", writeFile(t, filepath.Join(dir, "sampan.yaml"),
				fmt.Sprintf("domain: %s\ntls:\n  redirect: %s\n  acme: {domains: [%s], directory: 'https://%s/dir', ca_file: %s, challenge: %s%s}\n",
					mirrorDomain, redirect, c.domain, p.directory, p.ca, c.challenge, hook))}
			m.start(t)
			_, port, _ := strings.Cut(listen, ":")
			host := c.ask + ":" + port
			roots := p.roots(t)
			var first []byte
			handshake := func() error {
				conn, err := tls.Dial("tcp", host, &tls.Config{RootCAs: roots})
				if err != nil {
					return err
				}
				defer conn.Close()
				first = conn.ConnectionState().PeerCertificates[0].Raw
				return nil
			}
			if err := poll(startTimeout, handshake); err != nil {
				t.Fatalf("no certificate: %v\n%s", err, m.process.logTail(4<<10))
			}
			tiny := original(t, "docker.io", "library/tiny", "latest")
			crane := newTool(t, "crane")
			crane.env = append(crane.env, "SSL_CERT_FILE="+p.rootFile)
			if got := strings.TrimSpace(crane.run(t, "digest", host+"/library/tiny")); got != tiny.digest {
				t.Errorf("the digest is %s", got)
			}
			// What was got is kept: another start asks for nothing.
			m.process.stop()
			p.process.stop()
			m.start(t)
			before := first
			if err := poll(startTimeout, handshake); err != nil {
				t.Fatal(err)
			}
			if string(first) != string(before) {
				t.Error("after a restart another certificate is shown")
			}
		})
	}
}

// pebble is a real ACME server, whose name server gives 127.0.0.1 for every name.
type pebble struct {
	process   *daemon
	directory string // host:port
	ca        string // file, of its own API
	rootFile  string // of what it issues
	dns       string // the API of its name server
}

func startPebble(t *testing.T, tlsAddress, httpAddress string) *pebble {
	t.Helper()
	dir := testDir(t, "pebble")
	a := newAuthority(t)
	cert, key := filepath.Join(dir, "api.crt"), filepath.Join(dir, "api.key")
	a.issue(t, 9, cert, key, "localhost")
	port := func(address string) string {
		_, port, _ := strings.Cut(address, ":")
		return port
	}
	p := &pebble{ca: a.file, dns: freeAddress()}
	api, management, names := freeAddress(), freeAddress(), freeAddress()
	p.directory = "localhost:" + port(api)
	startTestDaemon(t, cleanEnv(dir), filepath.Join(dir, "names.log"), tool("challtestsrv"),
		"-management", p.dns, "-dnsserver", names, "-defaultIPv4", "127.0.0.1", "-defaultIPv6", "", "-http01", "", "-https01", "", "-tlsalpn01", "", "-doh", "")
	config := fmt.Sprintf(`{"pebble": {"listenAddress": %q, "managementListenAddress": %q, "certificate": %q, "privateKey": %q,
"httpPort": %s, "tlsPort": %s, "ocspResponderURL": "", "externalAccountBindingRequired": false}}`,
		api, management, cert, key, port(httpAddress), port(tlsAddress))
	p.process = startTestDaemon(t, cleanEnv(dir, "PEBBLE_VA_NOSLEEP=1", "PEBBLE_WFE_NONCEREJECT=0"), filepath.Join(dir, "pebble.log"), tool("pebble"),
		"-config", writeFile(t, filepath.Join(dir, "pebble.json"), config), "-dnsserver", names, "-strict")
	if err := p.process.ready(listening("tcp", api)); err != nil {
		t.Fatal(err)
	}
	_, _, body := curl(t, "https://localhost:"+port(management)+"/roots/0", "--cacert", a.file)
	p.rootFile = writeFile(t, filepath.Join(dir, "root.crt"), string(body))
	return p
}

func (p *pebble) roots(t *testing.T) *x509.CertPool {
	t.Helper()
	pem, err := os.ReadFile(p.rootFile)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		t.Fatal(errors.New("no root of the ACME server"))
	}
	return roots
}

// hook writes the program that sets records at the name server.
func (p *pebble) hook(t *testing.T) string {
	t.Helper()
	file := writeFile(t, filepath.Join(testDir(t, "hook"), "hook.sh"), fmt.Sprintf(`#!/bin/sh
set -eu
case $1 in
present) exec %[1]s -sSf -d "{\"host\": \"$2.\", \"value\": \"$3\"}" http://%[2]s/set-txt ;;
cleanup) exec %[1]s -sSf -d "{\"host\": \"$2.\"}" http://%[2]s/clear-txt ;;
esac
`, curlPath, p.dns))
	if err := os.Chmod(file, 0o755); err != nil {
		t.Fatal(err)
	}
	return file
}
