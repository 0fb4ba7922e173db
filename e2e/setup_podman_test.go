//go:build e2e

package e2e

import (
	"encoding/json"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
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

// A prepared is a runtime that `sampan setup` has set up.
type prepared struct {
	command
	target string
	dirs   []string
	before map[string]string
}

// prepare sets a runtime of this machine up for a mirror, and remembers what was in the
// directories of its settings. The environment is that of the runtime's client.
func prepare(t *testing.T, target string, env []string, dirs []string, flags ...string) (*prepared, string) {
	t.Helper()
	home := testDir(t, "home")
	p := &prepared{
		command: command{path: os.Getenv(binaryVariable), env: append(slices.Clone(env), "HOME="+home), dir: home},
		target:  target, dirs: append(dirs, home),
	}
	p.before = p.look(t)
	flags = append([]string{"setup", target, "--yes"}, flags...)
	p.run(t, append(flags, "--dry-run")...)
	if !maps.Equal(p.look(t), p.before) {
		t.Fatal("a dry run changed something")
	}
	return p, p.run(t, flags...)
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
	p.run(t, "setup", p.target, "--undo", "--yes")
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

// trusted is a mirror with a certificate of an authority of its own, and the flags that
// name it.
func trusted(t *testing.T) (m *mirror, host string, flags []string) {
	t.Helper()
	a := newAuthority(t)
	m, host, _, _, _ = startTLS(t, a)
	return m, host, []string{"--mirror", host, "--ca", a.file}
}

func TestSetupPodman(t *testing.T) {
	m, host, flags := trusted(t)
	c := newContainersEnv(t, "# ours\n[[registry]]\nlocation = \"quay.io\"\n[[registry.mirror]]\nlocation = \"127.0.0.1:9/nobody\"\ninsecure = true\n")
	p, said := prepare(t, "podman", c.env, []string{"/etc/containers"}, flags...)
	podman, buildah := c.command(podmanPath), c.command(buildahPath)
	info := podman.run(t, "info")
	for _, i := range everyRegistry() {
		if !strings.Contains(said, "Proven: the mirror answered for "+i.upstream) {
			t.Errorf("nothing was proven for %s:\n%s", i.upstream, said)
		}
		if !strings.Contains(info, host+"/"+i.upstream) {
			t.Errorf("podman info knows no mirror of %s:\n%s", i.upstream, info)
		}
		m.forget()
		podman.run(t, "pull", "--quiet", i.name)
		wantStored(t, buildah, i.name, original(t, i.upstream, i.repository, i.reference))
		m.wantOnlyAsked(t, i.upstream)
	}
	if again := p.run(t, append([]string{"setup", "podman"}, flags...)...); !strings.Contains(again, "Nothing has to change.") {
		t.Errorf("a second setup says\n%s", again)
	}
	if report := p.examine(t, flags); !report.uses("podman") || report.has("mirror-", "mirror-expires") {
		t.Errorf("the doctor finds %+v", report)
	}
	p.undo(t)
	if strings.Contains(podman.run(t, "info"), host) {
		t.Error("undone, podman still knows the mirror")
	}
	if report := p.examine(t, flags); report.uses("podman") || !report.has("runtime-unused") {
		t.Errorf("undone, the doctor finds %+v", report)
	}
}

// A diagnosis is what `sampan doctor -o json` says.
type diagnosis struct {
	Runtimes []struct {
		Name       string
		UsesMirror bool `json:"uses_mirror"`
	}
	Registries []struct{ Name, State string }
	Findings   []struct{ ID, Severity, Message string }
}

func (d diagnosis) uses(runtime string) bool {
	for _, r := range d.Runtimes {
		if r.Name == runtime {
			return r.UsesMirror
		}
	}
	return false
}

// has tells whether something was found whose name begins so, but for some.
func (d diagnosis) has(prefix string, but ...string) bool {
	for _, f := range d.Findings {
		if strings.HasPrefix(f.ID, prefix) && !slices.Contains(but, f.ID) {
			return true
		}
	}
	return false
}

// examine asks the doctor. The real registries are not to be called.
func (p *prepared) examine(t *testing.T, flags []string) diagnosis {
	t.Helper()
	file := writeFile(t, filepath.Join(p.dir, "said"), "")
	script := `"$@" -o json --timeout 2s >` + file + `; test $? = 0 -o $? = 3`
	command{path: "/bin/sh", env: p.env, dir: p.dir}.run(t, append([]string{"-c", script, "sh", p.path, "doctor"}, flags...)...)
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	os.Remove(file)
	var d diagnosis
	if err := json.Unmarshal(raw, &d); err != nil {
		t.Fatalf("%v\n%s", err, raw)
	}
	return d
}

// Where the registries must not be asked, they are not: not when the mirror is gone
// either.
func TestSetupPodmanWithoutFallback(t *testing.T) {
	m, _, flags := trusted(t)
	c := newContainersEnv(t, "")
	p, _ := prepare(t, "podman", c.env, []string{"/etc/containers"}, append(flags, "--no-fallback")...)
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
	for name, more := range map[string][]string{
		"login": {"--username", "ann", "--password-file", writeFile(t, filepath.Join(testDir(t, "secrets"), "password"), "secret\n")},
		"code":  {"--code-file", s.codeFile},
	} {
		t.Run(name, func(t *testing.T) {
			c := newContainersEnv(t, "")
			flags := append([]string{"--mirror", s.host, "--ca", s.authority.file, "--no-fallback"}, more...)
			p, said := prepare(t, "podman", c.env, []string{"/etc/containers"}, flags...)
			if strings.Contains(said, "secret") {
				t.Errorf("a password is shown:\n%s", said)
			}
			podman := command{path: podmanPath, env: p.env, dir: c.dir}
			podman.run(t, "pull", "--quiet", "docker.io/library/tiny:latest")
			wantStored(t, c.command(buildahPath), "docker.io/library/tiny:latest", original(t, "docker.io", "library/tiny", "latest"))
			p.undo(t)
		})
	}
	s.wantNoSecrets(t)
}
