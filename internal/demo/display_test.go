package demo

import (
	"bytes"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestBarsThatMoveEndFull(t *testing.T) {
	var out bytes.Buffer
	d := newMoving(&out)
	one, two := d.bar("one", 3<<20), d.bar("第二", 100)
	var adding sync.WaitGroup
	for range 3 {
		adding.Go(func() { one.add(1 << 20) })
	}
	adding.Wait()
	two.set(100)
	two.set(99) // old news
	d.end()
	for _, want := range []string{"  one ", "3.0 MiB / 3.0 MiB", "  第二 ", "100 B / 100 B"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in %q", want, out.String())
		}
	}
}

func TestBarsThatAreNotFullEndToo(t *testing.T) {
	var out bytes.Buffer
	d := newMoving(&out)
	d.bar("one", 100).add(40)
	d.end()
	if !strings.Contains(out.String(), "40 B / 100 B") {
		t.Errorf("%q", out.String())
	}
}

func TestWithoutATerminalCompletionIsToldOnce(t *testing.T) {
	var out bytes.Buffer
	d := newDisplay(&out)
	b := d.bar("one", 100)
	b.add(40)
	b.set(30) // old news
	b.add(10)
	if out.Len() > 0 {
		t.Errorf("%q", out.String())
	}
	for range 2 {
		b.set(100)
	}
	d.end()
	if got := out.String(); strings.Count(got, "\n") != 1 || !strings.HasPrefix(got, "  one ") || !strings.Contains(got, "100 B") {
		t.Errorf("%q", got)
	}
}

func TestColumnsAlignInEitherLanguage(t *testing.T) {
	results := []result{
		{name: "cold", clients: 1, received: 3 << 30, upstream: tally{content: 1 << 20, requests: 12, tokens: 1}, took: 1500 * time.Millisecond},
		{name: "并发拉取", clients: 50},
	}
	for _, text := range []func(en, zh string) string{
		func(en, _ string) string { return en },
		func(_, zh string) string { return zh },
	} {
		d := &demo{Options: Options{Text: text}}
		table := d.table(results)
		lines := strings.Split(strings.TrimSuffix(table, "\n"), "\n")
		for _, line := range lines {
			if width(line) != width(lines[0]) {
				t.Errorf("not aligned:\n%s", table)
			}
		}
		if !strings.Contains(table, "3.0 GiB") || !strings.Contains(table, "1.50 s") {
			t.Errorf("numbers are missing:\n%s", table)
		}
	}
}

func TestSizesAreWrittenForPeople(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1 << 10: "1.0 KiB", 3 << 19: "1.5 MiB", 5 << 30: "5.0 GiB"} {
		if got := size(n); got != want {
			t.Errorf("size(%d) = %s, want %s", n, got, want)
		}
	}
}

func TestTheLogIsReadInAnyPieces(t *testing.T) {
	l := &logReader{serving: make(chan addresses, 1)}
	log := "not json\n" + `{"msg":"serving","listen":"127.0.0.1:1","admin":"127.0.0.1:2"}` + "\n" +
		`{"msg":"serving","listen":"again"}` + "\n" + strings.Repeat("line\n", lastLines-1) + "the last\npart"
	for i := range len(log) {
		if n, err := l.Write([]byte(log[i : i+1])); n != 1 || err != nil {
			t.Fatal(n, err)
		}
	}
	if at := <-l.serving; at.Listen != "127.0.0.1:1" || at.Admin != "127.0.0.1:2" {
		t.Errorf("%+v", at)
	}
	if got := l.String(); strings.Count(got, "\n") != lastLines-1 || !strings.HasSuffix(got, "the last") {
		t.Errorf("%q", got)
	}
}

func TestTheMirrorSeesNoSettingsOfOthers(t *testing.T) {
	got := environment([]string{"HOME=/root", "SAMPAN_LISTEN=:80", "LANG=C"})
	if strings.Join(got, " ") != "HOME=/root LANG=C" {
		t.Errorf("%q", got)
	}
}
