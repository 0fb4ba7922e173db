package store

import (
	"iter"
	"slices"
)

// A Range is the bytes From up to, and not including, To.
type Range struct{ From, To int64 }

// Ranges is a set of bytes of a blob, as few ranges as say it: sorted, disjoint
// and not touching. The zero value is empty. A copy shares memory with what it
// was copied from: who changes one of them takes a Clone. Offsets are not
// negative.
type Ranges struct{ all []Range }

// at returns the index of the first range that ends behind off.
func (r Ranges) at(off int64) int {
	i, _ := slices.BinarySearchFunc(r.all, off, func(x Range, off int64) int {
		if x.To > off {
			return 1
		}
		return -1
	})
	return i
}

// Add puts the bytes from up to, and not including, to into the set. Nothing is
// added when there are none between them.
func (r *Ranges) Add(from, to int64) {
	if from >= to {
		return
	}
	i := r.at(from)
	if i > 0 && r.all[i-1].To == from { // touches
		i--
	}
	j, _ := slices.BinarySearchFunc(r.all[i:], to, func(x Range, to int64) int {
		if x.From > to {
			return 1
		}
		return -1
	})
	j += i // the first range that begins behind to
	if i < j {
		from, to = min(from, r.all[i].From), max(to, r.all[j-1].To)
	}
	r.all = slices.Replace(r.all, i, j, Range{from, to})
}

// Covers tells whether all bytes from up to, and not including, to are in the
// set. No bytes are in every set.
func (r Ranges) Covers(from, to int64) bool {
	return from >= to || r.EndOf(from) >= to
}

// EndOf returns the end of the range that holds off, and off itself when none
// does.
func (r Ranges) EndOf(off int64) int64 {
	if i := r.at(off); i < len(r.all) && r.all[i].From <= off {
		return r.all[i].To
	}
	return off
}

// NextGap returns the first bytes at or behind from that are not in the set, as
// many as there are in a row below size; false when there are none.
func (r Ranges) NextGap(from, size int64) (Range, bool) {
	gap := Range{r.EndOf(from), size}
	if i := r.at(gap.From); i < len(r.all) {
		gap.To = min(size, r.all[i].From)
	}
	return gap, gap.From < gap.To
}

// End returns the end of the last range, 0 of an empty set.
func (r Ranges) End() int64 {
	if len(r.all) == 0 {
		return 0
	}
	return r.all[len(r.all)-1].To
}

// Total returns the number of bytes in the set.
func (r Ranges) Total() int64 {
	var n int64
	for _, x := range r.all {
		n += x.To - x.From
	}
	return n
}

// All yields the ranges in their order.
func (r Ranges) All() iter.Seq[Range] { return slices.Values(r.all) }

// Clone returns a set that shares nothing with r.
func (r Ranges) Clone() Ranges { return Ranges{slices.Clone(r.all)} }
