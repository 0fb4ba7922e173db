package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"sampan/internal/client"
	"sampan/internal/config"
)

// What the pages show can be typed: the commands are there, and their flags.
func TestPagesShowCommandsAsTheyAre(t *testing.T) {
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	pages = append(pages, "../../README.md", "../../README.zh-CN.md", actions+"/README.md", actions+"/README.zh-CN.md")
	quoted := regexp.MustCompile("`(sampan [a-z][^`]*)`")
	seen := map[string]int{}
	for _, page := range pages {
		raw, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		var lines []string
		fenced := false
		for line := range strings.Lines(string(raw)) {
			if strings.HasPrefix(line, "```") {
				fenced = !fenced
			} else if fenced {
				lines = append(lines, strings.TrimSpace(line))
			}
		}
		for _, q := range quoted.FindAllStringSubmatch(string(raw), -1) {
			lines = append(lines, q[1])
		}
		for _, line := range lines {
			line, _, _ = strings.Cut(line, " #")
			for _, part := range regexp.MustCompile(`[|;&()<>]+`).Split(line, -1) {
				if words := strings.Fields(part); len(words) > 1 && words[0] == "sampan" {
					seen[words[1]]++
					wantTypable(t, page, words[1:])
				}
			}
		}
	}
	for _, command := range []string{"name", "pull", "setup", "doctor", "rewrite", "copy", "sync", "save", "load", "serve", "config", "cache", "explain", "man"} {
		if seen[command] == 0 {
			t.Errorf("no page shows sampan %s", command)
		}
	}
}

// wantTypable fails unless there is such a command, with such flags.
func wantTypable(t *testing.T, page string, words []string) {
	t.Helper()
	cmd, _, err := newRoot().Find(words)
	if err != nil {
		t.Errorf("%s shows sampan %s: %v", page, strings.Join(words, " "), err)
		return
	}
	for _, word := range words {
		if word == "--" {
			return
		}
		name, isFlag := strings.CutPrefix(word, "--")
		name, _, _ = strings.Cut(name, "=")
		if isFlag && name != "help" && name != "version" && cmd.Flags().Lookup(name) == nil {
			t.Errorf("%s shows %q: %s has no --%s", page, strings.Join(words, " "), cmd.CommandPath(), name)
		}
		if len(word) == 2 && word[0] == '-' && word[1] != '-' && word != "-h" && cmd.Flags().ShorthandLookup(word[1:]) == nil {
			t.Errorf("%s shows %q: %s has no %s", page, strings.Join(words, " "), cmd.CommandPath(), word)
		}
	}
}

// The server's configuration knows the variables of the tools, which may be set where it
// runs.
func TestTheServerMindsNoVariableOfTheTools(t *testing.T) {
	t.Chdir(t.TempDir())
	environ := []string{"HOME=" + t.TempDir()}
	for _, name := range client.Variables() {
		environ = append(environ, name+"=x")
	}
	if _, err := config.Load(config.Source{Environ: environ}); err != nil {
		t.Error(err)
	}
}
