package main

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// A table is written as Markdown.
type table struct {
	head []string
	rows [][]string
}

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

func (t *table) String() string {
	var s strings.Builder
	line := func(cells []string) { s.WriteString("| " + strings.Join(cells, " | ") + " |\n") }
	line(t.head)
	s.WriteString(strings.Repeat("|---", len(t.head)) + "|\n")
	for _, row := range t.rows {
		line(row)
	}
	return s.String()
}

// median of an odd or even number of values, at least one.
func median(values []float64) float64 {
	v := slices.Sorted(slices.Values(values))
	n := len(v)
	return (v[(n-1)/2] + v[n/2]) / 2
}

// ratios divides pairwise: values of one round belong together.
func ratios(a, b []float64) []float64 {
	r := make([]float64, len(a))
	for i := range a {
		r[i] = a[i] / b[i]
	}
	return r
}

// spread tells the smallest and the largest value.
func spread(v []float64) string {
	return fmt.Sprintf("%.2f–%.2f", slices.Min(v), slices.Max(v))
}

// verdict tells whether value keeps within most.
func verdict(value, most float64) string {
	if value <= most {
		return "yes"
	}
	return "**no**"
}

func mib(bytes int64) string { return fmt.Sprintf("%.1f MiB", float64(bytes)/(1<<20)) }

func milliseconds(d float64) string { return fmt.Sprintf("%.1f ms", d*1000) }

func micros(d time.Duration, n int64) float64 { return float64(d.Microseconds()) / float64(n) }

func perGiB(d time.Duration, bytes int64) float64 {
	return d.Seconds() / (float64(bytes) / (1 << 30))
}

// verdictLeast tells whether value is at least least.
func verdictLeast(value, least float64) string { return verdict(-value, -least) }

func seconds(s float64) string { return fmt.Sprintf("%.2f s", s) }
