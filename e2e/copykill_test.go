//go:build e2e

package e2e

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
)

// carryKills is how many times each command is killed: a few, or, in the long form, as
// many as SOAK_CARRY_KILLS says.
func carryKills(t *testing.T) int {
	t.Helper()
	text := os.Getenv("SOAK_CARRY_KILLS")
	if text == "" {
		return 3
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("SOAK_CARRY_KILLS is %q", text)
	}
	return n
}

// dice are the moments of a run, which it tells.
func dice(t *testing.T) *rand.Rand {
	t.Helper()
	seed := rand.Uint64()
	if text := os.Getenv("SOAK_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("SOAK_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// until runs a command, and kills it at the n-th step of the passages; 0 never does. It
// tells how many steps there were, and whether it was killed.
func until(t *testing.T, s command, n int64, passages []*passage, args []string) (steps int64, killed bool) {
	t.Helper()
	cmd := exec.Command(s.path, args...)
	cmd.Env, cmd.Dir = s.env, s.dir
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	var count atomic.Int64
	started, ended := make(chan struct{}), make(chan struct{})
	for _, p := range passages {
		p.watch(func() {
			if count.Add(1) == n {
				<-started
				cmd.Process.Kill()
			}
			if n > 0 && count.Load() >= n {
				<-ended // nothing goes on behind it
			}
		})
	}
	defer func() {
		for _, p := range passages {
			p.watch(func() {})
		}
	}()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	close(started)
	err := cmd.Wait()
	close(ended)
	killed = n > 0 && count.Load() >= n
	if err != nil && !killed {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, said.String())
	}
	return count.Load(), killed
}

// Killed at any moment, a command has published nothing, or all; run again it finishes,
// and what a registry has stored is not sent to it again.
func TestKilledAtAnyMomentACopyIsFinishedByTheNext(t *testing.T) {
	s, kills, random := newCopier(t), carryKills(t), dice(t)
	image, _ := largeLayer(t)
	quay := bed.registries["quay.io"]
	from := newPassage(t, bed.registries["docker.io"])
	for name, args := range carriersFrom(t, s, from.host()) {
		t.Run(name, func(t *testing.T) {
			p := newPassage(t, quay)
			both := []*passage{from, p}
			steps, _ := until(t, s, 0, both, args(t, "library/large:1", p.host()+"/killed/"+name+"/0/large:1"))
			for round, done := 1, 0; done < kills && !t.Failed(); round++ {
				repository := fmt.Sprintf("killed/%s/%d/large", name, round)
				run := args(t, "library/large:1", p.host()+"/"+repository+":1")
				p.rules(nil)
				inRound := 0
				for {
					n := int64(0)
					if done < kills && inRound < 5 {
						n = 1 + random.Int64N(steps)
					}
					_, killed := until(t, s, n, both, run)
					if !killed {
						break
					}
					done, inRound = done+1, inRound+1
					if _, err := fetchManifest(quay, repository, "1"); err == nil {
						wantWhole(t, quay, repository, "1", image)
					}
				}
				wantWhole(t, quay, repository, "1", image)
				p.wantStoredOnce(t)
			}
		})
	}
}

// wantStoredOnce fails if bytes of a blob came after the registry had stored it.
func (p *passage) wantStoredOnce(t *testing.T) {
	t.Helper()
	stored := map[string]bool{}
	for _, c := range p.crossings("^PUT .*digest=sha256") {
		_, digest, _ := strings.Cut(c.path, "digest=sha256")
		if stored[digest] && c.sent > 0 {
			t.Errorf("%d bytes of %s were sent again", c.sent, digest)
		}
		stored[digest] = stored[digest] || c.status == http.StatusCreated
	}
	if len(stored) == 0 {
		t.Error("no blob was sent")
	}
}

// A save that is killed leaves no archive, and the next one goes on where it was.
func TestKilledAtAnyMomentASaveIsFinishedByTheNext(t *testing.T) {
	s, kills, random := newCopier(t), carryKills(t), dice(t)
	from := newPassage(t, bed.registries["docker.io"])
	dir := testDir(t, "saved")
	run := func(file string) []string {
		return []string{"save", "--platform", "all", from.host() + "/library/large:1", "-o", filepath.Join(dir, file)}
	}
	steps, _ := until(t, s, 0, []*passage{from}, run("whole.tar"))
	want, size := fileDigest(t, filepath.Join(dir, "whole.tar")), from.received("^GET .*/blobs/")
	for round, done := 1, 0; done < kills && !t.Failed(); round++ {
		file := fmt.Sprintf("%d.tar", round)
		from.rules(nil)
		inRound := 0
		for {
			n := int64(0)
			if done < kills && inRound < 5 {
				n = 1 + random.Int64N(steps)
			}
			if _, killed := until(t, s, n, []*passage{from}, run(file)); !killed {
				break
			}
			done, inRound = done+1, inRound+1
			if _, err := os.Stat(filepath.Join(dir, file)); err == nil && fileDigest(t, filepath.Join(dir, file)) != want {
				t.Errorf("%s is there, and is another", file)
			}
		}
		if got := fileDigest(t, filepath.Join(dir, file)); got != want {
			t.Errorf("%s is %s, want %s", file, got, want)
		}
		again := from.received("^GET .*/blobs/") - size
		t.Logf("%d kills: %d bytes of %d were read again", inRound, again, size)
		if most := int64(inRound) * (8 << 20); again > most { // what was on its way, in the kernel's buffers
			t.Errorf("%d bytes were read again in %d kills, more than %d", again, inRound, most)
		}
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*.partial")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
