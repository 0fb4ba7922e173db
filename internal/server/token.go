package server

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"sampan/internal/access"
	"sampan/internal/oci"
)

const (
	tokenPath    = "/token"
	tokenService = "sampan"
	// maxForm bounds the form that a client posts for a token, in bytes.
	maxForm = 64 << 10
)

// serveToken gives a token for what the client has proven, be it nothing: GET with
// Basic authentication as Docker and Podman ask, or a form as containerd posts it.
// The token says who the client is; what it may have is decided at each request, so
// that a change of the rules is in force at once.
func (s *Server) serveToken(w http.ResponseWriter, r *http.Request, v visitor) error {
	id := v.Identity
	if r.Method == http.MethodPost {
		var err error
		if id, err = s.posted(w, r, v); err != nil {
			return err
		}
		oci.TraceFrom(r.Context()).Who = id.User
	}
	token, until, err := s.o.Directory.Issue(id)
	if err != nil {
		return err
	}
	now := time.Now()
	body, err := json.Marshal(struct {
		Token       string    `json:"token"`
		AccessToken string    `json:"access_token"`
		Type        string    `json:"token_type"`
		ExpiresIn   int       `json:"expires_in"`
		IssuedAt    time.Time `json:"issued_at"`
	}{token, token, "Bearer", max(1, int(until.Sub(now).Round(time.Second)/time.Second)), now.UTC().Truncate(time.Second)})
	if err != nil {
		return fmt.Errorf("token: %w", err)
	}
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Type", "application/json")
	if r.Method != http.MethodHead {
		_, _ = w.Write(body) // the client may have left
	}
	return nil
}

// posted reads the form of OAuth 2: the grant "password". There are no refresh
// tokens; a client that comes with one is asked for its password.
func (s *Server) posted(w http.ResponseWriter, r *http.Request, v visitor) (access.Identity, error) {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseForm(); err != nil {
		return access.Identity{}, oci.Errorf(oci.CodeUnsupported, "the form cannot be read")
	}
	if grant := r.PostForm.Get("grant_type"); grant != "password" {
		return access.Identity{}, &oci.Error{
			Code: oci.CodeUnauthorized, Err: access.ErrLogin,
			Message: "tokens are given for a user name and a password (grant_type=password)",
		}
	}
	login := oci.Login{Username: r.PostForm.Get("username"), Password: r.PostForm.Get("password")}
	return s.o.Directory.Login(r.Context(), v.Addr, login, s.strangers(v.Host))
}
