package soak

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// configure replaces the process's file, for lives that begin afterwards.
func (h *home) configure(t *testing.T, more string) {
	t.Helper()
	if err := os.WriteFile(h.file(), []byte(settings+more), 0o600); err != nil {
		t.Fatal(err)
	}
}

// A usage is what lies in a data directory.
type usage struct {
	bytes  int64 // lengths of all files
	blocks int64 // bytes that the file system has given them
	blobs  int64 // bytes of the complete blobs
	files  int   // complete blobs
}

// usage adds up the files. A file that leaves while it is looked at is not there.
func (h *home) usage() (u usage, err error) {
	blobs := filepath.Join(h.data(), "blobs") + string(filepath.Separator)
	err = filepath.WalkDir(h.data(), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			if errors.Is(err, fs.ErrNotExist) {
				err = nil
			}
			return err
		}
		fi, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		u.bytes += fi.Size()
		if sys, ok := fi.Sys().(*syscall.Stat_t); ok {
			u.blocks += sys.Blocks * 512
		}
		if len(path) > len(blobs) && path[:len(blobs)] == blobs {
			u.blobs += fi.Size()
			u.files++
		}
		return nil
	})
	return u, err
}

// A gauge looks at the disk again and again while a process writes to it.
type gauge struct {
	ended chan struct{}
	done  chan struct{}
	looks int
	most  usage // the most bytes, and the most blocks, of any look
	err   error
}

// watch begins to look. The process stands still meanwhile, so that what is counted
// was there at one moment.
func (h *home) watch(l *life, every time.Duration) *gauge {
	g := &gauge{ended: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(g.done)
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
			case <-g.ended:
				return
			}
			if g.err = g.look(h, l); g.err != nil {
				return
			}
		}
	}()
	return g
}

func (g *gauge) look(h *home, l *life) error {
	if err := l.command.Process.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	u, err := h.usage()
	err = errors.Join(err, l.command.Process.Signal(syscall.SIGCONT))
	g.looks++
	g.most.bytes, g.most.blocks = max(g.most.bytes, u.bytes), max(g.most.blocks, u.blocks)
	return err
}

func (g *gauge) stop() {
	close(g.ended)
	<-g.done
}

// within wants no look to have found more than limit bytes.
func (g *gauge) within(t *testing.T, limit int64) {
	t.Helper()
	t.Logf("%d looks at the disk: at most %d bytes in files, %.2f %% of the limit, in %d bytes of blocks", g.looks, g.most.bytes, 100*float64(g.most.bytes)/float64(limit), g.most.blocks)
	if g.err != nil || g.looks == 0 {
		t.Errorf("%d looks, %v", g.looks, g.err)
	}
	if g.most.bytes > limit {
		t.Errorf("files have %d bytes, the limit is %d", g.most.bytes, limit)
	}
}
