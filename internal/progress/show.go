package progress

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/cwriter"
	"github.com/vbauerster/mpb/v8/decor"
)

// A Form is how progress is shown.
type Form string

// The forms.
const (
	Auto   Form = ""      // Bars on a terminal, Lines elsewhere
	Bars   Form = "bars"  // a bar for each piece that is under way, and one for all
	Lines  Form = "lines" // a line for each piece that has ended
	Events Form = "json"  // one event of JSON a line
	Quiet  Form = "quiet" // nothing
)

// Options of [New].
type Options struct {
	Form Form
	// Total is what the bar for everything is called; empty means "total".
	Total string
	// States are the words for how a piece ended, in the language of who reads; those
	// that are missing are as they are.
	States map[State]string
}

const (
	refresh = 150 * time.Millisecond // of bars
	between = time.Second            // events of one piece
	width   = 28                     // of a bar, in columns
	longest = 40                     // names, in characters
)

// A Show is a [Sink] that somebody looks at.
type Show struct {
	o     Options
	began time.Time

	mu     sync.Mutex
	out    io.Writer
	bars   *mpb.Progress // nil without a terminal
	total  *mpb.Bar      // nil before anything is expected
	all    int64         // bytes expected
	moved  int64         // bytes
	closed bool
}

// New makes a Show. Whoever makes it closes it.
func New(out io.Writer, o Options) *Show {
	if o.Total == "" {
		o.Total = "total"
	}
	if o.Form == Auto {
		o.Form = Lines
		f, ok := out.(*os.File)
		if ok && cwriter.IsTerminal(int(f.Fd())) && os.Getenv("TERM") != "dumb" {
			o.Form = Bars
		}
	}
	s := &Show{o: o, out: out, began: time.Now()}
	if o.Form == Bars {
		s.bars = mpb.New(mpb.WithOutput(out), mpb.WithAutoRefresh(), mpb.WithWidth(width), mpb.WithRefreshRate(refresh))
	}
	return s
}

// An event is one line of JSON. Bytes are those of the piece, or of everything.
type event struct {
	Event string `json:"event"` // expect, start, progress, end, message, total
	Name  string `json:"name,omitempty"`
	Bytes int64  `json:"bytes"`
	Size  int64  `json:"size,omitempty"`
	State State  `json:"state,omitempty"`
	Text  string `json:"text,omitempty"`
}

// emit writes an event; the caller holds mu.
func (s *Show) emit(e event) {
	if s.o.Form != Events || s.closed {
		return
	}
	if raw, err := json.Marshal(e); err == nil { // it holds nothing that cannot be encoded
		fmt.Fprintln(s.out, string(raw))
	}
}

// Expect implements [Sink].
func (s *Show) Expect(bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	s.all += bytes
	if s.bars != nil {
		if s.total == nil {
			s.total = s.bars.New(0, mpb.BarStyle(), append(decorations(s.o.Total), mpb.BarPriority(1<<30))...)
			s.total.IncrInt64(s.moved)
		}
		s.total.SetTotal(s.all, false)
	}
	s.emit(event{Event: "expect", Bytes: s.moved, Size: s.all})
}

func decorations(name string) []mpb.BarOption {
	return []mpb.BarOption{
		mpb.PrependDecorators(decor.Name(name, decor.WCSyncSpaceR)),
		mpb.AppendDecorators(decor.CountersKibiByte("% .1f / % .1f", decor.WCSyncSpace), decor.AverageSpeed(decor.SizeB1024(0), " % .1f", decor.WCSyncSpace)),
	}
}

// Start implements [Sink].
func (s *Show) Start(name string, size int64) Line {
	l := &line{show: s, name: printable(name), size: size, told: time.Now()}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bars != nil && !s.closed {
		l.bar = s.bars.New(max(size, 0), mpb.BarStyle(), append(decorations(l.name), mpb.BarRemoveOnComplete())...)
	}
	s.emit(event{Event: "start", Name: l.name, Size: size})
	return l
}

// Say implements [Sink].
func (s *Show) Say(sentence string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed, s.o.Form == Quiet:
	case s.o.Form == Events:
		s.emit(event{Event: "message", Text: sentence})
	case s.bars != nil:
		fmt.Fprintln(s.bars, sentence) // above the bars
	default:
		fmt.Fprintln(s.out, sentence)
	}
}

// Close ends what is shown. Pieces that have not ended are left where they are.
func (s *Show) Close() {
	s.mu.Lock()
	s.emit(event{Event: "total", Bytes: s.moved, Size: s.all})
	s.closed = true
	total, bars := s.total, s.bars
	s.mu.Unlock()
	if total != nil {
		total.SetTotal(-1, true)
	}
	if bars != nil {
		bars.Shutdown()
	}
}

// A line is one piece.
type line struct {
	show  *Show
	name  string
	size  int64
	moved int64
	bar   *mpb.Bar
	told  time.Time // of events
}

// Add implements [Line].
func (l *line) Add(n int64) {
	l.moved += n
	if l.bar != nil {
		l.bar.SetCurrent(max(l.moved, 0))
	}
	s := l.show
	s.mu.Lock()
	defer s.mu.Unlock()
	s.moved += n
	if s.total != nil {
		s.total.SetCurrent(max(s.moved, 0))
	}
	if s.o.Form == Events && time.Since(l.told) >= between {
		l.told = time.Now()
		s.emit(event{Event: "progress", Name: l.name, Bytes: l.moved, Size: l.size})
	}
}

// End implements [Line].
func (l *line) End(state State) {
	if l.bar != nil {
		l.bar.Abort(true)
	}
	s := l.show
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.o.Form == Events {
		s.emit(event{Event: "end", Name: l.name, Bytes: l.moved, Size: l.size, State: state})
		return
	}
	if s.closed || s.o.Form != Lines {
		return
	}
	word := s.o.States[state]
	if word == "" {
		word = string(state)
	}
	fmt.Fprintf(s.out, "%s  %s  %s", l.name, Bytes(max(l.size, l.moved)), word)
	if took := time.Since(s.began).Seconds(); state == Done && took > 0 && s.all > 0 {
		fmt.Fprintf(s.out, "  (%s / %s, %s/s)", Bytes(s.moved), Bytes(s.all), Bytes(int64(float64(s.moved)/took)))
	}
	fmt.Fprintln(s.out)
}

// Bytes is a number of bytes for people, in powers of 1024.
func Bytes(n int64) string {
	if n < 1<<10 {
		return fmt.Sprintf("%d B", n)
	}
	v, unit := float64(n), 0
	for v >= 1<<10 && unit < 4 {
		v /= 1 << 10
		unit++
	}
	return fmt.Sprintf("%.1f %ciB", v, "_KMGT"[unit])
}

// printable is a name that no terminal takes for more, and not too long.
func printable(name string) string {
	name = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, name)
	if r := []rune(name); len(r) > longest {
		name = "…" + string(r[len(r)-longest:])
	}
	return name
}
