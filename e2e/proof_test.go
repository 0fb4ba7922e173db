//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"

	"sampan/internal/oci"
	"sampan/internal/proof"
)

// proofOf is the image that mirrors alone have, under a tag nobody used before.
func proofOf(t *testing.T, registry string) string {
	t.Helper()
	r, err := oci.ParseRegistry(registry)
	if err != nil {
		t.Fatal(err)
	}
	ref, err := proof.Reference(r, proof.Nonce())
	if err != nil {
		t.Fatal(err)
	}
	return ref.String()
}

// wantNothingAsked fails when any registry was asked anything.
func (m *mirror) wantNothingAsked(t *testing.T) {
	t.Helper()
	for _, name := range m.names() {
		if n := len(m.upstreams[name].asked("")); n > 0 {
			t.Errorf("%s was asked:\n%s", name, m.upstreams[name].dump())
		}
	}
}

// proven are registries whose names clients pull the proof by.
func proven() []string { return []string{"docker.io", "quay.io", "registry.k8s.io", "ghcr.io"} }

func TestTheProofIsPulledByDocker(t *testing.T) {
	m := startMirror(t, options{})
	d := startDocker(t, fmt.Sprintf(`{"registry-mirrors": ["http://%s"]}`, m.address))
	name := proofOf(t, "docker.io")
	d.run(t, "pull", "--quiet", name)
	if got := d.run(t, "image", "inspect", "--format", "{{join .RepoDigests \",\"}}", name); !strings.Contains(got, "@"+proof.Digest().String()) {
		t.Errorf("Docker holds %s, want %s", got, proof.Digest())
	}
	m.wantNothingAsked(t)
}

func TestTheProofIsPulledByContainerd(t *testing.T) {
	eachContainerd(t, func(t *testing.T, v containerdVersion) {
		m := startMirror(t, options{})
		c := startContainerd(t, v, map[string]string{"_default": hostsFor("", "http://"+m.address, "")}, "")
		for _, registry := range proven() {
			name := proofOf(t, registry)
			c.pull(t, name)
			if got := c.run(t, "images", "ls", "name=="+name); !strings.Contains(got, proof.Digest().String()) {
				t.Errorf("containerd holds %s, want %s", got, proof.Digest())
			}
		}
		if _, err := criPull(c.socket, proofOf(t, "quay.io")); err != nil {
			t.Errorf("by the interface of Kubernetes: %v", err)
		}
		m.wantNothingAsked(t)
	})
}

func TestTheProofIsPulledByPodman(t *testing.T) {
	m := startMirror(t, options{})
	podman := newContainersEnv(t, mirrorsConf(m.address, proven()...)).command(podmanPath)
	for _, registry := range proven() {
		name := proofOf(t, registry)
		podman.run(t, "pull", "--quiet", name)
		if got := podman.run(t, "image", "inspect", "--format", "{{.Digest}} {{join .RepoDigests \",\"}}", name); !strings.Contains(got, proof.Digest().String()) {
			t.Errorf("Podman holds %s, want %s", got, proof.Digest())
		}
	}
	m.wantNothingAsked(t)
}
