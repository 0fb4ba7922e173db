package rewrite

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// maxUnusual bounds a document that is handed to the library, in bytes: it takes many
// times that in memory, and some inputs cost it the square.
const maxUnusual = 8 << 20

var errLarge = errors.New("too large for YAML of this kind")

// parse reads a document that the scanner refused, src[start:end], with the library.
// The library tells where scalars begin; where they end is read from the source, and
// what is not there as the library says is opaque.
func parse(t *tree, start, end int) error {
	if end-start > maxUnusual {
		return errLarge
	}
	var doc, more yaml.Node
	decoder := yaml.NewDecoder(bytes.NewReader(t.src[start:end]))
	if err := decoder.Decode(&doc); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: %w", errUnusual, err)
	}
	if err := decoder.Decode(&more); err == nil {
		return fmt.Errorf("%w: line %d: something follows the document", errUnusual, more.Line)
	} else if !errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: %w", errUnusual, err)
	}
	if doc.Kind != yaml.DocumentNode || len(doc.Content) != 1 {
		return nil // nothing but comments
	}
	l := library{tree: t, lines: lineStarts(t.src, start, end), nodes: make(map[*yaml.Node]int32)}
	return l.value(0, doc.Content[0], 0)
}

// A library makes a tree of the library's nodes.
type library struct {
	*tree
	lines []int // where each line of the document begins
	nodes map[*yaml.Node]int32
}

func lineStarts(src []byte, start, end int) []int {
	lines := []int{start}
	for p := start; p < end; {
		c := src[p]
		switch {
		case c == '\n':
			p++
		case c == '\r' && (p+1 == end || src[p+1] != '\n'):
			p++
		case bytes.HasPrefix(src[p:end], []byte("\u0085")):
			p += 2
		case bytes.HasPrefix(src[p:end], []byte("\u2028")), bytes.HasPrefix(src[p:end], []byte("\u2029")):
			p += 3
		default:
			p++
			continue
		}
		lines = append(lines, p)
	}
	return lines
}

// offset is where the library says that a node begins. Its columns count characters.
func (l *library) offset(n *yaml.Node) (int, bool) {
	if n.Line < 1 || n.Line > len(l.lines) {
		return 0, false
	}
	p := l.lines[n.Line-1]
	for range n.Column - 1 {
		if p >= len(l.src) {
			return 0, false
		}
		_, size := utf8.DecodeRune(l.src[p:])
		p += size
	}
	return p, p < len(l.src)
}

func (l *library) value(id int32, n *yaml.Node, depth int) error {
	if depth > maxDepth {
		return errDeep
	}
	if n.Anchor != "" {
		l.anchors = append(l.anchors, anchor{n.Anchor, id})
	}
	flow := n.Style&yaml.FlowStyle != 0
	l.tree.nodes[id].flow = l.tree.nodes[l.tree.nodes[id].parent].flow && id != 0 || flow
	switch n.Kind {
	case yaml.ScalarNode:
		l.scalar(id, n)
	case yaml.AliasNode:
		l.tree.nodes[id].kind = aliasNode
		if p, ok := l.offset(n); ok && bytes.HasPrefix(l.src[p:], []byte("*"+n.Value)) {
			l.tree.nodes[id].start, l.tree.nodes[id].end = place(p), place(p+1+len(n.Value))
		}
	case yaml.SequenceNode:
		l.tree.nodes[id].kind = sequenceNode
		l.bracket(id, n, flow)
		for _, c := range n.Content {
			if err := l.value(l.add(id, node{}), c, depth+1); err != nil {
				return err
			}
		}
	case yaml.MappingNode:
		l.tree.nodes[id].kind = mappingNode
		l.bracket(id, n, flow)
		for i := 0; i+1 < len(n.Content); i += 2 {
			var entry node
			if p, end, st := l.text(n.Content[i]); st != opaque && n.Content[i].Kind == yaml.ScalarNode {
				entry.key, entry.keyEnd = place(p), place(end)
			}
			if err := l.value(l.add(id, entry), n.Content[i+1], depth+1); err != nil {
				return err
			}
		}
	}
	return nil
}

// bracket notes where a collection in brackets begins.
func (l *library) bracket(id int32, n *yaml.Node, flow bool) {
	if p, ok := l.offset(n); ok && flow {
		l.tree.nodes[id].start, l.tree.nodes[id].end = place(p), place(p)
	}
}

func (l *library) scalar(id int32, n *yaml.Node) {
	p, end, st := l.text(n)
	node := &l.tree.nodes[id]
	node.start, node.end, node.style = place(p), place(end), st
}

// text finds a scalar in the source, with its quotes. What is not written as the
// library understands it is opaque.
func (l *library) text(n *yaml.Node) (start, end int, st style) {
	p, ok := l.offset(n)
	switch {
	case n.Value == "" && n.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) == 0:
		return 0, 0, plain // nothing is written
	case !ok:
		return 0, 0, opaque
	}
	for p < len(l.src) && (l.src[p] == '&' || l.src[p] == '!') && n.Style&yaml.TaggedStyle != 0 || p < len(l.src) && l.src[p] == '&' && n.Anchor != "" {
		for p < len(l.src) && !isBlank(l.src[p]) && !isBreak(l.src[p]) {
			p++
		}
		for p < len(l.src) && isBlank(l.src[p]) {
			p++
		}
	}
	quote := ""
	switch {
	case n.Style&yaml.DoubleQuotedStyle != 0:
		quote, st = `"`, double
	case n.Style&yaml.SingleQuotedStyle != 0:
		quote, st = "'", single
	case n.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0:
		return p, p, opaque
	}
	if st == single && strings.Contains(n.Value, "'") || st == double && strings.ContainsAny(n.Value, `"\`) {
		return p, p, opaque
	}
	written := quote + n.Value + quote
	if !bytes.HasPrefix(l.src[p:], []byte(written)) || bytes.ContainsAny([]byte(n.Value), "\r\n") {
		return p, p, opaque
	}
	return p, p + len(written), st
}

// place is an offset into a source, which has less than 2 GiB.
func place(p int) int32 { return int32(p) }
