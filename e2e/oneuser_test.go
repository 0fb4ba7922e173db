//go:build e2e

package e2e

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// pullers pull docker.io/library/tiny, or for helm a chart, each with its own way to
// say who it is; a login is name:password, or empty.
func pullers(t *testing.T, s *members, tiny manifest) map[string]func(t *testing.T, login string) error {
	name := s.host + "/library/tiny:latest"
	writeFile(t, "/etc/docker/certs.d/"+s.host+"/ca.crt", s.pem(t))
	writeFile(t, "/etc/containers/certs.d/"+s.host+"/ca.crt", s.pem(t))
	daemon := startDocker(t, "{}")
	creds := func(login string) []string {
		if login == "" {
			return nil
		}
		return []string{"--creds", login}
	}
	withLogin := func(t *testing.T, client string) command {
		c := newTool(t, client)
		c.env = append(c.env, "SSL_CERT_FILE="+s.authority.file, "DOCKER_CONFIG="+testDir(t, "login"))
		return c
	}
	return map[string]func(*testing.T, string) error{
		"docker": func(t *testing.T, login string) error {
			d := *daemon
			d.env = append(slices.Clone(d.env), "DOCKER_CONFIG="+testDir(t, "login"))
			if user, password, ok := strings.Cut(login, ":"); ok {
				if _, err := d.output("login", "--username", user, "--password", password, s.host); err != nil {
					return err
				}
			}
			if _, err := d.output("pull", "--quiet", name); err != nil {
				return err
			}
			d.wantImage(t, name, tiny)
			return nil
		},
		"podman": func(t *testing.T, login string) error {
			env := newContainersEnv(t, "")
			if _, err := env.command(podmanPath).output(append(append([]string{"pull", "--quiet"}, creds(login)...), name)...); err != nil {
				return err
			}
			wantStored(t, env.command(buildahPath), name, tiny)
			return nil
		},
		"skopeo": func(t *testing.T, login string) error {
			out, err := newContainersEnv(t, "").command(skopeoPath).output(append([]string{"inspect", "--raw", "docker://" + name}, creds(login)...)...)
			if err == nil && out != string(tiny.raw) {
				t.Errorf("another manifest: %s", out)
			}
			return err
		},
		"crane": func(t *testing.T, login string) error {
			c := withLogin(t, "crane")
			if user, password, ok := strings.Cut(login, ":"); ok {
				c.run(t, "auth", "login", s.host, "--username", user, "--password", password) // it asks nobody
			}
			out, err := c.output("digest", name)
			if err == nil && strings.TrimSpace(out) != tiny.digest {
				t.Errorf("another digest: %s", out)
			}
			return err
		},
		"helm": func(t *testing.T, login string) error {
			c := withLogin(t, "helm")
			if user, password, ok := strings.Cut(login, ":"); ok {
				if _, err := c.output("registry", "login", s.host, "--username", user, "--password", password); err != nil {
					return err
				}
			}
			out, err := c.output("show", "chart", "oci://"+s.host+"/ghcr.io/charts/hello", "--version", "0.1.7")
			if err == nil && !strings.Contains(out, "version: 0.1.7") {
				t.Errorf("another chart: %s", out)
			}
			return err
		},
	}
}

// An image that one user may have is for nobody else, whatever the client: not for who
// says nothing, not for a wrong password, and not for another user with a right one.
func TestAnImageIsForOneUserAlone(t *testing.T) {
	s := startMembersBy(t, `access:
  - {action: allow, repositories: ["docker.io/library/tiny", "ghcr.io/charts/hello"], users: [ann]}
  - {action: deny, repositories: ["docker.io/**", "ghcr.io/**"]}
  - {action: allow}
`)
	tiny := original(t, "docker.io", "library/tiny", "latest")
	clients := pullers(t, s, tiny)
	for _, login := range []string{"ann:secret", "bob:secret"} { // who is known is not slowed down by those who guess
		if status, _, body := curl(t, "--cacert", s.authority.file, "--user", login, "https://"+s.host+"/token?service=sampan"); status != "200" {
			t.Fatalf("%s: %s %s", login, status, body)
		}
	}
	others := []string{"", "ann:wrong", "bob:secret", "nobody:secret"}
	refused := func(t *testing.T, when string) {
		for client, pull := range clients {
			for _, login := range others {
				if err := pull(t, login); err == nil {
					t.Errorf("%s pulled as %q %s", client, login, when)
				}
			}
		}
	}
	refused(t, "before it was here")
	for _, upstream := range []string{"docker.io", "ghcr.io"} {
		s.upstream(t, upstream).wantAsked(t, ".", 0, 0)
	}
	for client, pull := range clients {
		t.Run(client, func(t *testing.T) {
			if err := pull(t, "ann:secret"); err != nil {
				t.Error(err)
			}
		})
	}
	eachContainerd(t, func(t *testing.T, v containerdVersion) {
		c := startContainerd(t, v, map[string]string{s.host: hostsFor("", "https://"+s.host, "ca = \""+s.authority.file+"\"")}, "")
		pull := func(login string) error {
			args := []string{"images", "pull", "--hosts-dir", filepath.Join(c.dir, "certs.d")}
			if login != "" {
				args = append(args, "--user", login)
			}
			_, err := c.output(append(args, s.host+"/library/tiny:latest")...)
			return err
		}
		for _, login := range others {
			if err := pull(login); err == nil {
				t.Errorf("pulled as %q", login)
			}
		}
		if err := pull("ann:secret"); err != nil {
			t.Fatal(err)
		}
		c.wantImage(t, "default", s.host+"/library/tiny:latest", tiny)
	})
	if status, _, body := curl(t, "--cacert", s.authority.file, "--user", "bob:secret", "https://"+s.host+"/v2/library/tiny/manifests/latest"); status != "403" && status != "401" {
		t.Errorf("now that it is here, another user gets %s %s", status, body)
	}
	s.upstream(t, "docker.io").wantAsked(t, "^GET .*/blobs/"+tiny.Layers[0].Digest, 1, 1)
	s.wantNoSecrets(t)
}

// Outside of the networks nothing is looked at: a right password and a right code are
// worth no more than nothing, at any path, whatever is asked.
func TestOutsideOfTheNetworksNobodyIsKnown(t *testing.T) {
	s := startMembersBy(t, `trusted_proxies: [127.0.0.1]
access:
  - {action: deny, networks: [192.0.2.0/24], reason: "for the office network only"}
  - {action: allow, users: ["*"], codes: [team-a]}
`)
	tiny := original(t, "docker.io", "library/tiny", "latest")
	from := func(client string) []string {
		return []string{"--cacert", s.authority.file, "--header", "X-Forwarded-For: " + client}
	}
	manifest := "/v2/library/tiny/manifests/latest"
	for _, login := range [][]string{nil, {"--user", "ann:secret"}, {"--user", "ann:wrong"}} {
		for _, host := range []string{s.host, memberCode + "." + s.host} {
			for _, path := range []string{"/", "/v2/", "/v2/_catalog", "/token", manifest, "/v2/library/tiny/blobs/" + tiny.Layers[0].Digest, "/v2/library/tiny/tags/list", "/any/thing"} {
				for _, method := range []string{"--get", "--head"} {
					status, head, body := curl(t, append(append(from("192.0.2.1"), login...), method, "https://"+host+path)...)
					if status != "403" || strings.Contains(strings.ToLower(head), "www-authenticate") || method == "--get" && !strings.Contains(string(body), "for the office network only") {
						t.Errorf("%s %s as %v: %s %s", method, host+path, login, status, body)
					}
				}
			}
		}
	}
	s.upstream(t, "docker.io").wantAsked(t, ".", 0, 0)
	for fact, args := range map[string][]string{"a password": {"--user", "ann:secret", "https://" + s.host + manifest}, "a code": {"https://" + memberCode + "." + s.host + manifest}} {
		if status, _, body := curl(t, append(from("198.51.100.1"), args...)...); status != "200" || string(body) != string(tiny.raw) {
			t.Errorf("within, by %s: %s %s", fact, status, fmt.Sprintf("%.200s", body))
		}
	}
	s.wantNoSecrets(t)
}
