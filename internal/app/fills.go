package app

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sampan/internal/admin"
	"sampan/internal/config"
	"sampan/internal/fill"
	"sampan/internal/store"
)

// stallSlack is how much longer than a stall a fetch waits for its upstream.
// The upstream ends a silence itself and knows which endpoint to blame; what a
// fetch cancels is nobody's fault. Connecting and waiting for headers, which the
// upstream bounds too, are in it.
const stallSlack = time.Minute

func newFills(c *config.Config, o Options, s store.Store, metrics prometheus.Registerer, events *admin.Events) (*fill.Group, error) {
	return fill.New(fill.Options{
		Store:         s,
		Log:           o.Log,
		Registerer:    metrics,
		Watch:         watching(events),
		Lines:         c.Fetch.Lines,
		UpstreamLines: c.Fetch.LinesPerUpstream,
		AllLines:      c.Fetch.LinesTotal,
		Stall:         longestStall(c),
	})
}

// running tells the operator about the fetches that are running.
func running(fills *fill.Group) []admin.Fill {
	list := []admin.Fill{} // not null in JSON
	for _, p := range fills.Running() {
		list = append(list, fillOf(p))
	}
	return list
}

func fillOf(p fill.Progress) admin.Fill {
	return admin.Fill{
		Digest:         p.Digest,
		Repositories:   append([]string{}, p.Repositories...), // not null in JSON
		Size:           p.Size,
		Bytes:          p.Bytes,
		BytesPerSecond: int64(p.Rate),
		Readers:        p.Readers,
		Lines:          p.Lines,
		Since:          p.Since,
	}
}
