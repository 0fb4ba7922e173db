package edit

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"unicode"

	"go.yaml.in/yaml/v3"
)

// RenderYAML is a document of its own.
func RenderYAML(m Map) []byte {
	d := &yamlFile{eol: "\n", step: 2}
	var b strings.Builder
	for _, p := range m {
		b.WriteString(d.entry(0, []string{p.Key}, p.Value) + "\n")
	}
	return []byte(b.String())
}

// entry is a key, or several in each other, with a value; without the end of the last
// line.
func (d *yamlFile) entry(indent int, path []string, v any) string {
	for _, below := range backward(path[1:]) {
		v = Map{{below, v}}
	}
	return strings.Repeat(" ", indent) + yamlKey(path[0]) + ":" + d.value(indent, v)
}

// value is what follows the colon of a key that is indented by indent.
func (d *yamlFile) value(indent int, v any) string {
	switch v := v.(type) {
	case Map:
		if len(v) == 0 {
			return " {}"
		}
		var b strings.Builder
		for _, p := range v {
			b.WriteString(d.eol + d.entry(indent+d.step, []string{p.Key}, p.Value))
		}
		return b.String()
	case List:
		if len(v) == 0 {
			return " []"
		}
		var b strings.Builder
		for _, item := range v {
			b.WriteString(d.eol + strings.Repeat(" ", indent+d.step) + "-" + d.item(indent+d.step, item))
		}
		return b.String()
	case string:
		return " " + d.text(indent+d.step, v)
	case bool:
		return " " + strconv.FormatBool(v)
	case int:
		return " " + strconv.Itoa(v)
	default:
		panic(fmt.Sprintf("edit: a value of type %T", v))
	}
}

// longer puts what a list has more into the sequence that is there, in front. It is not
// ok where the list is another one.
func (d *yamlFile) longer(key, value *yaml.Node, list List) ([]byte, bool) {
	var had []any
	if value.Kind != yaml.SequenceNode || value.Decode(&had) != nil {
		return nil, false
	}
	front, line, at := list.front(had), d.line(value.Line), value.Column-1
	if front == nil || at >= len(line) {
		return nil, false
	}
	var b strings.Builder
	switch {
	case line[at] == '[':
		rest := line[at+1:]
		if text := strings.TrimSpace(rest); text == "" || text[0] == '#' { // its elements have lines of their own
			next := d.line(value.Line + 1)
			indent := next[:len(next)-len(strings.TrimLeft(next, " "))]
			for _, v := range front {
				b.WriteString(d.eol + indent + strings.TrimSpace(d.value(0, v)) + ",")
			}
			return d.splice(value.Line, value.Line, strings.TrimPrefix(b.String(), d.eol)), true
		}
		at += 1 + len(rest) - len(strings.TrimLeft(rest, " \t"))
		for _, v := range front {
			b.WriteString(strings.TrimSpace(d.value(0, v)) + ", ")
		}
		return d.splice(value.Line-1, value.Line, line[:at]+b.String()+strings.TrimRight(line[at:], "\r\n")), true
	case line[at] == '-' && value.Line > key.Line && strings.Trim(line[:at], " ") == "":
		for _, v := range front {
			b.WriteString(d.eol + line[:at] + "-" + d.item(at, v))
		}
		return d.splice(key.Line, key.Line, strings.TrimPrefix(b.String(), d.eol)), true
	}
	return nil, false
}

// item is what follows the hyphen of a sequence that is indented by indent.
func (d *yamlFile) item(indent int, v any) string {
	m, ok := v.(Map)
	if !ok || len(m) == 0 {
		return d.value(indent, v)
	}
	// The first key stands on the line of the hyphen.
	var b strings.Builder
	for i, p := range m {
		e := d.entry(indent+2, []string{p.Key}, p.Value)
		if i == 0 {
			b.WriteString(" " + e[indent+2:])
		} else {
			b.WriteString(d.eol + e)
		}
	}
	return b.String()
}

// text is a string in quotes, or as it is where it has several plain lines.
func (d *yamlFile) text(indent int, s string) string {
	lines := strings.Split(s, "\n")
	if n := len(lines); n > 2 && lines[n-1] == "" && lines[n-2] != "" && literal(s) {
		var b strings.Builder
		b.WriteString("|")
		for _, l := range lines[:n-1] {
			b.WriteString(d.eol)
			if l != "" {
				b.WriteString(strings.Repeat(" ", indent) + l)
			}
		}
		return b.String()
	}
	return yamlQuote(s)
}

// yamlKey is a key as a person would write it.
func yamlKey(s string) string {
	if plainKey(s) {
		return s
	}
	return yamlQuote(s)
}

// yamlQuote is a string in double quotes, whose escapes are those of JSON.
func yamlQuote(s string) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(s); err != nil {
		panic(fmt.Sprintf("edit: a string as JSON: %v", err))
	}
	var out strings.Builder
	for _, r := range strings.TrimSuffix(b.String(), "\n") {
		if r == 0x7f || 0x80 <= r && r < 0xa0 || r == 0xfeff || !unicode.IsPrint(r) && r != ' ' {
			fmt.Fprintf(&out, `\U%08X`, r)
		} else {
			out.WriteRune(r)
		}
	}
	return out.String()
}

// literal tells whether lines can stand in a block as they are.
func literal(s string) bool {
	return s[0] != ' ' && !strings.ContainsFunc(s, func(r rune) bool { return r != '\n' && (r < ' ' || r > '~') })
}

// plainKey tells whether a key needs no quotes: letters, digits, hyphens, underscores
// and dots, a letter first, and no word that means yes, no or nothing.
func plainKey(s string) bool {
	for i, r := range s {
		letter := 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z'
		if !letter && (i == 0 || r != '-' && r != '_' && r != '.' && (r < '0' || r > '9')) {
			return false
		}
	}
	switch strings.ToLower(s) {
	case "", "y", "n", "yes", "no", "on", "off", "true", "false", "null":
		return false
	}
	return true
}
