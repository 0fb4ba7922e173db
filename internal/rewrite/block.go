package rewrite

import (
	"bytes"
	"sort"
	"strings"
)

// A block is the text of a literal or folded scalar, |, > and their kind: its lines
// without their indentation, with where each begins in the source and in the text.
type block struct {
	text         []byte
	source, line []int
	folded       bool
	stripped     bool // no line break is at its end
}

// block reads the block scalar at a key. It is not ok where there is none, and where it
// says itself how far it is indented.
func (t *tree) block(id int32) (b block, ok bool) {
	n := &t.nodes[id]
	p := int(n.start)
	if n.kind != scalarNode || n.style != opaque || p == 0 || n.key == n.keyEnd || t.src[p] != '|' && t.src[p] != '>' {
		return b, false
	}
	head, _, _ := bytes.Cut(t.src[p+1:eol(t.src, p)], []byte(" "))
	head = bytes.TrimRight(head, "\r")
	if len(head) > 1 || len(head) == 1 && head[0] != '-' && head[0] != '+' {
		return b, false
	}
	b.folded, b.stripped = t.src[p] == '>', string(head) == "-"
	above := int(n.key) - (bytes.LastIndexByte(t.src[:n.key], '\n') + 1)
	indent := -1
	for begin := after(t.src, p); begin < len(t.src); begin = after(t.src, begin) {
		text := begin
		for text < len(t.src) && t.src[text] == ' ' {
			text++
		}
		if text == len(t.src) || isBreak(t.src[text]) {
			b.add(t.src, max(begin, min(begin+indent, text)), after(t.src, begin))
			continue
		}
		if indent < 0 && text-begin > above {
			indent = text - begin
		}
		if indent < 0 || text-begin < indent {
			break
		}
		b.add(t.src, begin+indent, after(t.src, begin))
	}
	return b, true
}

func (b *block) add(src []byte, start, end int) {
	b.source, b.line = append(b.source, start), append(b.line, len(b.text))
	b.text = append(b.text, src[start:end]...)
}

// at is where in the source a place in the text is, and in which line.
func (b *block) at(offset int) (source, line int) {
	line = sort.SearchInts(b.line, offset+1) - 1
	return b.source[line] + offset - b.line[line], line
}

// onlyLine is where the text of a block scalar is that has one line and no break at its
// end; two equal offsets where it is none.
func (t *tree) onlyLine(id int32) (start, end int32) {
	n := &t.nodes[id]
	b, ok := t.block(id)
	text := strings.TrimRight(string(b.text), "\r\n")
	if !ok || !b.stripped || text == "" || strings.ContainsAny(text, " \t\r\n") {
		return n.start, n.start
	}
	return place(b.source[0]), place(b.source[0] + len(text))
}

// embedded deals with a literal block, or a line, that is a document of its own.
func (u *run) embedded(id int32, read func(*run)) {
	t := &u.tree
	n := &t.nodes[id]
	if n.kind != scalarNode || n.start == 0 {
		return
	}
	b, ok := t.block(id)
	if n.style != opaque { // it is one line
		start, end := t.inner(id)
		b.add(t.src, int(start), int(end))
		ok = true
	}
	if !ok || b.folded {
		u.find(n.start, Finding{Field: t.field(id), Reason: Escaped})
		return
	}
	in := newRun(u.Rewriter, b.text)
	in.renamed, in.tagged = u.renamed, u.tagged
	read(in)
	edits := make([]edit, 0, len(in.edits))
	for _, e := range in.edits {
		start, line := b.at(e.start)
		if _, last := b.at(max(e.end-1, e.start)); last != line || !n.holds(e.text) {
			u.find(n.start, Finding{Field: t.field(id), Reason: Escaped})
			return
		}
		edits = append(edits, edit{start, start + e.end - e.start, e.text})
	}
	u.edits = append(u.edits, edits...)
	field := t.field(id)
	for _, i := range in.images {
		i.offset, _ = b.at(i.offset)
		i.Field = strings.TrimSuffix(field+"."+i.Field, ".")
		u.images = append(u.images, i)
	}
	for _, f := range in.finds {
		f.offset, _ = b.at(min(f.offset, len(b.text)-1))
		f.Field = strings.TrimSuffix(field+"."+f.Field, ".")
		u.finds = append(u.finds, f)
	}
}

// holds tells whether a text can be put into a scalar as it is: quotes end one in double
// quotes, and brackets one without quotes that is within brackets.
func (n *node) holds(text string) bool {
	switch n.style {
	case double:
		return !strings.Contains(text, `"`)
	case plain:
		return !n.flow || !strings.Contains(text, "[")
	default:
		return true
	}
}
