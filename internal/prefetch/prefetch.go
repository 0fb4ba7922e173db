// Package prefetch brings whole images here before anybody asks for them.
//
// It asks an [oci.Reader], the cache, as a client would that pulls and throws away
// what it gets: so what is here already costs nothing, a blob that somebody else
// fetches is fetched once, and nothing is believed that is not proven. Images wait
// for one another, a few at a time; what became of the last ones can be looked up.
//
// It decides nothing about who may have what: whoever may ask for it here may have
// it fetched.
//
// Lock order: Prefetcher.mu is a leaf.
package prefetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"sampan/internal/oci"
)

// Options of a [Prefetcher]. Reader and Log are needed.
type Options struct {
	Reader oci.Reader
	// Done is called after each image that came, to have pins take in what is new;
	// nil for nobody.
	Done func()
	Log  *slog.Logger
}

const (
	// atOnce is how many images are brought at a time, and blobsAtOnce how many
	// blobs of each.
	atOnce, blobsAtOnce = 2, 4
	// maxJobs bounds the images that are waiting or running, and keepJobs those that
	// have ended and are still told of.
	maxJobs, keepJobs = 1000, 200
)

// A State is how far a job is.
type State string

// The states.
const (
	Waiting  State = "waiting"
	Running  State = "running"
	Done     State = "done"
	Failed   State = "failed"
	Canceled State = "canceled"
)

// A Job is one image that is to be here.
type Job struct {
	ID    int    `json:"id"`
	Image string `json:"image"`
	// Platforms are those wanted, as os/architecture or os/architecture/variant; empty
	// is all.
	Platforms []string `json:"platforms,omitempty"`
	State     State    `json:"state"`
	// Error is why it failed.
	Error string `json:"error,omitempty"`
	// Blobs are how many there are of it as far as is known, and Bytes the bytes of
	// them all; BlobsDone and BytesDone are here.
	Blobs     int       `json:"blobs"`
	BlobsDone int       `json:"blobs_done"`
	Bytes     int64     `json:"bytes"`
	BytesDone int64     `json:"bytes_done"`
	Asked     time.Time `json:"asked"`
	Began     time.Time `json:"began,omitzero"`
	Ended     time.Time `json:"ended,omitzero"`
}

// A job is a Job that is under way.
type job struct {
	Job
	repo      oci.Repository
	reference oci.Reference
	cancel    context.CancelCauseFunc
	ended     chan struct{} // closed when it has
}

// A Prefetcher is made by [New] and ended by Close.
type Prefetcher struct {
	o      Options
	ctx    context.Context // of all jobs; in the struct because they outlive the requests
	cancel context.CancelFunc

	mu      sync.Mutex
	closed  bool
	last    int
	jobs    []*job // in the order they were asked for
	running int
	working sync.WaitGroup
}

// Errors of a [Prefetcher].
var (
	ErrFull     = errors.New("too many images are waiting already")
	ErrNotFound = errors.New("there is no such job")
	errClosed   = errors.New("the mirror is stopping")
	errCanceled = errors.New("canceled")
)

// New makes a Prefetcher.
func New(o Options) (*Prefetcher, error) {
	if o.Reader == nil || o.Log == nil {
		return nil, errors.New("prefetch: Reader and Log are needed")
	}
	p := &Prefetcher{o: o}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	return p, nil
}

// Close ends what runs and waits for it.
func (p *Prefetcher) Close() {
	p.mu.Lock()
	p.closed = true
	p.cancel()
	p.mu.Unlock()
	p.working.Wait()
}

// Start has an image brought, by name as a registry spells it; without tag and
// digest it is latest. Platforms that an index has not are an error of the job.
func (p *Prefetcher) Start(ref oci.Reference, platforms []string) (Job, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	j, err := p.start(ref, platforms)
	if err != nil {
		return Job{}, err
	}
	return j.Job, nil
}

// start is Start. The caller holds mu.
func (p *Prefetcher) start(ref oci.Reference, platforms []string) (*job, error) {
	if p.closed {
		return nil, errClosed
	}
	waiting := 0
	for _, j := range p.jobs {
		if j.State == Waiting || j.State == Running {
			waiting++
		}
	}
	if waiting >= maxJobs {
		return nil, ErrFull
	}
	p.last++
	j := &job{
		Job:  Job{ID: p.last, Image: ref.String(), Platforms: slices.Clone(platforms), State: Waiting, Asked: time.Now()},
		repo: ref.Repository, reference: ref, ended: make(chan struct{}),
	}
	p.jobs = append(p.jobs, j)
	p.forget()
	p.next()
	return j, nil
}

// forget drops the oldest of those that have ended. The caller holds mu.
func (p *Prefetcher) forget() {
	ended := 0
	for _, j := range p.jobs {
		if !j.Ended.IsZero() {
			ended++
		}
	}
	p.jobs = slices.DeleteFunc(p.jobs, func(j *job) bool {
		if ended <= keepJobs || j.Ended.IsZero() {
			return false
		}
		ended--
		return true
	})
}

// next starts jobs that wait, as far as there is room. The caller holds mu.
func (p *Prefetcher) next() {
	for _, j := range p.jobs {
		if p.running == atOnce || p.closed {
			return
		}
		if j.State != Waiting {
			continue
		}
		var ctx context.Context
		ctx, j.cancel = context.WithCancelCause(p.ctx)
		j.State, j.Began = Running, time.Now()
		p.running++
		p.working.Go(func() { p.run(ctx, j) })
	}
}

func (p *Prefetcher) run(ctx context.Context, j *job) {
	err := p.bring(ctx, j)
	p.mu.Lock()
	j.Ended = time.Now()
	close(j.ended)
	switch {
	case err == nil:
		j.State = Done
	case errors.Is(context.Cause(ctx), errCanceled):
		j.State = Canceled
	default:
		j.State, j.Error = Failed, err.Error()
	}
	j.cancel(nil)
	state := j.State
	p.running--
	p.next()
	p.mu.Unlock()
	switch state {
	case Failed:
		p.o.Log.Warn("image not prefetched", "repository", j.repo, "err", err)
	case Done:
		p.o.Log.Info("image prefetched", "repository", j.repo, "dur", j.Ended.Sub(j.Began), "bytes", j.Bytes)
	default:
	}
	if p.o.Done != nil && state == Done {
		p.o.Done()
	}
}

// Jobs are those that wait or run, and the last ones that have ended, the newest
// first.
func (p *Prefetcher) Jobs() []Job {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := []Job{}
	for _, j := range slices.Backward(p.jobs) {
		list = append(list, j.Job)
	}
	return list
}

// Job is one of them; [ErrNotFound].
func (p *Prefetcher) Job(id int) (Job, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, j := range p.jobs {
		if j.ID == id {
			return j.Job, nil
		}
	}
	return Job{}, ErrNotFound
}

// Cancel ends a job; what has come of it stays. One that has ended is no error.
func (p *Prefetcher) Cancel(id int) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, j := range p.jobs {
		if j.ID != id {
			continue
		}
		switch j.State {
		case Waiting:
			j.State, j.Ended = Canceled, time.Now()
			close(j.ended)
		case Running:
			j.cancel(errCanceled)
		default:
		}
		return nil
	}
	return ErrNotFound
}

// bring fetches what the job names.
func (p *Prefetcher) bring(ctx context.Context, j *job) error {
	digest := j.reference.Digest
	if digest.IsZero() {
		tag := j.reference.Tag
		if tag.IsZero() {
			tag, _ = oci.ParseTag("latest")
		}
		desc, err := p.o.Reader.ResolveTag(ctx, j.repo, tag)
		if err != nil {
			return err
		}
		digest = desc.Digest
	}
	blobs, err := p.manifests(ctx, j, digest)
	if err != nil {
		return err
	}
	p.mu.Lock()
	j.Blobs = len(blobs)
	for _, b := range blobs {
		j.Bytes += max(0, b.Size)
	}
	p.mu.Unlock()
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(blobsAtOnce)
	for _, b := range blobs {
		group.Go(func() error { return p.blob(ctx, j, b) })
	}
	return group.Wait()
}

// maxDepth bounds indexes of indexes.
const maxDepth = 8

// manifests fetches a manifest and those below it that are wanted, and returns the
// blobs of them all, each once.
func (p *Prefetcher) manifests(ctx context.Context, j *job, root oci.Digest) ([]oci.Descriptor, error) {
	type step struct {
		digest oci.Digest
		depth  int
	}
	seen := map[oci.Digest]bool{root: true}
	found := make(map[string]bool)
	index := false
	var blobs []oci.Descriptor
	for queue := []step{{root, 0}}; len(queue) > 0; queue = queue[1:] {
		m, err := p.o.Reader.Manifest(ctx, j.repo, queue[0].digest)
		if err != nil {
			return nil, err
		}
		g, err := m.Graph()
		if err != nil {
			return nil, err
		}
		for _, d := range g.Manifests {
			index = true
			wanted, as := wants(j.Platforms, d.Platform)
			found[as] = true
			if wanted && !seen[d.Digest] && queue[0].depth < maxDepth {
				seen[d.Digest] = true
				queue = append(queue, step{d.Digest, queue[0].depth + 1})
			}
		}
		for _, d := range g.Blobs {
			if !seen[d.Digest] && len(d.URLs) == 0 {
				seen[d.Digest] = true
				blobs = append(blobs, d)
			}
		}
	}
	for _, want := range j.Platforms {
		if index && !found[want] {
			return nil, fmt.Errorf("the image is not there for %s", want)
		}
	}
	return blobs, nil
}

// wants tells whether a platform is one of those wanted, and as which. What has no
// platform, such as an attestation, comes with all and with none.
func wants(list []string, p *oci.Platform) (wanted bool, as string) {
	if len(list) == 0 {
		return true, ""
	}
	if p == nil {
		return false, ""
	}
	name := p.OS + "/" + p.Architecture
	for _, want := range list {
		if want == name || p.Variant != "" && want == name+"/"+p.Variant {
			return true, want
		}
	}
	return false, ""
}

// A filer is a reader of a complete file: what it reads is here.
type filer interface{ File() *os.File }

// blob reads one to its end.
func (p *Prefetcher) blob(ctx context.Context, j *job, d oci.Descriptor) error {
	r, err := p.o.Reader.Blob(ctx, j.repo, d.Digest)
	if err != nil {
		return fmt.Errorf("%s: %w", d.Digest, err)
	}
	if _, here := r.(filer); !here {
		_, err = io.Copy(io.Discard, r)
	}
	if err = errors.Join(err, r.Close()); err != nil {
		return fmt.Errorf("%s: %w", d.Digest, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	j.BlobsDone++
	j.BytesDone += max(0, d.Size)
	return nil
}
