//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const (
	systemdAnalyzePath  = "/usr/bin/systemd-analyze"
	systemdActivatePath = "/usr/bin/systemd-socket-activate"
	setprivPath         = "/usr/bin/setpriv"
)

// The units are what systemd understands, once the program lies where they say.
func TestUnitsAreThoseOfSystemd(t *testing.T) {
	dir := testDir(t, "units")
	for _, name := range []string{"sampan.service", "sampan.socket", "sampan-http.socket"} {
		text, err := os.ReadFile("../deploy/systemd/" + name)
		if err != nil {
			t.Fatal(err)
		}
		writeFile(t, filepath.Join(dir, name), strings.ReplaceAll(string(text), "/usr/local/bin/sampan", os.Getenv(binaryVariable)))
	}
	c := command{path: systemdAnalyzePath, dir: dir, env: cleanEnv(dir)}
	out, err := c.output("verify", "--man=no", "./sampan.service", "./sampan.socket", "./sampan-http.socket")
	if err != nil || out != "" {
		t.Errorf("%v %s", err, out)
	}
	// What it may do beyond its user, by systemd's own measure from 0 to 10.
	if out, err := c.output("security", "--offline=true", "--threshold=25", "./sampan.service"); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// Ports 443 and 80 are handed over to a process of a user who has no rights, and it
// serves at both, with the configuration that is beside the units.
func TestServesFromSocketsOfSystemdWithoutRights(t *testing.T) {
	const nobody = 65534
	dir := testDir(t, "activated")
	a := newAuthority(t)
	cert, key := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	a.issue(t, 2, cert, key, mirrorDomain)
	text, err := os.ReadFile("../deploy/systemd/sampan.yaml")
	if err != nil {
		t.Fatal(err)
	}
	hub := newUpstream(t, bed.registries["docker.io"])
	admin := freeAddress()
	file := writeFile(t, filepath.Join(dir, "sampan.yaml"), strings.ReplaceAll(string(text), "/etc/sampan", dir))
	data := filepath.Join(dir, "data")
	if err := os.Mkdir(data, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{data, dir, scratch()} {
		if err := os.Chmod(path, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chown(data, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	d := startTestDaemon(t, cleanEnv(dir), filepath.Join(dir, "log"), systemdActivatePath,
		"--listen=127.0.0.1:443", "--listen=127.0.0.1:80", "--fdname=https:http",
		setprivPath, fmt.Sprintf("--reuid=%d", nobody), fmt.Sprintf("--regid=%d", nobody), "--clear-groups", "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all",
		os.Getenv(binaryVariable), "serve", "--config", file, "--data", data, "--admin-listen", admin, "--upstream", "docker.io="+hub.url())
	first := "http://" + mirrorDomain + "/v2/library/tiny/manifests/latest" // the program begins with the first client
	if err := d.ready(listening("tcp", "127.0.0.1:80")); err != nil {
		t.Fatal(err)
	}
	status, head, _ := curl(t, first)
	if status != "308" {
		t.Errorf("plain HTTP is answered with %s", status)
	}
	wantHeader(t, head, "Location", "https://"+mirrorDomain+"/v2/library/tiny/manifests/latest")
	tiny := original(t, "docker.io", "library/tiny", "latest")
	writeFile(t, "/etc/docker/certs.d/"+mirrorDomain+"/ca.crt", readFile(t, a.file))
	docker := startDocker(t, "{}")
	docker.run(t, "pull", "--quiet", mirrorDomain+"/tiny")
	docker.wantImage(t, mirrorDomain+"/tiny", tiny)
	hub.wantAsked(t, "^GET .*/blobs/"+tiny.Layers[0].Digest, 1, 1)
	proc := readFile(t, fmt.Sprintf("/proc/%d/status", d.cmd.Process.Pid))
	for _, want := range []string{"Name:\tsampan", "Uid:\t65534\t65534\t65534\t65534", "CapPrm:\t0000000000000000", "CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1"} {
		if !strings.Contains(proc, want) {
			t.Errorf("the process is not %q:\n%s", want, proc)
		}
	}
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
