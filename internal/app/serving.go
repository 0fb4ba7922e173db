package app

import (
	"errors"
	"net/http"
	"sync/atomic"
	"time"

	"sampan/internal/access"
	"sampan/internal/access/issuer"
	"sampan/internal/cache"
	"sampan/internal/config"
	"sampan/internal/edge"
	"sampan/internal/mirror"
	"sampan/internal/oci"
	"sampan/internal/server"
)

// A serving is what follows from a configuration and may be replaced while the
// process runs. It is not changed once it serves.
type serving struct {
	config    *config.Config
	upstreams *upstreams
	names     *mirror.Names
	levels    func(oci.Repository) access.Level
	private   func(oci.Repository) bool // nil: there is none
	policy    func(oci.Repository) cache.Freshness
	rules     access.Rules
	directory *access.Directory
	issuers   []*issuer.Issuer
	handler   http.Handler // set by face
}

// newServing builds what needs no other room. Registries that are configured as
// in before, which may be nil, are taken over from there.
func (a *App) newServing(c *config.Config, before *serving) (*serving, error) {
	s := &serving{config: c, policy: policy(c), rules: rules(c)}
	var old *upstreams
	if before != nil {
		old = before.upstreams
	}
	var err error
	if s.upstreams, err = newUpstreams(c, a.o, a.metrics, old); err != nil {
		return nil, err
	}
	s.names, err = newNames(c)
	if err == nil {
		s.directory, s.issuers, err = a.newDirectory(c)
	}
	if err != nil {
		return nil, errors.Join(err, s.upstreams.closeOwn(old))
	}
	s.levels = levels(c)
	s.private = private(c, s.levels)
	return s, nil
}

// face builds what clients meet, over the cache.
func (s *serving) face(a *App) error {
	gate, err := a.newGate(s)
	if err != nil {
		return err
	}
	page, err := s.page(a)
	if err != nil {
		return err
	}
	handler, err := server.New(server.Options{
		Reader: gate, Names: s.names, Log: a.o.Log, Limits: a.limiter, Page: page,
		Directory: s.directory, Reach: reach(s.config, s.rules), Challenge: challenges(s.config, s.names),
	})
	if err != nil {
		return err
	}
	s.handler = edge.CORS(s.config.CORS, handler)
	return nil
}

// A current is the serving in force. Its methods answer for that.
type current struct{ p atomic.Pointer[serving] }

// ServeHTTP implements [http.Handler]. A request that has begun goes on with the
// serving that it began with.
func (c *current) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.p.Load().handler.ServeHTTP(w, r)
}

func (c *current) reader(r oci.Registry) (oci.Reader, error) { return c.p.Load().upstreams.reader(r) }

func (c *current) vouches(r oci.Registry) bool { return c.p.Load().upstreams.vouches(r) }

func (c *current) private(repo oci.Repository) bool {
	private := c.p.Load().private
	return private != nil && private(repo)
}

func (c *current) policy(repo oci.Repository) cache.Freshness { return c.p.Load().policy(repo) }

// retireAfter is how long a registry that was replaced may still be asked, by
// requests that began before or just then, and by streams past the store. Fetches
// are looked at one by one.
const retireAfter = time.Hour
