package local

import (
	"context"
	"sync"

	"sampan/internal/oci"
)

// Blob implements [oci.Reader].
func (u *Upstream) Blob(ctx context.Context, repo oci.Repository, digest oci.Digest) (oci.BlobReader, error) {
	o := outcome{upstream: u, repo: repo}
	for _, e := range u.endpoints {
		if e.blobsOnly || own(ctx) {
			continue
		}
		b, err := hold(ctx, e, func(g *generation) (oci.BlobReader, error) { return g.Blob(ctx, repo, digest) })
		if err == nil {
			return &heldBlob{b.value, b.lease}, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		o.add(e, err)
	}
	if u.next == nil {
		return nil, o.end()
	}
	b, err := u.next.Blob(ctx, repo, digest)
	return b, o.after(err)
}

// A lease keeps what is open of a source until it ends.
type lease struct {
	source     *source
	generation *generation
	once       sync.Once
}

func (l *lease) end() { l.once.Do(func() { l.source.release(l.generation) }) }

// held is something that reads from what is leased.
type held[T any] struct {
	value T
	lease *lease
}

// hold is use for what goes on reading.
func hold[T any](ctx context.Context, e *endpoint, f func(*generation) (T, error)) (h held[T], _ error) {
	g, err := e.acquire(ctx, false)
	if err != nil {
		return h, e.heard(ctx, err, false)
	}
	h.lease = &lease{source: e.source, generation: g}
	if h.value, err = f(g); err != nil {
		h.lease.end()
	}
	return h, e.heard(ctx, err, true)
}

// A heldBlob is a blob of an endpoint.
type heldBlob struct {
	oci.BlobReader
	lease *lease
}

// Close implements [io.Closer].
func (b *heldBlob) Close() error {
	defer b.lease.end()
	return b.BlobReader.Close()
}
