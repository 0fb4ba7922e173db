package upstream

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"sampan/internal/oci"
	"sampan/internal/upstream/failure"
)

const (
	// maxTokens bounds the tokens that are remembered at once.
	maxTokens = 4096
	// maxTokenBytes bounds the answer of a token endpoint.
	maxTokenBytes = 1 << 20
	// defaultLifetime is that of a token without expires_in, as the
	// specification of the token endpoint says.
	defaultLifetime = time.Minute
	// longestLifetime is the most that an expires_in is believed.
	longestLifetime = 24 * time.Hour
)

// A token is what a token endpoint granted.
type token struct {
	value   string
	expires time.Time
}

// tokens remembers granted tokens by realm, service, scope and credential
// (hashed), and lets everyone who needs one wait for the same request. Errors
// are not remembered.
type tokens struct {
	flights *flights
	key     [32]byte // of the sums of credentials; lives as long as the process

	mu    sync.Mutex
	byKey map[string]token
}

func newTokens() *tokens {
	t := &tokens{flights: newFlights(), byKey: map[string]token{}}
	_, _ = rand.Read(t.key[:]) // never fails (Go 1.24)
	return t
}

func (t *tokens) close() { t.flights.close() }

// get returns a token that is still good.
func (t *tokens) get(key string, now time.Time) (token, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	tok, ok := t.byKey[key]
	return tok, ok && now.Before(tok.expires)
}

// put remembers a token. Where there are too many, those that have expired go,
// or else the one that will expire first.
func (t *tokens) put(key string, tok token, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, known := t.byKey[key]; !known && len(t.byKey) >= maxTokens {
		var first string
		for k, old := range t.byKey {
			if !now.Before(old.expires) {
				delete(t.byKey, k)
			} else if first == "" || old.expires.Before(t.byKey[first].expires) {
				first = k
			}
		}
		if len(t.byKey) >= maxTokens {
			delete(t.byKey, first)
		}
	}
	t.byKey[key] = tok
}

// drop forgets the token of a grant, unless another has taken its place.
func (t *tokens) drop(g grant) {
	if g.key == "" {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if "Bearer "+t.byKey[g.key].value == g.header {
		delete(t.byKey, g.key)
	}
}

// token returns a grant for a scope, from memory or from the token endpoint.
func (r *Registry) token(ctx context.Context, ep *endpoint, c challenge, cred Credential, scope string) (grant, error) {
	realm, err := r.realm(ep, c)
	if err != nil {
		return grant{}, err
	}
	if cred.named() && !r.mayKnowCredentials(ep, realm.Hostname()) {
		return grant{}, r.fail(oci.CodeUnauthorized, nil, failure.Facts{Kind: failure.LoginElsewhere, Host: realm.Host})
	}
	key := r.tokens.keyOf(realm, c.params["service"], scope, cred)
	g := grant{key: key, granted: true, anonymous: !cred.named()}
	if tok, ok := r.tokens.get(key, time.Now()); ok {
		g.header = "Bearer " + tok.value
		return g, nil
	}
	v, err := r.tokens.flights.do(ctx, r.timeout, "token "+key, func(ctx context.Context) (any, error) {
		// Look again: a flight may have ended between the look above and this one.
		if tok, ok := r.tokens.get(key, time.Now()); ok {
			return tok, nil
		}
		tok, err := r.fetchToken(ctx, ep, realm, c.params["service"], scope, cred)
		r.metrics.token(err)
		if err != nil {
			return nil, err
		}
		r.tokens.put(key, tok, time.Now())
		return tok, nil
	})
	if err != nil {
		return grant{}, r.flightError(ctx, err)
	}
	g.header, g.fresh = "Bearer "+v.(token).value, true
	return g, nil
}

// keyOf holds no secret: the credential is in it as an HMAC.
func (t *tokens) keyOf(realm *url.URL, service, scope string, cred Credential) string {
	h := hmac.New(sha256.New, t.key[:])
	for _, s := range []string{cred.Username, cred.Password, cred.IdentityToken} {
		_, _ = fmt.Fprintf(h, "%d:%s", len(s), s) // a hash does not fail
	}
	return strings.Join([]string{realm.String(), service, scope, hex.EncodeToString(h.Sum(nil))}, "\n")
}

// fetchToken asks the token endpoint (distribution's token specification: GET, or
// with an identity token its OAuth 2 form, POST).
func (r *Registry) fetchToken(ctx context.Context, ep *endpoint, realm *url.URL, service, scope string, cred Credential) (token, error) {
	u := *realm
	query := url.Values{"scope": strings.Fields(scope)}
	if service != "" {
		query.Set("service", service)
	}
	if u.RawQuery != "" {
		u.RawQuery += "&"
	}
	u.RawQuery += query.Encode()
	authorization := ""
	if cred.Username != "" {
		authorization = basic(cred)
	}
	start := time.Now()
	q := question{kind: kindToken, method: http.MethodGet, header: http.Header{"Accept": {"application/json"}}}
	var rep *reply
	var err error
	if cred.IdentityToken != "" {
		rep, err = r.postToken(ctx, realm, service, scope, cred.IdentityToken)
	} else {
		rep, err = r.follow(ctx, ep, q, &u, authorization)
	}
	if err != nil {
		return token{}, err
	}
	if rep.StatusCode != http.StatusOK {
		defer rep.close()
		return token{}, r.tokenRefused(rep, cred)
	}
	b, err := r.read(ctx, kindToken, rep, maxTokenBytes)
	if err != nil {
		if errors.Is(err, errTooLarge) {
			err = r.noAnswer(err, "has a token endpoint that sends no token")
		}
		return token{}, err
	}
	tok, ok := parseToken(b, start)
	if !ok {
		return token{}, r.noAnswer(fmt.Errorf("%s: no token in the answer", redact(&u)), "has a token endpoint that sends no token")
	}
	return tok, nil
}

// tokenRefused turns the status of a token endpoint into an error.
func (r *Registry) tokenRefused(rep *reply, cred Credential) error {
	_, message := r.readError(rep)
	cause := &statusError{status: rep.StatusCode, aside: true, url: redact(rep.url), message: message}
	anonymous := !cred.named()
	switch s := rep.StatusCode; {
	case s == http.StatusUnauthorized && anonymous:
		return r.fail(oci.CodeUnauthorized, cause, failure.Facts{Kind: failure.LoginNeeded})
	case s == http.StatusUnauthorized:
		return r.fail(oci.CodeUnauthorized, cause, failure.Facts{Kind: failure.LoginRefused})
	case s == http.StatusForbidden && anonymous:
		return r.fail(oci.CodeNameUnknown, cause, failure.Facts{Kind: failure.Hidden})
	case s == http.StatusForbidden:
		return r.fail(oci.CodeDenied, cause, failure.Facts{Kind: failure.ForbiddenUser})
	case s == http.StatusTooManyRequests:
		e := r.fail(oci.CodeTooManyRequests, cause, failure.Facts{Kind: failure.TokenLimited, Said: message})
		e.RetryAfter = retryAfter(rep.Header.Get("Retry-After"), message, time.Now())
		return e
	default:
		return r.fail(oci.CodeUnavailable, cause, failure.Facts{Kind: failure.TokenStatus, Status: s})
	}
}

// parseToken reads a token that was asked for at start. It lives 90 % of what
// the endpoint says, so that it does not expire on its way.
func parseToken(b []byte, start time.Time) (token, bool) {
	var doc struct {
		Token       string          `json:"token"`
		AccessToken string          `json:"access_token"`
		ExpiresIn   json.RawMessage `json:"expires_in"` // a number; in quotes from some
	}
	if err := json.Unmarshal(b, &doc); err != nil {
		return token{}, false
	}
	value := doc.Token
	if value == "" {
		value = doc.AccessToken
	}
	if value == "" || !isTokenText(value) {
		return token{}, false
	}
	lifetime := defaultLifetime
	seconds, err := strconv.ParseFloat(strings.Trim(string(doc.ExpiresIn), `"`), 64)
	if err == nil && seconds > 0 {
		seconds = min(seconds, longestLifetime.Seconds())
		lifetime = time.Duration(seconds * 0.9 * float64(time.Second))
	}
	return token{value: value, expires: start.Add(lifetime)}, true
}

// isTokenText tells whether a token can stand in a header.
func isTokenText(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return true
}

// flights lets callers who need the same thing at the same time wait for one
// piece of work. The work runs on the group's own time: a caller who leaves
// does not end it, close does.
type flights struct {
	group singleflight.Group
	own   context.Context // the group's, ended by stop
	stop  context.CancelCauseFunc

	mu      sync.Mutex
	closed  bool
	running sync.WaitGroup
}

func newFlights() *flights {
	own, stop := context.WithCancelCause(context.Background())
	return &flights{own: own, stop: stop}
}

// do returns the result of work for key, which is bounded by timeout. When ctx
// ends first, its error is returned.
func (f *flights) do(ctx context.Context, timeout time.Duration, key string, work func(context.Context) (any, error)) (any, error) {
	result := f.group.DoChan(key, func() (any, error) {
		if !f.begin() {
			return nil, errClosed
		}
		defer f.running.Done()
		ctx, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
		defer cancel(nil)
		defer context.AfterFunc(f.own, func() { cancel(errClosed) })()
		ctx, cancelTimeout := context.WithTimeoutCause(ctx, timeout, errSlow)
		defer cancelTimeout()
		return work(ctx)
	})
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case res := <-result:
		return res.Val, res.Err
	}
}

func (f *flights) begin() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return false
	}
	f.running.Add(1)
	return true
}

// close ends the work that is running and waits for it.
func (f *flights) close() {
	f.mu.Lock()
	f.closed = true
	f.mu.Unlock()
	f.stop(errClosed)
	f.running.Wait()
}

// flightError gives the error of shared work to one who waited for it on ctx.
func (r *Registry) flightError(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return r.broken(ctx, r.endpoints[0].base, err)
	case errors.Is(err, errClosed):
		return r.noAnswer(err, "is being closed")
	default:
		return err
	}
}
