package web

import (
	"errors"
	"fmt"
	"html/template"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"text/template/parse"
)

// A Message is one text: its key, by which templates and code name it
// ("home.title"), then English, then Chinese. Operands are written as in package fmt;
// both languages take the same ones, in any order ("%[2]s").
type Message [3]string

func (m Message) key() string { return m[0] }

// in is the text in a language.
func (m Message) in(lang Lang) string {
	if lang == Chinese {
		return m[2]
	}
	return m[1]
}

// A Catalogue holds messages by their keys. It does not change once it is made.
type Catalogue struct {
	texts map[string]Message
	takes map[string]int // how many operands; none for 0
}

// NewCatalogue puts messages together. A key that is empty or given twice, a
// missing language, and languages that take different operands are errors, all
// of which are told.
func NewCatalogue(lists ...[]Message) (*Catalogue, error) {
	c := &Catalogue{texts: map[string]Message{}, takes: map[string]int{}}
	var errs []error
	for _, list := range lists {
		for _, m := range list {
			_, twice := c.texts[m.key()]
			switch {
			case m.key() == "":
				errs = append(errs, fmt.Errorf("web: a message without a key: %q", m.in(English)))
			case twice:
				errs = append(errs, fmt.Errorf("web: message %q is given twice", m.key()))
			case m.in(English) == "" || m.in(Chinese) == "":
				errs = append(errs, fmt.Errorf("web: message %q lacks a language", m.key()))
			case !maps.Equal(operands(m.in(English)), operands(m.in(Chinese))):
				errs = append(errs, fmt.Errorf("web: message %q takes different operands in its languages", m.key()))
			}
			c.texts[m.key()] = m
			for n := range operands(m.in(English)) {
				c.takes[m.key()] = max(c.takes[m.key()], n)
			}
		}
	}
	return c, errors.Join(errs...)
}

// Text is the message of a key with its operands put in. An unknown key and a
// wrong number of operands are errors.
func (c *Catalogue) Text(lang Lang, key string, args ...any) (string, error) {
	m, ok := c.texts[key]
	if !ok {
		return "", fmt.Errorf("web: there is no message %q", key)
	}
	if need := c.takes[key]; len(args) != need {
		return "", fmt.Errorf("web: message %q takes %d operands and got %d", key, need, len(args))
	}
	return fmt.Sprintf(m.in(lang), args...), nil
}

// Keys lists the keys in order.
func (c *Catalogue) Keys() []string { return slices.Sorted(maps.Keys(c.texts)) }

// operands maps the number of each operand that a text takes to its verb.
func operands(text string) map[int]byte {
	found := map[int]byte{}
	next := 1
	for _, m := range regexp.MustCompile(`%(?:\[(\d+)\])?[-+# 0]*[\d.]*([a-zA-Z%])`).FindAllStringSubmatch(text, -1) {
		if m[2] == "%" {
			continue
		}
		if n, err := strconv.Atoi(m[1]); err == nil {
			next = n
		}
		found[next] = m[2][0]
		next++
	}
	return found
}

// check reports messages that a template names and the catalogue lacks.
func (c *Catalogue) check(t *template.Template) error {
	var errs []error
	for _, each := range t.Templates() {
		if each.Tree == nil {
			continue
		}
		for _, key := range named(each.Tree.Root, nil) {
			if _, ok := c.texts[key]; !ok {
				errs = append(errs, fmt.Errorf("web: template %s names message %q, which does not exist", each.Name(), key))
			}
		}
	}
	return errors.Join(errs...)
}

// named collects the literal keys that are given to the function t below a node.
func named(n parse.Node, keys []string) []string {
	switch n := n.(type) {
	case *parse.ListNode:
		if n == nil {
			return keys
		}
		for _, each := range n.Nodes {
			keys = named(each, keys)
		}
	case *parse.ActionNode:
		keys = named(n.Pipe, keys)
	case *parse.TemplateNode:
		keys = named(n.Pipe, keys)
	case *parse.IfNode:
		keys = branch(&n.BranchNode, keys)
	case *parse.RangeNode:
		keys = branch(&n.BranchNode, keys)
	case *parse.WithNode:
		keys = branch(&n.BranchNode, keys)
	case *parse.PipeNode:
		if n == nil {
			return keys
		}
		for _, command := range n.Cmds {
			keys = named(command, keys)
		}
	case *parse.CommandNode:
		if id, ok := n.Args[0].(*parse.IdentifierNode); ok && id.Ident == "t" && len(n.Args) > 1 {
			if s, ok := n.Args[1].(*parse.StringNode); ok {
				keys = append(keys, s.Text)
			}
		}
		for _, arg := range n.Args {
			keys = named(arg, keys)
		}
	}
	return keys
}

func branch(n *parse.BranchNode, keys []string) []string {
	keys = named(n.Pipe, keys)
	keys = named(n.List, keys)
	return named(n.ElseList, keys)
}
