package bolt

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"sampan/internal/oci"
	"sampan/internal/refs"
)

// childEnv names the part that the test binary plays when a test has started it
// as another process.
const childEnv = "SAMPAN_BOLT_TEST_CHILD"

func TestMain(m *testing.M) {
	part := os.Getenv(childEnv)
	if part == "" {
		os.Exit(m.Run())
	}
	play := map[string]func(path string, args []string) error{"write": childWrites, "full": childFillsDisk}[part]
	if err := play(os.Args[1], os.Args[2:]); err != nil {
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
	must(t, cmd.Start())
	return cmd, bufio.NewScanner(out)
}

// crashRecord is write number i: tags come back, so that they are replaced.
func crashRecord(i int) (repo oci.Repository, t oci.Tag, e refs.TagEntry, err error) {
	if repo, err = oci.ParseRepository(fmt.Sprintf("quay.io/repository/number-%d", i%7)); err != nil {
		return repo, t, e, err
	}
	t, err = oci.ParseTag(fmt.Sprintf("v%d", i%500))
	e.Manifest = oci.Descriptor{MediaType: oci.MediaTypeImageManifest, Digest: oci.DigestOf(fmt.Append(nil, i)), Size: int64(i)}
	return repo, t, e, err
}

// crashSlots is after how many writes a tag is written again.
const crashSlots = 3500

func putCrashRecord(x *Index, i int) error {
	repo, name, e, err := crashRecord(i)
	return errors.Join(err, x.PutTag(context.Background(), repo, name, e))
}

// childWrites writes from number args[0] on, and says what has been flushed.
func childWrites(path string, args []string) error {
	first, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	x, err := Open(path, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	for i := first; ; i++ {
		if err := putCrashRecord(x, i); err != nil {
			return err
		}
		fmt.Println("wrote", i)
		if i%(1+i%53) == 0 {
			if err := x.Flush(context.Background()); err != nil {
				return err
			}
			fmt.Println("flushed", i)
		}
	}
}

func TestKillingTheProcessLosesNothingThatWasFlushed(t *testing.T) {
	const kills = 20
	random := seeded(t)
	path := filepath.Join(t.TempDir(), "index.db")
	wrote, flushed := -1, -1
	for range kills {
		// What was not flushed may be lost, and is written again.
		cmd, lines := child(t, "write", path, strconv.Itoa(flushed+1))
		note := func() {
			var i int
			if n, _ := fmt.Sscanf(lines.Text(), "wrote %d", &i); n == 1 {
				wrote = max(wrote, i)
			}
			_, _ = fmt.Sscanf(lines.Text(), "flushed %d", &flushed)
		}
		for range 1 + random.IntN(150) {
			if !lines.Scan() {
				t.Fatal("the child ended by itself")
			}
			note()
		}
		must(t, cmd.Process.Kill())
		for lines.Scan() {
			note()
		}
		var exit *exec.ExitError
		if err := cmd.Wait(); !errors.As(err, &exit) || exit.Exited() {
			t.Fatalf("the child was not killed: %v", err)
		}
		wrote++ // it may have been in the midst of one more
		checkCrashed(t, path, wrote, flushed)
	}
	t.Logf("%d records written, %d flushed", wrote, flushed)
}

// checkCrashed opens what a killed process left: each tag has the value of a
// write that was begun, and none older than its last one that was flushed.
func checkCrashed(t *testing.T, path string, wrote, flushed int) {
	t.Helper()
	x, err := Open(path, slog.New(slog.DiscardHandler))
	must(t, err)
	defer func() { must(t, x.Close()) }()
	for i := max(0, flushed-crashSlots+1); i <= wrote; i++ {
		repo, name, _, err := crashRecord(i)
		must(t, err)
		got, err := x.Tag(t.Context(), repo, name)
		if i > flushed && errors.Is(err, refs.ErrNotFound) {
			continue
		}
		must(t, err)
		n := int(got.Manifest.Size)
		_, _, want, err := crashRecord(n)
		must(t, err)
		if got.Manifest.Digest != want.Manifest.Digest || n%crashSlots != i%crashSlots || n > wrote || i <= flushed && n < i {
			t.Fatalf("write %d of %d, flushed up to %d: the tag has the value of write %d, %v", i, wrote, flushed, n, got.Manifest)
		}
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

func childFillsDisk(path string, _ []string) error {
	ctx := context.Background()
	log := slog.New(slog.DiscardHandler)
	if err := limitFiles(0); err != nil {
		return err
	}
	if _, err := Open(path, log); err == nil || errors.Is(err, refs.ErrDamaged) {
		return fmt.Errorf("a new index on a full disk: %w", err)
	}
	if err := limitFiles(1 << 30); err != nil {
		return err
	}
	x, err := Open(path, log)
	if err != nil {
		return err
	}
	const few, many = 100, 3000
	for i := range few {
		if err := putCrashRecord(x, i); err != nil {
			return err
		}
	}
	if err := x.Flush(ctx); err != nil {
		return err
	}
	// Beyond this size nothing can be written, and below it everything.
	fi, err := os.Stat(path)
	if err != nil {
		return err
	}
	if err := limitFiles(uint64(fi.Size())); err != nil {
		return err
	}
	for i := few; i < many; i++ {
		if err := putCrashRecord(x, i); err != nil {
			return err
		}
	}
	for range 3 {
		if err := x.Flush(ctx); err == nil || errors.Is(err, refs.ErrDamaged) {
			return fmt.Errorf("flush on a full disk: %w", err)
		}
		if err := allThere(x, many); err != nil {
			return fmt.Errorf("while the disk is full: %w", err)
		}
	}
	if err := limitFiles(1 << 30); err != nil {
		return err
	}
	if err := x.Flush(ctx); err != nil {
		return fmt.Errorf("with room again: %w", err)
	}
	if err := x.Close(); err != nil {
		return err
	}
	if x, err = Open(path, log); err != nil {
		return err
	}
	return errors.Join(allThere(x, many), x.Close())
}

func allThere(x *Index, n int) error {
	for i := range n {
		repo, name, want, err := crashRecord(i)
		if err != nil {
			return err
		}
		got, err := x.Tag(context.Background(), repo, name)
		if err != nil || got.Manifest.Digest != want.Manifest.Digest {
			return fmt.Errorf("write %d: got %v, %w", i, got.Manifest, err)
		}
	}
	return nil
}

func TestAFullDiskKeepsNamesInMemoryUntilThereIsRoom(t *testing.T) {
	cmd, lines := child(t, "full", filepath.Join(t.TempDir(), "index.db"))
	for lines.Scan() {
		t.Log(lines.Text())
	}
	must(t, cmd.Wait())
}

// What a medium refuses for long is bounded, and the newest writes are kept.
func TestRefusedRecordsAreBounded(t *testing.T) {
	x := &Index{refused: true, pending: make(map[key][]byte), kick: make(chan struct{}, 1)}
	for i := range maxPending + 10 {
		k := key{bucketTags, strconv.Itoa(i)}
		must(t, x.put(t.Context(), map[key][]byte{k: {}}))
		if _, ok := x.pending[k]; !ok {
			t.Fatalf("write %d is not seen", i)
		}
	}
	if len(x.pending) != maxPending || x.dropped != 10 {
		t.Errorf("%d records are kept and %d dropped", len(x.pending), x.dropped)
	}
}
