package app_test

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"sampan/internal/registrytest"
)

// browse asks as a browser does.
func (m *mirror) browse(t *testing.T, host, path string) reply {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+m.app.Addr()+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8")
	if host != "" {
		req.Host = host
	}
	return do(t, m.client, req)
}

// What clients of the protocol ask is answered as without the page; a browser sees it,
// and the files that it names are there.
func TestBrowsersSeeThePageAndClientsTheProtocol(t *testing.T) {
	up := registrytest.StartTest(t, registrytest.Options{})
	up.AddImage("team/app", "1", threeLayers(1))
	m := start(t, t.TempDir(), "up.test="+up.URL())
	page := m.browse(t, "", "/")
	if page.status != http.StatusOK || page.header.Get("Content-Type") != "text/html; charset=utf-8" || page.header.Get("Vary") != "Accept" || !strings.Contains(string(page.body), m.app.Addr()+"/up.test/") {
		t.Errorf("%d %v\n%s", page.status, page.header, page.body)
	}
	files := regexp.MustCompile(`"(/-/[^"]+)"`).FindAllSubmatch(page.body, -1)
	if len(files) == 0 {
		t.Error("the page names no file")
	}
	for _, f := range files {
		if r := m.get(t, string(f[1])); r.status != http.StatusOK || r.header.Get("Cache-Control") != "public, max-age=31536000, immutable" {
			t.Errorf("%s: %d %v", f[1], r.status, r.header)
		}
	}
	for path, status := range map[string]int{
		"/": http.StatusNotFound, "/v2/": http.StatusOK, "/-/nothing.css": http.StatusNotFound, "/-/v2/a/manifests/1": http.StatusForbidden,
		"/v2/up.test/team/app/manifests/1": http.StatusOK, "/token": http.StatusOK,
	} {
		if r := m.get(t, path); r.status != status {
			t.Errorf("%s answers %d to clients: %s", path, r.status, r.body)
		}
	}
	for _, path := range []string{"/v2/", "/v2/up.test/team/app/manifests/1", "/token", "/nope", "/index.html"} {
		if r := m.browse(t, "", path); strings.Contains(r.header.Get("Content-Type"), "html") {
			t.Errorf("%s is a page to browsers", path)
		}
	}
	if err := m.pull("up.test/team/app", "1"); err != nil {
		t.Error(err)
	}
	before := up.Count("")
	m.browse(t, "", "/?image=up.test/team/other:1")
	if n := up.Count(""); n != before {
		t.Errorf("the page asked the registry %d times", n-before)
	}
}

// Outside of the networks there is no page, and no file of one.
func TestOutsideOfTheNetworksThereIsNoPage(t *testing.T) {
	m := startReloadable(t, "access: [{action: allow, networks: [192.0.2.0/24]}]\n")
	for _, path := range []string{"/", "/?image=nginx", "/-/base.css", "/-/"} {
		if r := m.browse(t, "", path); r.status != http.StatusForbidden || r.code() != "DENIED" {
			t.Errorf("%s: %d %s", path, r.status, r.body)
		}
	}
}

// The page takes a code off the host as everything does, and shows it to the visitor
// who has it.
func TestThePageWorksWithACode(t *testing.T) {
	const code = "k3v9x2m7q1w8e5r4"
	m := startReloadable(t, `
domain: mirror.test
codes: [{name: team-a, code: `+code+`}]
access: [{action: allow, codes: [team-a]}]
`)
	if r := m.browse(t, "mirror.test", "/"); r.status != http.StatusForbidden {
		t.Errorf("without the code: %d", r.status)
	}
	r := m.browse(t, code+".mirror.test", "/?image=nginx:1")
	if r.status != http.StatusOK || !strings.Contains(string(r.body), "<code>"+code+".mirror.test/docker.io/library/nginx:1</code>") {
		t.Errorf("%d\n%s", r.status, r.body)
	}
	if strings.Contains(m.log.take(), code) {
		t.Error("the log has the code")
	}
}

// Registries that are read with accounts which are not everybody's are not listed, and
// the page goes and comes with the configuration.
func TestThePageFollowsTheConfiguration(t *testing.T) {
	text := func(page string) string {
		return fmt.Sprintf(`
page: %s
upstreams:
  hidden.test: {endpoints: [{url: "http://127.0.0.1:1"}], username: ann, password: secret}
  shown.test: {endpoints: [{url: "http://127.0.0.1:1"}]}
users: [{name: bob, password: another}]
access: [{action: allow, users: [bob]}, {action: allow, repositories: ["shown.test/**"]}]
`, page)
	}
	m := startReloadable(t, text("true"))
	r := m.browse(t, "", "/")
	if r.status != http.StatusOK || !strings.Contains(string(r.body), "shown.test") || strings.Contains(string(r.body), "hidden.test") {
		t.Errorf("%d\n%s", r.status, r.body)
	}
	m.write(t, text("false"))
	if err := m.app.Reload(); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/", "/-/base.css"} {
		if r := m.browse(t, "", path); r.status != http.StatusNotFound || r.code() != "NAME_UNKNOWN" {
			t.Errorf("without the page, %s: %d %s", path, r.status, r.body)
		}
	}
}

// A registry that gives no answer is told to, and the page still opens at once.
func TestThePageTellsOfARegistryThatFails(t *testing.T) {
	up := registrytest.StartTest(t, registrytest.Options{})
	up.AddImage("team/app", "1", threeLayers(1))
	m := start(t, t.TempDir(), "up.test="+up.URL())
	up.Close()
	for range 6 {
		m.get(t, "/v2/up.test/team/app/manifests/1")
	}
	if r := m.browse(t, "", "/?image=up.test/team/app:1"); !strings.Contains(string(r.body), "up.test gives no answer at the moment") {
		t.Errorf("%d\n%s", r.status, r.body)
	}
}
