package registrytest_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"sampan/internal/oci"
	"sampan/internal/registrytest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start is a registry for one test.
func start(t *testing.T, opts registrytest.Options) *registrytest.Registry {
	t.Helper()
	return registrytest.StartTest(t, opts)
}

// answer is what came of a request.
type answer struct {
	status  int
	header  http.Header
	body    []byte
	length  int64
	bodyErr error
}

// do sends a request; header is pairs.
func do(t *testing.T, c *http.Client, method, url string, header ...string) answer {
	t.Helper()
	a, err := try(c, method, url, header...)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func try(c *http.Client, method, url string, header ...string) (answer, error) {
	req, err := http.NewRequestWithContext(context.Background(), method, url, nil)
	if err != nil {
		return answer{}, err
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	resp, err := c.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header, b, resp.ContentLength, err}, nil
}

// direct follows no redirects.
func direct(r *registrytest.Registry) *http.Client {
	c := r.Client()
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return c
}

// bytesOf returns the right content.
func bytesOf(t *testing.T, r *registrytest.Registry, d oci.Descriptor) []byte {
	t.Helper()
	b, err := io.ReadAll(io.NewSectionReader(r.Content(d.Digest), 0, d.Size))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func blobURL(r *registrytest.Registry, repo string, d oci.Descriptor) string {
	return r.URL() + "/v2/" + repo + "/blobs/" + d.Digest.String()
}

func TestAnImageIsServedAsItsManifestSays(t *testing.T) {
	for name, opts := range map[string]registrytest.Options{
		"on sockets": {}, "in memory": {InMemory: true}, "over TLS": {TLS: true}, "over TLS with HTTP/1.1": {TLS: true, HTTP1: true},
		"as Docker Hub": {Behavior: registrytest.DockerHub()},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, opts)
			img := r.AddImage("library/app", "latest", registrytest.ImageSpec{
				Layers: []int64{1 << 20, 0, 5, 300_000}, Platforms: []oci.Platform{{OS: "linux", Architecture: "amd64"}, {OS: "linux", Architecture: "arm64"}},
			})
			c := r.Client()
			var auth []string
			if opts.Behavior.Challenge.Scheme != "" {
				auth = []string{"Authorization", "Bearer " + token(t, r, "repository:library/app:pull")}
			}
			index := do(t, c, "GET", r.URL()+"/v2/library/app/manifests/latest", auth...)
			if index.status != 200 || index.header.Get("Docker-Content-Digest") != img.Manifest.Descriptor.Digest.String() {
				t.Fatalf("index: %d %v", index.status, index.header)
			}
			m := oci.Manifest{Descriptor: img.Manifest.Descriptor, Bytes: index.body}
			graph, err := m.Graph()
			if err != nil || len(graph.Manifests) != 2 {
				t.Fatalf("graph: %+v, %v", graph, err)
			}
			for i, child := range graph.Manifests {
				a := do(t, c, "GET", r.URL()+"/v2/library/app/manifests/"+child.Digest.String(), auth...)
				if !child.Digest.Verify(a.body) {
					t.Fatalf("manifest %d is wrong", i)
				}
			}
			for _, d := range img.Blobs() {
				a := do(t, c, "GET", blobURL(r, "library/app", d), auth...)
				if a.status != 200 || a.length != d.Size || !d.Digest.Verify(a.body) {
					t.Fatalf("blob: %d, %d bytes", a.status, len(a.body))
				}
				if got := r.BytesSentOf(d.Digest); got != d.Size && d.Size != 0 {
					t.Errorf("%d bytes counted, want %d", got, d.Size)
				}
			}
		})
	}
}

// token asks for a token anonymously.
func token(t *testing.T, r *registrytest.Registry, scope string) string {
	t.Helper()
	a := do(t, r.Client(), "GET", r.TokenURL()+"?scope="+scope)
	var doc struct{ Token string }
	if err := json.Unmarshal(a.body, &doc); err != nil || doc.Token == "" {
		t.Fatalf("token: %d %s %v", a.status, a.body, err)
	}
	return doc.Token
}

func TestInMemoryRunsOnAFakeClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, registrytest.Options{InMemory: true, Behavior: registrytest.Behavior{
			Pace: registrytest.Pace{Latency: time.Hour, BytesPerSecond: 1000},
		}})
		d := r.AddBlob("a", 10_000, 1)
		begin := time.Now()
		a := do(t, r.Client(), "GET", blobURL(r, "a", d))
		if took := time.Since(begin); took != time.Hour+10*time.Second {
			t.Errorf("it took %v", took)
		}
		if !d.Digest.Verify(a.body) {
			t.Error("wrong bytes")
		}
	})
}

func TestABehaviorIsSwappedWhileRequestsRun(t *testing.T) {
	gate := registrytest.NewGate()
	r := start(t, registrytest.Options{InMemory: true, Behavior: fault(registrytest.Fault{HangInBody: gate, HangAt: 50, Corrupt: true})})
	d := r.AddBlob("a", 100, 1)
	old := make(chan answer)
	go func() {
		a, _ := try(r.Client(), "GET", blobURL(r, "a", d))
		old <- a
	}()
	if err := gate.Await(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	r.SetBehavior(registrytest.Behavior{})
	if a := do(t, r.Client(), "GET", blobURL(r, "a", d)); !d.Digest.Verify(a.body) {
		t.Error("a new request meets the old behaviour")
	}
	gate.Open()
	if a := <-old; len(a.body) != 100 || d.Digest.Verify(a.body) {
		t.Error("a running response changed its behaviour")
	}
	if len(r.Behavior().Faults) != 0 {
		t.Errorf("%+v", r.Behavior())
	}
}

func TestAClientOutsideTrustsTheCertificate(t *testing.T) {
	r := start(t, registrytest.Options{TLS: true, Hostname: "registry.example"})
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(r.CertPEM()) || !pool.Equal(r.CertPool()) {
		t.Error("the two forms differ")
	}
	for _, host := range []string{"registry.example", "cdn.registry.example", "localhost", "127.0.0.1"} {
		c := &http.Client{Transport: &http.Transport{
			DialContext: r.DialContext, TLSClientConfig: &tls.Config{RootCAs: pool}, DisableKeepAlives: true,
		}}
		_, port, err := net.SplitHostPort(r.Host())
		if err != nil {
			t.Fatal(err)
		}
		if a, err := try(c, "GET", "https://"+net.JoinHostPort(host, port)+"/v2/"); err != nil || a.status != 200 {
			t.Errorf("%s: %d %v", host, a.status, err)
		}
	}
}

func TestHTTP2IsSpokenOverTLS(t *testing.T) {
	r := start(t, registrytest.Options{TLS: true, Behavior: fault(registrytest.Fault{EmptyReply: true})})
	d := r.AddBlob("a", 100, 1)
	do(t, r.Client(), "GET", r.URL()+"/v2/")
	if got := r.Requests()[0].Proto; got != "HTTP/2.0" {
		t.Errorf("%s", got)
	}
	if _, err := try(r.Client(), "GET", blobURL(r, "a", d)); err == nil {
		t.Error("an empty reply was one")
	}
}

func TestStartFailsOnAnAddressInUse(t *testing.T) {
	r := start(t, registrytest.Options{})
	if _, err := registrytest.Start(registrytest.Options{Addr: r.Host()}); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("%v", err)
	}
}

func TestAStampedeIsServedWhole(t *testing.T) {
	r := start(t, registrytest.Options{CountsOnly: true})
	d := r.AddBlob("a", 600_000, 1)
	c := r.Client()
	failed := make(chan error)
	for range 50 {
		go func() {
			a, err := try(c, "GET", blobURL(r, "a", d))
			if err == nil && !d.Digest.Verify(a.body) {
				err = errors.New("wrong bytes")
			}
			failed <- errors.Join(err, a.bodyErr)
		}()
	}
	for range 50 {
		if err := <-failed; err != nil {
			t.Error(err)
		}
	}
	if got := r.BytesSentOf(d.Digest); got != 50*d.Size || r.BytesSent() != got {
		t.Errorf("%d bytes, %d in all", got, r.BytesSent())
	}
}
