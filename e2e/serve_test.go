//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// A file alone sets up what the other tests set up with flags.
func TestConfigurationFileAlone(t *testing.T) {
	dir := testDir(t, "config")
	hub, other := newUpstream(t, bed.registries["docker.io"]), newUpstream(t, bed.registries["quay.io"])
	m := &mirror{address: freeAddress(), admin: freeAddress(), data: dir, upstreams: map[string]*upstream{"docker.io": hub, "extra.test": other}}
	m.args = []string{"serve", "--config", writeFile(t, filepath.Join(dir, "sampan.yaml"), fmt.Sprintf(`listen: %s
admin: {listen: %s}
data: {dir: %s, max_size: 20GiB}
domain: %s
upstreams:
  docker.io:
    hosts: [docker]
    endpoints: [{url: %s}]
  extra.test:
    hosts: [extra]
    endpoints: [{url: %s}]
`, m.address, m.admin, filepath.Join(dir, "data"), mirrorDomain, hub.url(), other.url()))}
	m.start(t)
	crane := newTool(t, "crane")
	_, port, _ := strings.Cut(m.address, ":")
	for name, upstream := range map[string]string{
		m.address + "/tiny":                             "docker.io",
		"docker." + mirrorDomain + ":" + port + "/tiny": "docker.io",
		m.address + "/extra.test/team/tool:1":           "extra.test",
	} {
		crane.run(t, "validate", "--insecure", "--remote", name)
		if len(m.upstream(t, upstream).asked("")) == 0 {
			t.Errorf("%s did not come from %s", name, upstream)
		}
	}
	want := original(t, "quay.io", "team/tool", "1").digest
	if got := strings.TrimSpace(crane.run(t, "digest", "--insecure", "extra."+mirrorDomain+":"+port+"/team/tool:1")); got != want {
		t.Errorf("by the host name of the added upstream the digest is %s, want %s", got, want)
	}
}

// A stopped mirror starts with what it had, and needs no upstream for it.
func TestRestartKeepsEverything(t *testing.T) {
	m := startMirror(t, options{})
	name := m.address + "/gcr.io/google_containers/pause:3.1"
	image := original(t, "gcr.io", "google-containers/pause", "3.1")
	newTool(t, "crane").run(t, "validate", "--remote", name)
	m.process.stop()
	if state := m.process.cmd.ProcessState; !state.Success() {
		t.Errorf("asked to end, sampan ended with %v", state)
	}
	m.upstream(t, "gcr.io").stop()
	m.start(t)
	d := startDocker(t, "{}")
	d.run(t, "pull", "--quiet", name)
	d.wantImage(t, name, image)
	d.wantRun(t, name, said("gcr.io", "google-containers/pause"))
}

// Asked to end, sampan takes no new clients and lets the running ones finish.
func TestStopLetsRunningPullsEnd(t *testing.T) {
	m := startMirror(t, options{})
	_, layer := largeLayer(t)
	hold := m.upstream(t, "docker.io").hold("/blobs/"+layer.Digest, 8<<20)
	pulled := make(chan error, 1)
	go func() {
		digest, size, err := download(blobURL(m, "library/large", layer.Digest))
		if err == nil && digest != layer.Digest {
			err = fmt.Errorf("%d bytes of digest %s", size, digest)
		}
		pulled <- err
	}()
	within(t, "the upstream's part", hold.reached)
	if err := m.process.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	err := poll(startTimeout, func() error {
		if listening("tcp", m.address)() == nil {
			return errors.New("sampan still takes new clients")
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	close(hold.release)
	if err := within(t, "the pull", pulled); err != nil {
		t.Errorf("the pull that was running: %v", err)
	}
	within(t, "the end of sampan", m.process.ended)
	if state := m.process.cmd.ProcessState; !state.Success() {
		t.Errorf("asked to end, sampan ended with %v", state)
	}
}

// kill -9 when nothing is being fetched loses nothing either.
func TestKilledAtRestKeepsEverything(t *testing.T) {
	m := startMirror(t, options{})
	name := m.address + "/library/tiny"
	crane := newTool(t, "crane")
	crane.run(t, "validate", "--remote", name)
	m.waitForFills(t)
	m.process.kill()
	m.forget()
	m.start(t)
	crane.run(t, "validate", "--remote", name)
	m.wantWarm(t)
}

func TestSecondProcessOnTheSameDataIsRefused(t *testing.T) {
	m := startMirror(t, options{})
	data := filepath.Join(m.data, "data")
	second := command{path: os.Getenv(binaryVariable), env: cleanEnv(m.data), dir: m.data}
	said := second.fail(t, "serve", "--listen", freeAddress(), "--admin-listen", "off", "--data", data)
	if !strings.Contains(said, data) || strings.Contains(said, "panic") {
		t.Errorf("the refusal does not name the folder: %s", said)
	}
	newTool(t, "crane").run(t, "validate", "--remote", m.address+"/library/tiny")
}

func TestWrongConfigurationIsRefusedWithItsLine(t *testing.T) {
	dir := testDir(t, "config")
	file := writeFile(t, filepath.Join(dir, "sampan.yaml"), "listen: 127.0.0.1:5000\nupstream:\n  docker.io: {}\ndata: {max_size: plenty}\n")
	said := command{path: os.Getenv(binaryVariable), env: cleanEnv(dir), dir: dir}.fail(t, "serve", "--config", file)
	for _, want := range []string{"sampan.yaml:2", "upstreams", "sampan.yaml:4", "max_size"} {
		if !strings.Contains(said, want) {
			t.Errorf("the refusal does not hold %q: %s", want, said)
		}
	}
}

// A registry that is added to the file is served after SIGHUP, and a mistake in the
// file leaves everything as it was.
func TestConfigurationIsLoadedAgain(t *testing.T) {
	dir := testDir(t, "reload")
	hub, other := newUpstream(t, bed.registries["docker.io"]), newUpstream(t, bed.registries["quay.io"])
	m := &mirror{address: freeAddress(), admin: freeAddress(), data: dir, upstreams: map[string]*upstream{"docker.io": hub, "extra.test": other}}
	first := fmt.Sprintf("listen: %s\nadmin: {listen: %s}\ndata: {dir: %s}\nupstreams:\n  docker.io: {endpoints: [{url: %s}]}\n",
		m.address, m.admin, filepath.Join(dir, "data"), hub.url())
	file := writeFile(t, filepath.Join(dir, "sampan.yaml"), first)
	m.args = []string{"serve", "--config", file}
	m.start(t)
	crane := newTool(t, "crane")
	name := m.address + "/extra.test/team/tool:1"
	if out, err := crane.output("digest", "--insecure", name); err == nil {
		t.Fatalf("a registry that is not configured gives %s", out)
	}
	writeFile(t, file, first+fmt.Sprintf("  extra.test: {endpoints: [{url: %s}]}\n", other.url()))
	if err := m.process.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	want := original(t, "quay.io", "team/tool", "1").digest
	err := poll(startTimeout, func() error {
		out, err := crane.output("digest", "--insecure", name)
		if err == nil && strings.TrimSpace(out) != want {
			err = fmt.Errorf("the digest is %s, want %s", out, want)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, file, first+"  extra.test: {endpoint: [{url: http://127.0.0.1:9}]}\n")
	status, _, body := curl(t, "-X", "POST", "http://"+m.admin+"/api/v1/reload")
	if !strings.Contains(status, "422") || !strings.Contains(string(body), "did you mean endpoints?") {
		t.Errorf("a mistake is answered with %s: %s", status, body)
	}
	if got := strings.TrimSpace(crane.run(t, "digest", "--insecure", name)); got != want {
		t.Errorf("after a mistake the digest is %s", got)
	}
}
