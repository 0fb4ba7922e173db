package demo

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/cwriter"
	"github.com/vbauerster/mpb/v8/decor"
)

// A display shows how some transfers go.
type display interface {
	// bar begins one of total bytes.
	bar(name string, total int64) bar
	// end waits until everything is shown; bars that are not full stay so.
	end()
}

// A bar is told how far one transfer is. Its methods may be called
// concurrently.
type bar interface {
	// add says that n more bytes have come.
	add(n int)
	// set says that n bytes have come altogether; fewer than before is old news.
	set(n int64)
}

// newDisplay chooses by what out is.
func newDisplay(out io.Writer) display {
	if f, ok := out.(*os.File); ok && cwriter.IsTerminal(int(f.Fd())) {
		return newMoving(out)
	}
	return &plain{out: out}
}

// nameWidth is the columns that the name of a bar gets.
const nameWidth = 16

// A moving display redraws its bars.
type moving struct {
	progress *mpb.Progress
	bars     []*mpb.Bar
}

// newMoving redraws whatever out is.
func newMoving(out io.Writer) *moving {
	return &moving{progress: mpb.New(
		mpb.WithOutput(out), mpb.WithAutoRefresh(), mpb.WithWidth(40), mpb.WithRefreshRate(80*time.Millisecond),
	)}
}

func (m *moving) bar(name string, total int64) bar {
	b := m.progress.New(total, mpb.BarStyle(),
		mpb.PrependDecorators(decor.Name("  "+name+strings.Repeat(" ", max(1, nameWidth-width(name))))),
		mpb.AppendDecorators(decor.Any(func(s decor.Statistics) string {
			return fmt.Sprintf("%10s / %s", size(s.Current), size(s.Total))
		})),
	)
	m.bars = append(m.bars, b)
	return &movingBar{bar: b}
}

func (m *moving) end() {
	for _, b := range m.bars {
		b.Abort(false) // without effect on those that are full
	}
	m.progress.Wait()
}

type movingBar struct {
	bar *mpb.Bar

	mu      sync.Mutex
	current int64
}

func (b *movingBar) add(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.current += int64(n)
	b.bar.SetCurrent(b.current)
}

func (b *movingBar) set(n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if n > b.current {
		b.current = n
		b.bar.SetCurrent(n)
	}
}

// A plain display writes one line for each transfer that is complete.
type plain struct {
	mu  sync.Mutex
	out io.Writer
}

func (p *plain) bar(name string, total int64) bar {
	return &plainBar{display: p, name: name, total: total, began: time.Now()}
}

func (p *plain) end() {}

type plainBar struct {
	display *plain
	name    string
	total   int64
	began   time.Time
	current int64
}

func (b *plainBar) add(n int) {
	b.display.mu.Lock()
	defer b.display.mu.Unlock()
	b.move(b.current + int64(n))
}

func (b *plainBar) set(n int64) {
	b.display.mu.Lock()
	defer b.display.mu.Unlock()
	b.move(n)
}

// move tells the moment of completion, once.
func (b *plainBar) move(to int64) {
	if to <= b.current {
		return
	}
	if b.current < b.total && to >= b.total {
		gap := strings.Repeat(" ", max(1, nameWidth-width(b.name)))
		fmt.Fprintf(b.display.out, "  %s%s%10s %9s\n", b.name, gap, size(b.total), seconds(time.Since(b.began)))
	}
	b.current = to
}
