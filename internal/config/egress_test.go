package config

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const egressText = `
egress:
  proxy: http://me:${SECRET}@proxy.corp:3128/
  timeouts: {dial: 1s, stall: 1m}
  hosts: {a.example: [192.0.2.1], b.example: [192.0.2.2]}
  redirects: {"*": {source: 192.0.2.77}}
upstreams:
  docker.io:
    egress:
      proxy: socks5h://127.0.0.1:1080
      proxy_username: somebody
      proxy_password: ${SECRET}
      dns: [udp://1.1.1.1:53, "tcp://[2001:db8::53]", https://dns.google/dns-query]
      hosts: {A.example.: [203.0.113.7, "2001:db8::1"]}
      source: 192.0.2.10
      timeouts: {dial: 2s, tls: 3s, headers: 4s}
      redirects:
        "*.Cloudfront.net": {proxy: direct, private: true}
        10.0.0.1: {hosts: {c.example: [192.0.2.3]}}
  quay.io: {egress: {proxy: direct}}
`

func TestEgressIsReadAndInherited(t *testing.T) {
	c := mustLoad(t, egressText, nil)
	if p := c.Egress.Proxy.Reveal(); p == nil || p.String() != "http://me:s3cret@proxy.corp:3128" {
		t.Errorf("the proxy of all is %v", p)
	}
	e := upstream(t, c, "docker.io").Egress.Inherit(c.Egress)
	if p := e.Proxy.Reveal(); p == nil || p.String() != "socks5h://somebody:s3cret@127.0.0.1:1080" {
		t.Errorf("the proxy is %v", p)
	}
	second := Duration(time.Second)
	if want := (Timeouts{2 * second, 3 * second, 4 * second, 60 * second}); e.Timeouts != want {
		t.Errorf("the timeouts are %v, want %v", e.Timeouts, want)
	}
	if got, want := fmt.Sprint(e.DNS), "[udp://1.1.1.1:53 tcp://[2001:db8::53] https://dns.google/dns-query]"; got != want {
		t.Errorf("the servers are %s", got)
	}
	if got, want := fmt.Sprint(e.Hosts, e.Source), "map[a.example:[203.0.113.7 2001:db8::1] b.example:[192.0.2.2]] 192.0.2.10"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	var rules []string
	for _, r := range e.Redirects {
		proxy := fmt.Sprint(r.Proxy.Direct)
		if r.Proxy.URL != nil {
			proxy = r.Proxy.URL.Host
		}
		rules = append(rules, fmt.Sprint(r.Pattern, " ", r.Private, " ", proxy, " ", r.Source, " ", len(r.Hosts), " ", len(r.DNS), " ", r.Timeouts.TLS))
	}
	const want = "*.cloudfront.net true true 192.0.2.10 2 3 3s\n10.0.0.1 false 127.0.0.1:1080 192.0.2.10 3 3 3s\n* false 127.0.0.1:1080 192.0.2.77 2 3 3s"
	if got := strings.Join(rules, "\n"); got != want {
		t.Errorf("the rules are\n%s\nwant\n%s", got, want)
	}
	if e := upstream(t, c, "quay.io").Egress.Inherit(c.Egress); !e.Proxy.Direct || e.Proxy.Reveal() != nil || e.Timeouts.Dial != second {
		t.Errorf("direct is not inherited from: %+v", e)
	}
	if e := upstream(t, c, "gcr.io").Egress.Inherit(c.Egress); e.Proxy.URL.Host != "proxy.corp:3128" {
		t.Errorf("an upstream that says nothing has %+v", e)
	}
	if again := e.Inherit(Egress{}); fmt.Sprintf("%+v", again) != fmt.Sprintf("%+v", e) {
		t.Errorf("inheriting from nothing changes\n%+v to\n%+v", e, again)
	}
}

func TestCredentialsOfAProxyAreNeverShown(t *testing.T) {
	for fact, test := range map[string]struct{ text, shown string }{
		"a variable in the URL": {"{proxy: 'http://me:${SECRET}@p:1'}", "proxy_password: ${SECRET}"},
		"a default of one":      {"{proxy: 'http://me:${NOPE:-s3cret}@p:1'}", "proxy_password: ${NOPE:-s3cret}"},
		"text in the URL":       {"{proxy: 'http://me:s3cret@p:1'}", "'********'"},
		"encoded text":          {"{proxy: 'http://me:%733cret@p:1'}", "'********'"},
		"the whole URL is one":  {"{proxy: 'http://${LOGIN}@p:1'}", "'********'"},
		"a key":                 {"{proxy: 'https://p', proxy_username: me, proxy_password: s3cret}", "'********'"},
	} {
		t.Run(fact, func(t *testing.T) {
			environ := func(s *Source) { s.Environ = append(s.Environ, "LOGIN=me:s3cret") }
			c := mustLoad(t, "egress: "+test.text, environ)
			if got := c.Egress.Proxy.Reveal().User.String(); got != "me:s3cret" {
				t.Fatalf("the proxy is told %s", got)
			}
			var shown strings.Builder
			if err := c.Show(&shown); err != nil {
				t.Fatal(err)
			}
			out := shown.String() + fmt.Sprintf("%v %+v %#v", c.Egress, c.Egress, c.Egress)
			if out = strings.ReplaceAll(out, "${NOPE:-s3cret}", ""); strings.Contains(out, "s3cret") || !strings.Contains(shown.String(), strings.Trim(test.shown, "'")) {
				t.Errorf("shown as\n%s", out)
			}
			again := mustLoad(t, shown.String(), environ)
			if p := again.Egress.Proxy; p.Username != "me" || p.Password.IsZero() || p.URL.User != nil {
				t.Errorf("became %+v", p)
			}
		})
	}
}

func TestServersMayBeWrittenInBraces(t *testing.T) {
	c := mustLoad(t, `egress: {dns: [udp://1.1.1.1:53, tcp://8.8.8.8:5353, https://1.1.1.1:8443/dns-query, "udp://9.9.9.9:53", udp://1.0.0.1]}`, nil)
	if got, want := fmt.Sprint(c.Egress.DNS), "[udp://1.1.1.1:53 tcp://8.8.8.8:5353 https://1.1.1.1:8443/dns-query udp://9.9.9.9:53 udp://1.0.0.1]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// certificate writes a certificate and its key to files.
func certificate(t *testing.T, dir, name string) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, name+".pem"), filepath.Join(dir, name+".key")
	for file, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: pkcs8}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

func TestCertificatesAreNotInheritedByRedirects(t *testing.T) {
	cert, key := certificate(t, t.TempDir(), "a")
	c := mustLoad(t, fmt.Sprintf("egress: {ca_files: [%[1]s], client_cert: %[1]s, client_key: %[2]s, redirects: {x.example: {}, y.example: {client_cert: %[1]s, client_key: %[2]s}}}", cert, key), nil)
	e := upstream(t, c, "quay.io").Egress.Inherit(c.Egress)
	if e.ClientCert != cert || e.ClientKey != key || len(e.CAFiles) != 1 {
		t.Errorf("the upstream has %+v", e)
	}
	if r := e.Redirects[0]; r.ClientCert != "" || r.ClientKey != "" || len(r.CAFiles) != 1 {
		t.Errorf("where it redirects to has %+v", r)
	}
	if r := e.Redirects[1]; r.ClientCert != cert || r.ClientKey != key {
		t.Errorf("a rule that names one has %+v", r)
	}
	var shown strings.Builder
	if err := c.Show(&shown); err != nil {
		t.Fatal(err)
	}
	if again := mustLoad(t, shown.String(), nil); fmt.Sprintf("%+v", again.Egress) != fmt.Sprintf("%+v", c.Egress) {
		t.Errorf("shown as\n%s", shown.String())
	}
}

func TestProblemsOfEgressAreToldWithTheirPlace(t *testing.T) {
	dir := t.TempDir()
	cert, key := certificate(t, dir, "a")
	_, otherKey := certificate(t, dir, "b")
	for _, c := range []struct{ fact, text, want string }{
		{"a misspelt key", "{prxy: direct}", `1:10 egress.prxy: unknown key "prxy"; did you mean proxy?`},
		{"a proxy of another kind", "{proxy: ftp://p}", `1:17 egress.proxy: "ftp://p" is not direct or a proxy`},
		{"a proxy without scheme", "{proxy: 'p:3128'}", `1:17 egress.proxy: "p:3128" is not direct or a proxy`},
		{"a proxy with a path", "{proxy: http://p/x}", `1:17 egress.proxy: "http://p/x" is not direct`},
		{"a password that ends the host", "{proxy: 'http://me:s3/cret@p:1'}", `1:17 egress.proxy: "http://********@p:1" is not direct`},
		{"a user without password", "{proxy: 'http://me@p:1'}", `1:17 egress.proxy: "http://********@p:1" is not direct`},
		{"a port out of range", "{proxy: 'http://p:70000'}", `1:17 egress.proxy: "http://p:70000" is not direct`},
		{"a user without proxy", "{proxy_username: me, proxy_password: x}", `1:26 egress.proxy_username: belongs to a proxy`},
		{"a user of no proxy", "{proxy: direct, proxy_username: me, proxy_password: x}", `1:41 egress.proxy_username: belongs to a proxy`},
		{"two users", "{proxy: 'http://a:b@p', proxy_username: me, proxy_password: x}", `1:49 egress.proxy_username: the URL of the proxy has a user already`},
		{"half a login", "{proxy: 'http://p', proxy_password: x}", `1:45 egress.proxy_password: proxy_username and proxy_password belong together`},
		{"two passwords", "{proxy: 'http://p', proxy_username: a, proxy_password: x, proxy_password_file: " + key + "}", `1:88 egress.proxy_password_file: proxy_password and proxy_password_file cannot`},
		{"a server by name", "{dns: [udp://dns.google]}", `1:16 egress.dns[0]: "udp://dns.google" is not a DNS server`},
		{"a server without scheme", "{dns: [1.1.1.1]}", `1:16 egress.dns[0]: "1.1.1.1" is not a DNS server`},
		{"a server with a path", "{dns: ['tcp://1.1.1.1/x']}", `1:16 egress.dns[0]: "tcp://1.1.1.1/x" is not a DNS server`},
		{"a mapping for a server", "{dns: [{a: b}]}", `1:16 egress.dns[0]: must be a single value`},
		{"no servers", "{dns: []}", `1:15 egress.dns: must not be empty`},
		{"an entry for an address", "{hosts: {10.0.0.1: [10.0.0.2]}}", `1:18 egress.hosts.10.0.0.1: "10.0.0.1" is not a host name`},
		{"an entry with a port", "{hosts: {'a:1': [10.0.0.2]}}", `1:18 egress.hosts.a:1: "a:1" is not a host name`},
		{"an entry to a name", "{hosts: {a.example: [b.example]}}", `1:30 egress.hosts.a.example[0]: "b.example" is not an IP address`},
		{"an entry twice", "{hosts: {a.example: [10.0.0.1], A.example: [10.0.0.2]}}", `1:41 egress.hosts.A.example: "a.example" is written twice`},
		{"an entry to nowhere", "{hosts: {a.example: []}}", `1:29 egress.hosts.a.example: must not be empty`},
		{"a source that is a network", "{source: 10.0.0.0/8}", `1:18 egress.source: "10.0.0.0/8" is not an IP address`},
		{"a CA file that is not there", "{ca_files: [" + dir + "/none]}", `1:21 egress.ca_files[0]: cannot be read`},
		{"a CA file without certificate", "{ca_files: [" + key + "]}", `1:21 egress.ca_files[0]: ` + key + ` holds no certificate`},
		{"no CA files", "{ca_files: []}", `1:20 egress.ca_files: must not be empty`},
		{"a certificate without key", "{client_cert: " + cert + "}", `1:23 egress.client_cert: client_cert and client_key belong together`},
		{"a key without certificate", "{client_key: " + key + "}", `1:22 egress.client_key: client_cert and client_key belong together`},
		{"a key that is not there", "{client_cert: " + cert + ", client_key: " + dir + "/none}", fmt.Sprintf("1:%d egress.client_key: cannot be read", 23+len(cert)+14)},
		{"the key of another", "{client_cert: " + cert + ", client_key: " + otherKey + "}", `1:23 egress.client_cert: ` + cert + ` and client_key are no certificate with its key`},
		{"a timeout too short", "{timeouts: {dial: 1ms}}", `1:27 egress.timeouts.dial: 1ms is too short; at least 100ms`},
		{"a stall too short", "{timeouts: {stall: 100ms}}", `1:28 egress.timeouts.stall: 100ms is too short; at least 1s`},
		{"a timeout that is none", "{timeouts: {tls: soon}}", `1:26 egress.timeouts.tls: "soon" is not a duration`},
		{"a pattern in the middle", "{redirects: {'a.*.example': {}}}", `1:22 egress.redirects.a.*.example: "a.*.example" is not a host`},
		{"a pattern with a port", "{redirects: {'a.example:443': {}}}", `1:22 egress.redirects.a.example:443: "a.example:443" is not a host`},
		{"a pattern twice", "{redirects: {a.example: {}, A.example: {}}}", `1:37 egress.redirects.A.example: a.example is the same as another pattern`},
		{"rules of rules", "{redirects: {a.example: {redirects: {}}}}", `1:34 egress.redirects.a.example.redirects: unknown key "redirects"`},
		{"everything private", "{private: true}", `1:10 egress.private: unknown key "private"`},
		{"a private that is neither", "{redirects: {a.example: {private: yes}}}", `1:43 egress.redirects.a.example.private: "yes" is not true or false`},
	} {
		t.Run(c.fact, func(t *testing.T) {
			_, err := load(t, "egress: "+c.text, nil)
			got := problems(t, err)
			if len(got) != 1 || !strings.HasPrefix(got[0], c.want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), c.want)
			}
			if strings.Contains(strings.Join(got, ""), "s3/cret") {
				t.Error("the password is told")
			}
		})
	}
	_, err := load(t, "upstreams:\n  quay.io:\n    egress:\n      ca_files: [/none]\n", nil)
	if got := problems(t, err); len(got) != 1 || !strings.HasPrefix(got[0], "4:18 upstreams.quay.io.egress.ca_files[0]: cannot be read") {
		t.Errorf("of an upstream, got %s", got)
	}
}

func TestPasswordOfAProxyComesFromAFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "proxy")
	if err := os.WriteFile(name, []byte("p@ss/word\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := mustLoad(t, "egress: {proxy: 'http://p:3128', proxy_username: me, proxy_password_file: "+name+"}", nil)
	if got := c.Egress.Proxy.Reveal().String(); got != "http://me:p%40ss%2Fword@p:3128" {
		t.Errorf("got %s", got)
	}
	var shown strings.Builder
	if err := c.Show(&shown); err != nil || !strings.Contains(shown.String(), "proxy_password_file: "+name) || strings.Contains(shown.String(), "p@ss") {
		t.Errorf("%v, shown as\n%s", err, shown.String())
	}
}
