package fill

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// A simulated link: what its lines bring in one step of the pilot.
type simulated struct {
	each, all float64       // bytes per second of one line, and of all; 0 is no limit
	latency   time.Duration // until a new line brings its first byte
	ramp      time.Duration // until it brings all it can
	power     float64       // of all, where n lines bring n to this power times what one brings; 0 is 1
	noise     float64       // by how much of its rate a line differs from one second to the next
}

type flown struct {
	took    time.Duration
	most    int // lines at one time
	last    int // lines at the end
	changes int // of the number of lines
}

// fly fetches size bytes with at most most lines.
func (l simulated) fly(size int64, most int) flown {
	random := rand.New(rand.NewPCG(1, 2))
	p := newPilot(most)
	p.answered(2 * l.latency)
	out := flown{most: 1, last: 1}
	lines := []time.Duration{0} // when each was begun
	luck := []float64{1}
	var got float64
	for now := time.Duration(0); ; now += steerEvery {
		if got >= float64(size) {
			out.took = now
			return out
		}
		want := p.tell(now, len(lines), int64(got), size-int64(got))
		if want != len(lines) {
			out.changes++
		}
		for len(lines) < want {
			lines, luck = append(lines, now), append(luck, 1)
		}
		lines, luck = lines[:want], luck[:want]
		out.most, out.last = max(out.most, want), want
		got += l.step(now, lines, luck, random) * steerEvery.Seconds()
	}
}

// step is the rate of all lines now.
func (l simulated) step(now time.Duration, lines []time.Duration, luck []float64, random *rand.Rand) float64 {
	var rate float64
	for i, began := range lines {
		if now%time.Second == 0 {
			luck[i] = 1 + l.noise*(2*random.Float64()-1)
		}
		age := now - began - l.latency
		if age < 0 {
			continue
		}
		one := l.each
		if one == 0 {
			one = l.all
		}
		if age < l.ramp {
			one *= age.Seconds() / l.ramp.Seconds()
		}
		rate += one * luck[i]
	}
	if l.power > 0 && len(lines) > 0 {
		rate *= math.Pow(float64(len(lines)), l.power-1)
	}
	if l.all > 0 {
		rate = min(rate, l.all)
	}
	return rate
}

// ideal is how long all lines at once would take, from the start.
func (l simulated) ideal(size int64, most int) time.Duration {
	rate := l.each * float64(most)
	if l.power > 0 {
		rate = l.each * math.Pow(float64(most), l.power)
	}
	if l.all > 0 && (rate == 0 || rate > l.all) {
		rate = l.all
	}
	return l.latency + time.Duration(float64(size)/rate*float64(time.Second))
}

// The table of docs/design/0003-lines.md is what this test prints with -v.
func TestPilotOverSimulatedLinks(t *testing.T) {
	ms := time.Millisecond
	t.Log("| link | blob | lines | changes | time | one line | all at once |")
	t.Log("|---|---|---|---|---|---|---|")
	for _, tc := range []struct {
		name    string
		link    simulated
		size    int64
		least   int     // lines that it must come to
		most    int     // and may try
		end     int     // it must not have more when it ends
		over    float64 // of the ideal, in time
		changes int
	}{
		{"4 MB/s a connection, 150 ms", simulated{each: 4e6, latency: 150 * ms, ramp: 300 * ms}, 256 * mib, 16, 16, 16, 2, 4},
		{"4 MB/s a connection, 150 ms", simulated{each: 4e6, latency: 150 * ms, ramp: 300 * ms}, 2048 * mib, 16, 16, 16, 1.15, 4},
		{"4 MB/s a connection, 20 MB/s in all", simulated{each: 4e6, all: 20e6, latency: 100 * ms}, 1024 * mib, 5, 16, 8, 1.15, 12},
		{"1 % loss, 150 ms: 0.12 MB/s a connection, uneven", simulated{each: 0.12e6, latency: 150 * ms, ramp: 300 * ms, noise: 0.5}, 64 * mib, 8, 16, 16, 2, 12},
		{"1 % loss, 150 ms, bbr: 4.6 MB/s one, 6.6 eight, uneven", simulated{each: 4.6e6, latency: 150 * ms, ramp: 600 * ms, power: 0.17, noise: 0.1}, 256 * mib, 2, 16, 16, 1.5, 16},
		{"slow link, shared: 2 MB/s", simulated{all: 2e6, latency: 50 * ms, ramp: 200 * ms}, 128 * mib, 1, 2, 2, 1.03, 12},
		{"100 MB/s, 20 ms, shared", simulated{all: 100e6, latency: 20 * ms, ramp: 100 * ms}, 256 * mib, 1, 2, 2, 1.05, 2},
		{"shared and uneven: 10 MB/s", simulated{all: 10e6, latency: 50 * ms, noise: 0.3}, 1024 * mib, 1, 4, 4, 1.2, 14},
		{"fast: 500 MB/s", simulated{each: 500e6, latency: ms}, 256 * mib, 1, 1, 1, 1, 0},
		{"small blob over 4 MB/s", simulated{each: 4e6, latency: 150 * ms}, 4 * mib, 1, 1, 1, 1, 0},
	} {
		got, one, ideal := tc.link.fly(tc.size, 16), tc.link.fly(tc.size, 1), tc.link.ideal(tc.size, 16)
		t.Logf("| %s | %d MiB | %d | %d | %.1f s | %.1f s | %.1f s |", tc.name, tc.size/mib, got.most, got.changes,
			got.took.Seconds(), one.took.Seconds(), ideal.Seconds())
		if got.most < tc.least || got.most > tc.most {
			t.Errorf("%s: %d lines, want %d to %d", tc.name, got.most, tc.least, tc.most)
		}
		if got.last > tc.end {
			t.Errorf("%s: %d lines at the end, want at most %d", tc.name, got.last, tc.end)
		}
		if tc.most == 1 { // too short for a trial
			ideal = one.took
		}
		if got.took > time.Duration(tc.over*float64(ideal))+steerEvery {
			t.Errorf("%s: %v, want %.2f times %v", tc.name, got.took, tc.over, ideal)
		}
		if got.changes > tc.changes {
			t.Errorf("%s: the number of lines was changed %d times", tc.name, got.changes)
		}
	}
}

func TestPilotFlies(t *testing.T) {
	t.Run("a line that is refused is tried again later", func(t *testing.T) {
		p := newPilot(16)
		fly := func(from, to time.Duration) (want int) {
			for now := from; now < to; now += steerEvery {
				want = p.tell(now, p.want, int64(now.Seconds()*float64(p.want)*1e6), 1<<30)
			}
			return want
		}
		if want := fly(0, time.Second); want != 2 {
			t.Fatalf("%d lines after a second", want)
		}
		p.fail(time.Second, 1)
		if want := fly(time.Second, firstHold); want != 1 {
			t.Errorf("%d lines while it holds", want)
		}
		if want := fly(firstHold, time.Second+firstHold+leastSettle+window); want != 2 {
			t.Errorf("%d lines after the hold", want)
		}
	})
	t.Run("what lines bring that a reader has of his own is not taken for what fewer bring", func(t *testing.T) {
		p := newPilot(16)
		var bytes float64
		lines := 1
		for now := time.Duration(0); now < 15*time.Second; now += steerEvery {
			lines = p.tell(now, lines, int64(bytes), 1<<30)
			rate := 1e6 // at first a second line brings nothing, and then as much as the first
			if now > 6800*time.Millisecond {
				if now < 9*time.Second {
					lines = max(lines, 2)
				}
				rate *= float64(min(lines, 2))
			}
			bytes += rate * steerEvery.Seconds()
		}
		if p.want != 2 {
			t.Errorf("%d lines, where two bring twice as much", p.want)
		}
	})
	t.Run("one line is the most", func(t *testing.T) {
		if got := (simulated{each: 1e6}).fly(64*mib, 1); got.most != 1 {
			t.Errorf("%d lines", got.most)
		}
	})
}
