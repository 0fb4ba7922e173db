package edit

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// A Set is one value of a document: what is at Path becomes Value. Mappings on the
// way that are not there are made.
type Set struct {
	Path  []string
	Value any // a string, a bool, an int, a List or a Map
}

// A List is a sequence of values.
type List []any

// A Map is a mapping in the order that it is written in.
type Map []Pair

// A Pair is a key with its value.
type Pair struct {
	Key   string
	Value any
}

// front is what a list has in front of what was there before. It is nil where that was
// nothing, or where the list does not end in it.
func (l List) front(had []any) List {
	n := len(l) - len(had)
	if n <= 0 || len(had) == 0 || !reflect.DeepEqual(plainValue(l[n:]), any(had)) {
		return nil
	}
	return l[:n]
}

// Strings is a List of strings.
func Strings(values ...string) List {
	l := make(List, len(values))
	for i, v := range values {
		l[i] = v
	}
	return l
}

// An UnsafeError is why a file cannot be edited without risk to what it means.
type UnsafeError struct {
	Line   int // where, from 1; 0 where it is the file as a whole
	Reason string
}

func (e *UnsafeError) Error() string {
	if e.Line == 0 {
		return e.Reason
	}
	return fmt.Sprintf("line %d: %s", e.Line, e.Reason)
}

// YAML sets values in a document with one mapping, or in an empty one. The errors are
// those of the parser where src is no YAML, and an [*UnsafeError] where the way to a
// value leads through anchors, aliases, tags, merge keys, or braces with something in
// them. A list that becomes longer at its front keeps the text of what it had, comments
// too.
func YAML(src []byte, sets ...Set) ([]byte, error) {
	if len(bytes.TrimSpace(src)) > 0 {
		if _, err := onlyDocument(src); err != nil {
			return nil, err
		}
	}
	for _, s := range sets {
		next, err := setYAML(src, s)
		if err != nil {
			return nil, err
		}
		src = next
	}
	return src, nil
}

// setYAML makes one change and proves it.
func setYAML(src []byte, s Set) ([]byte, error) {
	want, err := decode(src)
	if err != nil {
		return nil, err
	}
	want, changed, err := assign(want, s.Path, plainValue(s.Value))
	if err != nil {
		return nil, err
	}
	if !changed {
		return src, nil
	}
	d, err := newYAMLFile(src)
	if err != nil {
		return nil, err
	}
	for _, d.anew = range []bool{false, true} {
		out, err := d.set(s)
		if err != nil {
			return nil, err
		}
		if got, err := decode(out); err == nil && reflect.DeepEqual(got, want) {
			return out, nil
		}
	}
	return nil, &UnsafeError{Reason: "the file is written in a way that cannot be edited safely"}
}

// onlyDocument parses what has one document.
func onlyDocument(src []byte) (*yaml.Node, error) {
	dec := yaml.NewDecoder(bytes.NewReader(src))
	var doc, more yaml.Node
	if err := dec.Decode(&doc); errors.Is(err, io.EOF) {
		return nil, nil // comments alone
	} else if err != nil {
		return nil, err
	}
	switch err := dec.Decode(&more); {
	case err == nil:
		return nil, &UnsafeError{more.Line, "a second document begins"}
	case !errors.Is(err, io.EOF):
		return nil, err
	}
	return &doc, nil
}

func decode(src []byte) (any, error) {
	if !utf8.Valid(src) {
		return nil, &UnsafeError{Reason: "the file is not UTF-8"}
	}
	var v any
	if err := yaml.Unmarshal(src, &v); err != nil {
		return nil, err
	}
	return v, nil
}

// assign is the edit on what a file means, and whether it makes a difference.
func assign(v any, path []string, value any) (any, bool, error) {
	if len(path) == 0 {
		return value, !reflect.DeepEqual(v, value), nil
	}
	switch m := v.(type) {
	case nil:
		below, _, err := assign(nil, path[1:], value)
		return map[string]any{path[0]: below}, true, err
	case map[string]any:
		below, changed, err := assign(m[path[0]], path[1:], value)
		if err != nil {
			return nil, false, err
		}
		if _, there := m[path[0]]; there && !changed {
			return m, false, nil
		}
		m[path[0]] = below
		return m, true, nil
	case map[any]any:
		below, changed, err := assign(m[path[0]], path[1:], value)
		if err != nil {
			return nil, false, err
		}
		if _, there := m[path[0]]; there && !changed {
			return m, false, nil
		}
		m[path[0]] = below
		return m, true, nil
	default:
		return nil, false, &UnsafeError{Reason: fmt.Sprintf("what %q is to be put in is no mapping", path[0])}
	}
}

// plainValue is a value as the parser would return it.
func plainValue(v any) any {
	switch v := v.(type) {
	case List:
		l := make([]any, len(v))
		for i := range v {
			l[i] = plainValue(v[i])
		}
		return l
	case Map:
		m := make(map[string]any, len(v))
		for _, p := range v {
			m[p.Key] = plainValue(p.Value)
		}
		return m
	}
	return v
}

// A yamlFile is a document and its lines.
type yamlFile struct {
	root  *yaml.Node // the mapping; nil where there is nothing
	lines []string   // each with its end
	bom   string
	eol   string
	step  int  // columns that a level is indented by
	anew  bool // lists that become longer are written anew
}

func newYAMLFile(src []byte) (*yamlFile, error) {
	d := &yamlFile{eol: "\n", step: 2}
	text := string(src)
	if rest, ok := strings.CutPrefix(text, "\ufeff"); ok {
		text, d.bom = rest, "\ufeff"
	}
	if strings.Contains(text, "\r\n") {
		d.eol = "\r\n"
	}
	if strings.ContainsAny(strings.ReplaceAll(text, "\r\n", ""), "\r\u0085\u2028\u2029") {
		return nil, &UnsafeError{Reason: "lines end in an unusual way"}
	}
	d.lines = strings.SplitAfter(text, "\n")
	if n := len(d.lines); d.lines[n-1] == "" {
		d.lines = d.lines[:n-1]
	}
	doc, err := onlyDocument([]byte(text))
	if err != nil {
		return nil, err
	}
	if doc == nil || len(doc.Content) == 0 || empty(doc.Content[0]) && doc.Content[0].Kind == yaml.ScalarNode {
		return d, nil
	}
	d.root = doc.Content[0]
	if d.root.Kind != yaml.MappingNode {
		return nil, &UnsafeError{d.root.Line, "the file is no mapping"}
	}
	d.findStep(d.root)
	return d, nil
}

// findStep takes over the indentation of the first mapping in a mapping.
func (d *yamlFile) findStep(m *yaml.Node) {
	for i := 1; i < len(m.Content); i += 2 {
		key, value := m.Content[i-1], m.Content[i]
		if value.Kind != yaml.MappingNode || value.Style&yaml.FlowStyle != 0 || len(value.Content) == 0 {
			continue
		}
		if step := value.Content[0].Column - key.Column; step > 0 && value.Content[0].Line > key.Line {
			d.step = step
		}
		return
	}
}

// empty tells whether a node says nothing: null, or braces with nothing in them.
func empty(n *yaml.Node) bool {
	if n.Anchor != "" {
		return false
	}
	switch n.Kind {
	case yaml.ScalarNode:
		return n.Tag == "!!null" && n.Style&yaml.TaggedStyle == 0
	case yaml.MappingNode:
		return len(n.Content) == 0 && n.Style&yaml.TaggedStyle == 0
	default:
		return false
	}
}

// set finds the deepest mapping of a path that is there, and puts the rest in.
func (d *yamlFile) set(s Set) ([]byte, error) {
	if d.root == nil {
		return d.begin(s)
	}
	m, end := d.root, d.end(len(d.lines))
	for depth, name := range s.Path {
		if err := d.editable(m); err != nil {
			return nil, err
		}
		at := find(m, name)
		if at < 0 {
			indent := m.Content[0].Column - 1
			return d.splice(end, end, d.entry(indent, s.Path[depth:], s.Value)), nil
		}
		key, value := m.Content[at], m.Content[at+1]
		if at+2 < len(m.Content) {
			end = d.end(m.Content[at+2].Line - 1)
		}
		last := depth == len(s.Path)-1
		if !last && value.Kind == yaml.MappingNode && len(value.Content) > 0 {
			m = value
			continue
		}
		if !last && !empty(value) {
			return nil, &UnsafeError{value.Line, fmt.Sprintf("%q is no mapping", name)}
		}
		rest := s.Value
		for _, below := range backward(s.Path[depth+1:]) {
			rest = Map{{below, rest}}
		}
		return d.replace(key, value, end, rest)
	}
	return nil, &UnsafeError{Reason: "no path"}
}

func backward(path []string) []string {
	back := make([]string, 0, len(path))
	for i := len(path) - 1; i >= 0; i-- {
		back = append(back, path[i])
	}
	return back
}

// begin writes into a document that has nothing but comments.
func (d *yamlFile) begin(s Set) ([]byte, error) {
	for i, line := range d.lines {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "#") && line != "---" {
			return nil, &UnsafeError{i + 1, "the file is no mapping"}
		}
	}
	return d.splice(len(d.lines), len(d.lines), d.entry(0, s.Path, s.Value)), nil
}

// editable refuses mappings in which a line cannot simply be added or changed.
func (d *yamlFile) editable(m *yaml.Node) error {
	unsafe := func(reason string) error { return &UnsafeError{m.Line, reason} }
	switch {
	case m.Anchor != "":
		return unsafe("an anchor shares this mapping with other places")
	case m.Style&yaml.FlowStyle != 0 || len(m.Content) == 0:
		return unsafe("the mapping is written in braces")
	case m.Style&yaml.TaggedStyle != 0:
		return unsafe("the mapping has a tag")
	}
	column := m.Content[0].Column
	for i := 0; i < len(m.Content); i += 2 {
		key := m.Content[i]
		switch {
		case key.Kind != yaml.ScalarNode || key.Anchor != "" || key.Style&yaml.TaggedStyle != 0 || key.Column != column:
			return &UnsafeError{key.Line, "a key is not a simple one"}
		case key.Tag == "!!merge":
			return &UnsafeError{key.Line, "a merge key brings other values in"}
		case strings.Trim(d.line(key.Line)[:min(column-1, len(d.line(key.Line)))], " ") != "":
			return &UnsafeError{key.Line, "the key does not begin its line"}
		}
	}
	return nil
}

func (d *yamlFile) line(n int) string {
	if n < 1 || n > len(d.lines) {
		return ""
	}
	return d.lines[n-1]
}

func find(m *yaml.Node, name string) int {
	for i := 0; i < len(m.Content); i += 2 {
		if m.Content[i].Value == name && m.Content[i].Tag == "!!str" {
			return i
		}
	}
	return -1
}

// end is the number of lines before n without those at their end that are blank, a
// comment or the end of the document: these belong to what follows.
func (d *yamlFile) end(n int) int {
	for n > 0 {
		line := strings.TrimSpace(d.lines[n-1])
		rest, ends := strings.CutPrefix(d.lines[n-1]+" ", "...")
		ends = ends && strings.ContainsAny(rest[:1], " \t\r\n") // "...: 1" is a key
		if line != "" && line[0] != '#' && !ends {
			break
		}
		n--
	}
	return n
}

// replace writes another value for a key whose entry ends before line end.
func (d *yamlFile) replace(key, value *yaml.Node, end int, v any) ([]byte, error) {
	if value.Kind == yaml.AliasNode || anchored(value) {
		return nil, &UnsafeError{value.Line, "an anchor shares this value with other places"}
	}
	if list, ok := v.(List); ok && !d.anew {
		if out, ok := d.longer(key, value, list); ok {
			return out, nil
		}
	}
	line := d.line(key.Line)
	colon, ok := afterKey(line, key)
	if !ok {
		return nil, &UnsafeError{key.Line, "the key is not a simple one"}
	}
	rendered := d.value(key.Column-1, v)
	comment := value.LineComment
	if comment == "" {
		comment = key.LineComment
	}
	// A comment stays on its line; where the value had several, on the key's.
	if comment != "" && strings.HasSuffix(strings.TrimRight(line, "\r\n"), comment) {
		first, rest, more := strings.Cut(rendered, d.eol)
		rendered = first + " " + comment
		if more {
			rendered += d.eol + rest
		}
	}
	return d.splice(key.Line-1, max(end, key.Line), line[:colon]+rendered), nil
}

// anchored tells whether something in a value is used elsewhere, or may be.
func anchored(n *yaml.Node) bool {
	if n.Anchor != "" {
		return true
	}
	for _, below := range n.Content {
		if anchored(below) {
			return true
		}
	}
	return false
}

// afterKey is the place in a line after a key and its colon.
func afterKey(line string, key *yaml.Node) (int, bool) {
	at := key.Column - 1
	if at >= len(line) {
		return 0, false
	}
	switch q := line[at]; q {
	case '"', '\'':
		i := at + 1
		for ; i < len(line); i++ {
			if q == '"' && line[i] == '\\' || q == '\'' && strings.HasPrefix(line[i:], "''") {
				i++
			} else if line[i] == q {
				break
			}
		}
		at = i + 1
	default:
		if !strings.HasPrefix(line[at:], key.Value) {
			return 0, false
		}
		at += len(key.Value)
	}
	for at < len(line) && line[at] == ' ' {
		at++
	}
	return at + 1, at < len(line) && line[at] == ':'
}

// splice puts text in the place of lines from up to to.
func (d *yamlFile) splice(from, to int, text string) []byte {
	var b strings.Builder
	b.WriteString(d.bom)
	for _, l := range d.lines[:from] {
		b.WriteString(l)
	}
	if from > 0 && !strings.HasSuffix(d.lines[from-1], "\n") {
		b.WriteString(d.eol)
	}
	b.WriteString(text)
	b.WriteString(d.eol)
	for _, l := range d.lines[to:] {
		b.WriteString(l)
	}
	return []byte(b.String())
}
