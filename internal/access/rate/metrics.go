package rate

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// New makes a Limiter without rules. A nil Registerer gets no metrics.
func New(r prometheus.Registerer) (*Limiter, error) {
	m := &metrics{prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "sampan_access_limited_total",
		Help: "Requests that were refused because their client has had too much, by the limit.",
	}, []string{"limit"})}
	for _, limit := range []string{
		"requests_per_second", "concurrent_pulls", "bytes_per_day",
		"cold.requests_per_hour", "cold.concurrent_pulls", "cold.bytes_per_day",
	} {
		m.count.WithLabelValues(limit)
	}
	if r != nil {
		if err := r.Register(m.count); err != nil {
			return nil, fmt.Errorf("rate: %w", err)
		}
	}
	l := &Limiter{metrics: m, accounts: make(map[string]*account)}
	l.Set(nil)
	return l, nil
}

type metrics struct{ count *prometheus.CounterVec }

func (m *metrics) limited(limit string) { m.count.WithLabelValues(limit).Inc() }
