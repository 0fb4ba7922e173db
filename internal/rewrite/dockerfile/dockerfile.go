// Package dockerfile finds the image names in Dockerfiles: of FROM, of COPY --from, of
// RUN --mount=from, of the defaults of build arguments that stand for a whole name, and
// of the syntax directive, which names an image too.
//
// It promises spans that are in order, do not overlap, and hold nothing but (the
// beginning of) a name, so that a file whose spans are replaced differs in names only.
// Names of stages are none, and scratch is none. What a build argument without a default
// decides, or what is put together so that no single place decides the registry, is a
// [Finding].
//
// BuildKit's parser says what the instructions are; this package finds again where in
// the file they stand. It knows nothing of contexts that are given to a build by name,
// which may stand in for any image.
package dockerfile

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// A Span is where an image is named: src[Start:End].
type Span struct {
	Start, End int
	// Instruction is FROM, COPY, RUN, ARG, or syntax.
	Instruction string
	// Name is the name to ask about: src[Start:End] and Rest.
	Name string
	// Rest is what follows the span in the name, with values that stand in for build
	// arguments. It is empty but where an argument stands in the path of a name
	// whose registry is written out: of quay.io/${TEAM}/app:1 the span is "quay.io/",
	// and the rest may be "x/app".
	Rest string
	// Prefix: the span is the registry that names begin with, and Name no whole name.
	Prefix bool
}

// Replacement asks what the name, or the prefix, becomes, and returns what to write over the span. It
// is not ok where the new name does not go on as the old one does; the span then has to
// stay. The error is rename's.
func (s Span) Replacement(rename func(name string) (string, error)) (text string, ok bool, err error) {
	name, err := rename(s.Name)
	if err != nil {
		return "", false, err
	}
	text, ok = strings.CutSuffix(name, s.Rest)
	return text, ok && text != "", nil
}

// A Finding is src[Start:End] that names an image, or may, and cannot be decided.
type Finding struct {
	Start, End int
	Reason     Reason
}

// A SyntaxError is why a file cannot be read as a Dockerfile.
type SyntaxError struct {
	Line int // from 1; 0 where it is not known
	Err  error
}

func (e *SyntaxError) Error() string {
	if e.Line == 0 {
		return fmt.Sprintf("dockerfile: %v", e.Err)
	}
	return fmt.Sprintf("dockerfile: line %d: %v", e.Line, e.Err)
}

// Unwrap returns what the parser said.
func (e *SyntaxError) Unwrap() error { return e.Err }

// Images finds the image names in a Dockerfile. The error is a *[SyntaxError]; there is
// nothing else then.
func Images(src []byte) ([]Span, []Finding, error) {
	f := &file{src: src, lines: split(src)}
	f.syntax()
	if f.empty() {
		return f.spans, f.finds, nil
	}
	parsed, err := parser.Parse(bytes.NewReader(src))
	if err != nil {
		return nil, nil, syntaxError(err)
	}
	f.escape = byte(parsed.EscapeToken)
	f.stages(parsed.AST.Children)
	f.instructions(parsed.AST.Children)
	f.settle()
	return f.spans, f.finds, nil
}

func syntaxError(err error) error {
	out := &SyntaxError{Err: err}
	var at *parser.LocationError
	if errors.As(err, &at) && len(at.Locations) > 0 && len(at.Locations[0]) > 0 {
		out.Line = at.Locations[0][0].Start.Line
	}
	return out
}

// A file is the work on one Dockerfile.
type file struct {
	src    []byte
	lines  []line
	escape byte // a backslash or a backtick

	names    map[string]int       // of stages in lower case: how many FROMs were before
	froms    int                  // read so far
	args     map[string]*argument // before the first FROM
	defaults []*argument          // all that were written, also those replaced later

	spans []Span
	finds []Finding
}

// instructions reads the file from top to bottom.
func (f *file) instructions(nodes []*parser.Node) {
	f.args = make(map[string]*argument)
	for _, node := range nodes {
		text, ok := f.logical(node)
		if !ok {
			f.unplaced(node)
			continue
		}
		switch strings.ToLower(node.Value) {
		case "arg":
			f.arg(node, text)
		case "from":
			f.from(node, text)
			f.froms++
		case "copy", "run":
			f.flags(node, text, false)
		case "onbuild":
			if node.Next != nil && len(node.Next.Children) == 1 {
				f.flags(node.Next.Children[0], text, true)
			}
		}
	}
}

// stages notes the names of all stages, which COPY may name before they are there.
func (f *file) stages(nodes []*parser.Node) {
	f.names = make(map[string]int)
	count := 0
	for _, node := range nodes {
		if !strings.EqualFold(node.Value, "from") {
			continue
		}
		if words := values(node); len(words) == 3 && strings.EqualFold(words[1], "as") {
			name := strings.ToLower(words[2])
			if _, known := f.names[name]; !known {
				f.names[name] = count
			}
		}
		count++
	}
}

// stageBefore says whether a stage of this name stands above the FROM that is read.
func (f *file) stageBefore(name string) bool {
	at, known := f.names[strings.ToLower(name)]
	return known && at < f.froms
}

// values are the words of an instruction without its flags.
func values(node *parser.Node) []string {
	var words []string
	for n := node.Next; n != nil; n = n.Next {
		words = append(words, n.Value)
	}
	return words
}

// syntax finds the image of the frontend: # syntax=docker/dockerfile:1.
func (f *file) syntax() {
	name, _, at, ok := parser.DetectSyntax(f.src)
	if !ok || len(at) == 0 || at[0].Start.Line < 1 || at[0].Start.Line > len(f.lines) {
		return
	}
	l := f.lines[at[0].Start.Line-1]
	_, after, ok := bytes.Cut(f.src[l.start:l.end], []byte("="))
	if !ok {
		return
	}
	after = bytes.TrimLeft(after, " \t")
	w := word{text: name, start: l.end - len(after)}
	if !bytes.HasPrefix(after, []byte(name)) {
		f.find(w, Unplaced)
		return
	}
	f.literal(w, "syntax")
}

// literal takes a whole name that has no variables.
func (f *file) literal(w word, instruction string) {
	if !isName(w.text) {
		f.find(w, NoName)
		return
	}
	f.spans = append(f.spans, Span{Start: w.start, End: w.end(), Instruction: instruction, Name: w.text})
}

func (f *file) find(w word, r Reason) {
	f.finds = append(f.finds, Finding{Start: w.start, End: min(w.end(), len(f.src)), Reason: r})
}

// unplaced reports an instruction that cannot be found again in the file, where it may
// name an image.
func (f *file) unplaced(node *parser.Node) {
	named := strings.EqualFold(node.Value, "from") || strings.Contains(node.Original, "from=")
	if !named || node.StartLine < 1 || node.StartLine > len(f.lines) {
		return
	}
	l := f.lines[node.StartLine-1]
	f.finds = append(f.finds, Finding{Start: l.start, End: l.end, Reason: Unplaced})
}

// settle adds the defaults of arguments that name images, and puts all in order.
func (f *file) settle() {
	for _, a := range f.defaults {
		a.settle(f)
	}
	slices.SortFunc(f.spans, func(a, b Span) int { return cmp.Compare(a.Start, b.Start) })
	slices.SortFunc(f.finds, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Start, b.Start), cmp.Compare(a.End, b.End), cmp.Compare(a.Reason, b.Reason))
	})
	f.finds = slices.Compact(f.finds)
}
