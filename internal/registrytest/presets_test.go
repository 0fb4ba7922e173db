package registrytest_test

import (
	"bytes"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"sampan/internal/oci"
	"sampan/internal/registrytest"
)

// realmOf and scopeOf read challenges the way the presets write them.
var (
	realmOf = regexp.MustCompile(`realm="([^"]+)"`)
	scopeOf = regexp.MustCompile(`scope="([^"]+)"`)
)

// pull fetches like a client: ping, token, manifest, blobs, and no credentials
// to another host.
func pull(t *testing.T, r *registrytest.Registry, repo, tag string) {
	t.Helper()
	c := r.Client()
	manifest := r.URL() + "/v2/" + repo + "/manifests/" + tag
	accept := []string{"Accept", oci.MediaTypeImageManifest}
	challenge := do(t, c, "GET", r.URL()+"/v2/").header.Get("Www-Authenticate")
	first := do(t, c, "GET", manifest, accept...)
	if own := first.header.Get("Www-Authenticate"); own != "" {
		challenge = own
	}
	auth := accept
	if first.status == http.StatusUnauthorized {
		scope := "repository:" + repo + ":pull"
		if m := scopeOf.FindStringSubmatch(challenge); m != nil {
			scope = m[1]
		}
		if realm := realmOf.FindStringSubmatch(challenge); realm[1] != r.TokenURL() {
			t.Fatalf("challenge %s", challenge)
		}
		auth = append(auth, "Authorization", "Bearer "+token(t, r, scope))
		first = do(t, c, "GET", manifest, auth...)
	}
	m := oci.Manifest{Descriptor: oci.Descriptor{Digest: oci.DigestOf(first.body)}, Bytes: first.body}
	graph, err := m.Graph()
	if err != nil || first.status != 200 {
		t.Fatalf("manifest: %d %v", first.status, err)
	}
	for _, d := range graph.Blobs {
		a := do(t, c, "GET", blobURL(r, repo, d), auth...)
		if a.status != 200 || !bytes.Equal(a.body, bytesOf(t, r, d)) {
			t.Errorf("blob: %d %s", a.status, a.body[:min(100, len(a.body))])
		}
	}
}

func TestPresetsLetAPullThrough(t *testing.T) {
	for name, b := range map[string]registrytest.Behavior{
		"docker.io": registrytest.DockerHub(), "quay.io": registrytest.Quay(), "ghcr.io": registrytest.GHCR(),
		"gcr.io": registrytest.GCR(), "registry.k8s.io": registrytest.K8s(), "mcr.microsoft.com": registrytest.MCR(),
	} {
		t.Run(name, func(t *testing.T) {
			for _, opts := range []registrytest.Options{{}, {InMemory: true}, {TLS: true}} {
				opts.Behavior = b
				r := start(t, opts)
				r.AddImage("a/b", "v1", registrytest.ImageSpec{Layers: []int64{1000, 100_000}})
				pull(t, r, "a/b", "v1")
			}
		})
	}
}

func TestGHCRsTokenServerKnowsWhatIsMissing(t *testing.T) {
	r := start(t, registrytest.Options{InMemory: true, Behavior: registrytest.GHCR()})
	r.AddImage("a/b", "v1", registrytest.ImageSpec{})
	for scope, want := range map[string]int{
		"repository:a/b:pull": 200, "repository:none:pull": 403, "repository:user/image:pull": 200,
	} {
		if a := do(t, r.Client(), "GET", r.TokenURL()+"?scope="+scope); a.status != want {
			t.Errorf("%s: %d", scope, a.status)
		}
	}
	placeholder := "Bearer " + token(t, r, "repository:user/image:pull")
	if a := do(t, r.Client(), "GET", r.URL()+"/v2/a/b/manifests/v1", "Authorization", placeholder); a.status != 200 {
		t.Errorf("the token is bound: %d", a.status)
	}
}

func TestDockerHubGivesATokenForWhatIsMissing(t *testing.T) {
	r := start(t, registrytest.Options{InMemory: true, Behavior: registrytest.DockerHub()})
	tok := token(t, r, "repository:none:pull")
	a := do(t, r.Client(), "GET", r.URL()+"/v2/none/manifests/v1", "Authorization", "Bearer "+tok)
	if a.status != 401 || !strings.Contains(a.header.Get("Www-Authenticate"), `error="insufficient_scope"`) {
		t.Errorf("%d %v", a.status, a.header)
	}
}
