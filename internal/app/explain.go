package app

import (
	"net"

	"sampan/internal/admin"
	"sampan/internal/oci"
)

// An Explanation is what /api/v1/explain of the admin listener answers.
type Explanation = admin.Explanation

// newExplainer tells operators about images, as they are served now.
func (a *App) newExplainer() *admin.Explainer {
	return &admin.Explainer{
		Locate: func(image string) (oci.Reference, admin.Named, error) {
			s := a.serving.p.Load()
			_, port, _ := net.SplitHostPort(a.o.Config.Listen[0]) // a socket has none
			m, err := s.names.Explain(image, port)
			return m.Reference, admin.Named{By: string(m.Way), Alias: m.Alias}, err
		},
		Cached:   a.cache.Explain,
		Upstream: func(r oci.Registry) (admin.Upstream, bool) { return a.serving.p.Load().upstreams.statusOf(r) },
		Settings: func(repo oci.Repository) []admin.Setting {
			_, settings := a.serving.p.Load().config.TagsOf(repo)
			list := make([]admin.Setting, len(settings))
			for i, s := range settings {
				list[i] = admin.Setting{Key: "tags." + s.Key, Value: s.Value, From: s.From}
			}
			return list
		},
	}
}
