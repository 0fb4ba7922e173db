package disk

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"sampan/internal/oci"
	"sampan/internal/store"
)

// childEnv names the part that the test binary plays when a test has started it
// as another process.
const childEnv = "SAMPAN_DISK_TEST_CHILD"

func TestMain(m *testing.M) {
	part := os.Getenv(childEnv)
	if part == "" {
		os.Exit(m.Run())
	}
	play := map[string]func(args []string) error{
		"hold":       childHolds,
		"permission": childWithoutPermission,
		"full":       childFillsDisk,
		"commit":     childCommits,
		"order":      childWritesInAnyOrder,
		"evict":      childEvicts,
	}[part]
	if err := play(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// child starts the test binary in a part. Its lines come through lines.
func child(t *testing.T, part string, args ...string) (cmd *exec.Cmd, lines *bufio.Scanner) {
	t.Helper()
	self, err := os.Executable()
	must(t, err)
	cmd = exec.CommandContext(t.Context(), self, args...)
	cmd.Env = append(os.Environ(), childEnv+"="+part)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	must(t, err)
	_, err = cmd.StdinPipe() // stays open as long as the child lives
	must(t, err)
	must(t, cmd.Start())
	return cmd, bufio.NewScanner(out)
}

// kill ends a child as kill -9 does, and waits for it. The rest of its lines is
// returned.
func kill(t *testing.T, cmd *exec.Cmd, lines *bufio.Scanner) (rest []string) {
	t.Helper()
	must(t, cmd.Process.Kill())
	for lines.Scan() {
		rest = append(rest, lines.Text())
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.Success() {
		t.Fatalf("the child was not killed: %v", err)
	}
	return rest
}

// passes runs a child that tests by itself.
func passes(t *testing.T, part string, args ...string) {
	t.Helper()
	cmd, lines := child(t, part, args...)
	for lines.Scan() {
		t.Log(lines.Text())
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("the child that plays %q failed: %v", part, err)
	}
}

func childHolds(args []string) error {
	if _, err := New(Options{Dir: args[0]}); err != nil {
		return err
	}
	fmt.Println("held")
	_, err := io.Copy(io.Discard, os.Stdin) // until killed
	return err
}

func TestTheLockNamesItsProcessAndEndsWithIt(t *testing.T) {
	dir := t.TempDir()
	cmd, lines := child(t, "hold", dir)
	if !lines.Scan() {
		t.Fatal("the child did not get the lock")
	}
	_, err := New(Options{Dir: dir})
	wantLocked(t, err, cmd.Process.Pid)
	kill(t, cmd, lines)
	newStore(t, dir)
}

// childWithoutPermission gives up being root, to whom permissions do not apply.
// It works from within the directory, since those above it are closed to it.
func childWithoutPermission(args []string) error {
	if err := os.Chdir(args[0]); err != nil {
		return err
	}
	if os.Getuid() == 0 {
		const nobody = 65534
		if err := errors.Join(unix.Setgroups(nil), unix.Setgid(nobody), unix.Setuid(nobody)); err != nil {
			return err
		}
	}
	if _, err := New(Options{Dir: "."}); !errors.Is(err, store.ErrUnwritable) {
		return fmt.Errorf("got %w, want ErrUnwritable", err)
	}
	return nil
}

func TestADirectoryThatMayNotBeWrittenIsUnwritable(t *testing.T) {
	fresh, used := t.TempDir(), t.TempDir()
	must(t, newStore(t, used).Close())
	for _, dir := range []string{fresh, used} {
		must(t, os.Chmod(dir, 0o555))
		if dir == used { // its owner is not kept out by that
			must(t, os.Chmod(dir+"/lock", 0o444))
		}
		passes(t, "permission", dir)
		must(t, os.Chmod(dir, 0o755))
	}
}

// limitFiles is a disk that is full: no file may grow beyond n bytes.
func limitFiles(n uint64) error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	signal.Ignore(unix.SIGXFSZ)
	limit.Cur = min(n, limit.Max)
	return unix.Setrlimit(unix.RLIMIT_FSIZE, &limit)
}

func childFillsDisk(args []string) error {
	ctx := context.Background()
	const room = 64 << 10
	if err := limitFiles(0); err != nil {
		return err
	}
	if _, err := New(Options{Dir: args[0]}); !errors.Is(err, store.ErrUnwritable) {
		return fmt.Errorf("a new directory on a full disk: got %w, want ErrUnwritable", err)
	}
	if err := limitFiles(room); err != nil {
		return err
	}
	s, err := New(Options{Dir: args[0]})
	if err != nil {
		return err
	}
	small := []byte("was here before")
	if err := store.Put(ctx, s, oci.DigestOf(small), small); err != nil {
		return err
	}
	big := bytes.Repeat([]byte("big "), room)
	in, err := s.Ingest(ctx, oci.DigestOf(big))
	if err != nil {
		return err
	}
	n, err := in.Write(big)
	if !errors.Is(err, store.ErrUnwritable) || n != room || in.Len() != room {
		return fmt.Errorf("wrote %d and has %d, want %d: got %w, want ErrUnwritable", n, in.Len(), room, err)
	}
	if _, err := in.Write(big[n:]); !errors.Is(err, store.ErrUnwritable) {
		return fmt.Errorf("second write: got %w, want ErrUnwritable", err)
	}
	if b, err := store.ReadAll(ctx, s, oci.DigestOf(small), 100); err != nil || !bytes.Equal(b, small) {
		return fmt.Errorf("what was stored before cannot be read: %q, %w", b, err)
	}
	// Room is back, and the ingest goes on where it was.
	if err := limitFiles(1 << 30); err != nil {
		return err
	}
	if _, err := in.Write(big[n:]); err != nil {
		return err
	}
	if err := in.Commit(ctx, int64(len(big))); err != nil {
		return err
	}
	if b, err := store.ReadAll(ctx, s, oci.DigestOf(big), 1<<20); err != nil || !bytes.Equal(b, big) {
		return fmt.Errorf("the blob differs: %w", err)
	}
	return s.Close()
}

func TestAFullDiskIsUnwritableAndNothingIsLost(t *testing.T) {
	passes(t, "full", t.TempDir())
}

// crashBlob is blob number i of the crash test.
func crashBlob(i int) []byte {
	source := rand.NewChaCha8([32]byte{byte(i), byte(i >> 8)})
	b := make([]byte, source.Uint64()%200_000)
	_, _ = source.Read(b) // never fails
	return b
}

// childCommits stores one blob after the other, beginning with number args[1],
// and says so each time.
func childCommits(args []string) error {
	s, err := New(Options{Dir: args[0]})
	if err != nil {
		return err
	}
	first, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	ctx := context.Background()
	for i := first; ; i++ {
		b := crashBlob(i)
		in, err := s.Ingest(ctx, oci.DigestOf(b))
		if err != nil {
			return err
		}
		if had := in.Len(); i > first && had > 0 {
			return fmt.Errorf("blob %d had %d bytes", i, had)
		}
		for rest := b[in.Len():]; len(rest) > 0; rest = rest[min(len(rest), 10_000):] {
			if _, err := in.Write(rest[:min(len(rest), 10_000)]); err != nil {
				return err
			}
			fmt.Println("wrote")
		}
		if err := in.Commit(ctx, int64(len(b))); err != nil {
			return err
		}
		fmt.Println("committed", i)
	}
}

func TestKillingTheProcessLosesNothing(t *testing.T) {
	const kills = 20
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	dir := t.TempDir()
	last, resumed := -1, 0
	note := func(line string) {
		var i int
		if n, _ := fmt.Sscanf(line, "committed %d", &i); n == 1 {
			last = i
		}
	}
	for range kills {
		cmd, lines := child(t, "commit", dir, strconv.Itoa(last+1))
		for range 1 + random.IntN(60) {
			if !lines.Scan() {
				t.Fatal("the child ended by itself")
			}
			note(lines.Text())
		}
		for _, line := range kill(t, cmd, lines) {
			note(line)
		}
		resumed += checkCrashed(t, dir, &last)
	}
	t.Logf("%d blobs, %d bytes continued", last+1, resumed)
	if resumed == 0 {
		t.Errorf("none of %d kills left a partial blob", kills)
	}
}

// checkCrashed compares what a killed process left with what it said. It moves
// last past a blob whose commit was not told any more, and returns the length of
// the partial blob after it.
func checkCrashed(t *testing.T, dir string, last *int) int {
	t.Helper()
	s, err := New(Options{Dir: dir})
	must(t, err)
	defer s.Close()
	for i := 0; ; i++ {
		want := crashBlob(i)
		got, err := store.ReadAll(t.Context(), s, oci.DigestOf(want), 1<<20)
		if errors.Is(err, store.ErrNotFound) && i == *last+1 {
			return checkPartial(t, s, want)
		}
		must(t, err)
		if !bytes.Equal(got, want) {
			t.Fatalf("blob %d does not match its digest", i)
		}
		*last = max(*last, i)
	}
}

func checkPartial(t *testing.T, s *Store, want []byte) int {
	t.Helper()
	in, err := s.Ingest(t.Context(), oci.DigestOf(want))
	must(t, err)
	b, err := in.NewReader()
	must(t, err)
	defer b.Close()
	got, err := io.ReadAll(b)
	must(t, err)
	if !bytes.HasPrefix(want, got) || in.Len() != int64(len(got)) {
		t.Fatalf("%d partial bytes are not those of the blob", len(got))
	}
	must(t, in.Keep())
	return len(got)
}
