package disk

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sampan/internal/oci"
)

// A plain model of the evictor: a slice, searched from end to end.
type modelItem struct {
	name   string
	size   int64
	used   time.Time
	owner  string
	pinned bool
}

type evictorModel struct {
	items    []modelItem
	max, min map[string]int64
}

func (m *evictorModel) bytes(owner string) (n int64) {
	for _, i := range m.items {
		if i.owner == owner {
			n += i.size
		}
	}
	return n
}

// victim is whose turn it is: owners above their most, then above their least,
// then all; of them, the one used least recently.
func (m *evictorModel) victim() string {
	for _, gives := range []func(owner string) bool{
		func(o string) bool { return m.max[o] > 0 && m.bytes(o) > m.max[o] },
		func(o string) bool { return m.bytes(o) > m.min[o] },
		func(string) bool { return true },
	} {
		best := -1
		for at, i := range m.items {
			if !i.pinned && gives(i.owner) && (best < 0 || i.used.Before(m.items[best].used)) {
				best = at
			}
		}
		if best >= 0 {
			return m.items[best].name
		}
	}
	return ""
}

func (m *evictorModel) index(name string) int {
	return slices.IndexFunc(m.items, func(i modelItem) bool { return i.name == name })
}

func TestTheEvictorAgreesWithAPlainModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		table, m := newTable(), &evictorModel{max: map[string]int64{}, min: map[string]int64{}}
		owners := []string{"", "a", "b", "c"}
		for _, o := range owners {
			id := table.ownerID(o)
			m.max[o] = rapid.Int64Range(0, 60).Draw(t, "max")
			m.min[o] = rapid.Int64Range(0, 30).Draw(t, "min")
			table.owners[id].maxSize, table.owners[id].min = m.max[o], m.min[o]
		}
		pins := make(map[string]bool)
		now := time.Unix(1_000_000, 0)
		for range rapid.IntRange(1, 80).Draw(t, "steps") {
			now = now.Add(time.Second)
			name := fmt.Sprint(rapid.IntRange(0, 25).Draw(t, "blob"))
			i := item{digest: oci.DigestOf([]byte(name))}
			k, _ := keyOf(i.digest)
			n, at := table.at(i), m.index(name)
			if (n == 0) != (at < 0) {
				t.Fatalf("blob %s: node %d, model %d", name, n, at)
			}
			switch op := rapid.SampledFrom([]string{"add", "use", "remove", "pin", "unpin", "evict"}).Draw(t, "op"); {
			case op == "add" && n == 0:
				size, owner := rapid.Int64Range(0, 20).Draw(t, "size"), rapid.SampledFrom(owners).Draw(t, "owner")
				table.add(i, size, now, table.ownerID(owner))
				m.items = append(m.items, modelItem{name, size, now, owner, pins[name]})
			case op == "use" && n != 0:
				table.use(n, now)
				m.items[at].used = now
			case op == "remove" && n != 0:
				table.remove(n)
				m.items = slices.Delete(m.items, at, at+1)
			case op == "pin" || op == "unpin":
				was := pins[name]
				pins[name] = op == "pin"
				table.setPin(k, pins[name], now)
				if at >= 0 {
					m.items[at].pinned = pins[name]
					if was && !pins[name] { // counts as used
						m.items[at].used = now
					}
				}
			case op == "evict":
				got, want := table.victim(), m.victim()
				if (got == 0) != (want == "") || got != 0 && table.digest(got) != oci.DigestOf([]byte(want)) {
					t.Fatalf("it is the turn of node %d, in the model of %q", got, want)
				}
				if got != 0 {
					table.remove(got)
					m.items = slices.Delete(m.items, m.index(want), m.index(want)+1)
				}
			}
			sums(t, table, m)
		}
	})
}

func sums(t *rapid.T, table *table, m *evictorModel) {
	var all, pinned int64
	for _, i := range m.items {
		all += i.size
		if i.pinned {
			pinned += i.size
		}
	}
	if table.complete != all || table.pinned != pinned || table.lists != all-pinned || table.blobs != len(m.items) {
		t.Fatalf("sums are %d, %d, %d of %d blobs; want %d, %d, %d of %d",
			table.complete, table.pinned, table.lists, table.blobs, all, pinned, all-pinned, len(m.items))
	}
	for _, o := range table.owners {
		if o.bytes != m.bytes(o.name) {
			t.Fatalf("owner %q has %d bytes, want %d", o.name, o.bytes, m.bytes(o.name))
		}
	}
}
