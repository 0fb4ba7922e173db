package upstream

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"sync"

	"sampan/internal/oci"
)

// FetchBlob implements [oci.BlobFetcher]. A part that is opened while no other one
// is comes from one endpoint, the preferred one, until that one fails: when it
// gives no answer, or a body of its breaks, the next part asks the next endpoint
// first. Parts that are opened while others are open are spread over the endpoints
// by how fast each of them was lately; one that fails is left out of this for as
// long as others do not.
//
// An answer such as "unknown" stands while nobody has sent a part and when it comes
// from an endpoint that is asked for everything; others are asked otherwise.
//
// Where an endpoint redirects to is remembered in memory for a few minutes, so that
// further parts go straight there; one that is refused there, or does not reach it,
// asks the endpoint anew, once. Parts that begin at the same time share the first
// answer.
//
// A source that answers with another part, or of a blob of another size than
// before, is UNAVAILABLE. The body of a part is UNAVAILABLE when it breaks off or
// stands still, and [io.ErrUnexpectedEOF] when it ends early.
func (r *Registry) FetchBlob(repo oci.Repository, digest oci.Digest) oci.BlobParts {
	return r.parts(repo, digest)
}

func (r *Registry) parts(repo oci.Repository, digest oci.Digest) *blobParts {
	p := &blobParts{
		registry: r,
		repo:     repo,
		digest:   digest,
		size:     -1,
		ways:     make([]way, len(r.endpoints)),
	}
	for i, ep := range r.endpoints {
		p.ways[i].doubted = r.doubts.weight(doubt{ep, digest})
	}
	return p
}

// blobParts fetches parts of a blob. See [Registry.FetchBlob].
type blobParts struct {
	registry *Registry
	repo     oci.Repository
	digest   oci.Digest

	mu     sync.Mutex
	size   int64 // -1 while nobody has told
	headed bool  // the size was asked for separately
	spread bool  // parts come from several endpoints
	blamed bool  // what was sent until now did not match the digest
	first  int   // the endpoint that is asked first
	ways   []way // by endpoint

	further int // parts that were opened while others were
}

// The abilities that other packages look for.
var _ oci.BlobAvoider = (*blobParts)(nil)

// Part implements [oci.BlobParts].
func (p *blobParts) Part(ctx context.Context, from, to int64) (oci.BlobPart, error) {
	r := p.registry
	if from < 0 || to >= 0 && to <= from {
		return oci.BlobPart{}, oci.Errorf(oci.CodeRangeInvalid, "from %d to %d is no part of a blob", from, to)
	}
	if err := p.within(from, p.knownSize()); err != nil {
		return oci.BlobPart{}, err
	}
	v := visit{parts: p, tried: r.passedOver(ctx), ignored: make([]bool, len(p.ways))}
	for {
		w := v.next()
		if w == nil {
			break
		}
		if part, final, err := v.ask(ctx, w, from, to); final {
			return part, err
		}
	}
	if !v.asked {
		return oci.BlobPart{}, r.leftAlone(r.endpoints)
	}
	return oci.BlobPart{}, v.err
}

// Avoid implements [oci.BlobAvoider].
func (p *blobParts) Avoid(endpoint string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, ep := range p.registry.endpoints {
		if ep.String() != endpoint {
			continue
		}
		p.ways[i].doubted = p.registry.doubts.add(doubt{ep, p.digest}, p.alone(i))
		p.ways[i].lead, p.blamed = nil, true
		p.size, p.headed = -1, false
		p.pass(i)
	}
}

// failed makes the next part ask the endpoint after i first, and leaves i to those
// that nobody else serves.
func (p *blobParts) failed(i int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ways[i].failed = true
	p.pass(i)
}

// pass takes the first turn from an endpoint. The caller holds mu.
func (p *blobParts) pass(i int) {
	if p.first == i {
		p.first = (i + 1) % len(p.ways)
	}
}

// alone tells whether nobody but one endpoint has sent parts. The caller holds mu.
func (p *blobParts) alone(i int) bool {
	for k := range p.ways {
		if k != i && p.ways[k].sent {
			return false
		}
	}
	return true
}

// partAt fetches a part from the endpoint that a watch is for.
func (p *blobParts) partAt(ctx context.Context, w *watch, from, to int64) (oci.BlobPart, error) {
	r, i, ep := p.registry, w.i, p.registry.endpoints[w.i]
	q := blobQuestion(p.repo, p.digest)
	ranged := from > 0 || to >= 0
	if ranged {
		q.header.Set("Range", byteRange(from, to))
	}
	rep, err := p.ask(ctx, i, q)
	if err != nil {
		return oci.BlobPart{}, err
	}
	x, err := r.extent(rep, from, ranged)
	if err == nil {
		err = p.agree(x.size)
	}
	if err != nil {
		rep.cut()
		p.forget(i, nil)
		return oci.BlobPart{}, err
	}
	size := p.askSize(ctx, ep)
	if err := p.within(from, size); err != nil {
		rep.cut()
		return oci.BlobPart{}, err
	}
	if x.stop < 0 { // a whole blob without a length
		x.stop = size
	}
	whole := p.whole(i, ranged, rep)
	if whole && w.choosy {
		rep.cut()
		return oci.BlobPart{}, errWhole
	}
	body := &partBody{
		registry: r, ctx: ctx, reply: rep, digest: p.digest,
		at: x.start, end: endOf(to, size), stop: x.stop, told: size >= 0,
		watch: w,
	}
	return oci.BlobPart{
		Body:     body,
		Size:     size,
		From:     x.start,
		Whole:    whole,
		Endpoint: ep.String(),
		Vouched:  !ep.blobsOnly,
	}, nil
}

// byteRange is the value of Range for a part.
func byteRange(from, to int64) string {
	s := "bytes=" + strconv.FormatInt(from, 10) + "-"
	if to >= 0 {
		s += strconv.FormatInt(to-1, 10)
	}
	return s
}

// endOf is where the part that ends at to ends in a blob of a size; -1 when
// neither is known.
func endOf(to, size int64) int64 {
	switch {
	case to < 0:
		return size
	case size < 0:
		return to
	default:
		return min(to, size)
	}
}

// within refuses a part that begins behind the end of the blob. Nothing is
// behind one whose size is not known.
func (p *blobParts) within(from, size int64) error {
	if size < 0 || from == 0 || from < size {
		return nil
	}
	return oci.Errorf(oci.CodeRangeInvalid, "blob %s has only %d bytes", p.digest, size)
}

func (p *blobParts) knownSize() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.size
}

// agree remembers the size that an answer told, -1 for none, and refuses one
// that differs from what was told before.
func (p *blobParts) agree(size int64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case size < 0 || size == p.size:
		return nil
	case p.size < 0:
		p.size = size
		return nil
	}
	return p.registry.noAnswer(fmt.Errorf("blob %s had %d bytes, now %d", p.digest, p.size, size),
		"sent a blob that has changed its size")
}

// askSize returns the size. When no answer to a GET told it, the endpoint is
// asked separately, once.
func (p *blobParts) askSize(ctx context.Context, ep *endpoint) int64 {
	p.mu.Lock()
	size, ask := p.size, p.size < 0 && !p.headed
	p.headed = p.headed || ask
	p.mu.Unlock()
	if !ask {
		return size
	}
	if size = p.registry.headSize(ctx, ep, p.repo, p.digest); p.agree(size) != nil {
		return -1
	}
	return size
}

// whole tells whether an endpoint is known to ignore ranges, and learns it from
// an answer to a request with or without Range.
func (p *blobParts) whole(i int, ranged bool, rep *reply) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := &p.ways[i]
	switch {
	case ranged:
		w.whole = rep.StatusCode == http.StatusOK
	case rep.Header.Get("Accept-Ranges") == "none":
		w.whole = true
	}
	return w.whole
}
