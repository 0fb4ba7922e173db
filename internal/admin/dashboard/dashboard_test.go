package dashboard

import (
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"sampan/internal/admin"
	"sampan/internal/history"
)

var noon = time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)

func TestSessionsEnd(t *testing.T) {
	now := noon
	s := newSessions("token", func() time.Time { return now })
	ask := func(secret string) *http.Request {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.AddCookie(&http.Cookie{Name: cookie, Value: secret})
		return r
	}
	first := s.begin()
	if !s.has(ask(first)) || s.has(ask(first+"x")) || s.has(ask("")) || s.has(httptest.NewRequest(http.MethodGet, "/", nil)) {
		t.Error("only what was given counts")
	}
	now = now.Add(sessionFor)
	if s.has(ask(first)) {
		t.Error("a session is for ever")
	}
	var given []string
	for range maxSessions + 1 {
		now = now.Add(time.Second)
		given = append(given, s.begin())
	}
	if len(s.open) != maxSessions || s.has(ask(given[0])) || !s.has(ask(given[1])) || !s.has(ask(given[maxSessions])) {
		t.Errorf("%d sessions are kept, and not the last ones", len(s.open))
	}
	s.end(ask(given[1]))
	if s.has(ask(given[1])) {
		t.Error("who has logged out is in")
	}
}

func TestALineIsInterruptedWhereNothingIsKnown(t *testing.T) {
	var points []history.Point
	for i, served := range []int64{100, 0, 200, 400} {
		points = append(points, history.Point{Time: noon.Add(time.Duration(i) * time.Hour), Counts: history.Counts{Served: served, Cached: served / 2, Fetched: 10}})
	}
	list := charts(points, noon, noon.Add(4*time.Hour), spans()[0], 1<<30)
	if len(list) != 4 {
		t.Fatalf("%d charts", len(list))
	}
	bytes, ratio, disk := list[0], list[1], list[3]
	if bytes.Peak != 400 || len(bytes.Lines) != 2 || strings.Count(bytes.Lines[0].Path, "M") != 1 || strings.Count(bytes.Lines[0].Path, "L") != 3 {
		t.Errorf("%+v", bytes)
	}
	if top := bytes.Marks[2]; top.Value != 500 || top.At != chartTop || bytes.Marks[0].At != chartBottom {
		t.Errorf("%+v", bytes.Marks)
	}
	if strings.Count(ratio.Lines[0].Path, "M") != 2 || ratio.Marks[2].Value != 1 || !math.IsNaN(ratio.Rows[2].Values[0]) || ratio.Rows[0].Values[0] != .5 {
		t.Errorf("%+v", ratio)
	}
	if disk.Lines[0].Path != "" || disk.Marks[2].Value != 1<<30 || disk.Value(math.NaN()).Unit != "none" {
		t.Errorf("%+v", disk)
	}
	many := make([]history.Point, 1000)
	if rows := rows(many, nil); len(rows) > maxRows {
		t.Errorf("%d rows", len(rows))
	}
}

func TestAnAxisIsEasyToRead(t *testing.T) {
	for _, c := range []struct {
		value float64
		unit  string
		want  float64
	}{{0, "count", 1}, {1, "count", 1}, {3, "count", 5}, {51, "count", 100}, {1500, "bytes", 2 << 10}, {300 << 20, "bytes", 500 << 20}, {900 << 20, "bytes", 1000 << 20}} {
		if got := round(c.value, c.unit); got != c.want {
			t.Errorf("%v %s: %v, want %v", c.value, c.unit, got, c.want)
		}
	}
}

// A page that leads a browser to this machine by a name of its own learns nothing.
func TestWithoutATokenOnlyThisMachineMayChange(t *testing.T) {
	for _, c := range []struct {
		remote, host, method string
		free                 bool
	}{
		{"127.0.0.1:1", "127.0.0.1:5001", "POST", true},
		{"[::1]:1", "[::1]:5001", "POST", true},
		{"127.0.0.1:1", "localhost:5001", "POST", true},
		{"127.0.0.1:1", "localhost", "GET", true},
		{"127.0.0.1:1", "evil.example:5001", "POST", false},
		{"127.0.0.1:1", "evil.example", "GET", false},
		{"192.0.2.1:1", "mirror.example:5001", "GET", true},
		{"192.0.2.1:1", "127.0.0.1:5001", "POST", false},
		{"@", "localhost", "POST", false},
	} {
		r := httptest.NewRequest(c.method, "/", nil)
		r.RemoteAddr, r.Host = c.remote, c.host
		if err := admin.Free(r); (err == nil) != c.free {
			t.Errorf("%+v: %v", c, err)
		}
	}
}
