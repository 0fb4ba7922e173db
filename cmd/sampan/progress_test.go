package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"

	"sampan/internal/registrytest"
	"sampan/internal/runtimes/engine"
)

// writeProgram writes one that can be run.
func writeProgram(t *testing.T, path, script string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
}

func pathNow() string { return os.Getenv("PATH") }

func TestEveryCommandThatMovesBytesHasTheSameFlag(t *testing.T) {
	for _, args := range [][]string{
		{"copy", "a/b", "localhost:1/"}, {"sync", "-f", "none.yaml"}, {"save", "a/b", "-o", "x.tar"}, {"load", "-i", "x.tar"}, {"pull", "a/b"},
	} {
		run := person(t)
		_, err := run(append(args, "--progress", "xml")...)
		if usage := (*usageError)(nil); !errors.As(err, &usage) || !strings.Contains(err.Error(), `invalid argument "xml" for "--progress"`) {
			t.Errorf("%s --progress xml: %v", args[0], err)
		}
	}
}

// said runs sampan and returns what was written to both streams.
func said(t *testing.T, args ...string) (out, err string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	root := newRoot()
	root.SetOut(&stdout)
	root.SetErr(&stderr)
	root.SetIn(strings.NewReader(""))
	root.SetArgs(args)
	if err := root.ExecuteContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	return stdout.String(), stderr.String()
}

func TestProgressOfASave(t *testing.T) {
	person(t)
	r := registrytest.StartTest(t, registrytest.Options{})
	image := r.AddImage("team/app", "1", registrytest.ImageSpec{Layers: []int64{1000}})
	total := 1000 + image.Configs[0].Size
	save := func(flags ...string) (out, err string) {
		return said(t, append([]string{"save", r.Host() + "/team/app:1", "-o", "app.tar"}, flags...)...)
	}

	out, text := save("--progress", "json")
	kinds := map[string]int{}
	var last struct {
		Event       string
		Bytes, Size int64
	}
	for line := range strings.Lines(text) {
		if err := json.Unmarshal([]byte(line), &last); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		kinds[last.Event]++
	}
	if kinds["start"] != 2 || kinds["end"] != 2 || last.Event != "total" || last.Bytes != total || last.Size != total || strings.Contains(out, `"event"`) {
		t.Errorf("got\n%sand\n%s", text, out)
	}
	if _, text := save("-q", "--progress", "plain"); strings.Count(text, "app ") != 2 || !strings.Contains(text, "  1000 B  done") {
		t.Errorf("got %q", text)
	}
	for _, flags := range [][]string{{"-q"}, {"--progress", "none"}} {
		if _, text := save(flags...); text != "" {
			t.Errorf("%v: got %q", flags, text)
		}
	}
}

// An engineNowhere is Docker, and pulls nothing.
type engineNowhere struct{}

func (engineNowhere) Kind() engine.Kind { return engine.Docker }
func (engineNowhere) Address() string   { return "nowhere" }
func (engineNowhere) Close() error      { return nil }
func (engineNowhere) Pull(context.Context, engine.Image, engine.Progress) (engine.Result, error) {
	return engine.Result{}, errors.ErrUnsupported
}

// Facts that logs have of a pull: which image, which layer, what became of it, bytes.
func TestAPullWithoutATerminal(t *testing.T) {
	pull := func(o pullOptions) (out, err string) {
		var stdout, stderr bytes.Buffer
		d := o.display(&stdout, &stderr)
		p := d.begin(pullImage{engine.Image{Mirror: "m.example.com/nginx:1"}, "nginx:1"}, engineNowhere{})
		for _, e := range []engine.Event{
			{Layer: "aaaaaaaaaaaa", Phase: engine.Downloading, Current: 1 << 20, Total: 4 << 20},
			{Layer: "bbbbbbbbbbbb", Phase: engine.Exists},
			{Layer: "cccccccccccc", Phase: engine.Waiting},
			{Layer: "aaaaaaaaaaaa", Phase: engine.Downloaded},
			{Layer: "aaaaaaaaaaaa", Phase: engine.Complete},
		} {
			p.event(e)
		}
		p.done(engine.Result{Names: []string{"docker.io/library/nginx:1"}, Digest: "sha256:abcd"})
		d.end()
		return stdout.String(), stderr.String()
	}
	out, text := pull(pullOptions{output: "text"})
	lines := strings.Split(out, "\n")
	for n, want := range []string{
		"nginx:1: from m.example.com/nginx:1 into Docker (nowhere)", "nginx:1 bbbbbbbbbbbb  already there", "nginx:1 aaaaaaaaaaaa  4.0 MiB  complete  (4.0 MiB / 4.0 MiB, ",
		"nginx:1: is there, sha256:abcd, 4.0 MiB, ", "",
	} {
		if n >= len(lines) || !strings.HasPrefix(lines[n], want) {
			t.Fatalf("line %d of\n%sis not %q", n, out, want)
		}
	}
	if text != "" {
		t.Errorf("it says %q too", text)
	}
	if out, text := pull(pullOptions{output: "text", quiet: true}); out != "nginx:1\n" || text != "" {
		t.Errorf("quiet: %q and %q", out, text)
	}
	out, text = pull(pullOptions{output: "text", progress: progressFlag{"json"}})
	if strings.Count(out, "\n") != 2 || !strings.Contains(text, `{"event":"end","id":1,"name":"nginx:1 aaaaaaaaaaaa","state":"done","bytes":4194304,"size":4194304}`) {
		t.Errorf("json: %q and %q", out, text)
	}
	out, text = pull(pullOptions{output: "json"})
	if !strings.Contains(out, `{"event":"layer","image":"nginx:1","layer":"aaaaaaaaaaaa","phase":"downloading","current":1048576,"total":4194304}`) ||
		!strings.HasSuffix(out, `{"event":"summary","pulled":1,"failed":0}`+"\n") || text != "" {
		t.Errorf("output json: %q and %q", out, text)
	}
}
