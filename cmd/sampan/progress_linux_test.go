package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sampan/internal/oci"
	"sampan/internal/registrytest"
	"sampan/internal/runtimes/engine"
	"sampan/internal/terminaltest"
)

// onTerminal runs sampan on a terminal.
func onTerminal(t *testing.T, x *terminaltest.Terminal, args ...string) *exec.Cmd {
	t.Helper()
	t.Setenv("TERM", "xterm")
	program, err := exec.LookPath("sampan") // this program: see TestMain
	if err != nil {
		t.Fatal(err)
	}
	cmd := x.Command(t.Context(), program, args...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd
}

// clean checks that nothing stands there but these lines, as expressions, with the
// cursor below them; nor in the history.
func clean(t *testing.T, x *terminaltest.Terminal, want ...string) {
	t.Helper()
	x.Await("left clean", func(s *terminaltest.Screen) bool {
		all := s.All()
		column, line := s.Cursor()
		return len(all) == len(want) && column == 0 && line == len(s.Lines()) && !slices.ContainsFunc(want, func(w string) bool {
			return !regexp.MustCompile(w).MatchString(all[slices.Index(want, w)])
		})
	})
}

// held is a registry with an image whose only layer of 4 MiB stops in the middle.
func held(t *testing.T) (name string, gate *registrytest.Gate) {
	t.Helper()
	gate = registrytest.NewGate()
	r := registrytest.StartTest(t, registrytest.Options{})
	r.AddImage("team/app", "1", registrytest.ImageSpec{Layers: []int64{4 << 20}, Platforms: []oci.Platform{{OS: "linux", Architecture: "amd64"}}})
	r.SetBehavior(registrytest.Behavior{Faults: []registrytest.Fault{{HangInBody: gate, HangAt: 1 << 20}}})
	t.Cleanup(gate.Open)
	return r.Host() + "/team/app:1", gate
}

func TestASaveOnATerminal(t *testing.T) {
	person(t)
	name, gate := held(t)
	x := terminaltest.New(t, 60, 12)
	cmd := onTerminal(t, x, "save", name, "-o", "app.tar", "--platform", "linux/amd64")
	x.Await("a bar and the sum", func(s *terminaltest.Screen) bool {
		lines := s.Lines()
		return len(lines) == 2 && strings.Contains(lines[0], "1.0 MiB / 4.0 MiB") && regexp.MustCompile(`^total .* 2[45]%`).MatchString(lines[1])
	})
	gate.Open()
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	x.Await("finished", func(s *terminaltest.Screen) bool {
		lines := s.Lines()
		return len(lines) > 2 && strings.HasPrefix(lines[0], "total ") && strings.Contains(lines[0], "100%") && strings.HasPrefix(lines[1], name)
	})
}

func TestInterruptedOnATerminal(t *testing.T) {
	person(t)
	name, _ := held(t)
	x := terminaltest.New(t, 100, 12)
	cmd := onTerminal(t, x, "save", name, "-o", "app.tar", "--platform", "linux/amd64")
	x.Await("a bar", terminaltest.Shows("1.0 MiB / 4.0 MiB"))
	x.Type("\x03")
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Errorf("it ends with %v", err)
	}
	x.Await("without bars", func(s *terminaltest.Screen) bool {
		lines := s.Lines()
		column, line := s.Cursor()
		return len(lines) > 1 && regexp.MustCompile(`^total .* 0%  .* / 4\.0 MiB`).MatchString(lines[0]) && strings.HasPrefix(lines[1], "sampan: ") &&
			!strings.Contains(strings.Join(s.All(), "\n"), "^C") && column == 0 && line == len(lines)
	})
}

// A question is left without an answer.
func TestAQuestionThatIsInterrupted(t *testing.T) {
	person(t)
	root := t.TempDir()
	x := terminaltest.New(t, 100, 60)
	cmd := onTerminal(t, x, "setup", "docker", "--root", root, "--mirror", "mirror.example.com")
	x.Await("the question", terminaltest.Shows("Write these files? [y/N]"))
	x.Type("\x03")
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Errorf("it ends with %v", err)
	}
	x.Await("why it ended", terminaltest.Shows("sampan: interrupted"))
	if files, err := os.ReadDir(root); err != nil || len(files) != 0 {
		t.Errorf("%d files, %v", len(files), err)
	}
}

// However much is on its way, a person who ends a copy reads one sentence.
func TestACopyThatIsInterrupted(t *testing.T) {
	person(t)
	gate := registrytest.NewGate()
	source := registrytest.StartTest(t, registrytest.Options{})
	args := []string{"copy"}
	for i := range 4 {
		name := fmt.Sprintf("team/app%d", i)
		source.AddImage(name, "1", registrytest.ImageSpec{Layers: []int64{2 << 20, 2<<20 + int64(i)}, Platforms: []oci.Platform{{OS: "linux", Architecture: "amd64"}}})
		args = append(args, source.Host()+"/"+name+":1")
	}
	source.SetBehavior(registrytest.Behavior{Faults: []registrytest.Fault{{HangInBody: gate, HangAt: 1 << 20}}})
	t.Cleanup(gate.Open)
	target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/v2/":
		case r.Method == http.MethodPost:
			w.Header().Set("Location", r.URL.Path+"1")
			w.WriteHeader(http.StatusAccepted)
		case r.Method == http.MethodPut:
			_, _ = io.Copy(io.Discard, r.Body) // what is cut off is nothing
			w.WriteHeader(http.StatusCreated)
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	t.Cleanup(target.Close)
	x := terminaltest.New(t, 100, 30)
	cmd := onTerminal(t, x, append(args, strings.TrimPrefix(target.URL, "http://")+"/")...)
	x.Await("bars", terminaltest.Shows("1.0 MiB / 2.0 MiB"))
	x.Type("\x03")
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Errorf("it ends with %v", err)
	}
	clean(t, x, "^total ", "^sampan: interrupted: run the command again to go on; what has arrived is not sent again$")
}

// What an engine says stands above the bars, whole.
func TestALoadOnATerminal(t *testing.T) {
	run := person(t)
	name, gate := held(t)
	gate.Open()
	must(t)(run("save", name, "-o", "app.tar", "--platform", "linux/amd64"))
	bin := t.TempDir()
	writeProgram(t, filepath.Join(bin, "docker"), "#!/bin/sh\n[ \"$1\" = load ] || exit 0\nprintf 'reading\\nLoaded '\ncat >/dev/null\necho 'image: x' >&2\n")
	t.Setenv("PATH", bin+":"+pathNow())
	x := terminaltest.New(t, 100, 12)
	if err := onTerminal(t, x, "load", "-i", "app.tar").Wait(); err != nil {
		t.Error(err)
	}
	clean(t, x, "^the checksums match$", "^reading$", "^Loaded image: x$", "^total .* 100%  4.0 MiB / 4.0 MiB", "^"+regexp.QuoteMeta(name))
}

// What Docker says of its layers, and what stands on the terminal.
func TestAPullOnATerminal(t *testing.T) {
	t.Setenv("TERM", "xterm")
	x := terminaltest.New(t, 100, 12)
	d := pullOptions{output: "text"}.display(x.File, x.File)
	p := d.begin(pullImage{engine.Image{Mirror: "m.example.com/nginx:1"}, "nginx:1"}, engineNowhere{})
	const a, b, c = "aaaaaaaaaaaa", "bbbbbbbbbbbb", "cccccccccccc"
	for _, e := range []engine.Event{
		{Layer: a, Phase: engine.Waiting},
		{Layer: b, Phase: engine.Waiting},
		{Layer: c, Phase: engine.Exists},
		{Layer: a, Phase: engine.Downloading, Current: 1 << 20, Total: 4 << 20},
	} {
		p.event(e)
	}
	shows := func(what string, want ...string) {
		t.Helper()
		x.Await(what, func(s *terminaltest.Screen) bool {
			lines := s.Lines()
			return len(lines) == len(want)+1 && !slices.ContainsFunc(want, func(w string) bool {
				return !regexp.MustCompile(w).MatchString(lines[slices.Index(want, w)+1])
			})
		})
	}
	shows("three layers", `^nginx:1 a{12}  downloading    \[.*1\.0 MiB / 4\.0 MiB`, `^nginx:1 b{12}  waiting$`, `^nginx:1 c{12}  already there$`, `^total .* 25%  1\.0 MiB / 4\.0 MiB  \S+ MiB/s$`)
	for _, e := range []engine.Event{
		{Layer: a, Phase: engine.Downloaded},
		{Layer: b, Phase: engine.Downloading, Current: 2 << 20, Total: 4 << 20},
		{Layer: a, Phase: engine.Extracting, Current: 3 << 20, Total: 4 << 20},
	} {
		p.event(e)
	}
	shows("one extracted", `^nginx:1 a{12}  extracting     \[.*3\.0 MiB / 4\.0 MiB`, `^nginx:1 b{12}  downloading .*2\.0 MiB / 4\.0 MiB`, `^nginx:1 c`, `^total .* 75%  6\.0 MiB / 8\.0 MiB  \S+ MiB/s  0:0\d left$`)
	for _, e := range []engine.Event{
		{Layer: a, Phase: engine.Complete},
		{Layer: b, Phase: engine.Downloaded},
		{Layer: b, Phase: engine.Complete},
	} {
		p.event(e)
	}
	shows("three that are complete", `^nginx:1 a{12}  complete       \[=+\]  4\.0 MiB / 4\.0 MiB$`, `^nginx:1 b{12}  complete `, `^nginx:1 c`, `^total .* 100%  8\.0 MiB / 8\.0 MiB`)
	p.done(engine.Result{Names: []string{"docker.io/library/nginx:1"}})
	d.failed("absent", errors.New("there is none"))
	d.end()
	clean(t, x, `^nginx:1: from m\.example\.com/nginx:1 into Docker `, `^nginx:1: is there, 8\.0 MiB, \S+ \S+/s$`, `^absent: there is none$`, `^total .* 100%  8\.0 MiB / 8\.0 MiB`)
}
