package upstream

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"

	"sampan/internal/oci"
	"sampan/internal/upstream/failure"
)

// maxHops bounds the redirects of one request.
const maxHops = 10

// follow sends a question to u and follows its redirects. The authorization
// goes no further than the origin of u: it is dropped at the first change of
// scheme, host or port, for good. A HEAD that is redirected becomes a GET,
// because a presigned address allows nothing else; of a blob that GET asks for
// one byte.
func (r *Registry) follow(ctx context.Context, ep *endpoint, q question, u *url.URL, authorization string) (*reply, error) {
	method, header := q.method, q.header.Clone()
	if header == nil {
		header = http.Header{}
	}
	header.Set("User-Agent", r.userAgent)
	header.Set("Accept-Encoding", "identity")
	if authorization != "" {
		header.Set("Authorization", authorization)
	}
	moved := origin(u) != origin(ep.base)
	for range maxHops + 1 {
		if err := r.guard.checkURL(u); err != nil {
			return nil, r.refusedAddress(u, err)
		}
		rep, err := r.send(ctx, q.kind, method, u, header, moved)
		if err != nil {
			return nil, err
		}
		if !moved {
			r.told(ep, q, rep)
		}
		if !isRedirect(rep.StatusCode) {
			return rep, nil
		}
		next, err := r.nextHop(ep, rep)
		rep.close()
		if err != nil {
			return nil, err
		}
		if origin(next) != origin(u) {
			header.Del("Authorization")
			moved = true
		}
		if method == http.MethodHead {
			method = http.MethodGet
			if q.kind == kindBlob {
				header.Set("Range", oneByte)
			}
		}
		u = next
	}
	return nil, r.inACircle(u)
}

func (r *Registry) inACircle(u *url.URL) error {
	return r.fail(oci.CodeUnavailable, fmt.Errorf("%s: %w: more than %d", redact(u), errCircle, maxHops), failure.Facts{Kind: failure.Circle})
}

// nextHop reads where an answer leads.
func (r *Registry) nextHop(ep *endpoint, rep *reply) (*url.URL, error) {
	next, err := resolve(rep.url, rep.Header.Get("Location"))
	if err != nil {
		return nil, r.fail(oci.CodeUnavailable, fmt.Errorf("redirect from %s: %w", redact(rep.url), err), failure.Facts{Kind: failure.NoAddress})
	}
	if next.Scheme == "http" && rep.url.Scheme == "https" && ep.base.Scheme == "https" {
		return nil, r.fail(oci.CodeUnavailable, fmt.Errorf("%w: from %s to %s", errPlain, redact(rep.url), redact(next)), failure.Facts{Kind: failure.PlainAddress})
	}
	return next, nil
}

func isRedirect(status int) bool {
	switch status {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther,
		http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return true
	default:
		return false
	}
}

// resolve reads a reference that an answer from base holds (Location, Link) and
// keeps its path and query exactly as they are written, because signatures
// cover them and mcr.microsoft.com has "//" in paths. User and fragment are
// dropped.
func resolve(base *url.URL, ref string) (*url.URL, error) {
	ref, _, _ = strings.Cut(ref, "#")
	switch {
	case ref == "":
		return nil, errNoLocation
	case strings.HasPrefix(ref, "//"):
		ref = base.Scheme + ":" + ref
	case strings.HasPrefix(ref, "/"):
		ref = base.Scheme + "://" + base.Host + ref
	}
	u, err := url.Parse(ref)
	if err != nil {
		return nil, errBadLocation // url.Error would repeat the query
	}
	if !u.IsAbs() {
		plain := *base
		plain.Opaque = ""
		u = plain.ResolveReference(u)
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.Opaque != "" {
		return nil, errBadLocation
	}
	u.User = nil
	u.RawQuery = strings.ReplaceAll(u.RawQuery, " ", "%20")
	keepTarget(u, ref)
	return u, nil
}

// keepTarget makes u's request-target the path that the absolute reference
// spells, where net/url would encode it anew ("|", "^", non-canonical escapes).
func keepTarget(u *url.URL, ref string) {
	_, rest, found := strings.Cut(ref, "://")
	if !found {
		return
	}
	slash := strings.IndexAny(rest, "/?")
	if slash < 0 || rest[slash] != '/' {
		return
	}
	path, _, _ := strings.Cut(rest[slash:], "?")
	if path == u.EscapedPath() || strings.HasPrefix(path, "//") {
		return
	}
	for i := range len(path) {
		if path[i] <= ' ' || path[i] >= 0x7f {
			return
		}
	}
	u.Opaque = path
}

// origin is the scheme, host and port of u in one spelling.
func origin(u *url.URL) string { return u.Scheme + "://" + address(u) }

// address is the "host:port" that u is dialled at, in lower case.
func address(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = "443"
		if u.Scheme == "http" {
			port = "80"
		}
	}
	return strings.ToLower(net.JoinHostPort(u.Hostname(), port))
}

// redact returns u for logs and errors: no user, no query, no fragment.
func redact(u *url.URL) string {
	if u == nil {
		return ""
	}
	safe := url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, RawPath: u.RawPath}
	return safe.String()
}
