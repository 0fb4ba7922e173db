package progress

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/mattn/go-runewidth"
	"golang.org/x/term"
)

const refresh = 150 * time.Millisecond // of bars

// A painter keeps rows at the end of what stands on a terminal. One goroutine uses it.
type painter struct {
	out  io.Writer
	size func() (columns, lines int)
	rows []string // on the screen, above the cursor
	dead bool     // there is no terminal any more
}

// newPainter paints on out; a nil size is that of the terminal.
func newPainter(out io.Writer, size func() (columns, lines int)) *painter {
	if size == nil {
		size = func() (int, int) {
			const usualColumns, usualLines = 80, 24
			if f, ok := out.(*os.File); ok {
				if columns, lines, err := term.GetSize(int(f.Fd())); err == nil && columns > 0 && lines > 0 {
					return columns, lines
				}
			}
			return usualColumns, usualLines
		}
	}
	return &painter{out: out, size: size}
}

// paint draws a frame in the place of the one before, with what was said above it, in
// one write.
func (p *painter) paint(said []string, f frame) {
	if p.dead {
		return
	}
	columns, lines := p.size()
	rows := layout(f, columns, lines)
	var b bytes.Buffer
	b.WriteByte('\r')
	if up := p.height(columns); up > 0 {
		fmt.Fprintf(&b, "\x1b[%dA", up)
	}
	for _, sentence := range said {
		for line := range strings.SplitSeq(sentence, "\n") {
			// Behind what fills a line, terminals disagree about what K erases; J in its
			// place would put what it erases into the history of some.
			if runewidth.StringWidth(line) >= columns {
				b.WriteString("\x1b[J" + line + "\r\n")
				continue
			}
			b.WriteString(line + "\x1b[K\r\n")
		}
	}
	for _, r := range rows {
		b.WriteString(r + "\x1b[K\r\n")
	}
	b.WriteString("\x1b[J")
	p.rows = rows
	_, err := p.out.Write(b.Bytes())
	p.dead = err != nil
}

// height is how many lines the rows take on a screen of so many columns. Where it became
// narrower, terminals have broken them; a few cut them off instead, and lose lines above
// the rows.
func (p *painter) height(columns int) int {
	n := 0
	for _, r := range p.rows {
		n += max(1, (runewidth.StringWidth(r)+columns-1)/columns)
	}
	return n
}

// draw sees to it that frames are painted, from the first of them on; the caller holds
// mu.
func (s *Show) draw() {
	if s.screen == nil || s.ended != nil || s.closed {
		return
	}
	s.stop, s.ended = make(chan struct{}), make(chan struct{})
	go s.paint()
}

// paint paints until the show is closed.
func (s *Show) paint() {
	defer close(s.ended)
	tick := time.NewTicker(refresh)
	defer tick.Stop()
	for end := false; !end; {
		select {
		case <-tick.C:
		case <-s.stop:
			end = true
		}
		s.mu.Lock()
		said, f := s.said, s.frame(time.Now())
		s.said = nil
		s.mu.Unlock()
		s.screen.paint(said, f)
	}
}

// isTerminal tells whether somebody may look at what is written to out.
func isTerminal(out io.Writer) bool {
	f, ok := out.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
