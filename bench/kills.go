package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"syscall"
)

// What the soak test tells (soak/kill_test.go).
var (
	soakKills  = regexp.MustCompile(`(\d+) kills, (\d+) starts; (\d+) left a partial file, (\d+) one with gaps`)
	soakBytes  = regexp.MustCompile(`(\d+) images, (\d+) bytes of blobs; upstream sent (\d+), (\d+) of them before the last kill, (-?\d+) again`)
	soakServed = regexp.MustCompile(`(\d+) complete responses, (\d+) partial ones, (\d+) bytes compared`)
	soakSeed   = regexp.MustCompile(`SOAK_SEED=(\d+)`)
)

// killed runs the soak test that kills the process in mid-fill again and again. The
// test fails on one wrong byte, and on one client's error in a process that was not
// killed.
func (b *bench) killed() (string, error) {
	const least = 0.95
	cmd := exec.Command("go", "test", "-count=1", "-timeout=40m", "-v", "-run=Killed", "./soak")
	cmd.Env = append(os.Environ(), "SOAK_KILLS="+strconv.Itoa(b.kills), "SOAK_SAMPAN="+filepath.Join(b.bin, "sampan"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	var buf bytes.Buffer
	cmd.Stdout, cmd.Stderr = &buf, &buf
	failed := b.place.do(cmd.Start)
	if failed == nil {
		failed = cmd.Wait()
	}
	out := buf.Bytes()
	outcome := "passed"
	if failed != nil {
		outcome = "**failed**"
		fmt.Fprintf(os.Stderr, "soak: %v\n%s\n", failed, bytes.TrimSpace(out))
	}
	kills, err := numbers(out, soakKills)
	if err != nil {
		return "", err
	}
	sums, err := numbers(out, soakBytes)
	if err != nil {
		return "", err
	}
	served, err := numbers(out, soakServed)
	if err != nil {
		return "", err
	}
	seed := soakSeed.FindSubmatch(out)
	if seed == nil {
		return "", errors.New("the soak test does not tell its seed")
	}
	used := 1 - sums[4]/sums[3]
	kept := verdictLeast(used, least)
	if failed != nil {
		kept = verdictLeast(0, least)
	}
	t := table{head: []string{"kills", "of them with a partial file", "bytes of blobs", "sent before the last kill", "sent again", "used again", "responses: complete, partial", "bytes compared", "test", "target", "kept"}}
	t.add(count(kills[0]), count(kills[2]), mib(int64(sums[1])), mib(int64(sums[3])), mib(int64(sums[4])), fmt.Sprintf("%.2f %%", 100*used),
		count(served[0])+", "+count(served[1]), mib(int64(served[2])), outcome, "≥ 95 % used again, no wrong byte", kept)
	return fmt.Sprintf("`SOAK_SEED=%s SOAK_KILLS=%d go test -count=1 -timeout 40m -v -run Killed ./soak`:\n\n%s", seed[1], b.kills, t.String()), nil
}

func count(n float64) string { return strconv.FormatFloat(n, 'f', 0, 64) }

// numbers returns what the groups of a line of out are.
func numbers(out []byte, line *regexp.Regexp) ([]float64, error) {
	found := line.FindSubmatch(out)
	if found == nil {
		return nil, fmt.Errorf("the soak test does not tell %q", line)
	}
	list := make([]float64, len(found)-1)
	for i, group := range found[1:] {
		var err error
		if list[i], err = strconv.ParseFloat(string(group), 64); err != nil {
			return nil, err
		}
	}
	return list, nil
}
