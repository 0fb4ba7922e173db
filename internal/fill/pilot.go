package fill

import (
	"cmp"
	"time"
)

// A pilot decides how many lines a fetch has, by trial: it doubles them, looks
// whether the total rate rose by a good part of what the new lines would bring if
// nothing but the line were in the way, looks longer when it rose by a small part,
// and goes back when it did not; from then on it tries less. The rule and its
// simulation are in docs/design/0003-lines.md.
//
// It knows no clock and no bytes but those it is told, so that a simulation can
// run it.
type pilot struct {
	most int // lines at the most
	want int // lines that there should be now

	settle time.Duration // how long new lines may take to reach their rate

	step    int           // lines that the next trial adds; 0 for twice as many
	base    int           // lines before the trial that is running
	rate    float64       // bytes per second that base gave
	since   time.Duration // when want was last changed
	mark    int64         // bytes at the end of the settling time
	settled bool
	hold    time.Duration // how long to stay before the next trial; doubled by each failure
	until   time.Duration // no trial before

	few, many int // lines since the mark, at the least and at the most
	spoilt    int // measurements in a row while their number changed
}

const (
	// leastSettle and mostSettle bound how long new lines may take to reach their
	// rate before it counts: three times what it took to the first answer, for
	// connecting, asking, and the start of TCP on a link around the world.
	leastSettle = 400 * time.Millisecond
	mostSettle  = 1500 * time.Millisecond
	// window is how long a rate is measured.
	window = 400 * time.Millisecond
	// share is the part of the ideal gain with which a trial has won after one
	// window. With less it is watched for patience windows, and has lost when it
	// brings less than little: chance gives as much in one window, and hardly in
	// three.
	share    = 0.4
	little   = 0.08
	patience = 3
	// maxSpoilt is how many measurements in a row are thrown away because lines came
	// and went meanwhile.
	maxSpoilt = 5
	// worth is how long a fetch must still have to run for a trial to pay.
	worth = 4 * time.Second
	// firstHold is the pause after a trial that failed.
	firstHold = 5 * time.Second
)

func newPilot(most int) *pilot {
	return &pilot{most: max(1, most), want: 1, base: 1, settle: leastSettle, hold: firstHold}
}

// answered takes how long it took to the first answer.
func (p *pilot) answered(took time.Duration) {
	p.settle = min(max(3*took, leastSettle), mostSettle)
}

// tell takes the time since the fetch began, how many lines there are, the bytes
// received so far and those that are missing, and returns how many lines there
// should be.
//
// There may be more lines than there should be: readers that wait have some of their
// own, and those of a trial that failed leave at the end of what they took. What they
// bring must not be taken for what fewer bring.
func (p *pilot) tell(now time.Duration, lines int, bytes, missing int64) int {
	elapsed := now - p.since
	if elapsed < p.settle {
		return p.want
	}
	if !p.settled {
		p.settled, p.mark, p.since = true, bytes, now-p.settle
		p.few, p.many = lines, lines
		return p.want
	}
	p.few, p.many = min(p.few, lines), max(p.many, lines)
	if elapsed < p.settle+window {
		return p.want
	}
	rate := float64(bytes-p.mark) / (elapsed - p.settle).Seconds()
	if p.want > p.base { // a trial
		switch {
		case rate >= p.gain(share, p.want):
		case elapsed < p.settle+patience*window:
			return p.want // look longer: bytes come in lumps
		case rate < p.gain(little, p.want):
			p.step = max(1, (p.want-p.base)/2)
			p.until, p.hold = now+p.hold, 2*p.hold
			p.change(now, p.base)
			return p.want
		}
	}
	if p.many > p.want && p.rate > 0 {
		switch {
		case p.few != p.many:
			if p.spoilt++; p.spoilt <= maxSpoilt {
				return p.again(now)
			}
		case rate >= p.gain(share, p.few):
			p.want = min(p.few, p.most) // they help: it is as if they had been tried
		default:
			return p.again(now)
		}
	}
	p.spoilt = 0
	p.base, p.rate = p.want, rate
	if p.want < p.most && now >= p.until && rate > 0 && float64(missing)/rate > worth.Seconds() {
		p.change(now, min(p.want+cmp.Or(p.step, p.want), p.most))
		return p.want
	}
	return p.again(now)
}

// again measures on, without a pause.
func (p *pilot) again(now time.Duration) int {
	p.settled, p.since = false, now-p.settle
	return p.want
}

// gain is the rate of so many lines of which those beyond the base bring a part of
// what they would if nothing but the line were in the way.
func (p *pilot) gain(part float64, lines int) float64 {
	return p.rate * (1 + part*float64(lines-p.base)/float64(p.base))
}

// change sets the number of lines and starts a measurement.
func (p *pilot) change(now time.Duration, want int) {
	p.want, p.since, p.settled = want, now, false
	if want < p.base {
		p.base = want
	}
}

// fail says that a line beyond the first could not be had: until the next trial
// there are only those that are left.
func (p *pilot) fail(now time.Duration, left int) {
	if left = max(1, left); p.want <= left {
		return
	}
	p.until, p.hold = now+p.hold, 2*p.hold
	p.base = min(p.base, left)
	p.change(now, left)
}
