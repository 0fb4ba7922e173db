package app_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"sampan/internal/app"
	"sampan/internal/config"
	"sampan/internal/registrytest"
)

// Who is behind a proxy, and how many may come, is what the configuration says now.
func TestBoundsOfClientsTakeEffectWhileItRuns(t *testing.T) {
	up := registrytest.StartTest(t, registrytest.Options{})
	up.AddImage("team/app", "1", registrytest.ImageSpec{})
	text := fmt.Sprintf("upstreams: {up.test: {endpoints: [{url: %q}]}}\naccess: [{action: allow, networks: [192.0.2.0/24]}]\n", up.URL())
	m := startReloadable(t, text)
	const path = "/v2/up.test/team/app/manifests/1"
	ask := func(c *http.Client) (int, error) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+m.app.Addr()+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-Forwarded-For", "192.0.2.7")
		resp, err := c.Do(req)
		if err != nil {
			return 0, err
		}
		return resp.StatusCode, resp.Body.Close()
	}
	if status, err := ask(m.client); status != http.StatusForbidden {
		t.Fatalf("who trusts nobody: %d, %v", status, err)
	}
	reload := func(more string) {
		t.Helper()
		m.log.take()
		m.write(t, text+more)
		if err := m.app.Reload(); err != nil {
			t.Fatal(err)
		}
		if log := m.log.take(); strings.Contains(log, "after a restart") || !strings.Contains(log, "configuration changed") {
			t.Errorf("%s", log)
		}
	}
	const trusted = "trusted_proxies: [127.0.0.0/8]\n"
	reload(trusted + "limits: {connections: 1}\n")
	if status, err := ask(m.client); status != http.StatusOK { // on the connection that it has
		t.Errorf("the proxy's word: %d, %v", status, err)
	}
	another := &http.Client{Transport: &http.Transport{}}
	defer another.CloseIdleConnections()
	if status, err := ask(another); err == nil {
		t.Errorf("a second connection: %d", status)
	}
	reload(trusted + "limits: {connections: 2, min_rate: 1MiB}\n")
	if status, err := ask(another); status != http.StatusOK {
		t.Errorf("when there may be two: %d, %v", status, err)
	}
	reload("limits: {connections: 2}\n")
	if status, err := ask(m.client); status != http.StatusForbidden {
		t.Errorf("when nobody is trusted again: %d, %v", status, err)
	}
}

func TestLogsTakeAnotherFormWhileTheyAreWritten(t *testing.T) {
	var errs, out bytes.Buffer
	logs := app.NewLogs(config.Log{Level: "info", Format: "text", Access: true}, &errs, &out)
	log, access := logs.Process().With("part", "one").WithGroup("g"), logs.Access()
	write := func() (process, requests string) {
		errs.Reset()
		out.Reset()
		log.Debug("detail", "k", 1)
		log.Info("fact", "k", 2)
		access.Info("request", "status", 200)
		return errs.String(), out.String()
	}
	if p, a := write(); strings.Contains(p, "detail") || !strings.Contains(p, "msg=fact part=one g.k=2") || !strings.Contains(a, "status=200") {
		t.Errorf("%q, %q", p, a)
	}
	logs.Set(config.Log{Level: "debug", Format: "json", Access: true})
	if p, a := write(); !strings.Contains(p, `"detail"`) || !strings.Contains(p, `"part":"one","g":{"k":2}`) || !strings.Contains(a, `"status":200`) {
		t.Errorf("%q, %q", p, a)
	}
	logs.Set(config.Log{Level: "error", Format: "text"})
	if p, a := write(); p != "" || a != "" || access.Enabled(context.Background(), slog.LevelInfo) {
		t.Errorf("%q, %q", p, a)
	}
	logs.Set(config.Log{Level: "info", Format: "text", Access: true, AccessFormat: "json"})
	if p, a := write(); !strings.Contains(p, "msg=fact") || !strings.Contains(a, `"status":200`) {
		t.Errorf("%q, %q", p, a)
	}
}
