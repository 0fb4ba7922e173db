package registrytest

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"

	"sampan/internal/oci"
)

// grant is what a token is good for. It travels inside the token, signed, so
// that tokens cost no memory.
type grant struct {
	Serial  int64    // makes each token another
	Epoch   int64    // of Registry.tokenEpoch
	Expires int64    // Unix time, nanoseconds
	User    string   // for whom; empty is nobody
	Repos   []string // that it reads; "*" is all but those of Not
	Not     []string
}

func (g grant) allows(repo string) bool {
	if slices.Contains(g.Repos, repo) {
		return true
	}
	return slices.Contains(g.Repos, "*") && !slices.Contains(g.Not, repo) && !slices.Contains(g.Not, "*")
}

func (r *Registry) writeToken(g grant) string {
	body := base64.RawURLEncoding.EncodeToString(encode(g))
	return body + "." + sign("token", body)
}

// readToken tells what a token grants and whether it is genuine and in time.
func (r *Registry) readToken(token string) (grant, bool) {
	var g grant
	body, signature, ok := strings.Cut(token, ".")
	if !ok || signature != sign("token", body) {
		return g, false
	}
	text, err := base64.RawURLEncoding.DecodeString(body)
	if err != nil || json.Unmarshal(text, &g) != nil {
		return g, false
	}
	return g, g.Epoch == r.tokenEpoch.Load() && time.Now().UnixNano() < g.Expires
}

// serveToken is the token endpoint: GET with Basic, or a POST form.
func (r *Registry) serveToken(w *recorder, req *http.Request, st *state) {
	f := st.fault(req.Method, oci.Digest{}, KindToken)
	if !r.before(f, w, req) {
		return
	}
	req.Body = http.MaxBytesReader(w, req.Body, 64<<10)
	if err := req.ParseForm(); err != nil {
		writeError(w, http.StatusBadRequest, oci.CodeUnsupported, err.Error())
		return
	}
	user, password, known := req.BasicAuth()
	if req.PostForm.Get("grant_type") == "password" {
		user, password, known = req.PostForm.Get("username"), req.PostForm.Get("password"), true
	}
	if !known {
		user = st.Token.byIdentity(req.PostForm.Get("refresh_token"))
	} else if !st.Token.account(user, password) {
		user = ""
	}
	if user == "" && (known || req.Method == http.MethodPost) {
		writeError(w, http.StatusUnauthorized, oci.CodeUnauthorized, "incorrect username or password")
		return
	}
	g, denied := r.grantFor(st, req.Form["scope"], user)
	if denied && st.Token.Forbid {
		writeError(w, http.StatusForbidden, oci.CodeDenied, "requested access to the resource is denied")
		return
	}
	r.issue(w, st.Token, g)
}

// grantFor reads scopes; the second result tells whether any was denied.
func (r *Registry) grantFor(st *state, scopes []string, user string) (grant, bool) {
	g := grant{Epoch: r.tokenEpoch.Load(), User: user}
	var denied bool
	everything := st.Token.Unbound || st.Challenge.Scope != ""
	for _, scope := range strings.Fields(strings.Join(scopes, " ")) {
		parts := strings.Split(scope, ":")
		if len(parts) != 3 || parts[0] != "repository" {
			continue
		}
		repo := parts[1]
		hidden := st.Missing != MissingSpec && !r.content.hasRepo(repo)
		if placeholder := scope == st.Challenge.PingScope; !placeholder && hidden || !st.Token.reads(user, repo) {
			denied = true
			continue
		}
		g.Repos = append(g.Repos, repo)
	}
	if everything {
		g.Repos = []string{"*"}
		g.Not = st.Token.hidden(user)
	}
	return g, denied
}

// issue answers with a token.
func (r *Registry) issue(w *recorder, t Token, g grant) {
	lifetime := t.Lifetime
	if lifetime == 0 {
		lifetime = 300 * time.Second
	}
	now := time.Now()
	g.Serial = r.count.tokens.Add(1)
	g.Expires = now.Add(lifetime).UnixNano()
	token := r.writeToken(g)
	answer := map[string]any{}
	if t.Field != AccessTokenOnly {
		answer["token"] = token
	}
	if t.Field != TokenOnly {
		answer["access_token"] = token
	}
	if !t.Bare {
		answer["expires_in"] = int64(lifetime / time.Second)
		answer["issued_at"] = now.UTC().Format(time.RFC3339Nano)
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(encode(answer))
}
