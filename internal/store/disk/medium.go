package disk

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// A medium is what a Store asks of its file system. Tests put one in its place
// that fails where a disk may fail.
type medium struct {
	open     func(path string, flag int) (*os.File, error)
	write    func(f *os.File, p []byte, off int64) (int, error) // as [writeAt] does
	truncate func(f *os.File, size int64) error
	sync     func(f *os.File) error // a file or a directory
	rename   func(from, to string) error
	remove   func(path string) error
	mkdir    func(path string) error
	lstat    func(path string) (os.FileInfo, error)
	names    func(dir string) ([]string, error) // of the files in it, in any order
	// read is nil for the file's own methods, and who reads may then have the file
	// itself, so that the kernel sends it.
	read func(f *os.File, p []byte, off int64) (int, error)
}

// osMedium is the file system of the operating system.
func osMedium() medium {
	return medium{
		open:     openPlain,
		write:    writeAt,
		truncate: (*os.File).Truncate,
		sync:     (*os.File).Sync,
		rename:   os.Rename,
		remove:   os.Remove,
		mkdir:    func(path string) error { return os.Mkdir(path, dirMode) },
		lstat:    os.Lstat,
		names:    namesIn,
	}
}

// openPlain is [os.OpenFile] for files and directories on a disk, which no poller
// takes: os tries that each time, in five system calls.
func openPlain(path string, flag int) (*os.File, error) {
	for {
		fd, err := unix.Open(path, flag|unix.O_CLOEXEC, fileMode)
		switch {
		case err == nil:
			return os.NewFile(uintptr(fd), path), nil
		case !errors.Is(err, unix.EINTR):
			return nil, &os.PathError{Op: "open", Path: path, Err: err}
		}
	}
}

func namesIn(dir string) ([]string, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	names, err := d.Readdirnames(-1)
	return names, errors.Join(err, d.Close())
}

// writeAt is f.WriteAt, which forgets the bytes of a write that ends in an error:
// on a full disk they are there.
func writeAt(f *os.File, p []byte, off int64) (n int, err error) {
	conn, err := f.SyscallConn()
	if err != nil {
		return 0, err
	}
	cerr := conn.Control(func(fd uintptr) {
		for n < len(p) && err == nil {
			var m int
			m, err = unix.Pwrite(int(fd), p[n:], off+int64(n))
			n += max(m, 0)
			switch {
			case errors.Is(err, unix.EINTR):
				err = nil
			case err == nil && m == 0:
				err = io.ErrShortWrite
			}
		}
	})
	return n, errors.Join(err, cerr)
}

// syncDir makes the names in a directory outlive a power cut.
func (m *medium) syncDir(dir string) error {
	d, err := m.open(dir, os.O_RDONLY)
	if err != nil {
		return err
	}
	return errors.Join(m.sync(d), d.Close())
}

// makeSynced makes dir and its missing parents, each one synced in its parent;
// dir itself is synced there also when somebody else has made it.
func (m *medium) makeSynced(dir string) error {
	err := m.mkdir(dir)
	switch {
	case err == nil || errors.Is(err, fs.ErrExist):
		return m.syncDir(filepath.Dir(dir))
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if err := m.makeSynced(filepath.Dir(dir)); err != nil {
		return err
	}
	return m.makeSynced(dir)
}

// writeFile writes a small file all or nothing.
func (m *medium) writeFile(path string, b []byte) error {
	tmp := path + ".new"
	if err := m.writeSynced(tmp, b); err != nil {
		_ = m.remove(tmp) // it may not even be there
		return err
	}
	if err := m.rename(tmp, path); err != nil {
		return err
	}
	return m.syncDir(filepath.Dir(path))
}

func (m *medium) writeSynced(path string, b []byte) error {
	f, err := m.open(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC)
	if err != nil {
		return err
	}
	_, err = m.write(f, b, 0)
	return errors.Join(err, m.sync(f), f.Close())
}

// removeFile removes a file that may not be there.
func (m *medium) removeFile(path string) error {
	if err := m.remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
