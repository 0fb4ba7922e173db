package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sampan/internal/app"
	"sampan/internal/config"
	"sampan/internal/registrytest"
)

// The commands over a running mirror do what their names say.
func TestCacheCommandsLookAfterWhatIsHere(t *testing.T) {
	t.Setenv("LC_ALL", "C")
	up := registrytest.StartTest(t, registrytest.Options{})
	for tag, seed := range map[string]uint64{"1": 1, "2": 2} {
		up.AddImage("team/app", tag, registrytest.ImageSpec{Layers: []int64{30_000}, Seed: seed})
	}
	dir := t.TempDir()
	token := filepath.Join(dir, "token")
	if err := os.WriteFile(token, []byte("very-secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "sampan.yaml")
	text := fmt.Sprintf("listen: 127.0.0.1:0\nadmin: {listen: '127.0.0.1:0', token_file: %s}\ndata: {dir: %s}\nupstreams: {up.test: {endpoints: [{url: %q}]}}\n"+
		"schedule: [{name: nightly, cron: 30 3 * * *, do: purge, registry: up.test, dry_run: true}]\n", token, filepath.Join(dir, "data"), up.URL())
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := config.Load(config.Source{File: file, Environ: []string{"HOME=" + dir}})
	if err != nil {
		t.Fatal(err)
	}
	a, err := app.New(app.Options{Config: c, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		http.DefaultClient.CloseIdleConnections()
	})
	run := func(args ...string) (string, error) {
		var out bytes.Buffer
		cmd := newRoot()
		cmd.SetOut(&out)
		cmd.SetArgs(append([]string{"cache"}, append(args, "--admin", "http://"+a.AdminAddr(), "--admin-token-file", token)...))
		err := cmd.ExecuteContext(t.Context())
		return out.String(), err
	}
	want := func(text string, args ...string) {
		t.Helper()
		out, err := run(args...)
		if err != nil || !strings.Contains(out, text) {
			t.Errorf("%v: %v, %s", args, err, out)
		}
	}
	want("done", "prefetch", "up.test/team/app:1", "up.test/team/app:2")
	want("up.test/team/app\n", "ls")
	want("here", "ls", "up.test/team/app")
	want("100%", "verify")
	want(`"state":"done"`, "verify", "-o", "json")
	want("0 fetches, 0 pulls", "top")
	want("up.test", "du")
	want("", "pin", "up.test/team/app:1")
	want("here, pinned", "ls", "up.test/team/app")
	if out, err := run("rm", "up.test/team/app:1"); err == nil || !strings.Contains(err.Error(), "pinned") {
		t.Errorf("%s, %v", out, err)
	}
	spoil(t, filepath.Join(dir, "data"))
	var found *rotten
	if out, err := run("verify"); !errors.As(err, &found) || found.rotten != 1 || !strings.Contains(out, "1 rotten") {
		t.Errorf("%s, %v", out, err)
	}
	want("0 rotten", "verify")
	want("done", "prefetch", "up.test/team/app:1", "up.test/team/app:2")
	want("would be deleted", "purge", "--registry", "up.test", "--dry-run")
	want("1 tags, 1 manifests and 2 blobs deleted", "rm", "up.test/team/app:2")
	want("up.test/team/app:1 is pinned and stays", "purge", "--all")
	want("", "unpin", "up.test/team/app:1")
	want("0 tags", "purge", "--older-than", "720h")
	want("nightly  purge  30 3 * * *", "tasks")
	want(`"name":"nightly"`, "tasks", "-o", "json")
	want("nightly", "tasks", "--run", "nightly")
	for outcome := ""; !strings.Contains(outcome, "1 tags, 1 manifests and 2 blobs would be deleted"); {
		var err error
		if outcome, err = run("tasks"); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := run("tasks", "--run", "none"); err == nil || !strings.Contains(err.Error(), "no such task") {
		t.Errorf("%s, %v", out, err)
	}
	want("1 tags", "purge", "--pattern", "team/*")
	out, err := run("du", "-o", "json")
	var usage struct{ Blobs int }
	if json.Unmarshal([]byte(out), &usage) != nil || err != nil || usage.Blobs != 0 {
		t.Errorf("%s, %v", out, err)
	}
	if out, err := run("prefetch", "up.test/team/none:1"); err == nil || !strings.Contains(out, "failed") {
		t.Errorf("%s, %v", out, err)
	}
	for _, args := range [][]string{{"rm"}, {"ls", "UP"}, {"purge"}, {"du", "x"}, {"ls", "-o", "xml"}} {
		var mistake *usageError
		if _, err := run(args...); !errors.As(err, &mistake) {
			t.Errorf("%v: %v", args, err)
		}
	}
	if _, err := run("purge", "--dry-run"); err == nil || !strings.Contains(err.Error(), "--all") {
		t.Errorf("who purges without saying what is told %v", err)
	}
}

// spoil changes a bit of one of the blobs.
func spoil(t *testing.T, dir string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "blobs", "sha256", "*", "*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%v, %v", files, err)
	}
	b, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	if err := os.WriteFile(files[0], b, 0o600); err != nil {
		t.Fatal(err)
	}
}
