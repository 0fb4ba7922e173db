package edge

import (
	"net"
	"net/http"
	"net/url"
	"strings"
)

// refererOf is where a client says that it comes from, for the log; empty for
// nowhere, and for what is no URL with a host. A page of this mirror is told without
// its host, which may have an access code in it: clients that were led from http to
// https say where they were led from.
func refererOf(r *http.Request) string {
	u, err := url.Parse(r.Referer())
	if err != nil || u.Host == "" {
		return ""
	}
	u.User, u.Fragment = nil, ""
	if here, there := bareHost(r.Host), bareHost(u.Host); within(here, there) || within(there, here) {
		u.Scheme, u.Host = "", ""
	}
	return u.String()
}

// bareHost is a host in lower case, without its port and the dot at its end.
func bareHost(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return strings.ToLower(strings.TrimSuffix(host, "."))
}

// within tells whether a name is a domain, or below it.
func within(name, domain string) bool {
	return domain != "" && (name == domain || strings.HasSuffix(name, "."+domain))
}
