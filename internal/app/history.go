package app

import (
	"strings"

	dto "github.com/prometheus/client_model/go"

	"sampan/internal/history"
	"sampan/internal/oci"
)

// openHistory makes what remembers the last month.
func (a *App) openHistory() (err error) {
	a.history, err = history.New(history.Options{Notes: a.index, Sample: a.counted, Log: a.o.Log})
	return err
}

// counted is what the metrics have counted since the process began.
func (a *App) counted() (history.Counts, error) {
	families, err := a.metrics.Gather()
	if err != nil {
		return history.Counts{}, err
	}
	c := history.Counts{Disk: a.store.Usage().Total()}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			n := int64(m.GetCounter().GetValue())
			switch f.GetName() {
			case "sampan_edge_requests_total":
				c.Requests += n
				switch code := label(m, "code"); {
				case strings.HasPrefix(code, "5"):
					c.Errors += n
				case code == "403", code == "429":
					c.Denials += n
				}
			case "sampan_edge_sent_bytes_total":
				c.Served += n
				if r := label(m, "result"); r == string(oci.ResultHit) || r == string(oci.ResultStale) {
					c.Cached += n
				}
			case "sampan_upstream_received_bytes_total":
				c.Fetched += n
			}
		}
	}
	return c, nil
}

func label(m *dto.Metric, name string) string {
	for _, l := range m.GetLabel() {
		if l.GetName() == name {
			return l.GetValue()
		}
	}
	return ""
}
