package app_test

import (
	"net/http"
	"testing"

	"sampan/internal/proof"
	"sampan/internal/registrytest"
)

// The proof is there in every registry, for whoever may use the mirror, and no
// registry is asked for it.
func TestTheProofIsThereInEveryRegistry(t *testing.T) {
	c := startCorp(t, registrytest.SchemeBearer, nil)
	for _, registry := range []string{"docker.io", "registry.k8s.io", "corp.test", "evil.test"} {
		base := "/v2/" + registry + "/" + proof.Path
		r := c.as(t, "", http.MethodGet, base+"/manifests/"+proof.Nonce().String())
		if got := r.header.Get("Docker-Content-Digest"); r.status != http.StatusOK || got != proof.Digest().String() {
			t.Errorf("%s: %d %s %s", registry, r.status, got, r.body)
		}
	}
	if r := c.as(t, "", http.MethodGet, "/v2/unknown.test/"+proof.Path+"/manifests/x"); r.status != http.StatusForbidden {
		t.Errorf("a registry that is not served has it: %d", r.status)
	}
	if asked := c.up.Requests(); len(asked) != 0 {
		t.Errorf("a registry was asked %v", asked)
	}
}

func TestTheProofIsThereOffline(t *testing.T) {
	conf := load(t, dataDir(t))
	conf.Offline = true
	m := serve(t, conf)
	if r := m.get(t, "/v2/quay.io/"+proof.Path+"/manifests/"+proof.Nonce().String()); r.status != http.StatusOK {
		t.Errorf("%d %s", r.status, r.body)
	}
}

func TestRulesHoldForTheProof(t *testing.T) {
	m := startReloadable(t, "users: [{name: ann, password: geheim}]\naccess: [{action: allow, users: [ann]}]\n")
	for password, want := range map[string]int{"": http.StatusUnauthorized, "wrong": http.StatusUnauthorized, "geheim": http.StatusOK} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+m.app.Addr()+"/v2/quay.io/"+proof.Path+"/manifests/x", nil)
		if err != nil {
			t.Fatal(err)
		}
		if password != "" {
			req.SetBasicAuth("ann", password)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if err := resp.Body.Close(); err != nil {
			t.Error(err)
		}
		if resp.StatusCode != want {
			t.Errorf("with the password %q: %d, want %d", password, resp.StatusCode, want)
		}
	}
}
