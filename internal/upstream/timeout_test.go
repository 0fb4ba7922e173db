package upstream

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"sampan/internal/oci"
)

// Each timeout ends what would otherwise last for a minute.
func TestEachTimeoutOfAnEgressCounts(t *testing.T) {
	const short = 20 * time.Millisecond
	silent, err := net.Listen("tcp", "127.0.0.1:0") // accepts, by its backlog, and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Close() }()
	deaf := startDNS(t, nil).set(func(s *fakeDNS) { s.silent = true })
	hang := func(_ http.ResponseWriter, req *http.Request) { <-req.Context().Done() }
	doh := tlsServer(t, hang)
	pool := x509.NewCertPool()
	pool.AddCert(doh.Certificate())
	hanging := newFake(t, hang)
	for fact, test := range map[string]struct {
		egress   Egress
		endpoint string
	}{
		"dial": {Egress{DialTimeout: short, DNS: urls(t, deaf.at(t, "udp"))}, "http://registry.example"},
		"dial, by DNS over HTTPS": {
			Egress{DialTimeout: short, DNS: urls(t, doh.URL), TLS: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}, "http://registry.example",
		},
		"tls":             {Egress{TLSTimeout: short}, "https://" + silent.Addr().String()},
		"headers":         {Egress{HeaderTimeout: short}, hanging.URL},
		"tls, of a proxy": {Egress{TLSTimeout: short, Proxy: http.ProxyURL(mustURL(t, "https://"+silent.Addr().String()))}, "https://registry.example"},
	} {
		t.Run(fact, func(t *testing.T) {
			if test.egress.Proxy == nil {
				test.egress.Proxy = noProxy
			}
			start := time.Now()
			_, err := open(t, Options{Egress: test.egress}, test.endpoint).Tags(t.Context(), repository(t, "a/b"))
			wantCode(t, err, oci.CodeUnavailable)
			if took := time.Since(start); took < short || took > 10*time.Second-short {
				t.Errorf("took %v: %v", took, err)
			}
		})
	}
}

func TestBytesMayStandStillAsTheWayThereSays(t *testing.T) {
	blob := randomBytes(100)
	storage := newFake(t, func(w http.ResponseWriter, req *http.Request) {
		_, _ = w.Write(blob[:50])
		_ = http.NewResponseController(w).Flush()
		<-req.Context().Done()
	})
	front := newFake(t, func(w http.ResponseWriter, req *http.Request) {
		http.Redirect(w, req, "http://localhost:"+portOf(t, storage.Server), http.StatusTemporaryRedirect)
	})
	e := Egress{Proxy: noProxy, StallTimeout: time.Hour, Redirects: []Redirect{
		{Pattern: "localhost", Egress: Egress{Proxy: noProxy, StallTimeout: 20 * time.Millisecond}},
	}}
	r := open(t, Options{Egress: e, StallTimeout: 2 * time.Hour}, front.URL)
	part, err := r.FetchBlob(repository(t, "a/b"), oci.DigestOf(blob)).Part(t.Context(), 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = part.Body.Close() }()
	got, err := io.ReadAll(part.Body)
	wantCode(t, err, oci.CodeUnavailable)
	if len(got) > 50 {
		t.Errorf("got %d bytes", len(got))
	}
	if got := r.stallOf(mustURL(t, front.URL)); got != time.Hour {
		t.Errorf("for the endpoint it is %v", got)
	}
	if got := open(t, Options{StallTimeout: 2 * time.Hour}, front.URL).stallOf(mustURL(t, front.URL)); got != 2*time.Hour {
		t.Errorf("where the egress says nothing it is %v", got)
	}
}

// A question lasts as long as its parts may.
func TestAQuestionHasTimeForItsParts(t *testing.T) {
	e := Egress{HeaderTimeout: time.Minute, Redirects: []Redirect{{Pattern: "*", Egress: Egress{HeaderTimeout: 5 * time.Minute}}}}
	if got, want := open(t, Options{Egress: e}, "https://a.example").timeout, 5*time.Minute+20*time.Second; got != want {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := open(t, Options{}, "https://a.example").timeout; got != time.Minute {
		t.Errorf("by default, got %v", got)
	}
}
