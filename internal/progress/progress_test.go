package progress

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestLinesWithoutATerminal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		s := New(&out, Options{Words: Words{States: map[State]string{Present: "已存在"}}})
		s.Expect(4 << 20)
		l := s.Start("nginx\x1b[31m\n 0123", 1<<20)
		l.Add(1 << 20)
		l.End(Present)
		l = s.Start("nginx 4567", 3<<20)
		time.Sleep(2 * time.Second)
		l.Add(3 << 20)
		l.End(Done)
		failed := s.Start("nginx 89ab", 5)
		failed.End(Failed)
		failed.End(Done)
		s.Piece("nginx cdef").Remove()
		s.Say("a \x1b[2Jsentence\tof two\nlines")
		s.Close()
		s.Say("nothing is said after the end")
		s.Start("x", 1).End(Done)
		s.Close()
		want := "nginx[31m 0123  1.0 MiB  已存在\n" +
			"nginx 4567  3.0 MiB  done  (4.0 MiB / 4.0 MiB, 1.5 MiB/s)\n" +
			"nginx 89ab  5 B  failed\n" +
			"a [2Jsentence of two\nlines\n"
		if out.String() != want {
			t.Errorf("got\n%swant\n%s", &out, want)
		}
	})
}

// events reads lines of JSON.
func events(t *testing.T, text string) (list []event) {
	t.Helper()
	for line := range strings.Lines(text) {
		var e event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		list = append(list, e)
	}
	return list
}

func TestEventsAreOneDocumentALine(t *testing.T) {
	var out bytes.Buffer
	s := New(&out, Options{Form: Events})
	s.Expect(100)
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			l := s.Start("x", 5)
			l.Add(5)
			l.Add(-5)
			l.Add(5)
			l.End(Done)
		})
	}
	all.Wait()
	s.Close()
	list, ends := events(t, out.String()), map[int]bool{}
	for _, e := range list {
		if e.Event == "end" {
			ends[e.ID] = true
		}
	}
	last := list[len(list)-1]
	if len(ends) != 20 || last.Event != "total" || last.Bytes != 100 || last.Size != 100 {
		t.Errorf("%d pieces ended, and at the end %+v", len(ends), last)
	}
}

func TestWhatEventsTell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		s := New(&out, Options{Form: Events})
		s.Expect(4000)
		l := s.Start("a/<b> 01", 4000)
		for range 2 {
			time.Sleep(time.Second)
			l.Add(1000)
		}
		l.End(Done)
		p := s.Piece("layer")
		p.Turns(Waiting, 0, 500)
		p.Turns(Extracting, 5, 10)
		p.End(Present)
		s.Say("说")
		s.Close()
		want := `{"event":"expect","bytes":0,"size":4000}
{"event":"start","id":1,"name":"a/<b> 01","bytes":0,"size":4000}
{"event":"progress","id":1,"name":"a/<b> 01","bytes":1000,"size":4000,"rate":1000}
{"event":"total","bytes":1000,"size":4000,"rate":1000,"seconds":1}
{"event":"progress","id":1,"name":"a/<b> 01","bytes":2000,"size":4000,"rate":1000}
{"event":"total","bytes":2000,"size":4000,"rate":1000,"seconds":2}
{"event":"end","id":1,"name":"a/<b> 01","state":"done","bytes":4000,"size":4000}
{"event":"start","id":2,"name":"layer","bytes":0}
{"event":"progress","id":2,"name":"layer","state":"waiting","bytes":0,"size":500}
{"event":"progress","id":2,"name":"layer","state":"extracting","bytes":0,"size":500}
{"event":"end","id":2,"name":"layer","state":"present","bytes":500,"size":500}
{"event":"message","text":"说"}
{"event":"total","bytes":4500,"size":4500,"rate":1000,"seconds":2}
`
		if out.String() != want {
			t.Errorf("got\n%swant\n%s", &out, want)
		}
	})
}

func TestTheSums(t *testing.T) {
	tests := map[string]struct {
		do          func(s *Show)
		moved, size int64
		blind       int
	}{
		"what must move again counts once": {func(s *Show) {
			s.Expect(10)
			l := s.Start("x", 10)
			l.Add(7)
			l.Add(-7)
			l.Add(10)
			l.End(Done)
		}, 10, 10, 0},
		"what failed counts not, and its second try does": {func(s *Show) {
			s.Expect(10)
			l := s.Start("x", 10)
			l.Add(7)
			l.End(Failed)
			l = s.Start("x", 10)
			l.Add(10)
			l.End(Done)
		}, 10, 10, 0},
		"what was there counts, told or not": {func(s *Show) {
			s.Expect(20)
			s.Start("x", 10).End(Present)
			l := s.Start("y", 10)
			l.Add(10)
			l.End(Present)
		}, 20, 20, 0},
		"nobody expected it": {func(s *Show) {
			s.Expect(10)
			s.Start("x", 10).Add(10)
			s.Start("y", 5).Add(5)
		}, 15, 15, 0},
		"of a size that is not known": {func(s *Show) {
			s.Start("x", -1).Add(5)
			l := s.Start("y", -1)
			l.Add(3)
			l.End(Done)
		}, 8, 8, 1},
		"the size comes while it moves": {func(s *Show) {
			p := s.Piece("x")
			p.Moves(3, 0)
			p.Moves(4, 10)
			p.Moves(2, 10)
		}, 2, 10, 0},
		"the size comes while it waits, and changes": {func(s *Show) {
			p := s.Piece("x")
			p.Turns(Waiting, 0, 10)
			p.Moves(4, 12)
			p.Turns(Extracting, 100, 200)
			p.End(Done)
			p.Moves(100, 100)
			p.Turns(Waiting, 0, 7)
			p.Add(1)
		}, 12, 12, 0},
		"it is removed before its end": {func(s *Show) {
			p := s.Piece("x")
			p.Moves(4, 12)
			p.Remove()
			p.Remove()
		}, 0, 12, 0},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s := New(io.Discard, Options{Form: Lines})
			test.do(s)
			if s.moved != test.moved || s.size() != test.size || s.blind != test.blind {
				t.Errorf("%d of %d bytes, %d pieces without a size, want %d of %d, %d", s.moved, s.size(), s.blind, test.moved, test.size, test.blind)
			}
		})
	}
}

func TestQuietAndNone(t *testing.T) {
	var out bytes.Buffer
	quiet := New(&out, Options{Form: Quiet})
	for _, s := range []Sink{quiet, None()} {
		s.Expect(1)
		l := s.Start("x", 1)
		l.Add(1)
		l.End(Done)
		s.Say("x")
	}
	quiet.Close()
	if out.Len() != 0 {
		t.Errorf("got %q", &out)
	}
}

func TestWhatOthersWrite(t *testing.T) {
	for form, want := range map[Form][2]string{
		Lines:  {"first\nsecond\nthird\n", ""},
		Events: {`{"event":"message","text":"first"}` + "\n" + `{"event":"message","text":"second"}` + "\n" + `{"event":"message","text":"third"}` + "\n", ""},
		Quiet:  {"first\r\nsecond\nthird", ""},
	} {
		var out, other bytes.Buffer
		s := New(&out, Options{Form: form})
		for _, w := range []io.Writer{s.Above(&out), s.Above(&other)} {
			for _, part := range []string{"fir", "st\r\nsecond\nth", "ird"} {
				if n, err := io.WriteString(w, part); n != len(part) || err != nil {
					t.Errorf("%s: %d, %v", form, n, err)
				}
			}
		}
		s.Close()
		got, _, _ := strings.Cut(out.String(), `{"event":"total"`)
		if got != want[0] || other.String() != "first\r\nsecond\nthird" {
			t.Errorf("%s: got %q, and elsewhere %q", form, got, &other)
		}
	}
}

// Whoever reads progress may leave.
func TestTheOutputIsClosed(t *testing.T) {
	for _, form := range []Form{Bars, Lines, Events} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		_ = r.Close()
		s := New(w, Options{Form: form})
		s.Expect(2)
		s.Start("x", 2).End(Done)
		s.Say("x")
		s.Close()
		_ = w.Close()
		if form == Bars && !s.screen.dead {
			t.Error("it paints on where nobody looks")
		}
	}
}

func TestBytesForPeople(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1 << 10: "1.0 KiB", 64 << 20: "64.0 MiB", 1 << 50: "1024.0 TiB"} {
		if got := Bytes(n); got != want {
			t.Errorf("%d: got %s, want %s", n, got, want)
		}
	}
}
