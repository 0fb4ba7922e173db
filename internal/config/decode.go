package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

const (
	// maxTokens bounds a file: the parser's time grows with the square of the
	// entries of a mapping and its stack with their depth.
	maxTokens = 20_000
	// maxNodes bounds how often nodes are looked at, which is more than there
	// are when anchors are used.
	maxNodes = 100_000
)

// A decoder reads the nodes of one file.
type decoder struct {
	*loader
	anchors map[string]ast.Node
	nodes   int // looked at
}

// A node is a value of the file with its path.
type node struct {
	ast.Node
	at place
}

// decode reads the file's text into the configuration.
func (l *loader) decode(src []byte) {
	whole := place{file: l.file}
	if !utf8.Valid(src) {
		l.complain(whole, complainf(msgNotText))
		return
	}
	file, c := parse(strings.TrimPrefix(string(src), "\ufeff"))
	if c != nil {
		at := whole
		if c.token != nil {
			at.line, at.column = c.token.Position.Line, c.token.Position.Column
		}
		l.complain(at, c.complaint)
		return
	}
	var bodies []ast.Node
	for _, doc := range file.Docs {
		if doc.Body != nil {
			bodies = append(bodies, doc.Body)
		}
	}
	switch len(bodies) {
	case 0:
		return
	case 1:
		d := &decoder{loader: l, anchors: anchorsOf(bodies[0])}
		d.root(node{bodies[0], whole})
	default:
		l.complain(whole, complainf(msgManyDocuments))
	}
}

// A located complaint is about one token, or about the whole file when it is
// nil.
type located struct {
	*complaint
	token *token.Token
}

// parse makes the tree of a text. The parser is not trusted with hostile text.
func parse(src string) (file *ast.File, c *located) {
	defer func() {
		if r := recover(); r != nil {
			file, c = nil, &located{complainf(msgSyntax, fmt.Sprint(r)), nil}
		}
	}()
	tokens := lexer.Tokenize(src)
	if len(tokens) > maxTokens {
		return nil, &located{complainf(msgTooComplex), nil}
	}
	file, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		if e, ok := errors.AsType[yaml.Error](err); ok {
			return nil, &located{complainf(msgSyntax, e.GetMessage()), e.GetToken()}
		}
		return nil, &located{complainf(msgSyntax, err.Error()), nil}
	}
	return file, nil
}

// anchorFinder collects the anchors of a tree.
type anchorFinder map[string]ast.Node

// Visit implements [ast.Visitor].
func (f anchorFinder) Visit(n ast.Node) ast.Visitor {
	if a, ok := n.(*ast.AnchorNode); ok && a.Name != nil {
		f[a.Name.GetToken().Value] = a.Value
	}
	return f
}

func anchorsOf(n ast.Node) map[string]ast.Node {
	f := make(anchorFinder)
	ast.Walk(f, n)
	return f
}

// bare returns the value of a node without anchors, aliases and tags; false
// when there is none, and then it has complained.
func (d *decoder) bare(n node) (node, bool) {
	if d.nodes++; d.nodes > maxNodes {
		if d.nodes == maxNodes+1 {
			d.complain(place{file: d.file}, complainf(msgTooComplex))
		}
		return n, false
	}
	for range 16 {
		switch v := n.Node.(type) {
		case *ast.AnchorNode:
			n.Node = v.Value
		case *ast.TagNode:
			n.Node = v.Value
		case *ast.AliasNode:
			if v.Value == nil {
				n.Node = nil
			} else {
				n.Node = d.anchors[v.Value.GetToken().Value]
			}
			if n.Node == nil {
				d.complain(n.at, complainf(msgBadAnchor))
				return n, false
			}
		case nil:
			return node{ast.Null(nil), n.at}, true
		default:
			return n, true
		}
	}
	d.complain(n.at, complainf(msgBadAnchor))
	return n, false
}

// child places a value below a path.
func (d *decoder) child(n ast.Node, field string) node {
	at := place{file: d.file, field: field}
	if n != nil {
		if t := n.GetToken(); t != nil && t.Position != nil {
			at.line, at.column = t.Position.Line, t.Position.Column
		}
	}
	return node{n, at}
}

// A pair is one entry of a mapping.
type pair struct {
	key   string
	at    place // of the key
	value node
}

// mapping returns the entries of a mapping, none for an empty value, and
// complains of everything else and of keys that come twice.
func (d *decoder) mapping(n node) []pair {
	v, ok := d.bare(n)
	if !ok {
		return nil
	}
	var values []*ast.MappingValueNode
	switch m := v.Node.(type) {
	case *ast.MappingNode:
		values = m.Values
	case *ast.MappingValueNode:
		values = []*ast.MappingValueNode{m}
	case *ast.NullNode:
	default:
		d.complain(n.at, complainf(msgWantMapping))
	}
	seen := make(map[string]bool)
	var pairs []pair
	for _, mv := range values {
		key := keyText(mv.Key)
		field := fieldPath(n.at.field, key)
		at := d.child(mv.Key, field).at
		if seen[key] {
			d.complain(at, complainf(msgDuplicateKey, key))
			continue
		}
		seen[key] = true
		value := d.child(mv.Value, field)
		if value.at.line == 0 {
			value.at = at
		}
		pairs = append(pairs, pair{key, at, value})
	}
	return pairs
}

func keyText(k ast.MapKeyNode) string {
	switch v := k.(type) {
	case *ast.StringNode:
		return v.Value
	case nil:
		return ""
	default:
		if t := k.GetToken(); t != nil {
			return t.Value
		}
		return ""
	}
}

// fieldPath joins a path and a key.
func fieldPath(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// fields walks a mapping whose keys are known. Each is read by its function.
func (d *decoder) fields(n node, known map[string]func(node)) {
	for _, p := range d.mapping(n) {
		if read, ok := known[p.key]; ok {
			read(p.value)
			continue
		}
		c := complainf(msgUnknownKey, p.key)
		var names []string
		for name := range known {
			names = append(names, name)
		}
		slices.Sort(names)
		c.meant = suggest(p.key, names)
		d.complain(p.at, c)
	}
}

// list returns the entries of a list.
func (d *decoder) list(n node) []node {
	v, ok := d.bare(n)
	if !ok {
		return nil
	}
	s, ok := v.Node.(*ast.SequenceNode)
	if !ok {
		d.complain(n.at, complainf(msgWantList))
		return nil
	}
	list := make([]node, len(s.Values))
	for i, value := range s.Values {
		list[i] = d.child(value, fmt.Sprintf("%s[%d]", n.at.field, i))
	}
	return list
}

// scalar returns the text of a single value with variables expanded, and the
// text before that. It is false for an empty value, which means "not written",
// and where it has complained.
func (d *decoder) scalar(n node) (text, source string, ok bool) {
	v, ok := d.bare(n)
	if !ok {
		return "", "", false
	}
	switch s := v.Node.(type) {
	case *ast.StringNode:
		source = s.Value
	case *ast.LiteralNode:
		source = strings.TrimRight(s.Value.Value, "\n")
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		source = s.GetToken().Value
	case *ast.NullNode:
		return "", "", false
	default:
		d.complain(n.at, complainf(msgWantScalar))
		return "", "", false
	}
	text, c := d.expand(source)
	if c != nil {
		d.complain(n.at, c)
		return "", "", false
	}
	return text, source, true
}
