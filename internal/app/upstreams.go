package app

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"reflect"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sampan/internal/config"
	"sampan/internal/mirror"
	"sampan/internal/oci"
	"sampan/internal/upstream"
	"sampan/internal/upstream/local"
)

// maxOpen bounds the readers of registries that are not configured and were asked
// for because the configuration allows any. The one asked least recently makes
// room for another.
const maxOpen = 1000

// A registry is the reader of one that is configured: [upstream.Registry], or
// [local.Upstream] where archives or layouts are among its endpoints.
type registry interface {
	oci.Reader
	// Status tells how its endpoints are.
	Status() upstream.Status
	// Endpoint is the first one, for logs.
	Endpoint() string
	io.Closer
}

// upstreams are the readers of the registries: the configured ones, and, where
// any registry is allowed, those that were asked for.
type upstreams struct {
	o          Options
	stall      time.Duration
	egress     upstream.Egress // of others
	configured map[oci.Registry]registry
	from       map[oci.Registry]config.Upstream // what each of them was made from
	files      *local.Pool                      // of those that are on the disk
	allowAny   bool

	mu     sync.Mutex
	asked  int64 // counts, to tell who was asked least recently
	others map[oci.Registry]*stranger
}

// A stranger is the reader of a registry that is not configured.
type stranger struct {
	*upstream.Registry
	asked int64
}

// newUpstreams makes those of a configuration. One that is configured as in before,
// which may be nil, is taken over from there, with its connections, tokens and what
// it has learned.
func newUpstreams(c *config.Config, o Options, metrics prometheus.Registerer, before *upstreams) (*upstreams, error) {
	u := &upstreams{
		o:          o,
		stall:      time.Duration(c.Fetch.Stall),
		configured: make(map[oci.Registry]registry),
		from:       make(map[oci.Registry]config.Upstream),
		allowAny:   c.Open,
		others:     make(map[oci.Registry]*stranger),
	}
	if before != nil {
		u.stall = before.stall // as the fetches have it
		u.files = before.files
	} else {
		u.files = local.NewPool(o.Log)
	}
	var err error
	if u.egress, err = egressOf(c.Egress.Inherit(config.Egress{})); err != nil {
		return nil, err
	}
	for _, cu := range c.Upstreams {
		cu.Egress = cu.Egress.Inherit(c.Egress)
		r := before.same(cu)
		if r == nil {
			egress, err := egressOf(cu.Egress)
			if err == nil {
				r, err = u.make(cu, egress, metrics)
			}
			if err != nil {
				return nil, errors.Join(fmt.Errorf("upstream %s: %w", cu.Registry, err), u.closeOwn(before))
			}
		}
		u.configured[cu.Registry], u.from[cu.Registry] = r, cu
	}
	return u, nil
}

// same returns the reader of a registry that was configured in the same way; nil
// when there is none.
func (u *upstreams) same(cu config.Upstream) registry {
	if u == nil || cu.Egress.ReadsFiles() || !reflect.DeepEqual(u.from[cu.Registry], cu) {
		return nil
	}
	return u.configured[cu.Registry]
}

// closeOwn closes those that are not in before.
func (u *upstreams) closeOwn(before *upstreams) error {
	var errs []error
	for name, r := range u.configured {
		if before == nil || before.configured[name] != r {
			errs = append(errs, r.Close())
		}
	}
	return errors.Join(errs...)
}

// replaced returns the readers that after has not taken over.
func (u *upstreams) replaced(after *upstreams) []registry {
	var list []registry
	for name, r := range u.configured {
		if after.configured[name] != r {
			list = append(list, r)
		}
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, s := range u.others {
		list = append(list, s.Registry)
	}
	return list
}

// make builds the reader of a configured registry.
func (u *upstreams) make(cu config.Upstream, egress upstream.Egress, metrics prometheus.Registerer) (registry, error) {
	files := cu.Locals()
	cu.Endpoints = cu.Network()
	if len(files) == 0 {
		return u.dial(cu, egress, false, metrics)
	}
	o := local.Options{Registry: cu.Registry, Pool: u.files, Registerer: metrics}
	for _, e := range files {
		place := local.Place{Path: e.Local.Path, Layout: e.Local.Layout, Base: e.Local.Repository}
		o.Endpoints = append(o.Endpoints, local.Endpoint{Place: place, BlobsOnly: e.BlobsOnly})
	}
	var err error
	if len(cu.Endpoints) > 0 {
		if o.Next, err = u.dial(cu, egress, false, metrics); err != nil {
			return nil, err
		}
	}
	l, err := local.New(o)
	if err != nil && o.Next != nil {
		err = errors.Join(err, o.Next.Close())
	}
	return l, err
}

// begin opens the archives and layouts, so that nobody who asks has to wait for that.
func (u *upstreams) begin() {
	for _, r := range u.configured {
		if l, ok := r.(*local.Upstream); ok {
			l.Begin()
		}
	}
}

// dial builds the reader of a registry's addresses. Of a registry that a client named,
// not the operator, nothing may be at a private address.
func (u *upstreams) dial(cu config.Upstream, egress upstream.Egress, stranger bool, metrics prometheus.Registerer) (*upstream.Registry, error) {
	endpoints, blobsOnly := make([]*url.URL, len(cu.Endpoints)), make([]bool, len(cu.Endpoints))
	for i, e := range cu.Endpoints {
		endpoints[i], blobsOnly[i] = e.URL, e.BlobsOnly
	}
	o := upstream.Options{
		Registry:      cu.Registry,
		Endpoints:     endpoints,
		BlobsOnly:     blobsOnly,
		Egress:        egress,
		Hedge:         time.Duration(cu.Hedge),
		RateLimitWait: time.Duration(cu.RateLimitWait),
		Moved:         mirror.Moved(cu.Registry),
		PublicOnly:    stranger,
		StallTimeout:  u.stall,
		Logger:        u.o.Log,
		Registerer:    metrics,
		UserAgent:     "sampan/" + u.o.Version,
	}
	o.Accounts, o.Told = u.accounts(cu), told(cu)
	return upstream.New(o)
}

// reader returns the reader of a registry. Names have been decided already, so
// that an unknown one here is one that the configuration allows, or none.
func (u *upstreams) reader(registry oci.Registry) (oci.Reader, error) {
	if r, ok := u.configured[registry]; ok {
		return r, nil
	}
	if !u.allowAny {
		return nil, oci.Errorf(oci.CodeDenied, "the registry %s is not served by this mirror", registry)
	}
	r, evicted, err := u.stranger(registry)
	if evicted != nil {
		// Whoever still reads from it goes on; a new token is asked for anew.
		if err := evicted.Close(); err != nil {
			u.o.Log.Warn("upstream not closed", "registry", registry, "err", err)
		}
	}
	return r, err
}

// stranger finds or makes the reader of a registry that is not configured, and
// returns the one that had to make room for it, if any.
func (u *upstreams) stranger(registry oci.Registry) (r oci.Reader, evicted *upstream.Registry, err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.asked++
	if s, ok := u.others[registry]; ok {
		s.asked = u.asked
		return s.Registry, nil, nil
	}
	cu := config.Upstream{
		Registry:  registry,
		Endpoints: []config.Endpoint{{URL: &url.URL{Scheme: "https", Host: registry.String()}}},

		RateLimitWait: config.DefaultRateLimitWait,
	}
	made, err := u.dial(cu, u.egress, true, nil) // no metrics: strangers must not make labels
	if err != nil {
		return nil, nil, fmt.Errorf("upstream %s: %w", registry, err)
	}
	if len(u.others) >= maxOpen {
		evicted = u.evict()
	}
	u.others[registry] = &stranger{made, u.asked}
	return made, evicted, nil
}

// evict forgets the stranger asked least recently. The caller holds mu and closes
// it.
func (u *upstreams) evict() *upstream.Registry {
	var oldest oci.Registry
	for r, s := range u.others {
		if oldest.IsZero() || s.asked < u.others[oldest].asked {
			oldest = r
		}
	}
	victim := u.others[oldest].Registry
	delete(u.others, oldest)
	return victim
}

// close stops all of them.
func (u *upstreams) close() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	var errs []error
	for _, r := range u.configured {
		errs = append(errs, r.Close())
	}
	for _, s := range u.others {
		errs = append(errs, s.Close())
	}
	return errors.Join(errs...)
}

// newNames tells the mirror which registries there are.
func newNames(c *config.Config) (*mirror.Names, error) {
	o := mirror.Options{Domain: c.Domain, Default: c.Default, Aliases: c.Aliases, Open: c.Open, HideHosts: len(c.Codes) > 0}
	for _, u := range c.Upstreams {
		o.Upstreams = append(o.Upstreams, mirror.Upstream{Registry: u.Registry, Hosts: u.Hosts})
	}
	return mirror.New(o)
}
