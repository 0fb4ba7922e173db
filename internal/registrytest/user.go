package registrytest

import (
	"net/http"
	"slices"
	"strings"
)

// A User is an account that reads some of the private repositories, and all that
// are not.
type User struct {
	Name, Password string
	// IdentityToken stands for both at the token server (OAuth 2,
	// grant_type=refresh_token); empty is none.
	IdentityToken string
	// Repos are the private repositories that it reads.
	Repos []string
}

// private tells whether only accounts read a repository.
func (t Token) private(repo string) bool {
	return slices.Contains(t.Private, repo) || slices.Contains(t.Private, "*")
}

// account tells whether the credentials are those of an account.
func (t Token) account(user, password string) bool {
	if t.Username != "" && user == t.Username {
		return password == t.Password
	}
	return slices.ContainsFunc(t.Users, func(u User) bool { return u.Name == user && u.Password == password })
}

// byIdentity returns whose an identity token is; empty is nobody's.
func (t Token) byIdentity(token string) string {
	for _, u := range t.Users {
		if token != "" && u.IdentityToken == token {
			return u.Name
		}
	}
	return ""
}

// reads tells whether a user, or, as "", nobody in particular, reads a repository.
func (t Token) reads(user, repo string) bool {
	if !t.private(repo) || user != "" && user == t.Username {
		return true
	}
	return user != "" && slices.ContainsFunc(t.Users, func(u User) bool { return u.Name == user && slices.Contains(u.Repos, repo) })
}

// hidden are the private repositories that a user does not read.
func (t Token) hidden(user string) []string {
	return slices.DeleteFunc(slices.Clone(t.Private), func(repo string) bool {
		return repo == "*" && user != "" && user == t.Username || repo != "*" && t.reads(user, repo)
	})
}

// userOf is who a request says it comes from: the name in Basic, or that for
// whom its token was issued; empty for nobody.
func (r *Registry) userOf(req *http.Request) string {
	if user, _, ok := req.BasicAuth(); ok {
		return user
	}
	if token, ok := strings.CutPrefix(req.Header.Get("Authorization"), "Bearer "); ok {
		g, _ := r.readToken(token)
		return g.User
	}
	return ""
}

// CountUser returns how many requests of a kind came from a user; "" is nobody.
func (r *Registry) CountUser(kind Kind, user string) int {
	n := 0
	for _, req := range r.Requests() {
		if (kind == KindAny || req.Kind == kind) && req.User == user {
			n++
		}
	}
	return n
}
