package app_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sampan/internal/registrytest"
)

// A visitor looks at the operator's pages.
type visitor struct {
	client *http.Client
	base   string
}

func (m *mirror) visitor(t *testing.T) *visitor {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &visitor{&http.Client{Jar: jar, Transport: &http.Transport{}}, "http://" + m.app.AdminAddr()}
}

// see does a request and returns what came after all redirects.
func (v *visitor) see(t *testing.T, want int, method, path string, form url.Values, change func(*http.Request)) (where, text string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, v.base+path, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if change != nil {
		change(req)
	}
	resp, err := v.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != want {
		t.Errorf("%s %s: %d, want %d: %s", method, path, resp.StatusCode, want, body)
	}
	return resp.Request.URL.RequestURI(), string(body)
}

func (v *visitor) get(t *testing.T, path string) string {
	t.Helper()
	_, text := v.see(t, http.StatusOK, http.MethodGet, path, nil, nil)
	return text
}

func (v *visitor) post(t *testing.T, path string, form url.Values) string {
	t.Helper()
	where, _ := v.see(t, http.StatusOK, http.MethodPost, path, form, nil)
	return where
}

// What somebody does on the pages happens, and is in the audit log; names that others
// have chosen stay text.
func TestTheDashboardKeepsHouse(t *testing.T) {
	up := registrytest.StartTest(t, registrytest.Options{})
	up.AddImage("team/app", "1", registrytest.ImageSpec{Layers: []int64{10_000, 20_000}, Seed: 1})
	up.AddImage("team/app", "2", registrytest.ImageSpec{Layers: []int64{30_000}, Seed: 2})
	up.AddImage("team/ahead", "1", registrytest.ImageSpec{Layers: []int64{40_000}, Seed: 3})
	log := filepath.Join(t.TempDir(), "audit.log")
	m := startReloadable(t, fmt.Sprintf("upstreams: {up.test: {endpoints: [{url: %q}]}}\nlog: {audit: %s}\nfetch: {prefetch: false}\n", up.URL(), log))
	for _, tag := range []string{"1", "2"} {
		if err := m.pull("up.test/team/app", tag); err != nil {
			t.Fatal(err)
		}
	}
	m.awaitBlobs(t, 7)
	v := m.visitor(t)
	one := url.Values{"repository": {"up.test/team/app"}, "reference": {"1"}}
	image := "/content/image?" + one.Encode()
	for path, want := range map[string]string{
		"/": "Hit ratio", "/content?search=APP": "up.test/team/app", "/content/repository?repository=up.test/team/app": "reference=2",
		image: "linux/amd64", "/upstreams": up.URL(), "/tasks": "names no tasks", "/configuration": "up.test", "/purge": "Not used for days",
		"/?span=month": "30 days", "/?span=nonsense": "24 hours",
	} {
		if text := v.get(t, path); !strings.Contains(text, want) {
			t.Errorf("%s: no %q in it", path, want)
		}
	}
	if where := v.post(t, "/pin", one); where != image {
		t.Errorf("after pinning one is at %s", where)
	}
	v.see(t, http.StatusConflict, http.MethodGet, "/delete?"+one.Encode(), nil, nil)
	v.see(t, http.StatusConflict, http.MethodPost, "/delete", one, nil)
	v.post(t, "/unpin", one)
	if text := v.get(t, "/delete?"+one.Encode()); !strings.Contains(text, "Tags: 1") || !strings.Contains(text, "Blobs: 3") {
		t.Errorf("what would go: %s", text)
	}
	if where := v.post(t, "/delete", one); where != "/content/repository?repository=up.test%2Fteam%2Fapp" {
		t.Errorf("after deleting one is at %s", where)
	}
	v.see(t, http.StatusNotFound, http.MethodGet, image, nil, nil)

	before := up.Count("")
	if where := v.post(t, "/prefetch", url.Values{"image": {"up.test/team/ahead:1"}, "platforms": {""}}); where != "/prefetch" {
		t.Errorf("after fetching ahead one is at %s", where)
	}
	m.awaitBlobs(t, 6)
	if up.Count("") == before || !strings.Contains(v.get(t, "/prefetch"), "up.test/team/ahead:1") {
		t.Error("nothing was fetched ahead")
	}

	all := url.Values{"days": {"0"}, "registry": {"up.test"}}
	if text := v.get(t, "/purge?"+all.Encode()); !strings.Contains(text, "Tags: 2") {
		t.Errorf("what would be purged: %s", text)
	}
	m.awaitBlobs(t, 6) // a preview is none
	v.post(t, "/purge", all)
	usage := struct{ Blobs int }{-1}
	if m.admin(t, 200, "GET", "/api/v1/usage", "", "", &usage); usage.Blobs != 0 {
		t.Errorf("%d blobs are left after the purge", usage.Blobs)
	}

	for path, status := range map[string]int{
		"/content?registry=" + url.QueryEscape("<script>"):                            http.StatusBadRequest,
		"/content/image?repository=" + url.QueryEscape(`"><script>alert(1)</script>`): http.StatusBadRequest,
		"/content?search=" + url.QueryEscape(`"><script>alert(1)</script>`):           http.StatusOK,
		"/purge?days=0": http.StatusBadRequest, "/purge?days=x&search=a": http.StatusBadRequest,
		"/prefetch?image=" + url.QueryEscape(`"><script>alert(1)</script>`): http.StatusOK,
		"/nope": http.StatusNotFound, "/.git/config": http.StatusNotFound, "/-/none.css": http.StatusNotFound,
	} {
		if _, text := v.see(t, status, http.MethodGet, path, nil, nil); strings.Contains(text, "<script>alert") || strings.Contains(text, `"><script>`) {
			t.Errorf("%s: what was asked for is part of the page: %s", path, text)
		}
	}
	v.see(t, http.StatusForbidden, http.MethodPost, "/purge", all, func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") })
	v.see(t, http.StatusForbidden, http.MethodGet, "/", nil, func(r *http.Request) { r.Host = "evil.example" })
	v.see(t, http.StatusForbidden, http.MethodPost, "/purge", all, func(r *http.Request) { r.Host = "evil.example"; r.Header.Set("Sec-Fetch-Site", "same-origin") })

	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	for _, act := range []string{"pin", "unpin", "delete", "prefetch", "purge"} {
		if !strings.Contains(string(text), `"event":"`+act+`"`) {
			t.Errorf("the audit log has no %s:\n%s", act, text)
		}
	}
	var history struct {
		Points []struct{ Requests, ServedBytes int64 }
	}
	m.admin(t, 200, "GET", "/api/v1/history?step=24h", "", "", &history)
	var requests int64
	for _, p := range history.Points {
		requests += p.Requests
	}
	if requests == 0 {
		t.Errorf("%+v", history)
	}
	m.admin(t, 400, "GET", "/api/v1/history?step=1ns&from=2020-01-01T00:00:00Z", "", "", nil)
	m.admin(t, 400, "GET", "/api/v1/history?from=yesterday", "", "", nil)
}

// With a token, who has not logged in sees the form and nothing else.
func TestTheDashboardIsBehindTheToken(t *testing.T) {
	up := registrytest.StartTest(t, registrytest.Options{})
	dir := t.TempDir()
	token, log := filepath.Join(dir, "token"), filepath.Join(dir, "audit.log")
	if err := os.WriteFile(token, []byte("an operator's token\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	m := startReloadable(t, fmt.Sprintf("upstreams: {up.test: {endpoints: [{url: %q}]}}\nadmin: {token_file: %s}\nlog: {audit: %s}\n", up.URL(), token, log))
	v := m.visitor(t)
	for _, path := range []string{"/", "/content", "/configuration", "/fills", "/nope", "/upstreams"} {
		if _, text := v.see(t, http.StatusUnauthorized, http.MethodGet, path, nil, nil); !strings.Contains(text, `name="token"`) || strings.Contains(text, "up.test") {
			t.Errorf("%s: %s", path, text)
		}
	}
	v.see(t, http.StatusUnauthorized, http.MethodPost, "/purge", url.Values{"days": {"0"}, "registry": {"up.test"}}, nil)
	v.see(t, http.StatusForbidden, http.MethodPost, "/login", url.Values{"token": {"wrong"}}, nil)
	for _, next := range []string{"https://evil.example/", "//evil.example", `/\evil.example`, ""} {
		if where := v.post(t, "/login", url.Values{"token": {"an operator's token"}, "next": {next}}); where != "/" {
			t.Errorf("%q leads to %s", next, where)
		}
	}
	if where := v.post(t, "/login", url.Values{"token": {"an operator's token"}, "next": {"/upstreams?x=1"}}); where != "/upstreams?x=1" {
		t.Errorf("after the login one is at %s", where)
	}
	if text := v.get(t, "/upstreams"); !strings.Contains(text, "up.test") {
		t.Error("who has logged in sees nothing")
	}
	v.see(t, http.StatusUnauthorized, http.MethodGet, "/api/v1/upstreams", nil, nil) // the API wants the token itself
	here, err := url.Parse(v.base)
	if err != nil {
		t.Fatal(err)
	}
	session := v.client.Jar.Cookies(here)
	if len(session) != 1 || strings.Contains(session[0].Value, "operator") {
		t.Errorf("cookies: %v", session)
	}
	v.post(t, "/logout", nil)
	v.see(t, http.StatusUnauthorized, http.MethodGet, "/upstreams", nil, nil)
	v.client.Jar.SetCookies(here, session)
	v.see(t, http.StatusUnauthorized, http.MethodGet, "/upstreams", nil, nil) // it has ended here as well

	status := http.StatusForbidden
	for range 100 {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, v.base+"/login", strings.NewReader("token=guess"))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		resp, err := v.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if status = resp.StatusCode; status == http.StatusTooManyRequests {
			break
		}
	}
	if status != http.StatusTooManyRequests {
		t.Errorf("who guesses is not slowed down: %d", status)
	}
	text, err := os.ReadFile(log)
	if err != nil || !strings.Contains(string(text), `"event":"login"`) || strings.Contains(string(text), "operator's token") || strings.Contains(string(text), "guess") {
		t.Errorf("%v:\n%s", err, text)
	}
}
