package app

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"sampan/internal/config"
	"sampan/internal/oci"
	"sampan/internal/registrytest"
)

// configured loads a file with what is written in it.
func configured(t *testing.T, text string) *config.Config {
	t.Helper()
	file := filepath.Join(t.TempDir(), "sampan.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := config.Load(config.Source{File: file, Environ: []string{"HOME=/home/x"}})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// The names are resolved by nobody, and the certificates trusted by nobody, but
// for what the file says.
func TestEgressOfTheFileReachesTheUpstream(t *testing.T) {
	behavior := registrytest.DockerHub()
	behavior.Redirect.Target = registrytest.TargetSubdomain
	up := registrytest.StartTest(t, registrytest.Options{TLS: true, Hostname: "registry.example", Behavior: behavior})
	image := up.AddImage("team/web", "v1", registrytest.ImageSpec{})
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, up.CertPEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	c := configured(t, `
egress: {proxy: direct, ca_files: [`+ca+`]}
upstreams:
  registry.example:
    endpoints: [{url: `+up.URL()+`}]
    egress:
      hosts: {registry.example: [127.0.0.1]}
      redirects:
        "*.registry.example": {hosts: {cdn.registry.example: [127.0.0.1]}}
`)
	u, err := newUpstreams(c, Options{Log: slog.New(slog.DiscardHandler)}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = u.close() })
	registry, err := oci.ParseRegistry("registry.example")
	if err != nil {
		t.Fatal(err)
	}
	r, err := u.reader(registry)
	if err != nil {
		t.Fatal(err)
	}
	repo, err := registry.Repository("team/web")
	if err != nil {
		t.Fatal(err)
	}
	if m, err := r.Manifest(t.Context(), repo, image.Manifest.Descriptor.Digest); err != nil || string(m.Bytes) != string(image.Manifest.Bytes) {
		t.Errorf("got %v", err)
	}
	blob := image.Blobs()[0]
	b, err := r.Blob(t.Context(), repo, blob.Digest)
	if err != nil {
		t.Fatal(err)
	}
	if ok, err := blob.Digest.VerifyReader(b); !ok || err != nil {
		t.Errorf("got another blob, %v", err)
	}
	_ = b.Close()
	if up.Count(registrytest.KindCDN) == 0 {
		t.Error("the redirect was not followed")
	}
}

func TestEgressIsWhatTheFileSays(t *testing.T) {
	up := registrytest.StartTest(t, registrytest.Options{TLS: true})
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, up.CertPEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	c := configured(t, `
egress:
  proxy: http://me:s3cret@p.example:3128
  ca_files: [`+ca+`]
  dns: [udp://192.0.2.53]
  source: 192.0.2.1
  timeouts: {dial: 1s, tls: 2s, headers: 3s, stall: 4s}
  redirects: {x.example: {private: true, proxy: direct}}
`)
	e, err := egressOf(c.Egress.Inherit(config.Egress{}))
	if err != nil {
		t.Fatal(err)
	}
	if u, err := e.Proxy(nil); err != nil || u.String() != "http://me:s3cret@p.example:3128" {
		t.Errorf("the proxy is %v, %v", u, err)
	}
	if len(e.DNS) != 1 || e.Source.String() != "192.0.2.1" || e.DialTimeout != time.Second || e.TLSTimeout != 2*time.Second ||
		e.HeaderTimeout != 3*time.Second || e.StallTimeout != 4*time.Second {
		t.Errorf("got %+v", e)
	}
	rule := e.Redirects[0]
	if u, err := rule.Proxy(nil); err != nil || u != nil || !rule.Private || rule.Pattern != "x.example" || rule.DialTimeout != time.Second {
		t.Errorf("the rule is %+v, its proxy %v, %v", rule, u, err)
	}
	none, err := egressOf(config.Egress{})
	if err != nil || none.Proxy != nil || none.TLS != nil {
		t.Errorf("where nothing is said: %+v, %v", none, err)
	}
	if err := os.Remove(ca); err != nil {
		t.Fatal(err)
	}
	if _, err := egressOf(c.Egress.Inherit(config.Egress{})); err == nil {
		t.Error("a CA file that has gone is ignored")
	}
}

func TestAFetchWaitsForThePatientUpstream(t *testing.T) {
	const defaults = 30*time.Second + stallSlack
	for text, want := range map[string]time.Duration{
		"{}":                     defaults,
		"egress: {timeouts: {}}": defaults,
		"upstreams: {quay.io: {egress: {timeouts: {stall: 5s}}}}":                                  defaults,
		"egress: {timeouts: {stall: 5s}}":                                                          5*time.Second + stallSlack,
		"upstreams: {quay.io: {egress: {timeouts: {stall: 2m}}}}":                                  2*time.Minute + stallSlack,
		"upstreams: {quay.io: {egress: {redirects: {'*': {timeouts: {stall: 3m}}}}}}":              3*time.Minute + stallSlack,
		"upstreams: {quay.io: {egress: {timeouts: {headers: 5m}}}}":                                5*time.Minute + 30*time.Second + stallSlack/2,
		"egress: {timeouts: {stall: 1m}}\nupstreams: {quay.io: {egress: {timeouts: {stall: 5s}}}}": time.Minute + stallSlack,
	} {
		if got := longestStall(configured(t, text)); got != want {
			t.Errorf("%s: got %v, want %v", text, got, want)
		}
	}
}
