//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// containersEnv is an empty storage of the containers/image family: Podman,
// Buildah and Skopeo.
type containersEnv struct {
	dir string
	env []string
}

// newContainersEnv writes the family's configuration to /etc/containers, which
// is private to the tests, as /run is. Podman refuses a runroot of more than 50
// characters.
func newContainersEnv(t *testing.T, registries string) containersEnv {
	t.Helper()
	dir := testDir(t, "containers")
	const etc = "/etc/containers"
	writeFile(t, filepath.Join(etc, "registries.conf"), "unqualified-search-registries = [\"docker.io\"]\n"+registries)
	writeFile(t, filepath.Join(etc, "storage.conf"), fmt.Sprintf(
		"[storage]\ndriver = \"overlay\"\ngraphroot = %q\nrunroot = %q\n", filepath.Join(dir, "graph"), filepath.Join("/run", filepath.Base(dir))))
	writeFile(t, filepath.Join(etc, "containers.conf"), `[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
log_driver = "k8s-file"
netns = "none"
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
`)
	return containersEnv{dir: dir, env: cleanEnv(dir)}
}

func (c containersEnv) command(path string) command {
	return command{path: path, env: c.env, dir: c.dir}
}

// mirrorsConf is registries.conf with the mirror in front of each registry,
// under its path, or without path for the default one.
func mirrorsConf(address string, registries ...string) string {
	var b strings.Builder
	for _, name := range registries {
		location := address + "/" + name
		if name == "docker.io" {
			location = address
		}
		fmt.Fprintf(&b, "[[registry]]\nprefix = %q\nlocation = %q\n[[registry.mirror]]\nlocation = %q\ninsecure = true\n", name, name, location)
	}
	return b.String()
}

// wantStored fails unless Podman or Buildah holds the original's image.
func wantStored(t *testing.T, c command, name string, image manifest) {
	t.Helper()
	var images []struct {
		ID     string `json:"id"`
		Digest string `json:"digest"`
	}
	out := c.run(t, "images", "--no-trunc", "--digests", "--json", name)
	if err := json.Unmarshal([]byte(out), &images); err != nil || len(images) != 1 {
		t.Fatalf("%v: not one image:\n%s", err, out)
	}
	if id := "sha256:" + strings.TrimPrefix(images[0].ID, "sha256:"); id != image.Config.Digest {
		t.Errorf("%s has the ID %s, want %s", name, id, image.Config.Digest)
	}
	if images[0].Digest != image.digest {
		t.Errorf("%s has the digest %s, want %s", name, images[0].Digest, image.digest)
	}
}

func TestPodmanPullsAndRunsThroughMirrors(t *testing.T) {
	m := startMirror(t, options{})
	c := newContainersEnv(t, mirrorsConf(m.address, "docker.io", "quay.io", "gcr.io", "k8s.gcr.io", "registry.k8s.io", "ghcr.io"))
	podman, buildah := c.command(podmanPath), c.command(buildahPath)
	for _, a := range []mirrored{
		{"docker.io/library/tiny:latest", "docker.io", "library/tiny", "latest"},
		{"docker.io/me/app:1", "docker.io", "me/app", "1"},
		{"quay.io/team/tool:1", "quay.io", "team/tool", "1"},
		{"gcr.io/google_containers/pause:3.1", "gcr.io", "google-containers/pause", "3.1"},
		{"k8s.gcr.io/pause:3.1", "registry.k8s.io", "pause", "3.1"},
		{"ghcr.io/me/app:1", "ghcr.io", "me/app", "1"},
	} {
		m.forget()
		podman.run(t, "pull", "--quiet", a.name)
		image := original(t, a.upstream, a.repository, a.reference)
		wantStored(t, buildah, a.name, image)
		if got := podman.run(t, "run", "--rm", a.name); got != said(a.upstream, a.repository) {
			t.Errorf("the container of %s printed %q", a.name, got)
		}
		m.wantOnlyAsked(t, a.upstream)
		m.upstream(t, a.upstream).wantAsked(t, "^GET .*/manifests/", 1, 1)
	}
}

func TestPodmanPullsZstdLayers(t *testing.T) {
	m := startMirror(t, options{})
	c := newContainersEnv(t, mirrorsConf(m.address, "docker.io"))
	podman := c.command(podmanPath)
	podman.run(t, "pull", "--quiet", "docker.io/library/zstd:1")
	image := original(t, "docker.io", "library/zstd", "1")
	wantStored(t, c.command(buildahPath), "docker.io/library/zstd:1", image)
	if got := podman.run(t, "run", "--rm", "docker.io/library/zstd:1"); got != said("docker.io", "library/tiny") {
		t.Errorf("the container printed %q", got)
	}
	m.wantColdPull(t, "docker.io", image)
}

// When the mirror does not serve, the origin is asked: the fallback that the
// other tests must not see is really there.
func TestPodmanGoesToTheOriginWhenTheMirrorIsGone(t *testing.T) {
	m := startMirror(t, options{anyOrigin: true})
	c := newContainersEnv(t, mirrorsConf(m.address, "quay.io"))
	m.process.stop()
	c.command(podmanPath).fail(t, "pull", "--quiet", "quay.io/team/tool:1")
	calls, _ := bed.origins.since(m.calls)
	if len(calls) == 0 || !strings.Contains(strings.Join(calls, "\n"), "quay.io") {
		t.Errorf("the origin was not called: %v", calls)
	}
}

func TestSkopeoCopiesByteForByte(t *testing.T) {
	m := startMirror(t, options{})
	c := newContainersEnv(t, mirrorsConf(m.address, "docker.io"))
	skopeo := c.command(skopeoPath)
	for _, repository := range []string{"library/tiny", "library/oci"} {
		t.Run(repository, func(t *testing.T) {
			tag := map[string]string{"library/tiny": "latest", "library/oci": "1"}[repository]
			image := original(t, "docker.io", repository, tag)
			out := filepath.Join(c.dir, filepath.Base(repository))
			skopeo.run(t, "copy", "--quiet", "--preserve-digests",
				"docker://docker.io/"+repository+":"+tag, "dir:"+out)
			if got := fileDigest(t, filepath.Join(out, "manifest.json")); got != image.digest {
				t.Errorf("the manifest's digest is %s, want %s", got, image.digest)
			}
			for _, blob := range append(image.Layers, image.Config) {
				if got := fileDigest(t, filepath.Join(out, strings.TrimPrefix(blob.Digest, "sha256:"))); got != blob.Digest {
					t.Errorf("the content of %s has the digest %s", blob.Digest, got)
				}
			}
		})
	}
	m.wantOnlyAsked(t, "docker.io")
	m.wantEachBlobOnce(t)
}

func TestSkopeoCopiesToAnOCILayout(t *testing.T) {
	m := startMirror(t, options{})
	c := newContainersEnv(t, mirrorsConf(m.address, "docker.io"))
	out := filepath.Join(c.dir, "layout")
	c.command(skopeoPath).run(t, "copy", "--quiet", "docker://docker.io/library/oci:1", "oci:"+out+":1")
	image := original(t, "docker.io", "library/oci", "1")
	wantLayout(t, out, image)
	m.wantColdPull(t, "docker.io", image)
}

func TestSkopeoCopiesAllPlatforms(t *testing.T) {
	m := startMirror(t, options{})
	c := newContainersEnv(t, "")
	out := filepath.Join(c.dir, "all")
	c.command(skopeoPath).run(t, "copy", "--quiet", "--all", "--src-tls-verify=false",
		"docker://"+m.address+"/docker.io/library/multi:1", "dir:"+out)
	index := original(t, "docker.io", "library/multi", "1")
	if got := fileDigest(t, filepath.Join(out, "manifest.json")); got != index.digest {
		t.Errorf("the index has the digest %s, want %s", got, index.digest)
	}
	for _, d := range index.Manifests {
		if got := fileDigest(t, filepath.Join(out, strings.TrimPrefix(d.Digest, "sha256:")+".manifest.json")); got != d.Digest {
			t.Errorf("the manifest for %s has the digest %s, want %s", d.Platform.Architecture, got, d.Digest)
		}
	}
	m.wantEachBlobOnce(t)
}

// wantLayout fails unless the OCI layout holds the original, every byte of it.
func wantLayout(t *testing.T, dir string, image manifest) {
	t.Helper()
	index, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(index), image.digest) {
		t.Errorf("the layout's index does not name %s:\n%s", image.digest, index)
	}
	for _, digest := range append([]string{image.digest, image.Config.Digest}, layerDigests(image)...) {
		if got := fileDigest(t, filepath.Join(dir, "blobs", "sha256", strings.TrimPrefix(digest, "sha256:"))); got != digest {
			t.Errorf("the content of %s has the digest %s", digest, got)
		}
	}
}

func layerDigests(image manifest) []string {
	var digests []string
	for _, layer := range image.Layers {
		digests = append(digests, layer.Digest)
	}
	return digests
}

func TestBuildahMountsAnImageOfTheMirror(t *testing.T) {
	m := startMirror(t, options{})
	c := newContainersEnv(t, "")
	buildah := c.command(buildahPath)
	name := m.address + "/quay.io/team/tool:1"
	container := strings.TrimSpace(buildah.run(t, "from", "--quiet", "--tls-verify=false", name))
	image := original(t, "quay.io", "team/tool", "1")
	got := buildah.run(t, "inspect", "--type", "container", "--format", "{{.FromImageDigest}} {{.FromImageID}}", container)
	if want := image.digest + " " + strings.TrimPrefix(image.Config.Digest, "sha256:"); strings.TrimSpace(got) != want {
		t.Errorf("the container is from %s, want %s", got, want)
	}
	root := strings.TrimSpace(buildah.run(t, "mount", container))
	wantFile(t, filepath.Join(root, "etc", "origin"), said("quay.io", "team/tool"))
	if fileDigest(t, filepath.Join(root, "bin", "busybox")) != fileDigest(t, "/bin/busybox") {
		t.Error("busybox in the image is not the one that went into it")
	}
	buildah.run(t, "unmount", container)
	buildah.run(t, "rm", container)
	m.wantOnlyAsked(t, "quay.io")
	m.wantColdPull(t, "quay.io", image)
}

func TestBuildahBuildsFromTheMirror(t *testing.T) {
	m := startMirror(t, options{})
	c := newContainersEnv(t, "")
	buildah := c.command(buildahPath)
	_, port, _ := strings.Cut(m.address, ":")
	file := writeFile(t, filepath.Join(c.dir, "context", "Dockerfile"), fmt.Sprintf(
		"FROM gcr.%s:%s/google_containers/pause:3.1\nRUN cp /etc/origin /etc/copy\n", mirrorDomain, port))
	buildah.run(t, "build", "--quiet", "--tls-verify=false", "--isolation", "chroot", "-t", "localhost/built", "-f", file, filepath.Dir(file))
	container := strings.TrimSpace(buildah.run(t, "from", "--quiet", "localhost/built"))
	root := strings.TrimSpace(buildah.run(t, "mount", container))
	wantFile(t, filepath.Join(root, "etc", "copy"), said("gcr.io", "google-containers/pause"))
	buildah.run(t, "unmount", container)
	m.wantOnlyAsked(t, "gcr.io")
	m.wantColdPull(t, "gcr.io", original(t, "gcr.io", "google-containers/pause", "3.1"))
}
