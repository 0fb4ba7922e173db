package disk

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"sampan/internal/oci"
	"sampan/internal/store"
)

// A quota bounds what is counted. It makes room by removing what was used least
// recently; what is being written is never removed, and what is being read stays
// readable until it is closed.
//
// Lock order: making before mu; files are removed under making alone.
type quota struct {
	dir     string
	counted []string         // files that count besides blobs
	remove  func(item) error // and say so by removed
	log     *slog.Logger
	free    func() int64 // bytes of the file system; -1: unknown
	wake    chan struct{}

	making sync.Mutex // held by who makes room

	// unwritten are the reserved bytes that have not been written.
	unwritten atomic.Int64

	late atomic.Int64 // bytes that the log will be longer by, at least since the last removal

	evicted, evictedBytes atomic.Int64 // since the start

	mu       sync.Mutex
	t        *table
	reserved int64 // bytes that ingests have or may write
	writing  int64 // ingests
	// leaving is the item that is being removed, and still counted; zero for none,
	// and once somebody else has taken or replaced it meanwhile.
	leaving            item
	limits             Limits
	max, soft, minFree int64
	pinsTold           bool
}

func newQuota(dir string, counted []string, log *slog.Logger, remove func(item) error) *quota {
	free := func() int64 {
		_, free, err := room(dir)
		if err != nil {
			return -1
		}
		return free
	}
	return &quota{dir: dir, counted: counted, remove: remove, log: log, free: free, wake: make(chan struct{}, 1), t: newTable()}
}

// limit sets the limits, of a file system of size bytes.
func (q *quota) limit(l Limits, size int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.limits, q.max, q.minFree = l, l.MaxSize.Of(size), l.MinFree
	q.soft = q.max
	switch {
	case l.SoftSize != Bound{}:
		q.soft = min(q.max, l.SoftSize.Of(q.max))
	case q.max > 0:
		q.soft = int64(softShare * float64(q.max))
	}
	for name := range l.Owners {
		q.t.ownerID(name)
	}
	for _, o := range q.t.owners {
		q.bound(o)
	}
	q.rouse()
}

// bound gives an owner its limits. The caller holds mu.
func (q *quota) bound(o *owner) {
	own := q.limits.Owners[o.name]
	o.maxSize, o.min, o.maxAge = own.MaxSize.Of(q.max), own.MinSize.Of(q.max), q.limits.MaxAge
	if own.MaxAge > 0 {
		o.maxAge = own.MaxAge
	}
}

// ownerID is that of the table, and gives a new one its limits.
func (q *quota) ownerID(name string) uint16 {
	known := len(q.t.owners)
	id := q.t.ownerID(name)
	if len(q.t.owners) > known {
		q.bound(q.t.owners[id])
	}
	return id
}

// rouse lets the background look.
func (q *quota) rouse() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// touch notes a use; false when the blob is not known.
func (q *quota) touch(d oci.Digest) bool {
	now := time.Now()
	q.mu.Lock()
	defer q.mu.Unlock()
	n := q.t.at(item{d, false})
	if n != 0 {
		q.t.use(n, now)
	}
	return n != 0
}

// knows tells whether an item is in the table.
func (q *quota) knows(i item) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.t.at(i) != 0
}

// found adds an item that was on the disk already.
func (q *quota) found(i item, size int64, used time.Time, owner string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.drop(i)
	q.t.add(i, size, used, q.ownerID(owner))
}

// take hands a partial blob over to who writes it: it counts and cannot be
// removed. Of its size bytes, have are there.
func (q *quota) take(i item, size, have int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.drop(i)
	q.reserved += size
	q.writing++
	q.unwritten.Add(size - have)
}

// hold takes an item over from who wrote it, in the place of one of the same
// name; its bytes were among those reserved, of which have were written.
func (q *quota) hold(i item, size, reserved, have int64, owner string) {
	now := time.Now()
	q.mu.Lock()
	defer q.mu.Unlock()
	q.drop(i)
	q.reserved -= reserved
	q.writing--
	q.unwritten.Add(have - reserved)
	q.t.add(i, size, now, q.ownerID(owner))
	q.look()
}

// release gives reserved bytes back, of which have were written.
func (q *quota) release(reserved, have int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.reserved -= reserved
	q.writing--
	q.unwritten.Add(have - reserved)
}

// look rouses the background when there is something to do. The caller holds mu.
func (q *quota) look() {
	over := q.soft > 0 && q.sum() > q.soft
	for _, o := range q.t.owners {
		over = over || o.maxSize > 0 && o.bytes > o.maxSize
	}
	if over {
		q.rouse()
	}
}

// setAside takes an item out of reach of the evictor, or brings it back.
func (q *quota) setAside(i item, aside bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if n := q.t.at(i); n != 0 {
		q.t.setAside(n, aside)
	}
}

// isLeaving tells whether an item is to be removed still.
func (q *quota) isLeaving(i item) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := q.t.at(i)
	return q.leaving == i && n != 0 && q.t.nodes[n].flags&isPinned == 0
}

// removed notes that the file of an item was removed.
func (q *quota) removed(i item) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.drop(i)
}

// drop forgets an item and its bytes. The caller holds mu.
func (q *quota) drop(i item) {
	if q.leaving == i {
		q.leaving = item{}
	}
	if n := q.t.at(i); n != 0 {
		q.t.remove(n)
	}
}

// sum is what is counted besides the index. The caller holds mu.
func (q *quota) sum() int64 { return q.t.complete + q.t.partial + q.reserved }

// ahead is how much the log may grow before anybody asks for room again: by a
// record of each ingest and its owner, by those of uses and of removals, and by its
// copy while it is compacted. The caller holds mu.
func (q *quota) ahead() int64 {
	return q.writing*(addSize+perIngest) + int64(len(q.t.touched))*(recFrame+8+32) + int64(q.t.blobs)*addSize + q.late.Load()
}

// perIngest is for names of owners and for records of 64 bytes.
const perIngest = 100

// maxStep is by how many bytes at most an index grows at once: it doubles until then,
// as databases do that map their file.
const maxStep = 16 << 20

// index returns the bytes of the files that count besides blobs, and by how many they
// may grow before anybody asks for room again; the log's own growth is ahead.
func (q *quota) index() (n, step int64) {
	for _, name := range q.counted {
		fi, err := os.Stat(filepath.Join(q.dir, name))
		if err != nil {
			continue
		}
		n += fi.Size()
		if name != logName {
			step += min(fi.Size(), maxStep)
		}
	}
	return n, step
}

// A lack is how many bytes there are too few: below the limit, and on the file
// system.
type lack struct {
	limit, free int64
	evictable   int64
	pinned      bool // there would be enough without pins
}

func (l lack) bytes() int64 { return max(l.limit, l.free) }

// lacks returns what there is too little of for n bytes more, and reserves them
// when there is enough.
func (q *quota) lacks(n int64) lack {
	var index, step int64
	free := int64(math.MaxInt64)
	q.mu.Lock()
	limited, watched := q.max > 0, q.minFree > 0
	q.mu.Unlock()
	if limited {
		index, step = q.index()
	}
	if watched {
		if f := q.free(); f >= 0 {
			free = f - q.unwritten.Load()
		}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	var l lack
	if q.max > 0 {
		l.limit = max(0, n-(q.max-q.sum()-index-step-q.ahead()))
	}
	if q.minFree > 0 && free != math.MaxInt64 {
		l.free = max(0, n-(free-q.minFree))
	}
	l.evictable = q.t.lists
	l.pinned = q.t.pinned > 0 && l.bytes() > l.evictable && l.bytes() <= l.evictable+q.t.pinned
	if l.bytes() == 0 {
		q.reserved += n
		q.unwritten.Add(n)
		q.look()
	}
	return l
}

// errFull says which limit has no room.
func (q *quota) errFull(l lack) error {
	if l.pinned {
		q.tellOfPins()
	}
	if l.limit > 0 {
		return fmt.Errorf("%w: data.max_size is %d bytes, and what is being written or is pinned fills it", store.ErrUnwritable, q.max)
	}
	return fmt.Errorf("%w: data.min_free is %d bytes, and there is nothing to remove", store.ErrUnwritable, q.minFree)
}

func (q *quota) tellOfPins() {
	q.mu.Lock()
	told, pinned := q.pinsTold, q.t.pinned
	q.pinsTold = true
	q.mu.Unlock()
	if !told {
		q.log.Warn("pinned blobs fill the disk: what is new is not kept", "bytes", pinned)
	}
}

// tooMuch is more bytes than anything has; sums of it with others do not wrap.
const tooMuch = 1 << 60

// reserve makes room for n bytes more, or fails with [store.ErrUnwritable].
func (q *quota) reserve(n int64) error {
	if n > tooMuch { // what an upstream made up
		return fmt.Errorf("%w: nothing has %d bytes", store.ErrUnwritable, n)
	}
	if q.lacks(n).bytes() == 0 {
		return nil
	}
	q.making.Lock()
	defer q.making.Unlock()
	g := gains{}
	for {
		l := q.lacks(n)
		if l.bytes() == 0 {
			return nil
		}
		if l.bytes() > l.evictable || g.inVain(l) {
			return q.errFull(l)
		}
		if err := q.evict(&g, (*table).victim); err != nil {
			return errors.Join(store.ErrUnwritable, err)
		}
	}
}
