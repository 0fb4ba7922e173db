package edit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
)

// JSON sets values in a document with one object, or in an empty one. The errors are
// those of the parser where src is no JSON, and an [*UnsafeError] where the way to a
// value leads through something that is no object. A list that becomes longer at its
// front keeps the text of what it had.
func JSON(src []byte, sets ...Set) ([]byte, error) {
	for _, s := range sets {
		next, err := setJSON(src, s)
		if err != nil {
			return nil, err
		}
		src = next
	}
	return src, nil
}

// setJSON makes one change and proves it.
func setJSON(src []byte, s Set) ([]byte, error) {
	want, err := decodeJSON(src)
	if err != nil {
		return nil, err
	}
	want, changed, err := assign(want, s.Path, jsonValue(s.Value))
	if err != nil || !changed {
		return src, err
	}
	d := &jsonFile{text: string(src), eol: "\n"}
	if rest, ok := strings.CutPrefix(d.text, "\ufeff"); ok {
		d.text, d.bom = rest, "\ufeff"
	}
	if strings.Contains(d.text, "\r\n") {
		d.eol = "\r\n"
	}
	d.step = d.indentation()
	out := []byte(d.bom + d.set(s))
	got, err := decodeJSON(out)
	if err != nil || !reflect.DeepEqual(got, want) {
		return nil, &UnsafeError{Reason: "the file is written in a way that cannot be edited safely"}
	}
	return out, nil
}

// decodeJSON is what a document means; one with nothing in it is an empty object.
func decodeJSON(src []byte) (any, error) {
	src = bytes.TrimPrefix(src, []byte("\ufeff"))
	if len(bytes.TrimSpace(src)) == 0 {
		return map[string]any{}, nil
	}
	var v any
	d := json.NewDecoder(bytes.NewReader(src))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		at := d.InputOffset()
		if syntax := (*json.SyntaxError)(nil); errors.As(err, &syntax) {
			at = syntax.Offset
		}
		return nil, fmt.Errorf("line %d: %w", 1+bytes.Count(src[:min(int(at), len(src))], []byte("\n")), err)
	}
	if d.More() || len(bytes.TrimSpace(src[d.InputOffset():])) > 0 {
		return nil, &UnsafeError{Reason: "there is something after the object"}
	}
	if _, ok := v.(map[string]any); !ok {
		return nil, &UnsafeError{1, "the file is no object"}
	}
	return v, nil
}

// jsonValue is a value as the parser would return it.
func jsonValue(v any) any {
	if n, ok := v.(int); ok {
		return json.Number(fmt.Sprint(n))
	}
	return plainValue(v)
}

// A jsonFile is a valid document.
type jsonFile struct{ text, bom, eol, step string }

// A jsonMember is one of an object: offsets of its key and of its value.
type jsonMember struct {
	key                        string
	keyAt, keyEnd, at, endedAt int
}

// set finds the deepest object of a path that is there, and puts the rest in.
func (d *jsonFile) set(s Set) string {
	if strings.TrimSpace(d.text) == "" {
		d.text = "{}" + d.eol
	}
	open := d.space(0)
	for depth, name := range s.Path {
		members, end := d.object(open)
		at := -1
		for i, m := range members {
			if m.key == name {
				at = i // of several the last counts
			}
		}
		value := s.Value
		for _, below := range backward(s.Path[min(depth+1, len(s.Path)):]) {
			value = Map{{below, value}}
		}
		if at < 0 {
			return d.insert(open, end, members, name, value)
		}
		m := members[at]
		if depth < len(s.Path)-1 && d.text[m.at] == '{' {
			open = m.at
			continue
		}
		return d.replace(m, value)
	}
	return d.text
}

// replace writes another value for a member.
func (d *jsonFile) replace(m jsonMember, value any) string {
	old := d.text[m.at:m.endedAt]
	if list, ok := value.(List); ok && strings.HasPrefix(old, "[") {
		var had []any
		if err := json.Unmarshal([]byte(old), &had); err == nil && list.front(had) != nil {
			first := d.space(m.at + 1)
			gap := d.text[m.at+1 : first]
			var b strings.Builder
			for _, v := range list.front(had) {
				b.WriteString(renderJSON(v) + ",")
				if b.WriteString(gap); !strings.ContainsAny(gap, "\r\n") && gap == "" {
					b.WriteByte(' ')
				}
			}
			return d.text[:first] + b.String() + d.text[first:]
		}
	}
	return d.text[:m.at] + renderJSON(value) + d.text[m.endedAt:]
}

// insert adds a member at the end of an object, as the one before it is written.
func (d *jsonFile) insert(open, end int, members []jsonMember, name string, value any) string {
	if len(members) > 0 {
		last := members[len(members)-1]
		gap, colon := d.keyGap(last.keyAt), d.text[last.keyEnd:last.at]
		if len(colon) > len(": ") {
			colon = ": " // values in columns
		}
		return d.text[:last.endedAt] + "," + gap + renderJSON(name) + colon + renderJSON(value) + d.text[last.endedAt:]
	}
	line := d.text[strings.LastIndexByte(d.text[:open], '\n')+1 : open]
	indent := line[:len(line)-len(strings.TrimLeft(line, " \t"))]
	return d.text[:open] + "{" + d.eol + indent + d.step + renderJSON(name) + ": " + renderJSON(value) + d.eol + indent + d.text[end-1:]
}

// keyGap is the white space in front of a key.
func (d *jsonFile) keyGap(at int) string {
	before := strings.TrimRight(d.text[:at], " \t\r\n")
	return d.text[len(before):at]
}

// indentation is that of the first key of the file, two spaces where it has none.
func (d *jsonFile) indentation() string {
	if at := strings.IndexByte(d.text, '"'); at >= 0 {
		if gap := d.keyGap(at); strings.Contains(gap, "\n") {
			if step := gap[strings.LastIndexByte(gap, '\n')+1:]; step != "" {
				return step
			}
		}
	}
	return "  "
}

// object reads the members of the object that begins at an offset, and where it ends.
func (d *jsonFile) object(at int) (members []jsonMember, end int) {
	for at = d.space(at + 1); d.text[at] != '}'; {
		m := jsonMember{keyAt: at, keyEnd: d.skip(at)}
		_ = json.Unmarshal([]byte(d.text[m.keyAt:m.keyEnd]), &m.key) // it was parsed before
		m.at = d.space(d.space(m.keyEnd) + 1)
		m.endedAt = d.skip(m.at)
		members = append(members, m)
		if at = d.space(m.endedAt); d.text[at] == ',' {
			at = d.space(at + 1)
		}
	}
	return members, at + 1
}

// space is the next offset that is not white.
func (d *jsonFile) space(at int) int {
	for at < len(d.text) && strings.IndexByte(" \t\r\n", d.text[at]) >= 0 {
		at++
	}
	return at
}

// skip is the offset after a value.
func (d *jsonFile) skip(at int) int {
	for depth := 0; at < len(d.text); {
		switch c := d.text[at]; c {
		case '"':
			for at++; d.text[at] != '"'; at++ {
				if d.text[at] == '\\' {
					at++
				}
			}
			at++
		case '{', '[':
			depth++
			at++
			continue
		case '}', ']':
			depth--
			at++
		case ',', ':', ' ', '\t', '\r', '\n':
			at++
			continue
		default:
			at += max(1, strings.IndexAny(d.text[at:]+" ", ",]} \t\r\n"))
		}
		if depth == 0 {
			break
		}
	}
	return at
}

// renderJSON is a value on one line.
func renderJSON(v any) string {
	switch v := v.(type) {
	case List:
		parts := make([]string, len(v))
		for i := range v {
			parts[i] = renderJSON(v[i])
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case Map:
		parts := make([]string, len(v))
		for i, p := range v {
			parts[i] = renderJSON(p.Key) + ": " + renderJSON(p.Value)
		}
		return "{" + strings.Join(parts, ", ") + "}"
	}
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return "null" // the proof fails
	}
	return strings.TrimSuffix(b.String(), "\n")
}
