package admin

import "net/http"

// routes are a mux that knows what was registered with it: nothing is served that the
// description of the API could miss.
type routes struct {
	mux      *http.ServeMux
	patterns []string
}

func newRoutes() *routes { return &routes{mux: http.NewServeMux()} }

// ServeHTTP implements [http.Handler].
func (r *routes) ServeHTTP(w http.ResponseWriter, req *http.Request) { r.mux.ServeHTTP(w, req) }

// Handle registers a handler for "METHOD /path".
func (r *routes) Handle(pattern string, h http.Handler) {
	r.mux.Handle(pattern, h)
	r.patterns = append(r.patterns, pattern)
}

// HandleFunc is Handle for a function.
func (r *routes) HandleFunc(pattern string, f http.HandlerFunc) { r.Handle(pattern, f) }

// Routes are what is served, as "METHOD /path", in the order of their registration.
func (a *Admin) Routes() []string { return append([]string{}, a.mux.patterns...) }
