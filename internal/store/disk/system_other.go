//go:build !linux

package disk

import "golang.org/x/sys/unix"

// damaged is what a file system says whose own structures are: nothing that these
// systems tell apart.
const damaged = unix.EIO

// blockSize is the unit of the counts of st, in bytes.
func blockSize(st *unix.Statfs_t) int64 { return int64(st.Bsize) }

// forget lets the kernel drop the pages of a file, where it takes such hints.
func forget(uintptr) {}
