package terminaltest

import (
	"slices"
	"strings"
	"testing"
)

func TestScreen(t *testing.T) {
	tests := map[string]struct {
		write  string
		resize [2]int // 0 for none
		want   []string
		cursor [2]int // column, line
	}{
		"text":                              {"ab\r\ncd", [2]int{}, []string{"ab", "cd"}, [2]int{2, 1}},
		"a line break alone":                {"ab\ncd", [2]int{}, []string{"ab", "  cd"}, [2]int{4, 1}},
		"written over":                      {"abc\rX", [2]int{}, []string{"Xbc"}, [2]int{1, 0}},
		"a full line is no break":           {"0123456789", [2]int{}, []string{"0123456789"}, [2]int{9, 0}},
		"and the next character is":         {"0123456789a", [2]int{}, []string{"0123456789", "a"}, [2]int{1, 1}},
		"a line break behind a full line":   {"0123456789\r\na", [2]int{}, []string{"0123456789", "a"}, [2]int{1, 1}},
		"wide characters":                   {"中文a", [2]int{}, []string{"中文a"}, [2]int{5, 0}},
		"one that is too wide for the rest": {"012345678中", [2]int{}, []string{"012345678", "中"}, [2]int{2, 1}},
		"up, and erased to the end":         {"abc\r\ndef\r\n\x1b[2Ax\x1b[K", [2]int{}, []string{"x", "def"}, [2]int{1, 0}},
		"up past the top":                   {"abc\r\n\x1b[9Ax", [2]int{}, []string{"xbc"}, [2]int{1, 0}},
		"all below erased":                  {"abc\r\ndef\r\nghi\x1b[1A\r\x1b[J", [2]int{}, []string{"abc"}, [2]int{0, 1}},
		"scrolled":                          {"a\r\nb\r\nc\r\nd", [2]int{}, []string{"b", "c", "d"}, [2]int{1, 2}},
		"up past the history":               {"a\r\nb\r\nc\r\nd\x1b[9A", [2]int{}, []string{"b", "c", "d"}, [2]int{1, 0}},
		"narrower":                          {"01234567\r\nab\r\n", [2]int{5, 3}, []string{"567", "ab"}, [2]int{0, 2}},
		"narrower within a line":            {"01234567", [2]int{5, 3}, []string{"01234", "567"}, [2]int{3, 1}},
		"wider joins what was broken":       {"0123456789ab\r\nx", [2]int{20, 3}, []string{"0123456789ab", "x"}, [2]int{1, 1}},
		"lower":                             {"a\r\nb\r\nc\r\n", [2]int{10, 2}, []string{"c"}, [2]int{0, 1}},
		"bytes of a character apart":        {"\xe4\xb8", [2]int{}, nil, [2]int{0, 0}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s := NewScreen(10, 3)
			for _, b := range []byte(test.write) { // however it is cut
				_, _ = s.Write([]byte{b})
			}
			if test.resize[0] > 0 {
				s.Resize(test.resize[0], test.resize[1])
			}
			column, line := s.Cursor()
			if got := s.Lines(); !slices.Equal(got, test.want) || column != test.cursor[0] || line != test.cursor[1] || len(s.Wrong()) > 0 {
				t.Errorf("got\n%s\ncursor in column %d of line %d; it does not know %q", strings.Join(got, "\n"), column, line, s.Wrong())
			}
		})
	}
}

func TestWhatAScreenTells(t *testing.T) {
	s := NewScreen(5, 2)
	_, _ = s.Write([]byte("a\r\n0123456\r\n\x1b[31mb\x1b[?25l\x1bc\x07"))
	if got := s.All(); !slices.Equal(got, []string{"a", "01234", "56", "b"}) {
		t.Errorf("the history is %q", got)
	}
	if got := s.Overran(); !slices.Equal(got, []string{"01234"}) {
		t.Errorf("too long were %q", got)
	}
	if got := s.Wrong(); !slices.Equal(got, []string{`"\x1b[31m"`, `"\x1b[?25l"`, `"\x1bc"`, `'\a'`}) {
		t.Errorf("it does not know %v", got)
	}
	s = NewScreen(5, 3)
	_, _ = s.Write([]byte("0123456\r\n\x1b[2A\x1b[K"))
	if got := s.Overran(); len(got) > 0 {
		t.Errorf("erased, and still there: %q", got)
	}
}
