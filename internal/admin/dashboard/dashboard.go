// Package dashboard shows the operator in a browser what the admin API tells, and
// offers what it can do: what is here, what is being fetched, how the disk and the
// upstreams are, what went wrong; deleting, pinning, purging, fetching ahead.
//
// It promises that every page can be read and every act be done without scripts, that
// nothing is deleted before the operator has seen what will go, and that whoever has
// not logged in, where there is a token, learns nothing but that. Every change is told
// to the audit log as one by the API is. It is to be served behind a guard against
// requests of other origins, as [admin.Admin] is.
//
// Lock order: sessions.mu is a leaf.
package dashboard

import (
	"embed"
	"errors"
	"html/template"
	"io/fs"
	"log/slog"
	"net/http"
	"time"

	"sampan/internal/admin"
	"sampan/internal/web"
)

//go:embed all:templates assets
var embedded embed.FS

// Options of a [Dashboard]. Content, Fills, Upstreams and Log are needed; what else is
// nil is not shown.
type Options struct {
	Content   *admin.Content
	Fills     func() []admin.Fill
	Upstreams func() []admin.Upstream
	Recent    func() []admin.Incident
	Tasks     func() []admin.Task
	// RunTask begins a task, as [admin.Options] has it.
	RunTask func(r *http.Request, name string) error
	// History lists what happened from one time to another, a step each.
	History admin.Teller
	// Config is the configuration in force as YAML, without secrets.
	Config func() string
	// Token is what has to be given to log in; empty lets everybody read, and who comes
	// from this machine change.
	Token string
	Log   *slog.Logger
	// Now is the clock; nil is the system's.
	Now func() time.Time
}

// A Dashboard is a handler of everything below "/". Make one with [New].
type Dashboard struct {
	o        Options
	site     *web.Site
	mux      *http.ServeMux
	sessions *sessions
}

// prefix is where the files of the pages are.
const prefix = "/-/"

// New makes a Dashboard.
func New(o Options) (*Dashboard, error) {
	if o.Content == nil || o.Fills == nil || o.Upstreams == nil || o.Log == nil {
		return nil, errors.New("dashboard: Content, Fills, Upstreams and Log are needed")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	templates, err := fs.Sub(embedded, "templates")
	if err != nil {
		return nil, err
	}
	assets, err := fs.Sub(embedded, "assets")
	if err != nil {
		return nil, err
	}
	d := &Dashboard{o: o, mux: http.NewServeMux(), sessions: newSessions(o.Token, o.Now)}
	d.site, err = web.New(web.Options{
		Prefix: prefix, Templates: templates, Assets: assets, Messages: messages(), Nav: d.nav(), Now: o.Now,
		Funcs: template.FuncMap{"locked": func() bool { return o.Token != "" }},
	})
	if err != nil {
		return nil, err
	}
	d.route()
	return d, nil
}

func (d *Dashboard) nav() []web.Link {
	list := []web.Link{{Path: "/", Key: "nav.overview"}, {Path: "/content", Key: "nav.content"}, {Path: "/prefetch", Key: "nav.prefetch"}, {Path: "/purge", Key: "nav.purge"}, {Path: "/upstreams", Key: "nav.upstreams"}}
	if d.o.Recent != nil {
		list = append(list, web.Link{Path: "/recent", Key: "nav.recent"})
	}
	if d.o.Tasks != nil {
		list = append(list, web.Link{Path: "/tasks", Key: "nav.tasks"})
	}
	if d.o.Config != nil {
		list = append(list, web.Link{Path: "/configuration", Key: "nav.configuration"})
	}
	return list
}

// ServeHTTP implements [http.Handler].
func (d *Dashboard) ServeHTTP(w http.ResponseWriter, r *http.Request) { d.mux.ServeHTTP(w, r) }

// route names the pages and the acts. A page is a GET and changes nothing.
func (d *Dashboard) route() {
	d.mux.Handle("GET "+prefix, d.site.Assets())
	d.mux.HandleFunc("GET /login", d.showLogin)
	d.mux.HandleFunc("POST /login", d.login)
	d.mux.HandleFunc("POST /logout", d.logout)
	page := func(path string, f func(r *http.Request) (view, error)) {
		d.mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) {
			if d.enter(w, r) {
				v, err := f(r)
				d.answer(w, r, v, err)
			}
		})
	}
	act := func(path string, f func(r *http.Request) (string, error)) {
		d.mux.HandleFunc("POST "+path, func(w http.ResponseWriter, r *http.Request) {
			if !d.enter(w, r) {
				return
			}
			r.Body = http.MaxBytesReader(w, r.Body, maxForm)
			to, err := f(r)
			if err != nil {
				d.answer(w, r, view{}, err)
				return
			}
			http.Redirect(w, r, to, http.StatusSeeOther)
		})
	}
	page("/{$}", d.overview)
	page("/fills", d.fills)
	page("/content", d.content)
	page("/content/repository", d.repository)
	page("/content/image", d.image)
	page("/delete", d.confirmDelete)
	act("/delete", d.delete)
	act("/pin", func(r *http.Request) (string, error) { return d.pin(r, true) })
	act("/unpin", func(r *http.Request) (string, error) { return d.pin(r, false) })
	page("/prefetch", d.prefetches)
	act("/prefetch", d.prefetch)
	act("/prefetch/cancel", d.cancel)
	page("/purge", d.previewPurge)
	act("/purge", d.purge)
	page("/upstreams", d.upstreams)
	if d.o.Recent != nil {
		page("/recent", d.recent)
	}
	if d.o.Tasks != nil {
		page("/tasks", d.tasks)
	}
	if d.o.RunTask != nil {
		act("/tasks/run", d.runTask)
	}
	if d.o.Config != nil {
		page("/configuration", d.configuration)
	}
	page("/", func(*http.Request) (view, error) { return view{}, errNoPage })
}

// maxForm bounds a form, in bytes.
const maxForm = 64 << 10

// A view is what a page shows.
type view struct {
	page string
	data any
}
