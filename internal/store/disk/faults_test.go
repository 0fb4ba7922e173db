package disk_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"sampan/internal/oci"
	"sampan/internal/registrytest"
	"sampan/internal/store/disk"
)

// A diskFault is one place where a file system fails.
type diskFault struct {
	name string
	// at tells whether a call fails, and how many bytes of it pass before.
	at func(op, path string, off, n int64) (pass int64, fails bool)
	// gap: it shows only when there is one.
	gap bool
	// refused: gaps are refused, and the fetch goes on without them.
	refused bool
	// proven: it shows only when readers have been promised all.
	proven bool
	// stored: the blob is in its place for all that, by the last reader at the
	// latest.
	stored bool
}

func on(want string, where func(path string) bool) func(string, string, int64, int64) (int64, bool) {
	return func(op, path string, _, _ int64) (int64, bool) { return 0, op == want && where(path) }
}

func suffix(s string) func(string) bool {
	return func(path string) bool { return strings.HasSuffix(path, s) }
}

const (
	faultSize  = 25 << 16
	faultHang  = 1 << 17 // where the upstream waits for the test
	faultMid   = 1<<19 + 1000
	faultAhead = 5 << 18 // where a reader is far ahead
)

func writeFaults() []diskFault {
	inFan := func(path string) bool { return strings.HasPrefix(path, "blobs/sha256/") }
	return []diskFault{
		{name: "open", at: on("open", isPartial)},
		{name: "first write", at: on("write", isPartial)},
		{name: "in the middle of a write", at: func(op, path string, off, n int64) (int64, bool) {
			return max(0, faultMid-off), op == "write" && isPartial(path) && off+n > faultMid
		}},
		{name: "open of the journal", at: on("open", suffix(".journal.new")), gap: true, refused: true},
		{name: "first write of the journal", at: on("write", suffix(".journal.new")), gap: true, refused: true},
		{name: "rename of the journal", at: on("rename", suffix(".journal.new")), gap: true, refused: true},
		{name: "in the middle of a record of the journal", at: func(op, path string, _, n int64) (int64, bool) {
			return 7, op == "write" && n == 20 && strings.HasSuffix(path, ".journal.new") // its name when it was made
		}, gap: true, stored: true},
		{name: "sync", at: on("sync", isPartial), proven: true},
		{name: "making the directory", at: on("mkdir", inFan), proven: true},
		{name: "sync of the directory above", at: on("sync", func(path string) bool { return path == "blobs/sha256" }), proven: true},
		{name: "rename", at: on("rename", isPartial), proven: true},
		{name: "sync of the directory", at: on("sync", inFan), proven: true, stored: true},
	}
}

// Whatever a write to the file system answers: readers get the blob, nothing that
// may be wrong stays, it is told, and afterwards the mirror stores again.
func TestReadersGetTheBlobPastADiskThatFailsToWrite(t *testing.T) {
	up, d, want := faultUpstream(t)
	for i, f := range writeFaults() {
		errnos := []unix.Errno{unix.EIO, unix.ENOSPC, unix.EROFS}
		if i >= 3 { // what is special about an error is told apart at the first places already
			errnos = errnos[i%3 : i%3+1]
		}
		for _, errno := range errnos {
			t.Run(fmt.Sprintf("%s/%s", f.name, unix.ErrnoName(errno)), func(t *testing.T) {
				passThrough(t, f, errno, up, d, want)
			})
		}
	}
}

// faultUpstream has one blob, and its content.
func faultUpstream(t *testing.T) (*registrytest.Registry, oci.Digest, []byte) {
	t.Helper()
	up := registrytest.StartTest(t, registrytest.Options{})
	d := up.AddBlob("team/web", faultSize, 11).Digest
	return up, d, content(t, up, d)
}

// hanging lets bodies of up stop at faultHang until the gate is opened.
func hanging(up *registrytest.Registry) *registrytest.Gate {
	gate := registrytest.NewGate()
	up.SetBehavior(registrytest.Behavior{Faults: []registrytest.Fault{{HangInBody: gate, HangAt: faultHang}}})
	return gate
}

func passThrough(t *testing.T, f diskFault, errno unix.Errno, up *registrytest.Registry, d oci.Digest, want []byte) {
	gate := hanging(up)
	m := serve(t, up)
	m.breakDisk(failing(f, errno))
	if err := readTogether(t, m, gate, d, want, f.gap); err != nil {
		t.Error(err)
	}
	m.idle(t) // readers have all that is proven before its directory is synced
	if !m.fired.Load() {
		t.Fatal("nothing failed: the test tests nothing")
	}
	if !f.refused {
		m.wantTold(t, f.proven)
	}
	m.wantOnlyRightBlobs(t)
	if left := m.partials(t); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	m.healDisk()
	m.wantStoredByNextPull(t, d, want, f.stored || f.refused)
}

// failing makes every call fail that f means.
func failing(f diskFault, errno unix.Errno) disk.Fault {
	return func(op, path string, off, n int64) (int64, error) {
		if pass, fails := f.at(op, path, off, n); fails {
			return pass, &os.PathError{Op: op, Path: path, Err: errno}
		}
		return n, nil
	}
}

// readTogether lets clients read while the upstream hangs and goes on: one that
// has begun before, one of the whole and one far ahead, and one more afterwards.
// It returns why one of them did not get all; nil when each did.
func readTogether(t *testing.T, m *mirrorServer, gate *registrytest.Gate, d oci.Digest, want []byte, gap bool) error {
	t.Helper()
	errs := make([]error, 4)
	early := m.open(t, d, 0)
	begin := make([]byte, faultHang/2)
	n, _ := io.ReadFull(early.Body, begin) // an error comes again
	var readers sync.WaitGroup
	for i, from := range []int64{0, faultAhead} {
		readers.Go(func() { errs[i] = read(m.open(t, d, from), nil, want[from:]) })
	}
	if gap { // only who is far ahead makes one
		<-m.first
	}
	gate.Open()
	errs[2] = read(early, begin[:n], want)
	readers.Wait()
	errs[3] = read(m.open(t, d, 0), nil, want)
	for i, who := range []string{"a second one", "one far ahead", "one that had begun", "one that came afterwards"} {
		if errs[i] != nil {
			errs[i] = fmt.Errorf("%s: %w", who, errs[i])
		}
	}
	return errors.Join(errs...)
}

// wantTold: the operator can see it.
func (m *mirrorServer) wantTold(t *testing.T, proven bool) {
	t.Helper()
	if n := m.metric(t, "sampan_fill_ended_total", "unwritable"); n == 0 {
		t.Error("no fetch is counted as unwritable")
	}
	if !strings.Contains(m.log.String(), "the store cannot be written") {
		t.Error("the log does not say that the store cannot be written")
	}
	if proven {
		return
	}
	if n := m.metric(t, "sampan_fill_stream_through_total", ""); n < 3 {
		t.Errorf("%v readers are counted as streamed past the store", n)
	}
	if !strings.Contains(m.log.String(), "streaming past it") {
		t.Error("the log does not say that readers are streamed past the store")
	}
}

// wantStoredByNextPull: the fault has left nothing that stays in the way.
func (m *mirrorServer) wantStoredByNextPull(t *testing.T, d oci.Digest, want []byte, stored bool) {
	t.Helper()
	for i, costs := range []int64{int64(len(want)), 0} {
		m.up.ResetCounts()
		if err := read(m.open(t, d, 0), nil, want); err != nil {
			t.Errorf("pull %d after the fault: %v", i, err)
		}
		m.idle(t)
		if stored {
			costs = 0
		}
		if sent := m.up.BytesSentOf(d); sent != costs {
			t.Errorf("pull %d after the fault cost %d bytes, want %d", i, sent, costs)
		}
	}
	m.wantOnlyRightBlobs(t)
	if left := m.partials(t); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
