package dashboard

import (
	"fmt"
	"math"
	"strings"
	"time"

	"sampan/internal/history"
)

// The drawing of a chart, in the units of its picture.
const (
	chartWidth, chartHeight = 640, 180
	chartLeft, chartRight   = 78, 632
	chartTop, chartBottom   = 12, 152
)

// A chart is one or two lines over time, drawn here and not by the browser, with the
// same figures as a table.
type chart struct {
	Key   string // of its title; Key.a and Key.b name the lines
	Unit  string // "bytes", "count" or "share"
	Lines []line
	Marks []mark // of the upright axis
	Times []mark // of the level one
	Rows  []row
	Peak  float64
}

// A line is one of a chart.
type line struct {
	Class string // a or b
	Path  string // of SVG
}

// A mark is a value on an axis.
type mark struct {
	At    float64 // in the picture
	Value float64
	Time  time.Time
}

// A row is what a chart shows of one stretch of time, for the table.
type row struct {
	Time   time.Time
	Values []float64
}

// maxRows bounds the table of a chart: steps are put together.
const maxRows = 32

func charts(points []history.Point, from, to time.Time, s span, limit int64) []*chart {
	share := func(p history.Point) float64 {
		if p.Served <= 0 {
			return math.NaN() // nobody asked for anything
		}
		return min(1, float64(p.Cached)/float64(p.Served))
	}
	disk := func(p history.Point) float64 {
		if p.Disk <= 0 {
			return math.NaN()
		}
		return float64(p.Disk)
	}
	list := []*chart{
		draw("chart.bytes", "bytes", points, from, to, 0, func(p history.Point) float64 { return float64(p.Served) }, func(p history.Point) float64 { return float64(p.Fetched) }),
		draw("chart.ratio", "share", points, from, to, 1, share),
		draw("chart.requests", "count", points, from, to, 0, func(p history.Point) float64 { return float64(p.Requests) }, func(p history.Point) float64 { return float64(p.Errors + p.Denials) }),
		draw("chart.disk", "bytes", points, from, to, float64(limit), disk),
	}
	return list
}

// draw makes a chart of what each of values is of each point. Where it is not a number,
// the line is interrupted. The axis reaches at least to the top.
func draw(key, unit string, points []history.Point, from, to time.Time, top float64, values ...func(history.Point) float64) *chart {
	c := &chart{Key: key, Unit: unit, Peak: 0}
	for _, p := range points {
		for _, f := range values {
			if v := f(p); !math.IsNaN(v) {
				c.Peak = max(c.Peak, v)
			}
		}
	}
	if unit != "share" {
		top = round(max(top, c.Peak), unit)
	}
	if top <= 0 {
		top = 1
	}
	x := func(t time.Time) float64 {
		return chartLeft + (chartRight-chartLeft)*min(1, max(0, float64(t.Sub(from))/float64(to.Sub(from))))
	}
	y := func(v float64) float64 { return chartBottom - (chartBottom-chartTop)*v/top }
	for i, f := range values {
		c.Lines = append(c.Lines, line{string(rune('a' + i)), path(points, f, x, y)})
	}
	for i := range 3 {
		v := top * float64(i) / 2
		c.Marks = append(c.Marks, mark{At: y(v), Value: v})
	}
	for i := range 5 {
		t := from.Add(to.Sub(from) * time.Duration(i) / 4)
		c.Times = append(c.Times, mark{At: x(t), Time: t})
	}
	c.Rows = rows(points, values)
	return c
}

// path draws a line through what f is of the points, with a dash for one that is alone.
func path(points []history.Point, f func(history.Point) float64, x func(time.Time) float64, y func(float64) float64) string {
	var text strings.Builder
	known := func(i int) bool { return i >= 0 && i < len(points) && !math.IsNaN(f(points[i])) }
	for i, p := range points {
		switch at := y(f(p)); {
		case !known(i):
		case !known(i-1) && !known(i+1):
			fmt.Fprintf(&text, "M%.1f %.1fh6", x(p.Time)-3, at)
		case !known(i - 1):
			fmt.Fprintf(&text, "M%.1f %.1f", x(p.Time), at)
		default:
			fmt.Fprintf(&text, "L%.1f %.1f", x(p.Time), at)
		}
	}
	return text.String()
}

// rows are at most maxRows of the points, the newest first. Of a stretch that has
// several, it is the last one: a row is an example and no sum.
func rows(points []history.Point, values []func(history.Point) float64) (list []row) {
	every := max(1, (len(points)+maxRows-1)/maxRows)
	for i := len(points) - 1; i >= 0; i -= every {
		one := row{Time: points[i].Time}
		for _, f := range values {
			one.Values = append(one.Values, f(points[i]))
		}
		list = append(list, one)
	}
	return list
}

// round is the next value that is easy to read: 1, 2 or 5 times a power of ten, or for
// bytes of 1024.
func round(v float64, unit string) float64 {
	if v <= 0 {
		return 1
	}
	base := 1.0
	if unit == "bytes" {
		for base*1024 <= v {
			base *= 1024
		}
	}
	ten := math.Pow(10, math.Floor(math.Log10(v/base)))
	for _, m := range []float64{1, 2, 5, 10} {
		if m*ten*base >= v {
			return m * ten * base
		}
	}
	return v
}

// A value is one for a template.
type value struct {
	Unit  string // "none", or that of the chart
	Count int64
	Share float64
}

// Value is one of the values for a template.
func (c *chart) Value(v float64) value {
	switch {
	case math.IsNaN(v):
		return value{Unit: "none"}
	case c.Unit == "share":
		return value{Unit: c.Unit, Share: v}
	}
	return value{Unit: c.Unit, Count: int64(v)}
}
