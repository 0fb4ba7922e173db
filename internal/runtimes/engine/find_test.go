package engine

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// storeContext writes a context as `docker context create` does.
func storeContext(t *testing.T, dir, name, host string) {
	t.Helper()
	sum := sha256.Sum256([]byte(name))
	write(t, filepath.Join(dir, "contexts", "meta", hex.EncodeToString(sum[:]), "meta.json"),
		`{"Name":"`+name+`","Metadata":{},"Endpoints":{"docker":{"Host":"`+host+`","SkipTLSVerify":false}}}`)
}

func listen(t *testing.T, path string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
}

func TestDockerIsWhereItsCommandLooks(t *testing.T) {
	home := t.TempDir()
	configured := filepath.Join(home, "configured")
	storeContext(t, configured, "inuse", "unix:///inuse.sock")
	storeContext(t, configured, "named", "tcp://named:2375")
	write(t, filepath.Join(configured, "config.json"), `{"currentContext":"inuse"}`)
	desktop := filepath.Join(home, ".docker/run/docker.sock")
	listen(t, desktop)
	run := t.TempDir()
	listen(t, filepath.Join(run, "docker.sock"))
	for fact, c := range map[string]struct {
		env  map[string]string
		want []string
	}{
		"DOCKER_HOST before all":            {map[string]string{"DOCKER_HOST": "tcp://h:1", "DOCKER_CONTEXT": "named", "DOCKER_CONFIG": configured}, []string{"tcp://h:1"}},
		"DOCKER_CONTEXT":                    {map[string]string{"DOCKER_CONTEXT": "named", "DOCKER_CONFIG": configured}, []string{"tcp://named:2375"}},
		"the context in use":                {map[string]string{"DOCKER_CONFIG": configured}, []string{"unix:///inuse.sock"}},
		"without root, then Docker Desktop": {map[string]string{"HOME": home, "XDG_RUNTIME_DIR": run}, []string{"unix://" + run + "/docker.sock", "unix://" + desktop}},
		"the default context is none":       {map[string]string{"HOME": home, "DOCKER_CONTEXT": "default"}, []string{"unix://" + desktop}},
	} {
		t.Run(fact, func(t *testing.T) {
			got, err := dockerEndpoints(environment(c.env))
			if err != nil {
				t.Fatal(err)
			}
			var hosts []string
			for _, e := range got {
				if e.host != "unix:///var/run/docker.sock" { // this machine's
					hosts = append(hosts, e.host)
				}
			}
			if !slices.Equal(hosts, c.want) {
				t.Errorf("hosts are %v, want %v", hosts, c.want)
			}
		})
	}
}

func TestContextsThatCannotBeUsedAreTold(t *testing.T) {
	dir := t.TempDir()
	storeContext(t, dir, "empty", "")
	storeContext(t, dir, "ssh", "ssh://me@host")
	for name, want := range map[string]string{"none": "no such Docker context: none", "empty": "names no engine", "ssh": "ssh:// is not supported"} {
		_, err := Find(t.Context(), Options{Getenv: environment(map[string]string{"DOCKER_CONFIG": dir, "DOCKER_CONTEXT": name})})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v does not say %q", name, err, want)
		}
	}
	write(t, filepath.Join(dir, "config.json"), "{")
	if _, err := Find(t.Context(), Options{Kind: Docker, Getenv: environment(map[string]string{"DOCKER_CONFIG": dir})}); err == nil || !strings.Contains(err.Error(), "config.json") {
		t.Errorf("a broken file gives %v", err)
	}
}

func TestAnEngineThatDoesNotAnswerIsNoReasonToTakeAnother(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "none.sock")
	for _, env := range []map[string]string{
		{"DOCKER_HOST": "unix://" + socket},
		{"CONTAINERD_ADDRESS": socket},
	} {
		_, err := Find(t.Context(), Options{Getenv: environment(env)})
		if e := (*Error)(nil); !errors.As(err, &e) || e.Step != StepReach || !strings.Contains(e.Address, socket) {
			t.Errorf("%v: the error is %v", env, err)
		}
	}
}

func TestThePathTellsWhoseASocketIs(t *testing.T) {
	for address, want := range map[string]Kind{
		"/run/k3s/containerd/containerd.sock":      Containerd,
		"unix:///run/user/1000/podman/podman.sock": Podman,
		"/home/me/.colima/default/docker.sock":     Docker,
		"tcp://host:2376":                          Docker,
	} {
		if got := kindOf(address); got != want {
			t.Errorf("%s is %s, want %s", address, got, want)
		}
	}
}

func TestPlatforms(t *testing.T) {
	for s, ok := range map[string]bool{"": true, "linux/arm64": true, "linux/arm/v7": true, "arm64": false, "linux/": false, "a/b/c/d": false, "/": false, "linux/arm64 ": false} {
		if err := CheckPlatform(s); (err == nil) != ok {
			t.Errorf("%q: %v", s, err)
		}
	}
}

func TestNames(t *testing.T) {
	for name, want := range map[string][3]string{
		"tiny":                      {"127.0.0.1:1/docker.io/library/tiny:latest", "", "docker.io/library/tiny:latest"},
		"quay.io/a/b:1":             {"127.0.0.1:1/quay.io/a/b:1", "", "quay.io/a/b:1"},
		"quay.io/a/b@" + testDigest: {"127.0.0.1:1/quay.io/a/b@" + testDigest, "quay.io/a/b@" + testDigest, "quay.io/a/b:sha256-abcdefabcdef"},
		"h:5000/a:1@" + testDigest:  {"127.0.0.1:1/h:5000/a@" + testDigest, "h:5000/a@" + testDigest, "h:5000/a:1"},
	} {
		i := testImage(t, name)
		if got := [3]string{i.pulled(), i.canonical(), i.tagged()}; got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

func TestManifestsAreBelowTheirNameAtTheMirror(t *testing.T) {
	for name, want := range map[string]string{
		"tiny":                      "docker.io/library/tiny/manifests/latest",
		"h:5000/a:1":                "h:5000/a/manifests/1",
		"h:5000/a:1@" + testDigest:  "h:5000/a/manifests/" + testDigest,
		"quay.io/a/b@" + testDigest: "quay.io/a/b/manifests/" + testDigest,
	} {
		if got := testImage(t, name).path(); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}

func TestTheMirrorIsQuotedInItsOwnWords(t *testing.T) {
	for body, want := range map[string]string{
		`{"errors":[{"code":"MANIFEST_UNKNOWN","message":"there is none"}]}`:                     "manifest unknown: there is none",
		`{"errors":[{"code":"DENIED","message":"ask the operator"},{"code":"TOOMANYREQUESTS"}]}`: "denied: ask the operator; toomanyrequests",
		`<html>502</html>`: "", ``: "", `{"errors":{}}`: "", `[]`: "", `{"errors":[]}`: "",
	} {
		if got := messages([]byte(body)); got != want {
			t.Errorf("%s: %q, want %q", body, got, want)
		}
	}
}

func FuzzMessages(f *testing.F) {
	f.Add([]byte(`{"errors":[{"code":"DENIED","message":"x"}]}`))
	f.Fuzz(func(_ *testing.T, body []byte) { messages(body) })
}
