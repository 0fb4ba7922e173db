package edge

import (
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// clientOf is the address of who asks: that of the connection or, when that is
// trusted, the last address of X-Forwarded-For that is not. What a client writes
// into the header itself stands before that and does not count.
func clientOf(r *http.Request, trusted []netip.Prefix) string {
	if !fromTrusted(r, trusted) {
		return r.RemoteAddr
	}
	found := r.RemoteAddr
	values := r.Header.Values("X-Forwarded-For")
	for i := len(values) - 1; i >= 0; i-- {
		hops := strings.Split(values[i], ",")
		for j := len(hops) - 1; j >= 0; j-- {
			addr, ok := parseAddr(strings.TrimSpace(hops[j]))
			if !ok {
				return found // what is before is nobody's word
			}
			found = addr.String()
			if !contains(trusted, addr) {
				return found
			}
		}
	}
	return found
}

// fromTrusted tells whether the connection is that of a trusted proxy. Where any is
// trusted, who comes by a Unix socket is.
func fromTrusted(r *http.Request, trusted []netip.Prefix) bool {
	if len(trusted) == 0 {
		return false
	}
	addr, ok := parseAddr(r.RemoteAddr)
	unix := r.RemoteAddr == "@" || r.RemoteAddr == ""
	return unix || ok && contains(trusted, addr)
}

// secure tells whether the client speaks https: to this process, or to a trusted
// proxy that says so.
func secure(r *http.Request, trusted []netip.Prefix) bool {
	return r.TLS != nil || fromTrusted(r, trusted) && r.Header.Get("X-Forwarded-Proto") == "https"
}

// parseAddr reads an address with or without a port.
func parseAddr(s string) (netip.Addr, bool) {
	if ap, err := netip.ParseAddrPort(s); err == nil {
		return ap.Addr().Unmap(), true
	}
	addr, err := netip.ParseAddr(s)
	return addr.Unmap(), err == nil
}

// addrOf is the address of a connection; false for that of a Unix socket.
func addrOf(a net.Addr) (netip.Addr, bool) {
	if a == nil {
		return netip.Addr{}, false
	}
	return parseAddr(a.String())
}

func contains(networks []netip.Prefix, addr netip.Addr) bool {
	for _, n := range networks {
		if n.Contains(addr) {
			return true
		}
	}
	return false
}

// network is what counts as one client: an address, and of IPv6 the /64 that
// somebody is given.
func network(addr netip.Addr) netip.Prefix {
	bits := addr.BitLen()
	if addr.Is6() {
		bits = 64
	}
	p, _ := addr.WithZone("").Prefix(bits) // the bits fit
	return p
}
