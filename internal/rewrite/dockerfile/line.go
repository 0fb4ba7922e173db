package dockerfile

import (
	"bytes"
	"strings"
	"unicode"

	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// A line of the file is src[start:end], without what ends it and without a byte order
// mark.
type line struct{ start, end int }

func split(src []byte) []line {
	var lines []line
	for start := 0; start < len(src); {
		end := len(src)
		if i := bytes.IndexByte(src[start:], '\n'); i >= 0 {
			end = start + i
		}
		l := line{start, start + len(bytes.TrimRight(src[start:end], "\r\n"))}
		if start == 0 && bytes.HasPrefix(src, []byte("\ufeff")) {
			l.start = min(len("\ufeff"), l.end)
		}
		lines = append(lines, l)
		start = end + 1
	}
	return lines
}

// empty says whether the file has no instructions at all.
func (f *file) empty() bool {
	for _, l := range f.lines {
		text := bytes.TrimLeftFunc(f.src[l.start:l.end], unicode.IsSpace)
		if len(text) > 0 && text[0] != '#' {
			return false
		}
	}
	return true
}

// A logical line is an instruction with its continuations joined, and where in the file
// each of its bytes comes from.
type logical struct {
	text string
	at   []int
}

// logical reads an instruction again as the parser has read it. It is not ok where
// something else comes out.
func (f *file) logical(node *parser.Node) (logical, bool) {
	var out logical
	var text []byte
	if node.StartLine < 1 {
		return out, false
	}
	for i := node.StartLine - 1; i < len(f.lines); i++ {
		l := f.lines[i]
		raw := f.src[l.start:l.end]
		bare := bytes.TrimLeftFunc(raw, unicode.IsSpace)
		if i == node.StartLine-1 {
			raw = bare
		} else if len(bare) == 0 || bare[0] == '#' {
			continue
		}
		kept, more := f.continued(raw)
		for j := range kept {
			out.at = append(out.at, l.end-len(raw)+j)
		}
		text = append(text, kept...)
		if !more {
			break
		}
	}
	out.text = string(text)
	return out, out.text == node.Original
}

// continued cuts off the escape character that continues a line. One that stands after
// another does not.
func (f *file) continued(raw []byte) (kept []byte, more bool) {
	trimmed := bytes.TrimRight(raw, " \t")
	n := len(trimmed)
	if n == 0 || trimmed[n-1] != f.escape || n > 1 && trimmed[n-2] == f.escape {
		return raw, false
	}
	return trimmed[:n-1], true
}

// A word is text at a place in the file.
type word struct {
	text  string
	start int
	split bool // it does not stand in the file in one piece
	stop  int  // where it ends, if it is split
}

func (w word) end() int {
	if w.split {
		return w.stop
	}
	return w.start + len(w.text)
}

// part is a piece of the word.
func (w word) part(from, to int) word {
	return word{text: w.text[from:to], start: w.start + from, split: w.split, stop: w.stop}
}

// word is text[from:to] of the logical line.
func (l logical) word(from, to int) word {
	w := word{text: l.text[from:to]}
	if from < to {
		w.start = l.at[from]
		w.stop = l.at[to-1] + 1
		w.split = w.stop-w.start != to-from
	}
	return w
}

// blanks are what separates the words of FROM.
const blanks = "\t\v\f\r "

// last finds the last n words of the line, as FROM has them.
func (l logical) last(n int) []word {
	var words []word
	end := len(strings.TrimRightFunc(l.text, unicode.IsSpace))
	for range n {
		start := strings.LastIndexAny(l.text[:end], blanks) + 1
		words = append([]word{l.word(start, end)}, words...)
		end = len(strings.TrimRight(l.text[:start], blanks))
	}
	return words
}

// find looks for a word between blanks, at or after from.
func (l logical) find(text string, from int) (int, bool) {
	blank := func(i int) bool { return strings.IndexByte(blanks, l.text[i]) >= 0 }
	for from < len(l.text) {
		i := strings.Index(l.text[from:], text)
		if i < 0 {
			return 0, false
		}
		i += from
		end := i + len(text)
		if i > 0 && blank(i-1) && (end == len(l.text) || blank(end)) {
			return i, true
		}
		from = i + 1
	}
	return 0, false
}

// unquoted takes off the quotes around a word. It is not ok where quotes or escapes are
// left in it. bare is true where dollars stand for themselves.
func (f *file) unquoted(w word) (in word, bare, ok bool) {
	if n := len(w.text); n > 1 && (w.text[0] == '"' || w.text[0] == '\'') && w.text[n-1] == w.text[0] {
		bare = w.text[0] == '\''
		w = w.part(1, n-1)
	}
	return w, bare, !w.split && !strings.ContainsAny(w.text, `"'`+string(rune(f.escape)))
}

// isName says whether the text has the letters of an image name. Whether it is one, and
// of which registry, is for those who know names.
func isName(text string) bool {
	if text == "" {
		return false
	}
	for _, c := range []byte(text) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case strings.IndexByte("._-/:@[]+", c) >= 0:
		default:
			return false
		}
	}
	return isAlphanumeric(text[0]) || text[0] == '['
}

func isAlphanumeric(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

// isPathPart says whether the text can stand within the path of a name.
func isPathPart(text string) bool {
	return isName(text) && !strings.ContainsAny(text, "/:@[]") && text == strings.ToLower(text)
}
