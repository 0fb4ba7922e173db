package inventory_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"sampan/internal/inventory"
	"sampan/internal/oci"
	"sampan/internal/refs"
	"sampan/internal/refs/bolt"
	"sampan/internal/store"
	"sampan/internal/store/disk"
)

// childEnv has the test binary play the process that is killed.
const childEnv = "SAMPAN_INVENTORY_TEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) == "" {
		os.Exit(m.Run())
	}
	if err := childDeletes(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// onDisk is the disk as the app has it; it tells of what it deletes.
type onDisk struct {
	*disk.Store
	deleted func()
}

func (s onDisk) Open(ctx context.Context, d oci.Digest) (store.Blob, error) { return s.Peek(ctx, d) }

func (s onDisk) Stat(ctx context.Context, d oci.Digest) (int64, time.Time, error) {
	e, err := s.Lookup(ctx, d)
	return e.Size, e.Used, err
}

func (s onDisk) Delete(ctx context.Context, d oci.Digest) error {
	err := s.Store.Delete(ctx, d)
	s.deleted()
	return err
}

func (s onDisk) Pin(map[oci.Digest]struct{}) {}

// A cellar is a data directory that is open.
type cellar struct {
	*inventory.Inventory
	store *disk.Store
	index *bolt.Index
	stop  func() // of the store's work in the background
}

func openCellar(dir string, deleted func()) (*cellar, error) {
	log := slog.New(slog.DiscardHandler)
	s, err := disk.New(disk.Options{Dir: filepath.Join(dir, "data")})
	if err != nil {
		return nil, err
	}
	x, err := bolt.Open(filepath.Join(dir, "index.db"), log)
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	v, err := inventory.New(inventory.Options{Refs: x, Blobs: onDisk{s, deleted}, Journal: filepath.Join(dir, "deleting"), Log: log})
	ctx, cancel := context.WithCancel(context.Background())
	var working sync.WaitGroup
	working.Go(func() { s.Run(ctx) })
	return &cellar{v, s, x, func() { cancel(); working.Wait() }}, err
}

func (c *cellar) close() error {
	c.stop()
	return errors.Join(c.index.Close(), c.store.Close())
}

// fill puts images in, each with a layer of its own and one that all share.
func (c *cellar) fill(ctx context.Context) error {
	shared := []byte(strings.Repeat("shared", 100))
	for r := range 6 {
		repo, err := oci.ParseRepository(fmt.Sprintf("up.test/team/app-%d", r))
		if err != nil {
			return err
		}
		for i := range 4 {
			parts := [][]byte{fmt.Appendf(nil, `{"os":"linux","architecture":"amd64","i":%d%d}`, r, i), shared, fmt.Appendf(nil, "layer %d %d %s", r, i, shared)}
			var descs []oci.Descriptor
			for _, b := range parts {
				descs = append(descs, oci.Descriptor{MediaType: "application/octet-stream", Digest: oci.DigestOf(b), Size: int64(len(b))})
			}
			text, err := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": oci.MediaTypeImageManifest, "config": descs[0], "layers": descs[1:]})
			if err != nil {
				return err
			}
			m := oci.Descriptor{MediaType: oci.MediaTypeImageManifest, Digest: oci.DigestOf(text), Size: int64(len(text))}
			tag, err := oci.ParseTag(strconv.Itoa(i))
			if err != nil {
				return err
			}
			parts, descs = append(parts, text), append(descs, m)
			for j, b := range parts {
				if err := store.Put(ctx, c.store, descs[j].Digest, b); err != nil {
					return err
				}
			}
			if err := errors.Join(c.index.PutLinks(ctx, repo, descs...), c.index.PutTag(ctx, repo, tag, refs.TagEntry{Manifest: m, Checked: time.Now()})); err != nil {
				return err
			}
		}
	}
	return c.index.Flush(ctx)
}

// childDeletes fills and empties a data directory again and again, by purges and by
// deletions one by one, and says what it does.
func childDeletes(dir string) error {
	ctx := context.Background()
	c, err := openCellar(dir, func() { fmt.Println("deleted") })
	if err != nil {
		return err
	}
	if err := c.Resume(ctx); err != nil {
		return err
	}
	for n := 0; ; n++ {
		if err := c.fill(ctx); err != nil {
			return err
		}
		fmt.Println("deleting")
		if n%2 == 0 {
			_, err = c.Purge(ctx, inventory.Selection{}, false, nil)
		} else {
			err = c.deleteEach(ctx)
		}
		if err != nil {
			return err
		}
		fmt.Println("done")
	}
}

func (c *cellar) deleteEach(ctx context.Context) error {
	list, err := c.Repositories(ctx, inventory.Filter{}, oci.Repository{}, 1000)
	if err != nil {
		return err
	}
	for _, repo := range list {
		tags, err := c.Tags(ctx, repo, oci.Tag{}, 1000)
		if err != nil {
			return err
		}
		for _, t := range tags {
			if _, err := c.Delete(ctx, repo, t.Name.String(), false); err != nil {
				return err
			}
		}
	}
	return nil
}

// Killed in the middle of purges and deletions, index and disk agree: each file that is
// there has its digest and a repository that is linked to it, and what is said to be
// complete is.
func TestKilledWhileItDeletesIndexAndDiskAgree(t *testing.T) {
	kills := 8
	if text := os.Getenv("SOAK_DELETE_KILLS"); text != "" {
		var err error
		if kills, err = strconv.Atoi(text); err != nil || kills < 1 {
			t.Fatalf("SOAK_DELETE_KILLS is %q", text)
		}
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	dir := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cutOff := 0
	for range kills {
		cmd := exec.CommandContext(t.Context(), self, dir)
		cmd.Env = append(os.Environ(), childEnv+"=1")
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		// A fill is not cut off: what it puts in has no name until it has ended.
		deleting := false
		for left := 1 + random.IntN(120); (left > 0 || !deleting) && lines.Scan(); {
			switch lines.Text() {
			case "deleting":
				deleting = true
			case "done":
				deleting = false
			}
			left--
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		for lines.Scan() {
			deleting = deleting && lines.Text() != "done"
		}
		var exit *exec.ExitError
		if err := cmd.Wait(); !errors.As(err, &exit) || exit.Exited() {
			t.Fatalf("the child was not killed: %v", err)
		}
		if !deleting {
			if err := os.RemoveAll(dir); err != nil { // it was filling
				t.Fatal(err)
			}
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			continue
		}
		cutOff++
		checkCellar(t, dir)
	}
	t.Logf("%d of %d kills were in the middle of a deletion", cutOff, kills)
	if cutOff == 0 {
		t.Error("no deletion was cut off")
	}
}

// checkCellar holds the index and the disk against each other, and purges the rest.
func checkCellar(t *testing.T, dir string) {
	t.Helper()
	c, err := openCellar(dir, func() {})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := c.close(); err != nil {
			t.Error(err)
		}
	}()
	if err := c.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, e := range c.files(t) {
		holders, err := c.Holders(t.Context(), e.Digest)
		if err != nil || len(holders) == 0 {
			t.Errorf("%s is on the disk and of no repository: %v", e.Digest, err)
		}
		b, err := c.store.Peek(t.Context(), e.Digest)
		if err != nil {
			t.Fatal(err)
		}
		if same, err := e.Digest.VerifyReader(b); !same || err != nil {
			t.Errorf("%s is not what its digest names: %v", e.Digest, err)
		}
		if err := b.(io.Closer).Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := c.Purge(t.Context(), inventory.Selection{}, false, nil); err != nil {
		t.Fatal(err)
	}
	if left := c.files(t); len(left) > 0 {
		t.Errorf("%d files are left by a purge of everything", len(left))
	}
	if list, err := c.Repositories(t.Context(), inventory.Filter{}, oci.Repository{}, 10); err != nil || len(list) > 0 {
		t.Errorf("%v are left by a purge of everything: %v", list, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "deleting")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the record of the deletion is left: %v", err)
	}
}

func (c *cellar) files(t *testing.T) []store.Entry {
	t.Helper()
	select {
	case <-c.store.Checked():
	case <-t.Context().Done():
	}
	list, err := c.store.List(t.Context(), oci.Digest{}, 1000)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// A purge whose client leaves ends the repository that it is at, begins no other, and
// says what it did.
func TestAPurgeWhoseClientLeavesBeginsNoOtherRepository(t *testing.T) {
	dir := t.TempDir()
	c, err := openCellar(dir, func() {})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := c.close(); err != nil {
			t.Error(err)
		}
	}()
	if err := c.fill(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, leave := context.WithCancel(t.Context())
	x := &leaving{Index: c.index, leave: leave}
	v, err := inventory.New(inventory.Options{Refs: x, Blobs: onDisk{c.store, func() {}}, Journal: filepath.Join(dir, "deleting"), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	report, err := v.Purge(ctx, inventory.Selection{}, false, nil)
	if !errors.Is(err, context.Canceled) || report == nil || report.Tags != 4 || report.Manifests != 4 || report.Blobs != 8 {
		t.Errorf("%+v, %v", report, err)
	}
	left, err := c.Repositories(t.Context(), inventory.Filter{}, oci.Repository{}, 10)
	if err != nil || len(left) != 5 {
		t.Errorf("%v, %v", left, err)
	}
	if n := len(c.files(t)); n != 5*4*3+1 {
		t.Errorf("%d files are left", n)
	}
}

// leaving is an index whose client leaves with the first name that goes.
type leaving struct {
	*bolt.Index
	leave func()
}

func (x *leaving) DeleteTag(ctx context.Context, repo oci.Repository, tag oci.Tag) error {
	x.leave()
	return x.Index.DeleteTag(ctx, repo, tag)
}
