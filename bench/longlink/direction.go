package main

import (
	"io"
	"math/rand/v2"
	"time"
)

const (
	// mtu is how large a packet may be, in bytes.
	mtu = 1500
	// most is how many packets may be on their way in one direction: 96 MB of
	// large ones, more than any link of ours holds.
	most = 64 << 10
)

// A direction carries packets one way, in order.
type direction struct {
	delay  time.Duration
	loss   float64 // part of the packets
	rate   int64   // bytes per second; 0 is any number
	queue  int64   // bytes that may wait for the rate
	random *rand.Rand

	free time.Time // when the last packet admitted has passed at the rate
}

func newDirection(o options, random *rand.Rand) *direction {
	return &direction{delay: o.delay, loss: o.loss, rate: o.rate, queue: o.queue, random: random}
}

// admit decides about a packet of size bytes that comes at now: when it arrives,
// or that it gets lost, by chance or because as many bytes wait as may. A packet
// lost by chance has taken its time of the rate.
func (d *direction) admit(now time.Time, size int) (arrives time.Time, ok bool) {
	passed := now
	if d.rate > 0 {
		if d.free.Before(now) {
			d.free = now
		}
		if waiting := d.free.Sub(now).Seconds() * float64(d.rate); waiting > float64(d.queue) {
			return time.Time{}, false
		}
		d.free = d.free.Add(time.Duration(float64(size) / float64(d.rate) * float64(time.Second)))
		passed = d.free
	}
	if d.loss > 0 && d.random.Float64() < d.loss {
		return time.Time{}, false
	}
	return passed.Add(d.delay), true
}

// A packet and when it arrives.
type packet struct {
	bytes   []byte
	arrives time.Time
}

// carry reads packets, one at each Read, and writes each when it arrives. It
// returns nil when from has ended and everything has been written, or the first
// error.
func (d *direction) carry(to io.Writer, from io.Reader) error {
	way := make(chan packet, most)
	ended := make(chan error, 1)
	go func() { ended <- deliver(to, way) }()
	buf := make([]byte, mtu)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			if arrives, ok := d.admit(time.Now(), n); ok {
				select {
				case way <- packet{append([]byte(nil), buf[:n]...), arrives}:
				case err := <-ended:
					return err
				}
			}
		}
		if err != nil {
			close(way)
			if werr := <-ended; err == io.EOF {
				err = werr
			}
			return err
		}
	}
}

func deliver(to io.Writer, way <-chan packet) error {
	for p := range way {
		time.Sleep(time.Until(p.arrives))
		if _, err := to.Write(p.bytes); err != nil {
			return err
		}
	}
	return nil
}
