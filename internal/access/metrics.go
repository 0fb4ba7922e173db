package access

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics count what is refused. They outlive the rules that they count for. The
// methods of nil count nothing.
type Metrics struct {
	logins *prometheus.CounterVec
	denied *prometheus.CounterVec
}

// The results of a login.
const (
	loginRight  = "right"
	loginWrong  = "wrong"
	loginSlowed = "slowed"
)

// The reasons of a denial.
const (
	deniedByRule   = "rule"
	deniedByPolicy = "policy"
	deniedReported = "reported" // the policy only reports
	deniedLogin    = "login"    // the client may log in and ask again
)

// NewMetrics registers them; a nil Registerer registers none.
func NewMetrics(r prometheus.Registerer) (*Metrics, error) {
	m := &Metrics{
		logins: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sampan_access_logins_total",
			Help: "Passwords that were checked, by result: right, wrong, or slowed for not looked at because too many were wrong. Passwords known to be right and tokens are not counted.",
		}, []string{"result"}),
		denied: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sampan_access_denied_total",
			Help: "Requests that were refused, by what refused them: rule, policy, or login for those that may come again as somebody; reported are those that a policy only reports.",
		}, []string{"by"}),
	}
	for _, l := range []string{loginRight, loginWrong, loginSlowed} {
		m.logins.WithLabelValues(l)
	}
	for _, l := range []string{deniedByRule, deniedByPolicy, deniedReported, deniedLogin} {
		m.denied.WithLabelValues(l)
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.logins, m.denied} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("access: %w", err)
		}
	}
	return m, nil
}

func (m *Metrics) login(result string) {
	if m != nil {
		m.logins.WithLabelValues(result).Inc()
	}
}

func (m *Metrics) deny(by string) {
	if m != nil {
		m.denied.WithLabelValues(by).Inc()
	}
}
