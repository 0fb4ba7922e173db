package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/coreos/go-systemd/v22/unit"

	"sampan/internal/config"
)

const units = "../../deploy/systemd"

// readUnit gives the values of a unit's settings by "Section.Name".
func readUnit(t *testing.T, name string) map[string][]string {
	t.Helper()
	f, err := os.Open(filepath.Join(units, name))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	options, err := unit.DeserializeOptions(f)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	settings := map[string][]string{}
	for _, o := range options {
		settings[o.Section+"."+o.Name] = append(settings[o.Section+"."+o.Name], o.Value)
	}
	return settings
}

// The service runs a command that exists, with flags that it has.
func TestTheUnitStartsWhatThereIs(t *testing.T) {
	service := readUnit(t, "sampan.service")
	words := strings.Fields(strings.Join(service["Service.ExecStart"], " "))
	if len(words) < 2 || filepath.Base(words[0]) != "sampan" || words[1] != "serve" {
		t.Fatalf("it starts %q", words)
	}
	cmd := newServeCommand()
	if err := cmd.ParseFlags(words[2:]); err != nil {
		t.Errorf("%q: %v", words, err)
	}
	if data, state := cmd.Flag("data").Value.String(), service["Service.StateDirectory"]; !slices.Contains(state, filepath.Base(data)) || filepath.Dir(data) != "/var/lib" {
		t.Errorf("it may write to %q and keeps its data in %s", state, data)
	}
}

// The service has no rights but those of its user.
func TestTheUnitGivesNoRights(t *testing.T) {
	service := readUnit(t, "sampan.service")
	for name, want := range map[string]string{
		"User": "sampan", "CapabilityBoundingSet": "", "AmbientCapabilities": "", "NoNewPrivileges": "true",
		"ProtectSystem": "strict", "MemoryDenyWriteExecute": "true", "Type": "exec",
	} {
		if got, ok := service["Service."+name]; !ok || len(got) != 1 || got[0] != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if got := service["Service.SystemCallFilter"]; len(got) == 0 || got[0] != "@system-service" {
		t.Errorf("the filter of system calls is %q", got)
	}
}

// The configuration beside the units names the sockets that they hand over.
func TestTheUnitsHandOverWhatTheConfigurationNames(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(units, "sampan.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, file := range []string{"tls.crt", "tls.key"} {
		if err := os.WriteFile(filepath.Join(dir, file), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(dir, "sampan.yaml")
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(string(text), "/etc/sampan", dir)), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := config.Load(config.Source{File: file})
	if err != nil {
		t.Fatal(err)
	}
	service := readUnit(t, "sampan.service")
	ports := map[string]string{}
	for name := range strings.FieldsSeq(strings.Join(service["Service.Sockets"], " ")) {
		socket := readUnit(t, name)
		if got := socket["Socket.Service"]; !slices.Equal(got, []string{"sampan.service"}) {
			t.Errorf("%s is for %q", name, got)
		}
		ports["systemd:"+strings.Join(socket["Socket.FileDescriptorName"], " ")] = strings.Join(socket["Socket.ListenStream"], " ")
	}
	if len(ports) != 2 || !slices.Equal(c.Listen, []string{"systemd:https"}) || ports[c.Listen[0]] != "443" || ports[c.TLS.Redirect] != "80" {
		t.Errorf("the units have %v, the configuration %v and %q", ports, c.Listen, c.TLS.Redirect)
	}
}
