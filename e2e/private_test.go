//go:build e2e

package e2e

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sampan/internal/registrytest"
)

// A guarded registry shows team/a to alice, team/b to bob, and open/pub to
// everybody; all hold the testbed's library/tiny.
type guarded struct {
	*registrytest.Registry
	image manifest
}

func startGuarded(t *testing.T) guarded {
	t.Helper()
	g := guarded{Registry: registrytest.StartTest(t, registrytest.Options{})}
	for _, repository := range []string{"team/a", "team/b", "open/pub"} {
		g.image = fill(t, g.Registry, repository, "1")
	}
	g.SetBehavior(registrytest.Behavior{
		Challenge: registrytest.Challenge{Scheme: registrytest.SchemeBearer},
		Token: registrytest.Token{
			Private: []string{"team/a", "team/b"},
			Users: []registrytest.User{
				{Name: "alice", Password: "wonder", Repos: []string{"team/a"}},
				{Name: "bob", Password: "builder", Repos: []string{"team/b"}},
			},
		},
	})
	return g
}

// startPassing starts a mirror that uses the clients' own credentials for the
// registry, and returns the host under which it is served.
func startPassing(t *testing.T, g guarded) (m *mirror, host string) {
	t.Helper()
	m = startMirror(t, options{config: fmt.Sprintf(
		"upstreams:\n  corp.test:\n    hosts: [extra]\n    endpoints: [{url: %q}]\n    pass_through: true\n", g.URL())})
	_, port, _ := strings.Cut(m.address, ":")
	return m, "extra." + mirrorDomain + ":" + port
}

// loggedIn is the environment of a client with a login for a host; an empty one
// has none.
func loggedIn(t *testing.T, host, login string) []string {
	t.Helper()
	dir := testDir(t, "login")
	config := "{}"
	if login != "" {
		config = fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, host, base64.StdEncoding.EncodeToString([]byte(login)))
	}
	writeFile(t, filepath.Join(dir, "config.json"), config)
	return cleanEnv(dir, "DOCKER_CONFIG="+dir)
}

// wantNoLeak fails if a password is in the mirror's log, or in its data.
func (m *mirror) wantNoLeak(t *testing.T) {
	t.Helper()
	m.waitForFills(t)
	for _, secret := range []string{"wonder", "builder", base64.StdEncoding.EncodeToString([]byte("alice:wonder"))} {
		if strings.Contains(m.process.logTail(1<<20), secret) {
			t.Errorf("the log holds %q", secret)
		}
		err := filepath.WalkDir(filepath.Join(m.data, "data"), func(path string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			content, err := os.ReadFile(path)
			if err == nil && strings.Contains(string(content), secret) {
				t.Errorf("%s holds %q", path, secret)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
}

// Each client pulls with the right login, with one that the registry does not
// know, with that of somebody who may not, and without. What is in the cache by
// then is of no help to those who may not.
func TestClientsPullWithTheirOwnCredentials(t *testing.T) {
	g := startGuarded(t)
	m, host := startPassing(t, g)
	for _, client := range []struct {
		name string
		pull func(t *testing.T, login, repository string) error
	}{
		{"crane", func(t *testing.T, login, repository string) error {
			c := command{path: tool("crane"), env: loggedIn(t, host, login)}
			out, err := c.output("manifest", "--insecure", host+"/"+repository+":1")
			if err == nil && strings.TrimSpace(out) != strings.TrimSpace(string(g.image.raw)) {
				t.Errorf("got another manifest: %s", out)
			}
			return err
		}},
		{"skopeo", func(t *testing.T, login, repository string) error {
			c := newContainersEnv(t, "")
			args := []string{"copy", "--src-tls-verify=false", "docker://" + host + "/" + repository + ":1", "dir:" + testDir(t, "copy")}
			if login != "" {
				args = append(args, "--src-creds", login)
			}
			_, err := c.command(skopeoPath).output(args...)
			return err
		}},
		{"podman", func(t *testing.T, login, repository string) error {
			c := newContainersEnv(t, "")
			args := []string{"pull", "--quiet", "--tls-verify=false"}
			if login != "" {
				args = append(args, "--creds", login)
			}
			name := host + "/" + repository + ":1"
			_, err := c.command(podmanPath).output(append(args, name)...)
			if err == nil {
				wantStored(t, c.command(buildahPath), name, g.image)
			}
			return err
		}},
		{"containerd 1.6", pullWithContainerd(g, m, host, containerdVersions[0])},
		{"containerd 2.1", pullWithContainerd(g, m, host, containerdVersions[1])},
	} {
		t.Run(client.name, func(t *testing.T) {
			for _, c := range []struct {
				login, repository string
				works             bool
			}{
				{"alice:wonder", "team/a", true},
				{"alice:wrong", "team/a", false},
				{"bob:builder", "team/a", false},
				{"", "team/a", false},
				{"bob:builder", "team/b", true},
				{"alice:wonder", "open/pub", true},
				{"", "open/pub", true},
			} {
				if err := client.pull(t, c.login, c.repository); (err == nil) != c.works {
					t.Errorf("%s as %q: %v", c.repository, c.login, err)
				}
			}
		})
	}
	m.wantNoLeak(t)
	for _, r := range g.Requests() {
		if r.Status == 200 && (strings.Contains(r.Path, "team/a") && r.User != "alice" || strings.Contains(r.Path, "team/b") && r.User != "bob") {
			t.Errorf("the registry gave %s to %q", r.Path, r.User)
		}
	}
}

func pullWithContainerd(g guarded, m *mirror, host string, v containerdVersion) func(*testing.T, string, string) error {
	var started *containerd
	return func(t *testing.T, login, repository string) error {
		if started == nil {
			started = startContainerd(t, v, map[string]string{host: hostsFor("", "http://"+host, "")}, "")
		}
		name := host + "/" + repository + ":1"
		args := []string{"images", "pull", "--plain-http"}
		if login != "" {
			args = append(args, "--user", login)
		}
		_, err := started.output(append(args, name)...)
		if err == nil {
			started.wantImage(t, "default", name, g.image)
		}
		started.output("images", "rm", "--sync", name) // there may be none
		return err
	}
}

// Docker learns from the ping alone whether it has to log in: at the host of the
// upstream it is asked, at others it is not.
func TestDockerPullsWithItsLogin(t *testing.T) {
	g := startGuarded(t)
	m, host := startPassing(t, g)
	d := startDocker(t, fmt.Sprintf(`{"insecure-registries": [%q]}`, host))
	as := func(login string) command {
		c := d.command
		c.env = append(append([]string{}, d.env...), loggedIn(t, host, login)...)
		return c
	}
	name := host + "/team/a:1"
	for _, login := range []string{"", "alice:wrong", "bob:builder"} {
		c := as(login)
		if login == "" {
			c = d.command
		}
		c.fail(t, "pull", "--quiet", name)
	}
	as("alice:wonder").run(t, "pull", "--quiet", name)
	d.wantImage(t, name, g.image)
	as("bob:builder").fail(t, "pull", "--quiet", name)

	_, port, _ := strings.Cut(m.address, ":")
	public := "docker." + mirrorDomain + ":" + port + "/library/tiny"
	d.run(t, "pull", "--quiet", public)
	d.wantImage(t, public, original(t, "docker.io", "library/tiny", "latest"))
	m.wantNoLeak(t)
}

// With public: true nobody has to log in: the mirror does, with what a credential
// helper says.
func TestDockerPullsWithoutLoginWhatTheMirrorMayGiveAway(t *testing.T) {
	g := startGuarded(t)
	dir := testDir(t, "helper")
	helper := writeFile(t, filepath.Join(dir, "docker-credential-fake"), fmt.Sprintf(
		"#!/bin/sh\nread server\necho \"$1 $server\" >> %s/asked\necho '{\"Username\":\"alice\",\"Secret\":\"wonder\"}'\n", dir))
	if err := os.Chmod(helper, 0o755); err != nil {
		t.Fatal(err)
	}
	m := startMirror(t, options{config: fmt.Sprintf(
		"upstreams:\n  corp.test:\n    hosts: [extra]\n    endpoints: [{url: %q}]\n    repositories:\n      team/*: {accounts: [{helper: %q}], public: true}\n", g.URL(), helper)})
	d := startDocker(t, "{}")
	for repository, works := range map[string]bool{"team/a": true, "open/pub": true, "team/b": false} {
		name := m.address + "/corp.test/" + repository + ":1"
		if !works {
			d.fail(t, "pull", "--quiet", name)
			continue
		}
		d.run(t, "pull", "--quiet", name)
		d.wantImage(t, name, g.image)
	}
	if n := g.CountUser(registrytest.KindToken, "alice"); n == 0 {
		t.Error("the helper's credentials were not used")
	}
	for _, r := range g.Requests() {
		if strings.Contains(r.Path, "open/pub") && r.User != "" {
			t.Errorf("credentials went to a repository that they are not for: %s", r.Path)
		}
	}
	asked, err := os.ReadFile(filepath.Join(dir, "asked"))
	if err != nil || strings.Count(string(asked), "\n") != 1 || !strings.HasPrefix(string(asked), "get 127.0.0.1:") {
		t.Errorf("the helper was asked %q, %v", asked, err)
	}
	m.wantNoLeak(t)
}
