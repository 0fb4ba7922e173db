package app_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sampan/internal/registrytest"
)

// A told task is what the admin listener says of one.
type told struct {
	Name, Do, Cron string
	Next           time.Time
	Last           *struct {
		Started, Ended time.Time
		Outcome, Error string
	}
}

// tasks are those of the mirror, by name.
func (m *mirror) tasks(t *testing.T) map[string]told {
	t.Helper()
	var answer struct{ Tasks []told }
	m.admin(t, 200, "GET", "/api/v1/tasks", "", "", &answer)
	all := make(map[string]told)
	for _, task := range answer.Tasks {
		all[task.Name] = task
	}
	return all
}

// runTask has a task run and waits for its end.
func (m *mirror) runTask(t *testing.T, name string) told {
	t.Helper()
	m.admin(t, 200, "POST", "/api/v1/tasks/run?name="+name, "", "", nil)
	for {
		if task := m.tasks(t)[name]; task.Last != nil && !task.Last.Ended.IsZero() {
			return task
		}
	}
}

// awaitBlobs waits for so many: what was sent is kept a moment later.
func (m *mirror) awaitBlobs(t *testing.T, n int) {
	t.Helper()
	for usage := (struct{ Blobs int }{}); usage.Blobs < n; {
		m.admin(t, 200, "GET", "/api/v1/usage", "", "", &usage)
	}
}

// Tasks of the configuration do what they say, their results are told, also after a
// restart, and a reload changes them.
func TestTasksDoWhatTheySay(t *testing.T) {
	up := registrytest.StartTest(t, registrytest.Options{})
	up.AddImage("team/app", "1", registrytest.ImageSpec{Layers: []int64{10_000, 20_000}, Seed: 1})
	up.AddImage("team/ahead", "1", registrytest.ImageSpec{Layers: []int64{40_000}, Seed: 3})
	audit := filepath.Join(t.TempDir(), "audit.log")
	const tasks = `
schedule:
  - {name: look, cron: 0 3 * * *, do: purge, registry: up.test, dry_run: true}
  - {name: clean, cron: 0 3 * * *, timezone: Asia/Shanghai, do: purge, pattern: "team/app"}
  - {name: old, cron: 0 3 * * *, do: purge, unused: 1h}
  - {name: ahead, cron: 0 3 * * *, do: prefetch, images: ["up.test/team/ahead:1"]}
  - {name: half, cron: 0 3 * * *, do: prefetch, images: ["up.test/team/ahead:1", "up.test/team/none:1"]}
  - {name: read, cron: 0 3 * * *, do: scrub, rate: 0}
`
	head := fmt.Sprintf("upstreams: {up.test: {endpoints: [{url: %q}]}}\nlog: {audit: %s}\nfetch: {prefetch: false}\n", up.URL(), audit)
	m := startReloadable(t, head+tasks)
	if err := m.pull("up.test/team/app", "1"); err != nil {
		t.Fatal(err)
	}
	m.awaitBlobs(t, 4)
	if all := m.tasks(t); len(all) != 6 || all["look"].Last != nil || all["clean"].Next.UTC().Hour() != 19 || !all["clean"].Next.After(time.Now()) {
		t.Errorf("%+v", all)
	}
	for _, c := range []struct{ name, outcome, err string }{
		{"look", "1 tags, 1 manifests and 3 blobs would be deleted", ""},
		{"old", "0 tags, 0 manifests and 0 blobs deleted, 0 bytes", ""},
		{"ahead", "1 of 1 images are here, 2 blobs", ""},
		{"half", "1 of 2 images are here, 2 blobs", "1 images did not come: up.test/team/none:1: failed"},
		{"read", "7 blobs and", ""},
		{"clean", "1 tags, 1 manifests and 3 blobs deleted", ""},
	} {
		if c.name == "read" {
			m.awaitBlobs(t, 7)
		}
		last := m.runTask(t, c.name).Last
		if !strings.HasPrefix(last.Outcome, c.outcome) || !strings.HasPrefix(last.Error, c.err) || (c.err == "") != (last.Error == "") {
			t.Errorf("%s: %+v", c.name, last)
		}
	}
	asked := up.Count("")
	if err := m.pull("up.test/team/ahead", "1"); err != nil || up.Count("") != asked {
		t.Errorf("%v; what was fetched ahead is asked for", err)
	}
	if err := m.pull("up.test/team/app", "1"); err != nil || up.Count("") == asked {
		t.Errorf("%v; what was purged is here", err)
	}
	m.admin(t, 404, "POST", "/api/v1/tasks/run?name=none", "", "", nil)
	metrics := m.admin(t, 200, "GET", "/metrics", "", "", nil)
	for _, want := range []string{`sampan_schedule_runs_total{result="ok",task="clean"} 1`, `sampan_schedule_runs_total{result="error",task="half"} 1`, `sampan_schedule_last_success_timestamp_seconds{task="half"} 0`} {
		if !strings.Contains(metrics, want) {
			t.Errorf("no metric %s", want)
		}
	}

	m.write(t, head+strings.Replace(tasks, "name: look, cron: 0 3", "name: look, cron: 30 4", 1)+"  - {name: new, cron: 0 3 * * *, do: scrub}\n")
	if err := m.app.Reload(); err != nil {
		t.Fatal(err)
	}
	if all := m.tasks(t); len(all) != 7 || all["look"].Cron != "30 4 * * *" || all["look"].Last == nil || all["new"].Last != nil {
		t.Errorf("%+v", all)
	}
	m.end(t)
	again := startAgain(t, m)
	if last := again.tasks(t)["clean"].Last; last == nil || !strings.HasPrefix(last.Outcome, "1 tags") {
		t.Errorf("after a restart: %+v", last)
	}
	again.end(t)
	checkAudit(t, audit)
}

// checkAudit looks for what people and the clock had done.
func checkAudit(t *testing.T, name string) {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	counts := make(map[string]int)
	for line := range strings.Lines(string(text)) {
		var e struct {
			Event, Reason string
			Detail        struct{ Name, Outcome string }
		}
		_ = json.Unmarshal([]byte(line), &e) // other events have other details
		counts[e.Event+" "+e.Detail.Name]++
		if e.Event == "task" && e.Detail.Outcome == "" || e.Event == "task" && e.Detail.Name == "half" && e.Reason == "" {
			t.Errorf("%s", line)
		}
	}
	for _, want := range []string{"task clean", "run_task clean", "task half", "run_task none"} {
		if counts[want] != 1 {
			t.Errorf("%q is there %d times in %v", want, counts[want], counts)
		}
	}
}

// The end of the mirror ends a task that runs, and tells that afterwards.
func TestATaskEndsWithTheMirror(t *testing.T) {
	up := registrytest.StartTest(t, registrytest.Options{Behavior: registrytest.Behavior{Pace: registrytest.Pace{BytesPerSecond: 1000}}})
	up.AddImage("team/slow", "1", registrytest.ImageSpec{Layers: []int64{10 << 20}, Seed: 1})
	m := startReloadable(t, fmt.Sprintf("upstreams: {up.test: {endpoints: [{url: %q}]}}\nschedule: [{name: slow, cron: 0 3 * * *, do: prefetch, images: 'up.test/team/slow:1'}]\n", up.URL()))
	m.admin(t, 200, "POST", "/api/v1/tasks/run?name=slow", "", "", nil)
	for m.tasks(t)["slow"].Last == nil { // it begins with the mirror
	}
	m.admin(t, 409, "POST", "/api/v1/tasks/run?name=slow", "", "", nil)
	m.end(t)
	again := startAgain(t, m)
	if last := again.tasks(t)["slow"].Last; last == nil || last.Error != "the mirror is stopping" || !strings.HasPrefix(last.Outcome, "0 of 1 images") {
		t.Errorf("%+v", last)
	}
}
