package progress

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/mattn/go-runewidth"
	"pgregory.net/rapid"
)

func TestFrames(t *testing.T) {
	pieces := []row{
		{name: "nginx 0123456789ab", bytes: 512 << 10, size: 1 << 20, rate: 3 << 20},
		{name: "nginx ba9876543210", bytes: 12 << 20, size: 345 << 20, rate: 0},
	}
	total := row{name: "total", bytes: 100 << 20, size: 400 << 20, rate: 34 << 20, left: "0:09 left"}
	layers := []row{
		{name: "k8s.gcr.io/kube-apiserver:v1.14.1 0123456789ab", state: Moving, word: "下载中", bytes: 512 << 10, size: 1 << 20, rate: 3 << 20},
		{name: "k8s.gcr.io/kube-apiserver:v1.14.1 1123456789ab", state: Waiting, word: "等待", size: -1, rate: -1},
		{name: "k8s.gcr.io/kube-apiserver:v1.14.1 2123456789ab", state: Done, word: "完成", bytes: 5, size: 5, rate: -1, over: true},
		{name: "k8s.gcr.io/kube-apiserver:v1.14.1 3123456789ab", state: Extracting, word: "解压中", bytes: 3, size: 4, rate: -1},
	}
	tests := map[string]struct {
		f              frame
		columns, lines int
		want           string
	}{
		"blobs": {frame{rows: pieces, total: &total}, 80, 24, `
nginx 0123456789ab  [===========>------------]   512.0 KiB / 1.0 MiB  3.0 MiB/s
nginx ba9876543210  [------------------------]  12.0 MiB / 345.0 MiB      0 B/s
total               [>-----]  25%  100.0 MiB / 400.0 MiB  34.0 MiB/s  0:09 left`},
		"blobs in a narrow terminal": {frame{rows: pieces, total: &total}, 40, 24, `
nginx 0123456789ab  [=====>------]  50%
nginx ba9876543210  [------------]   3%
total  25%  34.0 MiB/s  0:09 left`},
		"in one that has no room": {frame{rows: pieces, total: &total}, 12, 24, `
..3456789ab
..876543210
total  25%`},
		"and in none": {frame{rows: pieces, total: &total}, 1, 1, "\n."},
		"layers": {frame{rows: layers}, 80, 24, `
..server:v1.14.1 0123456789ab  下载中  [==>---]  512.0 KiB / 1.0 MiB  3.0 MiB/s
..server:v1.14.1 1123456789ab  等待
..server:v1.14.1 2123456789ab  完成    [======]            5 B / 5 B
..server:v1.14.1 3123456789ab  解压中  [===>--]            3 B / 4 B`},
		"layers in a narrow terminal": {frame{rows: layers}, 40, 24, `
..er:v1.14.1 0123456789ab  下载中   50%
..er:v1.14.1 1123456789ab  等待
..er:v1.14.1 2123456789ab  完成    100%
..er:v1.14.1 3123456789ab  解压中   75%`},
		"more than there is room for: what moves is shown": {frame{rows: layers, total: &total, more: "另有 %d 个"}, 100, 5, `
..io/kube-apiserver:v1.14.1 0123456789ab  下载中  [======>--------]  512.0 KiB / 1.0 MiB  3.0 MiB/s
..io/kube-apiserver:v1.14.1 3123456789ab  解压中  [==========>----]            3 B / 4 B
另有 2 个
total               [=====>--------------------]  25%  100.0 MiB / 400.0 MiB  34.0 MiB/s  0:09 left`},
		"a size that is not known": {frame{rows: []row{{name: "a", bytes: 3 << 20, size: -1, rate: 5}}}, 80, 24, `
a                                3.0 MiB  5 B/s`},
		"nothing to move, and none of it": {frame{rows: []row{{name: "a", size: 0, rate: -1}, {name: "b", size: 0, rate: -1, over: true}}}, 60, 24, `
a                                0 B / 0 B
b  [==========================]  0 B / 0 B`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got := "\n" + strings.Join(layout(test.f, test.columns, test.lines), "\n")
			if got != test.want {
				t.Errorf("got%s\nwant%s", got, test.want)
			}
		})
	}
}

// No row is wider than the terminal, nor are there too many; the row of everything is
// always there, and every piece is shown or counted.
func TestFramesFitEveryTerminal(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		columns, lines := rapid.IntRange(1, 200).Draw(t, "columns"), rapid.IntRange(1, 40).Draw(t, "lines")
		one := rapid.Custom(func(t *rapid.T) row {
			return row{
				name: rapid.StringMatching(`[a-z中文。 ]{0,50}`).Draw(t, "name"), word: rapid.SampledFrom([]string{"", "waiting", "下载中"}).Draw(t, "word"),
				state: rapid.SampledFrom([]State{"", Waiting, Moving}).Draw(t, "state"), over: rapid.Bool().Draw(t, "over"),
				bytes: rapid.Int64Range(-1, 1<<50).Draw(t, "bytes"), size: rapid.Int64Range(-1, 1<<50).Draw(t, "size"),
				rate: rapid.Int64Range(-1, 1<<40).Draw(t, "rate"),
			}
		})
		f := frame{rows: rapid.SliceOfN(one, 0, 60).Draw(t, "rows"), more: "还有%d"}
		if rapid.Bool().Draw(t, "whether there is a total") {
			total := one.Draw(t, "total")
			total.name, total.left = "合计", "剩余 0:12"
			f.total = &total
		}
		out := layout(f, columns, lines)
		if len(out) > max(lines-1, 1) {
			t.Fatalf("%d rows on %d lines", len(out), lines)
		}
		for _, r := range out {
			if runewidth.StringWidth(r) > max(columns-1, 1) {
				t.Fatalf("%q is wider than %d columns", r, columns)
			}
		}
		if f.total != nil && columns > 4 && !strings.HasPrefix(out[len(out)-1], "合计") {
			t.Fatalf("there is no total in %q", out)
		}
		shown, rest := len(out), 0
		if f.total != nil {
			shown--
		}
		if shown < len(f.rows) && columns > 8 && shown > 0 {
			i := slices.IndexFunc(out, func(r string) bool { _, err := fmt.Sscanf(r, "还有%d", &rest); return err == nil })
			if i < 0 || rest+shown-1 != len(f.rows) {
				t.Fatalf("%d of %d rows are shown, and %d told of", shown-1, len(f.rows), rest)
			}
		}
	})
}

func TestTheTimeThatRemains(t *testing.T) {
	for _, test := range []struct {
		moved, size, rate int64
		blind             int
		want              string
	}{
		{0, 100, 10, 0, "0:10 left"},
		{99, 100, 10, 0, "0:01 left"},
		{100, 100, 10, 0, ""},
		{0, 7200, 2, 0, "1:00:00 left"},
		{0, 1 << 50, 1, 0, ""},
		{0, 100, 0, 0, ""},
		{0, 100, 10, 1, ""},
	} {
		s := New(nil, Options{Form: Lines})
		s.moved, s.all, s.blind = test.moved, test.size, test.blind
		now := s.began.Add(slot * (slots - 1))
		s.meter.add(now, test.rate*int64((slots-1)*slot)/1e9+1)
		if got := s.frame(now).total.left; got != test.want {
			t.Errorf("%d of %d, %d a second, %d of no known size: got %q, want %q", test.moved, test.size, test.rate, test.blind, got, test.want)
		}
	}
}
