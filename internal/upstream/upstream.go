// Package upstream is one upstream registry as an [oci.Reader].
//
// It promises:
//   - every question costs one request upstream once the registry's challenge
//     is known, besides redirects, one token per repository, account and
//     lifetime, and races that Options.Hedge allows;
//   - an endpoint that fails again and again, or hangs, is left alone for pauses
//     that grow, and one that is for blobs only is asked for nothing else;
//   - an account whose rate is limited asks for no manifest until that ends;
//   - credentials reach the configured endpoint and the token endpoints that
//     belong to it, and nobody else: not a redirect target, not a sub-domain;
//   - a redirect is asked for byte for byte as the registry wrote it, at most
//     ten times in a row, never with HEAD, never from https down to http, and
//     remembered for the parts of the same blob only, in memory, for minutes;
//   - an address that a remote party chose (redirect, token endpoint) is not a
//     private one, unless the configured endpoint itself is private or the
//     [Redirect] for its host allows it;
//   - a client certificate is shown to the endpoints' hosts, and to those whose
//     Redirect names one; TLS is always verified;
//   - a manifest that does not match its digest, is no manifest or is larger
//     than [oci.MaxManifestSize] is no answer (UNAVAILABLE), so that nobody
//     keeps it;
//   - every body is bounded, or belongs to a blob and must keep moving;
//   - in a context with an [oci.Login] nobody is asked but as that one, and no
//     endpoint that does not learn who asks;
//   - errors carry the specification's code and neither tokens nor the query
//     of an URL;
//   - nothing is written but by [Registry.Push], which sends a body again only
//     where the answer to it was a redirect or asked for a token.
//
// It does not cache anything but tokens, does not verify blobs (they stream;
// whoever keeps them does), does not retry what failed at the last endpoint,
// and does not know how its registry is called at the mirror.
//
// Lock order: blobParts.mu before those of doubts, meters and breakers; all others
// are leaves. None is held while bytes move or while anything is logged.
package upstream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sampan/internal/oci"
)

// Defaults of [Options].
const (
	defaultTimeout      = time.Minute
	defaultStallTimeout = 30 * time.Second
	defaultUserAgent    = "sampan"
)

// Options configure a [Registry].
type Options struct {
	// Registry is the canonical name, used in messages and metrics. Required.
	Registry oci.Registry

	// Endpoints are the addresses of the registry's API, the preferred one
	// first; the others are tried in order when one gives no answer. For ten
	// minutes, a blob is asked for last where wrong bytes of it came from. Required.
	// The scheme is https, or http for plain HTTP. A path is put before "/v2/";
	// a path that itself contains "/v2/" is kept as it is and its rest becomes
	// part of the repository name ("https://m.example/v2/docker.io").
	Endpoints []*url.URL

	// BlobsOnly tells, for the endpoint at the same place, that nothing but the
	// bytes of blobs is asked there, which everybody proves: no tag, manifest or
	// list, and not whether a repository holds a blob. Places that are missing are
	// false. At least one endpoint must be asked for everything.
	BlobsOnly []bool

	// Told tells, for the endpoint at the same place, that it may know what clients
	// say who they are. Only such are asked in a context with an [oci.Login]: what
	// others would answer says nothing about that client. Empty means the first one
	// that is not for blobs only.
	Told []bool

	// Moved maps paths of repositories to those of others of the registry, which are
	// asked for content that the first does not have. Lists of tags are the first's
	// alone, and so is [Registry.Push]. Nil means none.
	Moved map[string]string

	// PublicOnly refuses private addresses even for Endpoints and what they lead
	// to: for endpoints that are not configured, but made from a name that a
	// client chose. It has no effect on a Transport that is given.
	PublicOnly bool

	// Accounts are who sampan may be to the registry; empty means anonymous. See
	// [Account].
	Accounts []Account

	// Credentials stand for one account that is used for all repositories; nil
	// means none. It cannot be given together with Accounts.
	Credentials Credentials

	// TokenRealms are further host names to whose token endpoints credentials
	// may be sent. Those on the endpoint's own registrable domain always may.
	TokenRealms []string

	// Write asks token endpoints for the right to push as well as to pull, for
	// [Registry.Push].
	Write bool

	// Egress is how requests leave. It has no effect on a Transport that is given.
	Egress Egress

	// Transport is used for every request and must not follow redirects. Nil
	// means [NewTransport] for these endpoints and Egress. It must not be shared between
	// registries: an open connection would lead one to the private addresses of
	// another.
	Transport http.RoundTripper

	// Timeout bounds each question except for the bytes of a blob; zero means
	// one minute, or more where the timeouts of Egress need it.
	Timeout time.Duration

	// StallTimeout is how long the bytes of a blob may stand still; zero means
	// 30 seconds.
	StallTimeout time.Duration

	// Hedge is how long an endpoint may take to answer a question about a manifest or
	// about whether a blob is there, or to begin a blob, before the next endpoint is
	// asked as well: the first answer wins, the other question is cancelled, and counts
	// against its endpoint. Zero means that nobody is, but for the question by which an
	// endpoint that was down is tried: that waits for one second.
	Hedge time.Duration

	// Persistent asks an endpoint that fails each time all the same, instead of leaving it
	// alone for a while: for who waits between questions themselves.
	Persistent bool

	// RateLimitWait is how long a manifest may wait where the registry limits the rate
	// and says that it will not for long; zero means not at all.
	RateLimitWait time.Duration

	// Logger gets one debug line per request; nil means none.
	Logger *slog.Logger

	// Registerer gets the metrics; nil means none. Registries may share one.
	Registerer prometheus.Registerer

	// UserAgent is sent with every request; empty means "sampan".
	UserAgent string
}

// Credentials tell who sampan is to an endpoint. The zero [Credential] means
// anonymous. An error is returned to the client as UNAVAILABLE, its text goes
// to the log. In a context of which [Refused] is true, what was given before has
// been refused: then it is time to look for something newer.
type Credentials func(ctx context.Context, endpoint *url.URL) (Credential, error)

// Static returns the same credential for every endpoint.
func Static(c Credential) Credentials {
	return func(context.Context, *url.URL) (Credential, error) { return c, nil }
}

// A Credential is a user name and a password, a bearer token, or an identity
// token. It prints masked.
type Credential struct {
	Username string
	Password string
	// Token is sent as it is to the endpoint; no token endpoint is asked.
	Token string
	// IdentityToken is sent to the token endpoint instead of a password (OAuth 2,
	// grant_type=refresh_token).
	IdentityToken string
}

// named tells whether token endpoints learn from c who asks.
func (c Credential) named() bool { return c.Username != "" || c.IdentityToken != "" }

// IsZero tells whether c is anonymous.
func (c Credential) IsZero() bool { return c == Credential{} }

// String masks all secrets.
func (c Credential) String() string {
	switch {
	case c.IsZero():
		return "anonymous"
	case c.Token != "", c.IdentityToken != "":
		return "token ***"
	default:
		return c.Username + ":***"
	}
}

// GoString masks all secrets.
func (c Credential) GoString() string { return c.String() }

// LogValue masks all secrets.
func (c Credential) LogValue() slog.Value { return slog.StringValue(c.String()) }

// A Registry is one upstream registry. Its methods may be called concurrently.
type Registry struct {
	registry     oci.Registry
	endpoints    []*endpoint
	trusted      []*endpoint               // those that are asked for everything
	moved        map[string]oci.Repository // by path
	accounts     []*account                // the first one is anonymous
	realms       []string
	transport    http.RoundTripper
	guard        *guard
	tokens       *tokens
	doubts       doubts
	timeout      time.Duration
	stallTimeout time.Duration
	log          *slog.Logger
	metrics      *metrics
	userAgent    string

	hedge         time.Duration // 0 for none
	rateLimitWait time.Duration
}

// The abilities that other packages look for.
var (
	_ oci.Reader      = (*Registry)(nil)
	_ oci.BlobStater  = (*Registry)(nil)
	_ oci.BlobFetcher = (*Registry)(nil)
	_ oci.TagGetter   = (*Registry)(nil)
)

// New makes a Registry. It dials nobody and starts nothing.
func New(o Options) (*Registry, error) {
	if o.Registry.IsZero() {
		return nil, errors.New("upstream: no registry")
	}
	if len(o.Endpoints) == 0 {
		return nil, fmt.Errorf("upstream %s: no endpoint", o.Registry)
	}
	r := &Registry{
		registry:     o.Registry,
		transport:    o.Transport,
		tokens:       newTokens(),
		timeout:      orDefault(o.Timeout, max(defaultTimeout, o.Egress.patience())),
		stallTimeout: orDefault(o.StallTimeout, defaultStallTimeout),
		log:          o.Logger,
		userAgent:    o.UserAgent,

		hedge:         o.Hedge,
		rateLimitWait: o.RateLimitWait,
	}
	var err error
	if r.endpoints, err = newEndpoints(o); err != nil {
		return nil, fmt.Errorf("upstream %s: %w", o.Registry, err)
	}
	if r.accounts, err = newAccounts(o); err != nil {
		return nil, fmt.Errorf("upstream %s: %w", o.Registry, err)
	}
	if r.moved, err = newMoved(o); err != nil {
		return nil, fmt.Errorf("upstream %s: %w", o.Registry, err)
	}
	for _, host := range o.TokenRealms {
		r.realms = append(r.realms, strings.ToLower(host))
	}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	if r.userAgent == "" {
		r.userAgent = defaultUserAgent
	}
	if err := o.Egress.check(); err != nil {
		return nil, fmt.Errorf("upstream %s: %w", o.Registry, err)
	}
	if r.transport == nil {
		r.transport = NewTransport(TransportOptions{Endpoints: o.Endpoints, PublicOnly: o.PublicOnly, Egress: o.Egress})
	}
	if t, ok := r.transport.(*Transport); ok {
		r.guard = t.guard
	} else if r.guard = newGuard(o.Endpoints); o.PublicOnly {
		r.guard = newGuard(nil)
	}
	if r.metrics, err = newMetrics(o.Registerer, o.Registry.String()); err != nil {
		return nil, fmt.Errorf("upstream %s: %w", o.Registry, err)
	}
	r.equip(o.Persistent)
	return r, nil
}

// Endpoint returns the preferred endpoint for logs, without user and query.
func (r *Registry) Endpoint() string { return r.endpoints[0].String() }

// Close stops the token requests that are under way, waits for them, and closes
// idle connections. Questions and blobs that are still open go on, but get no
// new token.
func (r *Registry) Close() error {
	r.tokens.close()
	if c, ok := r.transport.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
	return nil
}

func orDefault(d, def time.Duration) time.Duration {
	if d <= 0 {
		return def
	}
	return d
}
