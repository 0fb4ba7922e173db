package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"sampan/internal/app"
	"sampan/internal/config"
	"sampan/internal/oci"
	"sampan/internal/registrytest"
)

// TestMain lets scripts run this program as "sampan".
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"sampan": func() { os.Exit(run()) }})
}

// TestScript runs testdata/script: each script states what a command does, with its
// files on the same page. They run in an empty directory, in English, with nobody's
// settings; $HOME is a directory of their own. Beside the usual commands there are
//
//	mirror      starts a mirror at $MIRROR whose admin listener is $ADMIN; its only
//	            registry is docker.io, at $UPSTREAM, with library/tiny:1 and me/app:1
//	registry    starts one at $REGISTRY, which has a/b:1 and is "private", for the account
//	            me with the password right, or "limited", for an hour
//	pull NAME   fetches a manifest and its blobs from the mirror, as clients do
func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"mirror":   scriptMirror,
			"registry": scriptRegistry,
			"pull":     scriptPull,
		},
		Setup: func(e *testscript.Env) error {
			home := e.Getenv("WORK") + "/home"
			e.Setenv("HOME", home)
			e.Setenv("LC_ALL", "C")
			return os.MkdirAll(home, 0o700)
		},
	})
}

// scriptMirror starts a registry and a mirror of it, which end with the script.
func scriptMirror(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: mirror")
	}
	up, err := registrytest.Start(registrytest.Options{})
	ts.Check(err)
	up.AddImage("library/tiny", "1", registrytest.ImageSpec{Layers: []int64{2000}, Seed: 1})
	up.AddImage("me/app", "1", registrytest.ImageSpec{Layers: []int64{3000}, Seed: 2})
	c, err := config.Load(config.Source{Environ: []string{"HOME=" + ts.Getenv("HOME")}, Flags: config.Flags{
		Listen: "127.0.0.1:0", AdminListen: "127.0.0.1:0", DataDir: filepath.Join(ts.Getenv("WORK"), "data"),
		Upstreams: []string{"docker.io=" + up.URL()},
	}})
	ts.Check(err)
	a, err := app.New(app.Options{Config: c, Log: slog.New(slog.DiscardHandler)})
	ts.Check(err)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	ts.Defer(func() {
		stop()
		ts.Check(<-ended)
		ts.Check(up.Close())
	})
	ts.Setenv("MIRROR", a.Addr())
	ts.Setenv("ADMIN", "http://"+a.AdminAddr())
	ts.Setenv("UPSTREAM", up.URL())
}

// scriptRegistry starts a registry, which ends with the script.
func scriptRegistry(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 || args[0] != "private" && args[0] != "limited" {
		ts.Fatalf("usage: registry private|limited")
	}
	var b registrytest.Behavior
	if args[0] == "private" {
		b.Challenge.Scheme = registrytest.SchemeBasic
		b.Token = registrytest.Token{Username: "me", Password: "right", Private: []string{"*"}}
	}
	up, err := registrytest.Start(registrytest.Options{Behavior: b})
	ts.Check(err)
	ts.Defer(func() { ts.Check(up.Close()) })
	up.AddImage("a/b", "1", registrytest.ImageSpec{Layers: []int64{2000}})
	if args[0] == "limited" {
		up.FailNext(registrytest.KindAny, -1, registrytest.TooMany(registrytest.TooManyECR, time.Hour))
	}
	ts.Setenv("REGISTRY", strings.TrimPrefix(up.URL(), "http://"))
}

// scriptPull fetches what a client would.
func scriptPull(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: pull library/tiny:1")
	}
	err := pullFrom(ts.Getenv("MIRROR"), args[0])
	if (err != nil) != neg {
		ts.Fatalf("pull %s: %v", args[0], err)
	}
}

// pullFrom fetches a manifest by its tag, and its blobs.
func pullFrom(mirror, name string) error {
	repo, tag, _ := strings.Cut(name, ":")
	raw, err := getFrom(mirror, repo, "manifests/"+tag)
	if err != nil {
		return err
	}
	g, err := oci.Manifest{Bytes: raw}.Graph()
	if err != nil {
		return err
	}
	for _, b := range g.Blobs {
		raw, err := getFrom(mirror, repo, "blobs/"+b.Digest.String())
		if err != nil {
			return err
		}
		if got := oci.DigestOf(raw); got != b.Digest {
			return fmt.Errorf("got %s, want %s", got, b.Digest)
		}
	}
	return nil
}

func getFrom(mirror, repo, what string) ([]byte, error) {
	resp, err := http.Get("http://" + mirror + "/v2/" + repo + "/" + what)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", what, resp.Status)
	}
	return raw, err
}
