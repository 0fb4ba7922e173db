package upstream

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/net/publicsuffix"

	"sampan/internal/oci"
	"sampan/internal/upstream/failure"
)

// A grant is what a request is authorized with. The zero value is nothing.
type grant struct {
	header    string // value of Authorization, "" for none
	key       string // of the token; "" when it is not from a token endpoint
	granted   bool   // a token endpoint has granted it
	fresh     bool   // … because of this very question
	anonymous bool   // … without credentials
}

// worthRenewing tells whether an answer may change with other authorization: a
// 401, unless a token was just granted for the same challenge, and a 403 that
// may mean that the token is too old. What comes from another origin is never
// worth it.
func (g grant) worthRenewing(ep *endpoint, rep *reply) bool {
	if rep.moved {
		return false
	}
	switch rep.StatusCode {
	case http.StatusUnauthorized:
		c, _ := chooseChallenge(rep.Header)
		return !g.fresh || c.usable() && !c.same(ep.challenge.Load())
	case http.StatusForbidden:
		return g.granted && !g.fresh
	default:
		return false
	}
}

// authorize returns what the endpoint is known to want for a repository. It
// asks for a token where that is needed and none is at hand.
func (r *Registry) authorize(ctx context.Context, ep *endpoint, repo oci.Repository) (grant, error) {
	c := ep.challenge.Load()
	if c == nil {
		return grant{}, nil
	}
	cred, err := r.credential(ctx, ep)
	switch {
	case err != nil:
		return grant{}, err
	case cred.Token != "":
		return grant{header: "Bearer " + cred.Token}, nil
	case c.scheme == "bearer":
		return r.tokenAnew(ctx, ep, *c, cred, c.scope(alsoScope(ctx, ep.scope(repo))))
	case cred.Username != "":
		return grant{header: basic(cred)}, nil
	default:
		return grant{}, nil
	}
}

// renew learns from an answer that refused a request and returns what to try
// once more with.
func (r *Registry) renew(ctx context.Context, ep *endpoint, repo oci.Repository, old grant, status int, header http.Header) (grant, error) {
	cause := &statusError{status: status, aside: true, url: redact(ep.base)}
	if status == http.StatusUnauthorized {
		if err := r.learn(ctx, ep, repo, header, cause); err != nil {
			return grant{}, err
		}
	}
	r.tokens.drop(old)
	if old.header != "" && status == http.StatusUnauthorized {
		ctx = withRefused(ctx)
	}
	g, err := r.authorize(ctx, ep, repo)
	switch {
	case err != nil:
		return grant{}, err
	case g.header == "":
		return grant{}, r.fail(oci.CodeUnauthorized, cause, failure.Facts{Kind: failure.LoginNeeded})
	case g.header != old.header || g.granted:
		return g, nil
	}
	// The same as before is of no use. Whether it is the credentials that are
	// refused, or the repository that is not there, the ping tells.
	if p, err := r.ping(ctx, ep, g.header); err == nil && p.open {
		return grant{}, r.fail(oci.CodeNameUnknown, cause, failure.Facts{Kind: failure.HiddenFromUser, Repository: repo.Path()})
	}
	return grant{}, r.fail(oci.CodeUnauthorized, cause, failure.Facts{Kind: failure.LoginRefused})
}

// learn keeps the challenge of a 401. A 401 without one (gcr.io) leaves the
// challenge that is known, or is explained by the ping's.
func (r *Registry) learn(ctx context.Context, ep *endpoint, repo oci.Repository, header http.Header, cause error) error {
	c, others := chooseChallenge(header)
	if !c.usable() && len(others) == 0 {
		if ep.challenge.Load() != nil {
			return nil
		}
		p, err := r.sharedPing(ctx, ep)
		if err != nil {
			return err
		}
		c, others = p.challenge, p.others
		if !c.usable() && len(others) == 0 {
			if c, err = r.unexplained(ctx, ep, repo, p, cause); err != nil {
				return err
			}
		}
	}
	if !c.usable() {
		return r.fail(oci.CodeUnauthorized, cause, failure.Facts{Kind: failure.LoginUnknown, What: clean(strings.Join(others, ", "))})
	}
	ep.challenge.Store(&c)
	return nil
}

// unexplained says what to make of a 401 when neither it nor the ping says what
// to do. With credentials, Basic is the one scheme that needs no more. Without,
// a registry that is open to everyone hides what does not exist.
func (r *Registry) unexplained(ctx context.Context, ep *endpoint, repo oci.Repository, p pong, cause error) (challenge, error) {
	cred, err := r.credential(ctx, ep)
	switch {
	case err != nil:
		return challenge{}, err
	case !cred.IsZero():
		return challenge{scheme: "basic"}, nil
	case p.open:
		return challenge{}, r.fail(oci.CodeNameUnknown, cause, failure.Facts{Kind: failure.Hidden, Repository: repo.Path()})
	default:
		return challenge{}, r.fail(oci.CodeUnauthorized, cause, failure.Facts{Kind: failure.LoginNeeded})
	}
}

// A pong is the answer to a ping.
type pong struct {
	challenge challenge
	others    []string // schemes that sampan does not speak
	open      bool     // it was not refused
}

// ping asks the base of the API.
func (r *Registry) ping(ctx context.Context, ep *endpoint, authorization string) (pong, error) {
	rep, err := r.follow(ctx, ep, question{kind: kindPing, method: http.MethodGet}, ep.base, authorization)
	if err != nil {
		return pong{}, err
	}
	defer rep.close()
	if rep.moved {
		return pong{}, nil
	}
	c, others := chooseChallenge(rep.Header)
	return pong{c, others, rep.StatusCode/100 == 2}, nil
}

// sharedPing pings without credentials; whoever needs it at the same time
// shares the answer.
func (r *Registry) sharedPing(ctx context.Context, ep *endpoint) (pong, error) {
	v, err := r.tokens.flights.do(ctx, r.timeout, "ping "+ep.base.String(), func(ctx context.Context) (any, error) {
		if c := ep.challenge.Load(); c != nil { // look again: another flight has ended
			return pong{challenge: *c}, nil
		}
		return r.ping(ctx, ep, "")
	})
	if err != nil {
		return pong{}, r.flightError(ctx, err)
	}
	return v.(pong), nil
}

func (r *Registry) credential(ctx context.Context, ep *endpoint) (Credential, error) {
	if ep.account == nil || ep.account.credentials == nil {
		return Credential{}, nil
	}
	cred, err := ep.account.credentials(ctx, ep.base)
	if err == nil && !isTokenText(cred.Token) {
		err = errors.New("the token has characters that a header cannot have")
	}
	if err != nil {
		return Credential{}, r.fail(oci.CodeUnavailable, err, failure.Facts{Kind: failure.LoginUnread})
	}
	return cred, nil
}

func basic(c Credential) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(c.Username+":"+c.Password))
}

// realm checks the address of a token endpoint.
func (r *Registry) realm(ep *endpoint, c challenge) (*url.URL, error) {
	u, err := url.Parse(c.realm)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || u.Opaque != "" {
		return nil, r.noAnswer(errBadLocation, "asks for a token at something that is not an address")
	}
	if u.Scheme == "http" && ep.base.Scheme == "https" {
		return nil, r.noAnswer(fmt.Errorf("realm %s", redact(u)), "asks for a token over plain http, which is refused")
	}
	u.User, u.Fragment = nil, ""
	return u, nil
}

// mayKnowCredentials tells whether credentials for ep may be sent to a token
// endpoint on the given host.
func (r *Registry) mayKnowCredentials(ep *endpoint, host string) bool {
	host = strings.ToLower(host)
	own := strings.ToLower(ep.base.Hostname())
	switch {
	case host == own, slices.Contains(r.realms, host):
		return true
	case own == "lscr.io" && host == "ghcr.io": // one service under two names
		return true
	default:
		return sameSite(host, own)
	}
}

// sameSite tells whether two host names have the same registrable domain.
// Addresses and names without a dot have none.
func sameSite(a, b string) bool {
	if net.ParseIP(a) != nil || net.ParseIP(b) != nil {
		return false
	}
	siteA, err := publicsuffix.EffectiveTLDPlusOne(a)
	if err != nil {
		return false
	}
	siteB, err := publicsuffix.EffectiveTLDPlusOne(b)
	return err == nil && siteA == siteB
}
