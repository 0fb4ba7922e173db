//go:build e2e

package e2e

import (
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// An image that the operator had fetched ahead costs its first client no crossing. A
// purge takes it, after a preview, and leaves what is pinned. All of it by keyboard.
func TestBrowserDashboardFetchesAheadAndPurges(t *testing.T) {
	m, token := startBoard(t)
	base := "http://" + m.admin
	crane := newTool(t, "crane")
	validate := func(image string) {
		t.Helper()
		m.forget()
		crane.run(t, "validate", "--remote", m.address+"/"+image)
		m.waitForFills(t)
	}
	const pinned, ahead = "docker.io/library/tiny:latest", "quay.io/team/tool:1"
	p := startBrowser(t).open(t, look{}, base+"/prefetch")
	p.login(t, token)
	p.tabTo(t, "#image")
	p.press(t, ahead+kb.Enter)
	p.do(t, chromedp.WaitVisible("tbody"))
	err := poll(startTimeout, func() error {
		p.visit(t, base+"/prefetch")
		if text := p.text(t, "tbody"); !strings.Contains(text, "done") {
			return errNotYet(text)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	p.wantSound(t)
	validate(ahead)
	m.wantWarm(t)

	p.visit(t, base+"/content/image?repository=docker.io/library/tiny&reference=latest")
	p.tabTo(t, `form[action="/pin"] button`)
	p.press(t, kb.Enter)
	p.do(t, chromedp.WaitVisible(`form[action="/unpin"]`))
	p.visit(t, base+"/purge")
	p.tabTo(t, "#days")
	p.press(t, kb.Backspace+kb.Backspace+"0")
	p.tabTo(t, "#search")
	p.press(t, "/"+kb.Enter) // a part of every name
	p.do(t, chromedp.WaitVisible("#preview"))
	if text := p.text(t, "main"); !strings.Contains(text, "What would go") || !strings.Contains(text, "kept:") {
		t.Errorf("the preview says %q", text)
	}
	validate(ahead)
	m.wantWarm(t) // a preview takes nothing
	p.tabTo(t, `form[method="post"][action="/purge"] button`)
	p.press(t, kb.Enter)
	p.do(t, chromedp.WaitVisible(".note.ok"))
	p.wantSound(t)
	validate(pinned)
	m.wantWarm(t)
	validate(ahead)
	kept := original(t, "docker.io", "library/tiny", "latest")
	held := append(kept.Layers, kept.Config)
	gone := original(t, "quay.io", "team/tool", "1")
	for _, blob := range append(gone.Layers, gone.Config) {
		times := 1
		if slices.ContainsFunc(held, func(d descriptor) bool { return d.Digest == blob.Digest }) {
			times = 0 // the pinned image has it as well
		}
		m.upstream(t, "quay.io").wantAsked(t, "^GET .*/blobs/"+blob.Digest, times, times)
	}
}

// errNotYet is what a page still says.
type errNotYet string

func (e errNotYet) Error() string { return "the page says: " + string(e) }
