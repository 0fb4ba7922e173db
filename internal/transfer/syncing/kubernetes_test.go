package syncing

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/Masterminds/semver/v3"
)

func names(t *testing.T, release string) []string {
	t.Helper()
	images, err := KubernetesImages(release)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, ref := range images {
		list = append(list, ref.String())
	}
	return list
}

// What `kubeadm config images list` of these releases prints.
func TestImagesOfKubernetes(t *testing.T) {
	for release, want := range map[string][]string{
		"v1.31.0": {
			"registry.k8s.io/kube-apiserver:v1.31.0", "registry.k8s.io/kube-controller-manager:v1.31.0",
			"registry.k8s.io/kube-scheduler:v1.31.0", "registry.k8s.io/kube-proxy:v1.31.0",
			"registry.k8s.io/coredns/coredns:v1.11.1", "registry.k8s.io/pause:3.10", "registry.k8s.io/etcd:3.5.15-0",
		},
		"1.28.3": {
			"registry.k8s.io/kube-apiserver:v1.28.3", "registry.k8s.io/kube-controller-manager:v1.28.3",
			"registry.k8s.io/kube-scheduler:v1.28.3", "registry.k8s.io/kube-proxy:v1.28.3",
			"registry.k8s.io/coredns/coredns:v1.10.1", "registry.k8s.io/pause:3.9", "registry.k8s.io/etcd:3.5.9-0",
		},
	} {
		if got := names(t, release); !slices.Equal(got, want) {
			t.Errorf("%s: got %v", release, got)
		}
	}
}

func TestAReleaseThatIsNotKnownIsSaidSo(t *testing.T) {
	for _, release := range []string{"v1.36.99", "v1.99.0", "v1.10.0", "v2.0.0", "v1.24.8"} {
		if images, err := KubernetesImages(release); !errors.Is(err, ErrUnknownKubernetes) {
			t.Errorf("%s: %v, %v", release, images, err)
		}
	}
	for _, release := range []string{"1.31", "latest", "", "v1.31.0.1"} {
		if images, err := KubernetesImages(release); err == nil || errors.Is(err, ErrUnknownKubernetes) {
			t.Errorf("%q: %v, %v", release, images, err)
		}
	}
}

func TestRangesAreInOrderAndApart(t *testing.T) {
	var before *semver.Version
	ranges := 0
	for line := range strings.Lines(known) {
		f := strings.Fields(line)
		if f[0] == "#" {
			continue
		}
		if len(f) != 5 {
			t.Fatalf("%q has %d fields", line, len(f))
		}
		first, err := parseRelease(f[0])
		if err != nil {
			t.Fatal(err)
		}
		last, err := parseRelease(f[1])
		if err != nil {
			t.Fatal(err)
		}
		if first.GreaterThan(last) || first.Minor() != last.Minor() || before != nil && !before.LessThan(first) {
			t.Errorf("%q is out of order", line)
		}
		before = last
		ranges++
	}
	if ranges < 30 {
		t.Errorf("only %d ranges", ranges)
	}
}

func TestConstantsOfAnotherRelease(t *testing.T) {
	const source = "const (\n\tDefaultEtcdVersion = \"9.0.1-0\"\n\tCoreDNSVersion = \"v9.1.0\"\n\tPauseVersion = \"9.2\"\n\tPauseVersionX = \"1\"\n)\n"
	images, err := ReadConstants(strings.NewReader(source), "v1.99.0")
	if err != nil || len(images) != 7 || images[6].String() != "registry.k8s.io/etcd:9.0.1-0" || images[0].Tag.String() != "v1.99.0" {
		t.Errorf("got %v, %v", images, err)
	}
	images, err = ReadConstants(strings.NewReader("# kubeadm config images list\nregistry.k8s.io/pause:3.10\n\nquay.io/a/b:1\n"), "")
	if err != nil || len(images) != 2 || images[1].String() != "quay.io/a/b:1" {
		t.Errorf("got %v, %v", images, err)
	}
	for _, text := range []string{"", "# nothing\n", "package constants\n", "const DefaultEtcdVersion = \"1\"\n"} {
		if images, err := ReadConstants(strings.NewReader(text), "v1.99.0"); err == nil {
			t.Errorf("%q: %v", text, images)
		}
	}
}
