package app_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sampan/internal/app"
	"sampan/internal/config"
	"sampan/internal/registrytest"
)

// A reloadable is a mirror with a configuration file.
type reloadable struct {
	*mirror
	file string
	log  *lockedBuffer
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// take returns what was written since the last time.
func (l *lockedBuffer) take() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.b.String()
	l.b.Reset()
	return s
}

func startReloadable(t *testing.T, text string) *reloadable {
	t.Helper()
	r := &reloadable{file: filepath.Join(t.TempDir(), "sampan.yaml"), log: &lockedBuffer{}}
	r.write(t, text)
	return startAgain(t, r)
}

// startAgain starts a mirror on the file and the directory of another, which has ended.
func startAgain(t *testing.T, before *reloadable) *reloadable {
	t.Helper()
	r := &reloadable{file: before.file, log: before.log}
	dir := filepath.Dir(r.file)
	load := func() (*config.Config, error) {
		return config.Load(config.Source{File: r.file, Flags: config.Flags{
			Listen: "127.0.0.1:0", AdminListen: "127.0.0.1:0", DataDir: filepath.Join(dir, "data"),
		}})
	}
	c, err := load()
	if err != nil {
		t.Fatal(err)
	}
	a, err := app.New(app.Options{Config: c, Load: load, Log: slog.New(slog.NewTextHandler(r.log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	r.mirror = &mirror{app: a, stop: stop, ended: make(chan error, 1), client: &http.Client{Transport: &http.Transport{DisableCompression: true}}}
	go func() { r.ended <- a.Run(ctx) }()
	t.Cleanup(func() { r.end(t) })
	return r
}

// write replaces the file as an editor does: the process never sees half of it.
func (r *reloadable) write(t *testing.T, text string) {
	t.Helper()
	if err := os.WriteFile(r.file+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(r.file+".new", r.file); err != nil {
		t.Fatal(err)
	}
}

func TestConfigurationTakesEffectWhileItRuns(t *testing.T) {
	one, two := registrytest.StartTest(t, registrytest.Options{}), registrytest.StartTest(t, registrytest.Options{})
	one.AddImage("team/web", "v1", threeLayers(0))
	two.AddImage("team/other", "v1", threeLayers(0))
	first := fmt.Sprintf("upstreams:\n  one.test:\n    endpoints: [{url: %s}]\n", one.URL())
	r := startReloadable(t, first)
	if err := r.pull("one.test/team/web", "v1"); err != nil {
		t.Fatal(err)
	}
	if got := r.get(t, "/v2/two.test/team/other/manifests/v1"); got.status != http.StatusForbidden {
		t.Fatalf("a registry that is not there yet: %d", got.status)
	}

	r.write(t, first+fmt.Sprintf("  two.test:\n    endpoints: [{url: %s}]\naliases: {old.test: one.test}\nlisten: '127.0.0.1:9'\n", two.URL()))
	if err := r.app.Reload(); err != nil {
		t.Fatal(err)
	}
	if err := r.pull("two.test/team/other", "v1"); err != nil {
		t.Error(err)
	}
	before := len(one.Requests())
	if err := r.pull("old.test/team/web", "v1"); err != nil {
		t.Error(err)
	}
	if len(one.Requests()) != before {
		t.Error("what was here is asked for again after a reload")
	}
	if log := r.log.take(); !strings.Contains(log, "aliases.old.test") || !strings.Contains(log, "upstreams.two.test.endpoints[0].url") {
		t.Errorf("the log does not say what has changed:\n%s", log)
	}

	// A mistake changes nothing.
	r.write(t, first+"aliasses: {}\n")
	err := r.app.Reload()
	var p *config.Problem
	if !errors.As(err, &p) || p.Line != 4 || p.Field != "aliasses" {
		t.Errorf("a mistake is answered with %v", err)
	}
	if err := r.pull("two.test/team/other", "v1"); err != nil {
		t.Error(err)
	}
	if log := r.log.take(); !strings.Contains(log, "configuration refused") {
		t.Errorf("the log does not tell of the mistake:\n%s", log)
	}

	// What needs a restart says so, and the rest takes effect.
	r.write(t, first+"data: {max_size: 1GiB}\n")
	if err := r.app.Reload(); err != nil {
		t.Fatal(err)
	}
	if got := r.get(t, "/v2/two.test/team/other/manifests/v1"); got.status != http.StatusForbidden {
		t.Errorf("a registry that was taken away: %d", got.status)
	}
	log := r.log.take()
	for line := range strings.Lines(log) {
		if restart := strings.Contains(line, "takes effect after a restart"); restart != strings.Contains(line, "field=data.max_size") {
			t.Errorf("%s", line)
		}
	}
	if !strings.Contains(log, "field=data.max_size before=0 after=1GiB") {
		t.Errorf("%s", log)
	}
}

// The file is looked at, and nobody has to say anything.
func TestChangedFileIsTakenUp(t *testing.T) {
	up := registrytest.StartTest(t, registrytest.Options{})
	up.AddImage("team/web", "v1", threeLayers(0))
	r := startReloadable(t, "upstreams: {}\n")
	r.write(t, fmt.Sprintf("upstreams: {one.test: {endpoints: [{url: %s}]}}\n", up.URL()))
	for began := time.Now(); r.get(t, "/v2/one.test/team/web/manifests/v1").status != http.StatusOK; {
		if time.Since(began) > time.Minute {
			t.Fatal("never taken up")
		}
	}
}

// Reloads that replace the registry drop no pull, and nothing crosses twice.
func TestReloadsUnderLoadDropNothing(t *testing.T) {
	const reloads, pullers = 60, 8
	up := registrytest.StartTest(t, registrytest.Options{Behavior: registrytest.DockerHub()})
	image := up.AddImage("team/web", "v1", registrytest.ImageSpec{Layers: []int64{4 << 20, 1 << 20}, Seed: 3})
	text := func(n int) string {
		return fmt.Sprintf("fetch: {lines: 1}\nupstreams: {one.test: {hosts: [h%d], endpoints: [{url: %s}]}}\n", n, up.URL())
	}
	r := startReloadable(t, text(0))
	var pulls atomic.Int64
	done := make(chan struct{})
	var running sync.WaitGroup
	for range pullers {
		running.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if err := r.pull("one.test/team/web", "v1"); err != nil {
					t.Error(err)
					return
				}
				pulls.Add(1)
			}
		})
	}
	for n := range reloads {
		r.write(t, text(n+1))
		if err := r.app.Reload(); err != nil {
			t.Error(err)
		}
	}
	close(done)
	running.Wait()
	if pulls.Load() < pullers {
		t.Errorf("%d pulls", pulls.Load())
	}
	for _, layer := range image.Layers[0] {
		if sent := up.BytesSentOf(layer.Digest); sent != layer.Size {
			t.Errorf("%d bytes sent of a layer of %d", sent, layer.Size)
		}
	}
}

// A fetch that runs goes on with the registry that it began with.
func TestReloadLeavesRunningFetchesAlone(t *testing.T) {
	const size = 8 << 20
	up := registrytest.StartTest(t, registrytest.Options{})
	image := up.AddImage("team/web", "v1", registrytest.ImageSpec{Layers: []int64{size}, Seed: 5})
	gone := registrytest.StartTest(t, registrytest.Options{})
	gate := registrytest.NewGate()
	up.SetBehavior(registrytest.Behavior{Faults: []registrytest.Fault{{Only: image.Layers[0][0].Digest, HangInBody: gate, HangAt: 1 << 20}}})
	text := "fetch: {prefetch: false}\nupstreams: {one.test: {endpoints: [{url: %s}]}}\n"
	r := startReloadable(t, fmt.Sprintf(text, up.URL()))
	if got := r.get(t, "/v2/one.test/team/web/manifests/v1"); got.status != http.StatusOK {
		t.Fatal(got.status)
	}
	resp, err := r.client.Get("http://" + r.app.Addr() + "/v2/one.test/team/web/blobs/" + image.Layers[0][0].Digest.String())
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	r.write(t, fmt.Sprintf(text, gone.URL()))
	if err := r.app.Reload(); err != nil {
		t.Fatal(err)
	}
	gate.Open()
	got, err := io.ReadAll(resp.Body)
	if err != nil || len(got) != size {
		t.Errorf("%d bytes of %d, %v", len(got), size, err)
	}
	if len(gone.Requests()) != 0 {
		t.Errorf("the registry of the new configuration was asked: %+v", gone.Requests())
	}
}

// Files that the configuration names may change when it does not.
func TestAReloadReadsTheKeyOfTokensAnew(t *testing.T) {
	key := filepath.Join(t.TempDir(), "key")
	write := func(c string) {
		t.Helper()
		if err := os.WriteFile(key, []byte(strings.Repeat(c, 48)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("a")
	up := registrytest.StartTest(t, registrytest.Options{})
	up.AddImage("team/app", "1", registrytest.ImageSpec{})
	r := startReloadable(t, fmt.Sprintf("upstreams: {up.test: {endpoints: [{url: %q}]}}\ntoken_key_file: %s\nusers: [{name: ann, password: geheimnis}]\naccess: [{action: allow, users: [ann]}]\n", up.URL(), key))
	ask := func(path string, auth func(*http.Request)) (int, []byte) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+r.app.Addr()+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		auth(req)
		resp, err := r.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, body
	}
	status, body := ask("/token?service=sampan", func(r *http.Request) { r.SetBasicAuth("ann", "geheimnis") })
	var token struct{ Token string }
	if err := json.Unmarshal(body, &token); err != nil || status != http.StatusOK {
		t.Fatalf("%d %s", status, body)
	}
	pull := func() int {
		status, _ := ask("/v2/up.test/team/app/manifests/1", func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token.Token) })
		return status
	}
	if got := pull(); got != http.StatusOK {
		t.Fatalf("%d", got)
	}
	write("b")
	if err := r.app.Reload(); err != nil {
		t.Fatal(err)
	}
	if got := pull(); got != http.StatusUnauthorized {
		t.Errorf("with a token of the old key: %d", got)
	}
}
