package access

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics count who comes and what is refused. They outlive the rules that they count for. The
// methods of nil count nothing.
type Metrics struct {
	logins *prometheus.CounterVec
	denied *prometheus.CounterVec
	tokens *prometheus.CounterVec
}

// A TokenResult is what came of a token of an issuer.
type TokenResult string

// The results of a token.
const (
	TokenAccepted    TokenResult = "accepted"
	TokenRefused     TokenResult = "refused"
	TokenUnavailable TokenResult = "unavailable" // the keys could not be had
)

// OtherIssuer stands for all who are not known here. No issuer can have the name.
const OtherIssuer = "_other"

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
		tokens: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sampan_access_tokens_total",
			Help: "Tokens of issuers that clients came with, by issuer and result: accepted, refused, or unavailable for keys that could not be had; the issuer is _other for tokens of nobody who is known here.",
		}, []string{"issuer", "result"}),
	}
	m.tokens.WithLabelValues(OtherIssuer, string(TokenRefused))
	for _, l := range []string{loginRight, loginWrong, loginSlowed} {
		m.logins.WithLabelValues(l)
	}
	for _, l := range []string{deniedByRule, deniedByPolicy, deniedReported, deniedLogin} {
		m.denied.WithLabelValues(l)
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.logins, m.denied, m.tokens} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("access: %w", err)
		}
	}
	return m, nil
}

// Issuer has the tokens of a configured issuer counted from 0.
func (m *Metrics) Issuer(name string) {
	if m == nil {
		return
	}
	for _, r := range []TokenResult{TokenAccepted, TokenRefused, TokenUnavailable} {
		m.tokens.WithLabelValues(name, string(r))
	}
}

// Token counts a token of a configured issuer, or of [OtherIssuer].
func (m *Metrics) Token(issuer string, result TokenResult) {
	if m != nil {
		m.tokens.WithLabelValues(issuer, string(result)).Inc()
	}
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
