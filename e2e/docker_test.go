//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// docker is a dockerd with nothing in it, and the client that talks to it.
type docker struct {
	command
	daemon *daemon
}

func startDocker(t *testing.T, config string) *docker {
	t.Helper()
	dir := testDir(t, "docker")
	socket := "unix://" + filepath.Join(dir, "s.sock")
	file := writeFile(t, filepath.Join(dir, "daemon.json"), config)
	d := &docker{command: command{path: dockerPath, env: cleanEnv(dir, "DOCKER_HOST="+socket, "DOCKER_BUILDKIT=0"), dir: dir}}
	d.daemon = startTestDaemon(t, cleanEnv(dir), filepath.Join(dir, "dockerd.log"), dockerdPath,
		"--config-file", file, "--data-root", filepath.Join(dir, "data"), "--exec-root", filepath.Join(dir, "exec"),
		"-H", socket, "--pidfile", filepath.Join(dir, "pid"),
		"--storage-driver=overlay2", "--iptables=false", "--ip6tables=false", "--bridge=none")
	err := d.daemon.ready(func() error {
		_, err := d.output("version")
		return err
	})
	if err != nil {
		t.Fatalf("dockerd is not ready: %v", err)
	}
	return d
}

// wantImage fails unless the engine holds the original's image under the name.
// The repository digest is that of the manifest, the ID that of the config.
func (d *docker) wantImage(t *testing.T, name string, image manifest) {
	t.Helper()
	var inspected struct {
		ID          string `json:"Id"`
		RepoDigests []string
	}
	if err := json.Unmarshal([]byte(d.run(t, "image", "inspect", "--format", "{{json .}}", name)), &inspected); err != nil {
		t.Fatal(err)
	}
	if inspected.ID != image.Config.Digest {
		t.Errorf("%s has the ID %s, want %s", name, inspected.ID, image.Config.Digest)
	}
	if !slices.ContainsFunc(inspected.RepoDigests, func(s string) bool { return strings.HasSuffix(s, "@"+image.digest) }) {
		t.Errorf("%s has the digests %v, want %s", name, inspected.RepoDigests, image.digest)
	}
}

// wantRun fails unless a container of the image prints text.
func (d *docker) wantRun(t *testing.T, name, text string) {
	t.Helper()
	if got := d.run(t, "run", "--rm", "--network=none", name); got != text {
		t.Errorf("the container of %s printed %q, want %q", name, got, text)
	}
}

// mirrored is an address at the mirror and what it stands for.
type mirrored struct{ name, upstream, repository, reference string }

// addresses are the ways of addressing that need no client's help.
func addresses(m *mirror) []mirrored {
	_, port, _ := strings.Cut(m.address, ":")
	below := func(label, path string) string { return fmt.Sprintf("%s.%s:%s/%s", label, mirrorDomain, port, path) }
	return []mirrored{
		{m.address + "/library/tiny", "docker.io", "library/tiny", "latest"},
		{m.address + "/tiny", "docker.io", "library/tiny", "latest"},
		{m.address + "/docker.io/library/tiny:latest", "docker.io", "library/tiny", "latest"},
		{m.address + "/docker.io/tiny:1.0", "docker.io", "library/tiny", "1.0"},
		{m.address + "/me/app:1", "docker.io", "me/app", "1"},
		{m.address + "/gcr.io/google_containers/pause:3.1", "gcr.io", "google-containers/pause", "3.1"},
		{m.address + "/gcr.io/google-containers/pause:3.1", "gcr.io", "google-containers/pause", "3.1"},
		{m.address + "/k8s.gcr.io/pause:3.1", "registry.k8s.io", "pause", "3.1"},
		{m.address + "/registry.k8s.io/pause:3.1", "registry.k8s.io", "pause", "3.1"},
		{m.address + "/quay.io/team/tool:1", "quay.io", "team/tool", "1"},
		{m.address + "/native.test/me/app:1", "native.test", "me/app", "1"},
		{below("docker", "library/tiny"), "docker.io", "library/tiny", "latest"},
		{below("docker", "tiny:1.0"), "docker.io", "library/tiny", "1.0"},
		{below("gcr", "google_containers/pause:3.1"), "gcr.io", "google-containers/pause", "3.1"},
		{below("k8s", "pause:3.1"), "registry.k8s.io", "pause", "3.1"},
		{below("quay", "team/tool:1"), "quay.io", "team/tool", "1"},
		{below("ghcr", "me/app:1"), "ghcr.io", "me/app", "1"},
	}
}

func TestDockerPullsByName(t *testing.T) {
	m := startMirror(t, options{})
	d := startDocker(t, "{}")
	for _, a := range addresses(m) {
		t.Run(strings.Replace(a.name, m.address, "mirror", 1), func(t *testing.T) {
			d.run(t, "pull", "--quiet", a.name)
			d.wantImage(t, a.name, original(t, a.upstream, a.repository, a.reference))
			d.wantRun(t, a.name, said(a.upstream, a.repository))
			d.run(t, "image", "rm", "--force", a.name)
		})
	}
	m.wantEachBlobOnce(t)
}

func TestDockerPullsAnIndexOnceForItsPlatform(t *testing.T) {
	m := startMirror(t, options{})
	d := startDocker(t, "{}")
	name := m.address + "/library/multi:1"
	d.run(t, "pull", "--quiet", name)

	index := original(t, "docker.io", "library/multi", "1")
	image := original(t, "docker.io", "library/multi", index.Manifests[0].Digest)
	d.wantImage(t, name, manifest{digest: index.digest, Config: image.Config})
	d.wantRun(t, name, said("docker.io", "library/multi")+index.Manifests[0].Platform.Architecture+"\n")
	m.wantOnlyAsked(t, "docker.io")
	m.wantColdPull(t, "docker.io", image)
	m.upstream(t, "docker.io").wantAsked(t, "^GET .*/manifests/"+index.Manifests[1].Digest, 0, 0)
}

func TestDockerPullsByDigest(t *testing.T) {
	m := startMirror(t, options{})
	d := startDocker(t, "{}")
	image := original(t, "quay.io", "team/tool", "1")
	name := m.address + "/quay.io/team/tool@" + image.digest
	d.run(t, "pull", "--quiet", name)
	d.wantImage(t, name, image)
	d.wantRun(t, name, said("quay.io", "team/tool"))
	m.wantOnlyAsked(t, "quay.io")
	m.wantColdPull(t, "quay.io", image)
}

// With registry-mirrors the image keeps its own name; dockerd adds library/ and
// would go on to the real Docker Hub, were it not served.
func TestDockerPullsThroughRegistryMirrors(t *testing.T) {
	m := startMirror(t, options{})
	d := startDocker(t, fmt.Sprintf(`{"registry-mirrors": ["http://%s"]}`, m.address))
	for _, a := range []mirrored{
		{"tiny", "docker.io", "library/tiny", "latest"},
		{"docker.io/library/tiny:1.0", "docker.io", "library/tiny", "1.0"},
		{"me/app:1", "docker.io", "me/app", "1"},
	} {
		d.run(t, "pull", "--quiet", a.name)
		d.wantImage(t, a.name, original(t, a.upstream, a.repository, a.reference))
		d.wantRun(t, a.name, said(a.upstream, a.repository))
	}
	m.wantOnlyAsked(t, "docker.io")
	m.wantEachBlobOnce(t)
}

func TestDockerBuildsFromTheMirror(t *testing.T) {
	m := startMirror(t, options{})
	d := startDocker(t, "{}")
	_, port, _ := strings.Cut(m.address, ":")
	writeFile(t, filepath.Join(d.dir, "context", "Dockerfile"), fmt.Sprintf(
		"FROM docker.%s:%s/tiny\nRUN cp /etc/origin /etc/copy\nENTRYPOINT [\"/bin/cat\", \"/etc/copy\"]\nCMD []\n", mirrorDomain, port))
	d.run(t, "build", "--network=none", "--quiet", "-t", "built", filepath.Join(d.dir, "context"))
	d.wantRun(t, "built", said("docker.io", "library/tiny"))
	m.wantOnlyAsked(t, "docker.io")
	m.wantColdPull(t, "docker.io", original(t, "docker.io", "library/tiny", "latest"))
}

// The second engine is a fresh one: all it gets, it gets from the mirror.
func TestSecondPullAsksTheUpstreamAtMostOneHead(t *testing.T) {
	m := startMirror(t, options{config: "tags: {fresh_for: 0s}\n"})
	first, second := startDocker(t, "{}"), startDocker(t, "{}")
	name := m.address + "/library/large:1"
	image := original(t, "docker.io", "library/large", "1")
	first.run(t, "pull", "--quiet", name)
	first.wantImage(t, name, image)
	m.wantColdPull(t, "docker.io", image)
	first.daemon.stop()

	m.forget()
	second.run(t, "pull", "--quiet", name)
	second.wantImage(t, name, image)
	second.wantRun(t, name, said("docker.io", "library/large"))
	m.wantWarm(t)
}
