//go:build e2e

package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// cargo is one line that save, load and copy tell as JSON.
type cargo struct {
	Event, Source, Target, Digest string
	Unchanged                     bool
	Sent, Present                 struct {
		Blobs int
		Bytes int64
	}
}

// cargoOf reads the images, and the summary behind them.
func cargoOf(t *testing.T, out string) (images []cargo, summary cargo) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(out))
	for d.More() {
		var c cargo
		if err := d.Decode(&c); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		switch c.Event {
		case "image":
			images = append(images, c)
		case "summary":
			summary = c
		}
	}
	return images, summary
}

// Images of an archive get the names of a rule, as those that are copied do. What load
// prints is typed, and the next archive leaves out what is there under those names.
func TestLoadNamesImagesByARule(t *testing.T) {
	m := startMirror(t, options{})
	s := newSampan(t, m)
	to := bed.registries["gcr.io"]
	image := original(t, "quay.io", "team/tool", "1")
	s.run(t, "save", "tiny", "quay.io/team/tool:1", "-o", "images.tar")
	archive := filepath.Join(s.dir, "images.tar")

	images, summary := cargoOf(t, s.run(t, "load", "-i", archive, "--to", to+"/ruled/", "--flatten", "--with-registry", "--dry-run", "-o", "json"))
	if len(images) != 2 || images[1].Target != to+"/ruled/quay.io.team.tool:1" || images[1].Digest != image.digest || summary.Sent.Blobs == 0 {
		t.Fatalf("a dry run tells of %+v, %+v", images, summary)
	}
	if _, err := fetchManifest(to, "ruled/quay.io.team.tool", "1"); err == nil {
		t.Fatal("a dry run has loaded")
	}
	out := s.run(t, "load", "-i", archive, "--to", to+"/ruled/", "--flatten", "--with-registry")
	if there, err := fetchManifest(to, "ruled/quay.io.team.tool", "1"); err != nil || there.digest != image.digest {
		t.Errorf("it is %s there, %v", there.digest, err)
	}
	d := startDocker(t, "{}")
	typed := 0
	for _, line := range strings.Split(out, "\n") {
		if words := strings.Fields(line); len(words) > 1 && words[0] == "docker" {
			d.run(t, words[1:]...)
			typed++
		}
	}
	if typed != 4 { // pull and tag, of two images
		t.Errorf("there are %d lines to type: %s", typed, out)
	}
	d.wantRun(t, "quay.io/team/tool:1", said("quay.io", "team/tool"))

	again, summary := cargoOf(t, s.run(t, "load", "-i", archive, "--to", to+"/ruled/", "--flatten", "--with-registry", "-o", "json"))
	if len(again) != 2 || !again[0].Unchanged || !again[1].Unchanged || summary.Sent.Blobs != 0 {
		t.Errorf("the second time: %+v, %+v", again, summary)
	}
	_, summary = cargoOf(t, s.run(t, "save", "quay.io/team/tool:1", "-o", "less.tar", "--have", to+"/ruled/", "--flatten", "--with-registry", "--json"))
	if summary.Sent.Blobs != 1 || summary.Sent.Bytes != image.Config.Size || summary.Present.Blobs == 0 { // "docker load" reads the configuration
		t.Errorf("what is there under those names is saved: %+v", summary)
	}
}

// What a bundle leaves out is mounted from where an image was loaded by the same rule.
func TestABundleFollowsByTheSameRule(t *testing.T) {
	m := startMirror(t, options{})
	s := newSampan(t, m)
	s.run(t, "save", "tiny", "-o", "first.tar")
	s.run(t, "save", "quay.io/team/tool:1", "--since", "first.tar.bundle.json", "-o", "second.tar")
	first, second := filepath.Join(s.dir, "first.tar"), filepath.Join(s.dir, "second.tar")
	u := newUpstream(t, bed.registries["gcr.io"])
	to := strings.TrimPrefix(u.url(), "http://") + "/following/"
	s.run(t, "load", "-i", first, "--to", to, "--flatten")
	u.forget()
	if said := s.fail(t, "load", "-i", second, "--to", to, "--flatten", "--with-registry"); !strings.Contains(said, "the archive lacks a blob that the target does not have either") {
		t.Errorf("by another rule it says %s", said)
	}
	u.wantAsked(t, "^(POST|PATCH|PUT) ", 0, 0)
	images, summary := cargoOf(t, s.run(t, "load", "-i", second, "--to", to, "--flatten", "-o", "json"))
	if len(images) != 1 || images[0].Digest != original(t, "quay.io", "team/tool", "1").digest || summary.Present.Blobs != 1 {
		t.Errorf("it tells of %+v, %+v", images, summary)
	}
	u.wantAsked(t, "^POST .*/following/team.tool/blobs/uploads/.*mount=", 1, 1)
	newTool(t, "crane").run(t, "validate", "--remote", to+"team.tool:1")
}

// Docker with containerd's store has pulled an image for one platform, and saves the
// whole index with that part alone.
func TestLoadOfAPartOfAnIndex(t *testing.T) {
	hub := bed.registries["docker.io"]
	index := original(t, "docker.io", "library/multi", "1")
	part, _ := ofThisMachine(t, "docker.io", "library/multi", "1")
	d := startMachineDockerBy(t, tool("dockerd29"), `{"features": {"containerd-snapshotter": true}}`)
	d.run(t, "pull", "--quiet", hub+"/library/multi:1")
	d.run(t, "save", "-o", filepath.Join(d.dir, "part.tar"), hub+"/library/multi:1")
	archive := filepath.Join(d.dir, "part.tar")
	s := command{path: os.Getenv(binaryVariable), env: d.env, dir: d.dir}
	if out := s.run(t, "load", "-i", archive, "--list"); !strings.Contains(out, index.digest) {
		t.Fatalf("what Docker saved is %s", out)
	}
	u := newUpstream(t, bed.registries["gcr.io"])
	to := strings.TrimPrefix(u.url(), "http://") + "/parts/multi:1"
	said := s.fail(t, "load", "-i", archive, "--to", to)
	if !strings.Contains(said, "the archive has only a part of "+hub+"/library/multi:1@") || !strings.Contains(said, ": linux/amd64\nchoose a platform") {
		t.Errorf("it says %s", said)
	}
	u.wantAsked(t, "^(POST|PATCH|PUT) ", 0, 0)
	s.run(t, "load", "-i", archive, "--to", to, "--platform", "linux/amd64")
	if there, err := fetchManifest(bed.registries["gcr.io"], "parts/multi", "1"); err != nil || there.digest != part.digest {
		t.Errorf("it is %s there, %v", there.digest, err)
	}
	for _, platform := range [][]string{nil, {"--platform", "linux/amd64"}} { // an engine gets what is for its machine
		d.run(t, "rmi", "-f", hub+"/library/multi:1")
		if out := s.run(t, append([]string{"load", "-i", archive}, platform...)...); !strings.Contains(out, part.digest) {
			t.Errorf("it says %s", out)
		}
		if got := strings.TrimSpace(d.run(t, "image", "inspect", "--format", "{{.Id}}", hub+"/library/multi:1")); got != part.digest {
			t.Errorf("Docker has %s, want %s", got, part.digest)
		}
	}
	if said := s.fail(t, "load", "-i", archive, "--platform", "linux/arm64"); !strings.Contains(said, "choose a platform that the archive has") {
		t.Errorf("it says %s", said)
	}
	// Where the rest is already, the index is complete.
	s.run(t, "copy", hub+"/library/multi@"+index.Manifests[1].Digest, strings.TrimSuffix(to, ":1")+":other")
	s.run(t, "load", "-i", archive, "--to", to)
	if there, err := fetchManifest(bed.registries["gcr.io"], "parts/multi", "1"); err != nil || there.digest != index.digest {
		t.Errorf("it is %s there, %v", there.digest, err)
	}
}
