package disk

import (
	"bufio"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"strings"
)

// logName is the file, below the data directory, that says which blobs are there.
const logName = "blobs.log"

// logHeader begins it and is its version.
const logHeader = "sampan blobs 1\n"

// What a record says.
const (
	recOwner  = 'o' // number, 2 bytes, and name of an owner
	recAdd    = 'a' // a blob: owner, 2 bytes, size, 8 bytes, last use, 8 bytes, digest
	recUse    = 'u' // a use: when, 8 bytes, digest
	recDelete = 'd' // a blob has left: digest
	recBoot   = 'b' // opened, while the machine runs of which this is the name
	recClean  = 'c' // closed in order, and synced
)

const (
	recFrame   = 6   // bytes of a record besides what it says
	recMax     = 255 // bytes that a record may say
	addSize    = recFrame + 18 + 32
	compactMin = 64 << 10 // bytes below which nothing is compacted
)

// A blobLog is the file of which [Store] says what it promises. The format is
//
//	"sampan blobs 1\n"
//	records: what it says, 1 byte; how many bytes follow, 1 byte; those; and the
//	CRC-32C of all of these, 4 bytes. Numbers are big endian, times nanoseconds
//	since 1970, and a digest its 32 or 64 bytes
//
// A record that is torn, wrong or empty ends the log. Its fields are guarded by
// Store.names.
type blobLog struct {
	fs     *medium
	path   string
	f      *os.File // nil: there is none, and it has to be written anew
	size   int64
	synced int64
	named  map[uint16]bool // owners that it knows
	late   []byte          // records of removals that are written with the next append
}

// lateMax is how many bytes of records of removals may wait: some 50 of them, which a
// kill forgets, so that the log claims as much more than is there.
const lateMax = 2 << 10

func appendFrame(b []byte, op byte, payload ...[]byte) []byte {
	start, n := len(b), 0
	for _, p := range payload {
		n += len(p)
	}
	b = append(b, op, byte(n))
	for _, p := range payload {
		b = append(b, p...)
	}
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b[start:], crc32.MakeTable(crc32.Castagnoli)))
}

func appendAdd(b []byte, raw []byte, owner uint16, size, used int64) []byte {
	var head [18]byte
	binary.BigEndian.PutUint16(head[:], owner)
	binary.BigEndian.PutUint64(head[2:], uint64(size))
	binary.BigEndian.PutUint64(head[10:], uint64(used))
	return appendFrame(b, recAdd, head[:], raw)
}

func appendUse(b []byte, raw []byte, used int64) []byte {
	return appendFrame(b, recUse, binary.BigEndian.AppendUint64(nil, uint64(used)), raw)
}

// ownerRecord is empty for an owner that the log knows. Names that do not fit are
// cut: they are labels, and nobody is asked by them.
func (l *blobLog) ownerRecord(id uint16, name string) []byte {
	if id == 0 || l.named[id] {
		return nil
	}
	return appendFrame(nil, recOwner, binary.BigEndian.AppendUint16(nil, id), []byte(name[:min(len(name), recMax-2)]))
}

// append writes records behind the last good one, and those that are late before them.
func (l *blobLog) append(b []byte) error {
	if l.f == nil {
		return errNoLog
	}
	if len(l.late) > 0 {
		b = append(l.late, b...)
	}
	n, err := l.fs.write(l.f, b, l.size)
	if err != nil || n < len(b) {
		return errors.Join(err, io.ErrShortWrite) // what is there of it is written over
	}
	l.size += int64(n)
	l.late = l.late[:0]
	return nil
}

// appendLate writes the record of a removal, now or with others: a system call for each
// would be half of what it costs to remove many. What cannot be written is forgotten.
func (l *blobLog) appendLate(b []byte) {
	l.late = append(l.late, b...)
	if len(l.late) >= lateMax && l.append(nil) != nil {
		l.late = l.late[:0] // it claims more than is there
	}
}

var errNoLog = errors.New("there is no log of blobs")

// sync makes what was appended outlive a power cut.
func (l *blobLog) sync() error {
	if l.f == nil || l.size == l.synced && len(l.late) == 0 {
		return nil
	}
	if len(l.late) > 0 {
		if err := l.append(nil); err != nil {
			return err
		}
	}
	if err := l.fs.sync(l.f); err != nil {
		return err
	}
	l.synced = l.size
	return nil
}

func (l *blobLog) close() error {
	if l.f == nil {
		return nil
	}
	err := l.f.Close()
	l.f = nil
	return err
}

// A loading is what was read of a log.
type loading struct {
	size    int64 // of what is good
	boot    string
	clean   bool
	damaged bool // there is more behind it than a kill leaves
	ids     map[uint16]uint16
	named   map[uint16]bool
}

// load reads the log into an empty table.
func (l *blobLog) load(t *table) (*loading, error) {
	got := &loading{ids: map[uint16]uint16{0: 0}, named: map[uint16]bool{}}
	f, err := l.fs.open(l.path, os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		return got, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	t.nodes = append(make([]node, 0, 1+fi.Size()/addSize), t.nodes...)
	r := bufio.NewReaderSize(f, 1<<20)
	head := make([]byte, len(logHeader))
	if _, err := io.ReadFull(r, head); err != nil || string(head) != logHeader {
		got.damaged = fi.Size() > 0
		return got, nil
	}
	got.size = int64(len(head))
	table := crc32.MakeTable(crc32.Castagnoli)
	for {
		n, ok := got.next(r, t, table)
		if !ok {
			break
		}
		got.size += int64(n)
	}
	got.damaged = fi.Size()-got.size >= recFrame+recMax
	return got, nil
}

// next reads one record; false at the end of what is good.
func (got *loading) next(r *bufio.Reader, t *table, sums *crc32.Table) (int, bool) {
	head, err := r.Peek(2)
	if err != nil {
		return 0, false
	}
	n := recFrame + int(head[1])
	b, err := r.Peek(n)
	if err != nil || crc32.Checksum(b[:n-4], sums) != binary.BigEndian.Uint32(b[n-4:]) {
		return 0, false
	}
	if !got.apply(t, b[0], b[2:n-4]) {
		return 0, false
	}
	_, _ = r.Discard(n) // it was peeked
	return n, true
}

// apply does to the table what a record says; false when it cannot say that.
func (got *loading) apply(t *table, op byte, b []byte) bool {
	got.clean = op == recClean
	switch op {
	case recClean:
		return true
	case recBoot:
		got.boot = string(b)
		return true
	case recOwner:
		if len(b) < 2 {
			return false
		}
		id := binary.BigEndian.Uint16(b)
		got.ids[id] = t.ownerID(string(b[2:]))
		if got.ids[id] == id {
			got.named[id] = true
		}
		return true
	}
	return got.applyBlob(t, op, b)
}

func (got *loading) applyBlob(t *table, op byte, b []byte) bool {
	skip, ok := map[byte]int{recAdd: 18, recUse: 8, recDelete: 0}[op], len(b) > 0
	if !ok || len(b) != skip+32 && len(b) != skip+64 {
		return false
	}
	k, digest := keyOfRaw(b[skip:])
	n := t.find(k, false)
	switch op {
	case recAdd:
		if n != 0 {
			t.remove(n)
		}
		size := int64(binary.BigEndian.Uint64(b[2:]))
		used := int64(binary.BigEndian.Uint64(b[10:]))
		if size < 0 {
			return false
		}
		t.insertKey(k, digest, size, used, got.ids[binary.BigEndian.Uint16(b)], 0)
	case recUse:
		if n != 0 {
			t.nodes[n].used = max(t.nodes[n].used, int64(binary.BigEndian.Uint64(b)))
		}
	case recDelete:
		if n != 0 {
			t.remove(n)
		}
	default:
		return false
	}
	return true
}

// bootID names the run of the machine; empty where it cannot be known.
func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}
