package rewrite

import (
	"errors"
	"fmt"
	"strings"
)

// A Path is a field that names images, in objects of a kind.
type Path struct {
	kind, group string // "*" for any kind; empty for any group
	steps       []string
	part        part
}

// A part is what of a name a field has.
type part int

const (
	wholeName part = iota
	beginning      // the registry, or more
	values         // Helm values are below it
)

// The steps of a path that are no keys.
const (
	anyElement = "[*]"
	anyKey     = "*"
	anyDepth   = "**"
)

// ErrPath is what [errors.Is] finds in errors about paths.
var ErrPath = errors.New("not a path")

// ParsePath reads "KIND: spec.foo[*].image", or "KIND.GROUP: …" for the kind of one
// group, or "*: …" for all. A step of the path is a key, "*" for any, "**" for any
// number of steps, or "[*]" for the elements of a list; a key with dots is written in
// double quotes; "$." or "." may stand in front. " = prefix" behind it says that the field is the beginning of names,
// such as a registry, and " = values" that Helm values are below it.
func ParsePath(s string) (Path, error) {
	kind, rest, ok := strings.Cut(s, ":")
	kind = strings.TrimSpace(kind)
	if !ok || kind == "" || strings.ContainsAny(kind, " []\"") {
		return Path{}, fmt.Errorf("%w: %q: want KIND: spec.foo[*].image", ErrPath, s)
	}
	var p Path
	p.kind, p.group, _ = strings.Cut(kind, ".")
	rest, part, ok := strings.Cut(rest, "=")
	if ok {
		switch strings.TrimSpace(part) {
		case "prefix":
			p.part = beginning
		case "values":
			p.part = values
		default:
			return Path{}, fmt.Errorf("%w: %q: behind = is prefix or values", ErrPath, s)
		}
	}
	rest = strings.TrimSpace(rest)
	if root, ok := strings.CutPrefix(rest, "$."); ok {
		rest = root
	}
	rest = strings.TrimPrefix(rest, ".")
	for rest != "" {
		step, more, err := cutStep(rest)
		if err != nil {
			return Path{}, fmt.Errorf("%w: %q: %w", ErrPath, s, err)
		}
		p.steps, rest = append(p.steps, step), more
	}
	if len(p.steps) == 0 || p.lastKey() == "" {
		return Path{}, fmt.Errorf("%w: %q: it must end in a key, or in a key and [*]", ErrPath, s)
	}
	return p, nil
}

func cutStep(s string) (step, rest string, err error) {
	switch {
	case strings.HasPrefix(s, anyElement):
		step, rest = anyElement, s[len(anyElement):]
	case s[0] == '"':
		end := strings.IndexByte(s[1:], '"')
		if end <= 0 {
			return "", "", errors.New("a quote is not closed, or nothing is in it")
		}
		step, rest = s[1:end+1], s[end+2:]
	default:
		end := strings.IndexAny(s, ".[")
		if end < 0 {
			end = len(s)
		}
		step, rest = s[:end], s[end:]
		if step == "" || strings.ContainsAny(step, "\"] \t") {
			return "", "", fmt.Errorf("%q is no step", step)
		}
	}
	switch {
	case rest == "" || rest[0] == '[':
		return step, rest, nil
	case rest[0] == '.' && len(rest) > 1:
		return step, rest[1:], nil
	}
	return "", "", fmt.Errorf("%q cannot follow", rest)
}

// lastKey is the key of the fields that a path may lead to; empty where it could be
// any.
func (p Path) lastKey() string {
	for i := len(p.steps) - 1; i >= 0; i-- {
		switch s := p.steps[i]; s {
		case anyElement:
		case anyKey, anyDepth:
			return ""
		default:
			return s
		}
	}
	return ""
}

// matches tells whether a path leads from an object to a node.
func (t *tree) matches(steps []string, from, id int32) bool {
	for i := len(steps) - 1; i >= 0; i-- {
		step := steps[i]
		if step == anyDepth {
			for ; ; id = t.nodes[id].parent {
				if t.matches(steps[:i], from, id) {
					return true
				}
				if id == from || id == 0 {
					return false
				}
			}
		}
		if id == from || id == 0 {
			return false
		}
		element := t.nodes[t.nodes[id].parent].kind == sequenceNode
		switch {
		case step == anyElement && element:
		case element:
			return false
		case step == anyKey:
		case string(t.keyOf(id)) != step:
			return false
		}
		id = t.nodes[id].parent
	}
	return id == from
}
