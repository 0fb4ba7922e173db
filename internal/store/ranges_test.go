package store_test

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"sampan/internal/store"
)

// A bytesModel says of each byte whether it is in the set.
type bytesModel [64]bool

func (m *bytesModel) add(from, to int64) {
	for i := from; i < to; i++ {
		m[i] = true
	}
}

// all returns the ranges of the model.
func (m *bytesModel) all() []store.Range {
	var all []store.Range
	for i := range int64(len(m)) {
		switch {
		case !m[i]:
		case i > 0 && m[i-1]:
			all[len(all)-1].To++
		default:
			all = append(all, store.Range{From: i, To: i + 1})
		}
	}
	return all
}

// run returns the end of the bytes in a row from off on that are in the set, or
// that are not.
func (m *bytesModel) run(off int64, in bool) int64 {
	for off < int64(len(m)) && m[off] == in {
		off++
	}
	return off
}

func TestRangesAgreeWithASetOfBytes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var r store.Ranges
		var m bytesModel
		offset := rapid.Int64Range(0, int64(len(m)))
		for range rapid.IntRange(0, 20).Draw(t, "adds") {
			from, to := offset.Draw(t, "from"), offset.Draw(t, "to")
			before, was := r.Clone(), m
			r.Add(from, to)
			m.add(from, to)
			if got, want := slices.Collect(before.All()), was.all(); !slices.Equal(got, want) {
				t.Fatalf("a clone has changed from %v to %v", want, got)
			}
		}
		agree(t, r, &m, offset)
	})
}

func agree(t *rapid.T, r store.Ranges, m *bytesModel, offset *rapid.Generator[int64]) {
	want := m.all()
	if got := slices.Collect(r.All()); !slices.Equal(got, want) {
		t.Fatalf("got %v, want %v", got, want)
	}
	var total, end int64
	for _, x := range want {
		total, end = total+x.To-x.From, x.To
	}
	if r.Total() != total || r.End() != end {
		t.Fatalf("total %d and end %d, want %d and %d", r.Total(), r.End(), total, end)
	}
	from, to := offset.Draw(t, "from"), offset.Draw(t, "to")
	if got, want := r.EndOf(from), m.run(from, true); got != want {
		t.Fatalf("EndOf(%d) is %d, want %d", from, got, want)
	}
	if got, want := r.Covers(from, to), m.run(from, true) >= to; got != want {
		t.Fatalf("Covers(%d, %d) is %v", from, to, got)
	}
	gap := store.Range{From: m.run(from, true)}
	gap.To = min(to, m.run(gap.From, false))
	got, ok := r.NextGap(from, to)
	if ok != (gap.From < gap.To) || ok && got != gap {
		t.Fatalf("NextGap(%d, %d) is %v, %v; want %v", from, to, got, ok, gap)
	}
}
