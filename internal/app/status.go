package app

import (
	"slices"
	"strings"

	"sampan/internal/admin"
	"sampan/internal/oci"
	"sampan/internal/upstream"
)

// status tells the operator about the configured registries, by name.
func (u *upstreams) status() []admin.Upstream {
	list := []admin.Upstream{} // not null in JSON
	for _, r := range u.configured {
		list = append(list, upstreamStatus(r.Status()))
	}
	slices.SortFunc(list, func(a, b admin.Upstream) int { return strings.Compare(a.Registry, b.Registry) })
	return list
}

// statusOf tells about one of them.
func (u *upstreams) statusOf(registry oci.Registry) (admin.Upstream, bool) {
	r, ok := u.configured[registry]
	if !ok {
		return admin.Upstream{}, false
	}
	return upstreamStatus(r.Status()), true
}

func upstreamStatus(s upstream.Status) admin.Upstream {
	up := admin.Upstream{Registry: s.Registry.String(), Budgets: []admin.Budget{}}
	for _, e := range s.Endpoints {
		serves := "all"
		if e.BlobsOnly {
			serves = "blobs"
		}
		up.Endpoints = append(up.Endpoints, admin.Endpoint{
			URL: e.URL, Serves: serves, State: e.State, Failures: e.Failures, Error: e.Error, Until: e.Until,
		})
	}
	for _, b := range s.Budgets {
		up.Budgets = append(up.Budgets, admin.Budget(b))
	}
	return up
}
