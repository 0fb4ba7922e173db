package progress

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/mattn/go-runewidth"
)

// A row is what there is to show of one piece, or of everything.
type row struct {
	name        string
	state       State
	word        string // of the state; empty for none
	bytes, size int64  // size is negative when unknown
	rate        int64  // bytes a second; negative where that is not told
	left        string // a time, with its word; empty for none
	over        bool
}

// A frame is all that is shown at one moment.
type frame struct {
	rows  []row
	total *row // nil before anything is known
	more  string
}

// frame is that of now; the caller holds mu.
func (s *Show) frame(now time.Time) frame {
	f := frame{more: s.words.More}
	for _, p := range s.pieces {
		f.rows = append(f.rows, p.row(now))
	}
	if s.size() == 0 {
		return f
	}
	f.total = &row{name: s.words.Total, bytes: s.moved, size: s.size(), rate: s.meter.rate(now)}
	switch rate := f.total.rate; {
	case s.closed:
		if f.total.rate = s.meter.average(now); s.meter.sum == 0 {
			f.total.rate = -1
		}
		f.total.left = clock(now.Sub(s.began))
	case rate > 0 && s.blind == 0 && s.moved < s.size():
		const longest = 100 * 3600 // seconds; what takes longer nobody knows
		if seconds := (s.size() - s.moved + rate - 1) / rate; seconds < longest {
			f.total.left = fmt.Sprintf(s.words.Left, clock(time.Duration(seconds)*time.Second))
		}
	}
	return f
}

// row is that of now; the caller holds the show's mu.
func (p *Piece) row(now time.Time) row {
	r := row{name: p.name, state: p.state, bytes: p.moved, size: p.size, rate: -1, over: p.over}
	if p.state != "" {
		r.word = p.show.words.state(p.state)
	}
	switch {
	case p.over:
	case p.state == "" || p.state == Moving:
		r.rate = p.meter.rate(now)
	case p.busy.size > 0:
		r.bytes, r.size = p.busy.bytes, p.busy.size
	}
	return r
}

func (w Words) state(s State) string {
	if word := w.States[s]; word != "" {
		return word
	}
	return string(s)
}

// clock is a time as clocks show it: 0:07, 12:34 or 1:02:03.
func clock(d time.Duration) string {
	n := int64(d.Round(time.Second) / time.Second)
	if n >= 3600 {
		return fmt.Sprintf("%d:%02d:%02d", n/3600, n/60%60, n%60)
	}
	return fmt.Sprintf("%d:%02d", n/60, n%60)
}

// layout makes rows for a terminal of so many columns and lines. One of each is left
// free: for the cursor, and because terminals disagree about what stands in the last.
func layout(f frame, columns, lines int) []string {
	columns, lines = max(columns-1, 1), max(lines-1, 1)
	room := lines
	if f.total != nil {
		room--
	}
	rows, more := chosen(f.rows, room)
	out, names := table(rows, columns)
	if more > 0 && len(rows) < room {
		out = append(out, runewidth.Truncate(fmt.Sprintf(f.more, more), columns, ""))
	}
	if f.total != nil {
		out = append(out, totalRow(*f.total, names, columns))
	}
	return out
}

// chosen are the rows that there is room for, in their order: what moves before what
// waits, and that before what has ended. A line is left for telling of the others.
func chosen(rows []row, room int) (shown []row, more int) {
	if len(rows) <= room {
		return rows, 0
	}
	room = max(room-1, 0)
	rank := func(r row) int {
		switch {
		case r.over:
			return 2
		case r.state == Waiting:
			return 1
		}
		return 0
	}
	var at []int
	for n := range 3 {
		for i, r := range rows {
			if rank(r) == n && len(at) < room {
				at = append(at, i)
			}
		}
	}
	slices.Sort(at)
	for _, i := range at {
		shown = append(shown, rows[i])
	}
	return shown, len(rows) - len(shown)
}

const (
	gap                = 2     // columns between cells
	longest            = 40    // columns of a name
	short              = 18    // columns of a name that is cut rather than that more is left out
	thinnest, thickest = 8, 28 // columns of a bar
)

// A cell is a column of a table.
type cell int

const (
	wordCell cell = iota
	barCell
	percentCell
	numbersCell
	rateCell
	leftCell
)

// text is what stands in a cell that is no bar.
func (c cell) text(r row) string {
	switch c {
	case wordCell:
		return r.word
	case percentCell:
		if r.size < 0 {
			if r.bytes > 0 {
				return Bytes(r.bytes)
			}
			return ""
		}
		return fmt.Sprintf("%d%%", int(100*r.share()))
	case numbersCell:
		switch {
		case r.size >= 0:
			return Bytes(r.bytes) + " / " + Bytes(r.size)
		case r.bytes > 0:
			return Bytes(r.bytes)
		}
	case rateCell:
		if r.rate >= 0 {
			return Bytes(r.rate) + "/s"
		}
	case leftCell:
		return r.left
	}
	return ""
}

// share is how much of a row is done, from 0 to 1.
func (r row) share() float64 {
	switch {
	case r.bytes >= r.size && (r.size > 0 || r.over):
		return 1
	case r.size <= 0:
		return 0
	}
	return max(float64(r.bytes)/float64(r.size), 0)
}

// table lays rows out: with all cells where there is room, and else with fewer. names is
// how many columns the names take.
func table(rows []row, columns int) (lines []string, names int) {
	for _, r := range rows {
		names = max(names, min(runewidth.StringWidth(r.name), longest))
	}
	for _, cells := range [][]cell{{wordCell, barCell, numbersCell, rateCell}, {wordCell, barCell, numbersCell}, {wordCell, barCell, percentCell}, {wordCell, percentCell}, {percentCell}, {}} {
		if lines, ok := drawn(rows, cells, names, columns); ok {
			return lines, names
		}
	}
	return nil, names
}

// totalRow lays out the row of everything, with its bar below those of names where that
// can be.
func totalRow(r row, names, columns int) string {
	own := runewidth.StringWidth(r.name)
	for _, n := range []int{max(own, min(names, short)), own} {
		if lines, ok := drawn([]row{r}, []cell{barCell, percentCell, numbersCell, rateCell, leftCell}, n, columns); ok {
			return lines[0]
		}
	}
	for _, cells := range [][]cell{{percentCell, numbersCell, rateCell, leftCell}, {percentCell, rateCell, leftCell}, {percentCell, leftCell}, {percentCell}, {}} {
		if lines, ok := drawn([]row{r}, cells, own, columns); ok {
			return lines[0]
		}
	}
	return ""
}

// drawn lays rows out with these cells; false where there is no room for them. Without
// cells there always is.
func drawn(rows []row, cells []cell, names, columns int) ([]string, bool) {
	widths, used, bars := make([]int, len(cells)), 0, 0
	for i, c := range cells {
		for _, r := range rows {
			widths[i] = max(widths[i], runewidth.StringWidth(c.text(r)))
		}
		if c == barCell {
			bars = gap + thinnest
		} else if widths[i] > 0 {
			used += gap + widths[i]
		}
	}
	free := columns - used
	if len(cells) > 0 && free < min(names, short)+bars {
		return nil, false
	}
	names = min(names, free-bars)
	if bars > 0 {
		bars = min(free-names-gap, thickest)
	}
	lines := make([]string, len(rows))
	for k, r := range rows {
		var b strings.Builder
		b.WriteString(runewidth.FillRight(cutLeft(r.name, names), names))
		for i, c := range cells {
			text := c.text(r)
			switch {
			case c == barCell:
				b.WriteString(strings.Repeat(" ", gap) + drawBar(r, bars))
			case widths[i] == 0:
			case c == wordCell:
				b.WriteString(strings.Repeat(" ", gap) + runewidth.FillRight(text, widths[i]))
			default:
				b.WriteString(strings.Repeat(" ", gap) + runewidth.FillLeft(text, widths[i]))
			}
		}
		lines[k] = strings.TrimRight(b.String(), " ")
	}
	return lines, true
}

// drawBar is a bar of so many columns; empty where there is nothing to measure.
func drawBar(r row, columns int) string {
	if r.size < 0 || r.size == 0 && !r.over {
		return strings.Repeat(" ", columns)
	}
	inner := columns - len("[]")
	full := int(r.share() * float64(inner))
	head := ""
	if full > 0 && full < inner {
		full, head = full-1, ">"
	}
	return "[" + strings.Repeat("=", full) + head + strings.Repeat("-", inner-full-len(head)) + "]"
}

// cutLeft is the end of a name, in so many columns: what tells it from others is there.
func cutLeft(name string, columns int) string {
	if runewidth.StringWidth(name) <= columns {
		return name
	}
	const dots = ".."
	runes, used := []rune(name), min(len(dots), max(columns, 0))
	cut := dots[:used]
	from := len(runes)
	for from > 0 && used+runewidth.RuneWidth(runes[from-1]) <= columns {
		from--
		used += runewidth.RuneWidth(runes[from])
	}
	return cut + string(runes[from:])
}

// Bytes is a number of bytes for people, in powers of 1024.
func Bytes(n int64) string {
	if n < 1<<10 {
		return fmt.Sprintf("%d B", n)
	}
	v, unit := float64(n), 0
	for v >= 1<<10 && unit < 4 {
		v /= 1 << 10
		unit++
	}
	return fmt.Sprintf("%.1f %ciB", v, "_KMGT"[unit])
}
