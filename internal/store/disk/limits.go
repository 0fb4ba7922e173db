package disk

import (
	"time"

	"golang.org/x/sys/unix"
)

// Limits say what a [Store] keeps. The zero value bounds nothing.
type Limits struct {
	// MaxSize bounds all bytes that are counted; a share is one of the file system.
	MaxSize Bound
	// SoftSize is from where on the store evicts in the background; a share is one of
	// MaxSize. Zero: 95 % of MaxSize.
	SoftSize Bound
	// MinFree is how many bytes of the file system stay free, whoever writes there.
	MinFree int64
	// MaxAge is how long after its last use a blob stays; 0: for ever.
	MaxAge time.Duration
	// Owners are shares of upstreams.
	Owners map[string]OwnerLimits
}

// OwnerLimits are those of one upstream. Shares are of Limits.MaxSize, and nothing
// where there is none.
type OwnerLimits struct {
	// MaxSize: above it, it gives first, and also when there is room. Zero: none.
	MaxSize Bound
	// MinSize: down to it, it gives last. Zero: none.
	MinSize Bound
	// MaxAge is for its blobs instead of Limits.MaxAge; 0: that one.
	MaxAge time.Duration
}

// A Bound is a number of bytes or, when Share is not zero, a share of something,
// up to 1.
type Bound struct {
	Bytes int64
	Share float64
}

// Bytes is a Bound of n bytes.
func Bytes(n int64) Bound { return Bound{Bytes: n} }

// Of returns the bytes, of something that has total.
func (b Bound) Of(total int64) int64 {
	if b.Share != 0 {
		return int64(b.Share * float64(total))
	}
	return b.Bytes
}

// softShare is the SoftSize of those who do not say one.
const softShare = 0.95

// room returns the size of the file system of a directory and what is free there
// for this process, in bytes.
func room(dir string) (size, free int64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, -1, err
	}
	return int64(st.Blocks) * blockSize(&st), int64(st.Bavail) * blockSize(&st), nil
}
