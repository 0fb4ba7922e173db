package main

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// A file that is replaced stays whose it is, as far as that can be given away.
func TestAReplacedFileKeepsItsOwner(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.yaml")
	if err := os.WriteFile(path, []byte("a"), 0o640); err != nil {
		t.Fatal(err)
	}
	uid, gid := os.Getuid(), os.Getgid()
	if uid == 0 {
		uid, gid = 1234, 4321
		if err := os.Chown(path, uid, gid); err != nil {
			t.Fatal(err)
		}
	}
	if err := replaceFile(path, []byte("b")); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok || int(owner.Uid) != uid || int(owner.Gid) != gid || info.Mode().Perm() != 0o640 {
		t.Errorf("it is %d's and %d's with mode %v, want %d, %d", owner.Uid, owner.Gid, info.Mode(), uid, gid)
	}
}
