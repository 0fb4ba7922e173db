package main

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sampan/internal/client"
	"sampan/internal/proof"
	"sampan/internal/runtimes"
)

// A dockerMachine is one with a Docker that has the classic image store.
type dockerMachine struct {
	mirrors string   // that its daemon knows, as JSON
	answers string   // what has the images: "mirror", "registry", or nothing
	ran     []string // what was run, beside questions
}

func (d *dockerMachine) run(_ context.Context, name string, args ...string) ([]byte, error) {
	line := strings.Join(append([]string{name}, args...), " ")
	switch {
	case strings.HasPrefix(line, "docker info"):
		return fmt.Appendf(nil, `{"ServerVersion":"20.10.24","RegistryConfig":{"Mirrors":%s}}`, d.mirrors), nil
	case strings.HasPrefix(line, "docker context"):
		return []byte("unix:///var/run/docker.sock\n"), nil
	case d.answers == "no docker":
		return nil, fmt.Errorf("%s: %w", name, exec.ErrNotFound)
	}
	d.ran = append(d.ran, line)
	if strings.HasPrefix(line, "docker pull") && (strings.Contains(line, proof.Path) && d.answers != "mirror" || d.answers == "nobody") {
		return nil, errors.New("manifest unknown")
	}
	return nil, nil
}

// answering is a mirror that answers every request in one way.
func answering(t *testing.T, status int, digest string) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodHead || !strings.HasPrefix(r.URL.Path, "/v2/"+proof.Path+"/manifests/") || r.URL.Query().Get("ns") != "docker.io" {
			t.Errorf("asked for %s %s", r.Method, r.URL)
		}
		w.Header().Set("Docker-Content-Digest", digest)
		w.WriteHeader(status)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// setUp runs the command for Docker on a machine.
func setUp(t *testing.T, d *dockerMachine, change func(*setup)) (said string, machine *runtimes.Machine, err error) {
	t.Helper()
	m := &runtimes.Machine{Root: t.TempDir(), Home: "/root", Command: d.run}
	if err := os.MkdirAll(m.Path("/run/systemd/system"), 0o755); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	s := &setup{target: runtimes.Docker{}, machine: m, store: runtimes.NewStore(m), in: strings.NewReader(""), out: &out}
	s.client.file = filepath.Join(t.TempDir(), "client.yaml")
	if err := os.WriteFile(s.client.file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s.client.set.Mirror, s.yes = answering(t, http.StatusOK, proof.Digest().String()), true
	change(s)
	err = s.do(t.Context())
	return out.String(), m, err
}

// Who answered is what is said, and nothing else is a proof.
func TestSetupTellsWhoAnswered(t *testing.T) {
	for name, c := range map[string]struct {
		answers string
		change  func(*setup)
		said    string // in the output, or in the error
		proven  bool
		pulls   int
	}{
		"the mirror":                        {"mirror", func(*setup) {}, "Proven: the mirror answered for docker.io.", true, 1},
		"the registry":                      {"registry", func(*setup) {}, "the registry itself answered for docker.io/library/hello-world:latest, and not the mirror", false, 2},
		"nobody":                            {"nobody", func(*setup) {}, "neither the mirror nor the registry answers the runtime: ", false, 2},
		"nobody, and the registry must not": {"nobody", func(s *setup) { s.noFallback = true }, "not proven: ", false, 1},
		"there is nothing to pull with":     {"no docker", func(*setup) {}, "no command that pulls with this runtime is here", false, 0},
		"nobody was asked":                  {"nobody", func(s *setup) { s.noProve = true }, "Nothing has to change.", true, 0},
	} {
		t.Run(name, func(t *testing.T) {
			d := &dockerMachine{answers: c.answers}
			said, _, err := setUp(t, d, func(s *setup) {
				d.mirrors = `["` + s.client.set.Mirror + `/"]` // it was set up before
				daemonJSON(t, s.machine, "{\"registry-mirrors\": [\""+s.client.set.Mirror+"\"]}")
				c.change(s)
			})
			if (err == nil) != c.proven {
				t.Errorf("it ended with %v", err)
			}
			if all := said + fmt.Sprint(err); !strings.Contains(all, c.said) {
				t.Errorf("it was said %q, not %q", all, c.said)
			}
			if got := len(d.pulled()); got != c.pulls {
				t.Errorf("%d pulls: %q", got, d.ran)
			}
		})
	}
}

func daemonJSON(t *testing.T, m *runtimes.Machine, content string) {
	t.Helper()
	if err := os.MkdirAll(m.Path("/etc/docker"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(m.Path("/etc/docker/daemon.json"), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// pulled are the commands that pulled.
func (d *dockerMachine) pulled() []string {
	return slices.DeleteFunc(slices.Clone(d.ran), func(line string) bool { return !strings.HasPrefix(line, "docker pull") })
}

func TestSetupReloadsWhereThatIsAllowedAlone(t *testing.T) {
	const reload = "systemctl reload docker"
	d := &dockerMachine{answers: "mirror", mirrors: "[]"}
	said, _, err := setUp(t, d, func(*setup) {})
	if err == nil || slices.Contains(d.ran, reload) || len(d.pulled()) > 0 || !strings.Contains(said, "To be run, or say --restart: "+reload) {
		t.Errorf("without --restart: %v, %q, %s", err, d.ran, said)
	}
	d = &dockerMachine{answers: "mirror", mirrors: "[]"}
	said, m, err := setUp(t, d, func(s *setup) { s.restart = true })
	if err != nil || len(d.ran) != 3 || d.ran[0] != reload || !strings.HasPrefix(d.ran[1], "docker pull") || !strings.HasPrefix(d.ran[2], "docker image rm") {
		t.Errorf("with --restart: %v, %q, %s", err, d.ran, said)
	}

	// Undone, dockerd is told that there are no mirrors before the file goes.
	d.ran = nil
	var out bytes.Buffer
	s := &setup{target: runtimes.Docker{}, machine: m, store: runtimes.NewStore(m), out: &out}
	s.restart = true
	if err := s.takeBack(t.Context()); err != nil || !slices.Equal(d.ran, []string{reload, reload}) || m.Exists("/etc/docker") {
		t.Errorf("undone: %v, %q, %s", err, d.ran, out.String())
	}
}

func TestADryRunWritesNothing(t *testing.T) {
	d := &dockerMachine{answers: "mirror", mirrors: "[]"}
	said, m, err := setUp(t, d, func(s *setup) { s.dryRun = true })
	if err != nil || m.Exists("/etc") || m.Exists("/var") || len(d.ran) > 0 || !strings.Contains(said, "+++ /etc/docker/daemon.json") {
		t.Errorf("%v, %q, %s", err, d.ran, said)
	}
}

// A mirror that cannot prove itself is told before anything changes.
func TestSetupAsksTheMirrorFirst(t *testing.T) {
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	for name, c := range map[string]struct{ mirror, said string }{
		"it wants a login":     {answering(t, http.StatusUnauthorized, ""), "wants to know who you are"},
		"it refuses":           {answering(t, http.StatusForbidden, ""), "does not let you in: 403 Forbidden"},
		"it is no sampan":      {answering(t, http.StatusNotFound, ""), "is no sampan that can prove itself"},
		"it has another image": {answering(t, http.StatusOK, "sha256:"+strings.Repeat("0", 64)), "is no sampan that can prove itself"},
		"it is not there":      {closed.URL, "does not answer"},
	} {
		t.Run(name, func(t *testing.T) {
			d := &dockerMachine{answers: "mirror", mirrors: "[]"}
			_, m, err := setUp(t, d, func(s *setup) { s.client.set.Mirror = c.mirror })
			if err == nil || !strings.Contains(err.Error(), c.said) || !strings.Contains(err.Error(), "Nothing was changed.") {
				t.Errorf("got %v", err)
			}
			if m.Exists("/etc") || len(d.ran) > 0 {
				t.Errorf("something was done: %q", d.ran)
			}
		})
	}
}

// The mirror's certificate is checked against the person's authority, and the login is
// sent.
func TestSetupTrustsThePersonsAuthority(t *testing.T) {
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user != "ann" || password != "geheim" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.Header().Set("Docker-Content-Digest", proof.Digest().String())
	}))
	defer s.Close()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	m := &client.Mirror{Address: strings.TrimPrefix(s.URL, "https://"), Username: "ann", Password: "geheim"}
	if err := askForProof(t.Context(), m); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a stranger is trusted: %v", err)
	}
	m.CA = ca
	if err := askForProof(t.Context(), m); err != nil {
		t.Error(err)
	}
	m.Password = "falsch"
	if err := askForProof(t.Context(), m); err == nil || !strings.Contains(err.Error(), "does not let you in") {
		t.Errorf("a wrong password: %v", err)
	}
}
