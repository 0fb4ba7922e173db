// Package terminaltest is a terminal for tests: what programs write to it is on a screen
// that can be looked at, and it can be typed at and made narrower while they run.
//
// The screen understands what a terminal does with text, with wide characters, and with
// the few sequences that this project writes; a test fails on any other. Made narrower,
// it breaks lines as tmux, VTE and others do. It knows no colours.
//
// Lock order: every lock in this package is a leaf.
package terminaltest

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/mattn/go-runewidth"
)

// A Screen is what stands on a terminal. It is not safe for concurrent use. It begins
// empty, with the cursor at its upper left.
type Screen struct {
	columns, lines int
	rows           []physical // those of the history first
	top            int        // the row that is the first of the screen
	row, column    int        // of the cursor; row counts from the first of all
	full           bool       // the last column was written: the next character breaks the line
	rest           []byte     // of a character or sequence that is not complete
	wrong          []string   // sequences that it does not know
}

// A physical row is a line of a screen.
type physical struct {
	cells   []rune // 0 behind a wide character
	broken  bool   // the text goes on in the next row
	overran bool   // some text was broken here by the terminal, not when it became narrower
}

// NewScreen makes an empty screen.
func NewScreen(columns, lines int) *Screen {
	return &Screen{columns: columns, lines: lines, rows: make([]physical, 1)}
}

// Write implements [io.Writer]. The error is nil.
func (s *Screen) Write(p []byte) (int, error) {
	s.rest = append(s.rest, p...)
	for len(s.rest) > 0 {
		n := s.next(s.rest)
		if n == 0 {
			break
		}
		s.rest = s.rest[n:]
	}
	return len(p), nil
}

// next takes a character or a sequence, and tells how many bytes it had; 0 when there
// are not all of them.
func (s *Screen) next(p []byte) int {
	switch p[0] {
	case '\r':
		s.column, s.full = 0, false
		return 1
	case '\n':
		s.down()
		s.full = false
		return 1
	case 0x1b:
		return s.sequence(p)
	}
	if !utf8.FullRune(p) {
		return 0
	}
	r, n := utf8.DecodeRune(p)
	if width := runewidth.RuneWidth(r); width > 0 {
		s.put(r, width)
	} else {
		s.wrong = append(s.wrong, fmt.Sprintf("%q", r))
	}
	return n
}

// sequence takes one that begins with ESC.
func (s *Screen) sequence(p []byte) int {
	if len(p) < 2 {
		return 0
	}
	if p[1] != '[' {
		s.wrong = append(s.wrong, fmt.Sprintf("%q", p[:2]))
		return 2
	}
	end := 2
	for end < len(p) && (p[end] < 0x40 || p[end] > 0x7e) {
		end++
	}
	if end == len(p) {
		return 0
	}
	n := 1
	if arg := string(p[2:end]); arg != "" {
		if _, err := fmt.Sscanf(arg, "%d", &n); err != nil {
			n = 0
		}
	} else if p[end] != 'A' {
		n = 0
	}
	switch {
	case p[end] == 'A' && n > 0:
		s.row, s.full = max(s.row-n, s.top), false
	case p[end] == 'K' && n == 0:
		s.erase()
	case p[end] == 'J' && n == 0:
		s.erase()
		s.rows = s.rows[:s.row+1]
	default:
		s.wrong = append(s.wrong, fmt.Sprintf("%q", p[:end+1]))
	}
	return end + 1
}

// erase erases from the cursor to the end of its row; a terminal whose last column was
// just written erases that.
func (s *Screen) erase() {
	r := &s.rows[s.row]
	r.cells = r.cells[:min(len(r.cells), s.column)]
	r.broken, r.overran = false, false
}

func (s *Screen) put(r rune, width int) {
	if s.full || s.column+width > s.columns {
		s.rows[s.row].broken, s.rows[s.row].overran = true, true
		s.down()
		s.column, s.full = 0, false
	}
	row := &s.rows[s.row]
	for len(row.cells) < s.column+width {
		row.cells = append(row.cells, ' ')
	}
	row.cells[s.column] = r
	if width == 2 {
		row.cells[s.column+1] = 0
	}
	s.column += width
	if s.column >= s.columns {
		s.column, s.full = s.columns-1, true
	}
}

func (s *Screen) down() {
	s.row++
	if s.row == len(s.rows) {
		s.rows = append(s.rows, physical{})
	}
	s.scroll()
}

// scroll keeps the cursor on the screen.
func (s *Screen) scroll() { s.top = max(s.top, s.row-s.lines+1) }

// Resize gives the screen another size. Lines that became too long are broken, and are
// joined again when there is room.
func (s *Screen) Resize(columns, lines int) {
	var rows []physical
	row, column := 0, s.column
	for at := 0; at < len(s.rows); {
		var text []rune
		overran := false
		for {
			if at == s.row {
				column = len(text) + s.column
				row = len(rows)
			}
			text = append(text, s.rows[at].cells...)
			overran = overran || s.rows[at].overran
			at++
			if !s.rows[at-1].broken || at == len(s.rows) {
				break
			}
		}
		here := row == len(rows) && at > s.row
		parts := split(text, columns)
		if here {
			row += min(column/columns, len(parts)-1)
			column = min(column%columns, columns-1)
		}
		for i, p := range parts {
			rows = append(rows, physical{p, i < len(parts)-1, overran && i < len(parts)-1})
		}
	}
	s.rows, s.row, s.column, s.full = rows, row, column, false
	s.columns, s.lines = columns, lines
	s.top = max(min(s.top, len(rows)-1), 0)
	if s.row < s.top {
		s.top = s.row
	}
	s.scroll()
}

// split breaks text into rows; a wide character is not torn.
func split(text []rune, columns int) [][]rune {
	var rows [][]rune
	for len(text) > columns {
		n := columns
		if text[n] == 0 {
			n--
		}
		rows = append(rows, text[:n:n])
		text = text[n:]
	}
	return append(rows, text)
}

// Lines is what can be seen, without spaces at the ends of lines, and without empty
// lines at the end.
func (s *Screen) Lines() []string { return texts(s.rows[s.top:]) }

// All is that with the history, the oldest first.
func (s *Screen) All() []string { return texts(s.rows) }

func texts(rows []physical) []string {
	var lines []string
	for _, r := range rows {
		text := strings.TrimRight(strings.ReplaceAll(string(r.cells), "\x00", ""), " ")
		lines = append(lines, text)
	}
	for len(lines) > 0 && lines[len(lines)-1] == "" {
		lines = lines[:len(lines)-1]
	}
	return lines
}

// Cursor is where it stands on the screen, from 0.
func (s *Screen) Cursor() (column, line int) { return s.column, s.row - s.top }

// Overran are the lines that were longer than the screen was wide when they were
// written.
func (s *Screen) Overran() []string {
	var lines []string
	for i, r := range s.rows {
		if r.overran {
			lines = append(lines, texts(s.rows[i:i+1])...)
		}
	}
	return lines
}

// Wrong are the sequences and characters that the screen does not know.
func (s *Screen) Wrong() []string { return s.wrong }
