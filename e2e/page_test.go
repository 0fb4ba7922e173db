//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// A state of the page: what is asked for, how it is answered, and what a person
// reads then in either language.
type pageState struct {
	name, image      string
	status           int64
	selector         string
	english, chinese string
}

func pageStates() []pageState {
	digest := "sha256:" + strings.Repeat("ab", 32)
	return []pageState{
		{"start", "", 200, "h1", "Pull any container image", "拉取任意容器镜像"},
		{"image", "nginx:alpine", 200, "#here", "nginx:alpine at this mirror", "nginx:alpine 在本站的名称"},
		{"command", "docker pull k8s.gcr.io/pause:3.1", 200, ".note", "another name of registry.k8s.io/pause:3.1", "registry.k8s.io/pause:3.1 的别名"},
		{"digest", "quay.io/team/app:v1@" + digest, 200, "#name-path", "@" + digest, "@" + digest},
		{"reversed", mirrorDomain + "/quay.io/team/app:v1", 200, ".note", "name at this mirror", "本站的镜像名称"},
		{"case", "Nginx", 400, "#problem", "lower case", "小写"},
		{"nonsense", "what is this?", 400, "#problem", "not the name of an image", "不是镜像名称"},
		{"hostile", `"><script src=//x.example></script><img src=x onerror=alert(1)>`, 400, "#problem", "<script src=//x.example></script>", "<script src=//x.example></script>"},
		{"unknown", "registry.example.org/a/b", 404, "#problem", "is not served", "本站不提供"},
	}
}

// Every state of the page, as everybody may look at it: the usual ones in all looks,
// the others in the two that differ most.
func TestBrowserPage(t *testing.T) {
	m := startMirror(t, options{})
	b := startBrowser(t)
	for _, state := range pageStates() {
		all := looks()
		if state.status != 200 || state.name == "digest" {
			all = []look{{}, {lang: "zh-CN", dark: true, phone: true}}
		}
		for _, l := range all {
			t.Run(state.name+"/"+l.String(), func(t *testing.T) {
				p := b.open(t, l, pageURL(m, state.image))
				p.wantStatus(t, state.status)
				p.wantSound(t)
				want := state.english
				if l.lang != "" {
					want = state.chinese
				}
				if got := p.text(t, state.selector); !strings.Contains(got, want) {
					t.Errorf("%s says %q, want %q in it", state.selector, got, want)
				}
				const most = 100 << 10
				if n := p.size(); n == 0 || n > most {
					t.Errorf("the page and its files have %d bytes", n)
				}
			})
		}
	}
}

// The pictures of the manual.
func TestBrowserPicturesOfThePage(t *testing.T) {
	m := startMirror(t, options{})
	b := startBrowser(t)
	for name, l := range map[string]look{"page": {}, "page.zh-CN": {lang: "zh-CN", dark: true}} {
		p := b.open(t, l, pageURL(m, "nginx:alpine"))
		p.wantSound(t)
		p.glance(t, name)
	}
	b.open(t, look{phone: true, lang: "zh-CN"}, pageURL(m, "")).shot(t, "page-phone.zh-CN")
}

// pageURL is the address of the page under the mirror's name, with an image; empty
// for none.
func pageURL(m *mirror, image string) string {
	base := "http://" + strings.Replace(m.address, "127.0.0.1", mirrorDomain, 1) + "/"
	if image == "" {
		return base
	}
	return base + "?image=" + url.QueryEscape(image)
}

// A person without a mouse gets from the address to the copied command.
func TestBrowserPageByKeyboard(t *testing.T) {
	m := startMirror(t, options{})
	// Loopback is a secure context, where pages may write to the clipboard; a name over
	// plain HTTP is none, and the older command has to do it.
	for name, base := range map[string]string{"secure": "http://" + m.address + "/", "plain": pageURL(m, "")} {
		t.Run(name, func(t *testing.T) {
			p := startBrowser(t).open(t, look{}, base)
			p.press(t, kb.Tab)
			if got := p.focused(t); got != "a.skip" {
				t.Errorf("the first key leads to %s", got)
			}
			p.press(t, kb.Enter)
			for range 3 { // the box is the first thing there
				if p.press(t, kb.Tab); p.focused(t) == "input#image" {
					break
				}
			}
			p.press(t, "quay.io/prometheus/node-exporter:v1.9.0")
			p.submit(t)
			p.wantStatus(t, http.StatusOK)
			if got := p.text(t, "#here"); !strings.Contains(got, "quay.io/prometheus/node-exporter:v1.9.0") {
				t.Fatalf("the page answers %q", got)
			}
			want := p.text(t, "#docker-0")
			if name == "plain" {
				want = p.text(t, "#docker-1") // the first is about plain HTTP
			}
			id := map[string]string{"secure": "docker-0", "plain": "docker-1"}[name]
			for range 60 {
				if p.press(t, kb.Tab); eval[string](t, p, "document.activeElement.dataset.copy ?? ''") == id {
					break
				}
			}
			p.press(t, kb.Enter)
			if err := poll(startTimeout, func() error {
				if said := p.text(t, "#said"); said != "Copied" {
					return fmt.Errorf("the page says %q", said)
				}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			if got := p.paste(t); got != want || !strings.HasPrefix(got, "docker pull ") {
				t.Errorf("the clipboard has %q, want %q", got, want)
			}
			p.wantSound(t)
		})
	}
}

// submit presses Enter in a form, and waits for the page that answers.
func (p *tab) submit(t *testing.T) {
	t.Helper()
	before := eval[float64](t, p, "performance.timeOrigin")
	p.press(t, kb.Enter)
	err := poll(startTimeout, func() error {
		// Between two documents there is nobody to ask.
		ctx, cancel := context.WithTimeout(p.ctx, time.Second)
		defer cancel()
		now, err := chromedp.Run(ctx, chromedp.Evaluate[float64](`document.readyState === "complete" ? performance.timeOrigin : 0`))
		if err == nil && (now == 0 || now == before) {
			err = errors.New("no new page")
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// paste is what the clipboard holds, as it comes into an empty box of the page.
func (p *tab) paste(t *testing.T) string {
	t.Helper()
	eval[bool](t, p, `(() => { const box = document.createElement("textarea"); box.id = "pasted"; box.setAttribute("aria-label", "x"); document.querySelector("main").append(box); box.focus(); return true })()`)
	p.do(t, chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, input.DispatchKeyEvent, input.DispatchKeyEventParams{Type: input.DispatchKeyEventTypeKeyDown, Commands: []string{"paste"}})
		return err
	}))
	return eval[string](t, p, `(() => { const box = document.getElementById("pasted"), text = box.value; box.remove(); return text })()`)
}

// Without scripts the page does all but copy.
func TestBrowserPageWithoutScripts(t *testing.T) {
	m := startMirror(t, options{})
	p := startBrowser(t).open(t, look{noScript: true}, pageURL(m, ""))
	p.press(t, kb.Tab)
	p.press(t, kb.Enter)
	for range 3 {
		if p.press(t, kb.Tab); p.focused(t) == "input#image" {
			break
		}
	}
	p.press(t, "docker pull nginx:alpine")
	p.submit(t)
	if got, want := p.text(t, "#name-path"), strings.Replace(m.address, "127.0.0.1", mirrorDomain, 1)+"/docker.io/library/nginx:alpine"; got != want {
		t.Errorf("the name is %q, want %q", got, want)
	}
	if n := eval[int](t, p, `[...document.querySelectorAll("button.copy")].filter(b => b.offsetParent !== null).length`); n != 0 {
		t.Errorf("%d buttons are shown that cannot work", n)
	}
	p.wantSound(t)
	// Another language and other colours, by links, and they stay.
	p.follow(t, `a[hreflang="zh-CN"]`)
	p.follow(t, `a[href*="theme=dark"]`)
	if got := p.text(t, "#here"); !strings.Contains(got, "在本站的名称") {
		t.Errorf("the page says %q", got)
	}
	if got := eval[string](t, p, `getComputedStyle(document.body).colorScheme + " " + document.documentElement.dataset.theme`); got != "dark dark" {
		t.Errorf("the colours are %s", got)
	}
	p.visit(t, pageURL(m, ""))
	if got := p.text(t, "h1"); !strings.Contains(got, "拉取任意容器镜像") {
		t.Errorf("the choice is forgotten: %q", got)
	}
}

// follow opens the link that a selector finds.
func (p *tab) follow(t *testing.T, selector string) {
	t.Helper()
	p.visit(t, eval[string](t, p, fmt.Sprintf("document.querySelector(%q).href", selector)))
}

// By https and with an access code: the visitor's own host name stands in what is shown
// to that visitor, and nowhere else.
func TestBrowserPageWithACode(t *testing.T) {
	m := startMembers(t, "")
	b := startBrowser(t)
	p := b.open(t, look{}, "https://"+memberCode+"."+m.host+"/?image=nginx:alpine")
	p.wantSound(t)
	if got, want := p.text(t, "#name-path"), memberCode+"."+m.host+"/docker.io/library/nginx:alpine"; got != want {
		t.Errorf("the name is %q, want %q", got, want)
	}
	if got := p.text(t, "#docker-1"); !strings.Contains(got, "https://"+memberCode+"."+m.host) || strings.Contains(got, "insecure") {
		t.Errorf("Docker is told %q", got)
	}
	if links := eval[[]string](t, p, `[...document.querySelectorAll("[href], [src], [action]")].map(e => e.getAttribute("href") ?? e.getAttribute("src") ?? e.getAttribute("action"))`); strings.Contains(strings.Join(links, " "), memberCode) {
		t.Errorf("a link has the code: %v", links)
	}
	other := b.open(t, look{}, "https://"+m.host+"/?image=nginx:alpine")
	other.wantSound(t)
	if strings.Contains(eval[string](t, other, "document.documentElement.outerHTML"), memberCode) {
		t.Error("who came without the code sees it")
	}
	m.wantNoSecrets(t)
}
