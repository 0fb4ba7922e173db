package prefetch

import (
	"context"

	"sampan/internal/oci"
)

// Bring is Start, and returns when the job has ended. When ctx is done before, the job
// is canceled; the error is that of ctx, or of a beginning that is refused. That an
// image did not come is in the job.
func (p *Prefetcher) Bring(ctx context.Context, ref oci.Reference, platforms []string) (Job, error) {
	p.mu.Lock()
	j, err := p.start(ref, platforms)
	p.mu.Unlock()
	if err != nil {
		return Job{}, err
	}
	select {
	case <-j.ended:
	case <-p.ctx.Done():
		err = errClosed
	case <-ctx.Done():
		_ = p.Cancel(j.ID) // it may have ended just now
		err = context.Cause(ctx)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return j.Job, err
}
