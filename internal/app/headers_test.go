package app_test

import (
	"net/http"
	"strings"
	"testing"

	"sampan/internal/registrytest"
)

// Whatever a client asks, a browser makes nothing of it, and nothing is listed. The page
// is for those alone who say that they read HTML.
func TestEveryAnswerKeepsBrowsersOut(t *testing.T) {
	up := registrytest.StartTest(t, registrytest.Options{})
	up.AddImage("team/app", "1", registrytest.ImageSpec{})
	m := start(t, t.TempDir(), "up.test="+up.URL())
	for _, base := range []string{"http://" + m.app.Addr(), "http://" + m.app.AdminAddr()} {
		for _, path := range []string{
			"/", "/v2/", "/v2/up.test/team/app/manifests/1", "/v2/up.test/team/app/tags/list", "/v2/up.test/none/manifests/1", "/v2/_catalog",
			"/token", "/nope", "/healthz", "/metrics", "/api/v1/fills", "/api/v1/none", "/.git/config", "/debug/pprof/",
		} {
			for _, method := range []string{http.MethodGet, http.MethodPut} {
				req, err := http.NewRequestWithContext(t.Context(), method, base+path, nil)
				if err != nil {
					t.Fatal(err)
				}
				resp, err := m.client.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				_ = resp.Body.Close()
				h := resp.Header
				policy, referrer := "default-src 'none'; frame-ancestors 'none'", "no-referrer"
				if strings.HasPrefix(h.Get("Content-Type"), "text/html") && base == "http://"+m.app.AdminAddr() { // a page of the operator
					policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
					referrer = "same-origin"
				}
				if h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Content-Security-Policy") != policy || h.Get("Referrer-Policy") != referrer || h.Get("Server") != "" {
					t.Errorf("%s %s: %v", method, base+path, h)
				}
			}
		}
	}
	if r := fetch(t, m.client, "http://"+m.app.Addr()+"/"); r.status != http.StatusNotFound {
		t.Errorf("who does not read HTML gets %d: %s", r.status, r.body)
	}
}
