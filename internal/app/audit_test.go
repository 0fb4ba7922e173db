package app_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sampan/internal/audit"
)

func TestDenialsAndActsAreWrittenDown(t *testing.T) {
	file := filepath.Join(t.TempDir(), "audit.log")
	text := func(reason string) string {
		return fmt.Sprintf("log: {audit: %s}\nusers: [{name: ann, password: geheim}]\naccess:\n  - {action: deny, repositories: ['docker.io/evil/*'], reason: %q}\n  - {action: allow, users: [ann]}\n", file, reason)
	}
	m := startReloadable(t, text("not here"))
	for _, password := range []string{"geheim", "wrong"} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+m.app.Addr()+"/v2/evil/x/manifests/1", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.SetBasicAuth("ann", password)
		resp, err := m.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
	}
	m.write(t, text("gone"))
	if err := m.app.Reload(); err != nil {
		t.Fatal(err)
	}
	m.write(t, "nonsense: true\n")
	if err := m.app.Reload(); err == nil {
		t.Fatal("nonsense is accepted")
	}
	m.end(t)
	all, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for line := range strings.Lines(string(all)) {
		var e audit.Event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		got = append(got, strings.TrimSpace(strings.Join([]string{e.Event, e.User, e.Client, e.Repository, e.Reason}, " ")))
		if e.Event == "denied" && (e.Request == "" || e.Path != "/v2/evil/x/manifests/1" || e.Method != http.MethodGet || e.Status < 400) {
			t.Errorf("%+v", e)
		}
	}
	want := []string{
		"started", "denied ann 127.0.0.1 docker.io/evil/x not here", "denied  127.0.0.1  wrong user name or password",
		"reloaded", "reload_refused", "stopped",
	}
	if len(got) != len(want) {
		t.Fatalf("got %q", got)
	}
	for i := range want {
		if !strings.HasPrefix(got[i], want[i]) {
			t.Errorf("line %d: %q, want %q", i, got[i], want[i])
		}
	}
	if strings.Contains(string(all), "geheim") {
		t.Error("a password is in it")
	}
}
