package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"

	"golang.org/x/sync/errgroup"

	"sampan/internal/registrytest"
)

// A longLink is a link that loses packets, with a kernel's TCP at both ends.
type longLink struct {
	near, far *namespace
	farAddr   string
	end       func() // takes it away, with what runs at its ends
}

// longLink makes a link. Seed decides about the packets that get lost.
func (b *bench) longLink(congestion string, seed int) (*longLink, error) {
	cmd := exec.Command(filepath.Join(b.bin, "longlink"), "-delay", "75ms", "-loss", "0.01", "-congestion", congestion, "-seed", strconv.Itoa(seed))
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := b.place.do(cmd.Start); err != nil {
		return nil, err
	}
	stop := func() {
		_ = stdin.Close() // the sign to end
		_ = cmd.Wait()    // how it ends is of no interest
	}
	type end struct{ Namespace, Address string }
	var told struct{ Near, Far end }
	if err := json.NewDecoder(stdout).Decode(&told); err != nil {
		stop()
		return nil, fmt.Errorf("longlink: %w", err)
	}
	near, err := enter(told.Near.Namespace)
	if err != nil {
		stop()
		return nil, err
	}
	far, err := enter(told.Far.Namespace)
	if err != nil {
		near.leave()
		stop()
		return nil, err
	}
	return &longLink{near: near, far: far, farAddr: told.Far.Address, end: func() {
		near.leave()
		far.leave()
		stop()
	}}, nil
}

// A crossing is one round over a long link.
type crossing struct {
	direct, through       float64 // seconds
	requests, connections int     // of sampan, at the upstream
	engine
}

// lossy compares a cold pull with a direct one over a link that is long and loses
// packets.
func (b *bench) lossy() (string, error) {
	t := table{head: []string{"sender", "blob", "direct, one connection", "through sampan", "× faster", "spread", "lines", "requests", "connections", "received / size", "target", "kept"}}
	for _, c := range []struct {
		congestion string
		size       int64
		rounds     int
		atOnce     int // rounds beside each other, each over a link of its own
		least      float64
	}{
		{"cubic", 8 << 20, b.rounds, b.rounds, 5}, // so slow that they do not disturb each other
		{"bbr", 256 << 20, b.few(3), 1, 1.2},
	} {
		rounds := make([]crossing, c.rounds)
		var all errgroup.Group
		all.SetLimit(c.atOnce)
		for i := range rounds {
			all.Go(func() (err error) {
				rounds[i], err = b.cross(c.congestion, i, c.size)
				return err
			})
		}
		if err := all.Wait(); err != nil {
			return "", fmt.Errorf("%s: %w", c.congestion, err)
		}
		of := func(value func(crossing) float64) (list []float64) {
			for _, r := range rounds {
				list = append(list, value(r))
			}
			return list
		}
		whole := func(value func(crossing) int) string {
			return fmt.Sprintf("%.0f", median(of(func(r crossing) float64 { return float64(value(r)) })))
		}
		direct, through := of(func(r crossing) float64 { return r.direct }), of(func(r crossing) float64 { return r.through })
		received := of(func(r crossing) float64 { return float64(r.received) / float64(c.size) })
		gains := ratios(direct, through)
		t.add(c.congestion, mib(c.size), seconds(median(direct)), seconds(median(through)), fmt.Sprintf("%.1f", median(gains)), spread(gains),
			whole(func(r crossing) int { return r.lines }), whole(func(r crossing) int { return r.requests }), whole(func(r crossing) int { return r.connections }),
			fmt.Sprintf("%.3f", median(received)), fmt.Sprintf("≥ %.1f", c.least), verdictLeast(median(gains), c.least))
	}
	return "A blob that is not there, over a link of 150 ms there and back on which one packet of a hundred gets lost each way, at no other bound; lines are the most that sampan had at a moment, requests and connections its own:\n\n" + t.String(), nil
}

// cross makes a link and pulls a blob over it, directly and through sampan.
func (b *bench) cross(congestion string, round int, size int64) (c crossing, err error) {
	link, err := b.longLink(congestion, round)
	if err != nil {
		return c, err
	}
	defer link.end()
	var up *registrytest.Registry
	err = link.far.do(func() (err error) {
		up, err = registrytest.Start(registrytest.Options{CountsOnly: true, Addr: link.farAddr + ":0"})
		return err
	})
	if err != nil {
		return c, err
	}
	defer func() { err = errors.Join(err, up.Close()) }()
	d := up.AddBlob(repository, size, uint64(round))
	here := *b
	here.place = link.near
	if c.direct, err = here.one(up.Host(), "", d); err != nil {
		return c, err
	}
	up.ResetCounts()
	c.through, c.engine, err = here.through(fmt.Sprintf("sampan-%s-%d", congestion, round), up.URL(), d)
	c.requests, c.connections = up.Count(registrytest.KindBlob), up.Connections()
	return c, err
}
