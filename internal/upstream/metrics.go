package upstream

import (
	"errors"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sampan/internal/oci"
)

// A kind is what a request asks for, in the words of the metrics.
type kind string

const (
	kindManifest  kind = "manifest"
	kindBlob      kind = "blob"
	kindTags      kind = "tags"
	kindReferrers kind = "referrers"
	kindToken     kind = "token"
	kindPing      kind = "ping"
	kindPush      kind = "push"
)

// metrics are bound to one registry. Their labels are bounded: registries are
// configured, kinds and results are listed here.
type metrics struct {
	registry string
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	bytes    *prometheus.CounterVec
	tokens   *prometheus.CounterVec

	endpoints *prometheus.GaugeVec
	failures  *prometheus.CounterVec
	hedges    *prometheus.CounterVec
	limits    *prometheus.GaugeVec
	remaining *prometheus.GaugeVec
	refused   *prometheus.CounterVec
}

// newMetrics makes the metrics, or finds those that another Registry has
// registered with reg. A nil reg gives metrics that nobody reads.
func newMetrics(reg prometheus.Registerer, registry string) (*metrics, error) {
	m := &metrics{
		registry: registry,
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sampan_upstream_requests_total",
			Help: "HTTP requests sent, redirects included, by class of their status (2xx to 5xx, or error for no answer).",
		}, []string{"registry", "kind", "result"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "sampan_upstream_request_duration_seconds",
			Help:    "Time from sending a request to the headers of its answer.",
			Buckets: prometheus.ExponentialBuckets(0.005, 2, 13), // 5 ms to 20 s
		}, []string{"registry", "kind"}),
		bytes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sampan_upstream_received_bytes_total",
			Help: "Bytes of bodies received.",
		}, []string{"registry", "kind"}),
		tokens: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sampan_upstream_tokens_total",
			Help: "Tokens asked for at the registry's token endpoint, by result (ok or error).",
		}, []string{"registry", "result"}),
	}
	m.makeEndpoints()
	if reg == nil {
		return m, nil
	}
	return m, errors.Join(
		register(reg, &m.requests),
		register(reg, &m.duration),
		register(reg, &m.bytes),
		register(reg, &m.tokens),
		register(reg, &m.endpoints),
		register(reg, &m.failures),
		register(reg, &m.hedges),
		register(reg, &m.limits),
		register(reg, &m.remaining),
		register(reg, &m.refused),
	)
}

// makeEndpoints makes the metrics of endpoints, which are configured, and of accounts,
// which are numbered.
func (m *metrics) makeEndpoints() {
	m.endpoints = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "sampan_upstream_endpoint_up",
		Help: "1 while an endpoint is asked, 0 while it is left alone because it failed.",
	}, []string{"registry", "endpoint"})
	m.failures = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "sampan_upstream_endpoint_failures_total",
		Help: "Failures of an endpoint: no connection, broken or silent ones, answers of 5xx, races lost; an archive that cannot be read.",
	}, []string{"registry", "endpoint"})
	m.hedges = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "sampan_upstream_hedges_total",
		Help: "Questions put to a second endpoint because the first one was slow, by what came of it (won or lost).",
	}, []string{"registry", "result"})
	m.limits = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "sampan_upstream_budget_limit_requests",
		Help: "Requests that a registry allows an account, as it said last; accounts are numbered, 0 is anonymous.",
	}, []string{"registry", "account"})
	m.remaining = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "sampan_upstream_budget_remaining_requests",
		Help: "Requests that are left of them, as it said last.",
	}, []string{"registry", "account"})
	m.refused = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "sampan_upstream_limited_total",
		Help: "Answers of 429 to an account.",
	}, []string{"registry", "account"})
}

// register registers *c, or replaces it by the equal collector that is
// registered already.
func register[C prometheus.Collector](reg prometheus.Registerer, c *C) error {
	err := reg.Register(*c)
	var already prometheus.AlreadyRegisteredError
	if !errors.As(err, &already) {
		return err
	}
	existing, ok := already.ExistingCollector.(C)
	if !ok {
		return err
	}
	*c = existing
	return nil
}

// An EndpointMeter tells the metrics of an endpoint that is part of an upstream and no
// address of a registry.
type EndpointMeter struct {
	metrics  *metrics
	endpoint string
}

// NewEndpointMeter makes the meter of one endpoint, which is up. A nil reg gives one
// that nobody reads.
func NewEndpointMeter(reg prometheus.Registerer, registry oci.Registry, endpoint string) (*EndpointMeter, error) {
	m := &metrics{registry: registry.String()}
	m.makeEndpoints()
	if reg != nil {
		if err := errors.Join(register(reg, &m.endpoints), register(reg, &m.failures)); err != nil {
			return nil, err
		}
	}
	m.endpointUp(endpoint, true)
	return &EndpointMeter{m, endpoint}, nil
}

// Answered tells that the endpoint can be read.
func (m *EndpointMeter) Answered() { m.metrics.endpointUp(m.endpoint, true) }

// Failed counts a question that it did not answer; up tells whether it can be read all
// the same.
func (m *EndpointMeter) Failed(up bool) {
	m.metrics.endpointUp(m.endpoint, up)
	m.metrics.endpointFailed(m.endpoint)
}

// sent counts one request; status is 0 when there was no answer.
func (m *metrics) sent(k kind, status int, took time.Duration) {
	result := "error"
	if status >= 100 && status <= 599 {
		result = strconv.Itoa(status/100) + "xx"
	}
	m.requests.WithLabelValues(m.registry, string(k), result).Inc()
	m.duration.WithLabelValues(m.registry, string(k)).Observe(took.Seconds())
}

func (m *metrics) received(k kind, n int) {
	m.bytes.WithLabelValues(m.registry, string(k)).Add(float64(n))
}

func (m *metrics) token(err error) {
	result := "ok"
	if err != nil {
		result = "error"
	}
	m.tokens.WithLabelValues(m.registry, result).Inc()
}

func (m *metrics) endpointUp(endpoint string, up bool) {
	v := 0.0
	if up {
		v = 1
	}
	m.endpoints.WithLabelValues(m.registry, endpoint).Set(v)
}

func (m *metrics) endpointFailed(endpoint string) {
	m.failures.WithLabelValues(m.registry, endpoint).Inc()
}

// hedged counts a question put to a second endpoint.
func (m *metrics) hedged(won bool) {
	result := "lost"
	if won {
		result = "won"
	}
	m.hedges.WithLabelValues(m.registry, result).Inc()
}

// budget tells what an account may ask; a negative number says that this is not
// limited any more.
func (m *metrics) budget(account int, limit, remaining int64) {
	labels := []string{m.registry, strconv.Itoa(account)}
	for v, n := range map[*prometheus.GaugeVec]int64{m.limits: limit, m.remaining: remaining} {
		if n < 0 {
			v.DeleteLabelValues(labels...)
			continue
		}
		v.WithLabelValues(labels...).Set(float64(n))
	}
}

// limited counts a 429.
func (m *metrics) limited(account int) {
	m.refused.WithLabelValues(m.registry, strconv.Itoa(account)).Inc()
}
