package disk

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"sampan/internal/oci"
	"sampan/internal/store"
)

// counting is the file system, with the calls counted by name and by the path
// below dir.
func counting(dir string, calls map[string]int) medium {
	m := osMedium()
	note := func(op, path string) {
		kind := strings.Split(strings.TrimPrefix(path, dir+"/"), "/")[0]
		calls[op+" "+kind]++
	}
	openFile, lstat, names := m.open, m.lstat, m.names
	m.open = func(path string, flag int) (*os.File, error) { note("open", path); return openFile(path, flag) }
	m.lstat = func(path string) (os.FileInfo, error) { note("lstat", path); return lstat(path) }
	m.names = func(path string) ([]string, error) { note("names", path); return names(path) }
	return m
}

// openCounted opens a store with a limit and returns the calls that this made.
func openCounted(t *testing.T, dir string) (*Store, map[string]int) {
	t.Helper()
	calls := make(map[string]int)
	s, err := open(Options{Dir: dir, Limits: Limits{MaxSize: Bytes(1 << 30)}}, counting(dir, calls))
	must(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return s, calls
}

// plant makes files of blobs behind the store's back.
func plant(t testing.TB, dir string, blobs int, what string) (all []oci.Digest) {
	t.Helper()
	for i := range blobs {
		d := oci.DigestOf(fmt.Append(nil, what, i))
		all = append(all, d)
		fan := filepath.Join(dir, "blobs", "sha256", d.Hex()[:2])
		if err := os.WriteFile(filepath.Join(fan, d.Hex()), []byte(what), fileMode); os.IsNotExist(err) {
			must(t, os.MkdirAll(fan, dirMode))
			err = os.WriteFile(filepath.Join(fan, d.Hex()), []byte(what), fileMode)
			must(t, err)
		}
	}
	return all
}

func TestAStartReadsNoDirectoryOfBlobs(t *testing.T) {
	dir := t.TempDir()
	must(t, newStore(t, dir).Close())
	const blobs = 2000
	must(t, os.Remove(filepath.Join(dir, logName)))
	plant(t, dir, blobs, "x")
	s, calls := openCounted(t, dir)
	if s.Usage().Blobs != blobs || calls["names blobs"] != 512 || calls["lstat blobs"] != blobs {
		t.Fatalf("without a log: %d blobs, calls %v", s.Usage().Blobs, calls)
	}
	must(t, s.Close())
	s, calls = openCounted(t, dir)
	if u := s.Usage(); u.Blobs != blobs || u.Complete != blobs {
		t.Errorf("got %+v", u)
	}
	opened := calls["open "+logName]
	delete(calls, "open "+logName)
	calls["open blobs"]-- // it is synced
	for call, n := range calls {
		if strings.HasSuffix(call, " blobs") && n > 0 || n > 10 {
			t.Errorf("%s: %d times", call, n)
		}
	}
	if opened != 2 { // to read, and to append
		t.Errorf("the log was opened %d times", opened)
	}
	// The check reads the names and asks of no file that is known.
	must(t, s.check(t.Context()))
	if calls["names blobs"] != 512 || calls["lstat blobs"] != 0 {
		t.Errorf("the check made these calls: %v", calls)
	}
}

func TestTheCheckFindsWhatIsThereAndForgetsWhatIsNot(t *testing.T) {
	dir := t.TempDir()
	s := openLimited(t, dir, 1<<20)
	gone, stays := put(t, s, 100, 1), put(t, s, 100, 2)
	must(t, os.Remove(s.blobPath(gone)))
	planted := plant(t, dir, 3, "planted")
	must(t, s.check(t.Context()))
	if s.quota.knows(item{gone, false}) || !s.quota.knows(item{stays, false}) {
		t.Error("it does not know what is there")
	}
	for _, d := range planted {
		if !s.quota.knows(item{d, false}) {
			t.Error("it has not found a file")
		}
	}
	if got := counted(s); got != onDisk(t, s) {
		t.Errorf("%d bytes are counted", got)
	}
	select {
	case <-s.Checked():
	default:
		t.Error("it does not tell that it has checked")
	}
	must(t, s.Close())
	s = openLimited(t, dir, 1<<20) // the log knows it, too
	if got := counted(s); got != onDisk(t, s) || s.Usage().Blobs != 4 {
		t.Errorf("%d bytes are counted after a restart", got)
	}
}

func TestWhatIsInTheLogAndNotThereIsDroppedWhenItIsOpened(t *testing.T) {
	s := openLimited(t, t.TempDir(), 1<<20)
	d := put(t, s, 100, 1)
	must(t, os.Remove(s.blobPath(d)))
	if has(t, s, d) || counted(s) != 0 {
		t.Errorf("%d bytes are counted", counted(s))
	}
}

// crash leaves a store as kill -9 does.
func crash(t *testing.T, s *Store) {
	t.Helper()
	must(t, s.blobs.close())
	must(t, s.lock.Close())
}

func TestUsesSurviveACrashToWithinAMinute(t *testing.T) {
	dir := t.TempDir()
	var a, b oci.Digest
	synctest.Test(t, func(t *testing.T) {
		s, err := New(Options{Dir: dir, Limits: Limits{MaxSize: Bytes(limit)}})
		must(t, err)
		a = put(t, s, 40_000, 1)
		time.Sleep(time.Second)
		b = put(t, s, 40_000, 2)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { defer close(ended); s.Run(ctx) }()
		time.Sleep(time.Hour)
		for range 1000 {
			has(t, s, a)
		}
		s.names.Lock()
		size := s.blobs.size
		s.names.Unlock()
		time.Sleep(time.Minute)
		cancel()
		<-ended
		if grown := s.blobs.size - size; grown != recFrame+8+32 {
			t.Errorf("a thousand uses have written %d bytes", grown)
		}
		crash(t, s)
	})
	s := openLimited(t, dir, limit)
	put(t, s, 40_000, 3)
	if !there(s, a) || there(s, b) {
		t.Error("a use was forgotten")
	}
}

// Removals are written some at a time, and before what comes behind them.
func TestRemovalsAreWrittenSomeAtATime(t *testing.T) {
	for _, crashes := range []bool{false, true} {
		dir := t.TempDir()
		must(t, newStore(t, dir).Close())
		must(t, os.Remove(filepath.Join(dir, logName)))
		all := plant(t, dir, 300, "x")
		writes := 0
		m := osMedium()
		write := m.write
		m.write = func(f *os.File, b []byte, at int64) (int, error) { writes++; return write(f, b, at) }
		s, err := open(Options{Dir: dir, Limits: Limits{MaxSize: Bytes(1 << 30)}}, m)
		must(t, err)
		writes = 0
		for _, d := range all {
			must(t, s.Delete(t.Context(), d))
		}
		if most := 300 * (recFrame + 32) / lateMax; writes == 0 || writes > most {
			t.Errorf("%d writes for 300 removals, at most %d", writes, most)
		}
		again := put(t, s, 10, 1) // its record comes behind those before it
		must(t, s.Delete(t.Context(), again))
		put(t, s, 10, 1)
		if crashes {
			crash(t, s)
		} else {
			must(t, s.Close())
		}
		s = openLimited(t, dir, 1<<30)
		if claimed := s.Usage().Blobs; claimed != 1 {
			t.Errorf("crash %v: %d blobs are claimed", crashes, claimed)
		}
		must(t, s.check(t.Context()))
		if there := s.Usage().Blobs; there != 1 || !has(t, s, again) {
			t.Errorf("crash %v: %d blobs after the check", crashes, there)
		}
		must(t, s.Close())
	}
}

func TestOwnersSurviveACompaction(t *testing.T) {
	dir := t.TempDir()
	s := openWith(t, dir, Limits{})
	d := putFor(t, s, "quay.io", 10, 1)
	for i := range 3000 { // uses fill the log
		has(t, s, d)
		if i%50 == 0 {
			s.saveUses()
		}
		_ = s.blobs.append(appendUse(nil, raw(d), 1))
	}
	s.saveUses()
	if s.blobs.size > compactMin {
		t.Errorf("the log has %d bytes for one blob", s.blobs.size)
	}
	other := putFor(t, s, "ghcr.io", 10, 2)
	crash(t, s)
	s = openWith(t, dir, Limits{})
	for d, want := range map[oci.Digest]string{d: "quay.io", other: "ghcr.io"} {
		if e, err := s.Lookup(t.Context(), d); err != nil || e.Owner != want {
			t.Errorf("got %+v, %v, want %s", e, err, want)
		}
	}
}

// Whatever is cut off of the log or changed in it: what is there is counted as soon
// as there is a limit.
func TestADamagedLogIsMadeAnew(t *testing.T) {
	for name, damage := range map[string]func(b []byte) []byte{
		"cut":     func(b []byte) []byte { return b[:len(b)/2] },
		"empty":   func([]byte) []byte { return nil },
		"changed": func(b []byte) []byte { b[len(b)/3] ^= 1; return b },
		"other":   func([]byte) []byte { return []byte("sampan blobs 9\n and more") },
		"padded":  func(b []byte) []byte { return append(b, make([]byte, 4096)...) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := openLimited(t, dir, 1<<20)
			for i := range uint64(50) {
				put(t, s, 100, i)
			}
			must(t, s.Close())
			path := filepath.Join(dir, logName)
			b, err := os.ReadFile(path)
			must(t, err)
			must(t, os.WriteFile(path, damage(b), fileMode))
			s = openLimited(t, dir, 1<<20)
			if name == "cut" { // looks like a kill while the machine runs: the check finds the rest
				must(t, s.check(t.Context()))
			}
			if got := counted(s); got != 5000 {
				t.Errorf("%d bytes are counted of 5000", got)
			}
		})
	}
}

func TestALogOfAnotherRunOfTheMachineIsNotBelieved(t *testing.T) {
	dir := t.TempDir()
	s := openLimited(t, dir, 1<<20)
	put(t, s, 100, 1)
	must(t, s.blobs.append(appendFrame(nil, recBoot, []byte("another"))))
	crash(t, s)
	plant(t, dir, 3, "lost by a power cut")
	s = openLimited(t, dir, 1<<20)
	if u := s.Usage(); u.Blobs != 4 {
		t.Errorf("%d blobs are known of 4", u.Blobs)
	}
}

func TestACommitThatTheLogCannotTakeIsRefused(t *testing.T) {
	s := openLimited(t, t.TempDir(), 1<<20)
	full := &os.PathError{Op: "write", Path: logName, Err: unix.ENOSPC}
	write := s.fs.write
	s.fs.write = func(f *os.File, p []byte, off int64) (int, error) {
		if strings.HasPrefix(filepath.Base(f.Name()), logName) {
			return 0, full
		}
		return write(f, p, off)
	}
	b, d := blobOf(100, 1)
	if err := store.Put(t.Context(), s, d, b); !errors.Is(err, store.ErrUnwritable) || there(s, d) {
		t.Errorf("it was committed and is not in the log: %v", err)
	}
	s.fs.write = write
	put(t, s, 100, 1)
}
