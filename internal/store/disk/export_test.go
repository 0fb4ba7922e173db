package disk

import (
	"os"
	"path/filepath"
	"strings"
)

// A Fault decides how a call to the file system fails: op is the name of a field
// of medium, path is relative to the data directory. Of the n bytes at off of a
// read or write, the first ones, as many as it returns, pass.
type Fault func(op, path string, off, n int64) (pass int64, err error)

// SetFault puts f before all calls to the file system. It must come before the
// Store is used by several goroutines.
func (s *Store) SetFault(f Fault) {
	own := osMedium()
	check := func(op, path string) error {
		_, err := f(op, strings.TrimPrefix(path, s.dir+string(filepath.Separator)), 0, 0)
		return err
	}
	s.fs = medium{
		lstat: own.lstat,
		names: own.names,
		open: func(path string, flag int) (*os.File, error) {
			op := "open"
			if flag&(os.O_WRONLY|os.O_RDWR) == 0 {
				op = "open to read"
			}
			if err := check(op, path); err != nil {
				return nil, err
			}
			return own.open(path, flag)
		},
		write: func(file *os.File, p []byte, off int64) (int, error) {
			return s.passSome(f, "write", file, p, off, own.write)
		},
		read: func(file *os.File, p []byte, off int64) (int, error) {
			return s.passSome(f, "read", file, p, off, (*os.File).ReadAt)
		},
		truncate: func(file *os.File, size int64) error {
			if err := check("truncate", file.Name()); err != nil {
				return err
			}
			return own.truncate(file, size)
		},
		sync: func(file *os.File) error {
			if err := check("sync", file.Name()); err != nil {
				return err
			}
			return own.sync(file)
		},
		rename: func(from, to string) error {
			if err := check("rename", from); err != nil {
				return err
			}
			return own.rename(from, to)
		},
		remove: func(path string) error {
			if err := check("remove", path); err != nil {
				return err
			}
			return own.remove(path)
		},
		mkdir: func(path string) error {
			if err := check("mkdir", path); err != nil {
				return err
			}
			return own.mkdir(path)
		},
	}
}

// passSome reads or writes until f says that no more bytes pass.
func (s *Store) passSome(f Fault, op string, file *os.File, p []byte, off int64, do func(*os.File, []byte, int64) (int, error)) (int, error) {
	pass, err := f(op, strings.TrimPrefix(file.Name(), s.dir+string(filepath.Separator)), off, int64(len(p)))
	if err == nil {
		return do(file, p, off)
	}
	n, own := do(file, p[:pass], off)
	if own != nil {
		return n, own
	}
	return n, err
}
