//go:build e2e

package e2e

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// A boardPage is a page of the dashboard, and what a person reads there.
type boardPage struct {
	name, path       string
	selector         string
	english, chinese string
}

func boardPages() []boardPage {
	const image = "?repository=docker.io/library/tiny&reference=latest"
	return []boardPage{
		{"overview", "/", "h1", "Overview", "概览"},
		{"content", "/content", "tbody", "docker.io/library/tiny", "docker.io/library/tiny"},
		{"nothing", "/content?search=nothing-of-that-name", "main", "nothing of that kind", "没有符合条件"},
		{"repository", "/content/repository?repository=docker.io/library/tiny", "tbody", "latest", "latest"},
		{"image", "/content/image" + image, "main", "Layers", "层"},
		{"delete", "/delete" + image, "main", "This will go", "将被删除"},
		{"prefetch", "/prefetch", "main", "fetched ahead is here", "提前缓存"},
		{"purge", "/purge?days=0&registry=docker.io", "#preview", "What would go", "将被删除"},
		{"upstreams", "/upstreams", "main", "quay.io", "quay.io"},
		{"recent", "/recent", "tbody", "nowhere.example", "nowhere.example"},
		{"tasks", "/tasks", "tbody", "nightly", "nightly"},
		{"configuration", "/configuration", "pre", "domain: " + mirrorDomain, "domain: " + mirrorDomain},
	}
}

// startBoard is a mirror with a token, a task, an image, and a pull that was refused.
func startBoard(t *testing.T) (m *mirror, token string) {
	t.Helper()
	token = "a token for the operator alone"
	file := writeFile(t, filepath.Join(testDir(t, "token"), "token"), token+"\n")
	m = startMirror(t, options{config: "admin: {token_file: " + file + "}\nschedule: [{name: nightly, cron: \"0 4 * * *\", do: purge, unused: 720h}]\n"})
	crane := newTool(t, "crane")
	crane.run(t, "validate", "--remote", m.address+"/docker.io/library/tiny:latest")
	m.waitForFills(t)
	if status, _, _, err := get("http://" + m.address + "/v2/nowhere.example/team/app/manifests/1"); err != nil || status != http.StatusForbidden {
		t.Fatalf("a registry that nobody knows: %d, %v", status, err)
	}
	return m, token
}

// login fills in the form, as a person does.
func (p *tab) login(t *testing.T, token string) {
	t.Helper()
	p.do(t, chromedp.Focus("#token"))
	p.press(t, token+kb.Enter)
	p.do(t, chromedp.WaitVisible("nav.pages"), chromedp.WaitNotPresent("#token"))
}

// Every page of the dashboard, as everybody may look at it.
func TestBrowserDashboard(t *testing.T) {
	m, token := startBoard(t)
	base := "http://" + m.admin
	b := startBrowser(t)
	for _, l := range looks() {
		p := b.open(t, l, base+"/")
		p.wantStatus(t, http.StatusUnauthorized)
		p.wantSound(t)
		p.shot(t, "dashboard-login-"+l.String())
		p.login(t, token)
		for _, page := range boardPages() {
			t.Run(page.name+"/"+l.String(), func(t *testing.T) {
				p.visit(t, base+page.path)
				p.wantStatus(t, http.StatusOK)
				p.wantSound(t)
				want := page.english
				if l.lang != "" {
					want = page.chinese
				}
				if got := p.text(t, page.selector); !strings.Contains(got, want) {
					t.Errorf("%s says %q, want %q in it", page.selector, got, want)
				}
				p.shot(t, "dashboard-"+page.name+"-"+l.String())
			})
		}
	}
}

// The first page is small, and tells what there is to tell without scripts.
func TestBrowserDashboardWithoutScripts(t *testing.T) {
	m, token := startBoard(t)
	p := startBrowser(t).open(t, look{noScript: true}, "http://"+m.admin+"/")
	p.do(t, chromedp.Focus("#token"))
	p.press(t, token+kb.Enter)
	p.do(t, chromedp.WaitVisible("nav.pages"))
	p.mu.Lock()
	before := p.received
	p.mu.Unlock()
	p.visit(t, "http://"+m.admin+"/")
	p.wantStatus(t, http.StatusOK)
	for _, want := range []string{"Disk", "Blobs", "What is being fetched"} {
		if got := p.text(t, "main"); !strings.Contains(got, want) {
			t.Errorf("%q is not in %q", want, got)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := p.received - before; n <= 0 || n > 100<<10 {
		t.Errorf("the first page takes %d bytes", n)
	}
}

// An image is deleted with the keyboard alone, after its operator has seen what goes;
// then it is asked for at its upstream again. One that is pinned stays.
func TestBrowserDashboardDeletes(t *testing.T) {
	m, token := startBoard(t)
	const image = "/content/image?repository=docker.io/library/tiny&reference=latest"
	p := startBrowser(t).open(t, look{}, "http://"+m.admin+image)
	p.login(t, token)
	if got := p.text(t, "h1"); got != "docker.io/library/tiny:latest" {
		t.Fatalf("after the login there is %q", got)
	}
	submit := func(selector string) {
		t.Helper()
		p.tabTo(t, selector)
		p.press(t, kb.Enter)
	}
	submit(`form[action="/pin"] button`)
	p.do(t, chromedp.WaitVisible(`form[action="/unpin"]`))
	p.visit(t, "http://"+m.admin+"/delete?repository=docker.io/library/tiny&reference=latest")
	p.wantStatus(t, http.StatusConflict)
	if got := p.text(t, "main"); !strings.Contains(got, "pinned") {
		t.Errorf("deleting what is pinned: %q", got)
	}
	p.visit(t, "http://"+m.admin+image)
	submit(`form[action="/unpin"] button`)
	p.do(t, chromedp.WaitVisible(`form[action="/pin"]`))
	submit(`a.danger`)
	p.do(t, chromedp.WaitVisible(`form[action="/delete"]`))
	if got := p.text(t, "main"); !strings.Contains(got, "Tags: 1") {
		t.Errorf("what will go: %q", got)
	}
	m.forget()
	crane := newTool(t, "crane")
	crane.run(t, "validate", "--remote", m.address+"/docker.io/library/tiny:latest")
	m.wantWarm(t)
	submit(`form[action="/delete"] button`)
	p.do(t, chromedp.WaitNotPresent(`form[action="/delete"]`))
	p.wantSound(t)
	m.forget()
	crane.run(t, "validate", "--remote", m.address+"/docker.io/library/tiny:latest")
	m.waitForFills(t)
	m.wantColdPull(t, "docker.io", original(t, "docker.io", "library/tiny", "latest"))
}

// tabTo presses Tab until an element has the focus.
func (p *tab) tabTo(t *testing.T, selector string) {
	t.Helper()
	for range 60 {
		if eval[bool](t, p, fmt.Sprintf("document.activeElement?.matches(%q) ?? false", selector)) {
			return
		}
		p.press(t, kb.Tab)
	}
	t.Fatalf("the keyboard does not reach %s", selector)
}
