package registrytest

import (
	"fmt"
	"net/http"
	"strings"

	"sampan/internal/oci"
)

// authorize answers a request that may not go on and tells whether it may.
func (r *Registry) authorize(w *recorder, req *http.Request, st *state, t target) bool {
	ping := t.kind == KindPing
	if ping && st.Challenge.PingOpen {
		return true
	}
	unknown := t.repo != "" && !r.content.hasRepo(t.repo)
	if unknown && st.Missing == MissingDenied {
		writeError(w, http.StatusForbidden, oci.CodeDenied, "requested access to the resource is denied")
		return false
	}
	var problem string // the error parameter of the challenge
	switch {
	case unknown && st.Missing == MissingUnauthorized:
		if req.Header.Get("Authorization") != "" {
			problem = "insufficient_scope"
		}
	case st.Challenge.Scheme == SchemeNone:
		return true
	case st.Challenge.PublicOpen && !ping && !st.Token.private(t.repo) && req.Header.Get("Authorization") == "":
		return true
	case st.Challenge.Scheme == SchemeBasic:
		if user, password, ok := req.BasicAuth(); ok && st.Token.account(user, password) {
			if st.Token.reads(user, t.repo) {
				return true
			}
			writeError(w, http.StatusForbidden, oci.CodeDenied, "requested access to the resource is denied")
			return false
		}
	default:
		header := req.Header.Get("Authorization")
		token, ok := strings.CutPrefix(header, "Bearer ")
		if !ok {
			break
		}
		grant, valid := r.readToken(token)
		switch {
		case !valid:
			problem = "invalid_token"
		case ping || t.repo == "" || grant.allows(t.repo):
			return true
		default:
			problem = "insufficient_scope"
		}
	}
	r.challenge(w, st, t, problem)
	return false
}

// challenge answers 401.
func (r *Registry) challenge(w *recorder, st *state, t target, problem string) {
	c := st.Challenge
	if !c.PingOnly || t.kind == KindPing {
		switch c.Scheme {
		case SchemeBasic:
			w.Header().Set("Www-Authenticate", `Basic realm="registrytest"`)
		case SchemeBearer:
			w.Header().Set("Www-Authenticate", r.bearer(c, t, problem))
		}
	}
	message := "authentication required"
	if problem == "insufficient_scope" {
		message = "access to the requested resource is not authorized"
	}
	writeError(w, http.StatusUnauthorized, oci.CodeUnauthorized, message)
}

// bearer writes the parameters of a challenge.
func (r *Registry) bearer(c Challenge, t target, problem string) string {
	realm := c.Realm
	if realm == "" {
		realm = r.siteURL(roleToken, c.RealmHost) + "/token"
	}
	params := []string{fmt.Sprintf("realm=%q", realm)}
	if !c.NoService {
		service := c.Service
		if service == "" {
			service = r.Host()
		}
		if !c.Unquoted {
			service = `"` + service + `"`
		}
		params = append(params, "service="+service)
	}
	scope := c.Scope
	switch {
	case scope != "":
	case t.repo != "":
		scope = "repository:" + t.repo + ":pull"
	case t.kind == KindPing:
		scope = c.PingScope
	}
	if scope != "" {
		params = append(params, fmt.Sprintf("scope=%q", scope))
	}
	if problem != "" {
		params = append(params, fmt.Sprintf("error=%q", problem))
	}
	return "Bearer " + strings.Join(params, ",")
}
