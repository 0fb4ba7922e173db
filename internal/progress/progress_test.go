package progress

import (
	"bytes"
	"encoding/json"
	"strings"
	"sync"
	"testing"
)

func TestLinesWithoutATerminal(t *testing.T) {
	var out bytes.Buffer
	s := New(&out, Options{States: map[State]string{Present: "已存在"}})
	s.Expect(4 << 20)
	l := s.Start("nginx\x1b[31m 0123", 1<<20)
	l.Add(1 << 20)
	l.End(Present)
	l = s.Start("nginx 4567", 3<<20)
	l.Add(3 << 20)
	l.End(Done)
	s.Say("a sentence")
	s.Close()
	s.Say("nothing is said after the end")
	l.End(Failed)
	text := out.String()
	for _, want := range []string{"nginx[31m 0123  1.0 MiB  已存在\n", "nginx 4567  3.0 MiB  done  (4.0 MiB / 4.0 MiB, ", "a sentence\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in %q", want, text)
		}
	}
	if strings.ContainsRune(text, '\x1b') || strings.Contains(text, "after the end") || strings.Contains(text, "failed") {
		t.Errorf("got %q", text)
	}
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
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	ends := 0
	var last event
	for _, text := range lines {
		last = event{}
		if err := json.Unmarshal([]byte(text), &last); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		if last.Event == "end" {
			ends++
		}
	}
	if ends != 20 || last != (event{Event: "total", Bytes: 100, Size: 100}) {
		t.Errorf("%d pieces ended, and at the end %+v", ends, last)
	}
}

func TestQuietAndNone(t *testing.T) {
	var out bytes.Buffer
	for _, s := range []Sink{New(&out, Options{Form: Quiet}), None()} {
		s.Expect(1)
		l := s.Start("x", 1)
		l.Add(1)
		l.End(Done)
		s.Say("x")
	}
	if out.Len() != 0 {
		t.Errorf("got %q", &out)
	}
}

func TestBarsEnd(t *testing.T) {
	var out bytes.Buffer
	s := New(&out, Options{Form: Bars})
	s.Expect(2)
	l := s.Start("x", 1)
	l.Add(1)
	l.End(Done)
	s.Start("never ends", -1).Add(1)
	s.Say("above the bars")
	s.Close()
}

func TestBytesForPeople(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1 << 10: "1.0 KiB", 64 << 20: "64.0 MiB", 1 << 50: "1024.0 TiB"} {
		if got := Bytes(n); got != want {
			t.Errorf("%d: got %s, want %s", n, got, want)
		}
	}
}
