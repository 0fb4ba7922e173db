package runtimes

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// programs are those of a machine: what each command line begins with, and what it
// prints. Others are not there.
type programs map[string]string

func (p programs) run(_ context.Context, name string, args ...string) ([]byte, error) {
	line := strings.Join(append([]string{name}, args...), " ")
	for prefix, out := range p {
		if strings.HasPrefix(line, prefix) {
			return []byte(out), nil
		}
	}
	return nil, fmt.Errorf("%s: %w", name, exec.ErrNotFound)
}

const (
	classicInfo = `{"ServerVersion":"20.10.24","DriverStatus":[["Backing Filesystem","extfs"]],"RegistryConfig":{"Mirrors":%s}}`
	newInfo     = `{"ServerVersion":"29.0.1","DriverStatus":[["driver-type","io.containerd.snapshotter.v1"]],"RegistryConfig":{"Mirrors":[]}}`
	deskInfo    = `{"ServerVersion":"28.0.0","OperatingSystem":"Docker Desktop","RegistryConfig":{"Mirrors":[]}}`
)

// A machineCase is what is on a machine, and what a target makes of it.
type machineCase struct {
	target   Target
	mirror   string // of mirrors
	files    tree
	programs programs
}

func classic(mirrors string) programs {
	return programs{"docker info": fmt.Sprintf(classicInfo, mirrors), "docker context": "unix:///var/run/docker.sock\n"}
}

func machineCases() map[string]machineCase {
	const theirs = "server = \"https://quay.io\" # theirs\n\n[host.\"https://old.test\"]\n  capabilities = [\"pull\"]\n"
	containerd := func(version string) programs {
		return programs{"containerd --version": "containerd containerd.io " + version + " 0123\n"}
	}
	return map[string]machineCase{
		"docker/bare":                    {Docker{}, "public", nil, classic("[]")},
		"docker/not-running":             {Docker{}, "public", tree{"/run/systemd/system/x": ""}, nil},
		"docker/with-mirrors":            {Docker{}, "closed", tree{"/etc/docker/daemon.json": "{\n    \"debug\": true,\n    \"registry-mirrors\": [\n        \"https://old.test\"\n    ]\n}\n", "/run/systemd/system/x": ""}, classic(`["https://old.test/"]`)},
		"docker/plain-http":              {Docker{}, "plain", tree{"/etc/docker/daemon.json": `{"insecure-registries":["10.0.0.1:5000"]}`, "/var/run/docker.pid": "12\n"}, classic("[]")},
		"docker/containerd-store":        {Docker{}, "private", tree{"/etc/docker/certs.d/quay.io/hosts.toml": theirs}, programs{"docker info": newInfo}},
		"docker/containerd-store-closed": {Docker{}, "closed", tree{"/etc/docker/certs.d/quay.io/hosts.toml": theirs}, programs{"docker info": newInfo}},
		"docker/snap":                    {Docker{}, "public", tree{"/var/snap/docker/current/config/daemon.json": "{\n    \"log-level\":        \"error\"\n}\n"}, classic("[]")},
		"docker-desktop/bare":            {DockerDesktop{}, "public", tree{"/home/ann/.docker/daemon.json": "{\n  \"builder\": {\n    \"gc\": {\n      \"enabled\": true\n    }\n  },\n  \"experimental\": false\n}"}, programs{"docker info": deskInfo}},
		"colima/bare":                    {Colima{}, "public", tree{"/home/ann/.colima/default/colima.yaml": "# Number of CPUs\ncpu: 2\n\n# Docker daemon configuration\n# EXAMPLE - docker: {insecure-registries: [x]}\ndocker: {}\n\n# Network\nnetwork:\n  address: false\n"}, programs{"colima version": "colima version 0.8.1\n"}},
		"containerd/1.6":                 {Containerd{}, "public", nil, containerd("1.6.20")},
		"containerd/1.7-of-docker":       {Containerd{}, "public", tree{"/etc/containerd/config.toml": "#   Copyright\n\ndisabled_plugins = [\"cri\"]\n\n#root = \"/var/lib/containerd\"\n", "/run/systemd/system/x": ""}, containerd("1.7.20")},
		"containerd/2.0":                 {Containerd{}, "private", tree{"/etc/containerd/config.toml": "version = 3\n\n[plugins]\n  [plugins.'io.containerd.cri.v1.images'] # images\n    snapshotter = 'overlayfs'\n\n    [plugins.'io.containerd.cri.v1.images'.registry]\n      config_path = ''\n", "/run/systemd/system/x": ""}, containerd("v2.0.4")},
		"containerd/2.2":                 {Containerd{}, "closed", tree{"/etc/containerd/certs.d/quay.io/hosts.toml": theirs}, containerd("v2.2.1")},
		"containerd/config-path":         {Containerd{}, "loopback", tree{"/etc/containerd/config.toml": "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry]\nconfig_path = \"/opt/certs.d:/etc/docker/certs.d\"\n"}, containerd("1.7.1")},
		"nerdctl/bare":                   {Nerdctl{}, "public", nil, programs{"nerdctl --version": "nerdctl version 2.0.0\n"}},
		"nerdctl/hosts-dir":              {Nerdctl{}, "loopback", tree{"/etc/nerdctl/nerdctl.toml": "hosts_dir = [\"/opt/hosts\"]\n"}, nil},
	}
}

// A dockerd that was told to read its file again does so a moment later: who pulls before
// has it ask the registry itself.
func TestNothingIsPulledBeforeDockerHasTakenUpTheMirror(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for fact, c := range map[string]struct {
			info  string // once it has
			after int    // how often it was asked before that
			most  time.Duration
		}{
			"it has":                     {fmt.Sprintf(classicInfo, `["https://mirror.test/"]`), 0, 0},
			"it will have":               {fmt.Sprintf(classicInfo, `["https://mirror.test/"]`), 3, 300 * time.Millisecond},
			"the other store needs none": {newInfo, 3, 300 * time.Millisecond},
			"it never will":              {fmt.Sprintf(classicInfo, `["https://other.test/"]`), 3, takeUpTime},
		} {
			m, _ := machine(t, nil)
			m.Environ, m.UID, m.Command = nil, 0, classic("[]").run
			f, err := Docker{}.Detect(t.Context(), m)
			if err != nil {
				t.Fatal(err)
			}
			plan, err := Docker{}.Plan(t.Context(), m, f, Mirror{URL: "https://mirror.test", Host: "mirror.test"})
			if err != nil {
				t.Fatal(err)
			}
			asked := 0
			m.Command = func(ctx context.Context, name string, args ...string) ([]byte, error) {
				if name != "docker" || args[0] != "info" {
					return classic("[]").run(ctx, name, args...)
				}
				if asked++; asked <= c.after {
					return []byte(fmt.Sprintf(classicInfo, "[]")), nil
				}
				return []byte(c.info), nil
			}
			began := time.Now()
			plan.Proof.Await(t.Context(), m)
			if took := time.Since(began); took != c.most || asked <= c.after {
				t.Errorf("%s: it was waited for %v and asked %d times", fact, took, asked)
			}
		}
	})
}

// What each target writes on machines as people have them is in testdata/golden.
func TestGoldenMachines(t *testing.T) {
	all := mirrors(t)
	all["plain"] = Mirror{URL: "http://10.0.0.5:5000", Host: "10.0.0.5:5000", PlainHTTP: true, Registries: all["public"].Registries}
	for at, c := range machineCases() {
		t.Run(at, func(t *testing.T) {
			m, _ := machine(t, c.files)
			m.Environ, m.UID, m.Command = nil, 0, c.programs.run
			s := NewStore(m)
			before := look(t, m, s)
			f, err := c.target.Detect(t.Context(), m)
			if err != nil {
				t.Fatal(err)
			}
			p, err := c.target.Plan(t.Context(), m, f, all[c.mirror])
			if err != nil {
				t.Fatal(err)
			}
			compare(t, filepath.Join("testdata/golden", at), planned(p))
			if err := Apply(m, s, c.target.Name(), p); err != nil {
				t.Fatal(err)
			}
			if again, err := c.target.Plan(t.Context(), m, f, all[c.mirror]); err != nil || again.Changes() {
				t.Errorf("a second setup changes something: %v", err)
			}
			if _, _, _, err := Undo(m, s, c.target.Name(), false); err != nil {
				t.Fatal(err)
			}
			_ = os.RemoveAll(m.Path("/var/lib"))
			_ = os.Remove(m.Path("/var")) // where it is empty
			if after := look(t, m, s); fmt.Sprint(after) != fmt.Sprint(before) {
				t.Errorf("undone, there is %v, and was %v", after, before)
			}
		})
	}
}

func TestWhatCannotBeSetUpIsRefusedWithWhatToDo(t *testing.T) {
	private := mirrors(t)["private"]
	public := mirrors(t)["public"]
	for name, c := range map[string]struct {
		machineCase
		mirror Mirror
		say    string
	}{
		"a login for the classic store":     {machineCase{target: Docker{}, programs: classic("[]")}, private, "access code"},
		"a login for Docker Desktop":        {machineCase{target: DockerDesktop{}}, private, "access code"},
		"a login for colima":                {machineCase{target: Colima{}}, private, "access code"},
		"mirrors of the command line":       {machineCase{target: Docker{}, programs: classic(`["https://old.test/"]`)}, public, "command line"},
		"a daemon.json that is no JSON":     {machineCase{target: Docker{}, files: tree{"/etc/docker/daemon.json": "{\n  \"debug\": true,\n}"}, programs: classic("[]")}, public, "line 3"},
		"Docker Desktop by the other name":  {machineCase{target: Docker{}, programs: programs{"docker info": deskInfo}}, public, "sampan setup docker-desktop"},
		"a Docker on another machine":       {machineCase{target: Docker{}, programs: programs{"docker info": fmt.Sprintf(classicInfo, "[]"), "docker context": "ssh://far\n"}}, public, "run sampan setup on that machine"},
		"colima that never started":         {machineCase{target: Colima{}}, public, "colima start"},
		"a config.toml that is no TOML":     {machineCase{target: Containerd{}, files: tree{"/etc/containerd/config.toml": "a ="}}, public, "mend it first"},
		"deprecated tables":                 {machineCase{target: Containerd{}, files: tree{"/etc/containerd/config.toml": "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry.mirrors.\"*\"]\nendpoint = [\"https://a\"]\n"}}, public, "certs.d/_default/hosts.toml:  [host.\"https://a\"]"},
		"an inline table":                   {machineCase{target: Containerd{}, files: tree{"/etc/containerd/config.toml": "version = 2\nplugins = {\"io.containerd.grpc.v1.cri\" = {registry = {}}}\n"}}, public, "Write there yourself"},
		"a hosts.toml that is no TOML":      {machineCase{target: Nerdctl{}, files: tree{"/etc/containerd/certs.d/quay.io/hosts.toml": "["}}, public, "hosts.toml cannot be read"},
		"a nerdctl.toml that is no TOML":    {machineCase{target: Nerdctl{}, files: tree{"/etc/nerdctl/nerdctl.toml": "["}}, public, "nerdctl.toml cannot be read"},
		"a daemon.json that is a directory": {machineCase{target: Docker{}, files: tree{"/etc/docker/daemon.json/x": ""}}, public, "directory"},
	} {
		t.Run(name, func(t *testing.T) {
			m, s := machine(t, c.files)
			m.Environ, m.UID, m.Command = nil, 0, c.programs.run
			before := look(t, m, s)
			f, err := c.target.Detect(t.Context(), m)
			if err == nil {
				_, err = c.target.Plan(t.Context(), m, f, c.mirror)
			}
			if err == nil || !strings.Contains(err.Error(), c.say) {
				t.Errorf("got %v, want %q", err, c.say)
			}
			if r := (*Refusal)(nil); errors.As(err, &r) && r.Text.Chinese == "" {
				t.Error("it is not said in Chinese")
			}
			if after := look(t, m, s); fmt.Sprint(after) != fmt.Sprint(before) {
				t.Errorf("something changed: %v", after)
			}
		})
	}
}

// A login, a code, or certificates that changed replace what an earlier setup wrote, and
// what others wrote stays where it was.
func TestALaterSetupReplacesWhatAnEarlierOneWrote(t *testing.T) {
	m, s := machine(t, tree{"/etc/containerd/certs.d/docker.io/hosts.toml": "[host.\"https://old.test\"]\n  capabilities = [\"pull\"] # theirs\n"})
	m.Environ, m.UID, m.Command = nil, 0, programs{}.run
	mirror := mirrors(t)["loopback"]
	for _, change := range []func(){
		func() {}, func() { mirror.Username, mirror.Password = "ann", "one" }, func() { mirror.Password = "two" },
		func() { mirror.NoFallback = true }, func() { mirror.Username, mirror.NoFallback = "", false },
	} {
		change()
		p, err := Nerdctl{}.Plan(t.Context(), m, Found{}, mirror)
		if err != nil {
			t.Fatal(err)
		}
		if err := Apply(m, s, "nerdctl", p); err != nil {
			t.Fatal(err)
		}
		raw, err := m.Read("/etc/containerd/certs.d/docker.io/hosts.toml")
		if err != nil {
			t.Fatal(err)
		}
		text := string(raw)
		if strings.Count(text, "[host.\"http://localhost:5000\"]") != 1 || strings.Count(text, "Authorization") > 1 ||
			strings.Contains(text, "Authorization") != (mirror.Username != "") || !strings.Contains(text, "# theirs") ||
			strings.Index(text, "localhost") > strings.Index(text, "old.test") {
			t.Errorf("with %+v:\n%s", mirror, text)
		}
	}
	mirror.Replace = true
	p, err := Nerdctl{}.Plan(t.Context(), m, Found{}, mirror)
	if err != nil || len(p.Files) != 1 || strings.Contains(string(p.Files[0].After), "old.test") {
		t.Errorf("replaced: %+v, %v", p, err)
	}
}

func TestEveryRegistryHasADirectoryOfItsOwnAndTheRestOne(t *testing.T) {
	m, _ := machine(t, nil)
	m.Environ, m.UID, m.Command = nil, 0, programs{}.run
	mirror := mirrors(t)["public"]
	mirror.Every, mirror.NoFallback = true, true
	p, err := Nerdctl{}.Plan(t.Context(), m, Found{}, mirror)
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(p.Files, func(f File) bool { return f.Path == "/etc/containerd/certs.d/_default/hosts.toml" })
	if i < 0 || !strings.HasPrefix(string(p.Files[i].After), "server = \"https://mirror.example.com\"\n") || len(p.Files) != 6 {
		t.Errorf("got %+v", p.Files)
	}
}

func TestVersions(t *testing.T) {
	for version, want := range map[string]bool{"2.2.0": true, "v2.2.1": true, "2.10": true, "3.0.0": true, "2.1.9": false, "1.7.2": false, "": false, "2": false, "x.2": false, "2.x": false} {
		if got := atLeast(version, 2, 2); got != want {
			t.Errorf("%q: %v", version, got)
		}
	}
}

// A link out of another machine's files would change this one.
func TestLinksThatLeadNowhereOrOutAreRefused(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "daemon.json")
	if err := os.WriteFile(outside, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ link, target, say string }{
		"out":                {"/etc/docker/daemon.json", outside, "leads out"},
		"a directory out":    {"/etc/docker", filepath.Dir(outside), "leads out"},
		"nowhere":            {"/etc/docker/daemon.json", "gone", "leads nowhere"},
		"to another in here": {"/etc/docker/daemon.json", "../real.json", ""},
	} {
		t.Run(name, func(t *testing.T) {
			m, s := machine(t, tree{"/etc/real.json": "{}", "/x": ""})
			m.Environ, m.UID, m.Command = nil, 0, classic("[]").run
			if err := errors.Join(os.MkdirAll(filepath.Dir(m.Path(c.link)), 0o755), os.Symlink(c.target, m.Path(c.link))); err != nil {
				t.Fatal(err)
			}
			f, err := Docker{}.Detect(t.Context(), m)
			var p *Plan
			if err == nil {
				if p, err = (Docker{}).Plan(t.Context(), m, f, mirrors(t)["public"]); err == nil {
					err = Apply(m, s, "docker", p)
				}
			}
			if c.say != "" {
				if err == nil || !strings.Contains(err.Error(), c.say) {
					t.Errorf("got %v", err)
				}
				if raw, _ := os.ReadFile(outside); string(raw) != "{}" {
					t.Errorf("outside there is %s", raw)
				}
				return
			}
			if raw, _ := m.Read("/etc/real.json"); err != nil || !strings.Contains(string(raw), "mirror.example.com") {
				t.Fatalf("%v, %s", err, raw)
			}
			if _, _, _, err := Undo(m, s, "docker", false); err != nil {
				t.Fatal(err)
			}
			if at, err := os.Readlink(m.Path(c.link)); err != nil || at != c.target {
				t.Errorf("the link is %s, %v", at, err)
			}
			if raw, _ := m.Read("/etc/real.json"); string(raw) != "{}" {
				t.Errorf("undone, there is %s", raw)
			}
		})
	}
}
