// Package local is archives and layouts on this machine's disk as an upstream: an
// [oci.Reader] that asks them first, and the registry itself, if there is one, for what
// they do not have.
//
// It promises:
//   - without a registry behind it, it dials nobody;
//   - a place is opened once, however many upstreams read from it, and again when it is
//     another file or has changed, which is looked at when a tag is resolved. Whoever
//     reads from what was there before goes on;
//   - what a place does not have is "unknown" there and asked of the next one. A place
//     that cannot be read, or holds something else than its digests say, gives no answer:
//     the next one is asked, and where no other knows better, the answer is UNAVAILABLE
//     and never "unknown";
//   - manifests are proven; the parts of blobs are not: whoever keeps them does that. That
//     a place has something by the name of a blob is a claim, until [Upstream.ProveBlob]
//     has read it;
//   - lists of tags and of referrers are those of all places and of the registry
//     together, and fail where one of them gives no answer;
//   - a client's own credentials are for the registry: in a context with an [oci.Login]
//     the places are not asked, because they cannot tell who may read what;
//   - clients are told neither paths nor causes.
//
// It keeps nothing, writes nothing and does not watch the disk.
//
// Lock order: parts.mu before source.mu; Pool.mu is a leaf. None is held while files are
// looked at or read.
package local

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"sampan/internal/oci"
	"sampan/internal/upstream"
)

// A Place is where an archive or a layout is.
type Place struct {
	// Path is absolute: the directory of a layout, or the file of an archive, of which
	// there may be only volumes.
	Path string
	// Layout tells that it is the directory of a layout.
	Layout bool
	// Base is the repository of images of which the place tells no more than a tag.
	// Zero: nobody finds them.
	Base oci.Repository
}

// String is the place as the configuration has it.
func (p Place) String() string {
	if p.Layout {
		return "oci:" + p.Path
	}
	return "archive:" + p.Path
}

// An Endpoint is a place that is asked.
type Endpoint struct {
	Place
	// BlobsOnly tells that nothing but the bytes of blobs is asked there.
	BlobsOnly bool
}

// Options of an [Upstream]. Registry, Endpoints and Pool are needed.
type Options struct {
	Registry  oci.Registry
	Endpoints []Endpoint // in the order in which they are asked
	Pool      *Pool
	// Next is asked for what no endpoint has; nil means that there is nobody. It is
	// closed with the Upstream.
	Next *upstream.Registry
	// Registerer gets the metrics of endpoints; nil means none.
	Registerer prometheus.Registerer
}

// An Upstream answers for one registry. Its methods may be called concurrently.
type Upstream struct {
	registry  oci.Registry
	endpoints []*endpoint
	pool      *Pool
	next      *upstream.Registry
	left      sync.Once
}

// An endpoint is a source of one upstream.
type endpoint struct {
	*source
	blobsOnly bool
	meter     *upstream.EndpointMeter
}

// The abilities that other packages look for.
var (
	_ oci.Reader         = (*Upstream)(nil)
	_ oci.BlobProver     = (*Upstream)(nil)
	_ oci.ManifestStater = (*Upstream)(nil)
	_ oci.BlobFetcher    = (*Upstream)(nil)
	_ oci.TagGetter      = (*Upstream)(nil)
)

// New makes an Upstream. It opens nothing and starts nothing: that is done when it is
// asked, or by Begin.
func New(o Options) (*Upstream, error) {
	if o.Registry.IsZero() || len(o.Endpoints) == 0 || o.Pool == nil {
		return nil, errors.New("local: Registry, Endpoints and Pool are needed")
	}
	u := &Upstream{registry: o.Registry, pool: o.Pool, next: o.Next}
	for _, e := range o.Endpoints {
		meter, err := upstream.NewEndpointMeter(o.Registerer, o.Registry, e.String())
		if err != nil {
			for _, e := range u.endpoints {
				o.Pool.release(e.source)
			}
			return nil, fmt.Errorf("local %s: %w", o.Registry, err)
		}
		u.endpoints = append(u.endpoints, &endpoint{o.Pool.take(e.Place), e.BlobsOnly, meter})
	}
	return u, nil
}

// Begin opens the places without waiting for it, so that nobody who asks has to.
func (u *Upstream) Begin() {
	for _, e := range u.endpoints {
		e.begin()
	}
}

// Endpoint is the first one, for logs.
func (u *Upstream) Endpoint() string { return u.endpoints[0].place.String() }

// Status tells how the endpoints are, those of the registry behind them.
func (u *Upstream) Status() upstream.Status {
	s := upstream.Status{Registry: u.registry}
	if u.next != nil {
		s = u.next.Status()
	}
	var list []upstream.EndpointStatus
	for _, e := range u.endpoints {
		st := e.status()
		st.BlobsOnly = e.blobsOnly
		list = append(list, st)
	}
	s.Endpoints = append(list, s.Endpoints...)
	return s
}

// Spare tells that little may still be asked about a repository. What a place has costs
// nothing to ask for.
func (u *Upstream) Spare(repo oci.Repository) bool {
	for _, e := range u.endpoints {
		if !e.blobsOnly && e.names(repo) {
			return false
		}
	}
	return u.next != nil && u.next.Spare(repo)
}

// Leave lets the places go, those that nobody else uses when the last one who reads from
// them has ended: their disk may be taken away then. The second time it does nothing.
func (u *Upstream) Leave() {
	u.left.Do(func() {
		for _, e := range u.endpoints {
			u.pool.release(e.source)
		}
	})
}

// Close leaves the places, and closes the registry.
func (u *Upstream) Close() error {
	u.Leave()
	if u.next != nil {
		return u.next.Close()
	}
	return nil
}

// noAnswer is what clients are told of a place that cannot be read.
func (u *Upstream) noAnswer(e *endpoint, err error) *oci.Error {
	return &oci.Error{
		Code:    oci.CodeUnavailable,
		Message: fmt.Sprintf("an archive that this mirror reads for %s cannot be read now; its operator finds the cause in the log", u.registry),
		Err:     fmt.Errorf("%s: %w", e.place, err),
	}
}

// own tells whether ctx is a client's own, for whom the places are nothing.
func own(ctx context.Context) bool {
	_, own := oci.LoginFrom(ctx)
	return own
}
