package fill

import (
	"context"
	"errors"
	"fmt"
	"time"

	"sampan/internal/oci"
	"sampan/internal/store"
)

// chunk is how many bytes are read from a source at once, at most.
const chunk = 256 << 10

// steerEvery is how often the number of lines is thought over.
const steerEvery = 100 * time.Millisecond

// partTime is how long the part that a line takes should keep it busy.
const partTime = 2 * time.Second

// unsizedPause is the longest that clients without an answer wait for a source that
// says when to come back.
const unsizedPause = 2 * time.Second

// errNoRanges: the source sends everything, whatever part it is asked for.
var errNoRanges = errors.New("upstream honours no ranges")

// errNoGaps: the store takes bytes in order only.
var errNoGaps = errors.New("the store takes nothing behind a gap")

// fetch brings the missing bytes, over as many lines, attempts and sources as it
// takes. It returns when all are here and hashed.
func (f *flight) fetch(ctx context.Context) error {
	hashing, stopHashing := context.WithCancel(ctx)
	fetching, stopFetching := context.WithCancelCause(ctx)
	defer stopFetching(nil)
	hashed := make(chan error, 1)
	go func() {
		err := f.hash(hashing)
		if err != nil {
			stopFetching(err) // it would be for nothing
		}
		hashed <- err
	}()
	err := f.fetchAll(fetching)
	stopHashing()
	if herr := <-hashed; err == nil {
		err = herr
	}
	if err == nil {
		err = f.proof.catchUp(f)
	}
	return err
}

// hash follows the growing beginning of the blob until ctx is done.
func (f *flight) hash(ctx context.Context) error {
	for {
		select {
		case <-f.proof.arrived:
			if err := f.proof.catchUp(f); err != nil {
				return fmt.Errorf("fill %s: %w", f.digest, err)
			}
		case <-ctx.Done():
			return nil
		}
	}
}

func (f *flight) fetchAll(ctx context.Context) error {
	for failures := 0; ; {
		before := f.total()
		err := f.fly(ctx)
		if err == nil && f.complete() {
			return nil
		}
		if err == nil {
			continue
		}
		if ctx.Err() != nil {
			return fmt.Errorf("fill %s: %w", f.digest, context.Cause(ctx))
		}
		switch {
		case past(err):
			return fmt.Errorf("fill %s: %w", f.digest, err)
		case oci.CodeOf(err) == oci.CodeRangeInvalid && f.fromBeginning(), errors.Is(err, errNoGaps):
			continue
		case errors.Is(err, errBeyond), oci.CodeOf(err) == oci.CodeRangeInvalid && f.prefix() > 0:
			if again, err := f.behindEnd(); !again || err != nil {
				return err
			}
			continue
		}
		if f.total() > before {
			failures = 0
		}
		failures++
		if f.hopeless(err) || failures >= f.tries() {
			if !f.dropSource(err) {
				return err
			}
			failures = 0
			continue
		}
		f.group.metrics.retries.Inc()
		f.group.o.Log.Info("fetch interrupted, continuing", "digest", f.digest, "bytes", f.total(), "err", err)
		var e *oci.Error
		var after time.Duration
		if errors.As(err, &e) {
			after = e.RetryAfter
		}
		if err := f.pause(ctx, failures, after); err != nil {
			return err
		}
	}
}

// hopeless tells whether asking the same source again makes no sense. A rate
// limit, and a source that says it will be down for a while, are waited for only when
// readers have been promised the blob.
func (f *flight) hopeless(err error) bool {
	var e *oci.Error
	if errors.Is(err, oci.ErrTooManyRequests) || errors.As(err, &e) && e.RetryAfter > unsizedPause {
		return !f.sized()
	}
	return oci.IsAnswer(err) || errors.Is(err, errSize)
}

// fromBeginning makes a fetch that was to begin where its first reader does begin
// as any other: there is nothing at that place. False: it does already, or has
// brought something.
func (f *flight) fromBeginning() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	again := f.start > 0 && f.plan.size < 0
	f.start = 0
	return again
}

// tries is the bound on attempts in a row without a byte.
func (f *flight) tries() int {
	if !f.sized() {
		return min(2, f.group.o.Tries)
	}
	return f.group.o.Tries
}

func (f *flight) sized() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.plan.size >= 0
}

func (f *flight) total() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.received
}

// behindEnd answers an upstream that says there is nothing at the offset reached.
// What is here may be all of it, though a longer size was told; the digest will
// say. Otherwise it is worth nothing, and while no reader has seen a byte of it
// the fetch begins again.
func (f *flight) behindEnd() (again bool, err error) {
	if err := f.proof.catchUp(f); err != nil {
		return false, fmt.Errorf("fill %s: %w", f.digest, err)
	}
	if f.sized() || f.digest.Matches(f.proof.h) {
		return false, nil
	}
	if err := f.reset(); err != nil {
		return false, fmt.Errorf("fill %s: %w", f.digest, err)
	}
	return true, nil
}

// fly runs one line, and further ones as the pilot says, until everything is
// here (nil) or the last line has failed.
func (f *flight) fly(ctx context.Context) error {
	src := f.source()
	if err := f.turn(ctx, src.Upstream); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error)
	running := 0
	began, before := time.Now(), f.total()
	start := func(first bool) {
		running++
		length := f.share(time.Since(began), before)
		f.lineStarted()
		go func() {
			err := f.line(ctx, src, first, length)
			f.group.limits.release(src.Upstream)
			ended <- err
		}()
	}
	defer func() {
		cancel()
		for ; running > 0; running-- {
			<-ended
		}
	}()
	pilot := newPilot(f.group.o.Lines)
	start(true)
	steer := time.NewTicker(steerEvery)
	defer steer.Stop()
	for {
		select {
		case err := <-ended:
			running--
			if f.complete() {
				return nil
			}
			if running == 0 {
				return err // nil: it left when there was nothing to share, and there is again
			}
			if err != nil {
				pilot.fail(time.Since(began), running)
			}
			continue // a line that found nothing to do is not followed by another at once
		case <-steer.C:
		case <-f.poke:
		}
		want := f.wanted(pilot, time.Since(began))
		before := running
		for running > 0 && running < want && f.group.limits.try(src.Upstream) {
			start(false)
		}
		if running == before {
			f.giveWay()
		}
	}
}

// share is how many bytes a new line should take: what one of those running
// brings in the time that a part should take.
func (f *flight) share(elapsed time.Duration, before int64) int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	if elapsed <= 0 || f.lines == 0 {
		return minPart
	}
	return int64(float64(f.received-before) / elapsed.Seconds() / float64(f.lines) * partTime.Seconds())
}

// wanted asks the pilot, and adds a line when a reader waits where nobody is on
// the way to.
func (f *flight) wanted(p *pilot, now time.Duration) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.meter.tell(time.Now(), f.received)
	f.want = 1
	if f.plan.size < 0 || f.single || f.ordered || f.quiet {
		return 1
	}
	p.answered(f.answer)
	f.want = p.tell(now, f.lines, f.received, f.plan.size-f.plan.have.Total())
	if _, waits := f.plan.urgent(time.Now()); waits {
		f.want = max(f.want, min(f.lines+1, f.group.o.Lines))
	}
	return f.want
}

// giveWay makes room for a reader who still waits in vain although there are as
// many lines as can be had.
func (f *flight) giveWay() {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	if _, waits := f.plan.urgent(now); !waits || f.single || f.ordered || f.quiet {
		return
	}
	f.plan.giveWay(now)
}

func (f *flight) lineStarted() {
	f.group.metrics.lines.Inc()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lines++
}

// lineEnded counts a line out. The caller holds mu.
func (f *flight) lineEnded() {
	f.group.metrics.lines.Dec()
	f.lines--
}

func (f *flight) complete() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.plan.size >= 0 && f.plan.have.Covers(0, f.plan.size)
}

// line fetches part after part until there is nothing left to take, or fewer lines
// do. A part that breaks after it brought something is taken up again by whoever
// is next.
func (f *flight) line(ctx context.Context, src Source, first bool, length int64) error {
	buf := make([]byte, chunk)
	for {
		c, open, ok := f.claim(src, first, length)
		if !ok {
			return nil
		}
		began, from := time.Now(), c.at
		err := f.part(ctx, src, c, open, buf)
		if errors.Is(err, store.ErrUnwritable) && f.refusesGaps(c) {
			err = errNoGaps
		} else if err != nil && c.done > from && ctx.Err() == nil && !errors.Is(err, store.ErrUnwritable) {
			f.group.metrics.retries.Inc()
			err = f.broke(ctx, c.done-from)
		}
		took := time.Since(began)
		f.mu.Lock()
		f.plan.drop(c)
		if err != nil {
			f.lineEnded()
		}
		f.mu.Unlock()
		if err != nil {
			return err
		}
		first = first && !f.sized()
		if took > 0 {
			length = int64(float64(c.done-from) / took.Seconds() * partTime.Seconds())
		}
	}
}

// refusesGaps tells whether what the store refused was behind a gap; then the fetch
// goes on in order.
func (f *flight) refusesGaps(c *claim) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ordered || c.at == c.done || c.done <= f.plan.have.EndOf(0) { // or it was not about bytes
		return false
	}
	f.ordered, f.start = true, 0
	f.group.o.Log.Warn("store refuses bytes behind a gap, fetching in order", "digest", f.digest)
	return true
}

// broke waits after a part that broke and had brought got bytes: not at all, unless
// all lines bring little, again and again.
func (f *flight) broke(ctx context.Context, got int64) error {
	f.mu.Lock()
	f.breaks++
	if got >= minPart {
		f.breaks = 0
	}
	breaks := f.breaks
	f.mu.Unlock()
	if breaks <= f.group.o.Tries {
		return nil
	}
	return f.pause(ctx, breaks-f.group.o.Tries, 0)
}

// claim takes the next part. The first one, while the size is not known, is
// everything behind what is here; it is asked for without an end. Not ok: the
// line is counted out.
func (f *flight) claim(src Source, first bool, length int64) (c *claim, open, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	spare := f.lines > 1 && (f.lines > max(1, f.want) || f.group.limits.crowded(src.Upstream))
	switch {
	case f.plan.size < 0 && first:
		c, open, ok = f.plan.restFrom(f.start), true, true
	case f.plan.size < 0 || spare:
	case f.single, f.ordered:
		c = f.plan.rest()
		ok = c != nil
	default:
		c, ok = f.plan.next(time.Now(), length, f.lines == 1)
	}
	if !ok {
		f.lineEnded()
	}
	return c, open, ok
}
