package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"time"
)

const (
	// maxListeners bounds who may listen at once, and maxWaiting what each may be
	// behind, in events: who is slower than that is sent away.
	maxListeners, maxWaiting = 32, 256
	// progressEvery is how often a listener is told how far everything is, and
	// heartbeatEvery after how long a silence ends.
	progressEvery, heartbeatEvery = time.Second, 15 * time.Second
	// listenerPatience is how long one write to a listener may take.
	listenerPatience = 10 * time.Second
	// maxTold bounds the fills, and the pulls, of one event.
	maxTold = 200
)

// Events tells listeners of fetches that begin and end. The zero value is ready to
// use. Whoever tells it never waits for whoever listens.
//
// Lock order: Events.mu is a leaf.
type Events struct {
	mu        sync.Mutex
	listeners map[*listener]struct{}
}

// A listener is one open stream.
type listener struct {
	events chan event
	cancel context.CancelFunc // ends it
}

// An event is what is told: a name, and what is written as JSON.
type event struct {
	name string
	data any
}

// The names of events.
const (
	eventProgress  = "progress"   // a Moment
	eventFillBegan = "fill_began" // a Fill
	eventFillEnded = "fill_ended" // a FillEnd
)

// A Moment is what is going on.
type Moment struct {
	Time time.Time `json:"time"`
	// Fills and Pulls are the oldest of those that run, 200 of each at the most, and
	// FillsTotal and PullsTotal how many there are.
	Fills      []Fill `json:"fills"`
	Pulls      []Pull `json:"pulls"`
	FillsTotal int    `json:"fills_total"`
	PullsTotal int    `json:"pulls_total"`
}

// A FillEnd is a fetch that has ended.
type FillEnd struct {
	Fill
	// Result is how, in the words of the metric sampan_fill_ended_total.
	Result string `json:"result"`
}

// FillBegan tells of a fetch that has begun.
func (e *Events) FillBegan(f Fill) { e.tell(event{eventFillBegan, f}) }

// FillEnded tells of one that has ended.
func (e *Events) FillEnded(f FillEnd) { e.tell(event{eventFillEnded, f}) }

// Heard tells whether anybody listens.
func (e *Events) Heard() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.listeners) > 0
}

func (e *Events) tell(ev event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for l := range e.listeners {
		select {
		case l.events <- ev:
		default:
			l.cancel() // it does not keep up
			delete(e.listeners, l)
		}
	}
}

// listen takes in a listener; nil when there are too many.
func (e *Events) listen(cancel context.CancelFunc) *listener {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.listeners) >= maxListeners {
		return nil
	}
	if e.listeners == nil {
		e.listeners = make(map[*listener]struct{})
	}
	l := &listener{events: make(chan event, maxWaiting), cancel: cancel}
	e.listeners[l] = struct{}{}
	return l
}

func (e *Events) leave(l *listener) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.listeners, l)
}

// serve answers GET /api/v1/events with Server-Sent Events until the client leaves, is
// too slow, or the server stops.
func (e *Events) serve(fills func() []Fill, pulls func() []Pull) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		l := e.listen(cancel)
		if l == nil {
			w.Header().Set("Retry-After", "10")
			say(w, http.StatusServiceUnavailable, fmt.Sprintf("%d listen already, and there may be no more", maxListeners))
			return
		}
		defer e.leave(l)
		w.Header().Set("Content-Type", "text/event-stream")
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(http.StatusOK)
		s := &stream{w: w, fills: fills, pulls: pulls}
		s.run(ctx, l)
	}
}

// A stream writes to one listener.
type stream struct {
	w     http.ResponseWriter
	fills func() []Fill
	pulls func() []Pull
	idle  bool // the last moment that was told was an empty one
}

// run writes until ctx is done or the listener is gone.
func (s *stream) run(ctx context.Context, l *listener) {
	progress, heartbeat := time.NewTicker(progressEvery), time.NewTimer(heartbeatEvery)
	defer progress.Stop()
	defer heartbeat.Stop()
	err := s.progress()
	for err == nil {
		select {
		case <-ctx.Done():
			return
		case ev := <-l.events:
			err = s.write(ev)
		case <-progress.C:
			before := s.idle
			if err = s.progress(); before && s.idle {
				continue // nothing was written
			}
		case <-heartbeat.C:
			err = s.send([]byte(": heartbeat\n\n"))
		}
		heartbeat.Reset(heartbeatEvery)
	}
}

// progress tells what is going on; of nothing, once.
func (s *stream) progress() error {
	m := Moment{Time: time.Now(), Fills: s.fills(), Pulls: []Pull{}}
	if s.pulls != nil {
		m.Pulls = s.pulls()
	}
	m.FillsTotal, m.PullsTotal = len(m.Fills), len(m.Pulls)
	m.Fills, m.Pulls = m.Fills[:min(len(m.Fills), maxTold)], m.Pulls[:min(len(m.Pulls), maxTold)]
	if m.FillsTotal+m.PullsTotal == 0 {
		if s.idle {
			return nil
		}
		s.idle = true
		return s.write(event{eventProgress, m})
	}
	s.idle = false
	return s.write(event{eventProgress, m})
}

func (s *stream) write(ev event) error {
	data, err := json.Marshal(ev.data)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "event: %s\ndata: %s\n\n", ev.name, data) // JSON has no line breaks of its own
	return s.send(b.Bytes())
}

// send writes, and waits for a slow listener only so long.
func (s *stream) send(b []byte) error {
	c := http.NewResponseController(s.w)
	_ = c.SetWriteDeadline(time.Now().Add(listenerPatience)) // of a test's writer, nothing
	if _, err := s.w.Write(b); err != nil {
		return err
	}
	return c.Flush()
}
