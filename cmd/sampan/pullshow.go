package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"sampan/internal/progress"
	"sampan/internal/runtimes/engine"
)

// A pullDisplay tells how pulls go: their progress, what came of them, and, as JSON,
// events. Failures go to standard error.
type pullDisplay struct {
	show     *progress.Show
	mu       sync.Mutex
	out, err io.Writer // beside the bars
	json     bool
	quiet    bool
	failing  []string // in the order that it was heard of
	good     int

	alone bool  // there is one image: its failure is that of the command
	only  error // that failure
}

// display shows progress on out, among what came of pulls; events of it, and all of it
// where out is for programs, go to err.
func (o pullOptions) display(out, err io.Writer) *pullDisplay {
	d := &pullDisplay{json: o.output == "json", quiet: o.quiet}
	on := out
	if d.json || d.quiet || o.progress.form == progress.Events {
		on = err
	}
	d.show = o.progress.show(on, d.json || o.quiet, pullStates())
	d.out, d.err = d.show.Above(out), d.show.Above(err)
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

// end ends what is shown.
func (d *pullDisplay) end() {
	d.show.Close()
	d.mu.Lock()
	good, bad := d.good, len(d.failing)
	d.mu.Unlock()
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
	told  time.Time
	shown *progress.Piece
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
		l = &pullLayer{shown: p.display.show.Piece(p.name + " " + e.Layer)}
		p.layers[e.Layer] = l
	}
	changed := l.phase != e.Phase
	l.phase = e.Phase
	switch e.Phase {
	case engine.Downloading:
		l.bytes, l.size = max(l.bytes, e.Current), max(l.size, e.Total)
	case engine.Downloaded:
		l.bytes = max(l.bytes, e.Current, l.size) // Docker does not say it again
	}
	l.show(e)
	const often = time.Second
	if now := time.Now(); changed || now.Sub(l.told) >= often {
		l.told = now
		p.display.emit(pullEvent{
			Event: "layer", Image: p.name, Layer: e.Layer, Phase: string(e.Phase), Current: e.Current, Total: e.Total,
		}, "")
	}
}

// show tells the display what a layer does.
func (l *pullLayer) show(e engine.Event) {
	switch e.Phase {
	case engine.Downloading:
		l.shown.Moves(e.Current, e.Total)
	case engine.Downloaded:
		l.shown.Moves(l.bytes, l.size)
		l.shown.Turns(progress.Moved, 0, 0)
	case engine.Extracting:
		l.shown.Turns(progress.Extracting, e.Current, e.Total)
	case engine.Complete:
		l.shown.End(progress.Done)
	case engine.Exists:
		l.shown.Turns(progress.Waiting, 0, e.Total) // how large it is
		l.shown.End(progress.Present)
	default:
		l.shown.Turns(progress.Waiting, 0, e.Total)
	}
}

// clear takes the bars away, and counts what was downloaded.
func (p *pullProgress) clear() (bytes int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range p.layers {
		bytes += l.bytes
		l.shown.Remove()
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

// pullStates are what layers do, in words.
func pullStates() map[progress.State]string {
	return map[progress.State]string{
		progress.Waiting: text("waiting", "等待"), progress.Moving: text("downloading", "下载中"), progress.Moved: text("downloaded", "已下载"),
		progress.Extracting: text("extracting", "解压中"), progress.Done: text("complete", "完成"),
		progress.Present: text("already there", "已存在"), progress.Failed: text("failed", "失败"),
	}
}
