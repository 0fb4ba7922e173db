// Command longlink is a long and bad link between two network namespaces, with
// the kernel's own TCP at both ends: each has a TUN device, and this program
// carries the packets between them, late, and not all of them.
//
//	longlink -delay 75ms -loss 0.01 -congestion cubic
//
// It prints one line of JSON when the link is up, with the file and the address
// of each end, and carries packets until its standard input ends or it is
// killed. The namespaces have no names and are held by this program and by whoever
// has entered them: however these end, the kernel removes them with their
// devices, and there is nothing to clean up.
//
// It needs to be root, and "ip" of iproute2. It knows IP packets as a number of
// bytes alone.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// The addresses of the ends; nobody else sees them.
const nearAddress, farAddress = "10.77.0.1", "10.77.0.2"

// options are the flags.
type options struct {
	delay      time.Duration
	loss       float64
	rate       int64
	queue      int64
	congestion string
	seed       uint64
}

// An end is told to whoever started the link.
type end struct {
	Namespace string `json:"namespace"` // a file to open for setns(2)
	Address   string `json:"address"`
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "longlink:", err)
		os.Exit(1)
	}
}

func parse() (options, error) {
	var o options
	flag.DurationVar(&o.delay, "delay", 75*time.Millisecond, "`time` that a packet takes each way")
	flag.Float64Var(&o.loss, "loss", 0.01, "`part` of the packets that get lost each way")
	flag.Int64Var(&o.rate, "rate", 0, "`bytes` per second each way, 0 for any number")
	flag.Int64Var(&o.queue, "queue", 256<<10, "`bytes` that may wait for the rate; packets beyond get lost")
	flag.StringVar(&o.congestion, "congestion", "cubic", "congestion control of both ends: `cubic`, bbr or another that the kernel has")
	flag.Uint64Var(&o.seed, "seed", 1, "`number` that decides which packets get lost")
	flag.Parse()
	if flag.NArg() > 0 || o.delay < 0 || o.loss < 0 || o.loss >= 1 || o.rate < 0 || o.queue < 0 {
		return o, errors.New("delay, rate and queue cannot be negative, loss is a part of 1, and there are no other arguments")
	}
	return o, nil
}

func run() error {
	o, err := parse()
	if err != nil {
		return err
	}
	// A link does not wait for its turn on a processor.
	if err := unix.Setpriority(unix.PRIO_PROCESS, 0, -20); err != nil {
		return err
	}
	near, err := newPlace(nearAddress, farAddress, o.congestion)
	if err != nil {
		return err
	}
	far, err := newPlace(farAddress, nearAddress, o.congestion)
	if err != nil {
		return err
	}
	broken := make(chan error, 3)
	for i, way := range []struct{ from, to io.ReadWriter }{{near.device, far.device}, {far.device, near.device}} {
		d := newDirection(o, rand.New(rand.NewPCG(o.seed, uint64(i))))
		go func() { broken <- d.carry(way.to, way.from) }()
	}
	go func() {
		_, err := io.Copy(io.Discard, os.Stdin) // its end is the sign
		broken <- err
	}()
	err = json.NewEncoder(os.Stdout).Encode(struct {
		Near end `json:"near"`
		Far  end `json:"far"`
	}{near.end, far.end})
	return errors.Join(err, <-broken)
}
