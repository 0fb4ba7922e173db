//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"sampan/internal/registrytest"
)

// Real clients want ten times what the disk may hold: every pull is whole, the files
// never have more than the limit, and what was pinned is never asked for again.
func TestTenTimesTheDisk(t *testing.T) {
	const limit, images, layer = 16 << 20, 80, 2 << 20
	up := registrytest.StartTest(t, registrytest.Options{})
	var all []registrytest.Image
	for i := range images {
		all = append(all, up.AddImage("team/app", fmt.Sprint(i), registrytest.ImageSpec{Layers: []int64{layer - 1000, 1000}, Seed: uint64(i) + 1}))
	}
	m := startMirror(t, options{
		config:    fmt.Sprintf("data: {max_size: %d}\n", limit),
		upstreams: map[string]string{"up.test": up.URL()},
	})
	crane := newTool(t, "crane")
	pull := func(i int) {
		t.Helper()
		into := testDir(t, "layout")
		if out, err := crane.output("pull", "--format", "oci", fmt.Sprintf("%s/up.test/team/app:%d", m.address, i), into); err != nil {
			t.Errorf("image %d: %v\n%s", i, err, out)
			return
		}
		wantPulled(t, into, all[i])
	}
	pull(0)
	m.waitForFills(t)
	command{path: os.Getenv(binaryVariable), env: cleanEnv(m.data)}.run(t, "cache", "pin", "up.test/team/app:0", "--admin", "http://"+m.admin)
	asked := up.BytesSent()

	random := rand.New(rand.NewPCG(1, 1))
	var pulls sync.WaitGroup
	for range 4 {
		order := random.Perm(images)
		pulls.Go(func() {
			for _, i := range order {
				pull(i)
				if used := m.files(t); used > limit {
					t.Errorf("the files have %d bytes, the limit is %d", used, limit)
				}
			}
		})
	}
	pulls.Wait()
	m.waitForFills(t)
	if more := up.BytesSent() - asked; more < images*layer {
		t.Errorf("only %d bytes came from the upstream: nothing had to leave", more)
	}
	asked = up.BytesSent()
	pull(0)
	if more := up.BytesSent() - asked; more > 10_000 { // a manifest at the most
		t.Errorf("what is pinned was fetched again: %d bytes", more)
	}
}

// wantPulled wants an OCI layout to have each blob of an image, whole.
func wantPulled(t *testing.T, dir string, image registrytest.Image) {
	t.Helper()
	digests := []string{image.Manifest.Descriptor.Digest.String(), image.Configs[0].Digest.String()}
	for _, l := range image.Layers[0] {
		digests = append(digests, l.Digest.String())
	}
	for _, d := range digests {
		_, hex, _ := strings.Cut(d, ":")
		content, err := os.ReadFile(filepath.Join(dir, "blobs", "sha256", hex))
		if err != nil || digestOf(content) != d {
			t.Errorf("%s: %d bytes that are not it, %v", d, len(content), err)
		}
	}
}

// files is how many bytes are in the files of the mirror's data folder at one moment:
// the process is stopped for the look, or a file that gets its name in the middle would
// count twice.
func (m *mirror) files(t *testing.T) (sum int64) {
	t.Helper()
	m.looking.Lock()
	defer m.looking.Unlock()
	process := m.process.cmd.Process
	if err := process.Signal(unix.SIGSTOP); err != nil {
		t.Error(err)
	}
	defer func() {
		if err := process.Signal(unix.SIGCONT); err != nil {
			t.Error(err)
		}
	}()
	err := poll(startTimeout, func() error {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", process.Pid))
		if err == nil && !strings.Contains(string(stat), ") T ") {
			err = errors.New("the process is not stopped yet")
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	err = filepath.WalkDir(filepath.Join(m.data, "data"), func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			sum += info.Size()
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	return sum
}
