package local

import (
	"context"
	"errors"
	"io"
	"sync"

	"sampan/internal/oci"
)

// FetchBlob implements [oci.BlobFetcher]. An endpoint whose bytes break off is asked for
// further parts only when nobody else sends them, and so is, in later fetches as well, one
// whose bytes did not match the digest, until it is replaced.
func (u *Upstream) FetchBlob(repo oci.Repository, digest oci.Digest) oci.BlobParts {
	p := &parts{upstream: u, repo: repo, digest: digest, avoided: make([]bool, len(u.endpoints))}
	if u.next != nil {
		p.next = u.next.FetchBlob(repo, digest)
	}
	return p
}

// parts fetches parts of a blob. See [Upstream.FetchBlob].
type parts struct {
	upstream *Upstream
	repo     oci.Repository
	digest   oci.Digest
	next     oci.BlobParts // nil: there is no registry

	mu      sync.Mutex
	avoided []bool // by endpoint
}

// The abilities that other packages look for.
var _ oci.BlobAvoider = (*parts)(nil)

// Part implements [oci.BlobParts].
func (p *parts) Part(ctx context.Context, from, to int64) (oci.BlobPart, error) {
	good, avoided := p.turns(ctx)
	o := outcome{upstream: p.upstream, repo: p.repo}
	if part, final, err := p.first(ctx, good, from, to, &o); final {
		return part, err
	}
	if p.next == nil {
		if part, final, err := p.first(ctx, avoided, from, to, &o); final {
			return part, err
		}
		return oci.BlobPart{}, o.end()
	}
	part, err := p.next.Part(ctx, from, to)
	if err == nil || isFinal(ctx, err) {
		return part, err
	}
	refused := o.after(err)
	if part, final, err := p.first(ctx, avoided, from, to, &o); final {
		return part, err
	}
	return oci.BlobPart{}, refused
}

// isFinal tells the errors that nobody else takes back.
func isFinal(ctx context.Context, err error) bool {
	return ctx.Err() != nil || oci.CodeOf(err) == oci.CodeRangeInvalid
}

// turns are the endpoints that are asked before the registry and, behind it, those that
// have failed.
func (p *parts) turns(ctx context.Context) (good, avoided []int) {
	if own(ctx) {
		return nil, nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, bad := range p.avoided {
		if bad || p.upstream.endpoints[i].doubted(p.digest) {
			avoided = append(avoided, i)
		} else {
			good = append(good, i)
		}
	}
	return good, avoided
}

// first asks endpoints until the answer is final.
func (p *parts) first(ctx context.Context, list []int, from, to int64, o *outcome) (_ oci.BlobPart, final bool, _ error) {
	for _, i := range list {
		e := p.upstream.endpoints[i]
		h, err := hold(ctx, e, func(g *generation) (oci.BlobPart, error) { return g.Part(ctx, p.repo, p.digest, from, to) })
		if err == nil {
			part := h.value
			part.Body = &partBody{ReadCloser: part.Body, ctx: ctx, parts: p, endpoint: i, lease: h.lease}
			part.Endpoint, part.Vouched = e.place.String(), false // see ProveBlob
			return part, true, nil
		}
		if isFinal(ctx, err) {
			return oci.BlobPart{}, true, err
		}
		o.add(e, err)
	}
	return oci.BlobPart{}, false, nil
}

// Avoid implements [oci.BlobAvoider].
func (p *parts) Avoid(endpoint string) {
	for i, e := range p.upstream.endpoints {
		if e.place.String() == endpoint {
			e.broken(oci.Errorf(oci.CodeDigestInvalid, "what is stored as the blob %s is something else", p.digest))
			e.meter.Failed(true)
			e.doubt(p.digest)
			p.avoid(i)
			return
		}
	}
	if a, ok := p.next.(oci.BlobAvoider); ok {
		a.Avoid(endpoint)
	}
}

func (p *parts) avoid(i int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.avoided[i] = true
}

// A partBody is the bytes of an endpoint. When they break off, others are asked first.
type partBody struct {
	io.ReadCloser
	ctx      context.Context // of who reads
	parts    *parts
	endpoint int
	lease    *lease
}

// Read implements [io.Reader].
func (b *partBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) && b.ctx.Err() == nil {
		e := b.parts.upstream.endpoints[b.endpoint]
		b.parts.avoid(b.endpoint)
		_ = e.heard(b.ctx, err, true)
		err = b.parts.upstream.noAnswer(e, err)
	}
	return n, err
}

// Close implements [io.Closer].
func (b *partBody) Close() error {
	defer b.lease.end()
	return b.ReadCloser.Close()
}
