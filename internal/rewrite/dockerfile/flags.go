package dockerfile

import (
	"strconv"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// flags finds the images of COPY --from and of RUN --mount=from. Within ONBUILD the
// stages are those of a Dockerfile that is not here.
func (f *file) flags(node *parser.Node, text logical, onbuild bool) {
	instruction := strings.ToUpper(node.Value)
	pos := 0
	for _, flag := range node.Flags {
		name, value, ok := strings.Cut(flag, "=")
		if !ok {
			continue
		}
		var from string
		switch {
		case instruction == "COPY" && name == "--from":
			from = value
		case instruction == "RUN" && name == "--mount":
			if from, ok = mountFrom(value); !ok {
				continue
			}
		default:
			continue
		}
		w, next, ok := placeFlag(text, flag, from, pos)
		if !ok {
			f.find(text.word(0, len(text.text)), Split)
			continue
		}
		pos = next
		f.source(w, instruction, onbuild)
	}
}

// placeFlag finds a flag in the line, and in it the value that names an image. The
// parser has taken off quotes around the flag's value; other quotes are not understood.
func placeFlag(text logical, flag, from string, pos int) (w word, next int, ok bool) {
	start := valueStart(flag, from)
	if start < 0 {
		return word{}, 0, false
	}
	name, value, _ := strings.Cut(flag, "=")
	for _, quote := range []string{"", `"`, `'`} {
		written := name + "=" + quote + value + quote
		if at, ok := text.find(written, pos); ok {
			begin := at + len(quote) + start
			return text.word(begin, begin+len(from)), at + len(written), true
		}
	}
	return word{}, 0, false
}

// valueStart is where in a flag the value of from begins; negative where it does not.
func valueStart(flag, from string) int {
	name, value, _ := strings.Cut(flag, "=")
	offset := len(name) + 1
	if name == "--from" {
		return offset
	}
	for _, field := range strings.Split(value, ",") {
		key, v, ok := strings.Cut(field, "=")
		if ok && strings.EqualFold(key, "from") && v == from {
			return offset + len(key) + 1
		}
		offset += len(field) + 1
	}
	return -1
}

// mountFrom is the value of from in a mount; not ok where there is none.
func mountFrom(mount string) (string, bool) {
	value, found := "", false
	for _, field := range strings.Split(mount, ",") {
		if key, v, ok := strings.Cut(strings.Trim(field, `"`), "="); ok && strings.EqualFold(key, "from") {
			value, found = v, true
		}
	}
	return value, found
}

// source takes the name of what is copied or mounted from: a stage, its number, or an
// image.
func (f *file) source(w word, instruction string, onbuild bool) {
	if _, err := strconv.Atoi(w.text); err == nil || w.text == "" {
		return
	}
	_, stage := f.names[strings.ToLower(w.text)]
	switch {
	case onbuild && !strings.ContainsAny(w.text, "/:@"):
		f.find(w, OnBuild)
	case stage && !onbuild:
	case w.text == "scratch":
	case strings.Contains(w.text, "$"):
		f.find(w, Forbidden)
	case w.split:
		f.find(w, Split)
	default:
		f.literal(w, instruction)
	}
}
