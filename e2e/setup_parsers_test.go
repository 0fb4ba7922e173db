//go:build e2e

package e2e

import (
	"encoding/base64"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// understood is what the parser of a program made of a file: see e2e/parsers.
type understood struct {
	Mirrors       map[string][]string
	Closed, Plain []string
	Logins, CAs   map[string]string
	Mounts        map[string]string
}

func parse(t *testing.T, program, file string) understood {
	t.Helper()
	var u understood
	out := command{path: tool("parsers")}.run(t, program, file)
	if err := json.Unmarshal([]byte(out), &u); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return u
}

// The golden files of `sampan setup` mean to the programs' own parsers what they were
// written for.
func TestSetupWritesWhatProgramsRead(t *testing.T) {
	golden, err := filepath.Abs("../internal/runtimes/testdata/golden")
	if err != nil {
		t.Fatal(err)
	}
	ca, err := os.ReadFile(filepath.Join(golden, "k3s/private/etc/rancher/k3s/sampan-ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, "/etc/containerd/certs.d/sampan-ca.crt", string(ca)) // where a node of kind has it
	const login = `ann:pass "word"`
	all := []string{"docker.io", "gcr.io", "ghcr.io", "quay.io", "registry.k8s.io"}
	for _, c := range []struct{ name, url string }{
		{"public", "https://mirror.example.com"},
		{"private", "https://mirror.example.com:8443"},
		{"closed", "https://mirror.example.com"},
		{"loopback", "http://localhost:5000"},
	} {
		_, host, _ := strings.Cut(c.url, "://")
		registries := all
		if c.name == "loopback" {
			registries = all[:1]
		}
		for program, file := range map[string]string{
			"k3s": "etc/rancher/k3s/registries.yaml", "rke2": "etc/rancher/rke2/registries.yaml", "talos": "home/ann/.config/sampan/talos.yaml",
			"buildkit": "etc/buildkit/buildkitd.toml", "buildx": "home/ann/.config/sampan/buildkitd.toml",
		} {
			t.Run(program+"/"+c.name, func(t *testing.T) {
				u := parse(t, program, filepath.Join(golden, program, c.name, file))
				build := strings.HasPrefix(program, "build")
				for _, registry := range registries {
					want := c.url
					if build {
						want = host
					}
					if m := u.Mirrors[registry]; len(m) == 0 || m[0] != want {
						t.Errorf("%s comes from %v", registry, m)
					}
				}
				if program == "talos" && (len(u.Closed) == len(all)) != (c.name == "closed") {
					t.Errorf("closed are %v", u.Closed)
				}
				if private := c.name == "private"; (u.CAs[host] != "") != private || !build && (u.Logins[host] == login) != private {
					t.Errorf("certificates %v, logins %v", u.CAs, u.Logins)
				}
				if build && (c.name == "loopback") != slices.Contains(u.Plain, host) {
					t.Errorf("without TLS are %v", u.Plain)
				}
			})
		}
		t.Run("kind/"+c.name, func(t *testing.T) {
			dir := filepath.Join(golden, "kind", c.name, "home/ann/.config/sampan/kind")
			u := parse(t, "kind", filepath.Join(dir, "cluster.yaml"))
			if u.Mounts["/etc/containerd/certs.d"] != "/home/ann/.config/sampan/kind/certs.d" {
				t.Errorf("mounts are %v", u.Mounts)
			}
			for _, registry := range registries {
				u := parse(t, "containerd", filepath.Join(dir, "certs.d", registry, "hosts.toml"))
				last := "https://" + strings.Replace(registry, "docker.io", "registry-1.docker.io", 1)
				if c.name == "closed" {
					last = c.url
				}
				if m := slices.Compact(u.Mirrors[registry]); m[0] != c.url || m[len(m)-1] != last {
					t.Errorf("%s comes from %v", registry, m)
				}
				want := ""
				if c.name == "private" {
					want = "Basic " + base64.StdEncoding.EncodeToString([]byte(login))
				}
				if u.Logins[host] != want {
					t.Errorf("logins are %v", u.Logins)
				}
			}
		})
	}
}

// Every hosts.toml is one to containerd's own parser, with the mirror first.
func TestSetupWritesHostsThatContainerdReads(t *testing.T) {
	golden, err := filepath.Abs("../internal/runtimes/testdata/golden")
	if err != nil {
		t.Fatal(err)
	}
	ca, err := os.ReadFile(filepath.Join(golden, "k3s/private/etc/rancher/k3s/sampan-ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"/etc/containerd/certs.d/mirror.example.com:8443/ca.crt", "/etc/docker/certs.d/mirror.example.com:8443/ca.crt", "/etc/containerd/certs.d/sampan-ca.crt"} {
		writeFile(t, file, string(ca))
	}
	files, err := filepath.Glob(golden + "/*/*/*")
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, dir := range files {
		err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
			if err != nil || d.Name() != "hosts.toml" || strings.Contains(path, "/microk8s/private/") { // its certificates are not for tests to write
				return err
			}
			seen++
			registry := filepath.Base(filepath.Dir(path))
			hosts := parse(t, "containerd", path).Mirrors[registry]
			if len(hosts) == 0 || !strings.Contains(hosts[0], "mirror.example.com") && !strings.Contains(hosts[0], "localhost:5000") {
				t.Errorf("%s: %s comes from %v", path, registry, hosts)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if seen == 0 {
		t.Error("there is no hosts.toml")
	}
}

// The daemons' own checks accept what was written for them, and find the mirror in it.
func TestSetupWritesWhatDaemonsAccept(t *testing.T) {
	golden, err := filepath.Abs("../internal/runtimes/testdata/golden")
	if err != nil {
		t.Fatal(err)
	}
	env := cleanEnv(testDir(t, "daemons"))
	seen := map[string]int{}
	for target, name := range map[string]string{"docker": "daemon.json", "containerd": "config.toml"} {
		err := filepath.WalkDir(filepath.Join(golden, target), func(path string, d os.DirEntry, err error) error {
			if err != nil || d.Name() != name {
				return err
			}
			seen[target]++
			rel, _ := filepath.Rel(filepath.Join(golden, target), path)
			t.Run(target+"/"+strings.Split(rel, "/")[0], func(t *testing.T) {
				if target == "docker" {
					wantSaid(t, combined(t, env, tool("dockerd29"), "--validate", "--config-file", path), "configuration OK")
					return
				}
				program := containerdPath
				if strings.HasPrefix(rel, "2") {
					program = tool("containerd2")
				}
				if dump := combined(t, env, program, "--config", path, "config", "dump"); strings.Count(dump, "/etc/containerd/certs.d") == 0 {
					t.Errorf("no config_path in\n%s", dump)
				}
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if seen["docker"] < 4 || seen["containerd"] < 2 {
		t.Errorf("only %v files", seen)
	}
}

// combined is all that a program says, which must succeed.
func combined(t *testing.T, env []string, program string, args ...string) string {
	t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Env = env
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", program, args, err, out)
	}
	return string(out)
}
