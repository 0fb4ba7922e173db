//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Of the password "secret", made with htpasswd -nbB -C 4.
const secretHash = "$2y$04$101ct2wkhY./8w25tM79v.C22CHpt/ID83i8CPzE7s/I6xZUCZnnK"

// A members mirror speaks TLS, and is for ann (password secret), and for whoever
// has the code.
type members struct {
	*mirror
	authority *authority
	host      string // with port
	port      string
	htpasswd  string
	codeFile  string
}

func startMembers(t *testing.T, more string) *members {
	t.Helper()
	return startMembersBy(t, `access:
  - {action: deny, repositories: ["docker.io/team/**"], reason: "not for this mirror: ask the operator"}
  - {action: allow, repositories: ["quay.io/**"]}
  - {action: allow, users: ["*"], codes: [team-a]}
`+more)
}

// startMembersBy starts one with other rules; bob has the password of ann.
func startMembersBy(t *testing.T, rules string) *members {
	t.Helper()
	dir := testDir(t, "members")
	s := &members{
		authority: newAuthority(t),
		htpasswd:  writeFile(t, filepath.Join(dir, "htpasswd"), "ann:"+secretHash+"\nbob:"+secretHash+"\n"),
		codeFile:  writeFile(t, filepath.Join(dir, "code"), memberCode+"\n"),
	}
	cert, key := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	s.authority.issue(t, 2, cert, key, mirrorDomain, "*."+mirrorDomain)
	s.mirror = startMirror(t, options{config: fmt.Sprintf(`tls: {certificates: [{cert: %s, key: %s}]}
users: [{file: %s}]
codes: [{name: team-a, code_file: %s}]
log: {level: debug}
%s`, cert, key, s.htpasswd, s.codeFile, rules)})
	_, s.port, _ = strings.Cut(s.address, ":")
	s.host = mirrorDomain + ":" + s.port
	return s
}

// wantNoSecrets fails if the code, a password or a token is in the log.
func (s *members) wantNoSecrets(t *testing.T) {
	t.Helper()
	for _, secret := range []string{memberCode, "secret", secretHash, "Bearer "} {
		if strings.Contains(s.process.logTail(1<<20), secret) {
			t.Errorf("the log holds %q", secret)
		}
	}
}

func (s *members) pem(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(s.authority.file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestDockerLogsInAtTheMirror(t *testing.T) {
	s := startMembers(t, "")
	writeFile(t, "/etc/docker/certs.d/"+s.host+"/ca.crt", s.pem(t))
	d := startDocker(t, "{}")
	d.env = append(d.env, "DOCKER_CONFIG="+testDir(t, "login"))
	tiny, tool := original(t, "docker.io", "library/tiny", "latest"), original(t, "quay.io", "team/tool", "1")
	name := s.host + "/library/tiny"

	d.run(t, "pull", "--quiet", s.host+"/quay.io/team/tool:1") // for everybody, at an address that asks
	d.wantImage(t, s.host+"/quay.io/team/tool:1", tool)
	d.fail(t, "pull", "--quiet", name)
	if out := d.fail(t, "login", "--username", "ann", "--password", "wrong", s.host); !strings.Contains(out, "wrong user name or password") {
		t.Errorf("a wrong password: %s", out)
	}
	d.fail(t, "pull", "--quiet", name)
	s.upstream(t, "docker.io").wantAsked(t, ".", 0, 0)

	d.run(t, "login", "--username", "ann", "--password", "secret", s.host)
	d.run(t, "pull", "--quiet", name)
	d.wantImage(t, name, tiny)
	d.wantRun(t, name, said("docker.io", "library/tiny"))
	if out := d.fail(t, "pull", "--quiet", s.host+"/team/x:1"); !strings.Contains(out, "not for this mirror: ask the operator") {
		t.Errorf("the reason does not come through: %s", out)
	}
	d.run(t, "logout", s.host)
	d.run(t, "image", "rm", "--force", name)
	d.fail(t, "pull", "--quiet", name)
	if log := s.process.logTail(1 << 20); !strings.Contains(log, "user=ann") {
		t.Error("the access log does not name the user")
	}
	s.wantNoSecrets(t)
}

func TestClientsLogInAtTheMirror(t *testing.T) {
	s := startMembers(t, "")
	tiny := original(t, "docker.io", "library/tiny", "latest")
	writeFile(t, "/etc/containers/certs.d/"+s.host+"/ca.crt", s.pem(t))
	name := s.host + "/library/tiny:latest"

	t.Run("podman", func(t *testing.T) {
		env := newContainersEnv(t, "")
		podman := env.command(podmanPath)
		podman.env = append(podman.env, "REGISTRY_AUTH_FILE="+filepath.Join(testDir(t, "login"), "auth.json"))
		podman.fail(t, "pull", "--quiet", name)
		podman.fail(t, "login", "--username", "ann", "--password", "wrong", s.host)
		podman.run(t, "login", "--username", "ann", "--password", "secret", s.host)
		podman.run(t, "pull", "--quiet", name)
		wantStored(t, env.command(buildahPath), name, tiny)
		if out := podman.fail(t, "pull", "--quiet", s.host+"/team/x:1"); !strings.Contains(out, "ask the operator") {
			t.Errorf("the reason does not come through: %s", out)
		}
	})
	t.Run("skopeo", func(t *testing.T) {
		c := newContainersEnv(t, "").command(skopeoPath)
		args := func(login string) []string {
			a := []string{"inspect", "--raw", "--cert-dir", filepath.Dir(s.authority.file), "docker://" + name}
			if login != "" {
				a = append(a, "--creds", login)
			}
			return a
		}
		c.fail(t, args("")...)
		c.fail(t, args("ann:wrong")...)
		if out := c.run(t, args("ann:secret")...); out != string(tiny.raw) {
			t.Errorf("another manifest: %s", out)
		}
	})
	for _, client := range []string{"crane", "regctl", "oras", "helm"} {
		t.Run(client, func(t *testing.T) {
			c := newTool(t, client)
			c.env = append(c.env, "SSL_CERT_FILE="+s.authority.file, "DOCKER_CONFIG="+testDir(t, "login"))
			login := map[string][]string{
				"crane":  {"auth", "login", s.host, "--username", "ann", "--password"},
				"regctl": {"registry", "login", s.host, "--user", "ann", "--pass"},
				"oras":   {"login", s.host, "--username", "ann", "--password"},
				"helm":   {"registry", "login", s.host, "--username", "ann", "--password"},
			}[client]
			pull := map[string][]string{
				"crane": {"digest", name}, "regctl": {"image", "digest", name}, "oras": {"manifest", "fetch", "--descriptor", name},
				"helm": {"show", "chart", "oci://" + s.host + "/ghcr.io/charts/hello", "--version", "0.1.7"},
			}[client]
			want := tiny.digest
			if client == "helm" {
				want = "version: 0.1.7"
			}
			c.fail(t, pull...)
			if client != "crane" { // it keeps what it is told, and asks nobody
				c.fail(t, append(login, "wrong")...)
			}
			c.run(t, append(login, "secret")...)
			if out := c.run(t, pull...); !strings.Contains(out, want) {
				t.Errorf("got %s", out)
			}
		})
	}
	eachContainerd(t, func(t *testing.T, v containerdVersion) {
		c := startContainerd(t, v, map[string]string{s.host: hostsFor("", "https://"+s.host, "ca = \""+s.authority.file+"\"")}, "")
		hosts := filepath.Join(c.dir, "certs.d")
		pull := func(login string) error {
			args := []string{"images", "pull", "--hosts-dir", hosts}
			if login != "" {
				args = append(args, "--user", login)
			}
			_, err := c.output(append(args, name)...)
			return err
		}
		for _, login := range []string{"", "ann:wrong"} {
			if err := pull(login); err == nil {
				t.Errorf("pulled as %q", login)
			}
		}
		if err := pull("ann:secret"); err != nil {
			t.Fatal(err)
		}
		c.wantImage(t, "default", name, tiny)
	})
	t.Run("curl", func(t *testing.T) {
		ca := []string{"--cacert", s.authority.file}
		manifest := "https://" + s.host + "/v2/library/tiny/manifests/latest"
		for _, args := range [][]string{
			{"https://" + s.host + "/token?service=sampan&scope=repository:library/tiny:pull", "--user", "ann:secret"},
			{"https://" + s.host + "/token", "--data", url.Values{"grant_type": {"password"}, "username": {"ann"}, "password": {"secret"}}.Encode()},
		} {
			status, _, body := curl(t, append(ca, args...)...)
			var answer struct{ Token string }
			if err := json.Unmarshal(body, &answer); err != nil || status != "200" {
				t.Fatalf("%s %s", status, body)
			}
			if status, _, body := curl(t, append(ca, manifest, "--header", "Authorization: Bearer "+answer.Token)...); status != "200" || string(body) != string(tiny.raw) {
				t.Errorf("by token: %s %s", status, body)
			}
		}
		if status, _, body := curl(t, append(ca, manifest, "--user", "ann:secret")...); status != "200" || string(body) != string(tiny.raw) {
			t.Errorf("by Basic: %s %s", status, body)
		}
		status, head, _ := curl(t, append(ca, manifest)...)
		if status != "401" || !strings.Contains(head, `Bearer realm="https://`+s.host+`/token",service="sampan",scope="repository:library/tiny:pull"`) {
			t.Errorf("by nothing: %s\n%s", status, head)
		}
	})
	s.upstream(t, "docker.io").wantAsked(t, "^GET .*/blobs/"+tiny.Layers[0].Digest, 1, 1)
	s.wantNoSecrets(t)
}

// What a client cannot send as a password stands in the host name, until it is
// revoked.
func TestAccessCodesInTheHostName(t *testing.T) {
	s := startMembers(t, "")
	tiny := original(t, "docker.io", "library/tiny", "latest")
	host := memberCode + "." + s.host
	writeFile(t, "/etc/docker/certs.d/"+host+"/ca.crt", s.pem(t))
	d := startDocker(t, fmt.Sprintf(`{"registry-mirrors": ["https://%s"]}`, host))
	d.run(t, "pull", "--quiet", "tiny")
	d.wantImage(t, "tiny", tiny)
	if log := s.process.logTail(1 << 20); !strings.Contains(log, "user=team-a") {
		t.Error("the access log does not name the code")
	}
	eachContainerd(t, func(t *testing.T, v containerdVersion) {
		c := startContainerd(t, v, map[string]string{"_default": hostsFor("", "https://"+host, "ca = \""+s.authority.file+"\"")}, "")
		for _, name := range []string{"docker.io/library/tiny:latest", "quay.io/team/tool:1"} {
			if _, err := criPull(c.socket, name); err != nil {
				t.Error(err)
			}
		}
		c.wantImage(t, "k8s.io", "docker.io/library/tiny:latest", tiny)
	})
	asked := func() string {
		status, _, body := curl(t, "--cacert", s.authority.file, "https://"+host+"/v2/library/tiny/manifests/latest")
		if strings.Contains(string(body), memberCode) {
			t.Errorf("the code is in the answer: %s", body)
		}
		return status
	}
	if got := asked(); got != "200" {
		t.Errorf("with the code: %s", got)
	}
	writeFile(t, s.codeFile, "another-code-of-this-team\n")
	err := poll(startTimeout, func() error {
		if got := asked(); got != "401" && got != "403" {
			return fmt.Errorf("with a code that was revoked: %s", got)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	s.wantNoSecrets(t)
}
