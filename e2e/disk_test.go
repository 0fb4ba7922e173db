//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// mountData puts a file system of its own under the data folder of a mirror.
func (m *mirror) mountData(t *testing.T, args ...string) (dir string) {
	t.Helper()
	m.process.stop()
	dir = filepath.Join(m.data, "data")
	system(t, "/usr/bin/mount", append(args, dir)...)
	t.Cleanup(func() {
		m.process.stop()
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Errorf("unmounting %s: %v", dir, err)
		}
	})
	m.start(t)
	return dir
}

func system(t *testing.T, path string, args ...string) string {
	t.Helper()
	return command{path: path}.run(t, args...)
}

// loopDisk makes a disk of its own in a file, with ext4 on it.
func (m *mirror) loopDisk(t *testing.T) (dir string) {
	t.Helper()
	image := filepath.Join(m.data, "disk.img")
	writeFile(t, image, "")
	if err := os.Truncate(image, 256<<20); err != nil {
		t.Fatal(err)
	}
	system(t, "/usr/sbin/mkfs.ext4", "-q", "-F", image)
	return m.mountData(t, "-o", "loop,errors=remount-ro", image)
}

// wantPastTheDisk pulls an image that the mirror cannot keep.
func (m *mirror) wantPastTheDisk(t *testing.T, name string) {
	t.Helper()
	newTool(t, "crane").run(t, "validate", "--remote", name)
	_, _, metrics, err := get("http://" + m.admin + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	if n := regexp.MustCompile(`\nsampan_fill_stream_through_total [1-9]`).FindString(string(metrics)); n == "" {
		t.Error("the metrics tell of nothing that was streamed past the store")
	}
	if log := m.process.logTail(1 << 20); !strings.Contains(log, "store cannot be written, streaming past it") {
		t.Error("the log does not say that the store cannot be written")
	}
}

// wantKept pulls an image twice: the second time nobody is asked for blobs.
func (m *mirror) wantKept(t *testing.T, name string) {
	t.Helper()
	crane := newTool(t, "crane")
	crane.run(t, "validate", "--remote", name)
	m.waitForFills(t)
	m.forget()
	crane.run(t, "validate", "--remote", name)
	m.upstream(t, "docker.io").wantAsked(t, "^GET .*/blobs/", 0, 0)
}

// A disk that is full in the middle of a layer: the client gets the image, and
// when there is room again it is kept.
func TestFullDisk(t *testing.T) {
	m := startMirror(t, options{})
	image, layer := largeLayer(t)
	dir := m.mountData(t, "-t", "tmpfs", "-o", fmt.Sprintf("size=%d", layer.Size/2), "tmpfs")
	name := m.address + "/library/large:1"
	m.wantPastTheDisk(t, name)
	d := startDocker(t, "{}")
	d.run(t, "pull", "--quiet", name)
	d.wantImage(t, name, image)
	if left, err := os.ReadDir(filepath.Join(dir, "partial")); err != nil || len(left) > 0 {
		t.Errorf("left on the full disk: %v, %v", left, err)
	}
	system(t, "/usr/bin/mount", "-o", "remount,size=512m", dir)
	m.wantKept(t, name)
}

// A disk that the kernel makes read-only after an error: what is there is served,
// and what is not passes by.
func TestDiskThatBecomesReadOnly(t *testing.T) {
	m := startMirror(t, options{})
	dir := m.loopDisk(t)
	tiny := m.address + "/library/tiny:latest"
	m.wantKept(t, tiny)
	device := system(t, "/usr/bin/findmnt", "-n", "-o", "SOURCE", dir)
	trigger := "/sys/fs/ext4/" + filepath.Base(strings.TrimSpace(device)) + "/trigger_fs_error"
	if err := os.WriteFile(trigger, []byte("1"), 0); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "x"), nil, 0o600); err == nil {
		t.Fatal("the disk can still be written")
	}
	m.wantPastTheDisk(t, m.address+"/library/large:1")
	m.wantKept(t, tiny)
}

// A disk that answers EIO to everything in the middle of a layer.
func TestDiskThatDies(t *testing.T) {
	m := startMirror(t, options{})
	dir := m.loopDisk(t)
	_, layer := largeLayer(t)
	u := m.upstream(t, "docker.io")
	hold := u.hold("/blobs/"+layer.Digest, 8<<20)
	type outcome struct {
		digest string
		err    error
	}
	begun := make(chan outcome, 1)
	go func() {
		digest, _, err := download(blobURL(m, "library/large", layer.Digest))
		begun <- outcome{digest, err}
	}()
	within(t, "the upstream's part", hold.reached)
	if err := shutDown(dir); err != nil {
		t.Fatal(err)
	}
	close(hold.release)
	// What this client has got can neither be read nor proven any more: its blob may
	// end short, and must not be wrong.
	if got := within(t, "the end of the client that had begun", begun); got.err == nil && got.digest != layer.Digest {
		t.Errorf("a client got a complete blob of digest %s", got.digest)
	}
	m.wantPastTheDisk(t, m.address+"/library/large:1")
}

// shutDown is what a file system does to itself when its disk is gone.
func shutDown(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	const (
		shutdown = 0x8004587d // FS_IOC_SHUTDOWN of <linux/fs.h>
		noFlush  = 2
	)
	return unix.IoctlSetPointerInt(int(f.Fd()), shutdown, noFlush)
}
