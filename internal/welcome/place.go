package welcome

import (
	"net"
	"net/http"
	"strings"

	"sampan/internal/oci"
)

// A place is the mirror as the visitor calls it.
type place struct {
	// base is the host with its port, where names in path style begin.
	base string
	// code is the access code in front of the host, with its dot; empty for none.
	code   string
	secure bool // it is reached by https
}

// fallback is the mirror of a visitor who does not say what it is called.
const fallback = "localhost"

// placeOf is where a request came to. Host is its Host header without the code. A
// host below the domain that chooses a registry stands for the domain. One that
// cannot stand in an image name is replaced by the domain, or by localhost.
func placeOf(r *http.Request, host, domain string) place {
	p := place{secure: oci.TraceFrom(r.Context()).Secure}
	host = strings.ToLower(host)
	name, port := host, ""
	if h, n, err := net.SplitHostPort(host); err == nil {
		name, port = h, ":"+n
		host = strings.TrimSuffix(host, port)
	}
	name = strings.TrimSuffix(name, ".")
	if lead, ok := strings.CutSuffix(strings.ToLower(r.Host), strings.ToLower(host)+port); ok && strings.HasSuffix(lead, ".") {
		p.code = lead
	}
	if domain != "" && strings.HasSuffix(name, "."+domain) {
		host = domain
	}
	p.base = strings.TrimSuffix(host, ".") + port
	if _, err := oci.ParseRegistry(p.base); err != nil {
		p.base, p.code = fallback+port, ""
		if domain != "" {
			p.base = domain + port
		}
		if _, err := oci.ParseRegistry(p.base); err != nil {
			p.base = fallback
		}
	}
	if port == "" && p.base != "localhost" && !strings.ContainsAny(p.base, ".:") {
		p.base += p.port() // else clients would take it for a part of the path
	}
	return p
}

// port is the one that the scheme implies, with its colon.
func (p place) port() string {
	if p.secure {
		return ":443"
	}
	return ":80"
}

// url is the address of the mirror with its scheme.
func (p place) url() string {
	if p.secure {
		return "https://" + p.shown(p.base)
	}
	return "http://" + p.shown(p.base)
}

// shown is a name at this mirror as the visitor has to write it.
func (p place) shown(name string) string { return p.code + name }

// loopback tells whether the mirror is on the visitor's own machine, where Docker
// takes plain HTTP without being told.
func (p place) loopback() bool { return oci.Loopback(p.base) }

// insecure tells whether clients have to be told that plain HTTP is meant.
func (p place) insecure() bool { return !p.secure }
