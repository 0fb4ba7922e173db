// Package server speaks the OCI distribution protocol, for reading, over an
// [oci.Reader].
//
// It parses a URL once into a typed request, has the mirror's names decide which
// repository of which upstream is meant, and writes what the Reader answers:
// exact bytes, the specification's headers, and the specification's errors. A
// body that cannot be completed ends short of its Content-Length with the
// connection; nothing is ever appended to it.
//
// It keeps no state, caches nothing and opens no listener. A blob that is a
// plain file is sent by the kernel.
package server

import (
	"errors"
	"log/slog"
	"net/http"
	"strings"

	"sampan/internal/access"
	"sampan/internal/access/rate"
	"sampan/internal/mirror"
	"sampan/internal/oci"
)

// Options of a [Server]. Reader, Names and Log are needed.
type Options struct {
	// Reader answers; in its contexts is who the client says it is
	// ([access.WithLogin]). It may ask the client by an error with
	// [access.ErrLogin] in it.
	Reader oci.Reader
	Names  *mirror.Names
	// Directory knows who clients are; nil knows nobody, and gives no tokens.
	Directory Directory
	// Reach tells what a client can have at all; nil means something.
	Reach func(access.Client) access.Reach
	// Limits bound what each client may take; nil bounds nothing.
	Limits *rate.Limiter
	// Challenge tells of which addresses clients that ping are asked for what their
	// registry knows them by; nil means of none.
	Challenge func(mirror.Address) bool
	// Page answers browsers that ask for "/", and whoever asks for a file below "/-/".
	// It gets the request as the client sent it, and the Host header without the
	// client's code. Nil means that there is no page.
	Page func(w http.ResponseWriter, r *http.Request, host string)
	Log  *slog.Logger
}

// Server is the handler. Make one with [New].
type Server struct {
	o Options
}

var _ http.Handler = (*Server)(nil)

// New makes a Server.
func New(o Options) (*Server, error) {
	if o.Reader == nil || o.Names == nil || o.Log == nil {
		return nil, errors.New("server: Reader, Names and Log are needed")
	}
	return &Server{o}, nil
}

// ServeHTTP implements [http.Handler]. It writes to the request's [oci.Trace].
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !oci.HasTrace(r.Context()) { // it carries what the client must be told, too
		r = r.WithContext(oci.WithTrace(r.Context(), new(oci.Trace)))
	}
	w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if err := s.serve(w, r); err != nil {
		s.writeError(w, r, err)
	}
}

// serve decides who may enter, parses and dispatches. An error means that nothing
// was written yet.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) error {
	asked := r
	v, r, err := s.identify(r)
	if err != nil {
		return err
	}
	reach := s.reach(v.Client)
	if !reach.Something && !reach.Login {
		return access.Denied(r.Context(), reach.Reason)
	}
	visit, err := s.enter(r.Context(), v.Client)
	if err != nil {
		return err
	}
	defer visit.Close()
	if r.URL.Path == tokenPath && s.o.Directory != nil && tokenMethod(r.Method) {
		oci.TraceFrom(r.Context()).Kind = kindToken
		return s.serveToken(w, r, v)
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		return oci.Errorf(oci.CodeUnsupported, "this mirror is read-only: push to the registry itself, or have its operator bring images in with sampan load --into. "+
			"本镜像站只读：请直接推送到源仓库，或由管理员用 sampan load --into 载入镜像。")
	}
	if s.o.Page != nil && r.URL.Path == "/" {
		w.Header().Add("Vary", "Accept")
	}
	if s.o.Page != nil && forPeople(r) {
		oci.TraceFrom(r.Context()).Kind = kindPage
		s.o.Page(w, asked, r.Host)
		return nil
	}
	req, err := parse(r)
	if err != nil {
		return err
	}
	trace := oci.TraceFrom(r.Context())
	trace.Kind = string(req.kind)
	if req.kind == kindPing {
		if s.askAtPing(v, req, reach) {
			return errPing()
		}
		return writeBody(w, r, "application/json", []byte("{}\n"))
	}
	req.visit = visit
	r = r.WithContext(oci.WithAdmission(v.context(r.Context()), visit.Admit))
	repo, err := s.o.Names.Repository(req.address)
	if err != nil {
		return err
	}
	trace.Repository = repo
	if req.address.NS != "" {
		w.Header().Set("OCI-Namespace", repo.Registry().String())
	}
	switch req.kind {
	case kindManifest:
		return s.serveManifest(w, r, repo, req)
	case kindBlob:
		return s.serveBlob(w, r, repo, req)
	case kindTags:
		return s.serveTags(w, r, repo, req)
	default:
		return s.serveReferrers(w, r, repo, req)
	}
}

// What the metrics call the token service and the page.
const (
	kindToken = "token"
	kindPage  = "page"
)

// forPeople tells whether a request is for the page: "/" from a client that says that
// it reads HTML, which no client of the protocol does, or a file of the page, which
// no name of a repository can look like.
func forPeople(r *http.Request) bool {
	if file, ok := strings.CutPrefix(r.URL.Path, "/-/"); ok {
		return !strings.Contains(file, "/")
	}
	return r.URL.Path == "/" && strings.Contains(strings.Join(r.Header.Values("Accept"), ","), "text/html")
}

func tokenMethod(m string) bool {
	return m == http.MethodGet || m == http.MethodHead || m == http.MethodPost
}
