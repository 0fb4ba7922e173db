package local

import (
	"context"
	"io"

	"sampan/internal/oci"
)

// ProveBlob implements [oci.BlobProver]. A blob is read once for as long as what it is in
// is open. The registry's word counts.
func (u *Upstream) ProveBlob(ctx context.Context, repo oci.Repository, digest oci.Digest) (oci.Descriptor, error) {
	o := outcome{upstream: u, repo: repo}
	for _, e := range u.endpoints {
		if e.blobsOnly || own(ctx) {
			continue
		}
		d, err := use(ctx, e, false, func(g *generation) (oci.Descriptor, error) {
			d, err := g.StatBlob(ctx, repo, digest)
			if err != nil {
				return d, err
			}
			return d, e.prove(ctx, g, repo, digest)
		})
		if err == nil {
			return d, nil
		}
		if ctx.Err() != nil {
			return oci.Descriptor{}, ctx.Err()
		}
		o.add(e, err)
	}
	if u.next == nil {
		return oci.Descriptor{}, o.end()
	}
	d, err := u.next.StatBlob(ctx, repo, digest)
	return d, o.after(err)
}

// A proof is what reading a blob comes to.
type proof struct {
	done chan struct{} // closed when it has ended
	err  error         // set before
}

// prove waits for the proof of a blob, which is there already, runs or is begun. The caller
// has acquired g.
func (s *source) prove(ctx context.Context, g *generation, repo oci.Repository, digest oci.Digest) error {
	p := s.proof(g, repo, digest)
	if p == nil {
		return errClosed
	}
	select {
	case <-p.done:
		return p.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// proof returns that of a blob; nil when the source is closed.
func (s *source) proof(g *generation, repo oci.Repository, digest oci.Digest) *proof {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := g.proofs[digest]; p != nil {
		return p
	}
	if s.closed {
		return nil
	}
	if g.proofs == nil {
		g.proofs = make(map[oci.Digest]*proof)
	}
	p := &proof{done: make(chan struct{})}
	g.proofs[digest] = p
	g.users++
	s.running.Go(func() {
		defer s.release(g)
		defer close(p.done)
		p.err = proven(s.life, g, repo, digest)
		if p.err != nil && oci.CodeOf(p.err) != oci.CodeDigestInvalid { // it may be read later
			s.mu.Lock()
			defer s.mu.Unlock()
			delete(g.proofs, digest)
		}
	})
	return p
}

// proven reads all of a blob.
func proven(ctx context.Context, g *generation, repo oci.Repository, digest oci.Digest) error {
	b, err := g.Blob(ctx, repo, digest)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, b)
	if closed := b.Close(); err == nil {
		err = closed
	}
	return err
}
