package bolt

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"

	"sampan/internal/refs"
)

// The format of a bbolt file, as far as it is read here (bbolt,
// internal/common). Numbers have the byte order of the machine.
const (
	fileMagic   = 0xED0CDAED
	fileVersion = 2

	headerSize  = 16 // id u64, flags u16, count u16, overflow u32
	elementSize = 16 // leaf: flags, position, key and value size; branch: position, key size, page u64
	rootSize    = 16 // a bucket's value: root page u64, sequence u64, and the page itself when root is 0
	metaSize    = 64 // magic, version, page size, flags u32; root, sequence, freelist, high, transaction, checksum u64

	pageBranch   = 0x01
	pageLeaf     = 0x02
	pageFreelist = 0x10

	// manyFree in a freelist's count says that the first entry is the count.
	manyFree = 0xFFFF
	// maxPageShift bounds the page sizes that are looked for: 1 KiB << 14.
	maxPageShift = 14
)

// An image is an index file read as plain bytes. What it reads is bounds-checked
// and never mapped: no damage of the file can fault or panic.
type image struct {
	r        io.ReaderAt
	pageSize int64

	root, freelist uint64 // pages
	high           uint64 // number of pages, used and free
	txid           uint64
}

// A page is the header and the bytes of one page with its overflow.
type page struct {
	id       uint64
	flags    uint16
	count    int
	overflow uint64
	b        []byte // header included; positions count from here
}

// An element is an entry of a leaf (value, bucket) or of a branch (child).
type element struct {
	key, value []byte
	bucket     bool
	child      uint64
}

func damaged(format string, args ...any) error {
	return fmt.Errorf("%w: %w", refs.ErrDamaged, fmt.Errorf(format, args...))
}

// readImage finds the newest of the two meta pages that is whole, as bbolt does.
func readImage(r io.ReaderAt, size int64) (*image, error) {
	m := &image{r: r}
	if err := m.readMeta(0); err == nil {
		second := &image{r: r}
		if second.readMeta(m.pageSize) == nil && second.txid > m.txid {
			m = second
		}
	} else if m = findSecondMeta(r); m == nil {
		return nil, damaged("neither of its first two pages says what it is")
	}
	if m.high > uint64(size/m.pageSize) {
		return nil, damaged("it has %d bytes and speaks of %d pages of %d", size, m.high, m.pageSize)
	}
	return m, nil
}

func findSecondMeta(r io.ReaderAt) *image {
	for shift := range maxPageShift + 1 {
		at := int64(1024) << shift
		m := &image{r: r}
		if m.readMeta(at) == nil && m.pageSize == at {
			return m
		}
	}
	return nil
}

func (m *image) readMeta(at int64) error {
	var b [metaSize]byte
	if _, err := m.r.ReadAt(b[:], at+headerSize); err != nil {
		return err
	}
	word := func(i int) uint64 { return binary.NativeEndian.Uint64(b[i:]) }
	half := func(i int) uint32 { return binary.NativeEndian.Uint32(b[i:]) }
	sum := fnv.New64a()
	sum.Write(b[:metaSize-8])
	if half(0) != fileMagic || half(4) != fileVersion || word(metaSize-8) != sum.Sum64() {
		return errors.New("not a meta page")
	}
	m.pageSize = int64(half(8))
	m.root, m.freelist, m.high, m.txid = word(16), word(32), word(40), word(48)
	if m.pageSize < 1024 || m.pageSize > 1024<<maxPageShift {
		return fmt.Errorf("page size %d", m.pageSize)
	}
	return nil
}

// page reads one page into buf, which is made larger where needed. The page is
// valid until buf is used again.
func (m *image) page(id uint64, buf *[]byte) (page, error) {
	if id < 2 || id >= m.high {
		return page{}, damaged("page %d of %d is referred to", id, m.high)
	}
	b, err := m.read(id, 1, buf)
	if err != nil {
		return page{}, err
	}
	p, err := parsePage(b)
	if err != nil {
		return page{}, err
	}
	switch {
	case p.id != id:
		return page{}, damaged("page %d calls itself %d", id, p.id)
	case p.overflow >= m.high-id:
		return page{}, damaged("page %d goes on for %d pages", id, p.overflow)
	case p.overflow > 0:
		if p.b, err = m.read(id, p.overflow+1, buf); err != nil {
			return page{}, err
		}
	}
	return p, nil
}

func (m *image) read(id, pages uint64, buf *[]byte) ([]byte, error) {
	n := int64(pages) * m.pageSize
	if int64(cap(*buf)) < n {
		*buf = make([]byte, n)
	}
	b := (*buf)[:n]
	if _, err := m.r.ReadAt(b, int64(id)*m.pageSize); err != nil {
		return nil, damaged("page %d: %w", id, err)
	}
	return b, nil
}

func parsePage(b []byte) (page, error) {
	if len(b) < headerSize {
		return page{}, damaged("a page has %d bytes", len(b))
	}
	return page{
		id:       binary.NativeEndian.Uint64(b),
		flags:    binary.NativeEndian.Uint16(b[8:]),
		count:    int(binary.NativeEndian.Uint16(b[10:])),
		overflow: uint64(binary.NativeEndian.Uint32(b[12:])),
		b:        b,
	}, nil
}

// element returns entry i of a leaf or branch; its bytes are the page's.
func (p page) element(i int) (element, error) {
	at := headerSize + i*elementSize
	if at+elementSize > len(p.b) {
		return element{}, damaged("page %d has no room for %d entries", p.id, p.count)
	}
	half := func(j int) uint64 { return uint64(binary.NativeEndian.Uint32(p.b[at+j:])) }
	var e element
	var pos, keySize, valueSize uint64
	if p.flags == pageBranch {
		pos, keySize = half(0), half(4)
		e.child = binary.NativeEndian.Uint64(p.b[at+8:])
	} else {
		pos, keySize, valueSize = half(4), half(8), half(12)
		switch half(0) {
		case 0:
		case 1:
			e.bucket = true
		default:
			return element{}, damaged("page %d: entry %d has unknown flags", p.id, i)
		}
	}
	key := uint64(at) + pos
	value := key + keySize
	end := value + valueSize
	if key < uint64(headerSize+p.count*elementSize) || end > uint64(len(p.b)) || keySize == 0 {
		return element{}, damaged("page %d: entry %d lies outside of it", p.id, i)
	}
	e.key, e.value = p.b[key:value], p.b[value:end]
	return e, nil
}

// bucketRoot reads the value of a bucket's entry: a page number, or the page
// itself.
func bucketRoot(value []byte) (root uint64, inline page, err error) {
	if len(value) < rootSize {
		return 0, page{}, damaged("a bucket has %d bytes", len(value))
	}
	if root = binary.NativeEndian.Uint64(value); root != 0 {
		return root, page{}, nil
	}
	inline, err = parsePage(value[rootSize:])
	if err == nil && (inline.flags != pageLeaf || inline.overflow != 0) {
		err = damaged("a small bucket has a page of kind %#x", inline.flags)
	}
	return 0, inline, err
}

// free returns the pages that are free, and how many pages the list itself
// takes.
func (m *image) free() (ids []uint64, self uint64, err error) {
	var buf []byte
	p, err := m.page(m.freelist, &buf)
	if err != nil {
		return nil, 0, err
	}
	if p.flags != pageFreelist {
		return nil, 0, damaged("page %d is no list of free pages", p.id)
	}
	words := p.b[headerSize:]
	n := uint64(p.count)
	if n == manyFree && len(words) >= 8 {
		n, words = binary.NativeEndian.Uint64(words), words[8:]
	}
	if n > uint64(len(words)/8) {
		return nil, 0, damaged("the list of free pages claims %d of them", n)
	}
	ids = make([]uint64, n)
	last := uint64(1)
	for i := range ids {
		ids[i] = binary.NativeEndian.Uint64(words[8*i:])
		if ids[i] <= last || ids[i] >= m.high {
			return nil, 0, damaged("the list of free pages is out of order")
		}
		last = ids[i]
	}
	return ids, p.overflow + 1, nil
}

// inOrder tells whether key may follow last and stay below limit; nil is no
// bound.
func inOrder(last, key, limit []byte) bool {
	return (last == nil || bytes.Compare(last, key) < 0) && (limit == nil || bytes.Compare(key, limit) < 0)
}
