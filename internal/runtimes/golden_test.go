package runtimes

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sampan/internal/oci"
)

var update = flag.Bool("update", false, "write the golden files")

// labCA is a certificate of nobody.
const labCA = `-----BEGIN CERTIFICATE-----
MIIBezCCASGgAwIBAgIUSUDuhVlx6B0Zt7zuB8L3JBU8VM0wCgYIKoZIzj0EAwIw
EjEQMA4GA1UEAwwHdGhlIGxhYjAgFw0yNjExMjYyMTE3NDdaGA8yMTI2MTEwMjIx
MTc0N1owEjEQMA4GA1UEAwwHdGhlIGxhYjBZMBMGByqGSM49AgEGCCqGSM49AwEH
A0IABKF059EQytcwtfTQAKtcfxbyNGiGxMjNL0SXmFwf4EGL3vOqj8Lws4VNIurk
xQGL9o3UQu5oYkO2ouQY79bM8wmjUzBRMB0GA1UdDgQWBBRMOhN1BNLbk6wkNWTK
8LaXrueCijAfBgNVHSMEGDAWgBRMOhN1BNLbk6wkNWTK8LaXrueCijAPBgNVHRMB
Af8EBTADAQH/MAoGCCqGSM49BAMCA0gAMEUCIQD7++IQlj9oVBsgunjdd5T0ksVP
nLWISaKMw+dLXgyzsgIgQNAo06hwU2RKgQrELbN0BDkmi+oYTtXMTEJ7f6/m/1M=
-----END CERTIFICATE-----
`

// mirrors are what people have.
func mirrors(t *testing.T) map[string]Mirror {
	t.Helper()
	var registries []oci.Registry
	for _, name := range []string{"docker.io", "gcr.io", "ghcr.io", "quay.io", "registry.k8s.io"} {
		r, err := oci.ParseRegistry(name)
		if err != nil {
			t.Fatal(err)
		}
		registries = append(registries, r)
	}
	return map[string]Mirror{
		"public":   {URL: "https://mirror.example.com", Host: "mirror.example.com", Registries: registries},
		"private":  {URL: "https://mirror.example.com:8443", Host: "mirror.example.com:8443", Registries: registries, CA: []byte(labCA), Username: "ann", Password: "pass \"word\""},
		"replace":  {URL: "https://mirror.example.com", Host: "mirror.example.com", Registries: registries[:2], Replace: true},
		"code":     {URL: "https://abcdefghij0123456789.mirror.example.com", Host: "abcdefghij0123456789.mirror.example.com", Registries: registries[:1], Code: "abcdefghij0123456789"},
		"closed":   {URL: "https://mirror.example.com", Host: "mirror.example.com", Registries: registries, NoFallback: true, DialTimeout: 3 * time.Second},
		"loopback": {URL: "http://localhost:5000", Host: "localhost:5000", PlainHTTP: true, Registries: registries[:1]},
	}
}

// found is what was on the machine, by target and mirror.
func found() map[string]tree {
	return map[string]tree{
		"podman/public": {
			"/etc/containers/registries.conf":                 "# ours\nunqualified-search-registries = [\"docker.io\"]\n\n[[registry]]\nlocation = \"docker.io\"\n[[registry.mirror]]\nlocation = \"old.example.com\"\n\n[[registry]]\nprefix = \"quay.io/team\"\nlocation = \"team.example.com\"\n",
			"/etc/containers/registries.conf.d/99-local.conf": "[[registry]]\nlocation = \"ghcr.io\"\nblocked = true\n",
		},
		"podman/replace":   {"/etc/containers/registries.conf": "[[registry]]\nlocation = \"docker.io\"\n[[registry.mirror]]\nlocation = \"old.example.com\"\n"},
		"k3s/replace":      {"/etc/rancher/k3s/registries.yaml": "mirrors:\n  docker.io:\n    endpoint:\n      - https://old.example.com\n"},
		"buildkit/replace": {"/etc/buildkit/buildkitd.toml": "[registry.'docker.io']\n  mirrors = ['old.example.com']\n"},
		"podman/private":   {"/home/ann/.config/containers/auth.json": "{\n\t\"auths\": {\n\t\t\"quay.io\": {\n\t\t\t\"auth\": \"eA==\"\n\t\t}\n\t},\n\t\"credHelpers\": {}\n}\n"},
		"k3s/public":       {"/etc/rancher/k3s/registries.yaml": "# the lab's\nmirrors:\n    docker.io:\n        endpoint: # old first\n            - https://old.example.com\n\n    # in the house\n    own.example.com:\n        endpoint: [\"https://own.example.com:5000\"]\nconfigs:\n    own.example.com:\n        tls: {ca_file: /etc/own.crt}\n", "/etc/systemd/system/k3s.service": ""},
		"rke2/public":      {"/etc/rancher/rke2/registries.yaml": "mirrors:\n  # for all\n  \"*\":\n    endpoint: ['https://any.example.com'] # far\n  quay.io:\n    endpoint:\n      # near\n      - 'https://old.example.com' # slow\n"},
		"buildkit/public":  {"/etc/buildkit/buildkitd.toml": "# builders\ndebug = true\n\n[registry.\"docker.io\"]\n  # near\n  mirrors = [\n    \"old.example.com\", # one\n  ]\n\n[registry.\"quay.io\"]\n  http = false\n[worker.oci]\n  gc = true\n"},
		"microk8s/private": {"/var/snap/microk8s/current/args/certs.d/docker.io/hosts.toml": "server = \"https://docker.io\"\n\n[host.\"https://registry-1.docker.io\"]\n  capabilities = [\"pull\", \"resolve\"]\n"},
	}
}

func others() []Target {
	return []Target{Podman{}, CRIO{}, K3s(), RKE2(), BuildKit{}, Buildx(), Kind{}, Minikube{}, MicroK8s{}, Talos{}}
}

// What each target writes for each kind of mirror is in testdata/golden, as files and
// with what is said to the person.
func TestGoldenFiles(t *testing.T) {
	for _, target := range others() {
		for name, mirror := range mirrors(t) {
			t.Run(target.Name()+"/"+name, func(t *testing.T) {
				at := target.Name() + "/" + name
				m, s := machine(t, found()[at])
				m.Environ, m.UID = nil, 0
				m.Command = func(_ context.Context, name string, _ ...string) ([]byte, error) {
					return nil, fmt.Errorf("%s: %w", name, exec.ErrNotFound)
				}
				before := look(t, m, s)
				f, err := target.Detect(t.Context(), m)
				if err != nil {
					t.Fatal(err)
				}
				p, err := target.Plan(t.Context(), m, f, mirror)
				if err != nil {
					t.Fatal(err)
				}
				compare(t, filepath.Join("testdata/golden", at), planned(p))
				if err := Apply(m, s, target.Name(), p); err != nil {
					t.Fatal(err)
				}
				again, err := target.Plan(t.Context(), m, f, mirror)
				if err != nil || again.Changes() {
					t.Errorf("a second setup changes something: %v", err)
				}
				if _, _, _, err := Undo(m, s, target.Name(), false); err != nil {
					t.Fatal(err)
				}
				_ = os.RemoveAll(s.dir)
				if after := look(t, m, s); fmt.Sprint(after) != fmt.Sprint(before) {
					t.Errorf("undone, there is %v, and was %v", after, before)
				}
			})
		}
	}
}

// planned is a plan as files.
func planned(p *Plan) map[string]string {
	files := map[string]string{}
	var said strings.Builder
	for _, f := range p.Files {
		files[f.Path] = string(f.After)
		if f.Secret {
			fmt.Fprintf(&said, "secret: %s\n", f.Path)
		}
	}
	for _, step := range p.After {
		fmt.Fprintf(&said, "run: %s (interrupts: %v)\n  %s\n  %s\n", strings.Join(step.Command, " "), step.Interrupts, step.Why.English, step.Why.Chinese)
	}
	for _, n := range p.Notes {
		fmt.Fprintf(&said, "note: %s\n  %s\n", n.Text.English, n.Text.Chinese)
		if n.Paste != "" {
			fmt.Fprintf(&said, "  $ %s\n", n.Paste)
		}
	}
	if p.Proof != nil {
		fmt.Fprintf(&said, "proof: %v\n", p.Proof.Pull)
	}
	files["said.txt"] = said.String()
	return files
}

func compare(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	if *update {
		_ = os.RemoveAll(dir)
	}
	var wanted []string
	_ = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			wanted = append(wanted, path)
		}
		return err
	})
	for name, content := range files {
		path := filepath.Join(dir, strings.ReplaceAll(name, ":", "_"))
		if *update {
			if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o644)); err != nil {
				t.Fatal(err)
			}
			continue
		}
		want, err := os.ReadFile(path)
		if err != nil || string(want) != content {
			t.Errorf("%s: %v, got\n%s\nwant\n%s", path, err, content, want)
		}
		wanted = slices.DeleteFunc(wanted, func(p string) bool { return p == path })
	}
	if len(wanted) > 0 && !*update {
		t.Errorf("not written: %v", wanted)
	}
}
