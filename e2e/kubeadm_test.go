//go:build e2e

package e2e

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"sampan/internal/oci"
	"sampan/internal/registrytest"
)

// With imageRepository set to the mirror kubeadm has the kubelet pull CoreDNS from a name
// without the folder in which it lies, before Kubernetes 1.21 from one that has none.
func TestKubeadmFindsCoreDNSAtTheMirror(t *testing.T) {
	eachContainerd(t, func(t *testing.T, v containerdVersion) {
		up := registrytest.StartTest(t, registrytest.Options{})
		images := map[string]manifest{
			"v1.11.3": fillFrom(t, up, "coredns/coredns", "v1.11.3", "docker.io", "library/tiny", "latest"),
			"1.7.0":   fillFrom(t, up, "coredns", "1.7.0", "quay.io", "team/tool", "1"),
		}
		up.SetBehavior(registrytest.K8s())
		m := startMirror(t, options{upstreams: map[string]string{"registry.k8s.io": up.URL()}})
		c := startContainerd(t, v, map[string]string{m.address: hostsFor("", "http://"+m.address, "")}, "")
		sizes := make(map[string]int64)
		for tag, image := range images {
			name := m.address + "/registry.k8s.io/coredns:" + tag
			got, err := criPull(c.socket, name)
			if err != nil {
				t.Fatal(err)
			}
			if got != image.Config.Digest {
				t.Errorf("%s: the image is %s, want %s", tag, got, image.Config.Digest)
			}
			c.wantImage(t, "k8s.io", name, image)
			for _, blob := range append(image.Layers, image.Config) {
				sizes[blob.Digest] = blob.Size // the two share a layer
			}
		}
		for digest, size := range sizes {
			d, err := oci.ParseDigest(digest)
			if err != nil {
				t.Fatal(err)
			}
			if n := up.BytesSentOf(d); n != size {
				t.Errorf("%d bytes of the %d of %s were sent", n, size, digest)
			}
		}
		if n := newTool(t, "crane").run(t, "digest", m.address+"/k8s.gcr.io/coredns:v1.11.3"); strings.TrimSpace(n) != images["v1.11.3"].digest {
			t.Errorf("by its older registry it is %s", n)
		}
	})
}

// What is copied for a release of Kubernetes is where kubeadm looks for it: CoreDNS under
// both of its names.
func TestSyncForKubeadmNamesCoreDNSAsItAsks(t *testing.T) {
	origin, target := bed.registries["registry.k8s.io"], bed.registries["quay.io"]
	newCopier(t).run(t, "copy", "--quiet", bed.registries["docker.io"]+"/library/tiny:latest", origin+"/coredns/coredns:v1.11.1")
	image := original(t, "registry.k8s.io", "coredns/coredns", "v1.11.1")
	s := startStandIns(t)
	sampan := sampanCommand(t, "SSL_CERT_FILE="+s.certificate)
	list := writeFile(t, filepath.Join(sampan.dir, "images.txt"), "registry.k8s.io/pause:3.1\nregistry.k8s.io/coredns/coredns:v1.11.1\n")
	sync := []string{"sync", "--kubeadm", "v1.99.0", "--kubeadm-images", list, "--to", target + "/kubeadm/", "--output", "json", "--quiet"}
	var report struct {
		Complete bool
		Images   []struct{ Target, Result string }
	}
	if err := json.Unmarshal([]byte(sampan.run(t, sync...)), &report); err != nil {
		t.Fatal(err)
	}
	if !report.Complete || len(report.Images) != 3 {
		t.Errorf("got %+v", report)
	}
	for repo, want := range map[string]manifest{"coredns": image, "coredns/coredns": image, "pause": original(t, "registry.k8s.io", "pause", "3.1")} {
		tag := "v1.11.1"
		if repo == "pause" {
			tag = "3.1"
		}
		if there, err := fetchManifest(target, "kubeadm/"+repo, tag); err != nil || there.digest != want.digest {
			t.Errorf("%s: %v, is %s, want %s", repo, err, there.digest, want.digest)
		}
	}
	newTool(t, "crane").run(t, "validate", "--insecure", "--remote", target+"/kubeadm/coredns:v1.11.1")
}
