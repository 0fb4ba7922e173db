package registrytest

import (
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
)

const (
	baseSize  = 256 << 10 // bytes of noise that all blobs share
	stampPage = 4 << 10   // bytes; the first eight of each page are the blob's own
)

// makeBase returns the noise, the same in every process.
func makeBase() []byte {
	b := make([]byte, baseSize)
	var seed [32]byte
	copy(seed[:], "sampan registrytest")
	_, _ = rand.NewChaCha8(seed).Read(b) // never fails
	return b
}

// generated is a blob that is computed while it is read: shared noise, shifted
// by the seed, with a stamp of seed and position on every page, so that bytes
// in the wrong place or of the wrong blob are wrong bytes. Reading any offset
// costs a copy.
type generated struct {
	base []byte
	seed uint64
	size int64
}

var errNegativeOffset = errors.New("registrytest: negative offset")

// ReadAt implements [io.ReaderAt].
func (g generated) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, errNegativeOffset
	}
	if off >= g.size {
		return 0, io.EOF
	}
	var err error
	if left := g.size - off; int64(len(p)) > left {
		p, err = p[:left], io.EOF
	}
	at := int((off + int64(mix(g.seed)%baseSize)) % baseSize)
	for n := 0; n < len(p); at = 0 {
		n += copy(p[n:], g.base[at:])
	}
	first := off / stampPage * stampPage
	for page := first; page < off+int64(len(p)); page += stampPage {
		stamp := mix(g.seed ^ mix(uint64(page)+1))
		at := page - off
		if at >= 0 && at+8 <= int64(len(p)) {
			word := p[at : at+8]
			binary.LittleEndian.PutUint64(word, binary.LittleEndian.Uint64(word)^stamp)
			continue
		}
		for i := range int64(8) {
			if at+i >= 0 && at+i < int64(len(p)) {
				p[at+i] ^= byte(stamp >> (8 * i))
			}
		}
	}
	return len(p), err
}

// mix is the finaliser of splitmix64.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
