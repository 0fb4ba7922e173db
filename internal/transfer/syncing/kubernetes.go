package syncing

import (
	_ "embed"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"github.com/Masterminds/semver/v3"

	"sampan/internal/oci"
)

// known says which etcd, CoreDNS and pause the releases of Kubernetes come with, by
// kubeadm's constants: first and last release of a range, and the three tags. A release
// in no range is not known.
//
//go:embed kubernetes.txt
var known string

// ErrUnknownKubernetes is the error of a release that is not among the known ones.
var ErrUnknownKubernetes = errors.New("this release of Kubernetes is not known here")

// companions are what a release comes with.
type companions struct{ etcd, coredns, pause string }

// KubernetesImages are the images of the control plane of a release, such as v1.31.0,
// as `kubeadm config images list` has them, from registry.k8s.io. One that is not known
// is [ErrUnknownKubernetes]: see [ReadConstants].
func KubernetesImages(release string) ([]oci.Reference, error) {
	v, err := parseRelease(release)
	if err != nil {
		return nil, err
	}
	c, ok := find(v)
	if !ok {
		return nil, fmt.Errorf("%s: %w", release, ErrUnknownKubernetes)
	}
	return c.images(v)
}

// ReadConstants are the images of a release by a file of kubeadm's constants
// (cmd/kubeadm/app/constants/constants.go of its source), or by the output of
// `kubeadm config images list`, of which the release is not asked.
func ReadConstants(r io.Reader, release string) ([]oci.Reference, error) {
	const most = 1 << 20
	raw, err := io.ReadAll(io.LimitReader(r, most))
	if err != nil {
		return nil, err
	}
	text := string(raw)
	var c companions
	for name, value := range map[string]*string{"DefaultEtcdVersion": &c.etcd, "CoreDNSVersion": &c.coredns, "PauseVersion": &c.pause} {
		if m := regexp.MustCompile(`(?m)^\s*` + name + `\s*=\s*"([^"]+)"`).FindStringSubmatch(text); m != nil {
			*value = m[1]
		}
	}
	if c.etcd != "" && c.coredns != "" && c.pause != "" {
		v, err := parseRelease(release)
		if err != nil {
			return nil, err
		}
		return c.images(v)
	}
	var images []oci.Reference
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		ref, err := oci.ParseReference(line)
		if err != nil {
			return nil, fmt.Errorf("%w: %q is neither kubeadm's constants nor an image name", ErrConstants, line)
		}
		images = append(images, ref)
	}
	if len(images) == 0 {
		return nil, ErrConstants
	}
	return images, nil
}

// ErrConstants is the error of what is neither kubeadm's constants nor a list of images.
var ErrConstants = errors.New("no list of images")

// ErrRelease is the error of a release that is written in no form that Kubernetes has.
var ErrRelease = errors.New("is no release of Kubernetes, such as v1.31.0")

func parseRelease(release string) (*semver.Version, error) {
	v, err := semver.StrictNewVersion(strings.TrimPrefix(release, "v"))
	if err != nil {
		return nil, fmt.Errorf("%q %w", release, ErrRelease)
	}
	return v, nil
}

// find looks a release up.
func find(v *semver.Version) (c companions, ok bool) {
	for line := range strings.Lines(known) {
		f := strings.Fields(line)
		if len(f) != 5 || f[0] == "#" {
			continue
		}
		first, err := parseRelease(f[0])
		if err != nil {
			continue
		}
		last, err := parseRelease(f[1])
		if err == nil && !v.LessThan(first) && !v.GreaterThan(last) {
			return companions{f[2], f[3], f[4]}, true
		}
	}
	return companions{}, false
}

// images are those of a release, as kubeadm names them.
func (c companions) images(v *semver.Version) ([]oci.Reference, error) {
	names := make([]string, 0, 7)
	for _, part := range []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy"} {
		names = append(names, part+":v"+v.String())
	}
	names = append(names, "coredns/coredns:"+c.coredns, "pause:"+c.pause, "etcd:"+c.etcd)
	var images []oci.Reference
	for _, name := range names {
		ref, err := oci.ParseReference("registry.k8s.io/" + name)
		if err != nil {
			return nil, err
		}
		images = append(images, ref)
	}
	return images, nil
}

// namesForKubeadm are the names under which kubeadm asks for an image of a release: for
// that of CoreDNS, where its imageRepository is not the default, without the folder
// (GetDNSImage in k8s.io/kubernetes/cmd/kubeadm/app/images).
func namesForKubeadm(ref oci.Reference) []oci.Reference {
	names := []oci.Reference{ref}
	if repo := ref.Repository; repo.String() == "registry.k8s.io/coredns/coredns" {
		if flat, err := repo.Registry().Repository("coredns"); err == nil {
			ref.Repository = flat
			names = append(names, ref)
		}
	}
	return names
}
