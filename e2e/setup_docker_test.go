//go:build e2e

package e2e

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// settings is what is in the directories of a runtime's settings: paths with mode and
// content.
func settings(t *testing.T, dirs ...string) map[string]string {
	t.Helper()
	return (&prepared{dirs: dirs}).look(t)
}

// wantSettings fails unless the directories hold what they held before.
func wantSettings(t *testing.T, before map[string]string, dirs ...string) {
	t.Helper()
	if after := settings(t, dirs...); !maps.Equal(after, before) {
		t.Errorf("there is\n%v\nand was\n%v", after, before)
	}
}

// sampanCommand is the program as a person runs it.
func sampanCommand(t *testing.T, env ...string) command {
	t.Helper()
	dir := testDir(t, "person")
	return command{path: os.Getenv(binaryVariable), env: cleanEnv(dir, env...), dir: dir}
}

// wantSaid fails unless an output has all of the sentences.
func wantSaid(t *testing.T, out string, sentences ...string) {
	t.Helper()
	for _, s := range sentences {
		if !strings.Contains(out, s) {
			t.Errorf("it was not said that %q:\n%s", s, out)
		}
	}
}

// startMachineDocker is a dockerd as a machine has one: its settings in /etc/docker,
// which it is started with, and its socket where docker looks.
func startMachineDocker(t *testing.T, config string) *docker {
	t.Helper()
	return startMachineDockerBy(t, dockerdPath, config)
}

// startMachineDockerBy starts one of another version.
func startMachineDockerBy(t *testing.T, program, config string) *docker {
	t.Helper()
	dir := testDir(t, "docker")
	for _, old := range []string{"/etc/docker/daemon.json", "/etc/docker/certs.d"} {
		if err := os.RemoveAll(old); err != nil {
			t.Fatal(err)
		}
	}
	if config != "" {
		writeFile(t, "/etc/docker/daemon.json", config)
	}
	named := filepath.Join(dir, "dockerd") // it is found by its name
	if err := os.Symlink(program, named); err != nil {
		t.Fatal(err)
	}
	d := &docker{command: command{path: dockerPath, env: cleanEnv(dir), dir: dir}}
	d.daemon = startTestDaemon(t, cleanEnv(dir), filepath.Join(dir, "dockerd.log"), named,
		"--data-root", filepath.Join(dir, "data"), "--exec-root", filepath.Join(dir, "exec"),
		"--iptables=false", "--ip6tables=false", "--bridge=none")
	err := d.daemon.ready(func() error {
		_, err := d.output("version")
		return err
	})
	if err != nil {
		t.Fatalf("dockerd is not ready: %v", err)
	}
	return d
}

// From a bare machine with Docker to a proven mirror with one command, and back with
// one.
func TestSetupDocker(t *testing.T) {
	for name, c := range map[string]struct{ program, config string }{
		"nothing was set":                        {dockerdPath, ""},
		"something was set":                      {dockerdPath, "{\n    \"registry-mirrors\": [\n        \"https://old.test\"\n    ],\n\t\"log-level\": \"info\"}"},
		"the present version, the classic store": {tool("dockerd29"), "{\r\n  \"features\": {\"containerd-snapshotter\": false}\r\n}\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAuthority(t)
			m, host, _, _, _ := startTLS(t, a)
			d := startMachineDockerBy(t, c.program, c.config)
			before := settings(t, "/etc/docker")
			s := sampanCommand(t)
			setup := []string{"setup", "docker", "--mirror", host, "--ca", a.file, "--restart", "--yes"}
			began := time.Now()
			wantSaid(t, s.run(t, setup...), "/etc/docker/daemon.json", "/etc/docker/certs.d/"+host+"/ca.crt", "Proven: the mirror answered for docker.io.")
			t.Logf("from a running Docker to a proven mirror: %v", time.Since(began))
			after := settings(t, "/etc/docker")
			wantSaid(t, s.run(t, setup...), "Nothing has to change.", "Proven: the mirror answered for docker.io.")
			wantSettings(t, after, "/etc/docker")
			if images := d.run(t, "images", "--quiet"); images != "" {
				t.Errorf("the proof left %s", images)
			}

			d.run(t, "pull", "--quiet", "tiny")
			d.wantImage(t, "tiny", original(t, "docker.io", "library/tiny", "latest"))
			m.wantOnlyAsked(t, "docker.io")
			for _, i := range everyRegistry() {
				at := host + "/" + i.name
				d.run(t, "pull", "--quiet", at)
				d.wantImage(t, at, original(t, i.upstream, i.repository, i.reference))
			}

			began = time.Now()
			s.run(t, "setup", "docker", "--undo", "--restart")
			t.Logf("and back: %v", time.Since(began))
			wantSettings(t, before, "/etc/docker")
			if info := d.run(t, "info"); strings.Contains(info, host) {
				t.Errorf("undone, dockerd still knows the mirror:\n%s", info)
			}
			wantSaid(t, s.fail(t, "setup", "docker", "--undo"), "there is no setup of docker to undo")
		})
	}
}

func TestSetupDockerThatIsNotReloadedIsNotProven(t *testing.T) {
	a := newAuthority(t)
	_, host, _, _, _ := startTLS(t, a)
	d := startMachineDocker(t, "")
	s := sampanCommand(t)
	setup := []string{"setup", "docker", "--mirror", host, "--ca", a.file, "--yes"}
	wantSaid(t, s.fail(t, setup...), "the settings are not in effect yet", "exit status 1", "pkill")
	if info := d.run(t, "info"); strings.Contains(info, host) {
		t.Errorf("it was reloaded all the same:\n%s", info)
	}
	wantSaid(t, s.fail(t, setup...), "Nothing has to change.", "the settings are not in effect yet")
	wantSaid(t, s.run(t, append(setup, "--restart")...), "Nothing has to change.", "Running pkill", "Proven")
	s.run(t, "setup", "docker", "--undo", "--restart")
}

// An access code goes with every pull; a login cannot.
func TestSetupDockerAtAMirrorForMembers(t *testing.T) {
	members := startMembers(t, "")
	startMachineDocker(t, "")
	before := settings(t, "/etc/docker")
	s := sampanCommand(t)
	setup := []string{"setup", "docker", "--mirror", members.host, "--ca", members.authority.file, "--restart", "--yes"}
	wantSaid(t, s.fail(t, setup...), "wants to know who you are", "Nothing was changed", "exit status 1")
	password := writeFile(t, filepath.Join(s.dir, "password"), "secret\n")
	wantSaid(t, s.fail(t, append(setup, "--username", "ann", "--password-file", password)...), "sends no login to a mirror")
	wantSettings(t, before, "/etc/docker")

	dry := s.run(t, append(setup, "--code-file", members.codeFile, "--dry-run")...)
	wantSaid(t, dry, "https://***."+members.host)
	wantSettings(t, before, "/etc/docker")
	wantSaid(t, s.run(t, append(setup, "--code-file", members.codeFile)...), "Proven")
	if info, err := os.Stat("/etc/docker/daemon.json"); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("others may read the code: %v, %v", info.Mode(), err)
	}
	s.run(t, "setup", "docker", "--undo", "--restart")
	wantSettings(t, before, "/etc/docker")
	members.wantNoSecrets(t)
}

func TestSetupDockerChangesNothingWhereTheMirrorDoesNotAnswer(t *testing.T) {
	startMachineDocker(t, "{}")
	before := settings(t, "/etc/docker")
	s := sampanCommand(t)
	wantSaid(t, s.fail(t, "setup", "docker", "--mirror", freeAddress(), "--restart", "--yes"), "does not answer", "Nothing was changed")
	wantSettings(t, before, "/etc/docker")
}

// With containerd's image store, which new installations have, Docker asks the mirror for
// every registry, and reads the directories without being told.
func TestSetupDockerWithTheContainerdStore(t *testing.T) {
	a := newAuthority(t)
	m, host, _, _, _ := startTLS(t, a)
	d := startMachineDockerBy(t, tool("dockerd29"), `{"features": {"containerd-snapshotter": true}}`)
	before := settings(t, "/etc/docker")
	s := sampanCommand(t)
	wantSaid(t, s.run(t, "setup"), "(containerd)")
	setup := []string{"setup", "docker", "--mirror", host, "--ca", a.file, "--yes"}
	wantSaid(t, s.run(t, setup...), "for docker.io", "for registry.k8s.io", "for quay.io", "for ghcr.io", "for gcr.io")
	for _, i := range everyRegistry() {
		m.forget()
		d.run(t, "pull", "--quiet", i.name)
		if got := strings.TrimSpace(d.run(t, "image", "inspect", "--format", "{{.Id}}", i.name)); got != original(t, i.upstream, i.repository, i.reference).digest {
			t.Errorf("%s is %s", i.name, got)
		}
		m.wantOnlyAsked(t, i.upstream)
	}
	s.run(t, "setup", "docker", "--undo")
	wantSettings(t, before, "/etc/docker")
}
