package upstream

import (
	"context"
	"errors"
	"io"
	"slices"
	"time"

	"sampan/internal/oci"
)

// errWhole: the endpoint sends the whole blob, whatever part it is asked for, and
// another one may not.
var errWhole = errors.New("the endpoint ignores ranges")

// A visit is the search of one part for an endpoint that sends it.
type visit struct {
	parts   *blobParts
	tried   []bool // the endpoints that were asked
	ignored []bool // those that ignored the range and may be asked once more
	stands  bool   // an answer was given: only endpoints in doubt are still asked
	asked   bool   // one of them was asked
	err     error  // what to say when nobody sends the part
}

// A rank is how little an endpoint is liked for a part.
type rank int

// The ranks, the best first.
const (
	plain     rank = iota
	wholly         // it ignores ranges
	failing        // its last part failed
	suspected      // it may have sent wrong bytes of this blob
	convicted      // it has
	ranks          // how many there are
)

// rank returns that of the way. The lock of its blobParts is held.
func (w *way) rank() rank {
	switch {
	case w.doubted == proven:
		return convicted
	case w.doubted == joint:
		return suspected
	case w.failed:
		return failing
	case w.whole:
		return wholly
	default:
		return plain
	}
}

// next chooses who is asked next: the best of those that have not been asked and are
// not left alone. It is nil when there is none.
func (v *visit) next() *watch {
	p := v.parts
	p.mu.Lock()
	defer p.mu.Unlock()
	further := p.spread
	for i := range p.ways {
		further = further || p.ways[i].open > 0
	}
	for r := plain; r < ranks; {
		i, ok := p.best(v, r, further)
		if !ok || v.stands && r < suspected {
			r++
			continue
		}
		v.tried[i] = true
		permit := p.registry.endpoints[i].admitBlob()
		if permit == nil {
			continue
		}
		v.asked = true
		p.ways[i].open++
		p.spread = p.spread || further && i != p.first
		if further {
			p.further++
		}
		choosy := r == plain && further && !v.ignored[i] && len(p.ways) > 1
		return &watch{parts: p, i: i, permit: permit, choosy: choosy, began: time.Now()}
	}
	return nil
}

// best returns the endpoint of a rank to ask: the first one in turn or, for a
// further line of the fetch, the one where the line will be fastest. Whoever has
// lately sent wrong bytes of other blobs gets no further lines, and gives none
// away, so that it can be told who sent what. The caller holds mu.
func (p *blobParts) best(v *visit, r rank, further bool) (int, bool) {
	rates, known := p.rates()
	first, found, most := -1, -1, 0.0
	for n := range p.ways {
		i := (p.first + n) % len(p.ways)
		if v.tried[i] || p.ways[i].rank() != r {
			continue
		}
		if first < 0 {
			first = i
		}
		// A fetch tries its first further line where it knows the way, and then
		// one at a time elsewhere: it is by their lines that it learns whether
		// more of them help.
		if p.suspect(i) || !known[i] && (p.further == 0 || p.ways[i].open > 0) {
			continue
		}
		if score := rates[i] / float64(p.ways[i].open+1); score > most {
			found, most = i, score
		}
	}
	if found >= 0 && further && r == plain && !p.suspect(p.first) {
		return found, true
	}
	return first, first >= 0
}

func (p *blobParts) suspect(i int) bool {
	return p.registry.doubts.suspect(p.registry.endpoints[i])
}

// rates returns what a line to each endpoint is thought to bring, in bytes per
// second, and of which this is known. What is not known, or was known long ago, is
// taken for the best.
func (p *blobParts) rates() (rates []float64, known []bool) {
	rates, known = make([]float64, len(p.ways)), make([]bool, len(p.ways))
	secs, best := make([]float64, len(p.ways)), 0.0
	for i, ep := range p.registry.endpoints {
		rates[i], secs[i] = ep.meter.rate()
		best = max(best, rates[i])
		known[i] = secs[i] >= guess
	}
	for i := range rates {
		rates[i] = (rates[i]*secs[i] + best*guess) / (secs[i] + guess)
	}
	if !slices.Contains(known, true) { // then all are alike
		for i := range rates {
			rates[i], known[i] = 1, true
		}
	}
	return rates, known
}

// ask puts the question for the part to an endpoint, and to a second one where the
// first one is slow and that is wanted. It is final when the part is on its way and
// when the asker has left; others are to be asked otherwise.
func (v *visit) ask(ctx context.Context, w *watch, from, to int64) (part oci.BlobPart, final bool, err error) {
	p := v.parts
	contend := func(w *watch, second bool) contender[oci.BlobPart] {
		return contender[oci.BlobPart]{
			ask: func(ctx context.Context) (oci.BlobPart, error) { return p.partAt(ctx, w, from, to) },
			ended: func(_ oci.BlobPart, err error) bool {
				if second {
					p.registry.metrics.hedged(err == nil)
				}
				if err != nil {
					v.failed(ctx, w, err)
					return ctx.Err() != nil
				}
				w.opened()
				return true
			},
			lost: func(part oci.BlobPart, err error) {
				if second {
					p.registry.metrics.hedged(false)
				}
				if err == nil {
					_ = part.Body.Close() // nobody reads it
					return
				}
				w.close()
				p.registry.late(ctx, turn{w.endpoint(), w.permit}, err)
			},
		}
	}
	c := contend(w, false)
	delay := p.registry.hedgeAfter(w.permit)
	if delay == 0 {
		part, err = c.ask(ctx)
		return part, c.ended(part, err), err
	}
	part, release, err := race(ctx, delay, c, func() (contender[oci.BlobPart], bool) {
		w := v.next()
		if w == nil {
			return contender[oci.BlobPart]{}, false
		}
		return contend(w, true), true
	})
	if err != nil {
		release()
		return part, ctx.Err() != nil, err
	}
	part.Body = &released{part.Body, release}
	return part, true, nil
}

// A released body ends the context that its answer lives on.
type released struct {
	io.ReadCloser
	release context.CancelFunc
}

// Close implements [io.Closer].
func (r *released) Close() error {
	defer r.release()
	return r.ReadCloser.Close()
}

// failed takes note of an endpoint that did not send the part.
func (v *visit) failed(ctx context.Context, w *watch, err error) {
	r, trusted := v.parts.registry, !w.endpoint().blobsOnly
	sent := w.close()
	r.settle(ctx, w.permit, w.endpoint(), err)
	switch {
	case ctx.Err() != nil:
		v.err = err
		return
	case errors.Is(err, errWhole):
		v.tried[w.i], v.ignored[w.i] = false, true
		return
	case v.stands:
		return
	case oci.IsAnswer(err) && trusted && !sent:
		v.stands, v.err = true, err
		return
	case oci.IsAnswer(err) && !trusted:
		err = r.noAnswer(err, "has no endpoint that sends the blob")
	}
	v.parts.failed(w.i)
	if trusted || v.err == nil {
		v.err = err
	}
}

// A watch looks at how an endpoint serves one part.
type watch struct {
	parts  *blobParts
	i      int // of the endpoint
	permit *permit
	choosy bool // an answer that ignores the range is not taken
	began  time.Time
	total  int64 // bytes that have come
	failed bool  // the permit was told so

	// What the meter has not been told.
	bytes int64
	busy  time.Duration
	// What the line has brought lately.
	lately     int64
	latelyBusy time.Duration
}

// opened says that the part is on its way.
func (w *watch) opened() {
	w.busy = time.Since(w.began)
	p := w.parts
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.blamed {
		for i := range p.ways {
			p.ways[i].sent = false
		}
		p.blamed = false
	}
	p.ways[w.i].sent, p.ways[w.i].failed = true, false
}

// received says that a Read has brought n bytes.
func (w *watch) received(n int, took time.Duration) {
	w.bytes += int64(n)
	w.busy += took
	if w.busy >= measureEvery {
		w.measure()
	}
	if before := w.total; before < aliveBytes && before+int64(n) >= aliveBytes {
		w.permit.ok()
	}
	w.total += int64(n)
	w.lately += int64(n)
	w.latelyBusy += took
}

// slow tells whether the rest of the part, of left bytes, would come much sooner from
// another endpoint. It is, at the most, for lines of a fetch that is spread: others
// take no lines of an endpoint that was slow, so that this is not told again and
// again.
func (w *watch) slow(left int64) bool {
	if w.latelyBusy < slowAfter {
		return false
	}
	rate := float64(w.lately) / w.latelyBusy.Seconds()
	w.lately, w.latelyBusy = 0, 0
	p := w.parts
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.spread || float64(left) < rate*slowAfter.Seconds() {
		return false
	}
	for i, ep := range p.registry.endpoints {
		if i == w.i || p.ways[i].rank() != plain || p.suspect(i) {
			continue
		}
		if other, known := ep.meter.rate(); known >= 1 && other > rate*muchFaster {
			return true
		}
	}
	return false
}

// measure tells the meter what a line brings, unless it was so little and so soon
// that this says more about the way to the first byte.
func (w *watch) measure() {
	if w.bytes < leastMeasured && w.busy < longestUnmeasured {
		return
	}
	w.endpoint().meter.tell(w.bytes, w.busy)
	w.bytes, w.busy = 0, 0
}

// broke says that the body broke off or stood still; moved tells that it is storage
// that sent it. One that broke after it had brought something comes from somebody who
// is alive.
func (w *watch) broke(err error, moved bool) {
	w.parts.failed(w.i)
	if stalled := errors.Is(err, errStalled); stalled || w.total < aliveBytes {
		w.failed = true
		r := w.parts.registry
		w.permit.failed(err, &outage{hang: stalled, moved: moved}, r.othersUp(w.endpoint(), moved))
	}
}

// ended says that nothing more of the body will be read, at its end or before.
func (w *watch) ended(end bool) {
	w.measure()
	w.close()
	switch {
	case w.failed:
	case end || w.total > 0:
		w.permit.ok()
	default:
		w.permit.void()
	}
}

func (w *watch) endpoint() *endpoint { return w.parts.registry.endpoints[w.i] }

// close ends the watch and tells whether anybody has sent a part of the blob yet.
func (w *watch) close() (sent bool) {
	p := w.parts
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ways[w.i].open--
	for i := range p.ways {
		sent = sent || p.ways[i].sent
	}
	return sent
}
