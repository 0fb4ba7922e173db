package rewrite

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"unicode/utf8"
)

// outline is all that rules can see of a tree: the way to each node, its kind, and the
// text of scalars with its place.
func outline(t *tree) string {
	var b strings.Builder
	for id := range place(len(t.nodes)) {
		n := &t.nodes[id]
		fmt.Fprintf(&b, "%d<%d %q ", id, n.parent, t.keyOf(id))
		switch {
		case n.kind == scalarNode && n.style == opaque:
			b.WriteString("opaque\n")
		case n.kind == scalarNode:
			start, _ := t.inner(id)
			if start == n.end { // nothing is written: where that is does not matter
				start = 0
			}
			fmt.Fprintf(&b, "scalar %q %d at %d\n", t.text(id), n.style, start)
		case n.kind == aliasNode:
			fmt.Fprintf(&b, "alias %q to %d\n", t.src[n.start:n.end], t.anchored(id))
		default:
			fmt.Fprintf(&b, "collection %d\n", n.kind)
		}
	}
	return b.String()
}

// compare holds that the scanner refuses a document or sees the same as the library.
func compare(t *testing.T, src string) (scanned bool) {
	t.Helper()
	if !utf8.ValidString(src) || strings.ContainsRune(src, 0) {
		return false // no text
	}
	start := len(bom([]byte(src)))
	if end, next, odd := document([]byte(src), start); odd || end != len(src) || next != end || isMarker([]byte(src), start, "---") {
		return false // the scanner is given documents without their marks
	}
	first, anything := firstLine([]byte(src), start, len(src))
	if !anything || src[first] == '%' {
		return false
	}
	var fast, slow tree
	fast.reset([]byte(src))
	slow.reset([]byte(src))
	s := scanner{strange: true}
	if err := s.scan(&fast, first, len(src)); err != nil || s.more > 0 {
		return false
	}
	if err := parse(&slow, start, len(src)); err != nil {
		for _, harmless := range []string{"control characters are not allowed", "unknown anchor", "escape c", "hexdecimal number"} {
			if strings.Contains(err.Error(), harmless) {
				return false // what it means does not matter to the places of its scalars
			}
		}
		t.Fatalf("the scanner read what the library refuses: %v\n%q\n%s", err, src, outline(&fast))
	}
	if a, b := outline(&fast), outline(&slow); a != b {
		t.Fatalf("%q\nscanner:\n%slibrary:\n%s", src, a, b)
	}
	return true
}

// samples are documents that the scanner knows, one fact each.
func samples() []string {
	return []string{
		"a: b\nc: d\n", "a:\n  b: c\n  d:\n    e: f\ng: h", "- a\n- b: c\n  d: e\n-\n  f: g\n- - h\n  - i\n",
		"a:\n- b\n- c: d\ne: f\n", "a: \"b\"\nc: 'd'\n\"e\": f\n'g' : h\n", "a: {b: c, \"d\":e, f: [g, 'h', {i: j}], }\n",
		"a: |\n  b: c\n\n  d\ne: >-\n  f\n\n\ng: |2\n    h\n  i\nj: k", "a: b # c\n# d\n  # e\nf: # g\n  h: i\n",
		"a: b\n  c\n\n  d\ne: f\n", "a:\n  b\n  c\nd: e\n", "a: &b c\nd: *b\ne: &f\n  g: h\ni: !!str j\nk: !l [m]\n",
		"{\"a\": {\"b\": [1, 2.5, null, \"c:d\"]},\n\t\"e\": \"f\"}\n", "[]\n", "{}", "a\n", "'a'\n", "a: [b,\n  c, # d\n  e]\nf: g\n",
		"a: \"b\n  c\"\nd: 'e''f'\ng: \"h\\n\"\n", "a: http://b:c/d#e\nf: -g\nh: ?i\nj: :k\n", "a:\r\n  b: c\r\n  d: |\r\n    e\r\nf: g\r\n",
		"é: ü\nimage: 'ñ' # ß\n", "a:\n  - b:\n      - c\n    d: e\n  - f\n", "a:    b   \n? c\n", "-\n-\n- a\n", "a:\n\n\n  b: c\n", "a: ~\nb: null\nc:\n",
		"a: b:c\nd: e#f\n", "a b: c d\n", "? a\n: b\n", "a: @b\n", "a: {b: c}: d\n", "a: 'b': c\n", "a:\n\tb: c\n", "a: b\tc\td\n", "a\t:\tb\n",
		"<<: *a\n", "a: |+\n\n\nb: c\n", "a: [b: c]\n", "{a: b, c}\n", "a: {b:c, d: e}\n", "- |\n a\n- >\n b\n-  c\n", "\ufeffa: b\n", "a: |-\n", "a: |\nb: c\n",
	}
}

func TestTheScannerSeesWhatTheLibrarySees(t *testing.T) {
	scanned := 0
	for _, s := range samples() {
		if compare(t, s) {
			scanned++
		}
	}
	if scanned < 30 {
		t.Errorf("the scanner read only %d samples", scanned)
	}
}

func FuzzScanner(f *testing.F) {
	for _, s := range samples() {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, src string) { compare(t, src) })
}

// Documents of random lines: most are wrong somewhere, which is what this is for.
func TestTheScannerSeesWhatTheLibrarySeesInRandomLines(t *testing.T) {
	lines := []string{
		"a:", "a:", "b: c", "- d", "- e: f", "-", "image: g/h:1", "k: |", "k: >-", "- |", "l: {m: n}", "l: {m: n,", "o: p}", "# c", "", "text text", "text # c", "'q': r",
		"- - s", "- t:", "u: [v,", "w]", "x: \"y", "z\"", "d: &e", "d: &e f", "- *e", "g: *e", "<<: *e", "- - - h:", "i: 'j' # k", "l: # m", "n: !!str o", "- &p", "\"q\"", "...x", "--- x", "r: s: t", "? u", "v: |2", "é: ñ",
	}
	random := rand.New(rand.NewPCG(1, 2))
	scanned := 0
	for range 60_000 {
		var b strings.Builder
		for range 1 + random.IntN(8) {
			b.WriteString(strings.Repeat(" ", random.IntN(4)*random.IntN(3)))
			b.WriteString(lines[random.IntN(len(lines))])
			b.WriteString([]string{"\n", "\n", "\n", "\r\n", " \n"}[random.IntN(5)])
		}
		if compare(t, b.String()) {
			scanned++
		}
	}
	if scanned < 5_000 {
		t.Errorf("the scanner read only %d documents", scanned)
	}
}
