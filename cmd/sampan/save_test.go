package main

import (
	"bytes"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sampan/internal/oci"
	"sampan/internal/registrytest"
	"sampan/internal/transfer/archive"
)

// person runs sampan as somebody who has no settings, in a directory of their own, and
// returns what was printed.
func person(t *testing.T) func(args ...string) (string, error) {
	t.Helper()
	t.Chdir(t.TempDir())
	t.Setenv("LC_ALL", "C")
	t.Setenv("HOME", t.TempDir())
	t.Setenv("XDG_CONFIG_HOME", "")
	t.Setenv("DOCKER_CONFIG", "")
	t.Setenv("SAMPAN_MIRROR", "")
	return func(args ...string) (string, error) {
		var out bytes.Buffer
		root := newRoot()
		root.SetOut(&out)
		root.SetErr(&bytes.Buffer{})
		root.SetIn(strings.NewReader(""))
		root.SetArgs(args)
		err := root.ExecuteContext(t.Context())
		return out.String(), err
	}
}

func must(t *testing.T) func(out string, err error) string {
	return func(out string, err error) string {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
}

func twoPlatforms() registrytest.ImageSpec {
	return registrytest.ImageSpec{Platforms: []oci.Platform{{OS: "linux", Architecture: "amd64"}, {OS: "linux", Architecture: "arm64"}}}
}

func TestSaveWritesAnArchiveAndWhatIsInIt(t *testing.T) {
	run := person(t)
	r := registrytest.StartTest(t, registrytest.Options{})
	image := r.AddImage("team/app", "1", twoPlatforms())
	name := r.Host() + "/team/app:1"
	out := must(t)(run("save", name, "-o", "app.tar", "--platform", "linux/arm64"))
	if want := name + "  " + image.Platforms[1].Descriptor.Digest.String() + "\n"; !strings.HasPrefix(out, want) || !strings.Contains(out, "app.tar: 2 blobs") {
		t.Errorf("it says %q", out)
	}
	for _, beside := range []string{"app.tar.sha256sum", "app.tar.bundle.json"} {
		if _, err := os.Stat(beside); err != nil {
			t.Error(err)
		}
	}
	if out := must(t)(run("load", "-i", "app.tar", "--list")); out != name+"  "+image.Platforms[1].Descriptor.Digest.String()+"\n" {
		t.Errorf("it lists %q", out)
	}
	must(t)(run("save", name, "-o", "all.tar.zst", "--platform", "all", "--volume", "1MiB", "--bare"))
	if out := must(t)(run("load", "-i", "all.tar.zst", "--list")); !strings.Contains(out, image.Manifest.Descriptor.Digest.String()) {
		t.Errorf("it lists %q", out)
	}
	if files, _ := filepath.Glob("all.tar.zst*"); len(files) != 1 || files[0] != "all.tar.zst.001" {
		t.Errorf("there are %v", files)
	}
}

func TestSaveGoesThroughTheMirrorThatWasNamed(t *testing.T) {
	run := person(t)
	mirror := registrytest.StartTest(t, registrytest.Options{})
	image := mirror.AddImage("docker.io/library/nginx", "1", registrytest.ImageSpec{})
	own := registrytest.StartTest(t, registrytest.Options{})
	own.AddImage("app", "1", registrytest.ImageSpec{Seed: 3})
	out := must(t)(run("save", "nginx:1", own.Host()+"/app:1", "--mirror", mirror.Host(), "-o", "x.tar", "--platform", "all"))
	if !strings.HasPrefix(out, own.Host()+"/app:1  ") || !strings.Contains(out, "\nnginx:1  "+image.Manifest.Descriptor.Digest.String()+"\n") {
		t.Errorf("it says %q", out)
	}
	if mirror.Count(registrytest.KindManifest) == 0 || own.Count(registrytest.KindManifest) == 0 {
		t.Error("the mirror serves the one, and the registry that it does not serve the other")
	}
}

// An engine gets what it can run: artifacts, signatures among them, fail its load or are
// passed over, and are not told as loaded.
func TestAnEngineGetsImagesAlone(t *testing.T) {
	run := person(t)
	engine := filepath.Join(t.TempDir(), "docker")
	if err := os.WriteFile(engine, []byte("#!/bin/sh\ntest \"$1\" != load || exec cat >loaded.tar\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", filepath.Dir(engine)+":"+os.Getenv("PATH"))
	r := registrytest.StartTest(t, registrytest.Options{})
	image := r.AddImage("team/app", "1", registrytest.ImageSpec{})
	r.AddArtifact("team/app", "", "application/spdx+json", image.Manifest.Descriptor, []byte("sbom"))
	r.AddChart("team/chart", "chart", "1.0.0")
	app, chart := r.Host()+"/team/app:1", r.Host()+"/team/chart:1.0.0"
	must(t)(run("save", app, chart, "--referrers", "-o", "x.tar"))
	out := must(t)(run("load", "-i", "x.tar", "--engine", "docker"))
	if want := app + "  " + image.Manifest.Descriptor.Digest.String() + "\n"; out != want {
		t.Errorf("it says %q, want %q", out, want)
	}
	a, err := archive.Open(t.Context(), "loaded.tar", archive.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if got := a.Images(); len(got) != 1 || got[0].Ref.String() != app {
		t.Errorf("the engine got %v", got)
	}
	if out, err := run("load", "-i", "x.tar", "--engine", "docker", chart); err == nil || !strings.Contains(err.Error(), "--to") {
		t.Errorf("an artifact alone: %q, %v", out, err)
	}
}

// One name of a target is that of the image, and not of its signatures.
func TestAnImageWithSignaturesIsLoadedUnderOneName(t *testing.T) {
	run := person(t)
	r := registrytest.StartTest(t, registrytest.Options{})
	image := r.AddImage("team/app", "1", registrytest.ImageSpec{})
	r.AddImage("team/app", "sha256-"+image.Manifest.Descriptor.Digest.Hex()+".sig", registrytest.ImageSpec{Seed: 9})
	must(t)(run("save", r.Host()+"/team/app:1", "--referrers", "-o", "x.tar"))
	to := r.Host() + "/other/app:2"
	if out := must(t)(run("load", "-i", "x.tar", "--to", to, "--dry-run", "-q")); out != to+"  "+image.Manifest.Descriptor.Digest.String()+"\n" {
		t.Errorf("it says %q", out)
	}
}

func TestSaveLeavesOutWhatTheOtherSideHas(t *testing.T) {
	run := person(t)
	r := registrytest.StartTest(t, registrytest.Options{})
	r.AddImage("app", "1", registrytest.ImageSpec{Layers: []int64{1000, 2000}})
	r.AddImage("app", "2", registrytest.ImageSpec{Layers: []int64{1000, 2000, 3000}})
	there := registrytest.StartTest(t, registrytest.Options{})
	image := there.AddImage("mirror/app", "1", registrytest.ImageSpec{Layers: []int64{1000, 2000}})
	one, two := r.Host()+"/app:1", r.Host()+"/app:2"
	must(t)(run("save", one, "-o", "1.tar"))
	for _, flag := range [][]string{{"--since", "1.tar.bundle.json"}, {"--since", "1.tar"}, {"--have", there.Host() + "/mirror/"}} {
		r.ResetCounts()
		out := must(t)(run(append([]string{"save", two, "-o", "2.tar"}, flag...)...))
		if !strings.Contains(out, "2.tar: 2 blobs") || !strings.Contains(out, "2 blobs left out") {
			t.Errorf("%v: it says %q", flag, out)
		}
		if n := r.Count(registrytest.KindBlob, http.MethodGet); n != 2 {
			t.Errorf("%v: %d blobs were fetched", flag, n)
		}
	}
	for _, d := range image.Blobs() {
		if n := there.BytesSentOf(d.Digest); n != 0 {
			t.Errorf("%d bytes of a blob were fetched of the other side", n)
		}
	}
}

func TestSaveTellsWhatItLeavesBehind(t *testing.T) {
	run := person(t)
	r := registrytest.StartTest(t, registrytest.Options{})
	image := r.AddImage("app", "1", registrytest.ImageSpec{})
	layer := image.Layers[0][0].Digest.String()
	_, err := run("save", r.Host()+"/none:1", "-o", "x.tar")
	if err == nil || !strings.Contains(err.Error(), "none:1") {
		t.Errorf("got %v", err)
	}
	if files, _ := filepath.Glob("*"); len(files) > 0 {
		t.Errorf("an image that is not there leaves %v", files)
	}
	r.Remove("app", layer)
	_, err = run("save", r.Host()+"/app:1", "-o", "x.tar")
	if err == nil || !strings.Contains(err.Error(), "run the same command again") || !strings.Contains(err.Error(), "x.tar.partial") {
		t.Errorf("got %v", err)
	}
}

func TestMistakesOfSaveAndLoad(t *testing.T) {
	run := person(t)
	for line, says := range map[string]string{
		"save a:1":                                      "say where to",
		"save -o x.tar":                                 "no image was named",
		"save A:1 -o x.tar":                             "lowercase",
		"save a:1 -o x.tar --format zip":                "oci or docker",
		"save a:1 -o x.tar --platform a/b/c/d":          "no platform",
		"save a:1 -o x.tar --volume 3":                  "at least 1MiB",
		"save a:1 -o x.tar --volume 4GB2":               "at least 1MiB",
		"save a:1 -o x.tar --volume -4GiB":              "at least 1MiB",
		"save a:1 -o x.tar --volume 99999999999999TiB":  "at least 1MiB",
		"save a:1 -o - --volume 4GiB":                   "no volumes",
		"save a:1 -o x.tar --plain-http a/b":            "name of a registry",
		"save localhost:1/a -o x.tar --have nginx":      "HOST/",
		"save localhost:1/a -o x.tar --since none.json": "none.json",
		"save localhost:1/a -o x.tar --since none.tar":  "none.tar",
		"load":                   "-i FILE",
		"load -i none.tar":       "no such archive",
		"load -i x --engine lxc": "docker, podman, nerdctl, containerd or auto",
		"load -i x --name A":     "lower",
	} {
		if _, err := run(strings.Fields(line)...); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", line, err)
		}
	}
	if files, _ := filepath.Glob("*"); len(files) > 0 {
		t.Errorf("left behind: %v", files)
	}
	var usage *usageError
	if _, err := run("save", "A:1", "-o", "x.tar"); !errors.As(err, &usage) {
		t.Errorf("a bad name is a mistake of the command: %v", err)
	}
}

func TestVolumeSizes(t *testing.T) {
	for s, want := range map[string]int64{"4GiB": 4 << 30, "4000MiB": 4000 << 20, "1500000": 1500000, "4GB": 4e9, "2G": 2 << 30} {
		if got, err := parseVolume(s); err != nil || got != want {
			t.Errorf("%s: %d, %v", s, got, err)
		}
	}
}
