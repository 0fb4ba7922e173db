package disk

import (
	"crypto/sha256"
	"encoding/hex"
	"math"
	"time"

	"sampan/internal/oci"
)

// A key stands for a digest: the bytes of a sha256, and the SHA-256 of the name of
// any other, which table.others spells.
type key [sha256.Size]byte

// keyOf returns the key of a digest, and whether it spells the digest.
func keyOf(d oci.Digest) (k key, spells bool) {
	if d.Algorithm() == "sha256" {
		_, _ = hex.Decode(k[:], []byte(d.Hex())) // a digest is valid by construction
		return k, true
	}
	return sha256.Sum256([]byte(d.String())), false
}

// keyOfRaw is keyOf for the bytes of a digest, 32 or 64; other is the digest that
// the key does not spell.
func keyOfRaw(b []byte) (k key, other oci.Digest) {
	if len(b) == len(k) {
		return key(b), other
	}
	other, _ = oci.ParseDigest("sha512:" + hex.EncodeToString(b)) // 64 bytes are one
	k, _ = keyOf(other)
	return k, other
}

// raw returns the bytes of a digest.
func raw(d oci.Digest) []byte {
	b, _ := hex.DecodeString(d.Hex()) // valid by construction
	return b
}

// An item is what can be removed: a complete blob, or a partial one that nobody
// is writing.
type item struct {
	digest  oci.Digest
	partial bool
}

// A node is an item on the disk: 64 bytes of memory, and some 4 to 8 of buckets.
type node struct {
	key        key
	size       int64
	used       int64  // nanoseconds since 1970
	prev, next uint32 // in the list of its owner, next is used less recently; 0: none
	chain      uint32 // the next one of its bucket; 0: none
	owner      uint16
	flags      uint8
}

const (
	isPartial uint8 = 1 << iota
	isOther         // not sha256
	isPinned        // in no list
	isAside         // in no list: somebody begins to write it
	isTouched       // used since uses were written last
	isLive
)

// An owner is a list of nodes, by use.
type owner struct {
	name         string
	first, last  uint32 // used most and least recently; 0: none
	bytes        int64  // of all its nodes, pinned ones too
	blobs        int    // complete ones
	maxAge       time.Duration
	maxSize, min int64
}

// A table knows what is on the disk. It has no lock of its own.
type table struct {
	nodes   []node // the first one is nobody
	spare   uint32 // a chain of nodes that are free
	buckets []uint32
	bits    uint // of a key that choose its bucket, so that buckets are in the order of digests
	count   int  // of nodes in use

	others map[key]oci.Digest
	owners []*owner // the first one is ""
	ids    map[string]uint16
	pins   map[key]struct{}

	complete, partial, pinned, lists int64 // bytes; lists: of what can be evicted
	blobs                            int
	touched                          []uint32
}

func newTable() *table {
	t := &table{
		nodes: make([]node, 1), buckets: make([]uint32, 1<<minBits), bits: minBits,
		others: make(map[key]oci.Digest), ids: make(map[string]uint16), pins: make(map[key]struct{}),
	}
	t.ownerID("")
	return t
}

const (
	minBits  = 8
	maxOwner = math.MaxUint16 // owners beyond are ""
)

// ownerID returns the number of an owner, a new one if need be.
func (t *table) ownerID(name string) uint16 {
	id, ok := t.ids[name]
	if !ok && len(t.owners) < maxOwner {
		id = uint16(len(t.owners))
		t.ids[name] = id
		t.owners = append(t.owners, &owner{name: name})
	}
	return id
}

func (t *table) bucket(k *key) uint32 {
	return (uint32(k[0])<<24 | uint32(k[1])<<16 | uint32(k[2])<<8 | uint32(k[3])) >> (32 - t.bits)
}

// find returns the node of an item, 0 for none.
func (t *table) find(k key, partial bool) uint32 {
	for n := t.buckets[t.bucket(&k)]; n != 0; n = t.nodes[n].chain {
		if x := &t.nodes[n]; x.key == k && (x.flags&isPartial != 0) == partial {
			return n
		}
	}
	return 0
}

func (t *table) at(i item) uint32 {
	k, _ := keyOf(i.digest)
	return t.find(k, i.partial)
}

// add makes a node that is in its owner's list already when it may be evicted, as
// the one used most recently. There is none of the item yet.
func (t *table) add(i item, size int64, used time.Time, owner uint16) uint32 {
	n := t.insert(i, size, used.UnixNano(), owner)
	t.push(n)
	return n
}

// insert is add without a place in the list.
func (t *table) insert(i item, size, used int64, owner uint16) uint32 {
	k, spells := keyOf(i.digest)
	var other oci.Digest
	if !spells {
		other = i.digest
	}
	var flags uint8
	if i.partial {
		flags = isPartial
	}
	return t.insertKey(k, other, size, used, owner, flags)
}

// insertKey is insert for who has the key; other is the digest that it does not
// spell.
func (t *table) insertKey(k key, other oci.Digest, size, used int64, owner uint16, flags uint8) uint32 {
	n := t.alloc()
	x := node{key: k, size: size, used: used, owner: owner, flags: flags | isLive}
	if !other.IsZero() {
		x.flags |= isOther
		t.others[k] = other
	}
	if _, pinned := t.pins[k]; pinned && flags&isPartial == 0 {
		x.flags |= isPinned
		t.pinned += size
	}
	b := t.bucket(&k)
	x.chain = t.buckets[b]
	t.nodes[n] = x
	t.buckets[b] = n
	t.account(&x, 1)
	return n
}

// account adds a node to the sums, or with -1 takes it out of them.
func (t *table) account(x *node, sign int64) {
	o := t.owners[x.owner]
	o.bytes += sign * x.size
	if x.flags&isPartial != 0 {
		t.partial += sign * x.size
		return
	}
	t.complete += sign * x.size
	t.blobs += int(sign)
	o.blobs += int(sign)
}

func (t *table) alloc() uint32 {
	t.count++
	if t.count > 2*len(t.buckets) && t.bits < 32 {
		t.grow()
	}
	if n := t.spare; n != 0 {
		t.spare = t.nodes[n].chain
		return n
	}
	t.nodes = append(t.nodes, node{})
	return uint32(len(t.nodes) - 1)
}

// grow doubles the buckets.
func (t *table) grow() {
	old := t.buckets
	t.bits++
	t.buckets = make([]uint32, 1<<t.bits)
	for _, n := range old {
		for n != 0 {
			x := &t.nodes[n]
			next := x.chain
			b := t.bucket(&x.key)
			x.chain = t.buckets[b]
			t.buckets[b] = n
			n = next
		}
	}
}

// remove forgets a node.
func (t *table) remove(n uint32) {
	t.unlink(n)
	x := &t.nodes[n]
	t.account(x, -1)
	if x.flags&isPinned != 0 {
		t.pinned -= x.size
	}
	at := &t.buckets[t.bucket(&x.key)]
	for *at != n {
		at = &t.nodes[*at].chain
	}
	*at = x.chain
	k, other := x.key, x.flags&isOther != 0
	*x = node{chain: t.spare}
	t.spare = n
	t.count--
	if other && t.find(k, false) == 0 && t.find(k, true) == 0 {
		delete(t.others, k)
	}
}

// push puts a node in front of its owner's list, unless it is in none.
func (t *table) push(n uint32) {
	x := &t.nodes[n]
	if x.flags&(isPinned|isAside) != 0 {
		return
	}
	o := t.owners[x.owner]
	x.prev, x.next = 0, o.first
	if o.first != 0 {
		t.nodes[o.first].prev = n
	} else {
		o.last = n
	}
	o.first = n
	t.lists += x.size
}

// unlink takes a node out of the list, if it is in one.
func (t *table) unlink(n uint32) {
	x := &t.nodes[n]
	o := t.owners[x.owner]
	if x.prev == 0 && o.first != n {
		return
	}
	if x.prev != 0 {
		t.nodes[x.prev].next = x.next
	} else {
		o.first = x.next
	}
	if x.next != 0 {
		t.nodes[x.next].prev = x.prev
	} else {
		o.last = x.prev
	}
	x.prev, x.next = 0, 0
	t.lists -= x.size
}

// use notes a use.
func (t *table) use(n uint32, now time.Time) {
	x := &t.nodes[n]
	x.used = max(x.used, now.UnixNano())
	if x.flags&(isTouched|isPartial) == 0 {
		x.flags |= isTouched
		t.touched = append(t.touched, n)
	}
	t.unlink(n)
	t.push(n)
}

// setPin pins a key or unpins it.
func (t *table) setPin(k key, pin bool, now time.Time) {
	if _, was := t.pins[k]; was == pin {
		return
	}
	n := t.find(k, false)
	if pin {
		t.pins[k] = struct{}{}
	} else {
		delete(t.pins, k)
	}
	if n == 0 {
		return
	}
	x := &t.nodes[n]
	if pin {
		t.unlink(n)
		x.flags |= isPinned
		t.pinned += x.size
		return
	}
	x.flags &^= isPinned
	t.pinned -= x.size
	t.use(n, now)
}

// setAside takes a node out of reach of the evictor, or brings it back.
func (t *table) setAside(n uint32, aside bool) {
	x := &t.nodes[n]
	t.unlink(n)
	if aside {
		x.flags |= isAside
		return
	}
	x.flags &^= isAside
	t.push(n)
}

// victim returns whose turn it is to make room: 0 when there is nobody.
//
// It is the one used least recently of owners above their most; of all that are
// above their least, if there is none; and of everybody after that.
func (t *table) victim() uint32 {
	for _, gives := range []func(*owner) bool{
		func(o *owner) bool { return o.maxSize > 0 && o.bytes > o.maxSize },
		func(o *owner) bool { return o.bytes > o.min },
		func(*owner) bool { return true },
	} {
		if n := t.oldest(gives); n != 0 {
			return n
		}
	}
	return 0
}

// oldest returns the node used least recently of those owners.
func (t *table) oldest(of func(*owner) bool) uint32 {
	var found uint32
	for _, o := range t.owners {
		if n := o.last; n != 0 && of(o) && (found == 0 || t.nodes[n].used < t.nodes[found].used) {
			found = n
		}
	}
	return found
}

// expired returns a node that has not been used for longer than it may be, 0 for
// none.
func (t *table) expired(now time.Time) uint32 {
	return t.oldest(func(o *owner) bool {
		return o.maxAge > 0 && t.nodes[o.last].used < now.Add(-o.maxAge).UnixNano()
	})
}

// digest spells the digest of a node.
func (t *table) digest(n uint32) oci.Digest {
	x := &t.nodes[n]
	if x.flags&isOther != 0 {
		return t.others[x.key]
	}
	d, _ := oci.ParseDigest("sha256:" + hex.EncodeToString(x.key[:])) // valid by construction
	return d
}

func (t *table) item(n uint32) item {
	return item{t.digest(n), t.nodes[n].flags&isPartial != 0}
}

func (t *table) isLive(n uint32) bool { return t.nodes[n].flags&isLive != 0 }

// inByte returns the complete sha256 blobs whose first byte is that, in the order
// of their buckets.
func (t *table) inByte(first byte) []uint32 {
	var all []uint32
	per := uint32(1) << (t.bits - minBits)
	for b := uint32(first) * per; b < (uint32(first)+1)*per; b++ {
		for n := t.buckets[b]; n != 0; n = t.nodes[n].chain {
			if t.nodes[n].flags&(isPartial|isOther) == 0 {
				all = append(all, n)
			}
		}
	}
	return all
}
