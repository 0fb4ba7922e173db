package demo_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"sampan/internal/demo"
)

// small is a demonstration that takes no time.
func small(t *testing.T, out *bytes.Buffer) demo.Options {
	t.Helper()
	executable, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return demo.Options{
		Executable: executable, Out: out,
		Layers: []int64{256 << 10, 256 << 10, 512 << 10}, Blob: 1 << 20, Clients: 8,
		Rate: 64 << 20, Latency: time.Millisecond,
	}
}

// temporary has the demonstration write where the test can look for what it
// left behind.
func temporary(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	t.Setenv("GORACE", "atexit_sleep_ms=0") // the mirror's end is waited for
	t.Cleanup(func() {
		left, err := os.ReadDir(dir)
		if err != nil || len(left) > 0 {
			t.Errorf("left behind: %v %v", left, err)
		}
	})
}

// run gives the demonstration with a kind of mirror; empty is the real one.
func run(t *testing.T, kind string) (string, error) {
	t.Helper()
	temporary(t)
	t.Setenv(kindVariable, kind)
	var out bytes.Buffer
	err := demo.Run(t.Context(), small(t, &out))
	return out.String(), err
}

var columns = regexp.MustCompile(` {3,}`)

// row returns the cells of the table's line that begins with name, without the
// time.
func row(t *testing.T, out, name string) []string {
	t.Helper()
	for line := range strings.Lines(out) {
		if cells := columns.Split(strings.TrimSpace(line), -1); cells[0] == name && len(cells) == 7 {
			return cells[1:6]
		}
	}
	t.Fatalf("no row %q in\n%s", name, out)
	return nil
}

func TestTheTableHoldsWhatIsClaimed(t *testing.T) {
	out, err := run(t, "")
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for name, want := range map[string][]string{
		// 256 + 256 + 512 KiB, two manifests and a config
		"cold pull": {"1", "1.0 MiB", "1.0 MiB", "*", "1"},
		"warm pull": {"1", "1.0 MiB", "0 B", "0", "0"},
		"stampede":  {"8", "8.0 MiB", "1.0 MiB", "*", "1"},
	} {
		got := row(t, out, name)
		if want[3] == "*" {
			want[3] = got[3]
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if n := strings.Count(out, "✓ "); n != 4 || strings.Contains(out, "✗") {
		t.Errorf("%d claims:\n%s", n, out)
	}
	if !strings.Contains(out, "1.00 × the blob") {
		t.Errorf("the ratio is missing:\n%s", out)
	}
}

func TestTheDemonstrationSpeaksChinese(t *testing.T) {
	temporary(t)
	var out bytes.Buffer
	o := small(t, &out)
	o.Text = func(_, chinese string) string { return chinese }
	if err := demo.Run(t.Context(), o); err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	if got := row(t, out.String(), "热拉取"); got[2] != "0 B" {
		t.Errorf("%q", got)
	}
	for line := range strings.Lines(out.String()) {
		if strings.Contains(line, "%!") {
			t.Errorf("badly formatted: %s", line)
		}
	}
}

func TestAMirrorThatKeepsNothingIsFoundOut(t *testing.T) {
	out, err := run(t, forgetful)
	if err == nil {
		t.Fatalf("believed:\n%s", out)
	}
	if got := row(t, out, "warm pull")[2]; got != "1.0 MiB" {
		t.Errorf("warm pull: %s from upstream", got)
	}
	if got := row(t, out, "stampede")[2]; got != "8.0 MiB" {
		t.Errorf("stampede: %s from upstream", got)
	}
	for _, want := range []string{
		"✗ warm pull: 1.0 MiB crossed the link, nothing should\n",
		"✗ stampede: 8.0 MiB crossed the link for a blob of 1.0 MiB\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not told:\n%s", want, out)
		}
	}
	for _, claim := range []string{"✓ Warm", "✓ Stampede", "✓ The clients"} {
		if strings.Contains(out, claim) {
			t.Errorf("%q is claimed:\n%s", claim, out)
		}
	}
}

func TestAWrongByteIsFoundOut(t *testing.T) {
	out, err := run(t, lying)
	if err == nil || !strings.Contains(out, "✗ cold pull: blob sha256:") || !strings.Contains(out, "not what its digest names") {
		t.Errorf("%v\n%s", err, out)
	}
	if strings.Contains(out, "✓") {
		t.Errorf("something is claimed:\n%s", out)
	}
}

func TestAMirrorThatDoesNotStartIsQuoted(t *testing.T) {
	_, err := run(t, dead)
	if err == nil || !strings.Contains(err.Error(), "exit status 3") || !strings.Contains(err.Error(), "haunted") {
		t.Errorf("%v", err)
	}
}

func TestAMirrorThatDoesNotEndWellIsQuoted(t *testing.T) {
	out, err := run(t, sick)
	if err == nil || !strings.Contains(err.Error(), "the disk is full") || strings.Contains(out, "✓") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestWithoutAnExecutableNothingIsLeftBehind(t *testing.T) {
	temporary(t)
	o := small(t, new(bytes.Buffer))
	o.Executable += ".none"
	if err := demo.Run(t.Context(), o); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

func TestOptionsThatAreNeeded(t *testing.T) {
	for name, o := range map[string]demo.Options{
		"executable": {Out: new(bytes.Buffer)},
		"out":        {Executable: "sampan"},
	} {
		if err := demo.Run(t.Context(), o); err == nil {
			t.Errorf("%s is not missed", name)
		}
	}
}

// An interrupter calls a function when a text is written.
type interrupter struct {
	text string
	call func()
}

func (i *interrupter) Write(p []byte) (int, error) {
	if bytes.Contains(p, []byte(i.text)) {
		i.call()
	}
	return len(p), nil
}

func TestAnInterruptStopsTheMirrorAndRemovesItsData(t *testing.T) {
	for _, moment := range []string{"the mirror, a real", "cold pull", "layer 1", "stampede"} {
		t.Run(moment, func(t *testing.T) {
			temporary(t)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			o := small(t, nil)
			o.Out = &interrupter{moment, cancel}
			if err := demo.Run(ctx, o); !errors.Is(err, context.Canceled) {
				t.Errorf("%v", err)
			}
		})
	}
}
