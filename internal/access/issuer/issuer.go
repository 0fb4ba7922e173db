// Package issuer checks tokens that somebody else has given to clients: ID tokens of
// OpenID Connect providers, and service account tokens of Kubernetes.
//
// It promises that a token counts only with the signature of its issuer by an
// asymmetric key, for the audience that the configuration names, and within its time;
// that nothing is asked of an issuer before somebody comes with one of its tokens;
// that strangers cannot have it asked more often than every ten seconds; and that
// keys which are known go on being used while it does not answer. Without keys
// nothing is known, and nobody let in.
//
// The name of a user is that of the issuer, a colon, and the claim that the
// configuration names; so no two issuers, and no user of the mirror itself, share
// one. Groups likewise.
//
// Lock order: keys.mu is a leaf; it is not held while an issuer is asked.
package issuer

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/coreos/go-oidc/v3/oidc"

	"sampan/internal/access"
	"sampan/internal/oci"
)

// Options of an [Issuer]. Name, URL and Audience are needed.
type Options struct {
	Name     string // begins the names of users and groups
	URL      string // as the tokens say
	Audience string
	// UserClaim and GroupsClaim name the user, and the groups: one or a list. Empty
	// means sub and groups.
	UserClaim, GroupsClaim string
	// CAFile has the certificates of the authority for URL, in PEM. Empty means those
	// of the system.
	CAFile string
	// KeysFile has the keys, a JWKS, and is read again when it changes; then the
	// issuer is never asked. TokenFile has a bearer token for asking it, which goes to
	// URL's own host alone.
	KeysFile, TokenFile string
}

func (o Options) withDefaults() Options {
	o.UserClaim, o.GroupsClaim = cmp.Or(o.UserClaim, "sub"), cmp.Or(o.GroupsClaim, "groups")
	return o
}

const (
	// maxToken bounds a token, in bytes.
	maxToken = 16 << 10
	// maxName bounds the name of a user or group, and maxGroups how many count.
	maxName, maxGroups = 255, 100
)

// algorithms are those that a signature may have.
func algorithms() []string {
	return []string{
		oidc.RS256, oidc.RS384, oidc.RS512, oidc.PS256, oidc.PS384, oidc.PS512, oidc.ES256, oidc.ES384, oidc.ES512, oidc.EdDSA,
	}
}

// Issuers are several; they are an [access.Verifier].
type Issuers struct {
	list    []*Issuer
	metrics *access.Metrics // nil counts nothing
}

var _ access.Verifier = (*Issuers)(nil)

// Of makes them of several. Metrics count their tokens; nil for none.
func Of(list []*Issuer, m *access.Metrics) *Issuers {
	for _, i := range list {
		m.Issuer(i.o.Name)
	}
	return &Issuers{list, m}
}

// Verify implements [access.Verifier]: the issuer is the one that the token names.
func (s *Issuers) Verify(ctx context.Context, token string) (name string, groups []string, until time.Time, err error) {
	named, ok := issuerOf(token)
	if !ok { // it may be a password
		return "", nil, time.Time{}, access.ErrForeign
	}
	for _, i := range s.list {
		if i.o.URL == named {
			name, groups, until, err = i.verify(ctx, token)
			s.count(ctx, i.o.Name, err)
			return name, groups, until, err
		}
	}
	s.metrics.Token(access.OtherIssuer, access.TokenRefused)
	return "", nil, time.Time{}, access.ErrForeign
}

// count counts a token, unless whoever came with it has left.
func (s *Issuers) count(ctx context.Context, issuer string, err error) {
	switch {
	case err == nil:
		s.metrics.Token(issuer, access.TokenAccepted)
	case ctx.Err() != nil:
	case oci.CodeOf(err) == oci.CodeUnavailable:
		s.metrics.Token(issuer, access.TokenUnavailable)
	default:
		s.metrics.Token(issuer, access.TokenRefused)
	}
}

// Knows implements [access.Verifier].
func (s *Issuers) Knows(name string) bool {
	issuer, _, _ := strings.Cut(name, ":")
	return slices.ContainsFunc(s.list, func(i *Issuer) bool { return i.o.Name == issuer })
}

// issuerOf is whom a token names, which nobody has proven.
func issuerOf(token string) (string, bool) {
	parts := strings.Split(token, ".")
	if len(token) > maxToken || len(parts) != 3 {
		return "", false
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return "", false
	}
	var doc struct {
		Issuer string `json:"iss"`
	}
	if json.Unmarshal(payload, &doc) != nil || doc.Issuer == "" {
		return "", false
	}
	return doc.Issuer, true
}

// An Issuer is one whose tokens count. Its methods may be called concurrently.
type Issuer struct {
	o        Options
	keys     *keys
	verifier *oidc.IDTokenVerifier
}

// New makes an Issuer and asks nobody.
func New(o Options, log *slog.Logger) (*Issuer, error) {
	if o.Name == "" || o.URL == "" || o.Audience == "" || log == nil {
		return nil, errors.New("issuer: Name, URL, Audience and a log are needed")
	}
	o = o.withDefaults()
	k, err := newKeys(o, log)
	if err != nil {
		return nil, fmt.Errorf("issuer %s: %w", o.Name, err)
	}
	return &Issuer{o, k, oidc.NewVerifier(o.URL, k, &oidc.Config{
		ClientID: o.Audience, SupportedSigningAlgs: algorithms(),
	})}, nil
}

// Still tells whether it is what New would make of options now.
func (i *Issuer) Still(o Options) bool {
	if o.withDefaults() != i.o {
		return false
	}
	if o.CAFile == "" {
		return true
	}
	text, err := os.ReadFile(o.CAFile)
	return err == nil && bytes.Equal(text, i.keys.ca)
}

var errClaims = errors.New("the token does not name a user as the configuration wants it")

func (i *Issuer) verify(ctx context.Context, token string) (name string, groups []string, until time.Time, err error) {
	none := time.Time{}
	err = i.keys.ready(ctx, token)
	if down := (*unreachable)(nil); errors.As(err, &down) {
		return "", nil, none, &oci.Error{
			Code: oci.CodeUnavailable, Err: err,
			Message: "who has issued this token does not answer; try again later. 令牌签发方暂时无法访问，请稍后再试。",
		}
	}
	t, err := i.verifier.Verify(ctx, token)
	if err != nil {
		return "", nil, none, fmt.Errorf("issuer %s: %w", i.o.Name, err)
	}
	var claims map[string]any
	if err := t.Claims(&claims); err != nil {
		return "", nil, none, fmt.Errorf("issuer %s: %w", i.o.Name, err)
	}
	user, ok := claims[i.o.UserClaim].(string)
	if verified, said := claims["email_verified"]; i.o.UserClaim == "email" && (!said || verified != true) {
		return "", nil, none, fmt.Errorf("issuer %s: the address is not verified: %w", i.o.Name, errClaims)
	}
	if !ok || !valid(user) {
		return "", nil, none, fmt.Errorf("issuer %s: claim %s: %w", i.o.Name, i.o.UserClaim, errClaims)
	}
	for _, g := range append(texts(claims[i.o.GroupsClaim]), serviceAccountGroups(t.Subject)...) {
		if valid(g) && len(groups) < maxGroups {
			groups = append(groups, i.o.Name+":"+g)
		}
	}
	return i.o.Name + ":" + user, groups, t.Expiry, nil
}

// valid tells whether a name can stand in logs and rules.
func valid(s string) bool {
	bad := func(r rune) bool { return r <= ' ' || r == 0x7f || r == utf8.RuneError }
	return s != "" && len(s) <= maxName && utf8.ValidString(s) && !strings.ContainsFunc(s, bad)
}

// texts are those of a claim that is one or a list.
func texts(claim any) []string {
	switch c := claim.(type) {
	case string:
		return []string{c}
	case []any:
		var list []string
		for _, v := range c {
			if s, ok := v.(string); ok {
				list = append(list, s)
			}
		}
		return list
	default:
		return nil
	}
}

// serviceAccountGroups are those that Kubernetes itself puts a service account into
// (its documentation, "Authenticating", service account tokens).
func serviceAccountGroups(subject string) []string {
	rest, ok := strings.CutPrefix(subject, "system:serviceaccount:")
	namespace, _, named := strings.Cut(rest, ":")
	if !ok || !named {
		return nil
	}
	return []string{"system:serviceaccounts", "system:serviceaccounts:" + namespace}
}
