package app_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sampan/internal/registrytest"
)

// admin asks the admin listener and wants a status; the answer goes into v, if any.
func (m *mirror) admin(t *testing.T, want int, method, path, body, token string, v any) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+m.app.AdminAddr()+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := m.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var raw strings.Builder
	buf := make([]byte, 64<<10)
	for {
		n, err := resp.Body.Read(buf)
		raw.Write(buf[:n])
		if err != nil {
			break
		}
	}
	if resp.StatusCode != want {
		t.Fatalf("%s %s: %d %s", method, path, resp.StatusCode, raw.String())
	}
	if v != nil {
		if err := json.Unmarshal([]byte(raw.String()), v); err != nil {
			t.Fatalf("%s %s: %v in %s", method, path, err, raw.String())
		}
	}
	return raw.String()
}

// What was pulled is listed with what it is made of, pinned, deleted, fetched ahead
// and purged; all of it is in the audit log, and the upstream is asked for nothing but
// what is fetched.
func TestTheAdminAPIKeepsHouse(t *testing.T) {
	up := registrytest.StartTest(t, registrytest.Options{})
	one := up.AddImage("team/app", "1", registrytest.ImageSpec{Layers: []int64{10_000, 20_000}, Seed: 1})
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
	var repositories struct{ Repositories []string }
	m.admin(t, 200, "GET", "/api/v1/repositories?search=APP", "", "", &repositories)
	if len(repositories.Repositories) != 1 || repositories.Repositories[0] != "up.test/team/app" {
		t.Errorf("%+v", repositories)
	}
	var tags struct {
		Tags []struct {
			Name   string
			Here   bool
			Pinned bool
		}
	}
	m.admin(t, 200, "GET", "/api/v1/tags?repository=up.test/team/app", "", "", &tags)
	if len(tags.Tags) != 2 || !tags.Tags[0].Here {
		t.Errorf("%+v", tags)
	}
	var image struct {
		Complete bool
		Layers   []struct {
			Digest string
			Here   bool
		}
	}
	m.admin(t, 200, "GET", "/api/v1/image?repository=up.test/team/app&reference=1", "", "", &image)
	if !image.Complete || len(image.Layers) != 2 || image.Layers[0].Digest != one.Layers[0][0].Digest.String() {
		t.Errorf("%+v", image)
	}
	m.admin(t, 200, "PUT", "/api/v1/pins?repository=up.test/team/app&reference=1", "", "", nil)
	m.admin(t, 409, "DELETE", "/api/v1/image?repository=up.test/team/app&reference=1", "", "", nil)
	var usage struct{ Pinned, Complete int64 }
	m.admin(t, 200, "GET", "/api/v1/usage", "", "", &usage)
	if usage.Pinned < 30_000 || usage.Complete < 60_000 {
		t.Errorf("%+v", usage)
	}
	var report struct {
		Tags, Blobs int
		Names       []string
	}
	m.admin(t, 200, "POST", "/api/v1/purge", `{"registry": "up.test", "dry_run": true}`, "", &report)
	if report.Tags != 1 || len(report.Names) != 1 || report.Names[0] != "up.test/team/app:2" {
		t.Errorf("%+v", report)
	}
	asked := up.Count("")
	m.admin(t, 200, "DELETE", "/api/v1/image?repository=up.test/team/app&reference=2", "", "", &report)
	if report.Tags != 1 || report.Blobs != 2 || up.Count("") != asked {
		t.Errorf("%+v, the upstream was asked %d times", report, up.Count("")-asked)
	}
	if err := m.pull("up.test/team/app", "2"); err != nil || up.Count("") == asked {
		t.Errorf("what was deleted is fetched again: %v", err)
	}
	var job struct {
		ID    int
		State string
		Error string
	}
	m.admin(t, 200, "POST", "/api/v1/prefetches", `{"image": "up.test/team/ahead:1"}`, "", &job)
	for job.State == "waiting" || job.State == "running" {
		m.admin(t, 200, "GET", fmt.Sprintf("/api/v1/prefetches/%d", job.ID), "", "", &job)
	}
	asked = up.Count("")
	if err := m.pull("up.test/team/ahead", "1"); err != nil || job.State != "done" || up.Count("") != asked {
		t.Errorf("%+v, %v; the upstream was asked %d times", job, err, up.Count("")-asked)
	}
	for path, want := range map[string]int{
		"GET /api/v1/image?repository=up.test/team/app&reference=none": 404, "GET /api/v1/image": 400, "GET /api/v1/tags?repository=UP": 400,
		"GET /api/v1/repositories?n=0": 400, "DELETE /api/v1/image?repository=up.test/team/app": 400, "DELETE /api/v1/repository?repository=up.test/team/app&reference=1": 400,
		"DELETE /api/v1/repository?repository=up.test/none": 404, "GET /api/v1/prefetches/99": 404, "DELETE /api/v1/prefetches/x": 404, "POST /api/v1/purge": 400,
	} {
		method, path, _ := strings.Cut(path, " ")
		m.admin(t, want, method, path, "{}", "", nil)
	}
	m.admin(t, 400, "POST", "/api/v1/purge", `{"unsued": "1h"}`, "", nil)
	m.admin(t, 200, "POST", "/api/v1/purge", `{"all": true}`, "", &report)
	m.end(t)
	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	for _, act := range []string{`"pin"`, `"delete"`, `"purge"`, `"prefetch"`} {
		if !strings.Contains(string(text), `"event":`+act) {
			t.Errorf("%s is not in the audit log", act)
		}
	}
}

func TestTheAdminTokenIsNeeded(t *testing.T) {
	m := startReloadable(t, "admin: {token: very-secret}\n")
	for _, token := range []string{"", "wrong"} {
		m.admin(t, 401, "GET", "/api/v1/usage", "", token, nil)
		m.admin(t, 401, "POST", "/api/v1/reload", "", token, nil)
	}
	m.admin(t, 200, "GET", "/api/v1/usage", "", "very-secret", nil)
	m.admin(t, 200, "GET", "/metrics", "", "", nil)
	m.admin(t, 200, "GET", "/healthz", "", "", nil)
}
