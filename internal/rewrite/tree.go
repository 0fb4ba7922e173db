package rewrite

import (
	"bytes"
	"sort"
)

// A kind is what a node is.
type kind uint8

const (
	scalarNode kind = iota
	mappingNode
	sequenceNode
	aliasNode
)

// A style is how a scalar is written.
type style uint8

const (
	plain  style = iota
	single       // 'in single quotes'
	double       // "in double quotes"
	opaque       // over several lines, as a block, or with escapes: no image name
)

// A node is one value of a document: of a mapping's entry, of a sequence, or the root.
// Offsets are into the whole source, in bytes. Zero links lead nowhere, as node 0 is
// the root and nobody's child.
type node struct {
	key, keyEnd               int32 // the key as it is written, with quotes; equal where there is none: then the index
	start, end                int32 // the scalar as it is written, with quotes; equal where there is none
	size                      int32 // number of children
	parent, first, last, next int32
	kind                      kind
	style                     style
	flow                      bool // written within brackets
	object                    bool // a Kubernetes object: it has apiVersion and kind
}

// A tree is one document.
type tree struct {
	src     []byte
	nodes   []node
	anchors []anchor
	objects []int32 // the Kubernetes objects

	way   []int32            // of field, kept for the next
	words []byte             // the same
	named map[string][]int32 // the nodes of anchors, in order; nil until it is asked for
}

// An anchor is a name that was given to a node.
type anchor struct {
	name string
	node int32
}

// reset makes the tree an empty one over src, and keeps its memory.
func (t *tree) reset(src []byte) {
	t.src, t.nodes, t.anchors, t.objects = src, append(t.nodes[:0], node{}), t.anchors[:0], t.objects[:0]
	t.named = nil
}

// add makes a child of parent, a scalar without text until more is known.
func (t *tree) add(parent int32, n node) int32 {
	id := place(len(t.nodes)) // a node takes at least a byte of the source
	n.parent = parent
	t.nodes = append(t.nodes, n)
	p := &t.nodes[parent]
	if p.kind == sequenceNode {
		t.nodes[id].key, t.nodes[id].keyEnd = p.size, p.size
	}
	if p.first == 0 {
		p.first = id
	} else {
		t.nodes[p.last].next = id
	}
	p.last = id
	p.size++
	return id
}

// keyOf is the key of a node without its quotes; nil where it has none, or one with
// escapes.
func (t *tree) keyOf(id int32) []byte {
	n := &t.nodes[id]
	return unquoted(t.src[n.key:n.keyEnd])
}

// unquoted is a key or scalar without its quotes; nil where it has escapes.
func unquoted(s []byte) []byte {
	if len(s) < 2 {
		return s
	}
	switch q := s[0]; {
	case q == '"' && s[len(s)-1] == q:
		s = s[1 : len(s)-1]
		if bytes.IndexByte(s, '\\') >= 0 {
			return nil
		}
	case q == '\'' && s[len(s)-1] == q:
		s = s[1 : len(s)-1]
		if bytes.IndexByte(s, '\'') >= 0 {
			return nil
		}
	}
	return s
}

// text is what a scalar says; empty for anything else, and where it has escapes.
func (t *tree) text(id int32) string {
	start, end := t.inner(id)
	return string(t.src[start:end])
}

// inner is where the text of a scalar is, without its quotes.
func (t *tree) inner(id int32) (start, end int32) {
	n := &t.nodes[id]
	if n.kind != scalarNode || n.style == opaque {
		return n.start, n.start
	}
	if n.style == plain {
		return n.start, n.end
	}
	return n.start + 1, n.end - 1
}

// get is the entry of a mapping, or 0.
func (t *tree) get(mapping int32, key string) int32 {
	if t.nodes[mapping].kind != mappingNode {
		return 0
	}
	for id := t.nodes[mapping].first; id != 0; id = t.nodes[id].next {
		if string(t.keyOf(id)) == key {
			return id
		}
	}
	return 0
}

// first is the key below a mapping on the way from it to a node.
func (t *tree) first(mapping, id int32) string {
	for t.nodes[id].parent != mapping {
		id = t.nodes[id].parent
	}
	return string(t.keyOf(id))
}

// scalar is the text at a key of a mapping; empty where there is none.
func (t *tree) scalar(mapping int32, key string) string {
	if id := t.get(mapping, key); id != 0 {
		return t.text(id)
	}
	return ""
}

// under tells whether a node is an element of a sequence that is at a key.
func (t *tree) under(id int32, keys ...string) bool {
	list := t.nodes[id].parent
	if id == 0 || t.nodes[list].kind != sequenceNode {
		return false
	}
	at := t.keyOf(list)
	for _, k := range keys {
		if string(at) == k {
			return true
		}
	}
	return false
}

// anchored is the node that an alias stands for, or 0.
func (t *tree) anchored(alias int32) int32 {
	n := &t.nodes[alias]
	if n.kind != aliasNode || n.end <= n.start {
		return 0
	}
	if t.named == nil {
		t.named = make(map[string][]int32)
		for _, a := range t.anchors {
			t.named[a.name] = append(t.named[a.name], a.node)
		}
	}
	nodes := t.named[string(t.src[n.start+1:n.end])]
	if before := sort.Search(len(nodes), func(i int) bool { return nodes[i] >= alias }); before > 0 {
		return nodes[before-1] // a name may be given again
	}
	return 0
}
