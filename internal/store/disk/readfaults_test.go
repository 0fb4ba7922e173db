package disk_test

import (
	"errors"
	"io"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"sampan/internal/oci"
	"sampan/internal/registrytest"
	"sampan/internal/store"
)

// readFaults are places where what was written cannot be read any more.
func readFaults() []diskFault {
	beyond := func(from int64) func(op, path string, off, n int64) (int64, bool) {
		return func(op, path string, off, n int64) (int64, bool) {
			return max(0, from-off), op == "read" && isPartial(path) && off+n > from
		}
	}
	return []diskFault{
		{name: "a reader cannot be opened", at: on("open to read", isPartial)},
		{name: "nothing can be read", at: beyond(0)},
		{name: "the rest cannot be read", at: beyond(faultMid)},
		{name: "what is behind a gap cannot be read, and so not hashed", at: beyond(faultAhead + 1000), gap: true},
	}
}

// What a partial file has and does not give may end a response, but never in
// wrong bytes, and not beyond the fault.
func TestWhatCannotBeReadIsNeverWrong(t *testing.T) {
	up, d, want := faultUpstream(t)
	for _, f := range readFaults() {
		t.Run(f.name, func(t *testing.T) {
			if err := readPast(t, f, up, d, want); errors.Is(err, errWrong) {
				t.Error(err)
			}
		})
	}
}

// readPast lets clients read over a fault, and once more after it. It returns why
// not each got all while there was the fault.
func readPast(t *testing.T, f diskFault, up *registrytest.Registry, d oci.Digest, want []byte) error {
	t.Helper()
	gate := hanging(up)
	m := serve(t, up)
	m.breakDisk(failing(f, unix.EIO))
	err := readTogether(t, m, gate, d, want, f.gap)
	if !m.fired.Load() {
		t.Fatal("nothing failed: the test tests nothing")
	}
	m.idle(t)
	m.wantOnlyRightBlobs(t)
	m.healDisk()
	m.wantWholeAfterwards(t, d, want)
	return err
}

// wantWholeAfterwards pulls once more without a fault.
func (m *mirrorServer) wantWholeAfterwards(t *testing.T, d oci.Digest, want []byte) {
	t.Helper()
	if err := read(m.open(t, d, 0), nil, want); err != nil {
		t.Errorf("after the fault: %v", err)
	}
	m.idle(t)
	m.wantOnlyRightBlobs(t)
	if left := m.partials(t); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// A leftover that cannot be read, or not be emptied, is fetched again.
func TestLeftoverThatCannotBeReadIsFetchedAgain(t *testing.T) {
	up, d, want := faultUpstream(t)
	for name, at := range map[string]func(op, path string, off, n int64) (int64, bool){
		"its bytes, once":               once(on("read", isPartial)),
		"its journal cannot be opened":  on("open to read", suffix(".journal")),
		"its end cannot be cut":         on("truncate", isPartial),
		"its journal cannot be renewed": on("open", suffix(".journal.new")),
	} {
		t.Run(name, func(t *testing.T) {
			m := serve(t, up)
			m.leave(t, d, want, store.Range{From: 0, To: 1000}, store.Range{From: 1 << 20, To: 3 << 19})
			m.breakDisk(failing(diskFault{at: at}, unix.EIO))
			if err := read(m.open(t, d, 0), nil, want); err != nil {
				t.Errorf("with the fault: %v", err)
			}
			if !m.fired.Load() {
				t.Fatal("nothing failed: the test tests nothing")
			}
			m.idle(t)
			m.healDisk()
			m.wantWholeAfterwards(t, d, want)
		})
	}
}

// once lets the first call fail that at means.
func once(at func(string, string, int64, int64) (int64, bool)) func(string, string, int64, int64) (int64, bool) {
	var done atomic.Bool
	return func(op, path string, off, n int64) (int64, bool) {
		pass, fails := at(op, path, off, n)
		return pass, fails && done.CompareAndSwap(false, true)
	}
}

// A response that ends short because of what it reads is told as such, and not
// taken for a client that has left.
func TestResponseThatEndsShortPastTheStoreIsTold(t *testing.T) {
	up, d, _ := faultUpstream(t)
	up.SetBehavior(registrytest.Behavior{Faults: []registrytest.Fault{{Corrupt: true, CorruptAt: 100_000}}})
	m := serve(t, up)
	m.breakDisk(failing(diskFault{at: on("open", isPartial)}, unix.EIO))
	resp := m.open(t, d, 0)
	if b, err := io.ReadAll(resp.Body); err == nil || len(b) == faultSize {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	m.http.Close() // waits for the handler
	if log := m.log.String(); !strings.Contains(log, "blob ended short") || !strings.Contains(log, "does not match its digest") {
		t.Errorf("the log says:\n%s", log)
	}
}
