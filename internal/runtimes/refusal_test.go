package runtimes

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"
)

// planFor makes a plan on a machine with some files and no programs.
func planFor(t *testing.T, target Target, mirror Mirror, files tree) (*Plan, error) {
	t.Helper()
	m, _ := machine(t, files)
	m.Environ, m.UID = nil, 0
	m.Command = func(_ context.Context, name string, _ ...string) ([]byte, error) {
		return nil, fmt.Errorf("%s: %w", name, exec.ErrNotFound)
	}
	f, err := target.Detect(t.Context(), m)
	if err != nil {
		return nil, err
	}
	return target.Plan(t.Context(), m, f, mirror)
}

func TestFilesThatCannotBeChangedAreRefusedWithWhatToDo(t *testing.T) {
	const k3s = "/etc/rancher/k3s/registries.yaml"
	for fact, c := range map[string]struct {
		target Target
		mirror string
		files  tree
		says   string
	}{
		"k3s, no YAML":             {K3s(), "public", tree{k3s: "mirrors: ["}, "cannot be read"},
		"k3s, another shape":       {K3s(), "public", tree{k3s: "mirrors: 1\n"}, "cannot be read"},
		"k3s, braces":              {K3s(), "private", tree{k3s: "mirrors: {quay.io: {endpoint: [\"https://x\"]}}\n"}, "Write there yourself:\nmirrors:\n  docker.io:\n    endpoint:\n      - \"https://mirror.example.com:8443\"\n"},
		"k3s, an anchor":           {K3s(), "public", tree{k3s: "mirrors:\n  docker.io: &a\n    endpoint: [x]\n  quay.io: *a\n"}, "cannot be changed safely"},
		"k3s, two documents":       {K3s(), "public", tree{k3s: "mirrors:\n---\nconfigs:\n"}, "second document"},
		"podman, no TOML":          {Podman{}, "public", tree{"/etc/containers/registries.conf": "[[registry]"}, "cannot be read"},
		"podman, logins no JSON":   {Podman{}, "private", tree{"/home/ann/.config/containers/auth.json": "{"}, "cannot be read"},
		"podman, logins a list":    {Podman{}, "private", tree{"/home/ann/.config/containers/auth.json": "[]"}, "cannot be read"},
		"cri-o, logins elsewhere":  {CRIO{}, "private", tree{"/etc/crio/crio.conf": "[crio.image]\n  global_auth_file = \"/etc/logins.json\"\n"}, "/etc/crio/crio.conf names a file of logins"},
		"buildkit, no TOML":        {BuildKit{}, "public", tree{"/etc/buildkit/buildkitd.toml": "registry = ["}, "cannot be read"},
		"buildkit, another shape":  {BuildKit{}, "public", tree{"/etc/buildkit/buildkitd.toml": "registry = 1\n"}, "/etc/buildkit/buildkitd.toml"},
		"buildkit, inline tables":  {BuildKit{}, "public", tree{"/etc/buildkit/buildkitd.toml": "registry = {\"docker.io\" = {mirrors = [\"x\"]}}\n"}, "[registry.\"docker.io\"]"},
		"microk8s, no TOML":        {MicroK8s{}, "public", tree{microk8sDir + "/quay.io/hosts.toml": "["}, "cannot be read"},
		"a file that is too large": {K3s(), "public", tree{k3s: strings.Repeat("#", maxConfig+1)}, "too large"},
	} {
		t.Run(fact, func(t *testing.T) {
			p, err := planFor(t, c.target, mirrors(t)[c.mirror], c.files)
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Fatalf("got %+v, %v", p, err)
			}
			if strings.Contains(err.Error(), `pass \"word`) || strings.Contains(err.Error(), `pass "word`) {
				t.Errorf("a password is shown: %v", err)
			}
			if r := (*Refusal)(nil); errors.As(err, &r) && r.Text.Chinese == "" {
				t.Errorf("nothing is said in Chinese: %+v", r.Text)
			}
		})
	}
}

func TestWhatAPersonShouldKnowIsTold(t *testing.T) {
	for fact, c := range map[string]struct {
		target Target
		mirror string
		files  tree
		says   string
	}{
		"the first version of the format":    {Podman{}, "public", tree{"/etc/containers/registries.conf": "[registries.search]\nregistries = ['docker.io']\n"}, "first version of its format"},
		"names that are rewritten":           {K3s(), "public", tree{"/etc/rancher/k3s/registries.yaml": "mirrors:\n  quay.io:\n    endpoint: [\"https://x\"]\n    rewrite: {a: b}\n"}, "rewrites the names of quay.io"},
		"registries that are still closed":   {RKE2(), "public", tree{"/etc/rancher/rke2/config.yaml.d/50-sampan.yaml": "disable-default-registry-endpoint: true\n"}, "still keeps the registries themselves"},
		"BuildKit cannot be closed":          {BuildKit{}, "closed", nil, "cannot be told otherwise"},
		"a node does not reach loopback":     {Kind{}, "loopback", nil, "is another machine"},
		"a virtual machine does not either":  {Minikube{}, "loopback", nil, "is another machine"},
		"a code that everybody here can see": {Podman{}, "code", nil, "everybody on this machine can read the access code"},
	} {
		t.Run(fact, func(t *testing.T) {
			p, err := planFor(t, c.target, mirrors(t)[c.mirror], c.files)
			if err != nil {
				t.Fatal(err)
			}
			if said := planned(p)["said.txt"]; !strings.Contains(said, c.says) {
				t.Errorf("it says\n%s", said)
			}
		})
	}
}

// A person's own podman reads and writes files of that person alone, and takes over what
// the system's say.
func TestAPersonsOwnPodman(t *testing.T) {
	m, _ := machine(t, tree{
		"/etc/containers/registries.conf":                                "[[registry]]\nlocation = \"quay.io\"\nblocked = true\n",
		"/etc/containers/registries.conf.d/99-lab.conf":                  "[[registry]]\nlocation = \"gcr.io\"\nmirror-by-digest-only = true\n",
		"/home/ann/.config/containers/registries.conf.d/60-own.conf":     "[[registry]]\nlocation = \"ghcr.io\"\n",
		"/home/ann/.config/containers/registries.conf.d/not-a-conf.text": "[",
	})
	m.Environ, m.UID = nil, 1000
	p, err := Podman{}.Plan(t.Context(), m, Found{}, mirrors(t)["public"])
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Files) != 1 || p.Files[0].Path != "/home/ann/.config/containers/registries.conf.d/50-sampan.conf" {
		t.Fatalf("got %+v", p.Files)
	}
	content, said := string(p.Files[0].After), planned(p)["said.txt"]
	for _, want := range []string{"location = \"quay.io\"\nblocked = true\n", "location = \"gcr.io\"\nmirror-by-digest-only = true\n"} {
		if !strings.Contains(content, want) {
			t.Errorf("%q was not taken over:\n%s", want, content)
		}
	}
	if !strings.Contains(said, "60-own.conf is read later, and what it says of ghcr.io wins") {
		t.Errorf("it says\n%s", said)
	}
}

func TestWhatIsConfiguredIsSeen(t *testing.T) {
	for fact, c := range map[string]struct {
		target Target
		files  tree
		want   string
		closed bool
	}{
		"podman":           {Podman{}, tree{"/etc/containers/registries.conf": "[[registry]]\nlocation = 'quay.io'\n[[registry.mirror]]\nlocation = 'm/quay.io'\n"}, "[quay.io = m/quay.io]", false},
		"closed":           {Podman{}, tree{"/etc/containers/registries.conf": "[[registry]]\nprefix = 'quay.io'\nlocation = 'm/quay.io'\n"}, "[quay.io = m/quay.io]", true},
		"k3s":              {K3s(), tree{"/etc/rancher/k3s/registries.yaml": "mirrors:\n  quay.io:\n    endpoint: ['https://m']\n", "/etc/rancher/k3s/config.yaml.d/50-sampan.yaml": "x"}, "[quay.io = https://m]", true},
		"buildkit":         {BuildKit{}, tree{"/etc/buildkit/buildkitd.toml": "[registry.'quay.io']\nmirrors = ['m']\n"}, "[quay.io = m]", false},
		"microk8s":         {MicroK8s{}, tree{microk8sDir + "/quay.io/hosts.toml": "[host.'https://m']\n"}, "[quay.io = https://m]", false},
		"microk8s, closed": {MicroK8s{}, tree{microk8sDir + "/quay.io/hosts.toml": "server = 'https://m'\n[host.'https://m']\n", microk8sDir + "/x/hosts.toml": "["}, "[quay.io = https://m]", true},
		"nothing":          {K3s(), nil, "[]", false},
	} {
		t.Run(fact, func(t *testing.T) {
			m, _ := machine(t, c.files)
			m.Environ, m.UID = nil, 0
			m.Command = func(context.Context, string, ...string) ([]byte, error) { return []byte("v1.2.3\n"), nil }
			f, err := c.target.Detect(t.Context(), m)
			if err != nil || fmt.Sprint(f.Mirrors) != c.want || f.Closed != c.closed || !f.Present {
				t.Errorf("got %+v, %v", f, err)
			}
		})
	}
}
