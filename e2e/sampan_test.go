//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"testing"
)

// mirror is one sampan process with upstreams of its own.
type mirror struct {
	address string // of the registry API
	admin   string
	data    string
	args    []string
	env     []string // besides cleanEnv
	process *daemon

	upstreams map[string]*upstream
	looking   sync.Mutex // held while the process is stopped for a look at its files
	starts    int
	calls     int // to the real registries, before it started
}

// options of startMirror. The zero value means a mirror that is set up by flags.
type options struct {
	// config is added to a configuration file that also holds the domain.
	config string
	// upstreams, if any, replace the testbed's: names to what --upstream takes.
	upstreams map[string]string
	// env is added to the environment of the process.
	env []string
	// anyOrigin allows the clients of this test to call the real registries.
	anyOrigin bool
}

// startMirror starts sampan on an empty data folder, with every server of the
// testbed as upstream behind a counting proxy. At the end of the test it fails
// if anyone has called a real registry.
func startMirror(t *testing.T, o options) *mirror {
	t.Helper()
	m := &mirror{
		address: freeAddress(), admin: freeAddress(), data: testDir(t, "sampan"),
		upstreams: map[string]*upstream{}, env: o.env,
	}
	m.args = []string{"serve", "--listen", m.address, "--admin-listen", m.admin, "--data", filepath.Join(m.data, "data")}
	for name, url := range o.upstreams {
		m.args = append(m.args, "--upstream", name+"="+url)
	}
	for name, registry := range bed.registries {
		if len(o.upstreams) > 0 {
			break
		}
		u := newUpstream(t, registry)
		m.upstreams[name] = u
		m.args = append(m.args, "--upstream", name+"="+u.url())
	}
	config := fmt.Sprintf("domain: %s\n%s", mirrorDomain, o.config)
	m.args = append(m.args, "--config", writeFile(t, filepath.Join(m.data, "sampan.yaml"), config))

	_, m.calls = bed.origins.since(0)
	t.Cleanup(func() {
		if calls, _ := bed.origins.since(m.calls); len(calls) > 0 && !o.anyOrigin {
			t.Errorf("real registries were called: %s", strings.Join(calls, "; "))
		}
		m.wantSoundLog(t)
		if t.Failed() {
			t.Logf("what the upstreams were asked:\n%s", m.dump())
		}
	})
	m.start(t)
	return m
}

// start runs the process and waits until it is ready. A mirror may be started
// again after it has been stopped.
func (m *mirror) start(t *testing.T) {
	t.Helper()
	m.starts++
	log := filepath.Join(m.data, fmt.Sprintf("log.%d", m.starts))
	m.process = startTestDaemon(t, cleanEnv(m.data, m.env...), log, os.Getenv(binaryVariable), m.args...)
	if err := m.process.ready(answers("http://" + m.admin + "/readyz")); err != nil {
		t.Fatalf("sampan is not ready: %v", err)
	}
}

// waitForFills waits until no fetch is running: a client has its blob a moment
// before that is committed.
func (m *mirror) waitForFills(t *testing.T) {
	t.Helper()
	err := poll(startTimeout, func() error {
		_, _, metrics, err := get("http://" + m.admin + "/metrics")
		if err == nil && !strings.Contains(string(metrics), "\nsampan_fill_running 0\n") {
			err = errors.New("fetches are still running")
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// wantSoundLog fails if the process said something that it never should.
func (m *mirror) wantSoundLog(t *testing.T) {
	t.Helper()
	for _, bad := range []string{"panic", "DATA RACE"} {
		if log := m.process.logTail(1 << 20); strings.Contains(log, bad) {
			t.Errorf("sampan's log holds %q:\n%s", bad, log[max(0, strings.Index(log, bad)-500):])
		}
	}
}

// upstream is the counting proxy in front of the named registry.
func (m *mirror) upstream(t *testing.T, name string) *upstream {
	t.Helper()
	u, ok := m.upstreams[name]
	if !ok {
		t.Fatalf("no upstream %s", name)
	}
	return u
}

// names are those of all upstreams, sorted.
func (m *mirror) names() []string {
	var names []string
	for name := range m.upstreams {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}

// forget starts all counts anew.
func (m *mirror) forget() {
	for _, u := range m.upstreams {
		u.forget()
	}
}

// wantOnlyAsked fails if another upstream than the named one was asked anything,
// or if that one was asked nothing.
func (m *mirror) wantOnlyAsked(t *testing.T, name string) {
	t.Helper()
	for _, other := range m.names() {
		n := len(m.upstreams[other].asked(""))
		if other == name && n == 0 {
			t.Errorf("%s was asked nothing", name)
		}
		if other != name && n > 0 {
			t.Errorf("%s was asked:\n%s", other, m.upstreams[other].dump())
		}
	}
}

// wantColdPull fails unless the upstream was asked what a first pull may cost:
// every manifest and blob of it once, and at most four other requests (a ping,
// a HEAD of the tag and the like).
func (m *mirror) wantColdPull(t *testing.T, name string, image manifest) {
	t.Helper()
	u := m.upstream(t, name)
	for _, blob := range append([]descriptor{image.Config}, image.Layers...) {
		u.wantAsked(t, "^GET .*/blobs/"+blob.Digest, 1, 1)
	}
	if got, most := len(u.asked("")), len(image.Layers)+1+4; got > most {
		t.Errorf("a cold pull of %d layers asked the upstream %d times, want at most %d:\n%s", len(image.Layers), got, most, u.dump())
	}
}

// wantEachBlobOnce fails if the body of any blob crossed from any upstream more
// than once, even under another repository or from another upstream.
func (m *mirror) wantEachBlobOnce(t *testing.T) {
	t.Helper()
	from := map[string][]string{}
	for _, name := range m.names() {
		for _, r := range m.upstreams[name].asked("^GET .*/blobs/") {
			_, digest, _ := strings.Cut(r.path, "/blobs/")
			from[digest] = append(from[digest], name+": "+r.String())
		}
	}
	for digest, requests := range from {
		if len(requests) > 1 {
			t.Errorf("%s was fetched %d times:\n  %s", digest, len(requests), strings.Join(requests, "\n  "))
		}
	}
}

// wantWarm fails unless the upstreams together heard at most one HEAD.
func (m *mirror) wantWarm(t *testing.T) {
	t.Helper()
	var all []string
	for _, name := range m.names() {
		for _, r := range m.upstreams[name].asked("") {
			all = append(all, r.method+" "+r.path)
		}
	}
	if len(all) > 1 || len(all) == 1 && !strings.HasPrefix(all[0], http.MethodHead+" ") {
		t.Errorf("a warm pull asked the upstreams more than one HEAD: %s", strings.Join(all, ", "))
	}
}

func (m *mirror) dump() string {
	var b strings.Builder
	for _, name := range m.names() {
		if text := m.upstreams[name].dump(); text != "" {
			fmt.Fprintf(&b, "%s:\n%s\n", name, text)
		}
	}
	return b.String()
}
