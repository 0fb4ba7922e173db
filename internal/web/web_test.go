package web

import (
	"fmt"
	"html/template"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/fstest"
	"time"
)

func page(text string) fstest.MapFS {
	return fstest.MapFS{"home.html": {Data: []byte(`{{define "title"}}T{{end}}{{define "main"}}` + text + `{{end}}`)}}
}

func site(t *testing.T, text string, more ...Message) *Site {
	t.Helper()
	s, err := New(Options{
		Prefix: "/-/", Templates: page(text), Messages: append([]Message{{"site", "Mirror", "镜像站"}}, more...),
		Nav: []Link{{"/", "site"}, {"/x/", "web.nav"}},
		Now: func() time.Time { return time.Unix(1_000_000, 0) },
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func get(t *testing.T, s *Site, target string, header http.Header, data any) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, target, nil)
	for name, values := range header {
		r.Header[name] = values
	}
	w := httptest.NewRecorder()
	if err := s.Render(w, r, View{Page: "home", Data: data}); err != nil {
		t.Fatal(err)
	}
	return w
}

// The texts of the layout itself, and their use by it, are complete: New fails
// otherwise, for every site that is built.
func TestMessagesThatLackALanguageAreRefused(t *testing.T) {
	for name, list := range map[string][]Message{
		"no English":         {{"a", "", "甲"}},
		"no Chinese":         {{"a", "A", ""}},
		"no key":             {{"", "A", "甲"}},
		"a key of two":       {{"a", "A", "甲"}, {"a", "B", "乙"}},
		"a key of the base":  {{"web.skip", "A", "甲"}},
		"fewer operands":     {{"a", "%s and %s", "%s"}},
		"other verbs":        {{"a", "%s", "%d"}},
		"swapped, other use": {{"a", "%s %d", "%[2]s %[1]d"}},
	} {
		if _, err := NewCatalogue(messages(), list); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	c, err := NewCatalogue(messages(), []Message{{"a", "%s of %d, 100%%", "%[2]d 中的 %[1]s，100%%"}})
	if err != nil {
		t.Fatal(err)
	}
	if text, err := c.Text(Chinese, "a", "x", 3); err != nil || text != "3 中的 x，100%" {
		t.Errorf("%q, %v", text, err)
	}
	if text, err := c.Text(English, "a", "x"); err == nil {
		t.Errorf("a text without one of its operands: %q", text)
	}
	if text, err := c.Text(English, "a", "%!d(", 3); err != nil || text != "%!d( of 3, 100%" {
		t.Errorf("%q, %v", text, err)
	}
	if text, err := c.Text(English, "a"); err == nil {
		t.Errorf("a text without its operands: %q", text)
	}
	if _, err := c.Text(English, "b"); err == nil {
		t.Error("an unknown key has a text")
	}
}

func TestATemplateCannotNameAMessageThatIsNotThere(t *testing.T) {
	for _, text := range []string{
		`{{t "nowhere"}}`, `{{if true}}{{else}}{{t "nowhere"}}{{end}}`, `{{range .Data}}{{t "nowhere" .}}{{end}}`,
		`{{with t "nowhere"}}{{.}}{{end}}`, `{{print (t "nowhere")}}`, `{{t "nowhere" | print}}`, `<p title="{{t "nowhere"}}">`,
	} {
		_, err := New(Options{Prefix: "/-/", Templates: page(text), Messages: []Message{{"site", "M", "镜"}}})
		if err == nil || !strings.Contains(err.Error(), `"nowhere"`) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestTheLanguageIsChosen(t *testing.T) {
	s := site(t, `<p>{{t "web.skip"}}</p>`)
	for _, c := range []struct {
		name, query, cookie, accept string
		want                        Lang
	}{
		{"nothing is said", "", "", "", English},
		{"the browser's first", "", "", "zh-CN,zh;q=0.9,en;q=0.8", Chinese},
		{"the browser's quality counts", "", "", "zh;q=0.5, en;q=0.7", English},
		{"a language we lack comes first", "", "", "fr, zh-TW;q=0.9, en;q=0.1", Chinese},
		{"one that is not wanted", "", "", "zh;q=0, fr", English},
		{"nonsense", "", "", ";;q=,", English},
		{"too long", "", "", "zh," + strings.Repeat("fr,", 1000), English},
		{"the cookie wins over the browser", "", "zh-CN", "en", Chinese},
		{"a cookie of nonsense", "", "xx", "zh", Chinese},
		{"the query wins", "?lang=en", "zh-CN", "zh", English},
		{"a query of nonsense", "?lang=%22%3E", "", "zh", Chinese},
	} {
		header := http.Header{"Accept-Language": {c.accept}}
		if c.cookie != "" {
			header.Set("Cookie", "sampan_lang="+c.cookie)
		}
		w := get(t, s, "/"+c.query, header, nil)
		if got := w.Header().Get("Content-Language"); got != string(c.want) || !strings.Contains(w.Body.String(), `<html lang="`+string(c.want)+`"`) {
			t.Errorf("%s: %s", c.name, got)
		}
		if w.Header().Get("Vary") != "Accept-Language, Cookie" {
			t.Errorf("%s: Vary: %q", c.name, w.Header().Get("Vary"))
		}
	}
}

// Without scripts: a link sets a cookie.
func TestChoicesAreRemembered(t *testing.T) {
	s := site(t, "")
	w := get(t, s, "/?lang=zh-CN&theme=dark&q=a", nil, nil)
	cookies := w.Result().Cookies()
	if len(cookies) != 2 || cookies[0].Name != "sampan_lang" || cookies[1].Value != "dark" || !cookies[0].HttpOnly {
		t.Errorf("cookies: %v", cookies)
	}
	for _, want := range []string{`data-theme="dark"`, `href="?lang=en&amp;q=a"`, `href="?q=a&amp;theme=light"`} {
		if !strings.Contains(w.Body.String(), want) {
			t.Errorf("no %s in\n%s", want, w.Body)
		}
	}
	w = get(t, s, "/", http.Header{"Cookie": {"sampan_theme=light"}}, nil)
	if !strings.Contains(w.Body.String(), `data-theme="light"`) || len(w.Result().Cookies()) != 0 {
		t.Errorf("the cookie was not followed:\n%s", w.Body)
	}
}

func TestNothingIsWrittenOfAPageThatFails(t *testing.T) {
	s := site(t, `<p>{{t .Data}}</p>`)
	w := httptest.NewRecorder()
	err := s.Render(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil), View{Page: "home", Data: "nowhere"})
	if err == nil || w.Body.Len() != 0 {
		t.Errorf("%v, %d bytes", err, w.Body.Len())
	}
	if err := s.Render(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil), View{Page: "none"}); err == nil {
		t.Error("a page that is not there was rendered")
	}
}

// A page can use its own files and forms, and nothing can be put into it.
func TestPagesAreHardened(t *testing.T) {
	s := site(t, `<p>{{.Data}}</p><input value="{{.Data}}">`)
	w := get(t, s, "/?q=%22%3E%3Cscript%3Ealert(1)%3C/script%3E", nil, `"><script>alert(1)</script>`)
	for name, want := range map[string]string{
		"Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
		"X-Content-Type-Options":  "nosniff", "Referrer-Policy": "same-origin", "X-Frame-Options": "DENY",
		"Cache-Control": "private, no-cache", "Content-Type": "text/html; charset=utf-8",
	} {
		if got := w.Header().Get(name); got != want {
			t.Errorf("%s: %q", name, got)
		}
	}
	body := w.Body.String()
	for _, never := range []string{"<script", "<style", " style=", " onclick=", "javascript:"} {
		if strings.Contains(body, never) {
			t.Errorf("the page has %q:\n%s", never, body)
		}
	}
}

func TestTheLinkOfThePageIsMarked(t *testing.T) {
	s := site(t, "")
	for target, want := range map[string]string{"/": `href="/" aria-current`, "/x/": `href="/x/" aria-current`, "/x/y": `href="/x/" aria-current`} {
		body := get(t, s, target, nil, nil).Body.String()
		if !strings.Contains(body, want) || strings.Count(body, `aria-current="page"`) != 1 {
			t.Errorf("%s: no single %s", target, want)
		}
	}
}

func TestQuantitiesInBothLanguages(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	for _, c := range []struct {
		text             string
		data             any
		english, chinese string
	}{
		{`{{bytes .Data}}`, int64(0), "0 B", "0 B"},
		{`{{bytes .Data}}`, 1023, "1023 B", "1023 B"},
		{`{{bytes .Data}}`, int64(3 << 29), "1.5 GiB", "1.5 GiB"},
		{`{{bytes .Data}}`, uint64(200 << 20), "200 MiB", "200 MiB"},
		{`{{count .Data}}`, 1234567, "1,234,567", "1,234,567"},
		{`{{count .Data}}`, -1000, "-1,000", "-1,000"},
		{`{{percent .Data}}`, 0.123, "12.3 %", "12.3 %"},
		{`{{ago .Data}}`, time.Time{}, "never", "从未"},
		{`{{ago .Data}}`, now, "just now", "刚刚"},
		{`{{ago .Data}}`, now.Add(-time.Minute), "1 minute ago", "1 分钟前"},
		{`{{ago .Data}}`, now.Add(-49 * time.Hour), "2 days ago", "2 天前"},
		{`{{ago .Data}}`, now.Add(90 * time.Minute), "in 1 hour", "1 小时后"},
		{`{{duration .Data}}`, 5 * time.Second, "5 seconds", "5 秒"},
		{`{{digest .Data}}`, text("sha256:0123456789abcdef"), "sha256:0123456789ab…", "sha256:0123456789ab…"},
		{`{{digest .Data}}`, text("latest"), "latest", "latest"},
		{
			`{{template "time" .Data}}`, now,
			`<time datetime="1970-01-12T13:46:40Z" title="1970-01-12 13:46:40 UTC">just now</time>`,
			`<time datetime="1970-01-12T13:46:40Z" title="1970-01-12 13:46:40 UTC">刚刚</time>`,
		},
	} {
		s := site(t, `<p id="x">`+c.text+`</p>`)
		for lang, want := range map[Lang]string{English: c.english, Chinese: c.chinese} {
			body := get(t, s, "/?lang="+string(lang), nil, c.data).Body.String()
			if !strings.Contains(body, `<p id="x">`+want+`</p>`) {
				t.Errorf("%s of %v in %s: want %s in\n%s", c.text, c.data, lang, want, body)
			}
		}
	}
}

type text string

func (s text) String() string { return string(s) }

func TestAssetsKeepForEver(t *testing.T) {
	s := site(t, "")
	path, err := s.Assets().Path("base.css")
	if err != nil {
		t.Fatal(err)
	}
	ask := func(method, path string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		s.Assets().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, path, nil))
		return w
	}
	w := ask(http.MethodGet, path)
	if w.Code != http.StatusOK || w.Header().Get("Content-Type") != "text/css; charset=utf-8" || w.Header().Get("Cache-Control") != "public, max-age=31536000, immutable" {
		t.Errorf("%d %v", w.Code, w.Header())
	}
	const most = 12 << 10
	if w.Body.Len() > most || fmt.Sprint(w.Body.Len()) != w.Header().Get("Content-Length") {
		t.Errorf("the style has %d bytes, at most %d are wanted", w.Body.Len(), most)
	}
	if head := ask(http.MethodHead, path); head.Code != http.StatusOK || head.Body.Len() != 0 {
		t.Errorf("HEAD: %d, %d bytes", head.Code, head.Body.Len())
	}
	for _, wrong := range []string{"/-/", "/-/base.css", "/-/base.000000000000.css", "/-/../web.go", "/x"} {
		if w := ask(http.MethodGet, wrong); w.Code != http.StatusNotFound || w.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %d", wrong, w.Code)
		}
	}
	if w := ask(http.MethodPost, path); w.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", w.Code)
	}
	if _, err := s.Assets().Path("none.css"); err == nil {
		t.Error("an asset that is not there has a path")
	}
	for _, systems := range []fstest.MapFS{{"base.css": {}}, {"x.exe": {}}} {
		if _, err := New(Options{Prefix: "/-/", Templates: page(""), Messages: []Message{{"site", "M", "镜"}}, Assets: systems}); err == nil {
			t.Errorf("%v was accepted", systems)
		}
	}
}

func TestFunctionsOfASiteAreItsOwn(t *testing.T) {
	s, err := New(Options{
		Prefix: "/-/", Messages: []Message{{"site", "M", "镜"}},
		Templates: fstest.MapFS{
			"_part.html": {Data: []byte(`{{define "part"}}<b>{{twice .}}</b>{{end}}`)},
			"home.html":  {Data: []byte(`{{define "main"}}{{template "part" .Data}}{{end}}`)},
		},
		Funcs: template.FuncMap{"twice": func(s string) string { return s + s }},
	})
	if err != nil {
		t.Fatal(err)
	}
	if body := get(t, s, "/", nil, "<").Body.String(); !strings.Contains(body, "<b>&lt;&lt;</b>") {
		t.Error(body)
	}
}
