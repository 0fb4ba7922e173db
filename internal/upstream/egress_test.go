package upstream

import (
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"

	"sampan/internal/oci"
	"sampan/internal/registrytest"
)

// rootsOf trusts a TLS registry and what else is given.
func rootsOf(reg *registrytest.Registry, more ...*x509.Certificate) *tls.Config {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(reg.CertPEM())
	for _, c := range more {
		pool.AddCert(c)
	}
	return &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
}

// hostOf is the "host:port" of an URL.
func hostOf(t *testing.T, s string) string {
	t.Helper()
	return mustURL(t, s).Host
}

// hubBehind starts a registry like Docker Hub at a name that nothing resolves.
func hubBehind(t *testing.T, useTLS bool) *registrytest.Registry {
	t.Helper()
	behavior := registrytest.DockerHub()
	behavior.Redirect.Target = registrytest.TargetSubdomain
	return registrytest.StartTest(t, registrytest.Options{Hostname: "registry.example", TLS: useTLS, Behavior: behavior})
}

func TestEverythingGoesThroughTheProxy(t *testing.T) {
	for _, scheme := range []string{"http", "https", "socks5", "socks5h"} {
		for _, useTLS := range []bool{true, false} {
			t.Run(scheme+map[bool]string{true: " to https", false: " to http"}[useTLS], func(t *testing.T) {
				reg := hubBehind(t, useTLS)
				front := tlsServer(t, nil) // for its certificate
				config := rootsOf(reg, front.Certificate())
				config.Certificates = front.TLS.Certificates // as a client's, which is not for the proxy
				var certificate *tls.Certificate
				if scheme == "https" {
					certificate = &front.TLS.Certificates[0]
				}
				proxy := startProxy(t, scheme, certificate)
				r := open(t, Options{Egress: Egress{Proxy: http.ProxyURL(proxy.url()), TLS: config, Resolver: nobody(t)}}, reg.URL())
				pull(t, reg, r)

				who, method := proxyUser+":"+proxyPassword+" ", "CONNECT "
				cdn := strings.Replace(hostOf(t, reg.CDNURL()), "registry.example", "cdn.registry.example", 1)
				want := []string{who + method + hostOf(t, reg.URL()), who + method + cdn, who + method + hostOf(t, reg.TokenURL())}
				got := proxy.targets()
				if !useTLS && strings.HasPrefix(scheme, "http") { // absolute form: compare hosts
					for i, line := range got {
						got[i] = who + method + hostOf(t, strings.TrimPrefix(line, who+"GET "))
						if strings.Contains(line, " HEAD ") {
							got[i] = who + method + hostOf(t, strings.TrimPrefix(line, who+"HEAD "))
						}
					}
				}
				slices.Sort(want)
				if got = slices.Compact(slices.Sorted(slices.Values(got))); !slices.Equal(got, want) {
					t.Errorf("the proxy was asked for\n%q, want\n%q", got, want)
				}
				for _, state := range proxy.tls {
					if len(state.PeerCertificates) > 0 || state.ServerName != "" && state.ServerName != "127.0.0.1" {
						t.Errorf("the proxy was shown %d certificates as %q", len(state.PeerCertificates), state.ServerName)
					}
				}
			})
		}
	}
}

func TestProxyOfTheEnvironmentIsUsedWhereNoneIsConfigured(t *testing.T) {
	for _, name := range []string{"HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "NO_PROXY", "no_proxy", "REQUEST_METHOD"} {
		t.Setenv(name, "")
	}
	reg := hubBehind(t, true)
	proxy, other := startProxy(t, "http", nil), startProxy(t, "http", nil)
	t.Setenv("HTTPS_PROXY", proxy.url().String())
	t.Setenv("NO_PROXY", "cdn.registry.example")
	hosts := map[string][]netip.Addr{"cdn.registry.example": {netip.MustParseAddr("127.0.0.1")}}
	egress := Egress{
		TLS: rootsOf(reg), Resolver: nobody(t), Hosts: hosts,
		Redirects: []Redirect{{Pattern: "cdn.registry.example", Private: true, Egress: Egress{TLS: rootsOf(reg), Hosts: hosts}}},
	}
	pull(t, reg, open(t, Options{Egress: egress}, reg.URL()))
	who := proxyUser + ":" + proxyPassword + " CONNECT "
	want := slices.Sorted(slices.Values([]string{who + hostOf(t, reg.URL()), who + hostOf(t, reg.TokenURL())}))
	if got := proxy.targets(); !slices.Equal(got, want) {
		t.Errorf("with NO_PROXY, the proxy was asked for %q, want %q", got, want)
	}
	if reg.Count(registrytest.KindCDN) == 0 {
		t.Error("what NO_PROXY names was not reached")
	}

	reg.ResetCounts()
	proxied := proxy.targets()
	egress.Proxy = http.ProxyURL(other.url())
	egress.Redirects = nil
	pull(t, reg, open(t, Options{Egress: egress}, reg.URL()))
	if got := proxy.targets(); !slices.Equal(got, proxied) || len(other.targets()) != 3 {
		t.Errorf("a proxy that is configured got %q, the environment's %q", other.targets(), got)
	}

	reg.ResetCounts()
	hosts["registry.example"] = hosts["cdn.registry.example"]
	egress.Proxy = http.ProxyURL(nil)
	egress.Hosts = hosts
	pull(t, reg, open(t, Options{Egress: egress}, reg.URL()))
	if got := proxy.targets(); !slices.Equal(got, proxied) {
		t.Errorf("without any proxy, the environment's got %q", got)
	}
}

func TestFailuresOfAProxyAreNamedWithoutItsPassword(t *testing.T) {
	reg := hubBehind(t, true)
	plain := hubBehind(t, false)
	gone := startProxy(t, "http", nil)
	gone.close()
	stranger := func(p *fakeProxy) *url.URL {
		u := p.url()
		u.User = url.UserPassword("crew", "s3cret")
		return u
	}
	forbids := startProxy(t, "http", nil)
	forbids.forbid(http.StatusForbidden)
	unauthorized := startProxy(t, "http", nil)
	unauthorized.forbid(http.StatusUnauthorized)
	nowhere := hubBehind(t, true)
	nowhereURL := nowhere.URL()
	_ = nowhere.Close()
	for fact, test := range map[string]struct {
		proxy    *url.URL
		endpoint string
		want     string
	}{
		"other credentials":           {stranger(startProxy(t, "http", nil)), reg.URL(), "the proxy on the way asks for other credentials"},
		"other credentials, to http":  {stranger(startProxy(t, "http", nil)), plain.URL(), "the proxy on the way asks for other credentials"},
		"other credentials, by 401":   {unauthorized.url(), reg.URL(), "the proxy on the way asks for other credentials"},
		"forbidden":                   {forbids.url(), reg.URL(), "the proxy on the way refuses with status 403"},
		"not behind it either":        {startProxy(t, "http", nil).url(), nowhereURL, "the proxy on the way refuses with status 502"},
		"connection refused":          {stranger(gone), reg.URL(), "the proxy on the way does not answer: connection refused"},
		"SOCKS: other credentials":    {stranger(startProxy(t, "socks5h", nil)), reg.URL(), "the SOCKS proxy on the way does not connect"},
		"SOCKS: not behind it either": {startProxy(t, "socks5h", nil).url(), nowhereURL, "the SOCKS proxy on the way does not connect"},
		"untrusted certificate": {
			startProxy(t, "https", &tlsServer(t, nil).TLS.Certificates[0]).url(), reg.URL(),
			"the proxy on the way does not answer: its TLS certificate is not trusted",
		},
	} {
		t.Run(fact, func(t *testing.T) {
			var log strings.Builder
			r := open(t, Options{
				Egress: Egress{Proxy: http.ProxyURL(test.proxy), TLS: rootsOf(reg), Resolver: nobody(t)},
				Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})),
			}, test.endpoint)
			_, err := r.Tags(t.Context(), repository(t, "a/b"))
			wantCode(t, err, oci.CodeUnavailable)
			if !strings.Contains(err.Error(), "cannot be reached: "+test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
			for _, secret := range []string{"s3cret", proxyPassword, url.QueryEscape(proxyPassword)} {
				if strings.Contains(err.Error()+log.String(), secret) {
					t.Errorf("the password is told: %v\n%s", err, log.String())
				}
			}
		})
	}
	if n := reg.Count(""); n != 0 {
		t.Errorf("the registry was asked %d times", n)
	}
}

func TestRedirectHostsHaveTheirOwnWay(t *testing.T) {
	reg := hubBehind(t, true)
	first, second := startProxy(t, "http", nil), startProxy(t, "socks5h", nil)
	complete := func(p *fakeProxy) Egress {
		return Egress{Proxy: http.ProxyURL(p.url()), TLS: rootsOf(reg), Resolver: nobody(t)}
	}
	e := complete(first)
	e.Redirects = []Redirect{
		{Pattern: "*.registry.example", Egress: complete(second)},
		{Pattern: "*", Egress: Egress{Proxy: func(*http.Request) (*url.URL, error) {
			t.Error("a rule after the first that matches, or one for the endpoint itself")
			return nil, nil
		}}},
	}
	pull(t, reg, open(t, Options{Egress: e}, reg.URL()))
	who := proxyUser + ":" + proxyPassword + " CONNECT "
	cdn := strings.Replace(hostOf(t, reg.CDNURL()), "registry.example", "cdn.registry.example", 1)
	if got := second.targets(); !slices.Equal(got, []string{who + cdn}) {
		t.Errorf("for the storage, its proxy was asked for %q", got)
	}
	// The token endpoint is at the endpoint's own host.
	want := slices.Sorted(slices.Values([]string{who + hostOf(t, reg.URL()), who + hostOf(t, reg.TokenURL())}))
	if got := first.targets(); !slices.Equal(got, want) {
		t.Errorf("for the registry, its proxy was asked for %q, want %q", got, want)
	}
}

func TestPatternsOfHosts(t *testing.T) {
	for _, test := range []struct {
		pattern, host string
		want          bool
	}{
		{"a.example", "a.example", true},
		{"a.example", "A.Example.", true},
		{"a.example", "b.a.example", false},
		{"*.a.example", "b.a.example", true},
		{"*.a.example", "c.b.a.example", true},
		{"*.a.example", "a.example", false},
		{"*.a.example", "ba.example", false},
		{"*.a.example", ".a.example", false},
		{"*", "anything", true},
		{"10.0.0.1", "10.0.0.1", true},
		{"2001:db8::1", "2001:DB8::1", true},
	} {
		if got := (Redirect{Pattern: test.pattern}).matches(test.host); got != test.want {
			t.Errorf("%s and %s: got %v", test.pattern, test.host, got)
		}
	}
}
