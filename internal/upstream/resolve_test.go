package upstream

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"sampan/internal/oci"
	"sampan/internal/registrytest"
)

// allNames lead the names of hubBehind to this machine.
func allNames() map[string]string {
	return map[string]string{"registry.example.": "127.0.0.1", "cdn.registry.example.": "127.0.0.1"}
}

func TestNamesAreResolvedByTheConfiguredServers(t *testing.T) {
	for _, network := range []string{"udp", "tcp", "https", "udp that does not fit"} {
		t.Run(network, func(t *testing.T) {
			reg := hubBehind(t, true)
			server := startDNS(t, allNames())
			scheme, _, cut := strings.Cut(network, " ")
			at := server.at(t, scheme)
			server.set(func(s *fakeDNS) { s.cut = cut })
			config := rootsOf(reg)
			spoken := make(chan string, 100)
			if scheme == "https" {
				front := tlsServer(t, func(w http.ResponseWriter, req *http.Request) {
					if req.URL.Path == "/dns-query" && len(req.TLS.PeerCertificates) == 0 {
						spoken <- req.Proto
						server.serveHTTP(w, req)
					}
				})
				front.TLS.ClientAuth = tls.RequestClientCert
				config = rootsOf(reg, front.Certificate())
				config.Certificates = front.TLS.Certificates // as a client's, which is not for the DNS
				at = front.URL + "/dns-query"
			}
			r := open(t, Options{Egress: Egress{DNS: urls(t, at), Proxy: noProxy, TLS: config, Resolver: nobody(t)}}, reg.URL())
			pull(t, reg, r)
			want := []string{scheme + " cdn.registry.example.", scheme + " registry.example."}
			if cut {
				want = append([]string{"tcp cdn.registry.example.", "tcp registry.example."}, want...)
			}
			if got := server.names(); !slices.Equal(got, want) {
				t.Errorf("the server was asked for %q, want %q", got, want)
			}
			if scheme == "https" {
				if got := <-spoken; got != "HTTP/2.0" {
					t.Errorf("DNS over HTTPS was spoken as %q", got)
				}
			}
		})
	}
}

// lookupAt resolves one name at servers.
func lookupAt(t *testing.T, name string, servers ...string) ([]netip.Addr, error) {
	t.Helper()
	r := newResolver(Egress{DNS: urls(t, servers...)})
	t.Cleanup(r.close)
	return r.lookup(t.Context(), name)
}

func TestTheNextServerIsAskedWhenOneGivesNoAnswer(t *testing.T) {
	code := func(c dnsmessage.RCode) func(*testing.T, *fakeDNS) string {
		return func(t *testing.T, s *fakeDNS) string {
			return s.set(func(s *fakeDNS) { s.code = c }).at(t, "udp")
		}
	}
	for fact, fail := range map[string]func(*testing.T, *fakeDNS) string{
		"nobody listens": func(t *testing.T, s *fakeDNS) string { _ = s.udp.Close(); return s.at(t, "udp") },
		"it fails":       code(dnsmessage.RCodeServerFailure),
		"it refuses":     code(dnsmessage.RCodeRefused),
		"it hangs up": func(t *testing.T, s *fakeDNS) string {
			return s.set(func(s *fakeDNS) { s.silent = true }).at(t, "tcp")
		},
		"HTTPS without TLS": func(t *testing.T, s *fakeDNS) string {
			return strings.Replace(newFake(t, s.serveHTTP).URL, "http:", "https:", 1)
		},
	} {
		t.Run(fact, func(t *testing.T) {
			bad := startDNS(t, nil)
			at := fail(t, bad)
			good := startDNS(t, map[string]string{"a.example.": "192.0.2.1"})
			r := newResolver(Egress{DNS: urls(t, at, good.at(t, "udp"))})
			t.Cleanup(r.close)
			for range 3 {
				addrs, err := r.lookup(t.Context(), "A.example")
				if err != nil || len(addrs) != 1 || addrs[0].String() != "192.0.2.1" {
					t.Fatalf("got %v, %v", addrs, err)
				}
			}
			if got := good.names(); !slices.Equal(got, []string{"udp a.example."}) {
				t.Errorf("the next server was asked for %q", got)
			}
			bad.forget()
			if _, err := r.lookup(t.Context(), "a.example"); err != nil || len(bad.names()) != 0 {
				t.Errorf("the server that gave no answer was asked first again: %q, %v", bad.names(), err)
			}
		})
	}
}

func TestThatANameDoesNotExistIsAnAnswer(t *testing.T) {
	first, second := startDNS(t, nil), startDNS(t, allNames())
	_, err := lookupAt(t, "registry.example", first.at(t, "udp"), second.at(t, "udp"))
	if dns := (*net.DNSError)(nil); !errors.As(err, &dns) || !dns.IsNotFound {
		t.Errorf("got %v", err)
	}
	if got := second.names(); len(got) != 0 {
		t.Errorf("another server was asked for %q", got)
	}
}

func TestFailuresOfTheDNSAreNamed(t *testing.T) {
	broken := startDNS(t, nil).set(func(s *fakeDNS) { s.code = dnsmessage.RCodeServerFailure })
	secret := tlsServer(t, func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusForbidden) })
	pool := x509.NewCertPool()
	pool.AddCert(secret.Certificate())
	for fact, test := range map[string]struct{ server, want, cause string }{
		"no such name":  {startDNS(t, nil).at(t, "udp"), "its name does not exist in the DNS", "no such host"},
		"no answer":     {broken.at(t, "udp"), "none of the configured DNS servers answers", broken.at(t, "udp")},
		"status 403":    {secret.URL + "/s3cret", "none of the configured DNS servers answers", "status 403"},
		"wrong content": {tlsAnswer(t, pool, "text/html", 10), "none of the configured DNS servers answers", `answered with "text/html"`},
		"too long":      {tlsAnswer(t, pool, "application/dns-message", 64<<10), "none of the configured DNS servers answers", "too large"},
	} {
		t.Run(fact, func(t *testing.T) {
			e := Egress{DNS: urls(t, test.server), Proxy: noProxy, TLS: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}
			r := open(t, Options{Egress: e}, "https://registry.example")
			_, err := r.Tags(t.Context(), repository(t, "a/b"))
			wantCode(t, err, oci.CodeUnavailable)
			if !strings.Contains(err.Error(), "docker.io cannot be reached: "+test.want) || !strings.Contains(err.Error(), test.cause) ||
				strings.Contains(err.Error(), "s3cret") {
				t.Errorf("got %v", err)
			}
		})
	}
}

// tlsAnswer is a server that gives one answer of so many bytes to everything.
func tlsAnswer(t *testing.T, pool *x509.CertPool, kind string, size int) string {
	t.Helper()
	s := tlsServer(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", kind)
		_, _ = w.Write(make([]byte, size))
	})
	pool.AddCert(s.Certificate())
	return s.URL
}

func TestSilentServerIsGivenUpAndThenAskedLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked []string
		server := func(name string, works *bool) *dnsServer {
			return &dnsServer{name: name, lookup: func(ctx context.Context, _ string) ([]netip.Addr, error) {
				asked = append(asked, name)
				if *works {
					return []netip.Addr{netip.MustParseAddr("192.0.2.1")}, nil
				}
				<-ctx.Done()
				return nil, &net.DNSError{Err: "timeout", IsTimeout: true}
			}}
		}
		var first, second bool
		r := &resolver{servers: []*dnsServer{server("first", &first), server("second", &second)}}
		ask := func(want string, wantErr error, took time.Duration) {
			t.Helper()
			asked = nil
			start := time.Now()
			_, err := r.lookup(t.Context(), "a.example")
			if got := strings.Join(asked, " "); got != want || !errors.Is(err, wantErr) || time.Since(start) != took {
				t.Errorf("asked %q, want %q, in %v; %v", got, want, time.Since(start), err)
			}
		}
		ask("first second first second", errNoDNS, 4*serverTimeout)
		first, second = false, true
		time.Sleep(serverPause)
		ask("first second", nil, serverTimeout)
		ask("second", nil, 0)
		first = true
		time.Sleep(serverPause)
		ask("first", nil, 0)

		// Whoever leaves says nothing about a server.
		first = false
		ctx, cancel := context.WithCancel(t.Context())
		go func() { time.Sleep(time.Second); cancel() }()
		if _, err := r.lookup(ctx, "a.example"); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		first = true
		ask("first", nil, 0)
	})
}

func TestHostEntriesAskNobody(t *testing.T) {
	reg := hubBehind(t, true)
	server := startDNS(t, allNames())
	// The first address refuses: the second is tried.
	refuses := netip.MustParseAddr("127.0.0.99")
	e := Egress{Proxy: noProxy, DNS: urls(t, server.at(t, "udp")), TLS: rootsOf(reg), Resolver: nobody(t), Hosts: map[string][]netip.Addr{
		"registry.example": {refuses, netip.MustParseAddr("::ffff:127.0.0.1")},
	}}
	pull(t, reg, open(t, Options{Egress: e}, reg.URL()))
	if got := server.names(); !slices.Equal(got, []string{"udp cdn.registry.example."}) {
		t.Errorf("the server was asked for %q", got)
	}
}

func TestAProxyIsFoundByHostEntriesAndDNS(t *testing.T) {
	reg := hubBehind(t, true)
	proxy := startProxy(t, "http", nil)
	server := startDNS(t, map[string]string{"proxy.example.": "127.0.0.1"})
	u := proxy.url()
	u.Host = "proxy.example:" + u.Port()
	pull(t, reg, open(t, Options{Egress: Egress{
		Proxy: http.ProxyURL(u), DNS: urls(t, server.at(t, "udp")), TLS: rootsOf(reg), Resolver: nobody(t),
	}}, reg.URL()))
	if got := server.names(); !slices.Equal(got, []string{"udp proxy.example."}) || len(proxy.targets()) != 3 {
		t.Errorf("the server was asked for %q, the proxy for %q", got, proxy.targets())
	}
}

func TestConnectionsLeaveFromTheSourceAddress(t *testing.T) {
	server := startDNS(t, map[string]string{"registry.example.": "127.0.0.1"})
	from := make(chan string, 2)
	front := newFake(t, func(w http.ResponseWriter, req *http.Request) {
		host, _, _ := net.SplitHostPort(req.RemoteAddr)
		from <- host
		_, _ = w.Write([]byte(`{"tags":["a"]}`))
	})
	for _, scheme := range []string{"udp", "tcp"} {
		server.forget()
		e := Egress{Proxy: noProxy, DNS: urls(t, server.at(t, scheme)), Source: netip.MustParseAddr("127.0.0.7")}
		r := open(t, Options{Egress: e}, "http://registry.example:"+portOf(t, front.Server))
		if _, err := r.Tags(t.Context(), repository(t, "a/b")); err != nil {
			t.Fatal(err)
		}
		clients := append(server.clients(), <-from)
		if len(clients) < 2 {
			t.Errorf("%s: the server was not asked", scheme)
		}
		for _, host := range clients {
			if host != "127.0.0.7" {
				t.Errorf("%s: came from %s", scheme, host)
			}
		}
	}
	e := Egress{Proxy: noProxy, Source: netip.MustParseAddr("::1"), Hosts: map[string][]netip.Addr{"registry.example": {netip.MustParseAddr("127.0.0.1")}}}
	_, err := open(t, Options{Egress: e}, "http://registry.example").Tags(t.Context(), repository(t, "a/b"))
	if err == nil || !strings.Contains(err.Error(), "registry.example has no address that ::1 can connect to") {
		t.Errorf("got %v", err)
	}
}

func TestBadServersAreRefusedAtTheStart(t *testing.T) {
	for _, s := range []string{"udp://dns.example:53", "tls://1.1.1.1", "1.1.1.1", "https:///x", "http://1.1.1.1/secret"} {
		_, err := New(Options{
			Registry: oci.DockerHub, Endpoints: urls(t, "https://a.example"),
			Egress: Egress{Redirects: []Redirect{{Pattern: "*", Egress: Egress{DNS: []*url.URL{mustURL(t, s)}}}}},
		})
		if err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: got %v", s, err)
		}
	}
}

// An address that only the operator's entry or server gave is private all the
// same: the remote party chose the name.
func TestOwnResolutionOpensNothing(t *testing.T) {
	inside := newFake(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("secret")) })
	entry := map[string][]netip.Addr{"inside.example": {netip.MustParseAddr("127.0.0.1")}}
	server := startDNS(t, map[string]string{"inside.example.": "127.0.0.1"})
	rule := func(private bool) []Redirect {
		return []Redirect{{Pattern: "inside.example", Private: private, Egress: Egress{Proxy: noProxy, Hosts: entry}}}
	}
	for fact, test := range map[string]struct {
		egress     Egress
		publicOnly bool
		endpoint   string
		allowed    bool
	}{
		"a host entry":                          {egress: Egress{Hosts: entry}},
		"a server":                              {egress: Egress{DNS: urls(t, server.at(t, "udp"))}},
		"a rule that says nothing":              {egress: Egress{Redirects: rule(false)}},
		"a rule that allows it":                 {egress: Egress{Redirects: rule(true)}, allowed: true},
		"a rule, for one whom a client chose":   {egress: Egress{Redirects: rule(true)}, publicOnly: true},
		"an endpoint that is private":           {egress: Egress{Hosts: entry}, endpoint: "http://10.0.0.1", allowed: true},
		"an endpoint that is, but not believed": {egress: Egress{Hosts: entry}, endpoint: "http://10.0.0.1", publicOnly: true},
	} {
		t.Run(fact, func(t *testing.T) {
			test.egress.Proxy = noProxy
			if test.endpoint == "" {
				test.endpoint = "https://registry.example"
			}
			transport := NewTransport(TransportOptions{Endpoints: urls(t, test.endpoint), PublicOnly: test.publicOnly, Egress: test.egress})
			t.Cleanup(transport.CloseIdleConnections)
			before := len(inside.all())
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://inside.example:"+portOf(t, inside.Server), nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := transport.RoundTrip(req)
			if err == nil {
				_ = resp.Body.Close()
			}
			if test.allowed != (err == nil) || !test.allowed && !errors.Is(err, errPrivate) {
				t.Errorf("got %v", err)
			}
			if asked := len(inside.all()) > before; asked != test.allowed {
				t.Errorf("asked: %v", asked)
			}
		})
	}
}

// A rule may name a private number itself; without it, the number is refused
// before anything is dialled.
func TestRuleForAPrivateNumber(t *testing.T) {
	for private, want := range map[bool]bool{true: true, false: false} {
		g := NewTransport(TransportOptions{Endpoints: urls(t, "https://registry.example"), Egress: Egress{
			Redirects: []Redirect{{Pattern: "10.0.0.1", Private: private}},
		}}).guard
		if err := g.checkURL(mustURL(t, "https://10.0.0.1/x")); (err == nil) != want {
			t.Errorf("private %v: got %v", private, err)
		}
		if err := g.checkURL(mustURL(t, "https://10.0.0.2/x")); !errors.Is(err, errPrivate) {
			t.Errorf("another address: got %v", err)
		}
	}
}

// The host of a proxy is no place that a redirect may lead to, although the
// proxy itself may be private.
func TestARedirectToTheProxyIsRefused(t *testing.T) {
	reg := registrytest.StartTest(t, registrytest.Options{})
	proxy := startProxy(t, "http", nil)
	e := Egress{Proxy: http.ProxyURL(proxy.url()), Redirects: []Redirect{
		{Pattern: "*", Egress: Egress{Proxy: noProxy, Hosts: map[string][]netip.Addr{"proxy.example": {netip.MustParseAddr("127.0.0.1")}}}},
	}}
	transport := NewTransport(TransportOptions{Endpoints: urls(t, "http://registry.example:"+mustURL(t, reg.URL()).Port()), Egress: e})
	t.Cleanup(transport.CloseIdleConnections)
	for at, allowed := range map[string]bool{
		"http://registry.example:" + mustURL(t, reg.URL()).Port() + "/v2/": true,
		"http://proxy.example:" + mustURL(t, proxy.url().String()).Port():  false,
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, at, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := transport.RoundTrip(req)
		if err == nil {
			_ = resp.Body.Close()
		}
		if (err == nil) != allowed || !allowed && !errors.Is(err, errPrivate) {
			t.Errorf("%s: got %v", at, err)
		}
	}
	want := fmt.Sprintf("%s:%s GET http://registry.example:%s/v2/", proxyUser, proxyPassword, mustURL(t, reg.URL()).Port())
	if got := proxy.targets(); !slices.Equal(got, []string{want}) {
		t.Errorf("the proxy was asked for %q", got)
	}
}
