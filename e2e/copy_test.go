//go:build e2e

package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// newCopier is "sampan copy" with an empty home folder.
func newCopier(t *testing.T) command {
	t.Helper()
	dir := testDir(t, "copier")
	return command{path: os.Getenv(binaryVariable), env: cleanEnv(dir), dir: dir}
}

func TestCopyBothWaysBetweenRegistries(t *testing.T) {
	s := newCopier(t)
	hub, native := bed.registries["docker.io"], bed.registries["native.test"]
	image := original(t, "docker.io", "library/tiny", "latest")
	out := s.run(t, "copy", "--flatten", "--with-registry", hub+"/library/tiny:latest", native+"/copies/")
	name := native + "/copies/" + strings.ReplaceAll(hub, ":", "-") + ".library.tiny:latest"
	if !strings.Contains(out, "docker pull "+name+"\n") {
		t.Errorf("it does not say what to type: %s", out)
	}
	there, err := fetchManifest(native, strings.TrimSuffix(strings.TrimPrefix(name, native+"/"), ":latest"), "latest")
	if err != nil || there.digest != image.digest {
		t.Fatalf("%v: it arrived as %s, want %s", err, there.digest, image.digest)
	}
	s.run(t, "copy", name, hub+"/back/tiny:again")
	if there, err = fetchManifest(hub, "back/tiny", "again"); err != nil || there.digest != image.digest {
		t.Fatalf("%v: it came back as %s, want %s", err, there.digest, image.digest)
	}
	if again := s.run(t, "copy", name, hub+"/back/tiny:again"); !strings.Contains(again, "docker pull") {
		t.Errorf("the second time: %s", again)
	}
	newTool(t, "crane").run(t, "validate", "--insecure", "--remote", hub+"/back/tiny:again")
}

func TestCopyCarriesReferrersBothWays(t *testing.T) {
	s := newCopier(t)
	hub, native := bed.registries["docker.io"], bed.registries["native.test"]
	s.run(t, "copy", "--referrers", native+"/me/app:1", hub+"/with/app:1")
	s.run(t, "copy", "--referrers", hub+"/with/app:1", native+"/back/app:1")
	oras := newTool(t, "oras")
	for _, name := range []string{hub + "/with/app:1", native + "/back/app:1"} {
		out := oras.run(t, "discover", "--plain-http", "--format", "json", "--artifact-type", "application/spdx+json", name)
		if !strings.Contains(out, "application/spdx+json") {
			t.Errorf("%s has no referrer: %s", name, out)
		}
	}
}

func TestCopiesArePulledAndRun(t *testing.T) {
	s := newCopier(t)
	hub, quay := bed.registries["docker.io"], bed.registries["quay.io"]
	s.run(t, "copy", hub+"/library/tiny:latest", quay+"/copied/tiny:1")
	name := quay + "/copied/tiny:1"
	podman := newContainersEnv(t, "").command(podmanPath)
	podman.run(t, "pull", "--quiet", "--tls-verify=false", name)
	if got, want := podman.run(t, "run", "--rm", name), said("docker.io", "library/tiny"); got != want {
		t.Errorf("Podman's container printed %q, want %q", got, want)
	}
	docker := startDocker(t, "{}")
	docker.run(t, "pull", "--quiet", name)
	docker.wantRun(t, name, said("docker.io", "library/tiny"))
}

func TestCopyLeavesNothingBehind(t *testing.T) {
	s := newCopier(t)
	hub, quay := bed.registries["docker.io"], bed.registries["quay.io"]
	s.run(t, "copy", "--dry-run", hub+"/library/tiny:latest", quay+"/dry/")
	if _, err := fetchManifest(quay, "dry/library/tiny", "latest"); err == nil {
		t.Error("a dry run has copied")
	}
	if _, err := os.Stat(filepath.Join(s.dir, ".docker")); err == nil {
		t.Error("it has written to the home folder")
	}
}
