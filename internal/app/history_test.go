package app_test

import (
	"net/http"
	"testing"
	"time"

	"sampan/internal/history"
	"sampan/internal/registrytest"
)

// points are what the mirror tells of the last day.
func (m *mirror) points(t *testing.T) (sum history.Counters) {
	t.Helper()
	var answer struct{ Points []history.Point }
	m.admin(t, http.StatusOK, "GET", "/api/v1/history?step=5m", "", "", &answer)
	for _, p := range answer.Points {
		sum.Requests += p.Requests
		sum.Hits += p.Hits
		sum.Served += p.Served
		sum.Cached += p.Cached
		sum.Fetched += p.Fetched
		sum.Disk = p.Disk
		if sum.Registries == nil {
			sum.Registries = map[string]history.Traffic{}
		}
		for name, r := range p.Registries {
			r.Requests += sum.Registries[name].Requests
			sum.Registries[name] = r
		}
	}
	return sum
}

// What was served is remembered by the next process, to the byte.
func TestAnotherProcessTellsWhatWasServed(t *testing.T) {
	up := registrytest.StartTest(t, registrytest.Options{})
	up.AddImage("team/app", "1", registrytest.ImageSpec{Layers: []int64{10_000, 20_000}, Seed: 1})
	dir, upstream := t.TempDir(), "example.com="+up.URL()
	const pulls = 3
	for range 2 {
		m := start(t, dir, upstream)
		for range pulls {
			if err := m.pull("example.com/team/app", "1"); err != nil {
				t.Fatal(err)
			}
			m.settle(t)
		}
		m.end(t)
	}
	m := start(t, dir, upstream)
	got := m.points(t)
	if got.Requests < 2*pulls*4 || got.Registries["example.com"].Requests != got.Requests {
		t.Errorf("requests: %+v", got)
	}
	// Only the first pull was not answered with what was here.
	if got.Served < 2*pulls*30_000 || got.Served > 2*pulls*35_000 || got.Cached < (2*pulls-1)*30_000 || got.Cached > got.Served {
		t.Errorf("bytes to clients: %+v", got)
	}
	if got.Fetched < 30_000 || got.Fetched > 40_000 || got.Disk < 30_000 || got.Hits == 0 {
		t.Errorf("bytes from the upstream: %+v", got)
	}
}

func TestHistoryTakesNoNonsense(t *testing.T) {
	m := start(t, t.TempDir(), "example.com=http://127.0.0.1:1")
	now := time.Now().UTC().Format(time.RFC3339)
	for _, query := range []string{"from=yesterday", "to=12:00", "step=fast", "step=-5m", "step=9999h", "from=2001-01-01T00:00:00Z", "from=" + now + "&to=2001-01-01T00:00:00Z"} {
		if r := fetch(t, m.client, "http://"+m.app.AdminAddr()+"/api/v1/history?"+query); r.status != http.StatusBadRequest {
			t.Errorf("%s: %d %s", query, r.status, r.body)
		}
	}
}
