package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/mattn/go-runewidth"
	"golang.org/x/term"
)

// A screen is a terminal that is written to.
type screen struct{ file *os.File }

// screenOf is the terminal behind a writer; nil where there is none.
func screenOf(out io.Writer) *screen {
	f, ok := out.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) || os.Getenv("TERM") == "dumb" {
		return nil
	}
	return &screen{f}
}

// size is how many columns and lines it has; 80 and 24 where it does not tell.
func (s *screen) size() (columns, lines int) {
	columns, lines, err := term.GetSize(int(s.file.Fd()))
	if err != nil || columns <= 0 || lines <= 0 {
		return 80, 24
	}
	return columns, lines
}

// show draws a page in the place of the one before.
func (s *screen) show(page []string) {
	columns, lines := s.size()
	var b strings.Builder
	b.WriteString("\x1b[H")
	for _, line := range page[:min(len(page), lines-1)] {
		b.WriteString(fit(line, columns) + "\x1b[K\r\n")
	}
	b.WriteString("\x1b[J")
	fmt.Fprint(s.file, b.String())
}

// keys has key called when one of them is pressed, without a line break behind it, and
// returns what puts the terminal back; nothing where stdin is no terminal.
func keys(wanted string, key func()) (restore func()) {
	in := int(os.Stdin.Fd())
	if !term.IsTerminal(in) {
		return func() {}
	}
	before, err := term.MakeRaw(in)
	if err != nil {
		return func() {}
	}
	go func() { // it ends with the process: a read of a terminal cannot be ended
		buf := make([]byte, 16)
		for {
			n, err := os.Stdin.Read(buf)
			if err != nil {
				return
			}
			if strings.ContainsAny(string(buf[:n]), wanted) {
				key()
				return
			}
		}
	}()
	return func() { _ = term.Restore(in, before) }
}

// fit cuts a line to so many columns. Chinese characters take two.
func fit(line string, columns int) string { return runewidth.Truncate(line, columns, "") }
