package dockerfile

import (
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// An argument is ARG NAME=default above the first FROM.
type argument struct {
	value   word // the default without quotes; empty where there is none
	unclear bool // the default is written so that its bytes are not its value
	deep    bool // its default is being read

	uses   []word // the FROMs that it names images for
	spans  []Span // in its default
	spoilt bool   // it is used as something else, too
	inside bool   // a stage declares it again and sees the default
	stage  bool   // it names a stage somewhere
	built  bool   // the default of another argument is built from it
}

// span notes that (the beginning of) the default is an image name.
func (a *argument) span(s Span) {
	for _, known := range a.spans {
		if known.Start == s.Start {
			if known.End != s.End || known.Prefix != s.Prefix {
				a.spoilt = true
			}
			return
		}
	}
	a.spans = append(a.spans, s)
}

// settle takes the default for an image name where it is nothing else anywhere.
func (a *argument) settle(f *file) {
	if len(a.spans) == 0 {
		return
	}
	reason := Composed
	switch {
	case a.inside:
		reason = SeenInside
	case !a.spoilt && !a.stage:
		f.spans = append(f.spans, a.spans...)
		return
	}
	for _, use := range a.uses {
		f.find(use, reason)
	}
}

// arg takes ARG NAME[=default]…
func (f *file) arg(node *parser.Node, text logical) {
	pos := len(node.Value)
	for _, raw := range values(node) {
		name, _, assigned := strings.Cut(raw, "=")
		if f.froms > 0 {
			if a := f.args[name]; a != nil && !assigned {
				a.inside = true
			}
			continue
		}
		a := &argument{unclear: true, value: word{text: raw}}
		if at, ok := text.find(raw, pos); ok {
			pos = at + len(raw)
			a = f.argument(text.word(at, pos), len(name), assigned)
		}
		old := f.args[name]
		if !assigned && old != nil {
			continue // the value stays
		}
		if !assigned {
			a = &argument{}
		}
		a.unclear = a.unclear || old != nil && old.built
		f.args[name] = a
		f.defaults = append(f.defaults, a)
		f.built(a)
	}
}

// built notes which arguments the default of another one is built from. Those that are
// not its beginning are no names; the one that is may be, and is told when it is read.
func (f *file) built(a *argument) {
	parts, ok := parse(a.value.text)
	if !ok {
		f.spoilAll(a.value.text)
		return
	}
	for i, p := range parts {
		if b := f.args[p.variable]; b != nil && p.variable != "" {
			b.built = true
			b.spoilt = b.spoilt || i > 0
		}
	}
}

func (f *file) argument(w word, name int, assigned bool) *argument {
	if !assigned {
		return &argument{}
	}
	value, bare, ok := f.unquoted(w.part(name+1, len(w.text)))
	return &argument{value: value, unclear: !ok || bare && strings.Contains(value.text, "$")}
}

// spoil notes that arguments are used as parts of something.
func (f *file) spoil(parts []part) {
	for _, p := range parts {
		if a := f.args[p.variable]; a != nil {
			a.spoilt = true
		}
	}
}

// spoilAll does so for all arguments that a text may use.
func (f *file) spoilAll(text string) {
	if !strings.Contains(text, "$") {
		return
	}
	for name, a := range f.args {
		if strings.Contains(text, name) {
			a.spoilt = true
		}
	}
}

// A part of a text is letters, or a variable.
type part struct {
	text     string // of letters
	variable string // its name; empty for letters
	modified bool   // what comes out is neither its value nor the fallback
	fallback word   // of ${NAME:-fallback}, its place counted from the text's beginning
	end      int    // in the text
}

// parse takes a text apart into letters and variables. It is not ok where a
// substitution has another one within.
func parse(text string) ([]part, bool) {
	var parts []part
	for pos := 0; pos < len(text); {
		if text[pos] != '$' {
			end := len(text)
			if i := strings.IndexByte(text[pos:], '$'); i >= 0 {
				end = pos + i
			}
			parts = append(parts, part{text: text[pos:end], end: end})
			pos = end
			continue
		}
		p, ok := variable(text, pos)
		if !ok {
			return nil, false
		}
		parts = append(parts, p)
		pos = p.end
	}
	return parts, true
}

// variable reads $NAME, ${NAME}, ${NAME:-fallback} and its kind at pos.
func variable(text string, pos int) (part, bool) {
	in := text[pos+1:]
	if !strings.HasPrefix(in, "{") {
		n := nameLength(in)
		return part{variable: in[:n], end: pos + 1 + n}, n > 0
	}
	stop := strings.IndexByte(in, '}')
	n := nameLength(in[1:])
	if stop < 0 || n == 0 {
		return part{}, false
	}
	p := part{variable: in[1 : 1+n], end: pos + 1 + stop + 1}
	modifier := in[1+n : stop]
	if modifier == "" {
		return p, true
	}
	if strings.ContainsAny(modifier, "${") {
		return part{}, false
	}
	for _, sign := range []string{":-", "-"} {
		if fallback, ok := strings.CutPrefix(modifier, sign); ok {
			p.fallback = word{text: fallback, start: pos + 1 + stop - len(fallback)}
			return p, true
		}
	}
	p.modified = true
	return p, true
}

func nameLength(s string) int {
	n := 0
	for n < len(s) && (s[n] == '_' || isAlphanumeric(s[n]) && (n > 0 || s[n] > '9')) {
		n++
	}
	return n
}
