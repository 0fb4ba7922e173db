package rewrite_test

import (
	"bytes"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/distribution/reference"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerfile/shell"

	"sampan/internal/client"
	"sampan/internal/rewrite"
)

// A use is an image that a build without arguments takes, by BuildKit's own reading.
type use struct {
	name string
	line int
}

// built is what BuildKit sees in a Dockerfile: the images it takes, and everything
// else as text.
func built(t *testing.T, in []byte) (images []use, rest []string) {
	t.Helper()
	parsed, err := parser.Parse(bytes.NewReader(in))
	if err != nil {
		return nil, []string{err.Error()}
	}
	stages, globals, err := instructions.Parse(parsed.AST, nil)
	if err != nil {
		return nil, []string{err.Error()} // it may not be built, and has to stay so
	}
	lex := shell.NewLex(parsed.EscapeToken)
	var env []string
	for _, arg := range globals {
		for _, kv := range arg.Args {
			if kv.Value == nil {
				continue
			}
			value, _, err := lex.ProcessWord(*kv.Value, shell.EnvsFromSlice(env))
			if err != nil {
				t.Fatal(err)
			}
			env = append([]string{kv.Key + "=" + value}, env...)
		}
	}
	var known []string
	for _, stage := range stages {
		base, _, err := lex.ProcessWord(stage.BaseName, shell.EnvsFromSlice(env))
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Contains(known, strings.ToLower(base)) && base != "scratch" && base != "" {
			images = append(images, use{base, stage.Location[0].Start.Line})
		}
		known = append(known, strings.ToLower(stage.Name))
		for _, command := range stage.Commands {
			images = append(images, sources(command, stages)...)
			rest = append(rest, command.Name())
		}
		rest = append(rest, stage.Name+" "+stage.Platform)
	}
	if syntax, _, at, ok := parser.DetectSyntax(in); ok {
		images = append(images, use{syntax, at[0].Start.Line})
	}
	return images, rest
}

// sources are the images that a command copies or mounts from.
func sources(command instructions.Command, stages []instructions.Stage) []use {
	var names []string
	switch c := command.(type) {
	case *instructions.CopyCommand:
		names = append(names, c.From)
	case *instructions.RunCommand:
		for _, m := range instructions.GetMounts(c) {
			names = append(names, m.From)
		}
	}
	var all []use
	for _, name := range names {
		_, err := strconv.Atoi(name)
		stage := slices.ContainsFunc(stages, func(s instructions.Stage) bool { return strings.EqualFold(s.Name, name) })
		if name != "" && err != nil && !stage {
			all = append(all, use{name, command.Location()[0].Start.Line})
		}
	}
	return all
}

// What BuildKit takes for a build from a Dockerfile that is rewritten is what it took
// before, at the mirror, save what was reported; and everything else is as it was.
func TestRealDockerfilesTakeTheSameImagesFromTheMirror(t *testing.T) {
	m := person(t, "path")
	there, _ := rewriters(t, m)
	files, same, reported := 0, 0, 0
	for _, s := range corpusFiles(t) {
		if formatOf(s) != inDockerfile {
			continue
		}
		files++
		t.Run(s.String(), func(t *testing.T) {
			res := rewritten(t, there, s.name, s.in)
			before, rest := built(t, s.in)
			after, restAfter := built(t, res.Out)
			if !slices.Equal(rest, restAfter) || len(before) != len(after) {
				t.Fatalf("BuildKit sees\n%v\n%v\nand rewritten\n%v\n%v", before, rest, after, restAfter)
			}
			for i := range before {
				switch atMirror(t, m, res, before[i], after[i]) {
				case 1:
					same++
				case 0:
					reported++
				}
			}
		})
	}
	t.Logf("%d files name %d images; %d are reported", files, same, reported)
	if files < 190 || same < 340 || reported > same/50 {
		t.Errorf("%d files name %d images; %d are reported", files, same, reported)
	}
}

// atMirror returns 1 where the image is taken from the mirror, 0 where it was reported,
// and -1 where nothing was to be done.
func atMirror(t *testing.T, m *client.Mirror, res *rewrite.Result, before, after use) int {
	t.Helper()
	name, as := strings.TrimSuffix(before.name, tail(before.name)), strings.TrimSuffix(after.name, tail(after.name))
	named, err := reference.ParseNormalizedNamed(name) // tags may be empty without arguments
	_, unserved := m.Spell(name)
	if err != nil || unserved != nil {
		if after.name != before.name {
			t.Errorf("line %d: %s became %s", before.line, before.name, after.name)
		}
		return -1
	}
	own, err := m.Original(as)
	if err == nil && own.Repository.String() == named.Name() && tail(before.name) == tail(after.name) {
		return 1
	}
	if before.name == after.name && slices.ContainsFunc(res.Undecided, func(f rewrite.Finding) bool { return f.Line == before.line }) {
		return 0
	}
	t.Errorf("line %d: %s became %s, which is not %s at the mirror", before.line, before.name, after.name, named)
	return -1
}
