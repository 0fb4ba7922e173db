package rewrite

import (
	"bytes"
	"strconv"
	"strings"
)

// name deals with a scalar that is the name of an image.
func (u *run) name(id int32) { u.scalar(id, u.whole) }

// prefix deals with a scalar that is the beginning of names.
func (u *run) prefix(id int32) {
	before := len(u.images)
	u.scalar(id, u.beginning)
	if len(u.images) > before {
		u.images[before].Prefix = true
	}
}

// A change is what a part of a text becomes.
type change struct {
	start, end int // in the text
	text       string
}

// scalar deals with a scalar, or with what an alias stands for, once.
func (u *run) scalar(id int32, decide func(text string) (change, Reason, error)) {
	t := &u.tree
	if t.nodes[id].kind == aliasNode {
		if id = t.anchored(id); id == 0 {
			return
		}
	}
	n := &t.nodes[id]
	if n.kind != scalarNode || n.end == n.start && n.style != opaque {
		return
	}
	if len(t.anchors) > 0 { // only aliases lead to a place twice
		if u.at[n.start] {
			return
		}
		u.at[n.start] = true
	}
	start, end := t.inner(id)
	if n.style == opaque {
		start, end = t.onlyLine(id)
	}
	text := string(t.src[start:end])
	switch {
	case n.style == opaque && text == "":
		if n.start > 0 { // the library may not know where it is
			u.find(n.start, Finding{Field: t.field(id), Reason: Escaped})
		}
		return
	case n.style == plain && (text == "~" || text == "null") || text == "":
		return
	}
	c, reason, err := decide(text)
	if err != nil || reason != NotRenamed {
		u.find(start, Finding{Field: t.field(id), Name: text, Reason: reason, Err: err})
		return
	}
	from, to := int(start)+c.start, int(start)+c.end
	if n.style == plain && needsQuotes(c, n.flow) {
		if strings.ContainsAny(text, `"\`) {
			u.find(start, Finding{Field: t.field(id), Name: text, Reason: Escaped})
			return
		}
		u.images = append(u.images, Image{Name: text[c.start:c.end], New: c.text, Field: t.field(id), offset: from})
		u.edits = append(u.edits, edit{int(start), int(end), `"` + text[:c.start] + c.text + text[c.end:] + `"`})
		return
	}
	u.image(from, to, t.field(id), c.text)
}

// needsQuotes tells whether a scalar cannot be without quotes any more: an IPv6 address
// is in brackets, which begin no scalar, and are in none that is within brackets itself.
func needsQuotes(c change, flow bool) bool {
	return strings.HasPrefix(c.text, "[") && (flow || c.start == 0)
}

// whole decides about the name of an image, which may contain variables. Without an
// error, NotRenamed means that it was renamed.
func (u *run) whole(text string) (change, Reason, error) {
	skip := 0
	for _, scheme := range []string{"docker://", "oci://"} {
		if strings.HasPrefix(text, scheme) {
			skip = len(scheme)
		}
	}
	name := text[skip:]
	if v := variable(name); v >= 0 {
		c, ok := u.partly(name, v)
		c.start, c.end = c.start+skip, c.end+skip
		if !ok {
			return c, Variable, nil
		}
		return c, NotRenamed, nil
	}
	renamed, err := u.rename(name)
	return change{skip, len(text), renamed}, NotRenamed, err
}

// variable is where the first variable of a name begins, of any of the kinds that
// formats have; -1 where there is none.
func variable(name string) int {
	v := strings.IndexByte(name, '$')
	for _, mark := range []string{"{{", "<<"} {
		if t := strings.Index(name, mark); t >= 0 && (v < 0 || t < v) {
			v = t
		}
	}
	return v
}

// partly decides about a name with variables, from where they begin: what stands
// before them may be a name without its tag, or a registry; or all of it is one
// variable that says what it is otherwise, ${IMAGE:-nginx}.
func (u *run) partly(name string, v int) (change, bool) {
	if v == 0 {
		return u.otherwise(name)
	}
	slash := strings.LastIndexByte(name[:v], '/')
	if mark := strings.IndexAny(name[slash+1:v], ":@"); mark >= 0 {
		end := slash + 1 + mark
		if strings.Contains(name[v:], "/") { // localhost:${PORT}/x
			return change{}, false
		}
		renamed, err := u.rename(name[:end])
		return change{0, end, renamed}, err == nil && end > 0
	}
	if slash <= 0 {
		return change{}, false
	}
	renamed, err := u.start(name[:slash])
	return change{0, slash, renamed}, err == nil
}

// start is what the beginning of a name becomes, by a name that begins so: the way back
// then gives the shortest one. Where such a name becomes one of nothing but its end,
// docker.io/library/x, the beginning is asked about by itself.
func (u *run) start(prefix string) (string, error) {
	const leaf = "/x"
	if name, err := u.rename(prefix + leaf); err == nil {
		if start, ok := strings.CutSuffix(name, leaf); ok {
			return start, nil
		}
	}
	return u.o.Prefix(prefix)
}

// maxName bounds a name with variables in it, in bytes, as each may have another one in
// its default.
const maxName = 1000

// otherwise decides about a name that begins with a variable that has a default:
// ${IMAGE:-name} is a name, ${REPO:-name}:${TAG} is one without its tag, and
// ${REGISTRY:-docker.io}/name begins with a registry.
func (u *run) otherwise(name string) (change, bool) {
	start, end := fallback(name)
	if start == end || len(name) > maxName {
		return change{}, false
	}
	text, rest := name[start:end], name[end+1:]
	if rest == "" {
		c, reason, err := u.whole(text)
		c.start, c.end = c.start+start, c.end+start
		return c, reason == NotRenamed && err == nil
	}
	if variable(text) >= 0 {
		return change{}, false
	}
	bare := strings.TrimSuffix(text, "/")
	switch tagged := rest[0] == ':' || rest[0] == '@'; {
	case tagged && bare == text && !strings.Contains(rest, "/") && !strings.ContainsAny(text[strings.LastIndexByte(text, '/')+1:], ":@"):
		renamed, err := u.rename(text)
		return change{start, end, renamed}, err == nil
	case !tagged && (rest[0] == '/') == (bare == text) && hasRegistry(bare+"/x"):
		renamed, err := u.o.Prefix(bare)
		return change{start, start + len(bare), renamed}, err == nil
	}
	return change{}, false
}

// fallback is where in a text that begins with ${NAME:-default} or ${NAME-default} the
// default is; name[end] is the bracket behind it. Equal offsets mean that there is none.
func fallback(name string) (start, end int) {
	if !strings.HasPrefix(name, "${") {
		return 0, 0
	}
	i := len("${")
	for i < len(name) && (isLetter(name[i]) || name[i] == '_' || '0' <= name[i] && name[i] <= '9') {
		i++
	}
	rest := strings.TrimPrefix(name[i:], ":")
	if i == len("${") || !strings.HasPrefix(rest, "-") {
		return 0, 0
	}
	start = len(name) - len(rest) + 1
	for end, depth := start, 1; end < len(name); end++ {
		switch {
		case name[end] == '}':
			if depth--; depth == 0 {
				return start, end
			}
		case strings.HasPrefix(name[end:], "${"):
			depth++
		}
	}
	return 0, 0
}

// beginning decides about the beginning of names.
func (u *run) beginning(text string) (change, Reason, error) {
	if variable(text) >= 0 {
		return change{}, Variable, nil
	}
	bare := strings.TrimSuffix(text, "/")
	renamed, err := u.o.Prefix(bare)
	return change{0, len(bare), renamed}, NotRenamed, err
}

// field is the way to a node from the root of its document.
func (t *tree) field(id int32) string {
	t.way = t.way[:0]
	for ; id != 0; id = t.nodes[id].parent {
		t.way = append(t.way, id)
	}
	t.words = t.words[:0]
	for i := len(t.way) - 1; i >= 0; i-- {
		n := &t.nodes[t.way[i]]
		if t.nodes[n.parent].kind == sequenceNode {
			t.words = append(strconv.AppendInt(append(t.words, '['), int64(n.key), 10), ']')
			continue
		}
		if len(t.words) > 0 {
			t.words = append(t.words, '.')
		}
		key := t.src[n.key:n.keyEnd]
		if len(key) > 1 && (key[0] == '"' || key[0] == '\'') {
			key = key[1 : len(key)-1]
		}
		if bytes.ContainsAny(key, ".[] ") {
			t.words = append(append(append(t.words, '"'), key...), '"')
		} else {
			t.words = append(t.words, key...)
		}
	}
	return string(t.words)
}
