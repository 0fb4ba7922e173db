//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/audits"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

const (
	chromiumPath = "/usr/bin/chromium"
	axePath      = "testdata/axe/axe.min.js"
	// screenshotsVariable names the folder that pictures of pages go to, from the
	// top of the tree. Without it they go where the run's scratch is.
	screenshotsVariable = "SAMPAN_SCREENSHOTS"
	// pageTimeout bounds all that is done in one tab.
	pageTimeout = 2 * time.Minute
)

// A browser is one Chromium with an empty profile, which ends with the test.
type browser struct{ ctx context.Context }

func startBrowser(t *testing.T) *browser {
	t.Helper()
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(chromiumPath), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.UserDataDir(testDir(t, "chromium")),
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true),
		chromedp.Flag("ignore-certificate-errors", true),
		chromedp.Flag("hide-scrollbars", true), chromedp.Flag("force-device-scale-factor", "1"),
		chromedp.WSURLReadTimeout(startTimeout),
	)
	allocator, stop := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, cancel := chromedp.NewContext(allocator)
	t.Cleanup(func() {
		cancel()
		stop()
	})
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("Chromium does not start: %v", err)
	}
	return &browser{ctx}
}

// A look is how somebody looks at a page. The zero value is a wide window in light
// colours with scripts, in English.
type look struct {
	lang     string // of Accept-Language; empty is "en"
	dark     bool
	phone    bool // 360 pixels wide
	noScript bool
}

func (l look) String() string {
	name := l.lang
	if name == "" {
		name = "en"
	}
	if l.dark {
		name += "-dark"
	}
	if l.phone {
		name += "-phone"
	}
	if l.noScript {
		name += "-noscript"
	}
	return name
}

// looks are those in which every page has to be sound.
func looks() []look {
	return []look{{}, {dark: true}, {lang: "zh-CN"}, {lang: "zh-CN", dark: true, phone: true}, {phone: true}}
}

// A tab is one page open in a browser, with cookies of its own. What goes wrong
// in it is collected.
type tab struct {
	ctx      context.Context
	noScript bool

	mu       sync.Mutex
	problems []string
	status   map[string]int64 // of documents, by their URL
	received int64            // bytes of bodies as they came
}

// open opens a page and waits until it has loaded.
func (b *browser) open(t *testing.T, l look, url string) *tab {
	t.Helper()
	ctx, cancel := chromedp.NewContext(b.ctx, chromedp.WithNewBrowserContext())
	t.Cleanup(cancel)
	p := &tab{ctx: ctx, noScript: l.noScript, status: map[string]int64{}}
	if err := chromedp.Listen(ctx, p.hear); err != nil {
		t.Fatal(err)
	}
	size := emulation.SetDeviceMetricsOverrideParams{Width: 1100, Height: 800, DeviceScaleFactor: 1, Mobile: l.phone}
	if l.phone {
		size.Width, size.Height = 360, 740
	}
	if l.lang == "" {
		l.lang = "en"
	}
	scheme := "light"
	if l.dark {
		scheme = "dark"
	}
	p.do(t, setUp(network.Enable, network.EnableParams{}), setUp(log.Enable, cdp.Empty{}), setUp(audits.Enable, cdp.Empty{}),
		setUp(network.SetExtraHTTPHeaders, network.SetExtraHTTPHeadersParams{Headers: network.Headers{"Accept-Language": l.lang}}),
		setUp(emulation.SetDeviceMetricsOverride, size),
		setUp(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}}),
		setUp(emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: l.noScript}),
	)
	p.visit(t, url)
	return p
}

// visit opens a page. Chromium gives it up when the page before, such as the answer to
// a form, comes at that moment; then it is asked for again.
func (p *tab) visit(t *testing.T, url string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, pageTimeout)
	defer cancel()
	for {
		err := chromedp.Do(ctx, chromedp.Navigate(url))
		if err == nil {
			return
		}
		if ctx.Err() != nil || !strings.Contains(err.Error(), "net::ERR_ABORTED") {
			t.Fatalf("%s: %v", url, err)
		}
	}
}

// setUp is a command of the browser's protocol whose result says nothing.
func setUp[P, R any](c cdp.Command[P, R], params P) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, c, params)
		return err
	})
}

// hear collects what the browser complains about.
func (p *tab) hear(event any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		text, _ := json.Marshal(e.ExceptionDetails)
		p.problems = append(p.problems, "exception: "+string(text))
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.ConsoleAPICalledTypeError || e.Type == runtime.ConsoleAPICalledTypeWarning {
			text, _ := json.Marshal(e.Args)
			p.problems = append(p.problems, fmt.Sprintf("console.%s: %s", e.Type, text))
		}
	case *log.EventEntryAdded:
		// A document that is answered with an error is one on purpose, or a test that
		// looks at its status fails.
		if _, document := p.status[e.Entry.URL]; e.Entry.Level == log.EntryLevelError && (e.Entry.Source != log.EntrySourceNetwork || !document) {
			p.problems = append(p.problems, fmt.Sprintf("%s: %s (%s)", e.Entry.Source, e.Entry.Text, e.Entry.URL))
		}
	case *audits.EventIssueAdded:
		if e.Issue.Code == audits.InspectorIssueCodeContentSecurityPolicyIssue {
			text, _ := json.Marshal(e.Issue.Details)
			p.problems = append(p.problems, "Content Security Policy: "+string(text))
		}
	case *network.EventResponseReceived:
		if e.Type == network.ResourceTypeDocument {
			p.status[e.Response.URL] = e.Response.Status
		}
	case *network.EventDataReceived:
		p.received += e.DataLength
	}
}

// do runs actions that must succeed within pageTimeout.
func (p *tab) do(t *testing.T, actions ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, pageTimeout)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		t.Fatal(err)
	}
}

// ask is the value of an action that must succeed within pageTimeout.
func ask[T any](t *testing.T, p *tab, action chromedp.Action[T]) T {
	t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, pageTimeout)
	defer cancel()
	value, err := chromedp.Run(ctx, action)
	if err != nil {
		t.Fatal(err)
	}
	return value
}

// eval is the value of an expression of JavaScript, or of its promise.
func eval[T any](t *testing.T, p *tab, expression string) T {
	t.Helper()
	return ask(t, p, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
}

// text is what a person reads of the first element that a selector finds; empty
// when there is none.
func (p *tab) text(t *testing.T, selector string) string {
	t.Helper()
	return strings.TrimSpace(eval[string](t, p, fmt.Sprintf("document.querySelector(%q)?.innerText ?? ''", selector)))
}

// press presses keys, such as kb.Tab or letters.
func (p *tab) press(t *testing.T, keys string) {
	t.Helper()
	p.do(t, chromedp.KeyEvent(keys))
}

// focused describes the element that has the focus: "button#go", "a.skip".
func (p *tab) focused(t *testing.T) string {
	t.Helper()
	return eval[string](t, p, `(e => e.tagName.toLowerCase() + (e.id ? "#" + e.id : "") + [...e.classList].map(c => "." + c).join(""))(document.activeElement)`)
}

// size is how many bytes of bodies the tab has received.
func (p *tab) size() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.received
}

// wantStatus fails unless the document was answered so.
func (p *tab) wantStatus(t *testing.T, want int64) {
	t.Helper()
	url, _, _ := strings.Cut(ask(t, p, chromedp.Location()), "#")
	p.mu.Lock()
	defer p.mu.Unlock()
	if got := p.status[url]; got != want {
		t.Errorf("%s was answered with %d, want %d", url, got, want)
	}
}

// wantSound fails if there is anything to complain about.
func (p *tab) wantSound(t *testing.T) {
	t.Helper()
	for _, complaint := range p.complaints(t) {
		t.Error(complaint)
	}
}

// complaints tells what the browser complained about so far, whether the page is
// wider than its window, and what axe finds that hinders people; axe needs scripts.
func (p *tab) complaints(t *testing.T) []string {
	t.Helper()
	var found []string
	if !p.noScript {
		found = p.hindrances(t)
	}
	if wide := eval[int](t, p, "document.documentElement.scrollWidth - document.documentElement.clientWidth"); wide > 0 {
		found = append(found, fmt.Sprintf("the page is %d pixels wider than the window", wide))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return append(found, p.problems...)
}

// hindrances runs axe with the rules of WCAG 2.1, levels A and AA, and its own
// best practices.
func (p *tab) hindrances(t *testing.T) (list []string) {
	t.Helper()
	axe, err := os.ReadFile(axePath)
	if err != nil {
		t.Fatal(err)
	}
	eval[bool](t, p, string(axe)+"; true")
	type violation struct {
		ID, Help string
		Nodes    []struct{ HTML, FailureSummary string }
	}
	for _, violation := range eval[[]violation](t, p, `axe.run(document, {runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"],
		resultTypes: ["violations"], preload: false}).then(r => r.violations)`) {
		for _, node := range violation.Nodes {
			list = append(list, fmt.Sprintf("axe: %s: %s\n%s\n%s", violation.ID, violation.Help, node.HTML, node.FailureSummary))
		}
	}
	return list
}

// shot takes a picture of the whole page, NAME.png.
func (p *tab) shot(t *testing.T, name string) {
	t.Helper()
	p.keep(t, name, ask(t, p, chromedp.FullScreenshot(100)))
}

// glance takes a picture of what the window shows, NAME.png.
func (p *tab) glance(t *testing.T, name string) {
	t.Helper()
	p.keep(t, name, ask(t, p, chromedp.CaptureScreenshot()))
}

func (p *tab) keep(t *testing.T, name string, picture []byte) {
	t.Helper()
	dir := filepath.Join(scratch(), "screenshots")
	if into := os.Getenv(screenshotsVariable); into != "" {
		dir = filepath.Join("..", into)
		if filepath.IsAbs(into) {
			dir = into
		}
	}
	file := writeFile(t, filepath.Join(dir, name+".png"), string(picture))
	t.Logf("picture: %s, %d bytes", file, len(picture))
}
