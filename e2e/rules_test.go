//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// Outside of the networks every path is denied, however the address is told.
func TestOutsideOfTheNetworksEverythingIsDenied(t *testing.T) {
	m := startMirror(t, options{config: `trusted_proxies: [127.0.0.1]
proxy_protocol: true
access:
  - {action: allow, networks: [10.0.0.0/8, "2001:db8::/32"]}
  - {action: deny, reason: "for the office network only"}
`})
	tiny := original(t, "docker.io", "library/tiny", "latest")
	from := func(client string) []string {
		if client == "PROXY" {
			return []string{"--haproxy-protocol"} // says 127.0.0.1
		}
		return []string{"--header", "X-Forwarded-For: " + client}
	}
	paths := []string{
		"/", "/v2/", "/token", "/v2/library/tiny/manifests/latest", "/v2/library/tiny/blobs/" + tiny.Layers[0].Digest,
		"/v2/library/tiny/tags/list", "/v2/library/tiny/referrers/" + tiny.digest, "/v2/_catalog", "/quay.io/v2/team/tool/manifests/1", "/nope",
	}
	for _, client := range []string{"192.0.2.1", "2001:db9::1", "PROXY"} {
		for _, path := range paths {
			for _, method := range []string{"GET", "POST", "PUT", "DELETE"} {
				status, _, body := curl(t, append(from(client), "--request", method, "http://"+m.address+path)...)
				if status != "403" || !strings.Contains(string(body), `"DENIED"`) || !strings.Contains(string(body), "for the office network only") {
					t.Errorf("%s %s of %s: %s %s", method, path, client, status, body)
				}
			}
		}
	}
	for name := range m.upstreams {
		m.upstream(t, name).wantAsked(t, ".", 0, 0)
	}
	for _, client := range []string{"10.1.2.3", "2001:db8::1"} {
		status, _, body := curl(t, append(from(client), "http://"+m.address+"/v2/library/tiny/manifests/latest")...)
		if status != "200" || string(body) != string(tiny.raw) {
			t.Errorf("within, %s: %s %s", client, status, body)
		}
	}
}

// What the mirror's own account reads is for those whom a rule names; nobody else
// learns that it is there, and its layers are not had by another name.
func TestAccountsAreForThoseWhomRulesName(t *testing.T) {
	g := startGuarded(t)
	dir := testDir(t, "rules")
	htpasswd := writeFile(t, filepath.Join(dir, "htpasswd"), "ann:"+secretHash+"\nbob:"+secretHash+"\n")
	m := startMirror(t, options{config: fmt.Sprintf(`users: [{file: %s}]
upstreams:
  corp.test:
    endpoints: [{url: %q}]
    repositories:
      "team/*": {accounts: [{username: alice, password: wonder}]}
access:
  - {action: allow, users: [ann]}
  - {action: allow}
`, htpasswd, g.URL())})
	crane := func(login, repository string) (string, error) {
		c := command{path: tool("crane"), env: loggedIn(t, m.address, login)}
		return c.output("manifest", "--insecure", m.address+"/corp.test/"+repository+":1")
	}
	for _, c := range []struct {
		login, repository string
		works             bool
	}{
		{"", "team/a", false},
		{"bob:secret", "team/a", false},
		{"ann:secret", "team/a", true},
		{"ann:secret", "team/b", false}, // not for the mirror's account either
		{"", "team/a", false},           // now that it is here
		{"bob:secret", "team/a", false},
		{"", "open/pub", true},
		{"bob:secret", "open/pub", true},
	} {
		out, err := crane(c.login, c.repository)
		if (err == nil) != c.works {
			t.Errorf("%s as %q: %v", c.repository, c.login, err)
		}
		if err == nil && strings.TrimSpace(out) != strings.TrimSpace(string(g.image.raw)) {
			t.Errorf("%s as %q: another manifest", c.repository, c.login)
		}
	}
	m.wantNoLeak(t)
}

// A user who is removed is out with the next request, and the pull that runs is not
// cut off.
func TestAUserWhoIsRemovedIsOut(t *testing.T) {
	s := startMembers(t, "")
	image := original(t, "docker.io", "library/large", "1")
	layer := image.Layers[len(image.Layers)-1].Digest // the large one
	blob := "https://" + s.host + "/v2/library/large/blobs/" + layer
	hold := s.upstream(t, "docker.io").hold("/blobs/"+layer, 1<<20)
	ended := make(chan error, 1)
	dir := testDir(t, "curl")
	file := filepath.Join(dir, "blob")
	go func() {
		c := command{path: curlPath, env: cleanEnv(dir), dir: dir}
		_, err := c.output("--fail", "--silent", "--show-error", "--cacert", s.authority.file, "--user", "ann:secret", "--output", file, blob)
		ended <- err
	}()
	<-hold.reached
	writeFile(t, s.htpasswd, "bob:"+secretHash+"\n")
	if err := s.process.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	err := poll(startTimeout, func() error {
		status, _, _ := curl(t, "--cacert", s.authority.file, "--user", "ann:secret", "https://"+s.host+"/v2/library/tiny/manifests/latest")
		if status != "401" {
			return fmt.Errorf("who was removed gets %s", status)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	close(hold.release)
	if err := <-ended; err != nil {
		t.Errorf("the pull that ran: %v", err)
	}
	if got := fileDigest(t, file); got != layer {
		t.Errorf("it got %s", got)
	}
	if status, _, _ := curl(t, "--cacert", s.authority.file, "--user", "bob:secret", "https://"+s.host+"/v2/library/tiny/manifests/latest"); status != "200" {
		t.Errorf("who stayed gets %s", status)
	}
}

func TestWhoGuessesPasswordsIsSlowedDown(t *testing.T) {
	s := startMembers(t, "trusted_proxies: [127.0.0.1]\n")
	login := func(client, password string) (string, string) {
		status, head, _ := curl(t, "--cacert", s.authority.file, "--header", "X-Forwarded-For: "+client, "--user", "ann:"+password, "https://"+s.host+"/token")
		return status, head
	}
	if status, _ := login("192.0.2.2", "secret"); status != "200" {
		t.Fatalf("the right password gets %s", status)
	}
	var got []string
	for i := range 14 {
		status, head := login("192.0.2.1", fmt.Sprint("guess", i))
		got = append(got, status)
		if status == "429" && !strings.Contains(strings.ToLower(head), "retry-after: ") {
			t.Errorf("when to come again is not said:\n%s", head)
		}
	}
	if all := strings.Join(got, " "); !strings.HasPrefix(all, strings.Repeat("401 ", 10)) || !strings.HasSuffix(all, "429") {
		t.Errorf("guesses got %s", all)
	}
	if status, _ := login("192.0.2.2", "secret"); status != "200" {
		t.Errorf("who is elsewhere gets %s", status)
	}
}

// The policy reports first, and refuses after it was told to.
func TestAPolicyReportsAndRefuses(t *testing.T) {
	m := startMirror(t, options{config: "policy: {report_only: true, deny: [{repositories: ['docker.io/library/tiny:1.*'], reason: 'too old: use latest'}]}\n"})
	d := startDocker(t, "{}")
	d.run(t, "pull", "--quiet", m.address+"/tiny:1.0")
	if _, _, metrics, err := get("http://" + m.admin + "/metrics"); err != nil || !strings.Contains(string(metrics), `sampan_access_denied_total{by="reported"}`) || strings.Contains(string(metrics), `sampan_access_denied_total{by="reported"} 0`) {
		t.Errorf("it is not counted: %v", err)
	}
	config := filepath.Join(m.data, "sampan.yaml")
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, config, strings.Replace(string(text), "report_only: true", "report_only: false", 1))
	err = poll(startTimeout, func() error {
		if status, _, _ := curl(t, "http://"+m.address+"/v2/library/tiny/manifests/1.0"); status != "403" {
			return fmt.Errorf("it gets %s", status)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	if out := d.fail(t, "pull", "--quiet", m.address+"/library/tiny:1.0"); !strings.Contains(out, "too old: use latest") {
		t.Errorf("the reason does not come through: %s", out)
	}
	d.run(t, "pull", "--quiet", m.address+"/tiny:latest")
	d.wantImage(t, m.address+"/tiny:latest", original(t, "docker.io", "library/tiny", "latest"))
}

// The example for the open network, with the certificate from files, is all that is
// needed in place of five caches, a proxy before them, its certificates and a list of
// who may use it.
func TestTheExampleForTheOpenNetwork(t *testing.T) {
	text, err := os.ReadFile("../docs/examples/open-network.yaml")
	if err != nil {
		t.Fatal(err)
	}
	dir := testDir(t, "example")
	a := newAuthority(t)
	a.issue(t, 2, filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key"), mirrorDomain, "*."+mirrorDomain)
	writeFile(t, filepath.Join(dir, "team-a.code"), memberCode)
	acme := string(text[strings.Index(string(text), "  acme:"):strings.Index(string(text), "data:")])
	config := strings.NewReplacer(
		acme, fmt.Sprintf("  certificates: [{cert: %s/tls.crt, key: %s/tls.key}]\n", dir, dir),
		"mirror.example.com", mirrorDomain, "/etc/sampan", dir, "198.51.100.0/24", "10.0.0.0/8",
		`redirect: ":80"`, fmt.Sprintf("redirect: %q", freeAddress()), "domain: mirror.example.com\n", "",
	).Replace(string(text))
	m := startMirror(t, options{config: "trusted_proxies: [127.0.0.1]\n" + config})
	_, port, _ := strings.Cut(m.address, ":")
	ca := []string{"--cacert", a.file}
	for label, image := range map[string]mirrored{
		"docker": {"tiny", "docker.io", "library/tiny", "latest"}, "gcr": {"google_containers/pause", "gcr.io", "google-containers/pause", "3.1"},
		"k8s": {"pause", "registry.k8s.io", "pause", "3.1"}, "quay": {"team/tool", "quay.io", "team/tool", "1"}, "ghcr": {"me/app", "ghcr.io", "me/app", "1"},
	} {
		want := original(t, image.upstream, image.repository, image.reference)
		url := fmt.Sprintf("https://%s.%s:%s/v2/%s/manifests/%s", label, mirrorDomain, port, image.name, image.reference)
		if status, _, body := curl(t, append(ca, "--header", "X-Forwarded-For: 10.1.2.3", url)...); status != "200" || string(body) != string(want.raw) {
			t.Errorf("%s: %s %s", label, status, body)
		}
		if status, _, body := curl(t, append(ca, "--header", "X-Forwarded-For: 192.0.2.1", url)...); status != "403" {
			t.Errorf("%s from outside: %s %s", label, status, body)
		}
	}
	host := memberCode + "." + mirrorDomain + ":" + port
	pem, err := os.ReadFile(a.file)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, "/etc/docker/certs.d/"+host+"/ca.crt", string(pem))
	d := startDocker(t, fmt.Sprintf(`{"registry-mirrors": ["https://%s"]}`, host))
	d.run(t, "pull", "--quiet", "tiny")
	d.wantImage(t, "tiny", original(t, "docker.io", "library/tiny", "latest"))
	if status, _, body := curl(t, append(ca, "https://"+host+"/v2/mcr.microsoft.com/x/y/manifests/1")...); status != "403" || !strings.Contains(string(body), "this mirror carries docker.io") {
		t.Errorf("what it does not carry: %s %s", status, body)
	}
}
