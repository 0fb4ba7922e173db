package admin

import (
	"errors"
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// ErrNotHere is that a change was asked for from elsewhere, and there is no token.
var ErrNotHere = errors.New("from another machine this needs a token (admin.token_file)")

// errName is that a browser on this machine was led here by somebody else's name.
var errName = errors.New("without a token (admin.token_file) this answers to localhost and addresses only")

// Free tells what a request may do where there is no token: everybody may read, and who
// is on this machine change. A browser on this machine may be led here by a page whose
// host name leads to this machine; so the host has to be an address or localhost.
func Free(r *http.Request) error {
	read := r.Method == http.MethodGet || r.Method == http.MethodHead
	switch {
	case !local(r.RemoteAddr):
		if read {
			return nil
		}
		return ErrNotHere
	case !nameless(r.Host):
		return errors.Join(ErrNotHere, errName)
	}
	return nil
}

func local(remote string) bool {
	addr, err := netip.ParseAddrPort(remote)
	return err == nil && addr.Addr().Unmap().IsLoopback()
}

// nameless tells whether a Host header is an address, or localhost.
func nameless(hostport string) bool {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	host = strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	return host == "localhost" || strings.HasSuffix(host, ".localhost")
}
