package demo

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/mattn/go-runewidth"
)

// table returns the results, one line each.
func (d *demo) table(results []result) string {
	rows := [][]string{{
		d.Text("step", "步骤"), d.Text("clients", "客户端"), d.Text("to clients", "送达客户端"), d.Text("from upstream", "来自上游"),
		d.Text("requests", "上游请求"), d.Text("tokens", "token"), d.Text("time", "用时"),
	}}
	for _, r := range results {
		rows = append(rows, []string{
			r.name, strconv.Itoa(r.clients), size(r.received), size(r.upstream.content),
			strconv.Itoa(r.upstream.requests), strconv.Itoa(r.upstream.tokens), seconds(r.took),
		})
	}
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], width(cell))
		}
	}
	var b strings.Builder
	for n, row := range rows {
		for i, cell := range row {
			gap := strings.Repeat(" ", widths[i]-width(cell))
			if i == 0 { // names to the left, numbers to the right
				b.WriteString(cell + gap)
			} else {
				b.WriteString("   " + gap + cell)
			}
		}
		b.WriteString("\n")
		if n == 0 {
			total := 3 * (len(widths) - 1)
			for _, w := range widths {
				total += w
			}
			b.WriteString(strings.Repeat("-", total) + "\n")
		}
	}
	return b.String()
}

// width is how many columns of a terminal s takes; Chinese characters take two.
func width(s string) int {
	return (&runewidth.Condition{StrictEmojiNeutral: true}).StringWidth(s)
}

// size writes bytes for people.
func size(n int64) string {
	for _, unit := range []struct {
		bytes int64
		name  string
	}{{1 << 30, "GiB"}, {1 << 20, "MiB"}, {1 << 10, "KiB"}} {
		if n >= unit.bytes {
			return fmt.Sprintf("%.1f %s", float64(n)/float64(unit.bytes), unit.name)
		}
	}
	return fmt.Sprintf("%d B", n)
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }
