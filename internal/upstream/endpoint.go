package upstream

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"sampan/internal/oci"
)

// An endpoint is one address of the registry, as one account sees it.
type endpoint struct {
	*site
	account *account // nil before one is chosen: see choose
}

// A site is what is known of one address of the registry, whoever asks.
type site struct {
	index     int      // in the order of the configuration
	base      *url.URL // scheme, host and path up to and with "/v2/"
	name      string   // put before every repository name: "" or "docker.io/"
	blobsOnly bool     // see Options.BlobsOnly
	told      bool     // see Options.Told
	write     bool     // see Options.Write

	challenge atomic.Pointer[challenge] // nil until the endpoint has sent one
	meter     meter
	breaker   breaker
	storage   breaker  // of what it redirects to for blobs
	budgets   []budget // by the index of the account
}

func newEndpoints(o Options) ([]*endpoint, error) {
	var list []*endpoint
	trusted := false
	for i, u := range o.Endpoints {
		ep, err := newEndpoint(u)
		if err != nil {
			return nil, err
		}
		ep.index = i
		ep.write = o.Write
		ep.blobsOnly = i < len(o.BlobsOnly) && o.BlobsOnly[i]
		trusted = trusted || !ep.blobsOnly
		list = append(list, ep)
	}
	if !trusted {
		return nil, errors.New("no endpoint may be asked for anything but blobs")
	}
	return list, tell(list, o.Told)
}

func newEndpoint(u *url.URL) (*endpoint, error) {
	if u == nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.Opaque != "" {
		return nil, fmt.Errorf("endpoint %q is not an http or https URL with a host", redact(u))
	}
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("endpoint %q has a user, query or fragment", redact(u))
	}
	path := strings.TrimRight(u.Path, "/") + "/"
	name := ""
	if before, after, found := strings.Cut(path, "/v2/"); found {
		path, name = before+"/", after
	}
	return &endpoint{site: &site{
		base: &url.URL{Scheme: u.Scheme, Host: u.Host, Path: path + "v2/"},
		name: name,
	}}, nil
}

// String names the endpoint for logs.
func (s *site) String() string { return redact(s.base) + s.name }

// url returns the address of what is below a repository, such as
// "manifests/latest". Both parts are valid by construction and need no escape.
func (s *site) url(repo oci.Repository, below string) *url.URL {
	u := *s.base
	u.Path += s.name + repo.Path() + "/" + below
	return &u
}

// scope is what a token must allow to read a repository here, and to write to it
// where that is wanted.
func (s *site) scope(repo oci.Repository) string {
	if s.write {
		return s.pull(repo) + ",push"
	}
	return s.pull(repo)
}

// pull is the scope to read a repository.
func (s *site) pull(repo oci.Repository) string {
	return "repository:" + s.name + repo.Path() + ":pull"
}

// label names the endpoint in metrics: its host, and its path where it has one.
func (s *site) label() string {
	return strings.TrimSuffix(s.base.Host+strings.TrimSuffix(s.base.Path, "v2/")+s.name, "/")
}

// equip gives the endpoints what they need for the accounts and for telling of
// themselves. Persistent is that of [Options].
func (r *Registry) equip(persistent bool) {
	for _, ep := range r.endpoints {
		if !ep.blobsOnly {
			r.trusted = append(r.trusted, ep)
		}
		ep.budgets = make([]budget, len(r.accounts))
		for _, b := range []*breaker{&ep.breaker, &ep.storage} {
			b.persistent = persistent
			b.failure = func() { r.metrics.endpointFailed(ep.label()) }
			b.changed = func(pause time.Duration, err error) { r.changed(ep, pause, err) }
		}
		r.metrics.endpointUp(ep.label(), true)
	}
}

// changed tells that an endpoint goes down or comes up again.
func (r *Registry) changed(ep *endpoint, pause time.Duration, err error) {
	r.metrics.endpointUp(ep.label(), ep.isUp())
	if err == nil {
		r.log.Info("endpoint answers again", "registry", r.registry.String(), "upstream", ep.String())
		return
	}
	r.log.Warn("endpoint fails and is left alone", "registry", r.registry.String(), "upstream", ep.String(),
		"dur", pause, "err", err)
}
