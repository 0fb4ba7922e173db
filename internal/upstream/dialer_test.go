package upstream

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"sampan/internal/oci"
)

// A closing is a connection that tells whether it was asked for and closed.
type closing struct {
	net.Conn
	tried, closed bool
}

func (c *closing) Close() error { c.closed = true; return nil }

func TestAddressesOfANameAreTriedWithAHeadStart(t *testing.T) {
	type address struct {
		after time.Duration // when it answers
		err   error
		deaf  bool // it answers even when nobody waits any more
	}
	errOther := errors.New("another")
	for fact, test := range map[string]struct {
		addrs []address
		want  int // whose connection it is; -1 for none
		err   error
		took  time.Duration
		tried int
	}{
		"the first answers":               {addrs: []address{{after: 299 * time.Millisecond}, {}}, want: 0, took: 299 * time.Millisecond, tried: 1},
		"the first refuses":               {addrs: []address{{err: syscall.ECONNREFUSED}, {}}, want: 1, tried: 2},
		"the first is silent":             {addrs: []address{{after: time.Hour}, {after: time.Second}, {after: time.Hour}}, want: 1, took: headStart + time.Second, tried: 3},
		"the first is slow, and wins":     {addrs: []address{{after: 500 * time.Millisecond}, {after: time.Hour}}, want: 0, took: 500 * time.Millisecond, tried: 2},
		"all refuse":                      {addrs: []address{{err: syscall.ECONNREFUSED}, {err: errOther}}, want: -1, err: syscall.ECONNREFUSED, tried: 2},
		"the second answers all the same": {addrs: []address{{after: 400 * time.Millisecond}, {after: 200 * time.Millisecond, deaf: true}}, want: 0, took: 500 * time.Millisecond, tried: 2},
	} {
		t.Run(fact, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				conns := make([]closing, len(test.addrs)) // each goroutine has its own
				dial := func(ctx context.Context, _, to string) (net.Conn, error) {
					i := int(to[0] - '0')
					conns[i].tried = true
					a := test.addrs[i]
					if a.deaf {
						ctx = context.WithoutCancel(ctx)
					}
					select {
					case <-time.After(a.after):
						if a.err != nil {
							return nil, a.err
						}
						return &conns[i], nil
					case <-ctx.Done():
						return nil, ctx.Err()
					}
				}
				var names []string
				for i := range test.addrs {
					names = append(names, string(rune('0'+i)))
				}
				start := time.Now()
				got, err := connectFirst(t.Context(), dial, names)
				if !errors.Is(err, test.err) || time.Since(start) != test.took {
					t.Errorf("took %v, %v", time.Since(start), err)
				}
				tried := 0
				for i := range conns {
					c := &conns[i]
					if c.tried {
						tried++
					}
					won := i == test.want
					if won != (got == net.Conn(c)) || won && c.closed || test.addrs[i].deaf && !c.closed {
						t.Errorf("address %d: won %v, closed %v", i, got == net.Conn(c), c.closed)
					}
				}
				if tried != test.tried {
					t.Errorf("%d were tried, want %d", tried, test.tried)
				}
			})
		})
	}
}

// Certificates of the client are for the endpoint and for rules that name one,
// whoever asks.
func TestClientCertificatesAreShownToTheirHostsOnly(t *testing.T) {
	blob := randomBytes(100)
	shown := map[string]chan int{} // names of certificates, by server
	pool := x509.NewCertPool()
	server := func(name string, answer http.HandlerFunc) string {
		shown[name] = make(chan int, 10)
		s := tlsServer(t, func(w http.ResponseWriter, req *http.Request) {
			shown[name] <- len(req.TLS.PeerCertificates)
			answer(w, req)
		})
		s.TLS.ClientAuth = tls.RequestClientCert
		pool.AddCert(s.Certificate())
		return portOf(t, s)
	}
	send := func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(blob) }
	plain, named := server("plain", send), server("named", send)
	var front string
	front = server("front", func(w http.ResponseWriter, req *http.Request) {
		switch {
		case strings.HasPrefix(req.URL.Path, "/v2/a/plain/"):
			http.Redirect(w, req, "https://plain.example.com:"+plain, http.StatusTemporaryRedirect)
		case strings.HasPrefix(req.URL.Path, "/v2/a/named/"):
			http.Redirect(w, req, "https://named.example.com:"+named, http.StatusTemporaryRedirect)
		case strings.HasPrefix(req.URL.Path, "/v2/a/self/"):
			http.Redirect(w, req, "https://example.com:"+front+"/storage", http.StatusTemporaryRedirect)
		default:
			send(w, req)
		}
	})
	own, other := tlsServer(t, nil).TLS.Certificates, tlsServer(t, nil).TLS.Certificates
	here := []netip.Addr{netip.MustParseAddr("127.0.0.1")}
	e := Egress{
		Proxy: noProxy, Resolver: nobody(t), TLS: &tls.Config{RootCAs: pool, Certificates: own, MinVersion: tls.VersionTLS12},
		Hosts: map[string][]netip.Addr{"example.com": here, "plain.example.com": here},
		Redirects: []Redirect{{Pattern: "named.*", Egress: Egress{}}, {Pattern: "named.example.com", Egress: Egress{
			Proxy: noProxy, Hosts: map[string][]netip.Addr{"named.example.com": here},
			TLS: &tls.Config{RootCAs: pool, Certificates: other, MinVersion: tls.VersionTLS12},
		}}},
	}
	for _, test := range []struct {
		name         string
		publicOnly   bool
		front, there int // certificates that are shown
	}{
		{name: "plain", front: 1, there: 0},
		{name: "named", front: 1, there: 1},
		{name: "self", front: 1},
	} {
		r := open(t, Options{Egress: e}, "https://example.com:"+front)
		b, err := r.Blob(t.Context(), repository(t, "a/"+test.name), oci.DigestOf(blob))
		if err != nil {
			t.Fatal(err)
		}
		_ = readAll(t, b)
		if got := <-shown["front"]; got != test.front {
			t.Errorf("%s: the endpoint was shown %d certificates", test.name, got)
		}
		if test.name == "self" {
			if got := <-shown["front"]; got != 1 {
				t.Errorf("redirected to itself, the endpoint was shown %d certificates", got)
			}
			continue
		}
		if got := <-shown[test.name]; got != test.there {
			t.Errorf("%s: the target was shown %d certificates", test.name, got)
		}
	}
	stranger := NewTransport(TransportOptions{Endpoints: urls(t, "https://example.com"), PublicOnly: true, Egress: e})
	if stranger.own.common.TLSClientConfig.Certificates != nil || stranger.own.storage.TLSClientConfig.Certificates != nil {
		t.Error("a registry whom a client chose would be shown the certificate")
	}
}
