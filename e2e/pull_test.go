//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// puller is `sampan pull` on the machine of an engine.
type puller struct {
	command
	args []string
}

func newPuller(t *testing.T, m *mirror, env []string, args ...string) puller {
	t.Helper()
	dir := testDir(t, "pull")
	return puller{
		command: command{path: os.Getenv(binaryVariable), env: append(cleanEnv(dir, "SAMPAN_MIRROR="+m.address), env...), dir: dir},
		args:    args,
	}
}

func (p puller) pull(t *testing.T, args ...string) string {
	t.Helper()
	return p.run(t, append(append([]string{"pull"}, p.args...), args...)...)
}

func (p puller) refuse(t *testing.T, args ...string) string {
	t.Helper()
	return p.fail(t, append(append([]string{"pull"}, p.args...), args...)...)
}

// names are all that the engine calls images by.
func (d *docker) names(t *testing.T) string {
	t.Helper()
	return d.run(t, "images", "--all", "--digests", "--format", "{{.Repository}}:{{.Tag}}@{{.Digest}}")
}

// wantNoName fails if a text is part of the list of names.
func wantNoName(t *testing.T, names, text string) {
	t.Helper()
	if strings.Contains(names, text) {
		t.Errorf("%s is still a name:\n%s", text, names)
	}
}

func startDockerAnd(t *testing.T, m *mirror, args ...string) (*docker, puller) {
	t.Helper()
	d := startDocker(t, "{}")
	return d, newPuller(t, m, []string{"DOCKER_HOST=unix://" + filepath.Join(d.dir, "s.sock")}, args...)
}

func (d *docker) wantID(t *testing.T, name string, image manifest) {
	t.Helper()
	if got := strings.TrimSpace(d.run(t, "image", "inspect", "--format", "{{.Id}}", name)); got != image.Config.Digest {
		t.Errorf("%s has the ID %s, want %s", name, got, image.Config.Digest)
	}
}

func TestPullIntoDockerGivesImagesTheirOwnNames(t *testing.T) {
	m := startMirror(t, options{})
	d, p := startDockerAnd(t, m)
	for _, a := range []mirrored{
		{"tiny", "docker.io", "library/tiny", "latest"},
		{"docker.io/me/app:1", "docker.io", "me/app", "1"},
		{"k8s.gcr.io/pause:3.1", "registry.k8s.io", "pause", "3.1"},
		{m.address + "/quay.io/team/tool:1", "quay.io", "team/tool", "1"},
	} {
		m.forget()
		image := original(t, a.upstream, a.repository, a.reference)
		out := p.pull(t, a.name)
		own := strings.TrimPrefix(a.name, m.address+"/")
		d.wantID(t, own, image)
		if !strings.Contains(out, image.digest) {
			t.Errorf("the digest is not told:\n%s", out)
		}
		d.wantRun(t, own, said(a.upstream, a.repository))
		wantNoName(t, d.names(t), m.address)
		m.wantOnlyAsked(t, a.upstream)
		m.upstream(t, a.upstream).wantAsked(t, "^GET .*/manifests/"+image.digest, 0, 1)
	}
	if out := p.pull(t, "tiny"); !strings.Contains(out, "was there already") {
		t.Errorf("a second pull says:\n%s", out)
	}
	wantNoName(t, d.names(t), m.address)
}

func TestPullIntoDockerByDigest(t *testing.T) {
	m := startMirror(t, options{})
	d, p := startDockerAnd(t, m)
	image := original(t, "quay.io", "team/tool", "1")
	out := p.pull(t, "quay.io/team/tool@"+image.digest)
	tag := "quay.io/team/tool:sha256-" + strings.TrimPrefix(image.digest, "sha256:")[:12]
	if !strings.Contains(out, "is tagged "+tag) {
		t.Errorf("the tag is not told:\n%s", out)
	}
	d.wantID(t, tag, image)
	p.pull(t, "quay.io/team/tool:other@"+image.digest)
	d.wantID(t, "quay.io/team/tool:other", image)
	wantNoName(t, d.names(t), m.address)
}

func TestPullIntoDockerLeavesNoMirrorName(t *testing.T) {
	m := startMirror(t, options{})
	d, p := startDockerAnd(t, m)
	said := p.refuse(t, "tiny:absent", "quay.io/team/tool:1", "NOT/valid")
	for _, want := range []string{"tiny:absent: Docker", "could not pull it from the mirror", "NOT/valid: ", "2 of 3 images could not be pulled: NOT/valid tiny:absent"} {
		if !strings.Contains(said, want) {
			t.Errorf("%q is not told:\n%s", want, said)
		}
	}
	d.wantID(t, "quay.io/team/tool:1", original(t, "quay.io", "team/tool", "1"))
	wantNoName(t, d.names(t), m.address)

	// A name that was there before is somebody's own, and stays.
	d.run(t, "tag", "quay.io/team/tool:1", m.address+"/docker.io/library/tiny:latest")
	if out := p.pull(t, "tiny"); !strings.Contains(out, "the mirror's name stays too") {
		t.Errorf("that the mirror's name stays is not told:\n%s", out)
	}
	d.wantID(t, m.address+"/docker.io/library/tiny:latest", original(t, "docker.io", "library/tiny", "latest"))

	m.process.stop()
	if said := p.refuse(t, "me/app:1"); !strings.Contains(said, "does not answer: is it running") {
		t.Errorf("a mirror that is down is not told:\n%s", said)
	}
	d.daemon.stop()
	if said := p.refuse(t, "tiny"); !strings.Contains(said, "cannot be reached") {
		t.Errorf("an engine that is down is not told:\n%s", said)
	}
}

// A pull that is given up, by a signal or by force, leaves no name; the same pull can
// be made again.
func TestPullIntoDockerCanBeInterrupted(t *testing.T) {
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGKILL} {
		t.Run(signal.String(), func(t *testing.T) {
			m := startMirror(t, options{})
			d, p := startDockerAnd(t, m)
			image := original(t, "docker.io", "library/large", "1")
			p.interrupt(t, signal, m.upstream(t, "docker.io"), image, "pull", "library/large:1")
			wantNoName(t, d.names(t), "large")
			p.pull(t, "library/large:1")
			d.wantID(t, "library/large:1", image)
			wantNoName(t, d.names(t), m.address)
		})
	}
}

// interrupt sends a signal to a pull whose largest layer is half way.
func (p puller) interrupt(t *testing.T, signal syscall.Signal, u *upstream, image manifest, args ...string) {
	t.Helper()
	h := u.hold("/blobs/"+image.Layers[2].Digest, 4<<20)
	cmd := exec.Command(p.path, args...)
	cmd.Env, cmd.Dir = p.env, p.dir
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	<-h.reached
	cmd.Process.Signal(signal)
	if err := cmd.Wait(); err == nil {
		t.Error("an interrupted pull succeeded")
	}
	close(h.release)
}

func TestPullIntoDockerManyAtOnce(t *testing.T) {
	m := startMirror(t, options{})
	d, p := startDockerAnd(t, m)
	list := writeFile(t, filepath.Join(p.dir, "images.txt"), "# a list\ntiny\n\nme/app:1 # twice\nme/app:1\nquay.io/team/tool:1\nlibrary/multi:1\n")
	out := p.pull(t, "--quiet", "--jobs", "4", "-f", list)
	if got := len(strings.Split(strings.TrimSpace(out), "\n")); got != 4 {
		t.Errorf("want four names, got:\n%s", out)
	}
	wantNoName(t, d.names(t), m.address)

	// Two processes that pull the same do not take each other's names away.
	d.run(t, "image", "rm", "quay.io/team/tool:1")
	done := make(chan error, 4)
	for range cap(done) {
		go func() {
			_, err := p.output("pull", "quay.io/team/tool:1")
			done <- err
		}()
	}
	for range cap(done) {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	d.wantID(t, "quay.io/team/tool:1", original(t, "quay.io", "team/tool", "1"))
	wantNoName(t, d.names(t), m.address)
}

func TestPullIntoDockerAnotherPlatform(t *testing.T) {
	m := startMirror(t, options{})
	d, p := startDockerAnd(t, m)
	index := original(t, "docker.io", "library/multi", "1")
	for _, child := range index.Manifests {
		out := p.pull(t, "--platform", "linux/"+child.Platform.Architecture, "-o", "json", "library/multi:1")
		d.wantID(t, "library/multi:1", original(t, "docker.io", "library/multi", child.Digest))
		lines := strings.Split(strings.TrimSpace(out), "\n")
		var last struct {
			Event  string
			Pulled int
		}
		if err := json.Unmarshal([]byte(lines[len(lines)-1]), &last); err != nil || last.Event != "summary" || last.Pulled != 1 {
			t.Errorf("the last event is %s", lines[len(lines)-1])
		}
	}
	wantNoName(t, d.names(t), m.address)
}

func TestPullIntoContainerd(t *testing.T) {
	eachContainerd(t, func(t *testing.T, v containerdVersion) {
		m := startMirror(t, options{})
		c := startContainerd(t, v, nil, "")
		p := newPuller(t, m, nil, "--engine", "containerd", "--address", c.socket)
		for _, a := range []mirrored{
			{"docker.io/library/tiny:latest", "docker.io", "library/tiny", "latest"},
			{"k8s.gcr.io/pause:3.1", "registry.k8s.io", "pause", "3.1"},
			{"docker.io/library/zstd:1", "docker.io", "library/zstd", "1"},
		} {
			m.forget()
			p.pull(t, a.name)
			image := original(t, a.upstream, a.repository, a.reference)
			c.wantImage(t, "default", a.name, image)
			c.run(t, "images", "check", "name=="+a.name)
			m.wantOnlyAsked(t, a.upstream)
			m.wantEachBlobOnce(t)
		}
		c.wantRun(t, "docker.io/library/tiny:latest", said("docker.io", "library/tiny"))
		wantNoName(t, c.run(t, "images", "ls", "-q"), m.address)

		tool := original(t, "quay.io", "team/tool", "1")
		p.pull(t, "--namespace", "k8s.io", "quay.io/team/tool:kept@"+tool.digest)
		c.wantImage(t, "k8s.io", "quay.io/team/tool:kept", tool)
		c.wantImage(t, "k8s.io", "quay.io/team/tool@"+tool.digest, tool)

		index := original(t, "docker.io", "library/multi", "1")
		p.pull(t, "--all-platforms", "multi:1")
		c.wantImage(t, "default", "docker.io/library/multi:1", index)
		for _, child := range index.Manifests {
			want := original(t, "docker.io", "library/multi", child.Digest)
			c.run(t, "content", "get", want.Layers[0].Digest)
		}

		// A collection of garbage takes nothing away.
		c.run(t, "content", "prune", "references")
		c.run(t, "run", "--rm", "docker.io/library/tiny:latest", "again")

		if said := p.refuse(t, "tiny:absent"); !strings.Contains(said, "manifest unknown: ") {
			t.Errorf("want what the mirror says of what it has not:\n%s", said)
		}
		m.process.stop()
		if said := p.refuse(t, "me/app:1"); !strings.Contains(said, "does not answer: is it running") {
			t.Errorf("a mirror that is down is not told:\n%s", said)
		}
		if names := c.run(t, "images", "ls", "-q"); strings.Contains(names, "app") || strings.Contains(names, "absent") {
			t.Errorf("an image that could not be pulled has a name:\n%s", names)
		}
		p.args = []string{"--engine", "containerd", "--address", c.socket + ".none"}
		if said := p.refuse(t, "tiny"); !strings.Contains(said, "cannot be reached") {
			t.Errorf("an engine that is down is not told:\n%s", said)
		}
	})
}

// An image that is given up has no name, and what was fetched is taken up again.
func TestPullIntoContainerdCanBeInterrupted(t *testing.T) {
	m := startMirror(t, options{})
	c := startContainerd(t, containerdVersions[0], nil, "")
	p := newPuller(t, m, nil, "--address", c.socket, "--engine", "nerdctl")
	image := original(t, "docker.io", "library/large", "1")
	p.interrupt(t, syscall.SIGINT, m.upstream(t, "docker.io"), image, "pull", "--engine", "nerdctl", "--address", c.socket, "library/large:1")
	wantNoName(t, c.run(t, "images", "ls", "-q"), "large")
	p.pull(t, "library/large:1")
	c.wantImage(t, "default", "docker.io/library/large:1", image)
}

func TestPullIntoPodman(t *testing.T) {
	m := startMirror(t, options{})
	c := newContainersEnv(t, "")
	p := newPuller(t, m, nil, "--engine", "podman")
	podman, buildah := c.command(podmanPath), c.command(buildahPath)
	for _, a := range []mirrored{
		{"docker.io/library/tiny:latest", "docker.io", "library/tiny", "latest"},
		{"k8s.gcr.io/pause:3.1", "registry.k8s.io", "pause", "3.1"},
	} {
		m.forget()
		p.pull(t, a.name)
		wantStored(t, buildah, a.name, original(t, a.upstream, a.repository, a.reference))
		if got := podman.run(t, "run", "--rm", a.name); got != said(a.upstream, a.repository) {
			t.Errorf("the container of %s printed %q", a.name, got)
		}
		m.wantOnlyAsked(t, a.upstream)
	}
	tool := original(t, "quay.io", "team/tool", "1")
	p.pull(t, "quay.io/team/tool:kept@"+tool.digest)
	wantStored(t, buildah, "quay.io/team/tool:kept", tool)
	podman.run(t, "image", "exists", "quay.io/team/tool@"+tool.digest)

	names := func() string {
		return podman.run(t, "images", "--all", "--format", "{{.Repository}}:{{.Tag}} {{.Names}}")
	}
	wantNoName(t, names(), m.address)
	if said := p.refuse(t, "tiny:absent"); !strings.Contains(said, "absent") || !strings.Contains(said, "could not pull it from the mirror") {
		t.Errorf("what was absent is not told:\n%s", said)
	}
	m.process.stop()
	if said := p.refuse(t, "me/app:1"); !strings.Contains(said, "does not answer: is it running") {
		t.Errorf("a mirror that is down is not told:\n%s", said)
	}
	wantNoName(t, names(), "absent")
	wantNoName(t, names(), "app")
}

// Through its service Podman pulls the mirror's name, which is replaced.
func TestPullIntoPodmanThroughItsSocket(t *testing.T) {
	m := startMirror(t, options{})
	c := newContainersEnv(t, fmt.Sprintf("[[registry]]\nlocation = %q\ninsecure = true\n", m.address))
	socket := filepath.Join(c.dir, "podman.sock")
	service := startTestDaemon(t, c.env, filepath.Join(c.dir, "podman.log"), podmanPath, "system", "service", "--time=0", "unix://"+socket)
	if err := service.ready(listening("unix", socket)); err != nil {
		t.Fatal(err)
	}
	podman := c.command(podmanPath)
	names := func() string {
		return podman.run(t, "images", "--all", "--format", "{{.Repository}}:{{.Tag}} {{.Names}}")
	}
	tool := original(t, "quay.io", "team/tool", "1")
	for way, env := range map[string][]string{
		"the command":     nil,
		"Docker's API":    {"PATH=/nowhere"},
		"a Docker socket": {"DOCKER_HOST=unix://" + socket},
	} {
		t.Run(way, func(t *testing.T) {
			p := newPuller(t, m, env, "--engine", "podman", "--address", socket)
			if way == "a Docker socket" {
				p.args = nil
			}
			p.pull(t, "tiny", "quay.io/team/tool@"+tool.digest)
			wantStored(t, c.command(buildahPath), "docker.io/library/tiny:latest", original(t, "docker.io", "library/tiny", "latest"))
			wantStored(t, c.command(buildahPath), "quay.io/team/tool:sha256-"+strings.TrimPrefix(tool.digest, "sha256:")[:12], tool)
			wantNoName(t, names(), m.address)
			p.refuse(t, "tiny:absent")
			wantNoName(t, names(), "absent")
			podman.run(t, "rmi", "--all", "--force")
		})
	}
}

// A mirror of a private authority that wants to know who asks: by a login, or by a code
// in its name. The secrets are in no name that stays.
func TestPullFromAMirrorForMembers(t *testing.T) {
	s := startMembers(t, "")
	writeFile(t, "/etc/docker/certs.d/"+s.host+"/ca.crt", s.pem(t))
	writeFile(t, "/etc/docker/certs.d/"+memberCode+"."+s.host+"/ca.crt", s.pem(t))
	image := original(t, "docker.io", "library/tiny", "latest")
	dir := testDir(t, "secrets")
	password := writeFile(t, filepath.Join(dir, "password"), "secret\n")
	wrong := writeFile(t, filepath.Join(dir, "wrong"), "wrong\n")
	d := startDocker(t, "{}")
	containers := newContainersEnv(t, "")
	podman := containers.command(podmanPath)
	v1 := startContainerd(t, containerdVersions[0], nil, "")
	v2 := startContainerd(t, containerdVersions[1], nil, "")
	ways := map[string][]string{
		"a login": {"--username", "ann", "--password-file", password},
		"a code":  {"--code-file", s.codeFile},
	}
	for engine, e := range map[string]struct {
		args  []string
		want  func(t *testing.T)
		names func() string
	}{
		"docker": {[]string{"--engine", "docker", "--address", filepath.Join(d.dir, "s.sock")}, func(t *testing.T) {
			d.wantID(t, "tiny", image)
			d.run(t, "image", "rm", "tiny")
		}, func() string { return d.names(t) }},
		"podman": {[]string{"--engine", "podman"}, func(t *testing.T) {
			wantStored(t, containers.command(buildahPath), "docker.io/library/tiny:latest", image)
			podman.run(t, "rmi", "--all", "--force")
		}, func() string {
			return podman.run(t, "images", "--all", "--format", "{{.Repository}}:{{.Tag}} {{.Names}}")
		}},
		"containerd 1.6": {[]string{"--address", v1.socket, "--engine", "containerd"}, func(t *testing.T) {
			v1.wantImage(t, "default", "docker.io/library/tiny:latest", image)
			v1.run(t, "images", "rm", "--sync", "docker.io/library/tiny:latest")
		}, func() string { return v1.run(t, "images", "ls", "-q") }},
		"containerd 2.1": {[]string{"--address", v2.socket, "--engine", "containerd"}, func(t *testing.T) {
			v2.wantImage(t, "default", "docker.io/library/tiny:latest", image)
			v2.run(t, "images", "rm", "--sync", "docker.io/library/tiny:latest")
		}, func() string { return v2.run(t, "images", "ls", "-q") }},
	} {
		for way, flags := range ways {
			t.Run(engine+" with "+way, func(t *testing.T) {
				p := newPuller(t, s.mirror, []string{"SAMPAN_MIRROR=" + s.host, "SAMPAN_CA=" + s.authority.file}, e.args...)
				out := p.pull(t, append(flags, "tiny")...)
				e.want(t)
				wantNoName(t, e.names(), mirrorDomain)
				if strings.Contains(out, "secret") {
					t.Errorf("the password is told:\n%s", out)
				}
			})
		}
		t.Run(engine+" with a wrong password", func(t *testing.T) {
			p := newPuller(t, s.mirror, []string{"SAMPAN_MIRROR=" + s.host, "SAMPAN_CA=" + s.authority.file}, e.args...)
			said := p.refuse(t, "--username", "ann", "--password-file", wrong, "tiny")
			if !strings.Contains(said, "could not pull it from the mirror") || !strings.Contains(said, "wrong user name or password") {
				t.Errorf("the step and what the mirror says are not told:\n%s", said)
			}
			if strings.Contains(said, "certs.d") || strings.Contains(said, "level=") {
				t.Errorf("more is told than what is wrong:\n%s", said)
			}
			p = newPuller(t, s.mirror, []string{"SAMPAN_MIRROR=" + s.host}, e.args...)
			if said := p.refuse(t, "--username", "ann", "--password-file", password, "tiny:none"); !strings.Contains(said, "signed by nobody who is trusted here") {
				t.Errorf("that the certificate is not trusted is not told:\n%s", said)
			}
			if names := e.names(); strings.Contains(names, "tiny") {
				t.Errorf("a name is left:\n%s", names)
			}
		})
	}
	s.wantNoSecrets(t)
}
