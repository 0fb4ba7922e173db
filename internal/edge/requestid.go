package edge

import (
	"crypto/rand"
	"net/http"
	"net/netip"
	"strings"
)

// requestID is what names a request in logs and answers: what a trusted proxy calls
// it, or one of its own.
func requestID(r *http.Request, trusted []netip.Prefix) string {
	if id := r.Header.Get("X-Request-Id"); id != "" && validID(id) && fromTrusted(r, trusted) {
		return id
	}
	return rand.Text()
}

// validID tells whether a proxy's name for a request can stand in a header and a log.
func validID(s string) bool {
	return len(s) <= 128 && strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.:/+=") == ""
}
