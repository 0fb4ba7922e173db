//go:build e2e

package e2e

import (
	"fmt"
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
	if out := sums.run(t, "-c", "images.tar.sha256sum"); !strings.Contains(out, "images.tar") || strings.Contains(out, "FAILED") {
		t.Errorf("sha256sum says %q", out)
	}
	again := newSampan(t, m)
	again.run(t, append(args, extra...)...)
	files, err := filepath.Glob(archive + "*")
	if err != nil || len(files) < 3 {
		t.Fatalf("there are %v, %v", files, err)
	}
	for _, file := range files {
		if fileDigest(t, filepath.Join(again.dir, filepath.Base(file))) != fileDigest(t, file) {
			t.Errorf("the same images were saved as another %s", filepath.Base(file))
		}
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

// sampan load gives any archive to the engine that is there.
func TestLoadGivesAnArchiveToAnEngine(t *testing.T) {
	_, archive := saveAll(t, "--zstd", "--volume", "1MiB")
	if _, err := os.Stat(archive + ".002"); err != nil {
		t.Error(err)
	}
	t.Run("docker", func(t *testing.T) {
		d := startDocker(t, "{}")
		s := command{path: os.Getenv(binaryVariable), env: d.env, dir: d.dir}
		s.run(t, "load", "-i", archive)
		for _, i := range savedNames {
			_, text := ofThisMachine(t, i.upstream, i.repository, i.tag)
			d.wantRun(t, i.name, text)
		}
	})
	t.Run("podman", func(t *testing.T) {
		podman := newContainersEnv(t, "").command(podmanPath)
		s := command{path: os.Getenv(binaryVariable), env: podman.env, dir: podman.dir}
		s.run(t, "load", "-i", archive, "--engine", "podman", "tiny")
		if got := podman.run(t, "run", "--rm", "docker.io/library/tiny:latest"); got != said("docker.io", "library/tiny") {
			t.Errorf("the container printed %q", got)
		}
		if _, err := podman.output("image", "inspect", "quay.io/team/tool:1"); err == nil {
			t.Error("an image that was not named was loaded")
		}
	})
	t.Run("containerd", func(t *testing.T) {
		c := startContainerd(t, containerdVersions[0], nil, "")
		s := command{path: os.Getenv(binaryVariable), env: c.env, dir: c.dir}
		s.run(t, "load", "-i", archive, "--engine", "containerd", "--namespace", "k8s.io")
		for _, i := range savedNames {
			image, _ := ofThisMachine(t, i.upstream, i.repository, i.tag)
			c.wantImage(t, "k8s.io", i.name, image)
		}
	})
	t.Run("none", func(t *testing.T) {
		s := newSampan(t, nil)
		s.env = append(s.env, "PATH=/nonexistent")
		if said := s.fail(t, "load", "-i", archive); !strings.Contains(said, "no container engine was found here") {
			t.Errorf("it says %s", said)
		}
	})
}

// What other programs wrote is loaded as well.
func TestLoadReadsWhatOthersWrote(t *testing.T) {
	m := startMirror(t, options{})
	d := startDocker(t, "{}")
	d.run(t, "pull", "--quiet", m.address+"/library/tiny:latest")
	d.run(t, "tag", m.address+"/library/tiny:latest", "example.com/saved:1")
	d.run(t, "save", "-o", filepath.Join(d.dir, "docker.tar"), "example.com/saved:1")
	d.run(t, "rmi", "-f", "example.com/saved:1")
	c := newContainersEnv(t, "")
	skopeo := c.command(skopeoPath)
	from := "docker://" + m.address + "/library/oci:1"
	skopeo.run(t, "copy", "--quiet", "--src-tls-verify=false", from, "oci-archive:"+filepath.Join(c.dir, "skopeo.tar")+":example.com/saved:1")
	skopeo.run(t, "copy", "--quiet", "--src-tls-verify=false", from, "oci:"+filepath.Join(c.dir, "layout")+":example.com/saved:1")
	podman := c.command(podmanPath)
	podman.run(t, "load", "-q", "-i", filepath.Join(c.dir, "skopeo.tar"))
	podman.run(t, "save", "-q", "-o", filepath.Join(c.dir, "podman.tar"), "example.com/saved:1")
	cd := startContainerd(t, containerdVersions[0], nil, "")
	cd.run(t, "images", "import", filepath.Join(c.dir, "skopeo.tar"))
	cd.run(t, "images", "export", filepath.Join(c.dir, "ctr.tar"), "example.com/saved:1")
	s := command{path: os.Getenv(binaryVariable), env: d.env, dir: d.dir}
	for _, file := range []string{
		filepath.Join(d.dir, "docker.tar"), filepath.Join(c.dir, "skopeo.tar"), filepath.Join(c.dir, "layout"),
		filepath.Join(c.dir, "podman.tar"), filepath.Join(c.dir, "ctr.tar"),
	} {
		t.Run(filepath.Base(file), func(t *testing.T) {
			s.run(t, "load", "-i", file)
			d.wantRun(t, "example.com/saved:1", said("docker.io", "library/tiny"))
			d.run(t, "rmi", "-f", "example.com/saved:1")
		})
	}
}

// A registry in a closed network gets what it lacks, and clients pull it by digest.
func TestLoadPutsAnArchiveIntoARegistry(t *testing.T) {
	_, archive := saveAll(t, "--platform", "all")
	for _, name := range []string{"gcr.io", "native.test"} { // docker-registry, and one with a referrers API
		t.Run(name, func(t *testing.T) {
			u := newUpstream(t, bed.registries[name])
			address := strings.TrimPrefix(u.url(), "http://")
			s := newSampan(t, nil)
			s.run(t, "load", "-i", archive, "--to", address+"/closed/")
			for _, i := range savedNames {
				image := original(t, i.upstream, i.repository, i.tag)
				there, err := fetchManifest(bed.registries[name], "closed/"+i.repository, i.tag)
				if err != nil || there.digest != image.digest {
					t.Errorf("%s is %s there, want %s: %v", i.name, there.digest, image.digest, err)
				}
				newTool(t, "crane").run(t, "validate", "--remote", address+"/closed/"+i.repository+":"+i.tag)
			}
			u.forget()
			s.run(t, "load", "-i", archive, "--to", address+"/closed/")
			u.wantAsked(t, "^(POST|PATCH) ", 0, 0)
		})
	}
}

// Signatures and lists of contents go along.
func TestReferrersAreSavedAndLoaded(t *testing.T) {
	m := startMirror(t, options{})
	for _, upstream := range []string{"ghcr.io", "native.test"} { // by the fallback tag, and by the API
		s := newSampan(t, m)
		s.run(t, "save", "-o", "app.tar", "--referrers", "--registry", "native.test", "--platform", "all", upstream+"/me/app:1")
		for _, to := range []string{"gcr.io", "native.test"} {
			registry := bed.registries[to]
			s.run(t, "load", "-i", "app.tar", "--to", registry+"/from-"+strings.TrimSuffix(upstream, ".io")+"/")
			oras := newTool(t, "oras")
			found := oras.run(t, "discover", "--plain-http", "--format", "json", registry+"/from-"+strings.TrimSuffix(upstream, ".io")+"/me/app:1")
			if !strings.Contains(found, "application/spdx+json") {
				t.Errorf("of %s at %s there is: %s", upstream, to, found)
			}
		}
	}
}

// A save that is killed in the middle of a blob leaves no archive. The next one fetches
// what was missing, and writes what would have been written.
func TestASaveThatWasKilledGoesOn(t *testing.T) {
	u := newUpstream(t, bed.registries["docker.io"])
	name := strings.TrimPrefix(u.url(), "http://") + "/library/large:1"
	image := original(t, "docker.io", "library/large", "1")
	large := image.Layers[len(image.Layers)-1]
	s := newSampan(t, nil)
	archive := filepath.Join(s.dir, "large.tar")
	hold := u.hold("/blobs/"+large.Digest, 4<<20)
	d, err := startDaemon(s.env, filepath.Join(s.dir, "log"), s.path, "save", name, "-o", archive)
	if err != nil {
		t.Fatal(err)
	}
	<-hold.reached
	others := len(image.Layers) // the config, and all layers but one
	if err := poll(startTimeout, func() error {
		if n := strings.Count(d.logTail(1<<20), "done"); n != others {
			return fmt.Errorf("%d blobs are complete, want %d", n, others)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	d.kill()
	close(hold.release)
	if _, err := os.Stat(archive); err == nil {
		t.Error("there is an archive")
	}
	u.forget()
	s.run(t, "save", name, "-o", archive)
	u.wantAsked(t, "^GET .*/blobs/", 1, 1)
	fresh := newSampan(t, nil)
	fresh.run(t, "save", name, "-o", "large.tar")
	if fileDigest(t, archive) != fileDigest(t, filepath.Join(fresh.dir, "large.tar")) {
		t.Error("the archive is another")
	}
	if left, _ := filepath.Glob(archive + "*partial*"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// A bundle of what is new is loaded where the rest is, and refused where it is not. It names
// an image that did not change, too.
func TestABundleFollowsWhatWasLoaded(t *testing.T) {
	m := startMirror(t, options{})
	s := newSampan(t, m)
	s.run(t, "save", "tiny", "-o", "first.tar")
	said1 := s.run(t, "save", "tiny", "quay.io/team/tool:1", "--since", "first.tar.bundle.json", "-o", "second.tar")
	if !strings.Contains(said1, "2 blobs left out") { // of tiny, and the root file system, which all share
		t.Errorf("it says %q", said1)
	}
	first, second := filepath.Join(s.dir, "first.tar"), filepath.Join(s.dir, "second.tar")
	text := said("quay.io", "team/tool")

	t.Run("docker", func(t *testing.T) {
		d := startDocker(t, "{}")
		l := command{path: s.path, env: d.env, dir: d.dir}
		if said := l.fail(t, "load", "-i", second); !strings.Contains(said, "load first what it was made to follow") {
			t.Errorf("it says %s", said)
		}
		l.run(t, "load", "-i", first)
		l.run(t, "load", "-i", second)
		d.wantRun(t, "quay.io/team/tool:1", text)
	})
	t.Run("containerd", func(t *testing.T) {
		c := startContainerd(t, containerdVersions[0], nil, "")
		l := command{path: s.path, env: c.env, dir: c.dir}
		l.run(t, "load", "-i", first, "--engine", "containerd")
		l.run(t, "load", "-i", second, "--engine", "containerd")
		c.wantRun(t, "quay.io/team/tool:1", text)
	})
	t.Run("registry", func(t *testing.T) {
		to := bed.registries["gcr.io"] + "/bundles/"
		if said := s.fail(t, "load", "-i", second, "--to", to); !strings.Contains(said, "load first what it was made to follow") {
			t.Errorf("it says %s", said)
		}
		s.run(t, "load", "-i", first, "--to", to)
		s.run(t, "load", "-i", second, "--to", to)
		if there, err := fetchManifest(bed.registries["gcr.io"], "bundles/team/tool", "1"); err != nil || there.digest != original(t, "quay.io", "team/tool", "1").digest {
			t.Errorf("it is %s there, %v", there.digest, err)
		}
	})
}
