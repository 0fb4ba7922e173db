package app

import (
	"context"
	"fmt"
	"strings"

	dto "github.com/prometheus/client_model/go"

	"sampan/internal/history"
	"sampan/internal/oci"
)

// openHistory reads what is remembered of earlier processes.
func (a *App) openHistory() (err error) {
	a.history, err = history.Open(context.Background(), history.Options{
		Notes: a.index, Log: a.o.Log,
		Count: func() (history.Counters, error) {
			families, err := a.metrics.Gather()
			if err != nil {
				return history.Counters{}, fmt.Errorf("metrics: %w", err)
			}
			c := counted(families)
			c.Disk = a.store.Usage().Total()
			return c, nil
		},
	})
	return err
}

// counted is what the metrics of this process say, as they are told to whoever scrapes
// them.
func counted(families []*dto.MetricFamily) history.Counters {
	c := history.Counters{Registries: map[string]history.Traffic{}}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			count(&c, f.GetName(), labelsOf(m), int64(m.GetCounter().GetValue()))
		}
	}
	for _, t := range c.Registries {
		c.Requests += t.Requests
		c.Hits += t.Hits
		c.Misses += t.Misses
		c.Served += t.Served
		c.Cached += t.Cached
		c.Fetched += t.Fetched
	}
	return c
}

// count adds one metric.
func count(c *history.Counters, name string, labels map[string]string, n int64) {
	t := c.Registries[labels["registry"]]
	here := labels["result"] == string(oci.ResultHit) || labels["result"] == string(oci.ResultStale)
	switch name {
	case "sampan_edge_requests_total":
		t.Requests += n
		switch result := labels["result"]; {
		case here:
			t.Hits += n
		case result == string(oci.ResultMiss) || result == string(oci.ResultFill):
			t.Misses += n
		}
		switch code := labels["code"]; {
		case strings.HasPrefix(code, "5") || labels["result"] == "error":
			c.Errors += n
		case code == "429":
			c.Denials += n
		}
	case "sampan_edge_sent_bytes_total":
		t.Served += n
		if here {
			t.Cached += n
		}
	case "sampan_upstream_received_bytes_total":
		t.Fetched += n
	case "sampan_access_denied_total":
		if by := labels["by"]; by == "rule" || by == "policy" {
			c.Denials += n
		}
		return
	default:
		return
	}
	c.Registries[labels["registry"]] = t
}

func labelsOf(m *dto.Metric) map[string]string {
	labels := make(map[string]string, len(m.GetLabel()))
	for _, l := range m.GetLabel() {
		labels[l.GetName()] = l.GetValue()
	}
	return labels
}
