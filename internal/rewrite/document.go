package rewrite

import (
	"bytes"
	"path"
	"path/filepath"
	"strings"
)

// A dialect is what a YAML file is for.
type dialect int

const (
	unknown dialect = iota
	kubernetes
	kustomize
	compose
	github
	gitlab
	helmValues
	nothing // it names no images by rules that we know
)

// formatOf tells Dockerfiles by their names, or by their first instruction where the
// name says nothing.
func formatOf(name string, in []byte) Format {
	switch {
	case IsYAML(name):
		return YAML
	case IsDockerfile(name):
		return Dockerfile
	}
	for line := range bytes.Lines(in[len(bom(in)):]) {
		line = bytes.TrimSpace(line)
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		word, _, _ := bytes.Cut(line, []byte(" "))
		if w := strings.ToUpper(string(word)); w == "FROM" || w == "ARG" {
			return Dockerfile
		}
		break
	}
	return YAML
}

// IsYAML tells whether a file's name is one of YAML or JSON.
func IsYAML(name string) bool {
	switch strings.ToLower(filepath.Ext(name)) {
	case ".yaml", ".yml", ".json":
		return true
	}
	return false
}

// IsDockerfile tells whether a file's name is one of a Dockerfile: Dockerfile,
// Dockerfile.dev, web.Dockerfile, Containerfile.
func IsDockerfile(name string) bool {
	base := strings.ToLower(filepath.Base(name))
	for _, word := range []string{"dockerfile", "containerfile"} {
		if base == word || strings.HasPrefix(base, word+".") && !IsYAML(name) || strings.HasSuffix(base, "."+word) {
			return true
		}
	}
	return false
}

// dialectOf tells what a file is for by its name; usually unknown.
func dialectOf(name string) dialect {
	name = strings.ToLower(filepath.ToSlash(name))
	base := path.Base(name)
	stem := strings.TrimSuffix(strings.TrimSuffix(base, ".yml"), ".yaml")
	switch {
	case stem == base:
		return unknown
	case strings.HasSuffix(stem, ".gitlab-ci"), stem == "gitlab-ci":
		return gitlab
	case strings.Contains("/"+name, "/.github/workflows/"):
		return github
	case stem == "kustomization":
		return kustomize
	case stem == "chart":
		return nothing
	}
	return unknown
}

// yaml deals with each document of a stream.
func (u *run) yaml(d dialect) {
	start := len(bom(u.src))
	s := scanner{strange: strangeBreaks(u.src)}
	for start < len(u.src) {
		end, next, odd := document(u.src, start)
		for more := u.document(&s, start, end, odd, d); more > 0; {
			more = u.document(&s, more, end, false, d)
		}
		start = next
	}
}

// document finds the end of the document that begins at start, and the beginning of
// the next. It is odd where something stands on the line that begins it.
func document(src []byte, start int) (end, next int, odd bool) {
	p := start
	if isMarker(src, p, "---") { // its own beginning
		line := bytes.TrimLeft(src[p+3:eol(src, p)], " \t")
		odd = len(bytes.TrimSpace(line)) > 0 && line[0] != '#'
		p = after(src, p)
	}
	for p < len(src) {
		if isMarker(src, p, "---") {
			return p, p, odd
		}
		if isMarker(src, p, "...") {
			return p, after(src, p), odd
		}
		near := len(src) // each search ends where the other found something: no byte is searched for each document
		if i := bytes.Index(src[p:], []byte("\n---")); i >= 0 {
			near = p + i + 1
		}
		if i := bytes.Index(src[p:min(near+3, len(src))], []byte("\n...")); i >= 0 {
			near = p + i + 1
		}
		p = near
	}
	return len(src), len(src), odd
}

func isMarker(src []byte, p int, marker string) bool {
	return bytes.HasPrefix(src[p:], []byte(marker)) &&
		(p+3 == len(src) || isBlank(src[p+3]) || isBreak(src[p+3]))
}

func eol(src []byte, p int) int {
	if i := bytes.IndexByte(src[p:], '\n'); i >= 0 {
		return p + i
	}
	return len(src)
}

func after(src []byte, p int) int { return min(eol(src, p)+1, len(src)) }

// document deals with src[start:end], and tells where another JSON document begins in
// it; 0 where none does.
func (u *run) document(s *scanner, start, end int, odd bool, d dialect) (more int) {
	t := &u.tree
	begin := start
	if !odd && isMarker(u.src, start, "---") {
		begin = after(u.src, start)
	}
	begin, anything := firstLine(u.src, begin, end)
	if !anything || directives(u.src, begin, end) {
		return 0
	}
	t.reset(u.src)
	err := errUnusual
	if !odd && u.src[begin] != '%' {
		err = s.scan(t, begin, end)
		more = s.more
	}
	if err == errUnusual { //nolint:errorlint // the scanner returns it bare
		t.reset(u.src)
		err = parse(t, start, end)
	}
	if err != nil {
		reason := Unreadable
		if isTemplate(u.src[start:end]) {
			reason = Template
		}
		u.find(place(begin), Finding{Reason: reason, Err: err})
		return 0
	}
	t.markObjects()
	if d == unknown || d == nothing && t.nodes[0].object {
		d = t.dialect()
	}
	u.rules(d)
	return more
}

// firstLine is the start of the first line that is not blank and no comment.
func firstLine(src []byte, p, end int) (int, bool) {
	for p < end {
		text := p
		for text < end && (src[text] == ' ' || src[text] == '\r') {
			text++
		}
		if text < end && src[text] != '#' && src[text] != '\n' {
			return p, true
		}
		p = min(after(src, text), end)
	}
	return p, false
}

// directives tells whether from a line on there is nothing but directives of YAML, which
// are for the next document.
func directives(src []byte, p, end int) bool {
	for more := true; more; p, more = firstLine(src, after(src, p), end) {
		if src[p] != '%' {
			return false
		}
	}
	return true
}

// isTemplate tells whether a text has the brackets of templates, which are not those of
// workflows: ${{ x }}.
func isTemplate(text []byte) bool {
	brackets := []byte("{{")
	return bytes.Count(text, brackets) > bytes.Count(text, []byte("${{"))
}

// markObjects finds the Kubernetes objects of a document, also those within others.
func (t *tree) markObjects() {
	for id := range place(len(t.nodes)) {
		n := &t.nodes[id]
		if id == 0 || n.kind != scalarNode || n.keyEnd-n.key < 4 || string(t.keyOf(id)) != "kind" {
			continue
		}
		if t.scalar(n.parent, "apiVersion") != "" {
			t.nodes[n.parent].object = true
			t.objects = append(t.objects, n.parent)
		}
	}
}

// dialect tells what a document is for by what is in it.
func (t *tree) dialect() dialect {
	if t.nodes[0].kind == sequenceNode {
		if c := t.nodes[0].first; c != 0 && t.nodes[c].object {
			return kubernetes
		}
		return helmValues
	}
	switch {
	case t.nodes[0].object:
		if k := t.scalar(0, "kind"); (k == "Kustomization" || k == "Component") && strings.HasPrefix(t.scalar(0, "apiVersion"), "kustomize.config.k8s.io/") {
			return kustomize
		}
		return kubernetes
	case t.mappings("services"):
		return compose
	case t.mappings("jobs") && (t.get(0, "on") != 0 || t.get(0, "name") != 0), t.get(0, "runs") != 0 && t.get(0, "name") != 0:
		return github
	case t.isKustomization():
		return kustomize
	case t.isGitLab():
		return gitlab
	case t.get(0, "apiVersion") != 0 && t.get(0, "name") != 0 && t.get(0, "version") != 0:
		return nothing // Chart.yaml
	}
	return helmValues
}

// mappings tells whether the root has a key with nothing but mappings below it.
func (t *tree) mappings(key string) bool {
	id := t.get(0, key)
	if id == 0 || t.nodes[id].first == 0 || t.nodes[id].kind != mappingNode {
		return false
	}
	for c := t.nodes[id].first; c != 0; c = t.nodes[c].next {
		if k := t.nodes[c].kind; k != mappingNode && k != aliasNode {
			return false
		}
	}
	return true
}

// isKustomization tells whether a document has images as kustomizations have them.
func (t *tree) isKustomization() bool {
	images := t.get(0, "images")
	if images == 0 || t.get(0, "resources") != 0 || t.get(0, "bases") != 0 {
		return images != 0
	}
	first := t.nodes[images].first
	return t.nodes[images].kind == sequenceNode && t.get(first, "name") != 0 && (t.get(first, "newName") != 0 || t.get(first, "newTag") != 0)
}

func (t *tree) isGitLab() bool {
	for c := t.nodes[0].first; c != 0; c = t.nodes[c].next {
		if script := t.get(c, "script"); script != 0 && t.nodes[script].kind != mappingNode {
			return true
		}
	}
	return false
}
