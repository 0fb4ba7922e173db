//go:build e2e

package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// machineContainerd is a containerd as a machine has one: its settings and its socket
// where everybody looks.
type machineContainerd struct {
	*containerd
	version containerdVersion
	daemon  *daemon
	path    string // of programs, with the containerd of this version
}

const machineSocket = "/run/containerd/containerd.sock"

func startMachineContainerd(t *testing.T, v containerdVersion, config string) *machineContainerd {
	t.Helper()
	dir := testDir(t, "containerd")
	if err := os.RemoveAll("/etc/containerd/certs.d"); err != nil {
		t.Fatal(err)
	}
	writeFile(t, "/etc/containerd/config.toml", strings.NewReplacer("ROOT", filepath.Join(dir, "root"), "STATE", filepath.Join(dir, "state")).Replace(config))
	programs := filepath.Join(dir, "programs")
	if err := os.MkdirAll(programs, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, path := range map[string]string{"containerd": v.daemon, "ctr": v.ctr} {
		if err := os.Symlink(path, filepath.Join(programs, name)); err != nil {
			t.Fatal(err)
		}
	}
	c := &machineContainerd{
		containerd: &containerd{command: command{path: v.ctr, env: cleanEnv(dir, "CONTAINERD_ADDRESS="+machineSocket), dir: dir}, dir: dir, socket: machineSocket},
		version:    v, path: "PATH=" + programs + ":/usr/sbin:/usr/bin:/sbin:/bin",
	}
	c.start(t)
	return c
}

func (c *machineContainerd) start(t *testing.T) {
	t.Helper()
	c.daemon = startTestDaemon(t, cleanEnv(c.dir), filepath.Join(c.dir, "containerd.log"), c.version.daemon)
	err := c.daemon.ready(func() error {
		_, err := c.output("plugins", "ls")
		return err
	})
	if err != nil {
		t.Fatalf("containerd is not ready: %v", err)
	}
}

func (c *machineContainerd) restart(t *testing.T) {
	t.Helper()
	c.daemon.stop()
	c.start(t)
}

// containerdConfigs are settings that people have, by version.
func containerdConfigs(v containerdVersion) map[string]string {
	const own = "root = \"ROOT\"\nstate = \"STATE\"\n"
	all := map[string]string{
		"of the present format": "# ours\nversion = 2\n" + own + "\n[plugins]\n  [plugins.\"io.containerd.grpc.v1.cri\"]\n    # no pause\n    max_concurrent_downloads = 5 # five\n",
		"of no format":          own + "# nothing else\n",
	}
	if v.name != "1.6" {
		all["of the third format"] = "version = 3\n" + own + "[plugins.'io.containerd.cri.v1.images']\n  max_concurrent_downloads = 5\n"
	}
	return all
}

func TestSetupContainerd(t *testing.T) {
	eachContainerd(t, func(t *testing.T, v containerdVersion) {
		for name, config := range containerdConfigs(v) {
			t.Run(name, func(t *testing.T) {
				a := newAuthority(t)
				m, host, _, _, _ := startTLS(t, a)
				c := startMachineContainerd(t, v, config)
				writeFile(t, "/etc/containerd/certs.d/quay.io/hosts.toml", "server = \"https://quay.io\" # theirs\n\n[host.\"http://127.0.0.1:9\"]\n  capabilities = [\"pull\"]\n")
				before := settings(t, "/etc/containerd")
				s := sampanCommand(t, c.path)
				setup := []string{"setup", "containerd", "--mirror", host, "--ca", a.file, "--yes"}
				wantSaid(t, s.fail(t, setup...), "restart it", "the settings are not in effect yet", "exit status 1")
				c.restart(t)
				wantSaid(t, s.run(t, setup...), "Nothing has to change.", "for docker.io", "for registry.k8s.io", "for quay.io", "for ghcr.io", "for gcr.io")
				for _, i := range everyRegistry() {
					m.forget()
					if _, err := criPull(c.socket, i.name); err != nil {
						t.Fatal(err)
					}
					c.wantImage(t, "k8s.io", i.name, original(t, i.upstream, i.repository, i.reference))
					m.wantOnlyAsked(t, i.upstream)
				}
				s.run(t, "setup", "containerd", "--undo")
				wantSettings(t, before, "/etc/containerd")
				c.restart(t)
			})
		}
	})
}

// With a login in the directories and no way past the mirror, a pull that the mirror
// does not serve fails, and nobody else is asked.
func TestSetupContainerdAtAMirrorForMembersWithoutFallback(t *testing.T) {
	eachContainerd(t, func(t *testing.T, v containerdVersion) {
		members := startMembers(t, "")
		c := startMachineContainerd(t, v, "version = 2\nroot = \"ROOT\"\nstate = \"STATE\"\n[plugins.\"io.containerd.grpc.v1.cri\".registry]\nconfig_path = \"/etc/containerd/certs.d\"\n")
		before := settings(t, "/etc/containerd")
		s := sampanCommand(t, c.path)
		password := writeFile(t, filepath.Join(s.dir, "password"), "secret\n")
		out := s.run(t, "setup", "containerd", "--mirror", members.host, "--ca", members.authority.file,
			"--username", "ann", "--password-file", password, "--no-fallback", "--yes")
		wantSaid(t, out, "for docker.io", "for gcr.io")
		if strings.Contains(out, "config.toml") {
			t.Errorf("the settings know the directories already:\n%s", out)
		}
		hosts := "/etc/containerd/certs.d/docker.io/hosts.toml"
		if info, err := os.Stat(hosts); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("others may read the login: %v, %v", info.Mode(), err)
		}
		if _, err := criPull(c.socket, "docker.io/library/absent:1"); err == nil {
			t.Error("what the mirror does not have was pulled")
		}
		s.run(t, "setup", "containerd", "--undo")
		wantSettings(t, before, "/etc/containerd")
		members.wantNoSecrets(t)
	})
}

// Mirrors in the deprecated tables keep containerd from starting with directories: they
// are told, and taken away where that is allowed.
func TestSetupContainerdWithDeprecatedTables(t *testing.T) {
	m := startMirror(t, options{})
	c := startMachineContainerd(t, containerdVersions[0], "version = 2\nroot = \"ROOT\"\nstate = \"STATE\"\n[plugins.\"io.containerd.grpc.v1.cri\".registry.mirrors.\"docker.io\"]\n  endpoint = [\"https://old.test\"]\n")
	before := settings(t, "/etc/containerd")
	s := sampanCommand(t, c.path)
	setup := []string{"setup", "containerd", "--mirror", "http://" + m.address, "--yes"}
	wantSaid(t, s.fail(t, setup...), "deprecated tables", "/etc/containerd/certs.d/docker.io/hosts.toml:  [host.\"https://old.test\"]", "--replace")
	wantSettings(t, before, "/etc/containerd")
	s.fail(t, append(setup, "--replace")...)
	c.restart(t)
	wantSaid(t, s.run(t, append(setup, "--replace")...), "Nothing has to change.", "for docker.io")
	s.run(t, "setup", "containerd", "--undo")
	wantSettings(t, before, "/etc/containerd")
}
