//go:build e2e

package e2e

import (
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sampan/internal/oci"
	"sampan/internal/runtimes"
)

// everyRegistry are images by their own names, one of each registry that people use.
func everyRegistry() []mirrored {
	return []mirrored{
		{"docker.io/library/tiny:latest", "docker.io", "library/tiny", "latest"},
		{"gcr.io/google-containers/pause:3.1", "gcr.io", "google-containers/pause", "3.1"},
		{"registry.k8s.io/pause:3.1", "registry.k8s.io", "pause", "3.1"},
		{"quay.io/team/tool:1", "quay.io", "team/tool", "1"},
		{"ghcr.io/me/app:1", "ghcr.io", "me/app", "1"},
	}
}

// A prepared is a runtime that was set up.
type prepared struct {
	machine *runtimes.Machine
	store   *runtimes.Store
	target  string
	dirs    []string
	before  map[string]string
}

// prepare sets a runtime of this machine up for a mirror with a private authority, and
// remembers what was in the directories of its settings.
func prepare(t *testing.T, target runtimes.Target, mirror runtimes.Mirror, dirs ...string) *prepared {
	t.Helper()
	for _, i := range everyRegistry() {
		r, err := oci.ParseRegistry(i.upstream)
		if err != nil {
			t.Fatal(err)
		}
		mirror.Registries = append(mirror.Registries, r)
	}
	home := testDir(t, "home")
	m := &runtimes.Machine{Home: home, UID: 1000, Environ: cleanEnv(home, "XDG_STATE_HOME="+testDir(t, "state"))}
	p := &prepared{machine: m, store: runtimes.NewStore(m), target: target.Name(), dirs: append(dirs, home)}
	m.UID = 0
	p.before = p.look(t)
	found, err := target.Detect(t.Context(), m)
	if err != nil || !found.Present {
		t.Fatalf("%s was found as %+v, %v", p.target, found, err)
	}
	plan, err := target.Plan(t.Context(), m, found, mirror)
	if err != nil {
		t.Fatal(err)
	}
	if err := runtimes.Apply(m, p.store, p.target, plan); err != nil {
		t.Fatal(err)
	}
	return p
}

// look is what is in the directories: paths with mode and content.
func (p *prepared) look(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, dir := range p.dirs {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := d.Info()
			if err != nil || d.IsDir() {
				all[path] = "a directory"
				return err
			}
			raw, err := os.ReadFile(path)
			all[path] = info.Mode().String() + " " + string(raw)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// undo takes the setup back, and fails unless everything is as it was before.
func (p *prepared) undo(t *testing.T) {
	t.Helper()
	if maps.Equal(p.look(t), p.before) {
		t.Error("the setup changed nothing")
	}
	if _, _, _, err := runtimes.Undo(p.machine, p.store, p.target, false); err != nil {
		t.Fatal(err)
	}
	after := p.look(t)
	for _, path := range slices.Sorted(maps.Keys(after)) {
		if after[path] != p.before[path] {
			t.Errorf("undone, %s is %q, and was %q", path, after[path], p.before[path])
		}
	}
	for path := range p.before {
		if _, ok := after[path]; !ok {
			t.Errorf("undone, %s is gone", path)
		}
	}
}

// trusted is a mirror with a certificate of an authority of its own.
func trusted(t *testing.T) (*mirror, runtimes.Mirror) {
	t.Helper()
	a := newAuthority(t)
	m, host, _, _, _ := startTLS(t, a)
	pem, err := os.ReadFile(a.file)
	if err != nil {
		t.Fatal(err)
	}
	return m, runtimes.Mirror{URL: "https://" + host, Host: host, CA: pem}
}

func TestSetupPodman(t *testing.T) {
	m, mirror := trusted(t)
	c := newContainersEnv(t, "# ours\n[[registry]]\nlocation = \"quay.io\"\n[[registry.mirror]]\nlocation = \"127.0.0.1:9/nobody\"\ninsecure = true\n")
	p := prepare(t, runtimes.Podman{}, mirror, "/etc/containers")
	podman, buildah := c.command(podmanPath), c.command(buildahPath)
	info := podman.run(t, "info")
	for _, i := range everyRegistry() {
		if !strings.Contains(info, mirror.Host+"/"+i.upstream) {
			t.Errorf("podman info knows no mirror of %s:\n%s", i.upstream, info)
		}
		m.forget()
		podman.run(t, "pull", "--quiet", i.name)
		wantStored(t, buildah, i.name, original(t, i.upstream, i.repository, i.reference))
		m.wantOnlyAsked(t, i.upstream)
	}
	for _, registry := range proven() {
		podman.run(t, "pull", "--quiet", proofOf(t, registry))
	}
	found, err := runtimes.Podman{}.Detect(t.Context(), p.machine)
	if err != nil || !slices.Contains(found.Mirrors, "quay.io = "+mirror.Host+"/quay.io") || found.Version == "" {
		t.Errorf("found %+v, %v", found, err)
	}
	p.undo(t)
	if strings.Contains(podman.run(t, "info"), mirror.Host) {
		t.Error("undone, podman still knows the mirror")
	}
}

// Where the registries must not be asked, they are not: not when the mirror is gone
// either.
func TestSetupPodmanWithoutFallback(t *testing.T) {
	m, mirror := trusted(t)
	mirror.NoFallback = true
	c := newContainersEnv(t, "")
	p := prepare(t, runtimes.Podman{}, mirror, "/etc/containers")
	podman := c.command(podmanPath)
	for _, i := range everyRegistry() {
		podman.run(t, "pull", "--quiet", i.name)
	}
	m.process.stop()
	podman.fail(t, "pull", "--quiet", proofOf(t, "quay.io"))
	p.undo(t)
}

// A login, or an access code, reaches the mirror with every pull.
func TestSetupPodmanWithALoginAndWithACode(t *testing.T) {
	s := startMembers(t, "")
	for name, mirror := range map[string]runtimes.Mirror{
		"login": {URL: "https://" + s.host, Host: s.host, Username: "ann", Password: "secret"},
		"code":  {URL: "https://" + memberCode + "." + s.host, Host: memberCode + "." + s.host},
	} {
		t.Run(name, func(t *testing.T) {
			mirror.CA = []byte(s.pem(t))
			mirror.NoFallback = true
			c := newContainersEnv(t, "")
			p := prepare(t, runtimes.Podman{}, mirror, "/etc/containers")
			podman := command{path: podmanPath, env: append(c.env, "HOME="+p.machine.Home), dir: c.dir}
			podman.run(t, "pull", "--quiet", proofOf(t, "quay.io"))
			podman.run(t, "pull", "--quiet", "docker.io/library/tiny:latest")
			wantStored(t, c.command(buildahPath), "docker.io/library/tiny:latest", original(t, "docker.io", "library/tiny", "latest"))
			p.undo(t)
		})
	}
	s.wantNoSecrets(t)
}
