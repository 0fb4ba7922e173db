package remote

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"sampan/internal/oci"
	"sampan/internal/upstream"
)

// ErrFull is what [errors.Is] finds where a registry takes no more: a quota, or its disk.
var ErrFull = errors.New("no room")

// full tells whether a status says that there is no room.
func full(status int) bool {
	return status == http.StatusRequestEntityTooLarge || status == http.StatusInsufficientStorage
}

func fullError(name oci.Registry, repo oci.Repository, cause *oci.Error) error {
	return &oci.Error{
		Code: oci.CodeDenied, Message: name.String() + " takes no more for " + repo.Path() + ": " + cause.Message,
		Err: fmt.Errorf("%w: %w", ErrFull, cause),
	}
}

// A gate holds back requests while a registry wants none. The zero value is open.
type gate struct {
	mu   sync.Mutex
	shut chan struct{} // closed when the gate opens; nil while it is open
}

// pass waits until the gate is open.
func (g *gate) pass(ctx context.Context) error {
	for {
		g.mu.Lock()
		shut := g.shut
		g.mu.Unlock()
		if shut == nil {
			return nil
		}
		select {
		case <-shut:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// hold shuts the gate while pause waits for the end of what limit says, counted from
// now. Where it is shut already it waits for that first, and then for what is left.
func (g *gate) hold(ctx context.Context, limit *oci.Error, pause func(error) error) error {
	until := time.Now().Add(limit.RetryAfter)
	for {
		if err := g.pass(ctx); err != nil {
			return err
		}
		g.mu.Lock()
		if g.shut != nil {
			g.mu.Unlock()
			continue
		}
		left := *limit
		if limit.RetryAfter > 0 {
			if left.RetryAfter = time.Until(until); left.RetryAfter <= 0 {
				g.mu.Unlock()
				return nil
			}
		}
		mine := make(chan struct{})
		g.shut = mine
		g.mu.Unlock()
		err := pause(&left)
		g.mu.Lock()
		g.shut = nil
		g.mu.Unlock()
		close(mine)
		return err
	}
}

// Push is [upstream.Registry.Push], but for a rate limit: while one request waits for the
// end of it no other is sent.
func (r *Registry) Push(ctx context.Context, p upstream.Push) (upstream.Pushed, error) {
	for n := 1; ; n++ {
		if err := r.gate.pass(ctx); err != nil {
			return upstream.Pushed{}, err
		}
		a, err := r.Registry.Push(ctx, p)
		if err != nil || a.Status != http.StatusTooManyRequests {
			return a, err
		}
		if err := r.waitOut(ctx, n, a.Err); err != nil {
			return upstream.Pushed{}, err
		}
	}
}

// StatBlob implements [oci.BlobStater]. A rate limit holds back what is sent, too.
func (r *Registry) StatBlob(ctx context.Context, repo oci.Repository, digest oci.Digest) (oci.Descriptor, error) {
	for n := 1; ; n++ {
		if err := r.gate.pass(ctx); err != nil {
			return oci.Descriptor{}, err
		}
		d, err := r.Registry.StatBlob(ctx, repo, digest)
		var limit *oci.Error
		if !errors.Is(err, oci.ErrTooManyRequests) || !errors.As(err, &limit) {
			return d, err
		}
		if err := r.waitOut(ctx, n, limit); err != nil {
			return oci.Descriptor{}, err
		}
	}
}

// waitOut waits for the end of a rate limit that a request has met the n-th time. Its
// error says nothing of when to come back where that has been tried.
func (r *Registry) waitOut(ctx context.Context, n int, limit *oci.Error) error {
	err := r.gate.hold(ctx, limit, func(limit error) error { return r.pause(ctx, n, limit) })
	var still *oci.Error
	if errors.As(err, &still) && still.RetryAfter <= rateLimitWait {
		ended := *still
		ended.RetryAfter = 0
		return &ended
	}
	return err
}
