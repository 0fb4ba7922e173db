//go:build e2e

package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A Dockerfile that knows of no mirror is rewritten by the real binary, and built by
// the real Buildah: every image comes through the mirror, and from the registry that
// the Dockerfile named.
func TestBuildahBuildsARewrittenDockerfile(t *testing.T) {
	m := startMirror(t, options{})
	c := newContainersEnv(t, "")
	buildah := c.command(buildahPath)
	file := writeFile(t, filepath.Join(c.dir, "context", "Dockerfile"), `ARG BASE=quay.io/team/tool:1
ARG REGISTRY=gcr.io
ARG TAG=latest
FROM docker.io/library/tiny:${TAG} AS hub
RUN cp /etc/origin /etc/first
FROM ${REGISTRY}/google_containers/pause:3.1 AS second
FROM hub AS third
FROM ${BASE}
COPY --from=third /etc/first /etc/first
COPY --from=second /etc/origin /etc/second
COPY --from=ghcr.io/me/app:1 /etc/origin /etc/third
RUN --mount=type=bind,from=me/app:1,source=/etc,target=/there cp /there/origin /etc/fourth
`)
	sampan := c.command(os.Getenv(binaryVariable))
	sampan.run(t, "rewrite", "--mirror", m.address, "--in-place", file)
	buildah.run(t, "build", "--quiet", "--tls-verify=false", "--isolation", "chroot", "-t", "localhost/built", "-f", file, filepath.Dir(file))
	container := strings.TrimSpace(buildah.run(t, "from", "--quiet", "localhost/built"))
	root := strings.TrimSpace(buildah.run(t, "mount", container))
	for name, origin := range map[string]string{
		"origin": said("quay.io", "team/tool"), "first": said("docker.io", "library/tiny"),
		"second": said("gcr.io", "google-containers/pause"), "third": said("ghcr.io", "me/app"), "fourth": said("docker.io", "me/app"),
	} {
		wantFile(t, filepath.Join(root, "etc", name), origin)
	}
	buildah.run(t, "unmount", container)
	for registry, images := range map[string]int{"docker.io": 2, "quay.io": 1, "gcr.io": 1, "ghcr.io": 1} {
		m.upstream(t, registry).wantAsked(t, "^GET .*/manifests/", images, images)
	}
}
