//go:build e2e

package e2e

import (
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"sampan/internal/terminaltest"
)

// onTerminal starts a pull on a terminal.
func (p puller) onTerminal(t *testing.T, x *terminaltest.Terminal, args ...string) *exec.Cmd {
	t.Helper()
	cmd := x.Command(t.Context(), p.path, append(append([]string{"pull"}, p.args...), args...)...)
	cmd.Env, cmd.Dir = append(p.env[:len(p.env):len(p.env)], "TERM=xterm"), p.dir
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd
}

// wantScreen waits until nothing but such lines stand on a terminal and in its history,
// with the cursor below them.
func wantScreen(t *testing.T, x *terminaltest.Terminal, want ...string) {
	t.Helper()
	all := regexp.MustCompile("^" + strings.Join(want, "\n") + "$")
	x.Await("as expected", func(s *terminaltest.Screen) bool {
		column, line := s.Cursor()
		return all.MatchString(strings.Join(s.All(), "\n")) && column == 0 && line == len(s.Lines())
	})
}

// Docker's layers are shown while they come, and what stays is what came of it: also
// when somebody gives up.
func TestPullOnATerminal(t *testing.T) {
	m := startMirror(t, options{})
	d, p := startDockerAnd(t, m)
	image := original(t, "docker.io", "library/large", "1")
	h := m.upstream(t, "docker.io").hold("/blobs/"+image.Layers[2].Digest, 4<<20)

	x := terminaltest.New(t, 200, 30)
	cmd := p.onTerminal(t, x, "library/large:1")
	<-h.reached
	layer := strings.TrimPrefix(image.Layers[2].Digest, "sha256:")[:12]
	x.Await("a layer that is downloaded, and the sum", func(s *terminaltest.Screen) bool {
		text := strings.Join(s.Lines(), "\n")
		return regexp.MustCompile(`(?m)^large:1 `+layer+`  downloading .*iB / .*iB .*$`).MatchString(text) && regexp.MustCompile(`(?m)^total .*%  .*iB / .*iB`).MatchString(text)
	})
	x.Type("\x03")
	if err := cmd.Wait(); err == nil {
		t.Error("a pull that was given up succeeded")
	}
	close(h.release)
	wantScreen(t, x, "large:1: from .* into Docker .*", "total .*", "sampan: large:1: .*interrupted.*")

	x = terminaltest.New(t, 200, 30)
	if err := p.onTerminal(t, x, "library/large:1").Wait(); err != nil {
		t.Error(err)
	}
	wantScreen(t, x, "large:1: from .* into Docker .*", "large:1: is there, "+image.digest+", .* MiB, .*/s", "total .* 100%  .*")
	d.wantID(t, "large:1", image)
}
