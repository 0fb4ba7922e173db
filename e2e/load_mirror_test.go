//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A closedMirror is a mirror whose registries accept connections and never say anything,
// as behind a firewall that drops what it does not want.
type closedMirror struct {
	*mirror
	front *front
	audit string
}

func startClosed(t *testing.T, more string) *closedMirror {
	t.Helper()
	f := newFront(t)
	f.lead(t, "")
	audit := filepath.Join(testDir(t, "audit"), "audit.log")
	upstreams := make(map[string]string)
	for _, name := range []string{"docker.io", "quay.io", "native.test"} {
		upstreams[name] = "http://" + f.address
	}
	return &closedMirror{startMirror(t, options{upstreams: upstreams, config: fmt.Sprintf("log: {audit: %s}\n%s", audit, more)}), f, audit}
}

// load loads an archive, and tells how many blobs were sent.
func (c *closedMirror) load(t *testing.T, archive string, extra ...string) int {
	t.Helper()
	before := c.sent(t)
	newSampan(t, nil).run(t, append([]string{"load", "-i", archive, "--into", "http://" + c.admin}, extra...)...)
	return c.sent(t) - before
}

// sent is how many blobs were, as the audit log tells.
func (c *closedMirror) sent(t *testing.T) int {
	t.Helper()
	log, err := os.ReadFile(c.audit)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for line := range strings.Lines(string(log)) {
		var e struct{ Event, Path, Reason string }
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatal(err)
		}
		if e.Event == "load" && e.Path == "/api/v1/intake/blob" && e.Reason == "" {
			n++
		}
	}
	return n
}

// wantNobodyAsked fails if any registry was.
func (c *closedMirror) wantNobodyAsked(t *testing.T) {
	t.Helper()
	if n := c.front.asked(); n != 0 {
		t.Errorf("registries that cannot be reached were asked by %d connections", n)
	}
}

// What was saved on one side is loaded into a mirror on the other, and pulled there by
// every client under its own name. Nobody is asked, and the second load sends nothing.
func TestAClosedNetworkIsServedWhatWasLoaded(t *testing.T) {
	_, archive := saveAll(t, "--platform", "all")
	c := startClosed(t, "tags: {fresh_for: 1h}\n")
	if n := c.load(t, archive); n < len(savedNames) {
		t.Errorf("%d blobs were sent", n)
	}
	if n := c.load(t, archive); n != 0 {
		t.Errorf("%d blobs were sent again", n)
	}
	for _, i := range savedNames {
		newTool(t, "crane").run(t, "validate", "--insecure", "--remote", c.address+"/"+i.name)
	}
	t.Run("docker", func(t *testing.T) {
		d := startDocker(t, fmt.Sprintf(`{"registry-mirrors": ["http://%s"]}`, c.address))
		for _, name := range []string{"tiny", c.address + "/docker.io/library/tiny@" + original(t, "docker.io", "library/tiny", "latest").digest} {
			d.run(t, "pull", "--quiet", name)
			d.wantImage(t, name, original(t, "docker.io", "library/tiny", "latest"))
			d.wantRun(t, name, said("docker.io", "library/tiny"))
		}
	})
	t.Run("podman", func(t *testing.T) {
		e := newContainersEnv(t, mirrorsConf(c.address, "docker.io", "quay.io"))
		podman := e.command(podmanPath)
		podman.run(t, "pull", "--quiet", "quay.io/team/tool:1")
		wantStored(t, e.command(buildahPath), "quay.io/team/tool:1", original(t, "quay.io", "team/tool", "1"))
		if got := podman.run(t, "run", "--rm", "quay.io/team/tool:1"); got != said("quay.io", "team/tool") {
			t.Errorf("the container printed %q", got)
		}
	})
	eachContainerd(t, func(t *testing.T, v containerdVersion) {
		d := startContainerd(t, v, map[string]string{"_default": hostsFor("", "http://"+c.address, "")}, "")
		for _, i := range savedNames {
			_, text := ofThisMachine(t, i.upstream, i.repository, i.tag)
			d.pull(t, i.name)
			d.wantRun(t, i.name, text)
		}
	})
	c.wantNobodyAsked(t)
}

// Tags that have to be asked for again cost seconds at most where nobody answers, and
// nothing where the mirror is told that it is offline.
func TestPullsInAClosedNetworkDoNotWaitForIt(t *testing.T) {
	_, archive := saveAll(t)
	for name, c := range map[string]struct {
		config string
		within time.Duration // for all images, of which each is pulled twice
		asked  bool
	}{
		"nothing configured": {"tags: {fresh_for: 0}\n", 20 * time.Second, true},
		"offline":            {"tags: {fresh_for: 0}\noffline: true\n", 10 * time.Second, false},
	} {
		t.Run(name, func(t *testing.T) {
			m := startClosed(t, c.config)
			m.load(t, archive)
			began := time.Now()
			for range 2 {
				for _, i := range savedNames {
					single := time.Now()
					status, _, _, err := get("http://" + m.address + "/v2/" + i.upstream + "/" + i.repository + "/manifests/" + i.tag)
					if err != nil || status != http.StatusOK {
						t.Errorf("%s: %d %v", i.name, status, err)
					}
					t.Logf("%s took %v", i.name, time.Since(single).Round(time.Millisecond))
				}
			}
			if took := time.Since(began); took > c.within {
				t.Errorf("they took %v", took)
			}
			if asked := m.front.asked() > 0; asked != c.asked {
				t.Errorf("a registry was asked: %v", asked)
			}
		})
	}
}

// A bundle of what is new is loaded where the rest is, and refused where it is not.
func TestABundleIsLoadedIntoAMirror(t *testing.T) {
	m := startMirror(t, options{})
	s := newSampan(t, m)
	s.run(t, "save", "tiny", "-o", "first.tar")
	s.run(t, "save", "quay.io/team/tool:1", "--since", "first.tar.bundle.json", "-o", "second.tar")
	c := startClosed(t, "tags: {fresh_for: 1h}\n")
	first, second := filepath.Join(s.dir, "first.tar"), filepath.Join(s.dir, "second.tar")
	if said := s.fail(t, "load", "-i", second, "--into", "http://"+c.admin); !strings.Contains(said, "load first what it was made to follow") {
		t.Errorf("it says %s", said)
	}
	c.load(t, first)
	c.load(t, second)
	newTool(t, "crane").run(t, "validate", "--insecure", "--remote", c.address+"/quay.io/team/tool:1")
	c.wantNobodyAsked(t)
}

// Signatures and lists of contents are found where they were loaded.
func TestReferrersAreServedByAMirrorOfAClosedNetwork(t *testing.T) {
	m := startMirror(t, options{})
	s := newSampan(t, m)
	s.run(t, "save", "-o", "app.tar", "--referrers", "--registry", "native.test", "--platform", "all", "native.test/me/app:1")
	c := startClosed(t, "")
	c.load(t, filepath.Join(s.dir, "app.tar"))
	found := newTool(t, "oras").run(t, "discover", "--plain-http", "--format", "json", c.address+"/native.test/me/app:1")
	if !strings.Contains(found, "application/spdx+json") {
		t.Errorf("there is: %s", found)
	}
}

// A load that is killed in the middle of a blob, and a mirror that is killed after it, leave
// no name; the next load sends what is missing.
func TestALoadIntoAMirrorThatWasKilledGoesOn(t *testing.T) {
	m := startMirror(t, options{})
	s := newSampan(t, m)
	s.run(t, "save", "large:1", "-o", "large.tar")
	image := original(t, "docker.io", "library/large", "1")
	large := image.Layers[len(image.Layers)-1]
	c := startClosed(t, "tags: {fresh_for: 1h}\n")
	asked := "http://" + c.admin + "/api/v1/intake/blob?" + url.Values{"repository": {"docker.io/library/large"}, "digest": {large.Digest}}.Encode()
	way, released := newPassage(t, c.admin), make(chan struct{})
	t.Cleanup(func() { close(released) })
	way.watch(func() { // nothing passes any more once eight megabytes of bodies have
		var sent int64
		for _, put := range way.crossings("^PUT ") {
			sent += put.sent
		}
		if sent > 8<<20 {
			<-released
		}
	})
	d, err := startDaemon(s.env, filepath.Join(s.dir, "log"), s.path, "load", "-i", filepath.Join(s.dir, "large.tar"), "--no-checksum", "--into", "http://"+way.host())
	if err != nil {
		t.Fatal(err)
	}
	until := time.Now().Add(startTimeout)
	for { // until the mirror has some of a blob
		var usage struct{ Partial int64 }
		_, _, body, err := get("http://" + c.admin + "/api/v1/usage")
		if err == nil {
			err = json.Unmarshal(body, &usage)
		}
		if err != nil {
			t.Fatal(err)
		}
		if usage.Partial > 4<<20 {
			break
		}
		if time.Now().After(until) {
			t.Fatalf("of a blob there are %d bytes", usage.Partial)
		}
	}
	d.kill()
	c.process.kill()
	c.start(t)
	_, _, body, err := get(asked)
	if err != nil || !strings.Contains(string(body), `"here":false`) {
		t.Errorf("of the blob there is: %s %v", body, err)
	}
	if status, _, body, err := get("http://" + c.admin + "/api/v1/tags?repository=docker.io/library/large"); err != nil || !strings.Contains(string(body), `"tags":[]`) {
		t.Errorf("a tag leads to what is not here: %d %s %v", status, body, err)
	}
	if n := c.load(t, filepath.Join(s.dir, "large.tar")); n == 0 {
		t.Error("nothing was sent")
	}
	newTool(t, "crane").run(t, "validate", "--insecure", "--remote", c.address+"/docker.io/library/large:1")
	c.wantNobodyAsked(t)
}
