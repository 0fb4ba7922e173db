package app_test

import (
	"bufio"
	"io"
	"net/http"
	"strings"
	"testing"

	"sampan/internal/registrytest"
)

// hears opens the stream of events; the first one has come.
func (m *mirror) hears(t *testing.T) *bufio.Reader {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+m.app.AdminAddr()+"/api/v1/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := m.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	lines := bufio.NewReader(resp.Body)
	if line, err := lines.ReadString('\n'); err != nil || line != "event: progress\n" {
		t.Fatalf("%q, %v", line, err)
	}
	return lines
}

// Who listens for events does not hold up the end: each stream is ended by the mirror,
// whole, and not broken off when patience is over.
func TestTheEndOfTheMirrorEndsStreamsOfEvents(t *testing.T) {
	m := start(t, dataDir(t))
	var streams []*bufio.Reader
	for range 3 {
		streams = append(streams, m.hears(t))
	}
	m.end(t)
	for i, lines := range streams {
		if _, err := io.ReadAll(lines); err != nil { // one that is broken off ends unexpectedly
			t.Errorf("stream %d: %v", i, err)
		}
	}
}

// While the last responses end, who listens hears of it.
func TestWhoListensHearsOfTheLastFetch(t *testing.T) {
	gate := registrytest.NewGate()
	up := registrytest.StartTest(t, registrytest.Options{Behavior: registrytest.Behavior{
		Faults: []registrytest.Fault{{HangInBody: gate, HangAt: 1 << 20}},
	}})
	blob := up.AddBlob("team/web", 32<<20, 6) // more than what is on its way to a client that does not read
	m := start(t, dataDir(t), "example.test="+up.URL())
	lines := m.hears(t)
	url := "http://" + m.app.Addr() + "/v2/example.test/team/web/blobs/" + blob.Digest.String()
	resp, err := m.client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	m.stop()
	for { // until the mirror takes no one any more
		r, err := http.Get(url)
		if err != nil {
			break
		}
		_ = r.Body.Close()
	}
	gate.Open()
	var names []string
	for len(names) == 0 || names[len(names)-1] != "fill_ended" {
		line, err := lines.ReadString('\n')
		if err != nil {
			t.Fatalf("%v after %q", err, names)
		}
		if name, ok := strings.CutPrefix(line, "event: "); ok && name != "progress\n" {
			names = append(names, strings.TrimSpace(name))
		}
	}
	if len(names) != 2 || names[0] != "fill_began" {
		t.Errorf("%q", names)
	}
	if b, err := io.ReadAll(resp.Body); err != nil || !blob.Digest.Verify(b) {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	m.end(t)
	if _, err := io.ReadAll(lines); err != nil {
		t.Error(err)
	}
}
