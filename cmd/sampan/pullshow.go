package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mattn/go-runewidth"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/cwriter"
	"github.com/vbauerster/mpb/v8/decor"

	"sampan/internal/runtimes/engine"
)

// A pullDisplay shows how pulls go: bars on a terminal, a line for each layer
// elsewhere, or events as JSON. Failures go to standard error.
type pullDisplay struct {
	mu       sync.Mutex
	out, err io.Writer
	json     bool
	quiet    bool
	bars     *mpb.Progress // nil without a terminal
	failing  []string      // in the order that it was heard of
	good     int

	alone bool  // there is one image: its failure is that of the command
	only  error // that failure
}

func newPullDisplay(out, err io.Writer, asJSON, quiet bool) *pullDisplay {
	d := &pullDisplay{out: out, err: err, json: asJSON, quiet: quiet}
	if f, ok := out.(*os.File); ok && !asJSON && !quiet && cwriter.IsTerminal(int(f.Fd())) && os.Getenv("TERM") != "dumb" {
		const columns = 30
		d.bars = mpb.New(mpb.WithOutput(out), mpb.WithAutoRefresh(), mpb.WithWidth(columns), mpb.WithRefreshRate(100*time.Millisecond))
		d.out, d.err = d.bars, d.bars // lines go above the bars
	}
	return d
}

// A pullEvent is one line of JSON. Bytes are those that were downloaded.
type pullEvent struct {
	Event   string   `json:"event"` // start, layer, message, done, failed, summary
	Image   string   `json:"image,omitempty"`
	Mirror  string   `json:"mirror,omitempty"`
	Engine  string   `json:"engine,omitempty"`
	Address string   `json:"address,omitempty"`
	Layer   string   `json:"layer,omitempty"`
	Phase   string   `json:"phase,omitempty"`
	Current int64    `json:"current,omitempty"`
	Total   int64    `json:"total,omitempty"`
	Names   []string `json:"names,omitempty"`
	ID      string   `json:"id,omitempty"`
	Digest  string   `json:"digest,omitempty"`
	Existed bool     `json:"existed,omitempty"`
	Kept    string   `json:"kept,omitempty"`
	Bytes   int64    `json:"bytes,omitempty"`
	Seconds float64  `json:"seconds,omitempty"`
	Message string   `json:"message,omitempty"`
	Pulled  *int     `json:"pulled,omitempty"`
	Failed  *int     `json:"failed,omitempty"`
}

// emit writes an event where those are wanted, and the line where lines are.
func (d *pullDisplay) emit(e pullEvent, line string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.json:
		raw, err := json.Marshal(e)
		if err == nil { // it holds nothing that cannot be encoded
			fmt.Fprintln(d.out, string(raw))
		}
	case line != "" && !d.quiet:
		fmt.Fprintln(d.out, line)
	}
}

// failed tells of an image that is not pulled.
func (d *pullDisplay) failed(name string, err error) {
	d.missed(name)
	d.emit(pullEvent{Event: "failed", Image: name, Message: err.Error()}, "")
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.alone:
		d.only = fmt.Errorf("%s: %w", name, err)
	case !d.json:
		fmt.Fprintf(d.err, "%s: %v\n", name, err)
	}
}

// missed counts an image as failed, once.
func (d *pullDisplay) missed(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !slices.Contains(d.failing, name) {
		d.failing = append(d.failing, name)
	}
}

// failures are the names of what failed.
func (d *pullDisplay) failures() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.failing)
}

// end waits until everything is shown.
func (d *pullDisplay) end() {
	if d.bars != nil {
		d.bars.Wait()
	}
	good, bad := d.good, len(d.failing)
	if d.json {
		d.emit(pullEvent{Event: "summary", Pulled: &good, Failed: &bad}, "")
	}
}

// begin shows that a pull begins.
func (d *pullDisplay) begin(image pullImage, e engine.Engine) *pullProgress {
	d.emit(pullEvent{Event: "start", Image: image.name, Mirror: image.Mirror, Engine: string(e.Kind()), Address: e.Address()},
		fmt.Sprintf(text("%s: from %s into %s (%s)", "%s：从 %s 拉取到 %s（%s）"), image.name, image.Mirror, engineName(e.Kind()), e.Address()))
	return &pullProgress{display: d, name: image.name, began: time.Now(), layers: map[string]*pullLayer{}}
}

// A pullProgress is that of one image.
type pullProgress struct {
	display *pullDisplay
	name    string
	began   time.Time

	mu     sync.Mutex
	layers map[string]*pullLayer
}

// A pullLayer is what is known of one layer.
type pullLayer struct {
	phase engine.Phase
	bytes int64 // downloaded
	size  int64 // to be downloaded; 0 where it is not known
	total int64 // of the bar, of what is going on now
	told  time.Time
	bar   *mpb.Bar
	label *barLabel
}

// event is an [engine.Progress].
func (p *pullProgress) event(e engine.Event) {
	if e.Phase == engine.Said {
		p.display.emit(pullEvent{Event: "message", Image: p.name, Message: e.Text}, "")
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.layers[e.Layer]
	if l == nil {
		l = &pullLayer{}
		p.layers[e.Layer] = l
		if p.display.bars != nil {
			l.show(p.display.bars, e.Layer)
		}
	}
	changed := l.phase != e.Phase
	l.phase = e.Phase
	switch e.Phase {
	case engine.Downloading:
		l.bytes, l.size = max(l.bytes, e.Current), max(l.size, e.Total)
	case engine.Downloaded:
		l.bytes = max(l.bytes, e.Current, l.size) // Docker does not say it again
	}
	if l.bar != nil {
		l.label.set(phaseName(e.Phase))
		switch {
		case e.Phase == engine.Complete || e.Phase == engine.Exists:
			l.bar.SetCurrent(l.total) // engines do not say it again
		case e.Total > 0:
			l.total = e.Total
			l.bar.SetTotal(e.Total, false)
			l.bar.SetCurrent(e.Current)
		}
		return
	}
	const often = time.Second
	if now := time.Now(); changed || now.Sub(l.told) >= often {
		l.told = now
		p.tell(e, l, changed)
	}
}

// tell writes a layer down; people without a terminal hear of its ends only.
func (p *pullProgress) tell(e engine.Event, l *pullLayer, changed bool) {
	line := ""
	if changed && (e.Phase == engine.Complete || e.Phase == engine.Exists) {
		line = fmt.Sprintf(text("%s: %s: %s", "%s：%s：%s"), p.name, e.Layer, phaseName(e.Phase))
		if l.bytes > 0 {
			line += ", " + size(l.bytes)
		}
	}
	p.display.emit(pullEvent{
		Event: "layer", Image: p.name, Layer: e.Layer, Phase: string(e.Phase), Current: e.Current, Total: e.Total,
	}, line)
}

// clear takes the bars away, and counts what was downloaded.
func (p *pullProgress) clear() (bytes int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range p.layers {
		bytes += l.bytes
		if l.bar != nil {
			l.bar.Abort(true)
		}
	}
	for _, l := range p.layers {
		if l.bar != nil {
			l.bar.Wait()
		}
	}
	return bytes
}

func (p *pullProgress) fail(err error) {
	p.clear()
	p.display.failed(p.name, err)
}

// done tells what came of it.
func (p *pullProgress) done(r engine.Result) {
	bytes, took := p.clear(), time.Since(p.began).Seconds()
	name := familiarName(r.Names[0])
	what := text("is there", "已就绪")
	if r.Existed {
		what = text("was there already", "已经存在")
	}
	line := fmt.Sprintf(text("%s: %s", "%s：%s"), name, what)
	if r.Digest != "" {
		line += ", " + r.Digest
	}
	if bytes > 0 {
		line += fmt.Sprintf(", %s, %s/s", size(bytes), size(int64(float64(bytes)/max(took, 0.001))))
	}
	if r.Invented {
		line += "\n  " + fmt.Sprintf(text("this engine keeps no name with a digest that it did not pull from: %s is tagged %s", "该引擎无法保存并非由该名字拉取的摘要：%s 的标签为 %s"), p.name, name)
	}
	if r.Kept != "" {
		line += "\n  " + fmt.Sprintf(text("the mirror's name stays too: %s", "镜像站上的名字也保留：%s"), r.Kept)
	}
	p.display.emit(pullEvent{
		Event: "done", Image: p.name, Names: r.Names, ID: r.ID, Digest: r.Digest, Existed: r.Existed, Kept: r.Kept, Bytes: bytes, Seconds: took,
	}, line)
	d := p.display
	d.mu.Lock()
	defer d.mu.Unlock()
	d.good++
	if d.quiet && !d.json {
		fmt.Fprintln(d.out, name)
	}
}

// familiarName is a full name as people write it.
func familiarName(full string) string {
	rest, hub := strings.CutPrefix(full, "docker.io/")
	if !hub {
		return full
	}
	return strings.TrimPrefix(rest, "library/")
}

// phaseName is what a layer does, for people.
func phaseName(p engine.Phase) string {
	switch p {
	case engine.Waiting:
		return text("waiting", "等待")
	case engine.Downloading:
		return text("downloading", "下载中")
	case engine.Downloaded:
		return text("downloaded", "已下载")
	case engine.Extracting:
		return text("extracting", "解压中")
	case engine.Complete:
		return text("complete", "完成")
	case engine.Exists:
		return text("already there", "已存在")
	}
	return string(p)
}

// A barLabel is the word beside a bar.
type barLabel struct {
	mu   sync.Mutex
	word string
}

func (b *barLabel) set(word string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.word = word
}

func (b *barLabel) get() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.word
}

// show makes the bar of a layer.
func (l *pullLayer) show(bars *mpb.Progress, name string) {
	const wordColumns = 14
	l.label = &barLabel{}
	l.bar = bars.New(0, mpb.BarStyle(),
		mpb.PrependDecorators(decor.Any(func(decor.Statistics) string {
			return "  " + name + " " + runewidth.FillRight(l.label.get(), wordColumns)
		})),
		mpb.AppendDecorators(decor.Any(func(s decor.Statistics) string {
			if s.Total <= 0 {
				return ""
			}
			return fmt.Sprintf("%9s / %s", size(s.Current), size(s.Total))
		})),
	)
}
