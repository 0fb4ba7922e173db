package app_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"sampan/internal/admin"
	"sampan/internal/registrytest"
)

// The operator sees who was refused and what went wrong, by the same names as in the
// access log, and no secret of anybody.
func TestWhatWentWrongIsListed(t *testing.T) {
	up := registrytest.StartTest(t, registrytest.Options{})
	blob := up.AddBlob("team/app", 100_000, 1).Digest
	up.AddImage("team/app", "1", registrytest.ImageSpec{Layers: []int64{1000}, Seed: 1})
	m := startReloadable(t, fmt.Sprintf("domain: mirror.test\nupstreams: {up.test: {endpoints: [{url: %q}]}}\nusers: [{name: ann, password: geheim-geheim}]\n"+
		"codes: [{name: lab, code: abcdefghijklmnop}]\naccess:\n  - {action: deny, repositories: ['up.test/evil/*'], reason: not here}\n  - {action: allow}\n", up.URL()))
	ask := func(host, password, path string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+m.app.Addr()+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = host
		if password != "" {
			req.SetBasicAuth("ann", password)
		}
		resp, err := m.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		for buf := make([]byte, 64<<10); err == nil; {
			_, err = resp.Body.Read(buf)
		}
		_ = resp.Body.Close()
	}
	ask("abcdefghijklmnop.mirror.test", "", "/v2/up.test/evil/x/manifests/1")
	ask("mirror.test", "wrong-wrong", "/v2/up.test/team/app/manifests/1")
	ask("mirror.test", "geheim-geheim", "/v2/up.test/team/app/manifests/none") // 404 is an answer
	up.SetBehavior(registrytest.Behavior{Faults: []registrytest.Fault{{Corrupt: true, CorruptAt: -1}}})
	ask("mirror.test", "geheim-geheim", "/v2/up.test/team/app/blobs/"+blob.String())
	up.SetBehavior(registrytest.Behavior{Faults: []registrytest.Fault{{On: []registrytest.Kind{registrytest.KindManifest}, Answer: registrytest.Status(500)}}})
	ask("mirror.test", "", "/v2/up.test/team/app/manifests/1")

	var got struct{ Recent []admin.Incident }
	text := m.admin(t, 200, "GET", "/api/v1/recent", "", "", &got)
	want := []admin.Incident{ // the newest first
		{Kind: "error", Status: 503, Repository: "up.test/team/app", Reference: "1", Code: "UNAVAILABLE"},
		{Kind: "error", Status: 200, User: "ann", Repository: "up.test/team/app", Reference: blob.String()},
		{Kind: "denial", Status: 401, Code: "UNAUTHORIZED", Reason: "wrong user name or password"},
		{Kind: "denial", Status: 403, User: "lab", Repository: "up.test/evil/x", Reference: "1", Code: "DENIED", Reason: "not here"},
	}
	if len(got.Recent) != len(want) {
		t.Fatalf("got %s", text)
	}
	for i, one := range got.Recent {
		if one.Time.IsZero() || one.Request == "" || one.Client != "127.0.0.1" || one.Reason == "" {
			t.Errorf("%d: %+v", i, one)
		}
		w := want[i]
		if one.Kind != w.Kind || one.Status != w.Status || one.User != w.User || one.Repository != w.Repository || one.Reference != w.Reference ||
			w.Code != "" && one.Code != w.Code || w.Reason != "" && one.Reason != w.Reason {
			t.Errorf("%d: %+v, want %+v", i, one, w)
		}
	}
	for _, secret := range []string{"abcdefghijklmnop", "geheim", "wrong-wrong"} {
		if strings.Contains(text, secret) {
			t.Errorf("%s is in %s", secret, text)
		}
	}
	m.admin(t, 200, "GET", "/api/v1/recent?kind=denial&n=1", "", "", &got)
	if len(got.Recent) != 1 || got.Recent[0].Status != 401 {
		t.Errorf("%+v", got)
	}
	for _, q := range []string{"n=0", "n=501", "n=x", "kind=x"} {
		m.admin(t, 400, "GET", "/api/v1/recent?"+q, "", "", nil)
	}
}
