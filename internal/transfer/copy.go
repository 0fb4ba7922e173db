package transfer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"sampan/internal/oci"
	"sampan/internal/progress"
)

// Defaults of [Options].
const (
	defaultBlobs   = 6
	defaultImages  = 4
	defaultLookups = 8
)

// A Collision is two sources that would have the same name at the target.
type Collision struct {
	Target  oci.Reference
	Sources [2]oci.Reference
}

// Error implements error.
func (e *Collision) Error() string {
	return fmt.Sprintf("%s and %s would both become %s", e.Sources[0], e.Sources[1], e.Target)
}

// ErrHeldBack is what [errors.Is] finds in the Result of a job that could have been done,
// of which nothing was sent because of another. The error of Copy tells the other's alone.
var ErrHeldBack = errors.New("nothing of it was sent, because of what else is wrong")

// A Failed is the error of one job of [Copy].
type Failed struct {
	Source oci.Reference
	Err    error // never nil
}

// Error implements error.
func (e *Failed) Error() string { return fmt.Sprintf("copy %s: %v", e.Source, e.Err) }

// Unwrap returns why.
func (e *Failed) Unwrap() error { return e.Err }

// Copy carries the jobs to a writer. First it looks at all of them: at the sources,
// and at what the target has of them. Two jobs of one name with different content
// are a [*Collision], and nothing is done. When any job cannot be done, nothing is
// sent either, unless Options.KeepGoing is set: the others fail with [ErrHeldBack]. A job
// that fails later keeps no other from going.
//
// The error joins those of all jobs, a [*Failed] each; the end of ctx is in it once, however many jobs it
// has stopped. The Report has a Result for each job, whatever the error is.
func Copy(ctx context.Context, jobs []Job, w Writer, o Options) (Report, error) {
	c := newCopier(w, o)
	images := make([]*image, len(jobs))
	for i, job := range jobs {
		images[i] = &image{job: job, result: Result{Job: job}}
	}
	gone, err := c.all(ctx, images)
	errs := []error{err}
	stopped := false
	for _, im := range images {
		switch r := &im.result; {
		case r.Err != nil && ctx.Err() != nil && errors.Is(r.Err, ctx.Err()):
			stopped = true
		case r.Err != nil:
			errs = append(errs, &Failed{im.job.Source, r.Err})
		case !gone && !r.Unchanged:
			r.Err = ErrHeldBack
		}
	}
	if stopped {
		errs = append(errs, ctx.Err())
	}
	return c.report(images), errors.Join(errs...)
}

// all looks at all images and then carries them, and tells whether it came to that. Its
// error is of none of them alone.
func (c *copier) all(ctx context.Context, images []*image) (bool, error) {
	if err := named(images, func(*image) oci.Digest { return oci.Digest{} }); err != nil {
		return false, err
	}
	c.each(ctx, images, max(c.o.Images, c.o.Lookups), c.plan)
	// Tags are known by now: what they point at may be the same after all, or not.
	if err := named(images, func(im *image) oci.Digest { return im.result.Descriptor.Digest }); err != nil {
		return false, err
	}
	c.locate(ctx, images)
	c.note(ctx, images)
	if c.mayGoOn(images) && !c.o.DryRun {
		c.each(ctx, images, c.o.Images, c.refused)
	}
	if !c.mayGoOn(images) {
		return false, nil
	}
	c.expect(ctx, images)
	if !c.o.DryRun {
		c.each(ctx, images, c.o.Images, c.carry)
	}
	return true, nil
}

// mayGoOn tells whether anything is to be done after what has failed so far.
func (c *copier) mayGoOn(images []*image) bool {
	return c.o.KeepGoing || !slices.ContainsFunc(images, func(im *image) bool { return im.result.Err != nil })
}

// named refuses two sources on one name. What is known to have the same digest is one
// source; a zero digest is not known yet, and then only repositories and tags count
// that cannot be the same.
func named(images []*image, digest func(*image) oci.Digest) error {
	type name struct {
		repo oci.Repository
		tag  oci.Tag
	}
	first := map[name]*image{}
	for _, im := range images {
		job := im.job
		for _, tag := range job.Tags {
			k := name{job.Target, tag}
			before := first[k]
			if before == nil {
				first[k] = im
				continue
			}
			a, b, other := digest(im), digest(before), before.job
			same := other.Source == job.Source && slices.Equal(other.Platforms, job.Platforms)
			if same || !a.IsZero() && a == b {
				continue
			}
			if a.IsZero() && b.IsZero() && other.Source.Repository == job.Source.Repository && other.Source.Tag != job.Source.Tag {
				continue // two tags of one repository may be the same image: see later
			}
			return &Collision{Target: oci.Reference{Repository: job.Target, Tag: tag}, Sources: [2]oci.Reference{other.Source, job.Source}}
		}
	}
	return nil
}

// A copier is one run of Copy.
type copier struct {
	w     Writer
	o     Options
	blobs chan struct{} // a place for each blob that may move at once
	// lookups has a place for each question that may be asked at once.
	lookups chan struct{}

	mu      sync.Mutex
	heard   map[party]bool // that have given an answer
	byBlob  map[oci.Digest]*blobState
	byPut   map[place]*flight
	sent    Count
	present Count
	notes   []Note
}

// A place is content of a repository at the target.
type place struct {
	repo   oci.Repository
	digest oci.Digest
}

func newCopier(w Writer, o Options) *copier {
	if o.Blobs <= 0 {
		o.Blobs = defaultBlobs
	}
	if o.Images <= 0 {
		o.Images = defaultImages
	}
	if o.Lookups <= 0 {
		o.Lookups = defaultLookups
	}
	if o.Progress == nil {
		o.Progress = progress.None()
	}
	if o.Pause == nil {
		o.Pause = Backoff
	}
	return &copier{
		w: w, o: o, blobs: make(chan struct{}, o.Blobs), lookups: make(chan struct{}, o.Lookups),
		heard: map[party]bool{}, byBlob: map[oci.Digest]*blobState{}, byPut: map[place]*flight{},
	}
}

// each does a step for all images that have not failed, as many at once as limit says.
func (c *copier) each(ctx context.Context, images []*image, limit int, step func(context.Context, *image) error) {
	var g errgroup.Group
	g.SetLimit(limit)
	for _, im := range images {
		if im.result.Err != nil {
			continue
		}
		g.Go(func() error {
			im.result.Err = step(ctx, im)
			return nil
		})
	}
	_ = g.Wait() // each image has its own error
}

// note asks the target what a person should know beforehand. Where it does not answer, the
// images that go there cannot be looked at.
func (c *copier) note(ctx context.Context, images []*image) {
	n, ok := c.w.(Noter)
	if !ok {
		return
	}
	to := map[oci.Repository][]*image{}
	var order []oci.Repository
	for _, im := range images {
		if im.result.Err != nil {
			continue
		}
		if to[im.job.Target] == nil {
			order = append(order, im.job.Target)
		}
		to[im.job.Target] = append(to[im.job.Target], im)
	}
	for _, repo := range order {
		referrers := slices.ContainsFunc(to[repo], func(im *image) bool { return im.attached })
		notes, err := ask(ctx, c, party{repo.Registry(), true}, func() ([]Note, error) { return n.Notes(ctx, repo, referrers) })
		for _, im := range to[repo] {
			im.result.Err = err
		}
		c.notes = append(c.notes, notes...)
	}
	if c.o.Noted != nil && len(c.notes) > 0 {
		c.o.Noted(c.notes)
	}
}

func (c *copier) report(images []*image) Report {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := Report{Notes: c.notes, Sent: c.sent, Present: c.present}
	for _, im := range images {
		r.Images = append(r.Images, im.result)
	}
	return r
}

// Backoff waits for what the error says, where it says something within five minutes,
// or else for half a second, doubled each time, up to 15 seconds. After six times, and
// where asking again makes no sense, it returns err.
func Backoff(ctx context.Context, n int, err error) error {
	const most, longest = 6, 5 * time.Minute
	if n > most || ctx.Err() != nil || oci.IsAnswer(err) {
		return err
	}
	wait := min(time.Second/4<<n, 15*time.Second)
	var e *oci.Error
	if errors.As(err, &e) && e.RetryAfter > 0 {
		if e.RetryAfter > longest {
			return err
		}
		wait = e.RetryAfter
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
