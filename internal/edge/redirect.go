package edge

import (
	"net"
	"net/http"
	"strings"
)

// RedirectHTTPS leads clients to the same place over https, at a port; 443 is not
// written. A request without a usable Host is refused. The status is 308, so that
// nothing but the scheme changes.
func RedirectHTTPS(port string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		harden(w.Header())
		host := r.Host
		if name, _, err := net.SplitHostPort(host); err == nil {
			host = name
		}
		if host == "" || r.URL.Host != "" {
			http.Error(w, "a Host header is needed", http.StatusBadRequest)
			return
		}
		switch {
		case port != "443":
			host = net.JoinHostPort(strings.Trim(host, "[]"), port)
		case strings.Contains(host, ":") && host[0] != '[': // IPv6
			host = "[" + host + "]"
		}
		u := *r.URL
		u.Scheme, u.Host = "https", host
		w.Header().Set("Cache-Control", "no-store")
		http.Redirect(w, r, u.String(), http.StatusPermanentRedirect)
	})
}
