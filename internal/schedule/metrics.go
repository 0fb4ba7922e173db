package schedule

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics have the names of tasks as a label, which are those of the configuration.
type metrics struct {
	runs    *prometheus.CounterVec
	success *prometheus.GaugeVec
	known   map[string]bool
}

// results are those of runs; "left_out" is one that did not begin.
func results() []string { return []string{"ok", "error", "canceled", "left_out"} }

// newMetrics registers the metrics; r may be nil.
func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		runs: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sampan_schedule_runs_total", Help: "Runs of tasks by result: ok, error, canceled (the mirror stopped), left_out (too late, or it was running still).",
		}, []string{"task", "result"}),
		success: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "sampan_schedule_last_success_timestamp_seconds", Help: "When the last run without error ended, in seconds since 1970; 0: none has.",
		}, []string{"task"}),
		known: make(map[string]bool),
	}
	if r == nil {
		return m, nil
	}
	return m, errors.Join(r.Register(m.runs), r.Register(m.success))
}

// know has the metrics of these tasks and of no others.
func (m *metrics) know(tasks []*entry) {
	now := make(map[string]bool)
	for _, e := range tasks {
		now[e.Name] = true
		for _, result := range results() {
			m.runs.WithLabelValues(e.Name, result)
		}
		if e.last != nil {
			m.succeeded(e.Name, e.last.Success)
		} else {
			m.succeeded(e.Name, time.Time{})
		}
	}
	for name := range m.known {
		if !now[name] {
			m.runs.DeletePartialMatch(prometheus.Labels{"task": name})
			m.success.DeleteLabelValues(name)
		}
	}
	m.known = now
}

func (m *metrics) left(task string) { m.runs.WithLabelValues(task, "left_out").Inc() }

func (m *metrics) ended(task, result string, n note) {
	m.runs.WithLabelValues(task, result).Inc()
	m.succeeded(task, n.Success)
}

func (m *metrics) succeeded(task string, at time.Time) {
	seconds := 0.0
	if !at.IsZero() {
		seconds = float64(at.UnixNano()) / float64(time.Second)
	}
	m.success.WithLabelValues(task).Set(seconds)
}
