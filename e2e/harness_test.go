//go:build e2e

package e2e

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// What the browser complains about is heard: else no test of a page means anything.
func TestBrowserHearsWhatIsWrong(t *testing.T) {
	const head = `<!DOCTYPE html><html lang="en"><head><title>T</title><meta name="viewport" content="width=device-width, initial-scale=1"></head><body><main><h1>T</h1>`
	pages := map[string]string{
		"/sound":    "<p>Fine.</p>",
		"/inline":   "<script>document.title = 'x'</script>",
		"/style":    `<p style="color:red">x</p>`,
		"/missing":  `<img src="/none.svg" alt="x">`,
		"/throws":   `<script src="/throws.js"></script>`,
		"/faint":    `<link rel="stylesheet" href="/faint.css"><p class="f">Hard to read.</p>`,
		"/nameless": `<form><input type="text"></form>`,
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'")
		body, ok := pages[r.URL.Path]
		switch {
		case ok:
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			fmt.Fprint(w, head+body+"</main></body></html>")
		case r.URL.Path == "/throws.js":
			w.Header().Set("Content-Type", "text/javascript")
			fmt.Fprint(w, "throw new Error('no')")
		case r.URL.Path == "/faint.css":
			w.Header().Set("Content-Type", "text/css")
			fmt.Fprint(w, ".f { color: #ccc; background: #fff }")
		case r.URL.Path == "/favicon.ico":
			w.WriteHeader(http.StatusNoContent)
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(server.Close)
	b := startBrowser(t)
	for path, want := range map[string]string{
		"/sound": "", "/inline": "Content Security Policy", "/style": "Content Security Policy",
		"/missing": "404", "/throws": "exception", "/faint": "color-contrast", "/nameless": "label",
	} {
		p := b.open(t, look{}, server.URL+path)
		complaints := p.complaints(t)
		if said := strings.Join(complaints, "\n"); want == "" && said != "" || !strings.Contains(strings.ToLower(said), strings.ToLower(want)) {
			t.Errorf("%s: want %q, heard %q", path, want, said)
		}
	}
}
