package fill

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"sampan/internal/oci"
	"sampan/internal/store"
)

type metrics struct {
	started, joined, retries, mismatches, bytes, resumes, resumed, saved, direct prometheus.Counter

	running, lines prometheus.Gauge

	firstByte prometheus.Histogram

	ended *prometheus.CounterVec
}

// newMetrics registers the metrics unless r is nil.
func newMetrics(r prometheus.Registerer) (*metrics, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: "sampan", Subsystem: "fill", Name: name, Help: help})
	}
	m := &metrics{
		started:    counter("fetches_total", "Fetches begun."),
		joined:     counter("joins_total", "Requests that joined a running fetch."),
		retries:    counter("retries_total", "Attempts after one that broke."),
		mismatches: counter("mismatches_total", "Fetches whose content did not match its digest."),
		bytes:      counter("upstream_bytes_total", "Bytes of blobs received from upstreams."),
		resumes:    counter("resumes_total", "Fetches that continued behind the bytes of an earlier one."),
		saved:      counter("saved_bytes_total", "Bytes that readers got of a fetch and that another reader of it had had before: they did not cross again."),
		resumed:    counter("resumed_bytes_total", "Bytes of earlier fetches used again."),
		direct:     counter("stream_through_total", "Readers that got a fetch of their own because the store could not be written."),
		running:    prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "sampan", Subsystem: "fill", Name: "running", Help: "Fetches running now."}),
		lines:      prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "sampan", Subsystem: "fill", Name: "lines", Help: "Upstream connections of fetches, open now."}),
		firstByte: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: "sampan", Subsystem: "fill", Name: "first_byte_seconds",
			Help:    "Time from the beginning of a fetch to its first byte from upstream.",
			Buckets: []float64{.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60},
		}),
		ended: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "sampan", Subsystem: "fill", Name: "ended_total",
			Help: "Fetches ended, by result.",
		}, []string{"result"}),
	}
	if r == nil {
		return m, nil
	}
	var errs []error
	for _, c := range []prometheus.Collector{m.started, m.joined, m.retries, m.mismatches, m.bytes, m.resumes, m.resumed, m.saved, m.direct, m.running, m.lines, m.firstByte, m.ended} {
		errs = append(errs, r.Register(c))
	}
	return m, errors.Join(errs...)
}

func (m *metrics) end(err error) (result string) {
	result = "error"
	switch {
	case err == nil, errors.Is(err, errGone):
		result = "stored"
	case errors.Is(err, ErrMismatch):
		result = "mismatch"
	case errors.Is(err, store.ErrUnwritable):
		result = "unwritable"
	case errors.Is(err, ErrStopped):
		result = "stopped"
	case oci.IsAnswer(err):
		result = "refused"
	}
	m.ended.WithLabelValues(result).Inc()
	return result
}
