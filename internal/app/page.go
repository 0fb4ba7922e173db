package app

import (
	"net/http"

	"sampan/internal/oci"
	"sampan/internal/upstream"
	"sampan/internal/welcome"
)

// slowBelow is the rate, in bytes per second of one connection, below which the page
// calls a registry slow.
const slowBelow = 128 << 10

// page makes what browsers see; nil where the configuration wants none.
func (s *serving) page(a *App) (func(http.ResponseWriter, *http.Request, string), error) {
	if !s.config.Page {
		return nil, nil
	}
	p, err := welcome.New(welcome.Options{
		Names: s.names, Domain: s.config.Domain, Log: a.o.Log,
		Upstreams: func() []welcome.Upstream { return s.told(a.o.Config.Offline) },
	})
	if err != nil {
		return nil, err
	}
	return p.Serve, nil
}

// told lists the registries that strangers may know of: not those that are read with
// accounts which are not everybody's.
func (s *serving) told(offline bool) []welcome.Upstream {
	var list []welcome.Upstream
	for _, name := range s.names.Registries() {
		if u, ok := s.config.Upstream(name); !ok || u.ForSome() {
			continue
		}
		list = append(list, welcome.Upstream{Registry: name, State: s.state(name, offline)})
	}
	return list
}

// state is how a registry is, in the words of the page.
func (s *serving) state(name oci.Registry, offline bool) welcome.State {
	r := s.upstreams.configured[name]
	if offline || r == nil {
		return welcome.Offline
	}
	return stateOf(r.Status())
}

// stateOf: a registry fails when no endpoint that is asked for manifests is up, and is
// slow when some are not, or when all that are up bring little.
func stateOf(s upstream.Status) welcome.State {
	var asked, up, slow int
	for _, e := range s.Endpoints {
		if e.BlobsOnly {
			continue
		}
		asked++
		if e.State != "up" || e.Failures > 1 {
			continue
		}
		up++
		if e.Rate > 0 && e.Rate < slowBelow {
			slow++
		}
	}
	switch {
	case up == 0 && asked > 0:
		return welcome.Failing
	case up < asked || slow == up:
		return welcome.Slow
	default:
		return welcome.Good
	}
}
