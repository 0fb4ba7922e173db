package rewrite

import "bytes"

// quoted is the end of a scalar in quotes, behind them.
func (s *scanner) quoted(p int) (int, error) {
	q := s.src[p]
	for i := p + 1; i < s.end; i++ {
		switch c := s.src[i]; {
		case c == q && q == '\'' && i+1 < s.end && s.src[i+1] == q:
			i++
		case c == q:
			return i + 1, nil
		case c == '\\' && q == '"':
			i++
		}
	}
	return 0, errUnusual
}

// quotedValue reads a scalar in quotes.
func (s *scanner) quotedValue(p int) (end int, st style, err error) {
	if end, err = s.quoted(p); err != nil {
		return 0, 0, err
	}
	st, escapes := double, "\\\n\r"
	if s.src[p] == '\'' {
		st, escapes = single, "'\n\r"
	}
	if bytes.ContainsAny(s.src[p+1:end-1], escapes) {
		st = opaque
	}
	return end, st, nil
}

// flow reads what is in brackets, JSON among it. The node at id is the outermost.
func (s *scanner) flow(id int32, p int) (int, error) {
	top, depth := id, 1
	s.bracket(id, p)
	p++
	for {
		var err error
		if p, err = s.space(p); err != nil {
			return 0, err
		}
		if c := s.src[p]; c == ']' || c == '}' {
			if (c == ']') != (s.nodes[top].kind == sequenceNode) {
				return 0, errUnusual
			}
			p++
			s.nodes[top].end = place(p)
			if top == id {
				return p, nil
			}
			top = s.nodes[top].parent
			depth--
			if p, err = s.comma(p); err != nil {
				return 0, err
			}
			continue
		}
		var child int32
		if child, p, err = s.flowEntry(top, p); err != nil {
			return 0, err
		}
		if child != 0 { // it opens a bracket
			if depth++; depth+len(s.stack) > maxDepth {
				return 0, errDeep
			}
			top = child
			continue
		}
		if p, err = s.comma(p); err != nil {
			return 0, err
		}
	}
}

// another tells whether a JSON document follows the one that ends at p. No YAML may, but
// programs write one after another, and kubectl reads that.
func (s *scanner) another(p int) bool {
	for p < s.end && (isBlank(s.src[p]) || isBreak(s.src[p])) {
		p++
	}
	if s.nodes[0].kind != mappingNode || s.strange || p == s.end || s.src[p] != '{' {
		return false
	}
	s.more = p
	return true
}

// bracket makes a node the collection that begins at p.
func (s *scanner) bracket(id int32, p int) {
	n := &s.nodes[id]
	n.start, n.flow, n.kind = place(p), true, mappingNode
	if s.src[p] == '[' {
		n.kind = sequenceNode
	}
}

// comma passes over what separates entries: a comma, or nothing before a closing
// bracket.
func (s *scanner) comma(p int) (int, error) {
	p, err := s.space(p)
	if err != nil {
		return 0, err
	}
	switch s.src[p] {
	case ',':
		return p + 1, nil
	case ']', '}':
		return p, nil
	}
	return 0, errUnusual
}

// flowEntry reads an element or an entry. Where its value is a collection, that is
// returned, and p is behind its bracket.
func (s *scanner) flowEntry(top int32, p int) (child int32, next int, err error) {
	n := node{flow: true}
	if s.nodes[top].kind == mappingNode {
		end, _, err := s.flowScalar(p)
		if err != nil {
			return 0, 0, err
		}
		if end-p > maxKey || bytes.IndexByte(s.src[p:end], '\n') >= 0 {
			return 0, 0, errUnusual
		}
		n.key, n.keyEnd = int32(p), place(end)
		if p, err = s.space(end); err != nil {
			return 0, 0, err
		}
		if s.src[p] == ':' && p != s.blanks(end) {
			return 0, 0, errUnusual // on a line of its own
		}
		if s.src[p] != ':' {
			s.add(top, n)
			return 0, p, nil
		}
		if p, err = s.space(p + 1); err != nil {
			return 0, 0, err
		}
		if c := s.src[p]; c == ',' || c == '}' {
			s.add(top, n)
			return 0, p, nil
		}
	}
	id := s.add(top, n)
	if c := s.src[p]; c == '[' || c == '{' {
		s.bracket(id, p)
		return id, p + 1, nil
	}
	end, style, err := s.flowScalar(p)
	if err != nil {
		return 0, 0, err
	}
	v := &s.nodes[id]
	v.start, v.end, v.style = place(p), place(end), style
	if s.nodes[top].kind == sequenceNode {
		after, err := s.space(end)
		if err != nil || s.src[after] == ':' { // [key: value]
			return 0, 0, errUnusual
		}
	}
	return 0, end, nil
}

// flowScalar is the end of a scalar within brackets, and its style.
func (s *scanner) flowScalar(p int) (int, style, error) {
	switch c := s.src[p]; c {
	case '"', '\'':
		return s.quotedValue(p)
	case '&', '*', '!', '|', '>', '%', '@', '`', '#', ',', '[', ']', '{', '}', '?', ':':
		return 0, 0, errUnusual
	case '-':
		if p+1 < s.end && (isBlank(s.src[p+1]) || isBreak(s.src[p+1]) || isFlowIndicator(s.src[p+1])) {
			return 0, 0, errUnusual
		}
	}
	i := p
	for ; i < s.end; i++ {
		c := s.src[i]
		if isFlowIndicator(c) || isBreak(c) {
			break
		}
		if c == ':' && s.blankAt(i+1) {
			break
		}
		if c == '?' || c == ':' && isFlowIndicator(s.src[i+1]) {
			return 0, 0, errUnusual // the versions of YAML differ
		}
		if c == '#' && isBlank(s.src[i-1]) {
			break
		}
	}
	end := p + trimmed(s.src[p:i])
	if i < s.end && isBreak(s.src[i]) { // it may go on: only separators may follow
		next, err := s.space(i)
		if err != nil || s.src[next] != ',' && s.src[next] != ']' && s.src[next] != '}' {
			return 0, 0, errUnusual
		}
	}
	return end, plain, nil
}

// space passes over blanks, line breaks and comments within brackets. There always is
// something behind.
func (s *scanner) space(p int) (int, error) {
	for p < s.end {
		switch c := s.src[p]; {
		case isBlank(c) || isBreak(c):
			p++
		case c == '#' && (isBlank(s.src[p-1]) || isBreak(s.src[p-1])):
			p = s.nextLine(p)
		case c == '#':
			return 0, errUnusual
		default:
			return p, nil
		}
	}
	return 0, errUnusual
}

// isDash tells whether an element of a sequence begins at p.
func (s *scanner) isDash(p int) bool { return s.src[p] == '-' && s.blankAt(p+1) }

// blanks is the first position from p on that is no space or tab.
func (s *scanner) blanks(p int) int {
	for p < s.end && isBlank(s.src[p]) {
		p++
	}
	return p
}

func (s *scanner) atBreak(p int) bool { return p >= s.end || isBreak(s.src[p]) }
func (s *scanner) blankAt(p int) bool { return p >= s.end || isBlank(s.src[p]) || isBreak(s.src[p]) }

// lineEnd is where the line ends, before its break.
func (s *scanner) lineEnd(p int) int {
	end := s.lineFeed(p)
	if end > p && end < s.end && s.src[end-1] == '\r' {
		end--
	}
	return end
}

// nextLine is the start of the line after p.
func (s *scanner) nextLine(p int) int { return min(s.lineFeed(p)+1, s.end) }

// lineFeed is where the next line feed is, or the end. It remembers the last answer.
func (s *scanner) lineFeed(p int) int {
	if s.asked <= p && p <= s.feed {
		return s.feed
	}
	s.asked, s.feed = p, s.end
	if i := bytes.IndexByte(s.src[p:s.end], '\n'); i >= 0 {
		s.feed = p + i
	}
	return s.feed
}

func isBlank(c byte) bool { return c == ' ' || c == '\t' }
func isBreak(c byte) bool { return c == '\n' || c == '\r' }

func isFlowIndicator(c byte) bool {
	return c == ',' || c == '[' || c == ']' || c == '{' || c == '}'
}
