package app

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// configMetrics tell what became of configurations.
type configMetrics struct {
	reloads *prometheus.CounterVec
	last    prometheus.Gauge
}

// registerProcess registers what belongs to no room.
func (a *App) registerProcess(r prometheus.Registerer) error {
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name:        "sampan_build_info",
		Help:        "Always 1; the version is the label.",
		ConstLabels: prometheus.Labels{"version": a.o.Version},
	})
	build.Set(1)
	a.config = &configMetrics{
		reloads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sampan_config_reloads_total",
			Help: "Times that the configuration was loaded again, by result: ok, or refused, where the one before stays.",
		}, []string{"result"}),
		last: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "sampan_config_loaded_timestamp_seconds",
			Help: "When the configuration in force was loaded, in seconds since 1970.",
		}),
	}
	a.config.reloads.WithLabelValues("ok")
	a.config.reloads.WithLabelValues("refused")
	a.config.last.SetToCurrentTime()
	return errors.Join(
		r.Register(build),
		r.Register(a.config.reloads), r.Register(a.config.last),
		r.Register(collectors.NewGoCollector()),
		r.Register(collectors.NewProcessCollector(collectors.ProcessCollectorOpts{})),
	)
}

func (m *configMetrics) reloaded(err error) {
	if err != nil {
		m.reloads.WithLabelValues("refused").Inc()
		return
	}
	m.reloads.WithLabelValues("ok").Inc()
	m.last.SetToCurrentTime()
}

// registerCertificates registers when the first certificate of a file ends.
func (a *App) registerCertificates(r prometheus.Registerer) error {
	if a.certificates == nil {
		return nil
	}
	return r.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "sampan_edge_certificate_expiry_timestamp_seconds",
		Help: "When the first of the certificates from files ends, in seconds since 1970.",
	}, func() float64 { return float64(a.certificates.Expiry().UnixNano()) / float64(time.Second) }))
}
