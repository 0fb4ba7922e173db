//go:build e2e

package e2e

import (
	"path/filepath"
	"strings"
	"testing"
)

// startBuildkit starts a buildkitd with the settings of this machine, and buildctl talking to
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

// BuildKit reads its settings when it starts, so that a second setup, which changes
// nothing, is the one that proves.
func TestSetupBuildKit(t *testing.T) {
	m, _, flags := trusted(t)
	writeFile(t, "/etc/buildkit/buildkitd.toml", "# ours\n[log]\n  format = \"text\" # as it is\n\n[registry.\"quay.io\"]\n  mirrors = [\"127.0.0.1:9\"]\n")
	p, _ := prepare(t, "buildkit", cleanEnv("", "PATH="+filepath.Dir(tool("buildkitd"))+":/usr/bin:/bin"), []string{"/etc/buildkit"}, append(flags, "--no-prove")...)
	c := startBuildkit(t)
	p.env = append(p.env, c.env[len(c.env)-1])
	said := p.run(t, append([]string{"setup", "buildkit"}, flags...)...)
	for _, i := range everyRegistry() {
		if !strings.Contains(said, "Proven: the mirror answered for "+i.upstream) {
			t.Errorf("nothing was proven for %s:\n%s", i.upstream, said)
		}
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
