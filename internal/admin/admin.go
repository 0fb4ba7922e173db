// Package admin is the operator's listener: health, readiness, metrics, and what
// is going on.
//
// It serves no content of any registry. What it changes, whoever reaches it may
// change: a reload, deletions, pins, fetches ahead and images that are brought, each of
// which is told to the audit log. With a token, only who has it; without one, only who is on this machine.
// Pages of other origins cannot ask for any of it.
package admin

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"sampan/internal/oci"
)

// Options of an [Admin]. Gatherer, Fills and Upstreams are needed.
type Options struct {
	Gatherer prometheus.Gatherer
	// Reload loads the configuration again; its error says why it stays as it was.
	// Nil means that this cannot be asked for.
	Reload func() error
	// Fills lists the fetches that are running, the oldest first.
	Fills func() []Fill
	// Upstreams lists the configured registries by name.
	Upstreams func() []Upstream
	// Explainer tells about images; nil tells nothing.
	Explainer *Explainer
	// Content is what is here; nil offers nothing of it.
	Content *Content
	// Pulls lists the blobs that are being sent, the oldest first; nil lists none.
	Pulls func() []Pull
	// Events is told of fetches that begin and end; nil offers no stream.
	Events *Events
	// Config writes the configuration in effect as YAML, without secrets; nil offers
	// nothing.
	Config func(w io.Writer) error
	// Recent lists what went wrong, the newest first; nil offers no list.
	Recent func() []Incident
	// Tasks lists what is done at set times; nil lists nothing.
	Tasks func() []Task
	// RunTask begins a task at once, and tells the audit log; [ErrNoTask], [ErrTaskBusy].
	// Nil means that this cannot be asked for.
	RunTask func(r *http.Request, name string) error
	// History lists what happened; nil tells nothing of it.
	History Teller
	// Dashboard serves people in a browser, everything that is nothing else; nil for none.
	// It asks for the token itself.
	Dashboard http.Handler
	// Token is what has to be sent, as a bearer token, for all below /api; empty lets
	// everybody read, and who comes from this machine change.
	Token string
}

// A Pull is the body of a blob that is being sent.
type Pull struct {
	Request        string    `json:"request"` // identifier, as in the access log
	Client         string    `json:"client"`  // address, without port
	User           string    `json:"user,omitempty"`
	Repository     string    `json:"repository"`
	Digest         string    `json:"digest"`
	Size           int64     `json:"size"`  // of the body in bytes; -1 when it is not known
	Bytes          int64     `json:"bytes"` // that are sent
	BytesPerSecond int64     `json:"bytes_per_second"`
	Since          time.Time `json:"since"`
}

// A Fill is a running fetch as the operator sees it.
type Fill struct {
	Digest         oci.Digest `json:"digest"`
	Repositories   []string   `json:"repositories"` // that have asked for it
	Size           int64      `json:"size"`         // bytes; -1 while it is not known
	Bytes          int64      `json:"bytes"`        // that are here
	BytesPerSecond int64      `json:"bytes_per_second"`
	Readers        int        `json:"readers"`
	Lines          int        `json:"lines"`
	Since          time.Time  `json:"since"`
}

// Admin is the handler. Make one with [New]; it is not ready at first.
type Admin struct {
	mux   *routes
	safe  http.Handler // mux, which pages of other origins cannot have change anything
	ready atomic.Bool

	// running is held for reading by each request: who holds it for writing has seen
	// the last one end.
	running sync.RWMutex
}

var _ http.Handler = (*Admin)(nil)

// New makes an Admin.
func New(o Options) (*Admin, error) {
	if o.Gatherer == nil || o.Fills == nil || o.Upstreams == nil {
		return nil, errors.New("admin: Gatherer, Fills and Upstreams are needed")
	}
	a := &Admin{mux: newRoutes()}
	a.safe = http.NewCrossOriginProtection().Handler(people(o.Dashboard, guarded(a.mux, o.Token)))
	a.register(o)
	return a, nil
}

// register adds what the options offer.
func (a *Admin) register(o Options) {
	m := a.mux
	m.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { say(w, http.StatusOK, "ok") })
	m.HandleFunc("GET /readyz", a.readyz)
	m.Handle("GET /metrics", promhttp.HandlerFor(o.Gatherer, promhttp.HandlerOpts{}))
	m.HandleFunc("GET /api/v1/openapi.yaml", serveDescription)
	if o.Reload != nil {
		m.HandleFunc("POST /api/v1/reload", func(w http.ResponseWriter, _ *http.Request) {
			if err := o.Reload(); err != nil {
				say(w, http.StatusUnprocessableEntity, err.Error())
				return
			}
			say(w, http.StatusOK, "ok")
		})
	}
	list := func(path, key string, f func() any) {
		m.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) { sayJSON(w, map[string]any{key: f()}) })
	}
	list("/api/v1/fills", "fills", func() any { return o.Fills() })
	list("/api/v1/upstreams", "upstreams", func() any { return o.Upstreams() })
	if o.Pulls != nil {
		list("/api/v1/pulls", "pulls", func() any { return o.Pulls() })
	}
	if o.Events != nil {
		m.HandleFunc("GET /api/v1/events", o.Events.serve(o.Fills, o.Pulls))
	}
	if o.Config != nil {
		m.HandleFunc("GET /api/v1/config", serveConfig(o.Config))
	}
	if o.Recent != nil {
		m.HandleFunc("GET /api/v1/recent", serveRecent(o.Recent))
	}
	if o.Explainer != nil {
		m.HandleFunc("GET /api/v1/explain", o.Explainer.serveExplain)
	}
	if o.History != nil {
		m.HandleFunc("GET /api/v1/history", serveHistory(o.History))
	}
	registerTasks(m, o)
	if o.Content != nil {
		o.Content.register(m)
	}
}

// Wait returns when the last request has ended. The caller has ended their contexts.
func (a *Admin) Wait() {
	a.running.Lock()
	defer a.running.Unlock()
}

// people has their pages served to them. They are not in the mux, in which a pattern for
// everything would answer what is refused for its method.
func people(pages, programs http.Handler) http.Handler {
	if pages == nil {
		return programs
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch path := r.URL.Path; {
		case strings.HasPrefix(path, "/api/"), path == "/healthz", path == "/readyz", path == "/metrics":
			programs.ServeHTTP(w, r)
		default:
			pages.ServeHTTP(w, r)
		}
	})
}

// guarded lets pass who has the token, or, where there is none, who only reads or is on
// this machine. Health and metrics are everybody's who reaches the listener.
func guarded(next http.Handler, token string) http.Handler {
	want := sha256.Sum256([]byte("Bearer " + token))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, "/api/") {
			next.ServeHTTP(w, r)
			return
		}
		if token == "" {
			if err := Free(r); err != nil {
				say(w, http.StatusForbidden, err.Error())
				return
			}
			next.ServeHTTP(w, r)
			return
		}
		if got := sha256.Sum256([]byte(r.Header.Get("Authorization"))); subtle.ConstantTimeCompare(got[:], want[:]) != 1 {
			w.Header().Set("WWW-Authenticate", "Bearer")
			say(w, http.StatusUnauthorized, "this needs the token of the admin listener")
			return
		}
		next.ServeHTTP(w, r)
	})
}

// SetReady says whether requests should be sent here: 200 or 503 of /readyz.
func (a *Admin) SetReady(ready bool) { a.ready.Store(ready) }

// ServeHTTP implements [http.Handler].
func (a *Admin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	h.Set("Referrer-Policy", "no-referrer")
	a.running.RLock()
	defer a.running.RUnlock()
	a.safe.ServeHTTP(w, r)
}

func (a *Admin) readyz(w http.ResponseWriter, _ *http.Request) {
	if !a.ready.Load() {
		say(w, http.StatusServiceUnavailable, "starting or stopping")
		return
	}
	say(w, http.StatusOK, "ready")
}

func say(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text + "\n")) // whoever asked may have left
}

func sayJSON(w http.ResponseWriter, v any) { sayJSONAs(w, http.StatusOK, v) }

func sayJSONAs(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		say(w, http.StatusInternalServerError, err.Error())
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // whoever asked may have left
}
