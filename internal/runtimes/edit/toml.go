package edit

import (
	"bytes"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// TOML sets values, strings, booleans, numbers and lists of them, in a document, which
// may be empty. The errors are those of the parser where src is no TOML, and an
// [*UnsafeError] where the way to a value leads through an inline table, a list of
// tables, or something that is no table. A list that becomes longer at its front keeps
// the text of what it had, comments too.
func TOML(src []byte, sets ...Set) ([]byte, error) {
	for _, s := range sets {
		next, err := setTOML(src, s)
		if err != nil {
			return nil, err
		}
		src = next
	}
	return src, nil
}

// setTOML makes one change and proves it.
func setTOML(src []byte, s Set) ([]byte, error) {
	want, err := decodeTOML(src)
	if err != nil {
		return nil, err
	}
	meant, changed, err := assign(want, s.Path, tomlValue(s.Value))
	if err != nil || !changed {
		return src, err
	}
	d, err := newTOMLFile(src)
	if err != nil {
		return nil, err
	}
	if out, err := proven(d.set(s), meant); err == nil {
		return out, nil
	}
	d.anew = true
	return proven(d.set(s), meant)
}

// WithoutTOML takes the table of a path away, with everything in it and the tables
// below it, which must not be parts of others. Where there is none, nothing changes.
func WithoutTOML(src []byte, path ...string) ([]byte, error) {
	meant, err := decodeTOML(src)
	if err != nil {
		return nil, err
	}
	if !remove(meant, path) {
		return src, nil
	}
	d, err := newTOMLFile(src)
	if err != nil {
		return nil, err
	}
	out, err := proven(d.without(path), meant)
	if err == nil {
		return out, nil
	}
	// The table that it was in existed by its name alone.
	for above := path[:len(path)-1]; len(above) > 0; above = above[:len(above)-1] {
		if below, ok := look(meant, above).(map[string]any); ok && len(below) == 0 {
			remove(meant, above)
			if out, err := proven(d.without(path), meant); err == nil {
				return out, nil
			}
		}
	}
	return nil, err
}

// proven is a text that means what it should.
func proven(out string, want any) ([]byte, error) {
	got, err := decodeTOML([]byte(out))
	if err != nil || !reflect.DeepEqual(any(got), want) {
		return nil, &UnsafeError{Reason: "the file is written in a way that cannot be edited safely"}
	}
	return []byte(out), nil
}

func decodeTOML(src []byte) (map[string]any, error) {
	v := map[string]any{}
	if err := toml.Unmarshal(bytes.TrimPrefix(src, []byte("\ufeff")), &v); err != nil {
		return nil, err
	}
	return v, nil
}

// tomlValue is a value as the parser would return it.
func tomlValue(v any) any {
	switch v := v.(type) {
	case int:
		return int64(v)
	case List:
		l := make([]any, len(v))
		for i := range v {
			l[i] = tomlValue(v[i])
		}
		return l
	}
	return v
}

func look(v any, path []string) any {
	for _, name := range path {
		m, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = m[name]
	}
	return v
}

func remove(v map[string]any, path []string) bool {
	above, ok := look(v, path[:len(path)-1]).(map[string]any)
	if !ok {
		return false
	}
	if _, ok = above[path[len(path)-1]]; ok {
		delete(above, path[len(path)-1])
	}
	return ok
}

// A tomlFile is a valid document.
type tomlFile struct {
	text, bom, eol string
	anew           bool // lists that become longer are written anew
	all            []tomlEntry
}

// A tomlEntry is a header or a key with its value; offsets are into the text.
type tomlEntry struct {
	header      bool
	path        []string // from the root
	table       []string // that it is in, or is
	at, endedAt int      // of the header's name, or of the value
	keyAt       int
}

func newTOMLFile(src []byte) (*tomlFile, error) {
	d := &tomlFile{text: string(src), eol: "\n"}
	if rest, ok := strings.CutPrefix(d.text, "\ufeff"); ok {
		d.text, d.bom = rest, "\ufeff"
	}
	if strings.Contains(d.text, "\r\n") {
		d.eol = "\r\n"
	}
	var p unstable.Parser
	p.Reset([]byte(d.text))
	var table []string
	for p.NextExpression() {
		n := p.Expression()
		switch n.Kind {
		case unstable.Table, unstable.ArrayTable:
			e := tomlEntry{header: true}
			e.path, e.at, e.endedAt = tomlKey(n)
			e.keyAt, table, e.table = e.at, e.path, e.path
			d.all = append(d.all, e)
		case unstable.KeyValue:
			e := tomlEntry{table: table}
			var key []string
			key, e.keyAt, e.at = tomlKey(n)
			e.path = slices.Concat(table, key)
			e.endedAt = int(n.Raw.Offset + n.Raw.Length)
			e.at = d.after(e.at)
			d.all = append(d.all, e)
		}
	}
	return d, p.Error()
}

// tomlKey is a key with the offsets of its beginning and its end.
func tomlKey(n *unstable.Node) (key []string, at, end int) {
	at = -1
	for it := n.Key(); it.Next(); {
		k := it.Node()
		if key = append(key, string(k.Data)); at < 0 {
			at = int(k.Raw.Offset)
		}
		end = int(k.Raw.Offset + k.Raw.Length)
	}
	return key, at, end
}

// after is the offset of the value after a key that ends at an offset.
func (d *tomlFile) after(end int) int {
	rest := d.text[end:]
	value := strings.TrimLeft(rest[strings.IndexByte(rest, '=')+1:], " \t")
	return len(d.text) - len(value)
}

// set replaces a value, or puts it below the header of its table, or behind what was
// said of the table by dotted keys, or makes the table at the end.
func (d *tomlFile) set(s Set) string {
	value := renderTOML(s.Value)
	table, key := s.Path[:len(s.Path)-1], s.Path[len(s.Path)-1:]
	header, dotted := -1, -1
	for i, e := range d.all {
		switch {
		case !e.header && slices.Equal(e.path, s.Path):
			if list, ok := s.Value.(List); ok && !d.anew {
				value = d.longer(e, list, value)
			}
			return d.bom + d.text[:e.at] + value + d.text[e.endedAt:]
		case e.header && slices.Equal(e.path, table):
			header = i
		case !e.header && len(e.path) > len(table) && slices.Equal(e.path[:len(table)], table) && len(e.table) < len(table):
			dotted = i
		}
	}
	switch {
	case len(table) == 0:
		return d.bom + d.root(tomlName(key)+" = "+value)
	case header >= 0:
		return d.bom + d.below(header, tomlName(key)+" = "+value)
	case dotted >= 0:
		e := d.all[dotted]
		return d.bom + d.line(e.endedAt, d.indent(e.keyAt)+tomlName(s.Path[len(e.table):])+" = "+value)
	}
	out := d.text
	if out != "" && !strings.HasSuffix(out, "\n") {
		out += d.eol
	}
	if out != "" {
		out += d.eol
	}
	return d.bom + out + "[" + tomlName(table) + "]" + d.eol + "  " + tomlName(key) + " = " + value + d.eol
}

// longer puts what a list has more into the text of the one that is there, in front.
// Where that is another one, it returns the new value.
func (d *tomlFile) longer(e tomlEntry, list List, value string) string {
	old := d.text[e.at:e.endedAt]
	was, err := decodeTOML([]byte("x = " + old))
	had, _ := was["x"].([]any)
	front := list.front(had)
	if err != nil || front == nil || old[0] != '[' {
		return value
	}
	line, rest, more := strings.Cut(old[1:], "\n")
	if text := strings.TrimSpace(line); more && (text == "" || text[0] == '#') { // its elements have lines of their own
		indent := rest[:len(rest)-len(strings.TrimLeft(rest, " \t"))]
		out := old[:1] + line + "\n"
		for _, v := range front {
			out += indent + renderTOML(v) + "," + d.eol
		}
		return out + rest
	}
	first := len(old) - len(strings.TrimLeft(old[1:], " \t"))
	out := old[:first]
	for _, v := range front {
		out += renderTOML(v) + ", "
	}
	return out + old[first:]
}

// below puts a line below a header, indented as the line after it or as it is.
func (d *tomlFile) below(header int, line string) string {
	e := d.all[header]
	indent := d.indent(e.at) + "  "
	if header+1 < len(d.all) && !d.all[header+1].header {
		indent = d.indent(d.all[header+1].keyAt)
	}
	return d.line(e.endedAt, indent+line)
}

// root puts a line in front of the first header, behind the last key there.
func (d *tomlFile) root(line string) string {
	last := -1
	for i, e := range d.all {
		if e.header {
			break
		}
		last = i
	}
	if last >= 0 {
		return d.line(d.all[last].endedAt, line)
	}
	return line + d.eol + d.text
}

// line adds a line after the one that has an offset.
func (d *tomlFile) line(at int, line string) string {
	end := strings.IndexByte(d.text[at:], '\n')
	if end < 0 {
		return d.text + d.eol + line + d.eol
	}
	at += end + 1
	return d.text[:at] + line + d.eol + d.text[at:]
}

// indent is the white space that the line of an offset begins with.
func (d *tomlFile) indent(at int) string {
	line := d.text[strings.LastIndexByte(d.text[:at], '\n')+1 : at]
	return line[:len(line)-len(strings.TrimLeft(line, " \t"))]
}

// without cuts the lines of the tables at and below a path.
func (d *tomlFile) without(path []string) string {
	var b strings.Builder
	b.WriteString(d.bom)
	kept, from := 0, -1
	for _, e := range d.all {
		inside := len(e.path) >= len(path) && slices.Equal(e.path[:len(path)], path)
		start := strings.LastIndexByte(d.text[:e.keyAt], '\n') + 1
		switch {
		case e.header && inside && from < 0:
			from = start
			b.WriteString(d.text[kept:from])
		case e.header && !inside && from >= 0:
			kept, from = d.comments(start), -1
		}
	}
	if from < 0 {
		b.WriteString(d.text[kept:])
	}
	return b.String()
}

// comments is where the comments begin that stand directly above the line at an
// offset.
func (d *tomlFile) comments(at int) int {
	for at > 0 {
		start := strings.LastIndexByte(d.text[:at-1], '\n') + 1
		if !strings.HasPrefix(strings.TrimSpace(d.text[start:at]), "#") {
			break
		}
		at = start
	}
	return at
}

// tomlName is a dotted key.
func tomlName(path []string) string {
	parts := make([]string, len(path))
	for i, p := range path {
		parts[i] = p
		if p == "" || strings.Trim(p, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") != "" {
			parts[i] = tomlString(p)
		}
	}
	return strings.Join(parts, ".")
}

// tomlString is a basic string.
func tomlString(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < ' ' || r == 0x7f:
			fmt.Fprintf(&b, "\\u%04X", r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// renderTOML is a value on one line.
func renderTOML(v any) string {
	switch v := v.(type) {
	case string:
		return tomlString(v)
	case bool:
		return strconv.FormatBool(v)
	case int:
		return strconv.Itoa(v)
	case List:
		parts := make([]string, len(v))
		for i := range v {
			parts[i] = renderTOML(v[i])
		}
		return "[" + strings.Join(parts, ", ") + "]"
	}
	return "" // the proof fails
}
