package edge

import (
	"net/http"
	"slices"
)

// What the browsers of registry user interfaces need of this mirror, beyond what
// every origin has (Fetch standard, CORS protocol).
const (
	corsExpose  = "Content-Length, Content-Range, Docker-Content-Digest, Docker-Distribution-Api-Version, ETag, Link, OCI-Filters-Applied, Warning, WWW-Authenticate"
	corsMethods = "GET, HEAD, OPTIONS"
	corsHeaders = "Accept, Authorization, Cache-Control, If-None-Match, Range"
	corsMaxAge  = "600"
)

// CORS lets the pages of some origins read what h answers. Origins are written as
// browsers do, "https://ui.example.com"; "*" is any, and gets no credentials. With
// no origins h is returned as it is.
func CORS(origins []string, h http.Handler) http.Handler {
	if len(origins) == 0 {
		return h
	}
	anyone := slices.Contains(origins, "*")
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Add("Vary", "Origin")
		origin := r.Header.Get("Origin")
		named := slices.Contains(origins, origin)
		if origin == "" || !named && !anyone {
			h.ServeHTTP(w, r)
			return
		}
		header := w.Header()
		if named {
			header.Set("Access-Control-Allow-Origin", origin)
			header.Set("Access-Control-Allow-Credentials", "true")
		} else {
			header.Set("Access-Control-Allow-Origin", "*")
		}
		if r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != "" {
			header.Set("Access-Control-Allow-Methods", corsMethods)
			header.Set("Access-Control-Allow-Headers", corsHeaders)
			header.Set("Access-Control-Max-Age", corsMaxAge)
			w.WriteHeader(http.StatusNoContent)
			return
		}
		header.Set("Access-Control-Expose-Headers", corsExpose)
		h.ServeHTTP(w, r)
	})
}
