//go:build e2e

package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sampan/internal/runtimes"
)

// buildkit is a buildkitd with the settings of this machine, and buildctl talking to
// it.
func startBuildkit(t *testing.T) command {
	t.Helper()
	dir := testDir(t, "buildkit")
	socket := "unix://" + filepath.Join(dir, "s.sock")
	d := startTestDaemon(t, cleanEnv(dir), filepath.Join(dir, "buildkitd.log"), tool("buildkitd"),
		"--config", "/etc/buildkit/buildkitd.toml", "--addr", socket, "--root", filepath.Join(dir, "root"),
		"--oci-worker-snapshotter", "native", "--oci-worker-net", "host", "--containerd-worker=false")
	c := command{path: tool("buildctl"), env: cleanEnv(dir, "BUILDKIT_HOST="+socket), dir: dir}
	err := d.ready(func() error {
		_, err := c.output("debug", "workers")
		return err
	})
	if err != nil {
		t.Fatalf("buildkitd is not ready: %v", err)
	}
	return c
}

// build builds an image from another, and gives its layers as an OCI layout.
func build(t *testing.T, c command, from string) string {
	t.Helper()
	dir := testDir(t, "build")
	writeFile(t, filepath.Join(dir, "Dockerfile"), "FROM "+from+"\n")
	out := filepath.Join(dir, "out")
	c.run(t, "build", "--progress", "plain", "--frontend", "dockerfile.v0", "--local", "context="+dir, "--local", "dockerfile="+dir,
		"--output", "type=oci,tar=false,dest="+out)
	return out
}

func TestSetupBuildKit(t *testing.T) {
	m, mirror := trusted(t)
	writeFile(t, "/etc/buildkit/buildkitd.toml", "# ours\n[log]\n  format = \"text\" # as it is\n\n[registry.\"quay.io\"]\n  mirrors = [\"127.0.0.1:9\"]\n")
	path := os.Getenv("PATH")
	t.Setenv("PATH", filepath.Dir(tool("buildkitd"))+":"+path)
	p := prepare(t, runtimes.BuildKit{}, mirror, "/etc/buildkit")
	c := startBuildkit(t)
	for _, i := range everyRegistry() {
		m.forget()
		out := build(t, c, i.name)
		image := original(t, i.upstream, i.repository, i.reference)
		for _, layer := range image.Layers {
			if got := fileDigest(t, filepath.Join(out, "blobs", "sha256", strings.TrimPrefix(layer.Digest, "sha256:"))); got != layer.Digest {
				t.Errorf("the layer %s of %s is %s", layer.Digest, i.name, got)
			}
		}
		m.wantOnlyAsked(t, i.upstream)
	}
	p.undo(t)
}
