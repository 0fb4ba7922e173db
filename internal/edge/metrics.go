package edge

import (
	"errors"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	requests *prometheus.CounterVec
	bytes    *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	refused  prometheus.Counter // connections
}

// newMetrics registers the metrics unless r is nil.
func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sampan_edge_requests_total",
			Help: "Requests answered, by registry, kind, result and status code.",
		}, []string{"registry", "kind", "result", "code"}),
		bytes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sampan_edge_sent_bytes_total",
			Help: "Bytes of bodies sent to clients.",
		}, []string{"registry", "kind", "result"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "sampan_edge_request_seconds",
			Help:    "Time from a request's header to the end of its answer.",
			Buckets: prometheus.ExponentialBuckets(0.001, 4, 10),
		}, []string{"kind", "result"}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "sampan_edge_refused_connections_total",
			Help: "Connections closed at once because there were too many.",
		}),
	}
	if r == nil {
		return m, nil
	}
	return m, errors.Join(r.Register(m.requests), r.Register(m.bytes), r.Register(m.seconds), r.Register(m.refused))
}

func (m *metrics) count(registry, kind, result string, code int, bytes int64, dur time.Duration) {
	m.requests.WithLabelValues(registry, kind, result, strconv.Itoa(code)).Inc()
	m.bytes.WithLabelValues(registry, kind, result).Add(float64(bytes))
	m.seconds.WithLabelValues(kind, result).Observe(dur.Seconds())
}
