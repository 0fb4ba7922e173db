package progress

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/mattn/go-runewidth"

	"sampan/internal/terminaltest"
)

// onTerminal shows progress on a terminal on which something stands already.
func onTerminal(t *testing.T, columns, lines int) (*terminaltest.Terminal, *Show) {
	t.Helper()
	t.Setenv("TERM", "xterm")
	x := terminaltest.New(t, columns, lines)
	if _, err := x.File.WriteString("$ sampan\r\n"); err != nil {
		t.Fatal(err)
	}
	s := New(x.File, Options{Words: Words{Total: "合计", Left: "剩余 %s", More: "另有 %d 个", States: map[State]string{Moving: "下载中"}}})
	if s.form != Bars {
		t.Fatalf("a terminal gets %s", s.form)
	}
	return x, s
}

// rows are the lines that begin so.
func rows(s *terminaltest.Screen, prefix string) (list []string) {
	for _, line := range s.Lines() {
		if strings.HasPrefix(line, prefix) {
			list = append(list, line)
		}
	}
	return list
}

// left checks what stands there after the end: no bar but that of everything, the cursor
// below it, and nothing of what was painted before, not even in the history.
func left(t *testing.T, x *terminaltest.Terminal, total string, said ...string) {
	t.Helper()
	want := append([]string{"$ sampan"}, said...)
	x.Await("what stays", func(s *terminaltest.Screen) bool {
		all := s.All()
		column, line := s.Cursor()
		return len(all) == len(want)+1 && strings.HasPrefix(all[len(want)], total) && slices.Equal(all[:len(want)], want) &&
			column == 0 && line == len(s.Lines()) && len(s.Overran()) == 0
	})
}

func TestBarsOnATerminal(t *testing.T) {
	x, s := onTerminal(t, 80, 24)
	s.Expect(30 << 20)
	var pieces []Line
	for n := range 3 {
		p := s.Start(fmt.Sprintf("nginx %012d", n), 10<<20)
		p.Add(int64(n) * (1 << 20))
		pieces = append(pieces, p)
	}
	x.Await("three bars and their sum", func(screen *terminaltest.Screen) bool {
		bars, total := rows(screen, "nginx"), rows(screen, "合计")
		_, line := screen.Cursor()
		return len(bars) == 3 && strings.Contains(bars[2], " 2.0 MiB / 10.0 MiB") && len(total) == 1 &&
			strings.Contains(total[0], "10%  3.0 MiB / 30.0 MiB") && screen.Lines()[4] == total[0] && line == 5
	})
	pieces[0].End(Present)
	x.Await("two bars, and the sum with what was there", func(screen *terminaltest.Screen) bool {
		bars, total := rows(screen, "nginx"), rows(screen, "合计")
		return len(bars) == 2 && len(total) == 1 && strings.Contains(total[0], "43%  13.0 MiB / 30.0 MiB") && screen.Lines()[3] == total[0]
	})
	pieces[1].Add(-1 << 20)
	long := strings.Repeat("0123456789", 8)
	s.Say("第一句")
	s.Say(long)
	pieces[1].End(Failed)
	x.Await("one bar below what was said", func(screen *terminaltest.Screen) bool {
		lines := screen.Lines()
		return len(lines) == 5 && lines[1] == "第一句" && lines[2] == long && strings.HasPrefix(lines[3], "nginx") && strings.Contains(lines[4], "40%  12.0 MiB / 30.0 MiB")
	})
	fmt.Fprintf(s.Above(x.File), "of another\nprogram")
	s.Close()
	left(t, x, "合计  [==", "第一句", long, "of another", "program")
}

func TestMoreBlobsThanLines(t *testing.T) {
	x, s := onTerminal(t, 80, 10)
	s.Expect(60)
	var pieces []Line
	for n := range 60 {
		pieces = append(pieces, s.Start(fmt.Sprintf("nginx %012d", n), 1))
	}
	x.Await("full of bars", func(screen *terminaltest.Screen) bool {
		return len(rows(screen, "nginx")) == 7 && len(rows(screen, "另有 53 个")) == 1 && len(rows(screen, "合计")) == 1
	})
	for _, p := range pieces[:50] {
		p.End(Done)
	}
	x.Await("full of other bars", func(screen *terminaltest.Screen) bool {
		return len(rows(screen, "nginx 000000000050")) == 1 && len(rows(screen, "另有 3 个")) == 1
	})
	for _, p := range pieces[50:] {
		p.End(Done)
	}
	s.Close()
	left(t, x, "合计  [==========================]  100%  60 B / 60 B")
}

func TestResizedWhileItRuns(t *testing.T) {
	x, s := onTerminal(t, 80, 40)
	for n := range 6 {
		p := s.Piece(fmt.Sprintf("镜像/nginx:1 %012d", n))
		p.Moves(50, 100)
	}
	var said []string
	for n, columns := range []int{80, 40, 100, 39, 20, 80} {
		x.Resize(columns, 40)
		sentence := fmt.Sprintf("第 %d 句", n)
		s.Say(sentence)
		said = append(said, sentence)
		x.Await(fmt.Sprintf("in order at %d columns", columns), func(screen *terminaltest.Screen) bool {
			lines := screen.Lines()
			for _, line := range lines {
				if runewidth.StringWidth(line) >= columns {
					return false
				}
			}
			return len(lines) == len(said)+1+6+1 && slices.Equal(lines[1:len(said)+1], said) && strings.HasPrefix(lines[len(lines)-1], "合计")
		})
	}
	s.Close()
	left(t, x, "合计  [==", said...)
}

func TestATerminalThatCanDoNothing(t *testing.T) {
	t.Setenv("TERM", "dumb")
	x := terminaltest.New(t, 40, 10)
	s := New(x.File, Options{})
	s.Start("nginx", 5).End(Present)
	s.Close()
	x.Await("a line", func(screen *terminaltest.Screen) bool {
		return slices.Equal(screen.Lines(), []string{"nginx  5 B  present"})
	})
}

// A program that shares the terminal writes between the bars and what was there; one
// that does not writes where it was told to.
func TestWhoseTerminalItIs(t *testing.T) {
	x, s := onTerminal(t, 80, 10)
	var file strings.Builder
	fmt.Fprintln(s.Above(&file), "to a file")
	other := terminaltest.New(t, 80, 10)
	fmt.Fprintln(s.Above(other.File), "to a terminal")
	s.Close()
	x.Await("said", func(screen *terminaltest.Screen) bool {
		return slices.Equal(screen.All(), []string{"$ sampan", "to a terminal"})
	})
	if file.String() != "to a file\n" || len(other.Lines()) > 0 {
		t.Errorf("the file has %q, the other terminal %q", &file, other.Lines())
	}
}
