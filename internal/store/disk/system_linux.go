package disk

import "golang.org/x/sys/unix"

// damaged is what a file system says whose own structures are.
const damaged = unix.EUCLEAN

// blockSize is the unit of the counts of st, in bytes.
func blockSize(st *unix.Statfs_t) int64 { return st.Frsize }

// forget lets the kernel drop the pages of a file: a hint.
func forget(fd uintptr) { _ = unix.Fadvise(int(fd), 0, 0, unix.FADV_DONTNEED) }
