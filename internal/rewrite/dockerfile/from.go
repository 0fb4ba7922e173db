package dockerfile

import (
	"regexp"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// from takes FROM name [AS stage].
func (f *file) from(node *parser.Node, text logical) {
	want := values(node)
	if len(want) != 1 && len(want) != 3 {
		return // BuildKit refuses it
	}
	words := text.last(len(want))
	for i, w := range words {
		if w.text != want[i] {
			f.unplaced(node)
			return
		}
	}
	w, bare, ok := f.unquoted(words[0])
	switch {
	case !ok:
		f.find(words[0], Split)
	case bare && strings.Contains(w.text, "$"):
		f.find(w, NoName)
	default:
		f.name(reading{word: w, instruction: "FROM"})
	}
}

// A reading is a text that FROM uses as an image name, be it written there or in the
// default of an argument.
type reading struct {
	word
	instruction string
	rest        string    // what FROM adds behind the argument
	from        word      // where FROM says so; empty where it is this word itself
	owner       *argument // whose default this is; nil in FROM
}

// blame is the place to report.
func (r reading) blame() word {
	if r.from.text != "" {
		return r.from
	}
	return r.word
}

// name decides what a text names.
func (f *file) name(r reading) {
	if !strings.Contains(r.text, "$") {
		f.whole(r)
		return
	}
	stage := r.rest == "" && f.stagePattern(r.text)
	parts, ok := parse(r.text)
	switch {
	case stage:
		f.spoilAll(r.text)
	case !ok || parts[0].modified:
		f.find(r.blame(), Modified)
		f.spoilAll(r.text)
	case parts[0].variable != "":
		f.leading(r, parts)
	default:
		f.spoil(parts)
		f.partial(r, parts)
	}
}

// whole takes a text without variables. What FROM adds behind it has no slash, so that
// the text alone decides the registry, if it is known that it has none.
func (f *file) whole(r reading) {
	if r.rest == "" && (r.text == "scratch" || f.stageBefore(r.text)) {
		if r.owner != nil {
			r.owner.stage = true
		}
		return
	}
	s := Span{Start: r.start, End: r.end(), Instruction: r.instruction, Name: r.text}
	switch {
	case r.rest == "" || tagStart(r.text) >= 0 || strings.ContainsAny(r.rest[:1], ":@"):
	case strings.Contains(r.rest, "$"):
		f.find(r.blame(), Composed)
		r.spoilOwner()
		return
	default:
		s.Rest = r.rest
		if i := tagStart(r.rest); i >= 0 {
			s.Rest = r.rest[:i]
		}
		s.Name += s.Rest
	}
	f.add(r, s)
}

func (r reading) spoilOwner() {
	if r.owner != nil {
		r.owner.spoilt = true
	}
}

// leading takes a text that begins with an argument: the argument is the whole name, or
// all of it but tag and digest, or the registry; otherwise nobody can tell.
func (f *file) leading(r reading, parts []part) {
	rest := r.text[parts[0].end:] + r.rest
	f.spoil(parts[1:])
	a := f.args[parts[0].variable]
	if strings.Contains(rest, "/") {
		if f.registries(r, a, parts[0].fallback, rest) {
			return
		}
		f.find(r.blame(), Composed)
		f.spoil(parts[:1])
		return
	}
	said := false
	if fallback := parts[0].fallback; fallback.text != "" {
		said = true
		in := reading{word: r.part(fallback.start, fallback.end()), instruction: r.instruction, rest: rest, from: r.from, owner: r.owner}
		f.name(in)
	}
	if a != nil && a.value.text != "" {
		said = true
		f.byDefault(r, a, rest)
	}
	if !said {
		f.find(r.blame(), NoDefault)
	}
}

// registries takes the default of an argument, and what stands for it where it has
// none, for the registry that names begin with. It is not ok where one of them is none.
func (f *file) registries(r reading, a *argument, fallback word, rest string) bool {
	if fallback.text == "" {
		return f.registry(r, a, rest)
	}
	if rest[0] != '/' || !isRegistry(fallback.text) || a != nil && a.value.text != "" && !f.registry(r, a, rest) {
		return false
	}
	in := r.part(fallback.start, fallback.end())
	f.add(r, Span{Start: in.start, End: in.end(), Instruction: r.instruction, Name: in.text, Prefix: true})
	return true
}

// registry takes the default of an argument for the registry that names begin with. It
// is not ok where it is none.
func (f *file) registry(r reading, a *argument, rest string) bool {
	if a == nil || a.unclear || rest[0] != '/' || !isRegistry(a.value.text) {
		return false
	}
	a.uses = append(a.uses, r.blame())
	a.span(Span{Start: a.value.start, End: a.value.end(), Instruction: "ARG", Name: a.value.text, Prefix: true})
	return true
}

// isRegistry says whether a text is a registry, or one and more, by Docker's rule.
func isRegistry(text string) bool {
	host, _, _ := strings.Cut(text, "/")
	return isName(text) && (strings.ContainsAny(host, ".:") || host == "localhost")
}

// byDefault takes the default of an argument for a name.
func (f *file) byDefault(r reading, a *argument, rest string) {
	from := r.from
	if from.text == "" {
		from = r.word
	}
	if a.unclear || a.deep {
		f.find(from, Composed)
		return
	}
	a.deep = true
	a.uses = append(a.uses, from)
	f.name(reading{word: a.value, instruction: "ARG", rest: rest, from: from, owner: a})
	a.deep = false
}

// partial takes a text that begins with letters, and has arguments behind them.
func (f *file) partial(r reading, parts []part) {
	lead := parts[0].text
	end := tagStart(lead)
	text := r.text + r.rest
	switch {
	case end >= 0 && !strings.Contains(text[end:], "/") && !f.slashes(parts):
		// Arguments are in the tag or digest alone.
		f.add(r, Span{Start: r.start, End: r.start + end, Instruction: r.instruction, Name: lead[:end]})
	case end < 0 && strings.Contains(lead, "/"):
		rest := f.standIn(parts[1:])
		if i := tagStart(lead + rest); i >= 0 {
			rest = (lead + rest)[len(lead):max(i, len(lead))]
		}
		f.add(r, Span{Start: r.start, End: r.start + len(lead), Instruction: r.instruction, Name: lead + rest, Rest: rest})
	default:
		f.find(r.blame(), Composed)
		r.spoilOwner()
	}
}

func (f *file) add(r reading, s Span) {
	switch {
	case !isName(s.Name):
		f.find(r.blame(), NoName)
		r.spoilOwner()
	case r.owner != nil:
		r.owner.span(s)
	default:
		f.spans = append(f.spans, s)
	}
}

// slashes says whether the default of an argument has one, which no tag can have.
func (f *file) slashes(parts []part) bool {
	for _, p := range parts {
		if a := f.args[p.variable]; a != nil && strings.Contains(a.value.text, "/") {
			return true
		}
	}
	return false
}

// standIn puts values for arguments: their defaults where those are the part of a path,
// or x.
func (f *file) standIn(parts []part) string {
	var b strings.Builder
	for _, p := range parts {
		value := p.text
		if p.variable != "" {
			value = "x"
			if a := f.args[p.variable]; a != nil && !p.modified && isPathPart(a.value.text) {
				value = a.value.text
			}
		}
		b.WriteString(value)
	}
	return b.String()
}

// stagePattern says whether a text with arguments can name a stage above: build-${ARCH}
// where there is a build-arm64, and ${TARGETOS}, which BuildKit gives, where there is any.
func (f *file) stagePattern(text string) bool {
	vars, pattern := regexp.MustCompile(`\$\{[^}]*\}|\$[A-Za-z0-9_]+`), "^"
	fixed, given, end := false, true, 0
	for _, at := range vars.FindAllStringIndex(text, -1) {
		given = given && automatic(text[at[0]:at[1]])
		fixed = fixed || at[0] > end
		pattern += regexp.QuoteMeta(strings.ToLower(text[end:at[0]])) + "[a-z0-9_.-]*"
		end = at[1]
	}
	fixed = fixed || end < len(text)
	stage, err := regexp.Compile(pattern + regexp.QuoteMeta(strings.ToLower(text[end:])) + "$")
	if err != nil || !fixed && !given {
		return false
	}
	for name, at := range f.names {
		if at < f.froms && stage.MatchString(name) {
			return true
		}
	}
	return false
}

// automatic says whether a variable is one that BuildKit gives a value that has no
// slash, and that names no image anywhere.
func automatic(variable string) bool {
	switch strings.Trim(variable, "${}") {
	case "TARGETOS", "TARGETARCH", "TARGETVARIANT", "BUILDOS", "BUILDARCH", "BUILDVARIANT":
		return true
	}
	return false
}

// tagStart is where the tag or digest of a name begins, with its colon or at sign;
// negative where it has none.
func tagStart(name string) int {
	if i := strings.IndexByte(name, '@'); i >= 0 {
		name = name[:i]
		if j := strings.LastIndexByte(name, ':'); j > strings.LastIndexByte(name, '/') {
			return j
		}
		return i
	}
	if j := strings.LastIndexByte(name, ':'); j > strings.LastIndexByte(name, '/') {
		return j
	}
	return -1
}
