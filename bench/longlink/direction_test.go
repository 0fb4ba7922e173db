package main

import (
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"
)

// A device gives the packets of a list, each at its time, and then ends; and it
// notes when it gets which.
type device struct {
	began time.Time
	send  []sent
	got   []sent
}

// sent is a packet, known by its first byte, and the time since the beginning.
type sent struct {
	name byte
	size int
	at   time.Duration
}

func (d *device) Read(p []byte) (int, error) {
	if len(d.send) == 0 {
		return 0, io.EOF
	}
	next := d.send[0]
	d.send = d.send[1:]
	time.Sleep(next.at - time.Since(d.began))
	p[0] = next.name
	return next.size, nil
}

func (d *device) Write(p []byte) (int, error) {
	d.got = append(d.got, sent{p[0], len(p), time.Since(d.began)})
	return len(p), nil
}

func random() *rand.Rand { return rand.New(rand.NewPCG(7, 7)) }

func TestPackets(t *testing.T) {
	const ms = time.Millisecond
	for name, tt := range map[string]struct {
		o          options
		send, want []sent
	}{
		"arrive late, and each by itself": {
			options{delay: 75 * ms},
			[]sent{{'a', 100, 0}, {'b', 1500, 10 * ms}, {'c', 40, 10 * ms}, {'d', 40, 500 * ms}},
			[]sent{{'a', 100, 75 * ms}, {'b', 1500, 85 * ms}, {'c', 40, 85 * ms}, {'d', 40, 575 * ms}},
		},
		"wait for the rate, before the delay": {
			options{delay: 75 * ms, rate: 10_000, queue: 10_000},
			[]sent{{'a', 1000, 0}, {'b', 500, 0}, {'c', 1000, 20 * ms}, {'d', 1000, time.Second}},
			[]sent{{'a', 1000, 175 * ms}, {'b', 500, 225 * ms}, {'c', 1000, 325 * ms}, {'d', 1000, 1175 * ms}},
		},
		"get lost when too many wait": {
			options{delay: 75 * ms, rate: 10_000, queue: 1500},
			[]sent{{'a', 1000, 0}, {'b', 1000, 0}, {'c', 1000, 0}, {'d', 1000, 60 * ms}},
			[]sent{{'a', 1000, 175 * ms}, {'b', 1000, 275 * ms}, {'d', 1000, 375 * ms}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				from, to := &device{began: time.Now(), send: tt.send}, &device{began: time.Now()}
				if err := newDirection(tt.o, random()).carry(to, from); err != nil {
					t.Fatal(err)
				}
				if len(to.got) != len(tt.want) {
					t.Fatalf("%d packets arrived, want %d: %v", len(to.got), len(tt.want), to.got)
				}
				for i, got := range to.got {
					if want := tt.want[i]; got != want {
						t.Errorf("packet %d: %c of %d bytes at %v, want %c of %d at %v", i, got.name, got.size, got.at, want.name, want.size, want.at)
					}
				}
			})
		})
	}
}

func TestAHundredthGetsLost(t *testing.T) {
	const packets, loss = 200_000, 0.01
	d := newDirection(options{loss: loss}, random())
	lost, pairs, before := 0, 0, false
	for range packets {
		_, ok := d.admit(time.Time{}, mtu)
		if !ok {
			lost++
			if before {
				pairs++
			}
		}
		before = !ok
	}
	// Five standard deviations, and independent of each other: a ten-thousandth in a row.
	if far := math.Abs(float64(lost) - packets*loss); far > 5*math.Sqrt(packets*loss*(1-loss)) {
		t.Errorf("%d of %d got lost", lost, packets)
	}
	if pairs < 2 || pairs > 60 {
		t.Errorf("%d losses followed another one, of about %d", pairs, int(packets*loss*loss))
	}
}

func TestALostPacketTakesItsTimeOfTheRate(t *testing.T) {
	d := newDirection(options{rate: 1000, queue: 1 << 20, loss: 0.5}, random())
	var last time.Time
	now := time.Unix(0, 0)
	for range 100 {
		if arrives, ok := d.admit(now, 10); ok {
			last = arrives
		}
	}
	if took := last.Sub(now); took < 900*time.Millisecond || took > time.Second {
		t.Errorf("100 packets of a hundredth of a second each took %v", took)
	}
}

func TestTheLinkEndsWithItsDevice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// The reader's end is no error, the writer's is.
		if err := newDirection(options{delay: time.Second}, random()).carry(&device{}, &device{}); err != nil {
			t.Error(err)
		}
		from := &device{began: time.Now(), send: make([]sent, 10)}
		for i := range from.send {
			from.send[i] = sent{'x', 100, time.Duration(i) * time.Second}
		}
		if err := newDirection(options{}, random()).carry(gone{}, from); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("carrying to a device that is gone: %v", err)
		}
	})
}

// gone takes no packets.
type gone struct{}

func (gone) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }
