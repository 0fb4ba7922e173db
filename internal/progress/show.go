package progress

import (
	"io"
	"os"
	"strings"
	"sync"
	"time"
	"unicode"
)

// A Form is how progress is shown.
type Form string

// The forms.
const (
	Auto   Form = "auto"  // Bars on a terminal, Lines elsewhere
	Bars   Form = "bars"  // a bar for each piece that is under way, and one for all
	Lines  Form = "plain" // a line for each piece that has ended
	Events Form = "json"  // one event of JSON a line
	Quiet  Form = "none"  // nothing
)

// Forms are all of them.
func Forms() []Form { return []Form{Auto, Bars, Lines, Events, Quiet} }

// Options of [New].
type Options struct {
	Form  Form // empty means Auto
	Words Words

	size func() (columns, lines int) // of a terminal that tests make; nil for the real one
}

// Words are in the language of who reads.
type Words struct {
	Total string // what the bar for everything is called; empty means "total"
	Left  string // with %s for a time: what remains; empty means "%s left"
	More  string // with %d: pieces for which there is no room; empty means "%d more"
	// States are the words for what a piece does and how it ended; those that are
	// missing are as they are, and no bar says that its piece moves.
	States map[State]string
}

// A Show is a [Sink] that somebody looks at.
type Show struct {
	form  Form
	words Words
	began time.Time

	mu     sync.Mutex
	out    io.Writer
	all    int64 // bytes expected
	moved  int64 // bytes, of pieces under way and of those that ended well
	meter  meter
	pieces []*Piece // those that have bars
	blind  int      // pieces under way of a size that is not known
	ids    int
	told   time.Time // of events of everything
	held   []*above
	closed bool

	said   []string // sentences for the painter
	screen *painter // nil without a terminal
	stop   chan struct{}
	ended  chan struct{} // nil before there is anything to be painted
}

// New makes a Show. Whoever makes it closes it.
func New(out io.Writer, o Options) *Show {
	if o.Words.Total == "" {
		o.Words.Total = "total"
	}
	if o.Words.Left == "" {
		o.Words.Left = "%s left"
	}
	if o.Words.More == "" {
		o.Words.More = "%d more"
	}
	if o.Form == "" || o.Form == Auto {
		o.Form = Lines
		if isTerminal(out) && os.Getenv("TERM") != "dumb" {
			o.Form = Bars
		}
	}
	now := time.Now()
	s := &Show{form: o.Form, words: o.Words, out: out, began: now, told: now}
	s.meter.advance(now)
	if o.Form == Bars {
		s.screen = newPainter(out, o.size)
	}
	return s
}

// Expect implements [Sink].
func (s *Show) Expect(bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	s.all += bytes
	s.emit(event{Event: "expect", Bytes: s.moved, Size: s.size()})
	s.draw()
}

// size is that of everything, in bytes; the caller holds mu.
func (s *Show) size() int64 { return max(s.all, s.moved) }

// Start implements [Sink]. The bar goes away when the piece ends.
func (s *Show) Start(name string, size int64) Line { return s.begin(name, size, false) }

// Piece begins a piece of a size that is not known yet. Its bar stays, also behind its
// end, until it is removed.
func (s *Show) Piece(name string) *Piece { return s.begin(name, -1, true) }

func (s *Show) begin(name string, size int64, stays bool) *Piece {
	now := time.Now()
	p := &Piece{show: s, name: strings.ReplaceAll(printable(name), "\n", ""), size: size, stays: stays, told: now}
	p.meter.advance(now)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ids++
	p.id = s.ids
	if s.closed {
		p.over = true
		return p
	}
	if size < 0 {
		s.blind++
	}
	if s.screen != nil {
		s.pieces = append(s.pieces, p)
	}
	s.emit(p.event("start"))
	s.draw()
	return p
}

// Say implements [Sink].
func (s *Show) Say(sentence string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.say(sentence)
}

// say is Say; the caller holds mu.
func (s *Show) say(sentence string) {
	switch {
	case s.closed, s.form == Quiet:
	case s.form == Events:
		s.emit(message{Event: "message", Text: sentence})
	case s.screen != nil:
		s.said = append(s.said, printable(sentence))
		s.draw()
	default:
		_, _ = io.WriteString(s.out, printable(sentence)+"\n") // nobody reads it then
	}
}

// Above is where others write what must not get between the bars, or between events. It
// writes to w, unless w is where progress is shown or both are terminals: then whole
// lines are said. The rest of a line is said at the end.
func (s *Show) Above(w io.Writer) io.Writer {
	shared := w == s.out && s.form != Quiet || s.screen != nil && isTerminal(w)
	if !shared {
		return w
	}
	a := &above{show: s}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held = append(s.held, a)
	return a
}

// above says lines.
type above struct {
	show *Show
	rest string // of a line; guarded by the show's mu
}

// Write implements [io.Writer].
func (a *above) Write(p []byte) (int, error) {
	a.show.mu.Lock()
	defer a.show.mu.Unlock()
	lines := strings.Split(a.rest+string(p), "\n")
	for _, line := range lines[:len(lines)-1] {
		a.show.say(strings.TrimSuffix(line, "\r"))
	}
	a.rest = lines[len(lines)-1]
	return len(p), nil
}

// Close ends what is shown: of the bars, that of everything stays. Closing again does
// nothing.
func (s *Show) Close() {
	s.mu.Lock()
	for _, a := range s.held {
		if a.rest != "" {
			s.say(a.rest)
		}
	}
	now := time.Now()
	if !s.closed && s.form == Events {
		s.emit(event{Event: "total", Bytes: s.moved, Size: s.size(), Rate: s.meter.average(now), Seconds: now.Sub(s.began).Seconds()})
	}
	first := !s.closed
	s.closed, s.pieces, s.held = true, nil, nil
	ended := s.ended
	s.mu.Unlock()
	if first && ended != nil {
		close(s.stop)
		<-ended
	}
}

// printable is text that no terminal takes for more; lines stay lines.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n', unicode.IsPrint(r):
			return r
		case unicode.IsSpace(r):
			return ' '
		}
		return -1
	}, s)
}
