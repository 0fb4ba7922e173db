package upstream

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"sampan/internal/oci"
)

func TestPrivateAddresses(t *testing.T) {
	for addr, want := range map[string]bool{
		"10.1.2.3": true, "172.16.0.1": true, "172.32.0.1": false, "192.168.1.1": true, "127.0.0.1": true, "127.255.0.1": true,
		"169.254.169.254": true, "0.0.0.0": true, "0.1.2.3": true, "100.64.0.1": true, "100.100.100.200": true, "100.128.0.1": false,
		"224.0.0.1": true, "255.255.255.255": true, "8.8.8.8": false, "198.18.0.1": false,
		"::1": true, "::": true, "fe80::1": true, "fe80::1%eth0": true, "fc00::1": true, "fd12::1": true, "fec0::1": true, "ff02::1": true,
		"::ffff:10.0.0.1": true, "::ffff:8.8.8.8": false, "64:ff9b::7f00:1": true, "64:ff9b::808:808": false,
		"2002:7f00:1::": true, "2002:808:808::": false, "2606:4700::1111": false,
	} {
		if got := isPrivate(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s: got %v", addr, got)
		}
	}
}

// loopbackResolver answers every name with 127.0.0.1, without a network.
func loopbackResolver(t *testing.T) *net.Resolver {
	t.Helper()
	return &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		near, far := net.Pipe()
		go serveDNS(far)
		return near, nil
	}}
}

// serveDNS answers one connection as over TCP (RFC 1035, section 4.2.2).
func serveDNS(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	for {
		head := make([]byte, 2)
		if _, err := readFull(conn, head); err != nil {
			return
		}
		b := make([]byte, int(head[0])<<8|int(head[1]))
		if _, err := readFull(conn, b); err != nil {
			return
		}
		var m dnsmessage.Message
		if m.Unpack(b) != nil || len(m.Questions) == 0 {
			return
		}
		m.Response, m.RecursionAvailable, m.Additionals = true, true, nil
		if q := m.Questions[0]; q.Type == dnsmessage.TypeA {
			m.Answers = []dnsmessage.Resource{{
				Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 1},
				Body:   &dnsmessage.AResource{A: [4]byte{127, 0, 0, 1}},
			}}
		}
		b, err := m.Pack()
		if err != nil {
			return
		}
		if _, err := conn.Write(append([]byte{byte(len(b) >> 8), byte(len(b))}, b...)); err != nil {
			return
		}
	}
}

func readFull(conn net.Conn, b []byte) (int, error) {
	n := 0
	for n < len(b) {
		m, err := conn.Read(b[n:])
		n += m
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

func portOf(t *testing.T, server *httptest.Server) string {
	t.Helper()
	u := mustURL(t, server.URL)
	return u.Port()
}

func TestNameThatARemotePartyChoseMustNotLeadInside(t *testing.T) {
	inside := newFake(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("secret")) })
	transport := NewTransport(TransportOptions{
		Endpoints: []*url.URL{mustURL(t, "https://registry.example")},
		Egress:    Egress{Resolver: loopbackResolver(t), Proxy: noProxy},
	})
	t.Cleanup(transport.CloseIdleConnections)
	req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://rebind.example:"+portOf(t, inside.Server)+"/", nil)
	resp, err := transport.RoundTrip(req)
	if err == nil {
		_ = resp.Body.Close()
	}
	if !errors.Is(err, errPrivate) {
		t.Errorf("got %v", err)
	}
	if len(inside.all()) != 0 {
		t.Error("the server inside was asked")
	}
}

func noProxy(*http.Request) (*url.URL, error) { return nil, nil }

func TestEndpointThatAnswersFromAPrivateAddressMayLeadInside(t *testing.T) {
	blob := randomBytes(100)
	inside := newFake(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(blob) })
	var target string
	front := newFake(t, func(w http.ResponseWriter, req *http.Request) {
		http.Redirect(w, req, target, http.StatusTemporaryRedirect)
	})
	target = "http://storage.corp.example:" + portOf(t, inside.Server) + "/x"
	endpoint := "http://registry.corp.example:" + portOf(t, front.Server)
	transport := NewTransport(TransportOptions{
		Endpoints: []*url.URL{mustURL(t, endpoint)}, Egress: Egress{Resolver: loopbackResolver(t), Proxy: noProxy},
	})
	r := open(t, Options{Transport: transport}, endpoint)
	b, err := r.Blob(t.Context(), repository(t, "a/b"), oci.DigestOf(blob))
	if err != nil {
		t.Fatal(err)
	}
	if string(readAll(t, b)) != string(blob) {
		t.Error("wrong bytes")
	}
}

func TestForgedNameOfAnEndpointOpensNothing(t *testing.T) {
	// The server speaks no TLS: the endpoint is connected to and never answers.
	inside := newFake(t, func(w http.ResponseWriter, _ *http.Request) {})
	endpoint := mustURL(t, "https://registry.example:"+portOf(t, inside.Server))
	transport := NewTransport(TransportOptions{Endpoints: []*url.URL{endpoint}, Egress: Egress{Resolver: loopbackResolver(t), Proxy: noProxy}})
	r := open(t, Options{Transport: transport}, endpoint.String())
	_, err := r.Tags(t.Context(), repository(t, "a/b"))
	wantCode(t, err, oci.CodeUnavailable)
	if !strings.Contains(err.Error(), "TLS") {
		t.Errorf("does not say what to do: %v", err)
	}
	if err := r.guard.checkURL(mustURL(t, "http://127.0.0.1/")); !errors.Is(err, errPrivate) {
		t.Errorf("got %v", err)
	}
}

func TestProxyMayBePrivateAndProvesNothing(t *testing.T) {
	proxy := newFake(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"tags":["a"]}`)) })
	endpoint := "http://registry.example"
	transport := NewTransport(TransportOptions{
		Endpoints: []*url.URL{mustURL(t, endpoint)},
		Egress:    Egress{Proxy: func(*http.Request) (*url.URL, error) { return url.Parse(proxy.URL) }},
	})
	r := open(t, Options{Transport: transport}, endpoint)
	tags, err := r.Tags(t.Context(), repository(t, "a/b"))
	if err != nil || len(tags) != 1 {
		t.Fatalf("got %v, %v", tags, err)
	}
	if got := proxy.asked(); len(got) != 1 || got[0] != "GET http://registry.example/v2/a/b/tags/list" {
		t.Errorf("the proxy was asked for %q", got)
	}
	if err := r.guard.checkURL(mustURL(t, "http://127.0.0.1/")); !errors.Is(err, errPrivate) {
		t.Errorf("got %v", err)
	}
}

func TestRegistryIsSpokenToWithHTTP2AndStorageWithHTTP1(t *testing.T) {
	blob := randomBytes(100_000)
	var proto [2]string
	storage := tlsServer(t, func(w http.ResponseWriter, req *http.Request) { proto[1] = req.Proto; _, _ = w.Write(blob) })
	front := tlsServer(t, func(w http.ResponseWriter, req *http.Request) {
		proto[0] = req.Proto
		http.Redirect(w, req, storage.URL, http.StatusTemporaryRedirect)
	})
	pool := x509.NewCertPool()
	pool.AddCert(front.Certificate())
	pool.AddCert(storage.Certificate())
	for name, test := range map[string]struct {
		o    TransportOptions
		want [2]string
	}{
		"default":       {TransportOptions{}, [2]string{"HTTP/2.0", "HTTP/1.1"}},
		"HTTP1":         {TransportOptions{HTTP1: true}, [2]string{"HTTP/1.1", "HTTP/1.1"}},
		"StorageHTTP2":  {TransportOptions{StorageHTTP2: true}, [2]string{"HTTP/2.0", "HTTP/2.0"}},
		"both are said": {TransportOptions{HTTP1: true, StorageHTTP2: true}, [2]string{"HTTP/1.1", "HTTP/1.1"}},
	} {
		t.Run(name, func(t *testing.T) {
			test.o.Endpoints = []*url.URL{mustURL(t, front.URL)}
			test.o.Egress.TLS = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
			r := open(t, Options{Transport: NewTransport(test.o)}, front.URL)
			b, err := r.Blob(t.Context(), repository(t, "a/b"), oci.DigestOf(blob))
			if err != nil {
				t.Fatal(err)
			}
			if string(readAll(t, b)) != string(blob) {
				t.Error("wrong bytes")
			}
			if proto != test.want {
				t.Errorf("spoke %v, want %v", proto, test.want)
			}
		})
	}
}

func tlsServer(t *testing.T, answer http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewUnstartedServer(answer)
	s.EnableHTTP2 = true
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

func TestUntrustedCertificateIsNamed(t *testing.T) {
	front := tlsServer(t, func(http.ResponseWriter, *http.Request) {})
	r := open(t, Options{}, front.URL)
	_, err := r.Tags(t.Context(), repository(t, "a/b"))
	wantCode(t, err, oci.CodeUnavailable)
	if !strings.Contains(err.Error(), "certificate is not trusted") {
		t.Errorf("got %v", err)
	}
}
