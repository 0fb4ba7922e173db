// Package welcome is the page that a person meets who opens the mirror's own
// address in a browser: a box that takes any image name, and answers with its name at
// this mirror and with the commands and files that each client needs.
//
// It promises that every command and file on the page names the mirror as the
// visitor does, scheme and port included, and that a name it shows leads back to
// the image it is shown for. It tells how registries are, and nothing of what is
// in the cache, of accounts, or of what may still be asked of a registry.
//
// It decides nothing: who may see it, and which requests are for it, is for the
// server before it. It asks no registry. It takes no lock.
package welcome

import (
	"embed"
	"errors"
	"html/template"
	"io/fs"
	"log/slog"
	"net/http"
	"strings"

	"sampan/internal/mirror"
	"sampan/internal/oci"
	"sampan/internal/web"
)

//go:embed templates assets
var embedded embed.FS

// prefix is the path of the files that the page needs.
const prefix = "/-/"

// A State is how a registry is, as far as strangers may know.
type State string

// The states.
const (
	// Good: nothing is known against it.
	Good State = "good"
	// Slow: some of its endpoints fail, or it brings little.
	Slow State = "slow"
	// Failing: it gives no answer. What is in the cache is served all the same.
	Failing State = "failing"
	// Offline: this mirror asks nobody.
	Offline State = "offline"
)

// An Upstream is a registry as the page lists it.
type Upstream struct {
	Registry oci.Registry
	State    State
}

// Options of a [Page]. Names and Log are needed.
type Options struct {
	Names *mirror.Names
	// Domain is the mirror's own host name; empty where it is not known.
	Domain string
	// Upstreams lists the registries that strangers may know of, by name; nil for
	// none.
	Upstreams func() []Upstream
	Log       *slog.Logger
}

// A Page answers browsers. Make one with [New].
type Page struct {
	o    Options
	site *web.Site
}

// New makes a Page.
func New(o Options) (*Page, error) {
	if o.Names == nil || o.Log == nil {
		return nil, errors.New("welcome: Names and Log are needed")
	}
	templates, err := fs.Sub(embedded, "templates")
	if err != nil {
		return nil, err
	}
	assets, err := fs.Sub(embedded, "assets")
	if err != nil {
		return nil, err
	}
	site, err := web.New(web.Options{
		Prefix: prefix, Templates: templates, Assets: assets, Messages: messages(),
		// A name that somebody pastes may have an access code in it.
		Referrer: "no-referrer",
		Funcs:    template.FuncMap{"code": newBlock, "plain": plainBlock},
	})
	if err != nil {
		return nil, err
	}
	if o.Upstreams == nil {
		o.Upstreams = func() []Upstream { return nil }
	}
	return &Page{o, site}, nil
}

// maxInput bounds what is pasted, in bytes; what is longer is no image name.
const maxInput = 2 << 10

// Serve answers a request for "/" or below "/-/". Host is the request's Host header
// without the access code that may stand before it in r.Host.
func (p *Page) Serve(w http.ResponseWriter, r *http.Request, host string) {
	if r.URL.Path != "/" {
		p.site.Assets().ServeHTTP(w, r)
		return
	}
	a := p.answer(placeOf(r, host, p.o.Domain), r.URL.Query().Get("image"))
	err := p.site.Render(w, r, web.View{Page: "home", Status: a.status(), Data: a})
	if err != nil {
		p.o.Log.ErrorContext(r.Context(), "page not rendered", "err", err)
		http.Error(w, "500 internal server error", http.StatusInternalServerError)
	}
}

// An answer is what the page shows.
type answer struct {
	Mirror  string // host and port, as the visitor has it
	URL     string // the same with its scheme
	Input   string // what was pasted; empty for nothing
	Problem *problem
	Image   *image    // of the input; nil for none
	Setup   []section // files and commands
	Rows    []row     // the registries
	Hosts   bool      // rows have names in host style
}

// A row is one registry with its name at this mirror.
type row struct {
	Upstream
	Path, Host string // names of its repositories begin so; empty for none
}

func (a *answer) status() int {
	if a.Problem != nil {
		return a.Problem.status
	}
	return http.StatusOK
}

// answer finds out what was pasted and what there is to say about it.
func (p *Page) answer(at place, input string) *answer {
	a := &answer{Mirror: at.shown(at.base), URL: at.url(), Input: strings.TrimSpace(input)}
	for _, u := range p.o.Upstreams() {
		r := row{Upstream: u, Path: p.beginning(at, u.Registry, mirror.PathStyle)}
		if p.o.Domain != "" && at.code == "" {
			r.Host = p.beginning(at, u.Registry, mirror.HostStyle)
		}
		a.Hosts = a.Hosts || r.Host != ""
		a.Rows = append(a.Rows, r)
	}
	switch {
	case a.Input == "":
	case len(a.Input) > maxInput:
		a.Input = a.Input[:0]
		a.Problem = &problem{Key: "bad.long", status: http.StatusBadRequest}
	default:
		a.Image, a.Problem = p.find(at, a.Input)
	}
	if a.Image == nil {
		a.Setup = p.setup(at, a.Rows)
		return a
	}
	for _, r := range a.Rows {
		if r.Registry == a.Image.Reference.Repository.Registry() {
			a.Image.State = r.State
		}
	}
	a.Setup = p.sections(at, a.Image)
	return a
}

// A block is some text to copy.
type block struct {
	ID    string // of its element
	Label string // what it is
	File  string // where it goes; empty for nowhere
	Code  string
}

func newBlock(id, label string, p part) block { return block{id, label, p.File, p.Code} }

func plainBlock(id, label, text string) block { return block{ID: id, Label: label, Code: text} }

// beginning is what the names of a registry's repositories begin with at this mirror,
// up to the path; empty when there is none of that style.
func (p *Page) beginning(at place, r oci.Registry, style mirror.Style) string {
	const path = "a/b"
	repo, err := r.Repository(path)
	if err != nil {
		return ""
	}
	name, err := p.o.Names.Name(oci.Reference{Repository: repo}, style, at.base)
	if err != nil {
		return ""
	}
	return at.shown(strings.TrimSuffix(name, path))
}
