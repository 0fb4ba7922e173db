package rewrite

import (
	"bytes"
	"errors"
	"slices"
)

// What the scanner says of a document.
var (
	// errUnusual: it may be YAML, but not of the kind that the scanner knows.
	errUnusual = errors.New("not plain YAML")
	errDeep    = errors.New("nested too deeply")
)

const (
	maxDepth = 500  // of nesting
	maxKey   = 1000 // of a key, in bytes: YAML allows 1024 characters

	largeDocument = 1 << 20 // in bytes
	bytesPerNode  = 24      // about, in JSON and YAML
)

// A level is a collection in block style whose end is not known yet.
type level struct {
	node   int32
	indent int
	seq    bool
}

// A scanner reads the YAML that people and programs write most: collections in block
// and flow style, scalars of all kinds, comments, anchors before values. It builds
// the tree with places that a library does not tell, and refuses with errUnusual
// whatever it is not certain of.
type scanner struct {
	*tree
	end     int // of the document
	stack   []level
	pending int32 // the node whose value may follow on the next lines, or -1
	asked   int   // from where lineFeed looked last
	feed    int   // and what it found
	owned   bool  // it has an anchor or a tag already
	strange bool  // the source has line breaks that the scanner does not know
	more    int   // where the next JSON document begins; 0 where none follows
}

// scan reads the document at src[start:end].
func (s *scanner) scan(t *tree, start, end int) error {
	s.tree, s.end, s.stack, s.pending, s.owned = t, end, s.stack[:0], 0, false
	s.asked, s.feed, s.more = 0, -1, 0
	if end-start > largeDocument { // growing by and by copies all that there is each time
		t.nodes = slices.Grow(t.nodes, (end-start)/bytesPerNode)
	}
	if s.strange && strangeBreaks(t.src[start:end]) {
		return errUnusual
	}
	for p := start; p < end; {
		var err error
		if p, err = s.line(p); err != nil {
			return err
		}
		if s.more > 0 {
			return nil
		}
	}
	return nil
}

// line reads what begins at the start of a line, and returns the start of the next
// one that was not read.
func (s *scanner) line(p int) (int, error) {
	begin := p
	for p < s.end && s.src[p] == ' ' {
		p++
	}
	if p < s.end && s.src[p] == '\t' {
		return 0, errUnusual
	}
	if s.atBreak(p) || s.src[p] == '#' {
		return s.nextLine(p), nil
	}
	indent := p - begin
	dash := s.isDash(p)
	for len(s.stack) > 0 {
		top := s.stack[len(s.stack)-1]
		if top.indent < indent || top.indent == indent && (!top.seq || dash) {
			break
		}
		s.stack = s.stack[:len(s.stack)-1]
	}
	return s.entries(p, indent)
}

// entries reads "- - key: value" at a column: what opens collections, then a value.
func (s *scanner) entries(p, column int) (int, error) {
	for {
		if s.isDash(p) {
			seq, err := s.open(column, true)
			if err != nil {
				return 0, err
			}
			item := s.add(seq, node{})
			s.pending, s.owned = item, false
			next := s.blanks(p + 1)
			if s.atBreak(next) || s.src[next] == '#' {
				return s.nextLine(next), nil
			}
			if bytes.IndexByte(s.src[p+1:next], '\t') >= 0 {
				return 0, errUnusual
			}
			column += next - p
			p = next
			continue
		}
		keyEnd, value, err := s.keyAt(p)
		if err != nil {
			return 0, err
		}
		if keyEnd < 0 { // a value by itself: an element, the root, or on the line after its key
			id, above := s.pending, -1
			if len(s.stack) > 0 {
				above = s.stack[len(s.stack)-1].indent
			}
			if !s.awaits(id) || s.owned || column <= above {
				return 0, errUnusual
			}
			s.pending = -1
			return s.value(id, p, above)
		}
		mapping, err := s.open(column, false)
		if err != nil {
			return 0, err
		}
		id := s.add(mapping, node{key: place(p), keyEnd: place(keyEnd)})
		s.pending = -1
		return s.value(id, value, column)
	}
}

// open returns the collection at a column, and begins it as the pending value where
// there is none.
func (s *scanner) open(column int, seq bool) (int32, error) {
	if len(s.stack) > 0 {
		top := s.stack[len(s.stack)-1]
		if top.indent == column && top.seq == seq {
			return top.node, nil
		}
		if top.indent > column || top.indent == column && (top.seq || !seq) {
			return 0, errUnusual
		}
	}
	if !s.awaits(s.pending) {
		return 0, errUnusual
	}
	if len(s.stack) == maxDepth {
		return 0, errDeep
	}
	id := s.pending
	s.pending = -1
	s.nodes[id].kind = mappingNode
	if seq {
		s.nodes[id].kind = sequenceNode
	}
	s.stack = append(s.stack, level{id, column, seq})
	return id, nil
}

// awaits tells whether the value of a node may come now: it is the last entry of the
// innermost collection, or the root.
func (s *scanner) awaits(id int32) bool {
	if len(s.stack) == 0 {
		return id == 0
	}
	return id > 0 && s.nodes[id].parent == s.stack[len(s.stack)-1].node
}

// keyAt finds a key at p: its end, and where its value may begin. The end is -1
// where there is no key.
func (s *scanner) keyAt(p int) (keyEnd, value int, err error) {
	switch c := s.src[p]; c {
	case '"', '\'':
		end, err := s.quoted(p)
		if err != nil {
			return 0, 0, err
		}
		after := s.blanks(end)
		if after >= s.end || s.src[after] != ':' || !s.blankAt(after+1) {
			return -1, 0, nil
		}
		if end-p > maxKey || bytes.IndexByte(s.src[p:end], '\n') >= 0 {
			return 0, 0, errUnusual
		}
		return end, after + 1, nil
	case '[', '{', '|', '>':
		return -1, 0, nil
	case '&', '*', '!':
		return -1, 0, s.noKey(p)
	case '%', '@', '`', ',', ']', '}', '#':
		return 0, 0, errUnusual
	case '?', ':', '-':
		if s.blankAt(p + 1) {
			return 0, 0, errUnusual
		}
	}
	line := s.src[p:s.lineEnd(p)]
	for i := range line {
		switch line[i] {
		case ':':
			if i+1 == len(line) || line[i+1] == ' ' || line[i+1] == '\t' {
				if i > maxKey {
					return 0, 0, errUnusual
				}
				return p + trimmed(line[:i]), p + i + 1, nil
			}
		case '#':
			if i > 0 && (line[i-1] == ' ' || line[i-1] == '\t') {
				return -1, 0, nil
			}
		}
	}
	return -1, 0, nil
}

// noKey refuses a line that begins with an anchor, an alias or a tag and may have a
// key: whose they are is not decided here.
func (s *scanner) noKey(p int) error {
	line := s.src[p:s.lineEnd(p)]
	if bytes.Contains(line, []byte(": ")) || bytes.Contains(line, []byte(":\t")) || bytes.HasSuffix(line, []byte(":")) {
		return errUnusual
	}
	return nil
}

// value reads the value of a node from p on, in a collection whose indentation is
// above, and returns the start of a line.
func (s *scanner) value(id int32, p, above int) (int, error) {
	first := s.blanks(p)
	p, err := s.properties(id, first)
	if err != nil {
		return 0, err
	}
	if s.atBreak(p) || s.src[p] == '#' && isBlank(s.src[p-1]) {
		s.pending, s.owned = id, p > first && s.src[first] != '#'
		return s.nextLine(p), nil
	}
	n := &s.nodes[id]
	n.start, n.end = int32(p), place(p)
	var end int
	switch c := s.src[p]; c {
	case '|', '>':
		n.style = opaque
		return s.block(p, above)
	case '"', '\'':
		end, n.style, err = s.quotedValue(p)
	case '[', '{':
		end, err = s.flow(id, p)
	case '*':
		if p > first {
			return 0, errUnusual
		}
		n.kind = aliasNode
		end, err = s.word(p + 1)
	case '%', '@', '`', ',', ']', '}', '#':
		return 0, errUnusual
	default:
		if (c == '-' || c == '?' || c == ':') && s.blankAt(p+1) {
			return 0, errUnusual
		}
		return s.plainValue(id, p, above)
	}
	if err != nil {
		return 0, err
	}
	s.nodes[id].end = place(end)
	if id == 0 && s.another(end) {
		return s.more, nil
	}
	return s.restOfLine(end)
}

// properties passes over an anchor and a tag before a value, and notes the anchor.
func (s *scanner) properties(id int32, p int) (int, error) {
	anchored, tagged := false, false
	for p < s.end && (s.src[p] == '&' || s.src[p] == '!') {
		begin := p + 1
		if s.src[p] == '!' {
			if tagged {
				return 0, errUnusual
			}
			tagged = true
			if begin < s.end && s.src[begin] == '!' {
				begin++
			}
		} else if anchored {
			return 0, errUnusual
		}
		end, err := s.word(begin)
		if err != nil {
			return 0, err
		}
		if s.src[p] == '&' {
			anchored = true
			s.anchors = append(s.anchors, anchor{string(s.src[begin:end]), id})
		}
		p = s.blanks(end)
	}
	return p, nil
}

// word is the end of the name of an anchor, an alias or a tag, with a blank behind.
func (s *scanner) word(p int) (int, error) {
	i := p
	for i < s.end && (isLetter(s.src[i]) || '0' <= s.src[i] && s.src[i] <= '9' || s.src[i] == '_' || s.src[i] == '-') {
		i++
	}
	if i == p || !s.blankAt(i) {
		return 0, errUnusual
	}
	return i, nil
}

func isLetter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }

// restOfLine refuses anything but a comment after a value.
func (s *scanner) restOfLine(p int) (int, error) {
	q := s.blanks(p)
	if s.atBreak(q) || q > p && s.src[q] == '#' {
		return s.nextLine(q), nil
	}
	return 0, errUnusual
}

// plainValue reads a scalar without quotes, and the lines that continue it.
func (s *scanner) plainValue(id int32, p, above int) (int, error) {
	end, comment, err := s.plainLine(p)
	if err != nil {
		return 0, err
	}
	s.nodes[id].end = place(end)
	next := s.nextLine(end)
	for !comment {
		begin, more := next, 0
		for ; begin < s.end; begin = s.nextLine(begin) { // over blank lines
			text := begin
			for text < s.end && s.src[text] == ' ' {
				text++
			}
			if text < s.end && s.src[text] == '\t' {
				return 0, errUnusual
			}
			if !s.atBreak(text) {
				more = text
				break
			}
		}
		if begin >= s.end || more-begin <= above || s.src[more] == '#' {
			break
		}
		s.nodes[id].style = opaque
		if end, comment, err = s.plainLine(more); err != nil {
			return 0, err
		}
		next = s.nextLine(end)
	}
	return next, nil
}

// plainLine is where the text of a line ends, and whether a comment follows.
func (s *scanner) plainLine(p int) (end int, comment bool, err error) {
	line := s.src[p:s.lineEnd(p)]
	for i := 0; i < len(line); i++ {
		switch line[i] {
		case ':':
			if i+1 == len(line) || isBlank(line[i+1]) {
				return 0, false, errUnusual
			}
		case '#':
			if i > 0 && isBlank(line[i-1]) {
				line, comment = line[:i], true
			}
		}
	}
	return p + trimmed(line), comment, nil
}

// block passes over a literal or folded scalar.
func (s *scanner) block(p, above int) (int, error) {
	if above < 0 {
		return 0, errUnusual // a document of nothing else
	}
	content, digit := -1, false
	for p++; !s.blankAt(p); p++ {
		switch c := s.src[p]; {
		case c == '+' || c == '-':
		case '1' <= c && c <= '9' && !digit:
			digit, content = true, above+int(c-'0')
		default:
			return 0, errUnusual
		}
	}
	p, err := s.restOfLine(p)
	if err != nil {
		return 0, err
	}
	for p < s.end {
		text := p
		for text < s.end && s.src[text] == ' ' {
			text++
		}
		indent := text - p
		if s.atBreak(text) {
			if content < 0 && indent > above+1 {
				return 0, errUnusual // blank lines may say how far the text is indented
			}
			p = s.nextLine(text)
			continue
		}
		if s.src[text] == '\t' && (content < 0 || indent < content) {
			return 0, errUnusual
		}
		if content < 0 {
			if indent <= above {
				return p, nil // it is empty
			}
			content = indent
		}
		if indent < content {
			if indent > above && s.src[text] != '#' {
				return 0, errUnusual
			}
			return p, nil
		}
		p = s.nextLine(text)
	}
	return p, nil
}

// strangeBreaks tells whether a text may have lines that end in anything but \n and
// \r\n.
func strangeBreaks(b []byte) bool {
	for rest := b; ; {
		i := bytes.IndexByte(rest, '\r')
		if i < 0 {
			break
		}
		if i+1 == len(rest) || rest[i+1] != '\n' {
			return true
		}
		rest = rest[i+1:]
	}
	for _, s := range []string{"\u0085", "\u2028", "\u2029"} {
		if bytes.Contains(b, []byte(s)) {
			return true
		}
	}
	return false
}

// trimmed is the length of a line without the blanks at its end.
func trimmed(line []byte) int {
	n := len(line)
	for n > 0 && isBlank(line[n-1]) {
		n--
	}
	return n
}
