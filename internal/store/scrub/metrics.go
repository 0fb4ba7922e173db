package scrub

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	bytes, passes prometheus.Counter
	found         *prometheus.CounterVec
}

// newMetrics registers the metrics; r may be nil.
func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		bytes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "sampan_scrub_bytes_total", Help: "Bytes that were read to see whether they are still what they were.",
		}),
		passes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "sampan_scrub_passes_total", Help: "Passes over all that is stored that came to their end.",
		}),
		found: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sampan_scrub_bad_blobs_total", Help: "Blobs that did not match their digests and were removed (rotten), or could not be read (unreadable).",
		}, []string{"result"}),
	}
	for _, result := range []string{"rotten", "unreadable"} {
		m.found.WithLabelValues(result)
	}
	if r == nil {
		return m, nil
	}
	return m, errors.Join(r.Register(m.bytes), r.Register(m.passes), r.Register(m.found))
}

func (m *metrics) read(n int64)      { m.bytes.Add(float64(n)) }
func (m *metrics) bad(result string) { m.found.WithLabelValues(result).Inc() }
func (m *metrics) passed()           { m.passes.Inc() }
