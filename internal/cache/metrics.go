package cache

import (
	"errors"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"sampan/internal/oci"
)

// How a question about a known tag ended.
const (
	tagUnchanged = "unchanged"
	tagMoved     = "moved"
	tagGone      = "gone"
	tagRefused   = "refused"
	tagError     = "error"
)

type metrics struct {
	named       atomic.Pointer[map[oci.Registry]bool]
	stale       *prometheus.CounterVec
	refusals    *prometheus.CounterVec
	revalidated *prometheus.CounterVec
	refreshed   *prometheus.CounterVec
}

// newMetrics registers the metrics unless r is nil.
func newMetrics(r prometheus.Registerer, registries []oci.Registry) (*metrics, error) {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, append([]string{"registry"}, labels...))
	}
	m := &metrics{
		stale: counter("sampan_cache_stale_answers_total",
			"Answers that were given although they ought to have been asked for again, by reason.", "reason"),
		refusals: counter("sampan_cache_remembered_refusals_total",
			"Refusals of the upstream that were given again without asking it."),
		revalidated: counter("sampan_cache_revalidations_total",
			"Questions whether a known tag has moved, by how they ended.", "result"),
		refreshed: counter("sampan_cache_refreshes_total",
			"Questions about tags in use that were asked before these were no longer fresh."),
	}
	m.know(registries)
	if r == nil {
		return m, nil
	}
	return m, errors.Join(r.Register(m.stale), r.Register(m.refusals), r.Register(m.revalidated), r.Register(m.refreshed))
}

func (m *metrics) know(registries []oci.Registry) {
	named := make(map[oci.Registry]bool)
	for _, r := range registries {
		named[r] = true
	}
	m.named.Store(&named)
}

// Know replaces the registries that metrics name.
func (c *Cache) Know(registries []oci.Registry) { c.metrics.know(registries) }

func (m *metrics) label(repo oci.Repository) string {
	if r := repo.Registry(); (*m.named.Load())[r] {
		return r.String()
	}
	return "other"
}

func (m *metrics) staleAnswer(repo oci.Repository, why Reason) {
	m.stale.WithLabelValues(m.label(repo), string(why)).Inc()
}

func (m *metrics) refused(repo oci.Repository) { m.refusals.WithLabelValues(m.label(repo)).Inc() }

func (m *metrics) revalidation(repo oci.Repository, result string) {
	m.revalidated.WithLabelValues(m.label(repo), result).Inc()
}

func (m *metrics) refresh(repo oci.Repository) { m.refreshed.WithLabelValues(m.label(repo)).Inc() }
