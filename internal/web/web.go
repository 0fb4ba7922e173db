// Package web is the ground that pages for people stand on: one layout and its
// style, texts in English and Chinese, light and dark colours, files under names
// that browsers may keep, and headers that allow nothing a page does not need.
//
// It promises that a page is whole or not begun: it is rendered before the first
// byte is written. It promises that no page of a [Site] lacks a text in either
// language, as far as its templates name them by literal keys: [New] fails. All
// pages work without scripts, and none holds an inline script or style.
//
// It routes nothing, knows nobody, and has no page of its own. It takes no lock.
package web

import (
	"bytes"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
	"time"
)

// base returns the layout and the assets of every site.
func base() (templates, assets fs.FS, err error) {
	templates, err = fs.Sub(files(), "templates")
	if err != nil {
		return nil, nil, err
	}
	assets, err = fs.Sub(files(), "assets")
	return templates, assets, err
}

// Options of a [Site]. Prefix, Templates and Messages are needed.
type Options struct {
	// Prefix is the path that assets are served below: "/-/".
	Prefix string
	// Templates has NAME.html for each page, which defines "title" and "main" and may
	// define "head". Files whose names begin with an underscore belong to all pages.
	Templates fs.FS
	// Assets are more files to serve; nil for none.
	Assets fs.FS
	// Messages are the texts. "site" is needed: the name of the whole.
	Messages []Message
	// Nav are the links at the top, the first of which leads to the page above all;
	// none for a site of one page.
	Nav []Link
	// Funcs are more functions for templates; nil for none.
	Funcs template.FuncMap
	// Referrer is the Referrer-Policy of pages. Empty is "same-origin", which a page
	// with forms that change something needs: see [Secure].
	Referrer string
	// Now is the clock of ages; nil is the system's.
	Now func() time.Time
}

// A Link leads to a page of the site.
type Link struct {
	Path string
	Key  string // of its text
}

// A Site renders pages. Make one with [New]. Its methods may be called concurrently.
type Site struct {
	nav       []Link
	referrer  string // empty for that of Secure
	catalogue *Catalogue
	assets    *Assets
	pages     map[Lang]map[string]*template.Template
}

// New parses the templates for each language. Any mistake in them, in the messages or
// in the assets is an error.
func New(o Options) (*Site, error) {
	if o.Templates == nil || len(o.Messages) == 0 {
		return nil, errors.New("web: Templates and Messages are needed")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	layout, own, err := base()
	if err != nil {
		return nil, fmt.Errorf("web: %w", err)
	}
	systems := []fs.FS{own}
	if o.Assets != nil {
		systems = append(systems, o.Assets)
	}
	s := &Site{nav: o.Nav, referrer: o.Referrer, pages: map[Lang]map[string]*template.Template{}}
	if s.assets, err = NewAssets(o.Prefix, systems...); err != nil {
		return nil, err
	}
	if s.catalogue, err = NewCatalogue(messages(), o.Messages); err != nil {
		return nil, err
	}
	for _, lang := range languages() {
		f := formatter{lang: lang, catalogue: s.catalogue, now: o.Now, asset: s.assets.Path}
		root, err := template.New("layout.html").Funcs(f.funcs()).Funcs(o.Funcs).ParseFS(layout, "*.html")
		if err != nil {
			return nil, fmt.Errorf("web: %w", err)
		}
		if s.pages[lang], err = s.parse(root, o.Templates); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// parse makes one template for each page, over a layout.
func (s *Site) parse(root *template.Template, from fs.FS) (map[string]*template.Template, error) {
	names, err := fs.Glob(from, "*.html")
	if err != nil {
		return nil, fmt.Errorf("web: %w", err)
	}
	var shared, single []string
	for _, name := range names {
		if strings.HasPrefix(name, "_") {
			shared = append(shared, name)
		} else {
			single = append(single, name)
		}
	}
	pages := map[string]*template.Template{}
	for _, name := range single {
		t, err := root.Clone()
		if err == nil {
			t, err = t.ParseFS(from, append(shared, name)...)
		}
		if err == nil {
			err = s.catalogue.check(t)
		}
		if err != nil {
			return nil, fmt.Errorf("web: page %s: %w", name, err)
		}
		pages[strings.TrimSuffix(path.Base(name), ".html")] = t
	}
	return pages, nil
}

// Assets serves the files that the pages need, below the prefix.
func (s *Site) Assets() *Assets { return s.assets }

// Text is a message in a language, for code that needs one; see [Catalogue.Text].
func (s *Site) Text(lang Lang, key string, args ...any) (string, error) {
	return s.catalogue.Text(lang, key, args...)
}

// A View is what one answer shows.
type View struct {
	Page   string // the name of the template without ".html"
	Status int    // 0 is 200
	Data   any    // .Data in the template
}

// A Frame is the dot of a template.
type Frame struct {
	Lang  Lang
	Theme Theme
	Nav   []NavLink
	Path  string // of the request
	Data  any

	query url.Values
}

// A NavLink is a [Link] as a page shows it.
type NavLink struct {
	Link
	Current bool // it leads to the page itself, or to one above it
}

// maxQuery is how many bytes of a query the links of a page repeat.
const maxQuery = 2 << 10

// With is a link to the same page with a parameter of its query set. An empty value
// takes it out.
func (f Frame) With(name, value string) string {
	query := url.Values{}
	for key, values := range f.query {
		if key != langName && key != themeName {
			query[key] = values
		}
	}
	if query.Del(name); value != "" {
		query.Set(name, value)
	}
	return "?" + query.Encode()
}

// Languages lists the languages for the switch.
func (f Frame) Languages() []Lang { return languages() }

// Themes lists the themes for the switch.
func (f Frame) Themes() []Theme { return []Theme{Auto, Light, Dark} }

// Render answers a request with a page, in the language and colours that it wants.
// On an error nothing was written but headers.
func (s *Site) Render(w http.ResponseWriter, r *http.Request, v View) error {
	lang, theme := Choose(w, r)
	page := s.pages[lang][v.Page]
	if page == nil {
		return fmt.Errorf("web: there is no page %q", v.Page)
	}
	frame := Frame{Lang: lang, Theme: theme, Path: r.URL.Path, Data: v.Data}
	if len(r.URL.RawQuery) <= maxQuery {
		frame.query = r.URL.Query()
	}
	for _, link := range s.nav {
		home := link.Path == s.nav[0].Path // every path is below that
		below := !home && strings.HasPrefix(r.URL.Path, strings.TrimSuffix(link.Path, "/")+"/")
		frame.Nav = append(frame.Nav, NavLink{link, below || link.Path == r.URL.Path})
	}
	var body bytes.Buffer
	if err := page.ExecuteTemplate(&body, "layout.html", frame); err != nil {
		return fmt.Errorf("web: page %s: %w", v.Page, err)
	}
	h := w.Header()
	Secure(h)
	if s.referrer != "" {
		h.Set("Referrer-Policy", s.referrer)
	}
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Language", string(lang))
	h.Set("Content-Length", strconv.Itoa(body.Len()))
	h.Set("Cache-Control", "private, no-cache")
	if v.Status == 0 {
		v.Status = http.StatusOK
	}
	w.WriteHeader(v.Status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(body.Bytes()) // the client may have left
	}
	return nil
}

// Secure sets headers that let a page use its own files and forms and nothing else.
// Other sites learn no address of this one; a form tells its own site where it stood,
// which [http.CrossOriginProtection] needs.
func Secure(h http.Header) {
	h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "+
		"connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
}
