package app_test

import (
	"strings"
	"testing"

	"sampan/internal/registrytest"
)

// kubeadm asks a mirror for coredns without its folder. What it gets is that of the folder,
// of which one copy is kept, also when nobody can be asked any more; of versions before 1.8
// it is what lies beside the folder.
func TestCoreDNSIsFoundWithoutItsFolder(t *testing.T) {
	reg := registrytest.StartTest(t, registrytest.Options{Behavior: registrytest.K8s()})
	reg.AddImage("coredns/coredns", "v1.11.3", registrytest.ImageSpec{Seed: 1})
	reg.AddImage("coredns", "1.7.0", registrytest.ImageSpec{Seed: 2})
	dir := t.TempDir()
	m := onOneLine(t, dir, "registry.k8s.io="+reg.URL())
	pull := func(names ...string) {
		t.Helper()
		for _, name := range names {
			repo, tag, _ := strings.Cut(name, ":")
			if err := m.pull(repo, tag); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	pull("registry.k8s.io/coredns:v1.11.3")
	first := len(reg.Requests())
	for _, r := range reg.Requests() {
		if strings.HasPrefix(r.Path, "/v2/coredns/") && !strings.HasPrefix(r.Path, "/v2/coredns/coredns/") {
			t.Errorf("%s %s", r.Method, r.Path)
		}
	}
	pull("registry.k8s.io/coredns/coredns:v1.11.3", "k8s.gcr.io/coredns:v1.11.3")
	if n := len(reg.Requests()); n != first {
		t.Errorf("the same under other names: %d further requests", n-first)
	}
	pull("registry.k8s.io/coredns:1.7.0")
	if err := m.pull("registry.k8s.io/coredns", "v9"); err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("what is nowhere: %v", err)
	}
	m.end(t)
	if err := reg.Close(); err != nil {
		t.Error(err)
	}
	m = onOneLine(t, dir, "registry.k8s.io="+reg.URL())
	pull("registry.k8s.io/coredns:v1.11.3", "registry.k8s.io/coredns:1.7.0")
}
