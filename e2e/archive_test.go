//go:build e2e

package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// newSampan is the program as a person runs it, with nobody's settings, in a directory
// of its own. The mirror may be nil.
func newSampan(t *testing.T, m *mirror) command {
	t.Helper()
	dir := testDir(t, "person")
	env := cleanEnv(dir, "LC_ALL=C")
	if m != nil {
		env = append(env, "SAMPAN_MIRROR="+m.address)
	}
	return command{path: os.Getenv(binaryVariable), env: env, dir: dir}
}

// savedNames are images of several registries, with what their containers print.
var savedNames = []struct{ name, upstream, repository, tag string }{
	{"docker.io/library/tiny:latest", "docker.io", "library/tiny", "latest"},
	{"quay.io/team/tool:1", "quay.io", "team/tool", "1"},
	{"docker.io/library/multi:1", "docker.io", "library/multi", "1"},
	{"docker.io/library/oci:1", "docker.io", "library/oci", "1"},
}

// ofThisMachine is the manifest that an image has for this machine, and what its
// container prints.
func ofThisMachine(t *testing.T, upstream, repository, tag string) (manifest, string) {
	t.Helper()
	m, text := original(t, upstream, repository, tag), said(upstream, repository)
	if repository == "library/oci" { // it was made of another
		text = said(upstream, "library/tiny")
	}
	if len(m.Manifests) == 0 {
		return m, text
	}
	return original(t, upstream, repository, m.Manifests[0].Digest), text + m.Manifests[0].Platform.Architecture + "\n"
}

// saveAll saves the images through a mirror and returns the archive.
func saveAll(t *testing.T, extra ...string) (m *mirror, archive string) {
	t.Helper()
	m = startMirror(t, options{})
	s := newSampan(t, m)
	args := []string{"save", "-o", "images.tar"}
	for _, i := range savedNames {
		args = append(args, i.name)
	}
	s.run(t, append(args, extra...)...)
	archive = filepath.Join(s.dir, "images.tar")
	sums := command{path: "/usr/bin/sha256sum", env: s.env, dir: s.dir}
	if out := sums.run(t, "-c", "images.tar.sha256sum"); out != "images.tar: OK\n" {
		t.Errorf("sha256sum says %q", out)
	}
	again := newSampan(t, m)
	again.run(t, append(args, extra...)...)
	if fileDigest(t, filepath.Join(again.dir, "images.tar")) != fileDigest(t, archive) {
		t.Error("the same images were saved as another archive")
	}
	return m, archive
}

// The one archive is loaded by every engine, and the images are those of the registry.
func TestSavedImagesAreLoadedByEveryEngine(t *testing.T) {
	for _, format := range []string{"oci", "docker"} {
		t.Run(format, func(t *testing.T) {
			_, archive := saveAll(t, "--format", format)
			t.Run("docker", func(t *testing.T) { dockerLoads(t, archive) })
			t.Run("podman", func(t *testing.T) { podmanLoads(t, archive) })
			t.Run("skopeo", func(t *testing.T) { skopeoReads(t, archive, format) })
			eachContainerd(t, func(t *testing.T, v containerdVersion) { containerdImports(t, v, archive, format) })
		})
	}
}

func dockerLoads(t *testing.T, archive string) {
	d := startDocker(t, "{}")
	d.run(t, "load", "-i", archive)
	for _, i := range savedNames {
		_, text := ofThisMachine(t, i.upstream, i.repository, i.tag)
		d.wantRun(t, i.name, text)
	}
}

func podmanLoads(t *testing.T, archive string) {
	podman := newContainersEnv(t, "").command(podmanPath)
	podman.run(t, "load", "-q", "-i", archive)
	for _, i := range savedNames {
		_, text := ofThisMachine(t, i.upstream, i.repository, i.tag)
		if got := podman.run(t, "run", "--rm", i.name); got != text {
			t.Errorf("the container of %s printed %q", i.name, got)
		}
	}
}

func skopeoReads(t *testing.T, archive, format string) {
	c := newContainersEnv(t, "")
	skopeo := c.command(skopeoPath)
	for _, i := range savedNames {
		out := filepath.Join(c.dir, strings.ReplaceAll(i.tag+i.repository, "/", "-"))
		image, _ := ofThisMachine(t, i.upstream, i.repository, i.tag)
		if format == "docker" || image.MediaType != "application/vnd.oci.image.manifest.v1+json" { // it finds no others by name in a layout
			skopeo.run(t, "copy", "--quiet", "docker-archive:"+archive+":"+i.name, "dir:"+out)
			continue
		}
		skopeo.run(t, "copy", "--quiet", "--preserve-digests", "oci-archive:"+archive+":"+i.name, "dir:"+out)
		if got := fileDigest(t, filepath.Join(out, "manifest.json")); got != image.digest {
			t.Errorf("%s has the digest %s, want %s", i.name, got, image.digest)
		}
	}
}

func containerdImports(t *testing.T, v containerdVersion, archive, format string) {
	c := startContainerd(t, v, nil, "")
	c.run(t, "images", "import", archive)
	for _, i := range savedNames {
		image, text := ofThisMachine(t, i.upstream, i.repository, i.tag)
		if format == "oci" { // the other form has no manifests
			c.wantImage(t, "default", i.name, image)
		}
		c.wantRun(t, i.name, text)
	}
}

// An archive of one image alone is what Podman and Skopeo take without a name.
func TestAnArchiveOfOneImageNeedsNoName(t *testing.T) {
	m := startMirror(t, options{})
	s := newSampan(t, m)
	s.run(t, "save", "tiny", "-o", "tiny.tar", "--platform", "all")
	archive := filepath.Join(s.dir, "tiny.tar")
	image := original(t, "docker.io", "library/tiny", "latest")

	c := newContainersEnv(t, "")
	podman := c.command(podmanPath)
	podman.run(t, "load", "-q", "-i", archive)
	wantStored(t, c.command(buildahPath), "docker.io/library/tiny:latest", image)
	out := filepath.Join(c.dir, "tiny")
	c.command(skopeoPath).run(t, "copy", "--quiet", "--preserve-digests", "oci-archive:"+archive, "dir:"+out)
	if got := fileDigest(t, filepath.Join(out, "manifest.json")); got != image.digest {
		t.Errorf("the digest is %s, want %s", got, image.digest)
	}
}
