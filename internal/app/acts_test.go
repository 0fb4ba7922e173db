package app_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"sampan/internal/audit"
	"sampan/internal/registrytest"
)

// An act is what the audit log tells of something that somebody did.
type act struct{ event, method, path, about, client, reason, detail string }

// A diary is an audit log that is read as it grows.
type diary struct {
	file string
	read int // bytes
}

// acts returns the acts since the last time: not what the mirror and its tasks do by
// themselves.
func (d *diary) acts(t *testing.T) []act {
	t.Helper()
	text, err := os.ReadFile(d.file)
	if err != nil {
		t.Fatal(err)
	}
	var list []act
	for line := range strings.Lines(string(text[d.read:])) {
		var e struct {
			audit.Event
			Detail json.RawMessage `json:"detail"`
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil || e.Time.IsZero() {
			t.Fatalf("%s: %v", line, err)
		}
		if e.Event.Event != "started" && e.Event.Event != "task" {
			list = append(list, act{e.Event.Event, e.Method, e.Path, e.Repository, e.Client, e.Reason, string(e.Detail)})
		}
	}
	d.read = len(text)
	return list
}

// only wants one act since the last time, with a detail that has these words.
func (d *diary) only(t *testing.T, want act, words ...string) {
	t.Helper()
	got := d.acts(t)
	if len(got) != 1 {
		t.Errorf("instead of one %s there are %+v", want.event, got)
		return
	}
	for _, word := range words {
		if !strings.Contains(got[0].detail, word) {
			t.Errorf("%s: the detail has no %s: %s", want.event, word, got[0].detail)
		}
	}
	if len(words) > 0 {
		got[0].detail = ""
	}
	if got[0] != want {
		t.Errorf("got %+v, want %+v", got[0], want)
	}
}

// startWatched starts a mirror of an upstream where team/slow:1 never comes, with a task
// that reads everything, and an audit log.
func startWatched(t *testing.T, more string) (*reloadable, *registrytest.Registry, *diary) {
	t.Helper()
	up := registrytest.StartTest(t, registrytest.Options{})
	for i, name := range []string{"a", "b", "c"} {
		up.AddImage("team/"+name, "1", registrytest.ImageSpec{Layers: []int64{10_000}, Seed: uint64(i) + 1})
	}
	slow := up.AddImage("team/slow", "1", registrytest.ImageSpec{Layers: []int64{1 << 20}, Seed: 9})
	up.SetBehavior(registrytest.Behavior{Faults: []registrytest.Fault{{
		Only: slow.Layers[0][0].Digest, HangInBody: registrytest.NewGate(), HangAt: 1,
	}}})
	d := &diary{file: filepath.Join(t.TempDir(), "audit.log")}
	m := startReloadable(t, fmt.Sprintf("upstreams: {up.test: {endpoints: [{url: %q}]}}\nlog: {audit: %s}\nfetch: {prefetch: false}\n"+
		"schedule: [{name: nightly, cron: 0 3 * * *, do: scrub}]\n%s", up.URL(), d.file, more))
	return m, up, d
}

const here = "127.0.0.1"

// Each act over the API is one event: what, about what, from where, and what came of it
// or why it was refused.
func TestEachActOverTheAPIIsOneEvent(t *testing.T) {
	m, _, d := startWatched(t, "")
	if err := m.pull("up.test/team/a", "1"); err != nil {
		t.Fatal(err)
	}
	m.awaitBlobs(t, 3)
	if got := d.acts(t); len(got) != 0 {
		t.Errorf("nobody has done anything: %+v", got)
	}
	const one = "?repository=up.test/team/a&reference=1"
	m.admin(t, 200, "POST", "/api/v1/verify", "", "", nil)
	d.only(t, act{event: "verify", method: "POST", path: "/api/v1/verify", client: here}, `"state":"done"`, `"blobs":3`, `"rotten":0`)
	m.admin(t, 200, "PUT", "/api/v1/pins"+one, "", "", nil)
	d.only(t, act{event: "pin", method: "PUT", path: "/api/v1/pins", about: "up.test/team/a 1", client: here, detail: "{}"})
	m.admin(t, 200, "DELETE", "/api/v1/pins"+one, "", "", nil)
	d.only(t, act{event: "unpin", method: "DELETE", path: "/api/v1/pins", about: "up.test/team/a 1", client: here, detail: "{}"})

	var job struct{ ID int }
	m.admin(t, 200, "POST", "/api/v1/prefetches", `{"image": "up.test/team/slow:1"}`, "", &job)
	d.only(t, act{event: "prefetch", method: "POST", path: "/api/v1/prefetches", about: "up.test/team/slow:1", client: here}, fmt.Sprintf(`"id":%d`, job.ID))
	path := fmt.Sprintf("/api/v1/prefetches/%d", job.ID)
	m.admin(t, 200, "DELETE", path, "", "", nil)
	d.only(t, act{event: "cancel", method: "DELETE", path: path, about: fmt.Sprint(job.ID), client: here, detail: "{}"})
	m.admin(t, 404, "DELETE", "/api/v1/prefetches/99", "", "", nil)
	d.only(t, act{event: "cancel", method: "DELETE", path: "/api/v1/prefetches/99", about: "99", client: here, reason: "there is no such job"})

	m.runTask(t, "nightly")
	d.only(t, act{event: "run_task", method: "POST", path: "/api/v1/tasks/run", client: here}, `"name":"nightly"`)
	m.admin(t, 404, "POST", "/api/v1/tasks/run?name=none", "", "", nil)
	d.only(t, act{event: "run_task", method: "POST", path: "/api/v1/tasks/run", client: here, reason: "there is no such task: none"}, `"name":"none"`)

	// What only asks what would go changes nothing and is no act, also when it is refused.
	m.admin(t, 200, "PUT", "/api/v1/pins"+one, "", "", nil)
	d.acts(t)
	m.admin(t, 200, "POST", "/api/v1/purge", `{"registry": "up.test", "dry_run": true}`, "", nil)
	m.admin(t, 200, "DELETE", "/api/v1/repository?dry_run=true&repository=up.test/team/a", "", "", nil)
	m.admin(t, 409, "DELETE", "/api/v1/image"+one+"&dry_run=true", "", "", nil)
	if got := d.acts(t); len(got) != 0 {
		t.Errorf("nothing was changed: %+v", got)
	}
	m.admin(t, 409, "DELETE", "/api/v1/image"+one, "", "", nil)
	d.only(t, act{event: "delete", method: "DELETE", path: "/api/v1/image", about: "up.test/team/a 1", client: here, reason: "it is pinned: up.test/team/a 1"})
	m.admin(t, 200, "DELETE", "/api/v1/pins"+one, "", "", nil)
	d.acts(t)
	m.admin(t, 200, "POST", "/api/v1/purge", `{"pattern": "team/a"}`, "", nil)
	d.only(t, act{event: "purge", method: "POST", path: "/api/v1/purge", about: "team/a", client: here}, `"tags":1`)
}

// Each act on the pages is one event as well, and so is each attempt to log in.
func TestEachActOnThePagesIsOneEvent(t *testing.T) {
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("an operator's token\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	m, _, d := startWatched(t, fmt.Sprintf("admin: {token_file: %s}\n", token))
	if err := m.pull("up.test/team/a", "1"); err != nil {
		t.Fatal(err)
	}
	v := m.visitor(t)
	login := act{event: "login", method: "POST", path: "/login", about: "dashboard", client: here}
	v.see(t, http.StatusForbidden, http.MethodPost, "/login", url.Values{"token": {"wrong"}}, nil)
	refused := login
	refused.reason = "wrong token"
	d.only(t, refused)
	v.post(t, "/login", url.Values{"token": {"an operator's token"}})
	d.only(t, login)

	one := url.Values{"repository": {"up.test/team/a"}, "reference": {"1"}}
	v.post(t, "/pin", one)
	d.only(t, act{event: "pin", method: "POST", path: "/pin", about: "up.test/team/a 1", client: here})
	v.post(t, "/unpin", one)
	d.only(t, act{event: "unpin", method: "POST", path: "/unpin", about: "up.test/team/a 1", client: here})
	v.post(t, "/prefetch", url.Values{"image": {"up.test/team/slow:1"}})
	d.only(t, act{event: "prefetch", method: "POST", path: "/prefetch", about: "up.test/team/slow:1", client: here}, `"id":1`)
	v.post(t, "/prefetch/cancel", url.Values{"id": {"1"}})
	d.only(t, act{event: "cancel", method: "POST", path: "/prefetch/cancel", about: "1", client: here})
	v.post(t, "/tasks/run", url.Values{"name": {"nightly"}})
	d.only(t, act{event: "run_task", method: "POST", path: "/tasks/run", client: here}, `"name":"nightly"`)
	v.post(t, "/purge", url.Values{"days": {"0"}, "pattern": {"team/a"}})
	d.only(t, act{event: "purge", method: "POST", path: "/purge", about: "team/a 0d", client: here}, `"tags":1`)
}

// leaving is a context that ends when it is looked at for the nth time.
type leaving struct {
	context.Context
	left atomic.Int64
}

func (c *leaving) Err() error {
	if c.left.Add(-1) < 0 {
		return context.Canceled
	}
	return c.Context.Err()
}

// Whenever the client of a purge leaves, there is one event that tells what has gone
// until then, as it is.
func TestAPurgeWhoseClientLeavesTellsWhatHasGone(t *testing.T) {
	m, _, d := startWatched(t, "")
	repositories := func() int {
		var answer struct{ Repositories []string }
		m.admin(t, 200, "GET", "/api/v1/repositories", "", "", &answer)
		return len(answer.Repositories)
	}
	halves := 0
	for n := int64(0); ; n++ {
		for _, name := range []string{"a", "b", "c"} {
			if err := m.pull("up.test/team/"+name, "1"); err != nil {
				t.Fatal(err)
			}
		}
		m.awaitBlobs(t, 9)
		ctx := &leaving{Context: t.Context()}
		ctx.left.Store(n)
		r := httptest.NewRequestWithContext(ctx, http.MethodPost, "http://127.0.0.1/api/v1/purge", strings.NewReader(`{"pattern": "team/*"}`))
		r.RemoteAddr = here + ":1"
		w := httptest.NewRecorder()
		m.app.Admin().ServeHTTP(w, r)
		got := d.acts(t)
		if len(got) != 1 {
			t.Fatalf("look %d: %+v", n, got)
		}
		var report struct{ Tags int }
		if e := got[0]; e.detail != "" && json.Unmarshal([]byte(e.detail), &report) != nil {
			t.Errorf("look %d: %+v", n, e)
		}
		if gone := 3 - repositories(); report.Tags != gone {
			t.Errorf("look %d: %d repositories have gone, and the event tells of %d: %+v", n, gone, report.Tags, got[0])
		}
		want := act{event: "purge", method: "POST", path: "/api/v1/purge", about: "team/*", client: here, detail: got[0].detail}
		if got[0] == want { // nobody left
			break
		}
		if want.reason = context.Canceled.Error(); !strings.HasSuffix(got[0].reason, want.reason) {
			t.Errorf("look %d: %+v", n, got[0])
		}
		if 0 < report.Tags && report.Tags < 3 {
			halves++
		}
	}
	if halves == 0 {
		t.Error("no purge was left half done")
	}
}

// A reading of all that is stored whose client leaves is one event, too, with how far it
// came.
func TestAVerificationWhoseClientLeavesIsOneEvent(t *testing.T) {
	m, _, d := startWatched(t, "")
	if err := m.pull("up.test/team/a", "1"); err != nil {
		t.Fatal(err)
	}
	m.awaitBlobs(t, 3)
	ctx, leave := context.WithCancel(t.Context())
	leave()
	r := httptest.NewRequestWithContext(ctx, http.MethodPost, "http://127.0.0.1/api/v1/verify", nil)
	r.RemoteAddr = here + ":1"
	m.app.Admin().ServeHTTP(httptest.NewRecorder(), r)
	got := d.acts(t)
	if len(got) != 1 || !strings.HasSuffix(got[0].reason, context.Canceled.Error()) || !strings.Contains(got[0].detail, `"state":"failed"`) ||
		!strings.Contains(got[0].detail, `"blobs":0`) {
		t.Errorf("%+v", got)
	}
}
