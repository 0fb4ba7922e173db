package app_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"sampan/internal/admin"
	"sampan/internal/config"
	"sampan/internal/oci"
	"sampan/internal/registrytest"
)

// A pair is a mirror whose upstream has two endpoints: bytes, which is asked first
// and for blobs alone, and origin.
type pair struct {
	*mirror
	bytes, origin *registrytest.Registry
}

func startPair(t *testing.T, origin registrytest.Behavior, change func(*config.Upstream)) pair {
	t.Helper()
	p := pair{
		bytes:  registrytest.StartTest(t, registrytest.Options{}),
		origin: registrytest.StartTest(t, registrytest.Options{Behavior: origin}),
	}
	c := load(t, dataDir(t), "example.test="+p.bytes.URL(), "example.test="+p.origin.URL())
	c.Fetch.Prefetch = false
	at := slices.IndexFunc(c.Upstreams, func(u config.Upstream) bool { return u.Registry.String() == "example.test" })
	c.Upstreams[at].Endpoints[0].BlobsOnly = true
	if change != nil {
		change(&c.Upstreams[at])
	}
	p.mirror = serve(t, c)
	return p
}

func TestManifestsComeFromTrustedEndpointsAndBytesFromAny(t *testing.T) {
	p := startPair(t, registrytest.Behavior{}, nil)
	for _, reg := range []*registrytest.Registry{p.bytes, p.origin} {
		reg.AddImage("team/web", "v1", threeLayers(0))
	}
	if err := p.pull("example.test/team/web", "v1"); err != nil {
		t.Fatal(err)
	}
	if r := p.get(t, "/v2/example.test/team/web/tags/list"); r.status != http.StatusOK {
		t.Errorf("tags: %d", r.status)
	}
	if n, blobs := p.bytes.Count(""), p.bytes.Count(registrytest.KindBlob, http.MethodGet); n != 4 || blobs != 4 {
		t.Errorf("the endpoint for blobs was asked %d times, for %d blobs", n, blobs)
	}
	if n := p.origin.Count(registrytest.KindBlob); n != 0 {
		t.Errorf("the trusted endpoint was asked %d times about blobs that a manifest names", n)
	}
	if n := p.origin.Count(registrytest.KindManifest); n != 1 {
		t.Errorf("the trusted endpoint was asked for %d manifests", n)
	}
}

// A blob that somebody has the bytes of is not a repository's: it is served under
// a name only when the trusted endpoint confirms it there.
func TestBytesAreNoPermission(t *testing.T) {
	p := startPair(t, registrytest.Behavior{}, nil)
	var blob oci.Descriptor
	for _, repo := range []string{"team/web", "team/private"} {
		blob = p.bytes.AddBlob(repo, 100_000, 1)
	}
	p.origin.AddBlob("team/web", 100_000, 1)
	p.origin.AddBlob("team/private", 10, 2)
	path := func(repo string) string { return "/v2/example.test/" + repo + "/blobs/" + blob.Digest.String() }
	for range 2 {
		r := p.get(t, path("team/private"))
		if r.status != http.StatusNotFound || !strings.Contains(string(r.body), string(oci.CodeBlobUnknown)) || len(r.body) > 1000 {
			t.Errorf("a name that the trusted endpoint does not know the blob under: %d, %d bytes", r.status, len(r.body))
		}
	}
	if n := p.origin.Count(registrytest.KindBlob, http.MethodHead); n != 1 {
		t.Errorf("the trusted endpoint was asked %d times: its refusal is remembered", n)
	}
	if r := p.get(t, path("team/web")); r.status != http.StatusOK || !blob.Digest.Verify(r.body) {
		t.Errorf("a name that it confirms: %d, %d bytes", r.status, len(r.body))
	}
	if n := p.origin.Count(registrytest.KindBlob, http.MethodGet); n != 1 { // for the words of its refusal
		t.Errorf("the trusted endpoint was asked for the blob %d times", n)
	}
	if n := p.origin.BytesSentOf(blob.Digest); n != 0 {
		t.Errorf("the trusted endpoint sent %d bytes of the blob", n)
	}
	if n := p.bytes.BytesSentOf(blob.Digest); n != blob.Size {
		t.Errorf("%d bytes crossed", n)
	}
}

func TestABlobThatTheEndpointForBlobsLacksComesFromTheOther(t *testing.T) {
	p := startPair(t, registrytest.Behavior{}, nil)
	p.bytes.AddBlob("team/web", 10, 3)
	blob := p.origin.AddBlob("team/web", 100_000, 1)
	path := "/v2/example.test/team/web/blobs/" + blob.Digest.String()
	if r := p.get(t, path); r.status != http.StatusOK || !blob.Digest.Verify(r.body) {
		t.Errorf("got %d, %d bytes", r.status, len(r.body))
	}
	if n := p.origin.Count(""); n != 1 {
		t.Errorf("the trusted endpoint was asked %d times: its answer confirms the blob", n)
	}
}

func TestCredentialsGoToTheTrustedEndpoint(t *testing.T) {
	p := startPair(t, registrytest.Behavior{
		Challenge: registrytest.Challenge{Scheme: registrytest.SchemeBasic},
		Token:     registrytest.Token{Username: "me", Password: "pw", Private: []string{"*"}},
	}, func(u *config.Upstream) {
		u.Username, u.Password, u.Public = "me", config.NewSecret("pw"), true
	})
	p.bytes.SetBehavior(registrytest.Behavior{Challenge: registrytest.Challenge{Scheme: registrytest.SchemeBasic}})
	for _, reg := range []*registrytest.Registry{p.bytes, p.origin} {
		reg.AddImage("team/web", "v1", threeLayers(0))
	}
	if err := p.pull("example.test/team/web", "v1"); err != nil {
		t.Fatal(err)
	}
	if p.bytes.Count("") == 0 {
		t.Error("the endpoint for blobs was not asked")
	}
	for _, req := range p.bytes.Requests() {
		if req.Authorization != "" {
			t.Errorf("the endpoint for blobs got %s %s with %s", req.Method, req.Path, req.Authorization)
		}
	}
}

func TestUpstreamsAreShown(t *testing.T) {
	p := startPair(t, registrytest.Behavior{RateLimit: registrytest.RateLimit{Pulls: 4}}, nil)
	for _, reg := range []*registrytest.Registry{p.bytes, p.origin} {
		reg.AddImage("team/web", "v1", threeLayers(0))
	}
	_ = p.bytes.Close()
	if err := p.pull("example.test/team/web", "v1"); err != nil {
		t.Fatal(err)
	}
	r := fetch(t, p.client, "http://"+p.app.AdminAddr()+"/api/v1/upstreams")
	var doc struct{ Upstreams []admin.Upstream }
	if err := json.Unmarshal(r.body, &doc); err != nil || r.status != http.StatusOK {
		t.Fatalf("%d %v", r.status, err)
	}
	if !slices.IsSortedFunc(doc.Upstreams, func(a, b admin.Upstream) int { return strings.Compare(a.Registry, b.Registry) }) {
		t.Error("not in the order of their names")
	}
	at := slices.IndexFunc(doc.Upstreams, func(u admin.Upstream) bool { return u.Registry == "example.test" })
	u := doc.Upstreams[at]
	if len(u.Endpoints) != 2 || u.Endpoints[0].Serves != "blobs" || u.Endpoints[1].Serves != "all" {
		t.Fatalf("got %+v", u)
	}
	if e := u.Endpoints[0]; e.URL != p.bytes.URL()+"/v2/" || e.Failures != 4 || e.State != "up" || !strings.Contains(e.Error, "connection refused") {
		t.Errorf("the endpoint that is gone: %+v", e)
	}
	if e := u.Endpoints[1]; e.State != "up" || e.Failures != 0 || e.Error != "" {
		t.Errorf("the endpoint that answers: %+v", e)
	}
	if len(u.Budgets) != 1 || u.Budgets[0].Limit != 4 || u.Budgets[0].Remaining != 3 || u.Budgets[0].Account != "" || !u.Budgets[0].Scarce {
		t.Errorf("budgets: %+v", u.Budgets)
	}
	metrics := string(fetch(t, p.client, "http://"+p.app.AdminAddr()+"/metrics").body)
	for _, want := range []string{
		`sampan_upstream_endpoint_up{endpoint="` + p.origin.Host() + `",registry="example.test"} 1`,
		`sampan_upstream_endpoint_failures_total{endpoint="` + p.bytes.Host() + `",registry="example.test"} 4`,
		`sampan_upstream_budget_remaining_requests{account="0",registry="example.test"} 3`,
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("metrics lack %s", want)
		}
	}
}
