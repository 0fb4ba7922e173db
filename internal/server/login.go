package server

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"sampan/internal/access"
	"sampan/internal/mirror"
	"sampan/internal/oci"
)

// A Directory knows who clients are: an [access.Directory].
type Directory interface {
	// Host takes an access code off the front of a host name.
	Host(host string) (rest, code string)
	// KnowsUsers tells whether there is anybody to log in as.
	KnowsUsers() bool
	Login(ctx context.Context, from netip.Addr, l oci.Login, strangers bool) (access.Identity, error)
	Token(ctx context.Context, token string) (access.Identity, error)
	Issue(id access.Identity) (token string, until time.Time, err error)
}

// A visitor is who has sent a request.
type visitor struct {
	access.Client
	access.Identity
	// said tells that it has said who it is, be it nobody.
	said bool
}

// identify finds out who asks. The request that it returns has the host name
// without the client's code. Where nothing that a client may say would help it,
// nothing that it says is looked at: DENIED.
func (s *Server) identify(r *http.Request) (visitor, *http.Request, error) {
	trace := oci.TraceFrom(r.Context())
	var v visitor
	host, port := splitPort(r.Host)
	v.Addr = trace.Client
	if s.o.Directory == nil {
		v.Host = strings.ToLower(host)
		return v, r, nil
	}
	v.Host, v.Code = s.o.Directory.Host(host)
	if v.Code != "" {
		trace.Who = v.Code
		r = r.WithContext(r.Context()) // a copy
		r.Host = v.Host + port
	}
	if reach := s.reach(v.Client); !reach.Something && !reach.Login {
		return v, r, access.Denied(r.Context(), reach.Reason)
	}
	id, said, err := s.authenticate(r, v.Client)
	v.Identity, v.said = id, said
	v.Client.User, v.Client.Groups = id.User, id.Groups
	trace.Who = v.Name()
	return v, r, err
}

// authenticate looks at what the client says in the headers.
func (s *Server) authenticate(r *http.Request, c access.Client) (id access.Identity, said bool, err error) {
	scheme, rest, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	switch {
	case scheme == "":
		return id, false, nil
	case strings.EqualFold(scheme, "Bearer"):
		id, err = s.o.Directory.Token(r.Context(), strings.TrimSpace(rest))
	default:
		user, password, ok := r.BasicAuth()
		if !ok && strings.EqualFold(scheme, "Basic") {
			return id, true, oci.Errorf(oci.CodeUnauthorized, "the Authorization header is not what its scheme asks for")
		}
		id, err = s.o.Directory.Login(r.Context(), c.Addr, oci.Login{Username: user, Password: password}, s.strangers(c.Host))
	}
	return id, true, err
}

// strangers tells whether who is not known here may be known to a registry: where
// the host leads to one that is asked as the client, and where nobody is known here.
func (s *Server) strangers(host string) bool {
	return !s.o.Directory.KnowsUsers() || s.asks(mirror.Address{Host: host})
}

// asks tells whether clients at an address are asked for what their registry knows
// them by.
func (s *Server) asks(a mirror.Address) bool { return s.o.Challenge != nil && s.o.Challenge(a) }

// context carries who asks to where it is decided what they get.
func (v visitor) context(ctx context.Context) context.Context {
	ctx = access.WithClient(ctx, v.Client)
	if !v.Identity.Login.IsZero() {
		ctx = access.WithLogin(ctx, v.Identity.Login)
	}
	return ctx
}

// reach tells what a client can have at all.
func (s *Server) reach(c access.Client) access.Reach {
	if s.o.Reach == nil {
		return access.Reach{Something: true}
	}
	return s.o.Reach(c)
}

// askAtPing tells whether a ping is answered with a challenge: where the address
// leads to content that needs it, for clients that have not said anything. Docker
// and others decide here, and only here, whether they will ever authenticate.
func (s *Server) askAtPing(v visitor, req request, reach access.Reach) bool {
	if v.said || v.Known() || s.o.Directory == nil {
		return false
	}
	return reach.Login || s.asks(req.address)
}

// errPing is the answer to a ping that is challenged.
func errPing() error {
	return &oci.Error{
		Code: oci.CodeUnauthorized, Err: access.ErrLogin,
		Message: "some of what is here needs a user name and a password",
	}
}

// asksClient tells whether an error is a question to the client.
func asksClient(e *oci.Error) bool {
	return e.Code == oci.CodeUnauthorized && errors.Is(e, access.ErrLogin)
}

// challenge asks for a token (RFC 6750 and the registries' token specification).
// Basic authentication is taken as well, and not asked for: clients that ask for
// tokens get one for nobody and go on, with Basic they would not.
func challenge(r *http.Request, e *oci.Error) string {
	var b strings.Builder
	b.WriteString(`Bearer realm="` + realm(r) + `",service="` + tokenService + `"`)
	if req, err := parse(r); err == nil && req.address.Path != "" {
		b.WriteString(`,scope="repository:` + quotable(req.address.Path) + `:pull"`)
	}
	switch {
	case errors.Is(e, access.ErrToken):
		b.WriteString(`,error="invalid_token"`)
	case bearer(r):
		b.WriteString(`,error="insufficient_scope"`)
	}
	return b.String()
}

func bearer(r *http.Request) bool {
	scheme, _, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	return strings.EqualFold(scheme, "Bearer")
}

// realm is where tokens are, as the client calls this mirror.
func realm(r *http.Request) string {
	scheme := "http"
	if oci.TraceFrom(r.Context()).Secure {
		scheme = "https"
	}
	return scheme + "://" + quotable(r.Host) + tokenPath
}

// quotable takes what a client wrote into a quoted string.
func quotable(s string) string {
	return strings.Map(func(r rune) rune {
		if r <= ' ' || r == '"' || r == '\\' || r >= 0x7f {
			return -1
		}
		return r
	}, s)
}

// splitPort cuts the port with its colon off a Host header.
func splitPort(host string) (name, port string) {
	if _, p, err := net.SplitHostPort(host); err == nil {
		return strings.TrimSuffix(host, ":"+p), ":" + p
	}
	return host, ""
}

// setCacheControl says who on the way may keep an answer; always is for what
// never changes.
func setCacheControl(w http.ResponseWriter, r *http.Request, always string) {
	switch {
	case !oci.TraceFrom(r.Context()).Private:
	case always == "":
		always = "private"
	default:
		always = "private, " + always
	}
	if always != "" {
		w.Header().Set("Cache-Control", always)
	}
}
