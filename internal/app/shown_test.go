package app_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"sampan/internal/app"
	"sampan/internal/config"
)

// Two configurations that differ in every section, but for those that need files. Of
// DIR is where the data are.
const (
	shownBefore = `listen: 127.0.0.1:0
admin: {listen: '127.0.0.1:0'}
data: {dir: DIR/data, max_size: 1GiB}
upstreams: {one.test: {endpoints: [{url: 'http://127.0.0.1:9'}]}}
`
	shownAfter = `listen: 127.0.0.1:9
tls: {http2: false}
limits: {connections: 7}
trusted_proxies: [192.0.2.0/24]
proxy_protocol: true
cors_origins: ['https://ui.example.com']
admin: {listen: 'off'}
data: {dir: DIR/data, max_size: 2GiB}
domain: mirror.example.com
default: one.test
page: false
offline: true
tags: {fresh_for: 5m}
fetch: {lines: 3}
shutdown: {grace: 1s}
log: {level: debug, access: false, audit: DIR/audit.log}
tracing: {endpoint: 'http://127.0.0.1:9'}
users: [{name: ann, password: geheimnis}]
codes: [{name: door, code: a-long-code-of-the-door}]
access: [{action: allow, users: [ann]}]
policy: {deny: [{repositories: ['one.test/evil/*']}]}
schedule: [{name: read, cron: 0 3 * * *, do: scrub}]
egress: {proxy: 'http://127.0.0.1:9'}
upstreams: {one.test: {endpoints: [{url: 'http://127.0.0.1:8'}]}, two.test: {}}
aliases: {old.test: one.test}
`
)

// sections are those of a configuration that is shown.
func sections(t *testing.T, text []byte) map[string]any {
	t.Helper()
	var m map[string]any
	if err := yaml.Unmarshal(text, &m); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return m
}

// After a reload the operator is told what is in force: the new values, and of what a
// restart puts into force the old ones. The log says the same of each.
func TestTheConfigurationThatIsToldIsTheOneInForce(t *testing.T) {
	for name, tc := range map[string]struct {
		setLog func(config.Log)
		fixed  []string // sections that stay as they were
		log    map[string]any
	}{
		"when logs can change": {
			func(config.Log) {}, nil,
			map[string]any{"level": "debug", "format": "text", "access": false, "audit": "off"},
		},
		"when logs cannot": {nil, []string{"log"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			file := filepath.Join(dir, "sampan.yaml")
			read := func() (*config.Config, error) { return config.Load(config.Source{File: file}) }
			write := func(text string) *config.Config {
				t.Helper()
				if err := os.WriteFile(file, []byte(strings.ReplaceAll(text, "DIR", dir)), 0o600); err != nil {
					t.Fatal(err)
				}
				c, err := read()
				if err != nil {
					t.Fatal(err)
				}
				return c
			}
			c := write(shownBefore)
			log := &lockedBuffer{}
			a, err := app.New(app.Options{Config: c, Load: read, SetLog: tc.setLog, Log: slog.New(slog.NewTextHandler(log, nil))})
			if err != nil {
				t.Fatal(err)
			}
			ctx, stop := context.WithCancel(t.Context())
			m := &mirror{app: a, stop: stop, ended: make(chan error, 1), client: &http.Client{Transport: &http.Transport{}}}
			go func() { m.ended <- a.Run(ctx) }()
			t.Cleanup(func() { m.end(t) })
			told := func() map[string]any {
				t.Helper()
				return sections(t, []byte(m.admin(t, 200, "GET", "/api/v1/config", "", "", nil)))
			}
			before := told()
			after := sections(t, shownOf(t, write(shownAfter)))
			if err := a.Reload(); err != nil {
				t.Fatal(err)
			}
			now := told()

			fixed := append([]string{"listen", "tls", "proxy_protocol", "admin", "data", "fetch", "offline", "shutdown", "tracing"}, tc.fixed...)
			want := maps.Clone(after)
			for _, key := range fixed {
				want[key] = before[key]
			}
			if tc.log != nil {
				want["log"] = tc.log
			}
			for key := range after {
				if reflect.DeepEqual(before[key], after[key]) {
					t.Errorf("%s is not changed by the test", key)
				}
				if !reflect.DeepEqual(now[key], want[key]) {
					t.Errorf("%s: told is %v, in force is %v", key, now[key], want[key])
				}
			}
			if len(now) != len(want) {
				t.Errorf("told are %v", slices.Sorted(maps.Keys(now)))
			}
			checkRestarts(t, log.take(), fixed)
			if text := fmt.Sprint(now); strings.Contains(text, "geheimnis") || strings.Contains(text, "a-long-code") {
				t.Errorf("a secret is told: %s", text)
			}
		})
	}
}

func shownOf(t *testing.T, c *config.Config) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := c.Show(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// checkRestarts holds what the log says of fields that need a restart against the
// sections that are told as they were.
func checkRestarts(t *testing.T, log string, fixed []string) {
	t.Helper()
	seen := make(map[string]bool)
	for line := range strings.Lines(log) {
		_, rest, ok := strings.Cut(line, "field=")
		if !ok {
			continue
		}
		field, _, _ := strings.Cut(rest, " ")
		section, _, _ := strings.Cut(field, ".")
		section, _, _ = strings.Cut(section, "[")
		needed := slices.Contains(fixed, section) || field == "log.audit"
		if strings.Contains(line, "takes effect after a restart") != needed {
			t.Errorf("%s", line)
		}
		seen[section] = true
	}
	for _, section := range fixed {
		if !seen[section] {
			t.Errorf("the log does not tell of %s:\n%s", section, log)
		}
	}
}
