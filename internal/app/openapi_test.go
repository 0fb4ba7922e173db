package app_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/pb33f/libopenapi"
	validator "github.com/pb33f/libopenapi-validator"

	"sampan/internal/admin"
	"sampan/internal/oci"
	"sampan/internal/registrytest"
)

// A describedMirror is asked, and each answer is held against its description.
type describedMirror struct {
	*reloadable
	check validator.Validator
	asked map[string]bool // "METHOD /path" of the description
}

// describedAPI is the mirror with the description that it serves itself.
func describedAPI(t *testing.T, m *reloadable) (d *describedMirror, operations []string) {
	t.Helper()
	text := m.admin(t, 200, "GET", "/api/v1/openapi.yaml", "", "", nil)
	doc, err := libopenapi.NewDocument([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	check, errs := validator.NewValidator(doc)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	if ok, errs := check.ValidateDocument(); !ok {
		t.Fatal(errs)
	}
	model, err := doc.BuildV3Model()
	if err != nil {
		t.Fatal(err)
	}
	for path, item := range model.Model.Paths.PathItems.FromOldest() {
		for method := range item.GetOperations().FromOldest() {
			operations = append(operations, strings.ToUpper(method)+" "+path)
		}
	}
	slices.Sort(operations)
	return &describedMirror{m, check, make(map[string]bool)}, operations
}

// ask wants a status, and an answer as it is described. A question that is no mistake
// is held against the description as well.
func (d *describedMirror) ask(t *testing.T, want int, operation, target, body string) string {
	t.Helper()
	method, path, _ := strings.Cut(operation, " ")
	if target == "" || target[0] == '?' {
		target = path + target
	}
	d.asked[operation] = true
	request := func() *http.Request {
		var sent io.Reader
		if body != "" {
			sent = strings.NewReader(body)
		}
		req, err := http.NewRequestWithContext(t.Context(), method, "http://"+d.app.AdminAddr()+target, sent)
		if err != nil {
			t.Fatal(err)
		}
		if body != "" {
			req.Header.Set("Content-Type", "application/json")
		}
		return req
	}
	resp, err := d.client.Do(request())
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != want {
		t.Fatalf("%s %s: %d %s", method, target, resp.StatusCode, text)
	}
	if want < 300 {
		if ok, errs := d.check.ValidateHttpRequest(request()); !ok {
			t.Errorf("%s %s %s: %v", method, target, body, errs)
		}
	}
	if resp.Header.Get("Content-Type") == "application/x-ndjson" { // the last line is the result
		lines := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
		text = lines[len(lines)-1]
	}
	resp.Body = io.NopCloser(bytes.NewReader(text))
	if ok, errs := d.check.ValidateHttpResponse(request(), resp); !ok {
		t.Errorf("%s %s: the answer is not as described: %v\n%s", method, target, errs, text)
	}
	return string(text)
}

// The description and the API are one: every route is described, nothing else is, and
// what each operation answers, to good questions and bad ones, is as it says.
func TestTheAPIIsAsItIsDescribed(t *testing.T) {
	up := registrytest.StartTest(t, registrytest.Options{})
	img := up.AddImage("team/app", "1", registrytest.ImageSpec{Layers: []int64{1000, 2000}, Seed: 1})
	up.AddImage("team/app", "2", registrytest.ImageSpec{Layers: []int64{3000}, Seed: 2})
	m := startReloadable(t, fmt.Sprintf("upstreams: {up.test: {endpoints: [{url: %q}]}}\nfetch: {prefetch: false}\nschedule: [{name: nightly, cron: '0 3 * * *', do: scrub}]\n", up.URL()))
	for _, tag := range []string{"1", "2"} {
		if err := m.pull("up.test/team/app", tag); err != nil {
			t.Fatal(err)
		}
	}
	d, operations := describedAPI(t, m)
	var routes []string
	for _, r := range m.app.AdminRoutes() {
		if _, path, _ := strings.Cut(r, " "); strings.HasPrefix(path, "/api/") || !strings.Contains(path[1:], "/") && path != "/" && !strings.Contains(path, "{") {
			routes = append(routes, r)
		}
	}
	slices.Sort(routes)
	if !slices.Equal(routes, operations) {
		t.Fatalf("routes:\n%s\ndescribed:\n%s", strings.Join(routes, "\n"), strings.Join(operations, "\n"))
	}
	layer := img.Layers[0][0].Digest.String()
	const blank = "?repository=up.test/team/loaded&digest="
	text := oci.DigestOf([]byte(`"bring"`)).String()
	const index = `{"schemaVersion": 2, "manifests": []}`
	about := oci.DigestOf([]byte(index)).String() + "&media_type=" + url.QueryEscape(oci.MediaTypeImageIndex)
	for _, q := range []struct {
		want            int
		operation, rest string
		body            string
	}{
		{200, "GET /healthz", "", ""},
		{200, "GET /readyz", "", ""},
		{200, "GET /metrics", "", ""},
		{200, "GET /api/v1/openapi.yaml", "", ""},
		{200, "POST /api/v1/reload", "", ""},
		{200, "GET /api/v1/config", "", ""},
		{200, "GET /api/v1/config", "?format=json", ""},
		{400, "GET /api/v1/config", "?format=xml", ""},
		{200, "GET /api/v1/fills", "", ""},
		{200, "GET /api/v1/pulls", "", ""},
		{200, "GET /api/v1/recent", "?kind=error&n=10", ""},
		{400, "GET /api/v1/recent", "?n=0", ""},
		{200, "GET /api/v1/history", "?from=2026-01-01T00:00:00Z&to=2026-01-02T00:00:00Z&step=6h", ""},
		{200, "GET /api/v1/history", "", ""},
		{400, "GET /api/v1/history", "?step=0s", ""},
		{200, "GET /api/v1/upstreams", "", ""},
		{200, "GET /api/v1/explain", "?image=up.test/team/app:1", ""},
		{200, "GET /api/v1/explain", "?image=other.test/team/app:1", ""},
		{400, "GET /api/v1/explain", "?image=UP", ""},
		{200, "GET /api/v1/tasks", "", ""},
		{404, "POST /api/v1/tasks/run", "?name=none", ""},
		{200, "POST /api/v1/tasks/run", "?name=nightly", ""},
		{200, "GET /api/v1/tasks", "", ""},
		{200, "GET /api/v1/registries", "", ""},
		{200, "GET /api/v1/repositories", "?n=10&search=app&registry=up.test&pattern=team/*", ""},
		{400, "GET /api/v1/repositories", "?n=1001", ""},
		{400, "GET /api/v1/repositories", "?registry=a%20b", ""},
		{200, "GET /api/v1/tags", "?repository=up.test/team/app&n=1", ""},
		{400, "GET /api/v1/tags", "", ""},
		{200, "GET /api/v1/image", "?repository=up.test/team/app&reference=1", ""},
		{200, "GET /api/v1/image", "?repository=up.test/team/app&reference=2", ""},
		{404, "GET /api/v1/image", "?repository=up.test/team/app&reference=none", ""},
		{400, "GET /api/v1/image", "", ""},
		{200, "GET /api/v1/blobs", "?n=2", ""},
		{400, "GET /api/v1/blobs", "?after=x", ""},
		{200, "GET /api/v1/blob", "?digest=" + layer, ""},
		{404, "GET /api/v1/blob", "?digest=sha256:" + strings.Repeat("0", 64), ""},
		{400, "GET /api/v1/blob", "", ""},
		{200, "GET /api/v1/usage", "", ""},
		{200, "POST /api/v1/verify", "", ""},
		{200, "PUT /api/v1/pins", "?repository=up.test/team/app&reference=1", ""},
		{400, "PUT /api/v1/pins", "", ""},
		{404, "PUT /api/v1/pins", "?repository=up.test/team/app&reference=!", ""},
		{200, "GET /api/v1/pins", "", ""},
		{409, "DELETE /api/v1/image", "?repository=up.test/team/app&reference=1", ""},
		{404, "DELETE /api/v1/image", "?repository=up.test/team/app&reference=none", ""},
		{400, "DELETE /api/v1/image", "?repository=up.test/team/app", ""},
		{200, "DELETE /api/v1/image", "?repository=up.test/team/app&reference=2&dry_run=true", ""},
		{400, "POST /api/v1/purge", "", `{"unsued": "1h"}`},
		{200, "POST /api/v1/purge", "", `{"registry": "up.test", "dry_run": true}`},
		{200, "DELETE /api/v1/pins", "?repository=up.test/team/app&reference=1", ""},
		{404, "DELETE /api/v1/pins", "?repository=up.test/team/app&reference=!", ""},
		{404, "DELETE /api/v1/repository", "?repository=up.test/none", ""},
		{200, "DELETE /api/v1/repository", "?repository=up.test/team/app", ""},
		{400, "POST /api/v1/prefetches", "", `{"image": "UP"}`},
		{200, "POST /api/v1/prefetches", "", `{"image": "up.test/team/app:2"}`},
		{200, "GET /api/v1/prefetches", "", ""},
		{200, "GET /api/v1/prefetches/{id}", "/api/v1/prefetches/1", ""},
		{404, "GET /api/v1/prefetches/{id}", "/api/v1/prefetches/99", ""},
		{404, "DELETE /api/v1/prefetches/{id}", "/api/v1/prefetches/99", ""},
		{200, "GET /api/v1/intake/blob", blank + text, ""},
		{400, "GET /api/v1/intake/blob", "?repository=other.test/app&digest=" + text, ""},
		{400, "PUT /api/v1/intake/blob", blank + text, `"bring"`},
		{416, "PUT /api/v1/intake/blob", blank + text + "&size=8&offset=1", `"bring"`},
		{422, "PUT /api/v1/intake/blob", blank + text + "&size=7", "bought!"},
		{200, "PUT /api/v1/intake/blob", blank + text + "&size=7", `"bring"`},
		{200, "GET /api/v1/intake/blob", blank + text, ""},
		{404, "GET /api/v1/intake/manifest", "?repository=up.test/team/loaded&reference=1", ""},
		{422, "PUT /api/v1/intake/manifest", blank + about, index + " "},
		{400, "PUT /api/v1/intake/manifest", blank + about + "&tag=!", index},
		{200, "PUT /api/v1/intake/manifest", blank + about + "&tag=1&tag=2", index},
		{200, "GET /api/v1/intake/manifest", "?repository=up.test/team/loaded&reference=2", ""},
	} {
		d.ask(t, q.want, q.operation, q.rest, q.body)
	}
	d.listens(t)
	for _, operation := range operations {
		if !d.asked[operation] {
			t.Errorf("%s was not asked", operation)
		}
	}
}

// listens hears the first event of the stream, which is a Moment.
func (d *describedMirror) listens(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+d.app.AdminAddr()+"/api/v1/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := d.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	d.asked["GET /api/v1/events"] = true
	lines := bufio.NewScanner(resp.Body)
	var m admin.Moment
	for lines.Scan() {
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok {
			continue
		}
		strict := json.NewDecoder(strings.NewReader(data))
		strict.DisallowUnknownFields()
		if err := strict.Decode(&m); err != nil || m.Fills == nil || m.Pulls == nil {
			t.Errorf("%s: %v", data, err)
		}
		break
	}
	if m.Time.IsZero() {
		t.Error("no event has come")
	}
	resp.Body = io.NopCloser(strings.NewReader("event: progress\n"))
	if ok, errs := d.check.ValidateHttpResponse(req, resp); !ok {
		t.Error(errs)
	}
}
