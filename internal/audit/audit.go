// Package audit writes down who was refused what, and what was done to the mirror by
// those who run it: one JSON object in each line, in a file of its own.
//
// It promises that no line runs into another, also where the disk took half of one;
// that clients cannot fill the disk with refusals, since of each network and of all
// together only so many a minute are told one by one, none longer than [MaxText] for
// each field, and the rest as a number; and that the file is opened anew when it is
// asked to, for those who rotate it. It knows no secrets: what it is given, it writes.
//
// Lock order: Log.mu is held over a write and is a leaf.
package audit

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"sync"
	"time"
)

const (
	// perMinute is how many refusals of one network are told one by one, and allPerMinute
	// of all; maxNetworks is how many networks are told apart.
	perMinute    = 30
	allPerMinute = 3000
	maxNetworks  = 10_000
	// MaxText bounds what a client wrote of a refusal, in bytes.
	MaxText = 512
)

// An Event is one line.
type Event struct {
	Time time.Time `json:"time"`
	// Event is what happened: denied, denied_more, started, stopped, reloaded,
	// reload_refused, or an act of administration.
	Event string `json:"event"`
	// Client is the address, and User the name of the user or access code, as far as
	// they are known.
	Client string `json:"client,omitempty"`
	User   string `json:"user,omitempty"`
	// Request is the identifier of the request.
	Request    string `json:"request,omitempty"`
	Method     string `json:"method,omitempty"`
	Path       string `json:"path,omitempty"`
	Repository string `json:"repository,omitempty"`
	Status     int    `json:"status,omitempty"`
	Reason     string `json:"reason,omitempty"`
	// Count is how many more there were in the minute before, of denied_more.
	Count int `json:"count,omitempty"`
	// Detail is what else there is to say: fields that changed, a version, a report.
	Detail any `json:"detail,omitempty"`
}

// A Log is an open file. The methods of nil do nothing. Make one with [Open] or
// [New].
type Log struct {
	path string // empty for a stream
	log  *slog.Logger

	mu     sync.Mutex
	w      io.Writer
	file   *os.File // nil for a stream
	failed bool     // the last line could not be written
	torn   bool     // half of it was
	denied map[netip.Prefix]*tally
	told   int         // of all in this minute
	begun  time.Time   // of the minute
	end    *time.Timer // tells the numbers when it is over; nil while there are none
}

// A tally is that of one network in this minute.
type tally struct {
	told, more int
	client     string
}

// New writes to a stream, which it does not close.
func New(w io.Writer, log *slog.Logger) *Log {
	return &Log{w: w, log: log, denied: make(map[netip.Prefix]*tally)}
}

// Open appends to a file, which only its owner can read.
func Open(path string, log *slog.Logger) (*Log, error) {
	l := New(nil, log)
	l.path = path
	if err := l.Reopen(); err != nil {
		return nil, err
	}
	return l, nil
}

// Reopen opens the file anew, which may have been moved away. When it cannot, the one
// before goes on being written.
func (l *Log) Reopen() error {
	if l == nil || l.path == "" {
		return nil
	}
	f, err := os.OpenFile(l.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	old := l.file
	l.file, l.w = f, f
	if old != nil {
		err = old.Close()
	}
	return err
}

// Close tells the numbers that are left and closes the file.
func (l *Log) Close() error {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.turn(time.Now())
	if l.file == nil {
		return nil
	}
	err := l.file.Close()
	l.file, l.w = nil, io.Discard
	return err
}

// Record writes an event down.
func (l *Log) Record(e Event) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.write(e)
}

// Deny writes a refusal down, as long as there were not too many of the network in
// this minute.
func (l *Log) Deny(from netip.Prefix, e Event) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if now := time.Now(); now.Sub(l.begun) >= time.Minute {
		l.turn(now)
	}
	t := l.denied[from]
	if t == nil && len(l.denied) >= maxNetworks {
		from = netip.Prefix{} // all others together
		t = l.denied[from]
	}
	if t == nil {
		t = &tally{client: e.Client}
		l.denied[from] = t
	}
	if t.told >= perMinute || l.told >= allPerMinute {
		t.more++
		if l.end == nil {
			l.end = time.AfterFunc(time.Until(l.begun.Add(time.Minute)), func() {
				l.mu.Lock()
				defer l.mu.Unlock()
				l.turn(time.Now())
			})
		}
		return
	}
	t.told++
	l.told++
	e.Event, e.Path, e.Reason = "denied", clip(e.Path), clip(e.Reason)
	l.write(e)
}

// clip shortens what a client wrote.
func clip(s string) string {
	if len(s) > MaxText {
		return s[:MaxText] + "…"
	}
	return s
}

// turn begins a new minute, and tells the numbers of the one before. The caller holds
// mu.
func (l *Log) turn(now time.Time) {
	if l.end != nil {
		l.end.Stop()
		l.end = nil
	}
	l.begun, l.told = now, 0
	for _, t := range l.denied {
		if t.more > 0 {
			l.write(Event{Event: "denied_more", Client: t.client, Count: t.more})
		}
	}
	clear(l.denied)
}

// write writes one line. The caller holds mu.
func (l *Log) write(e Event) {
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	e.Time = e.Time.UTC()
	line, err := json.Marshal(e)
	if err == nil {
		line = append(line, '\n')
		if l.torn {
			line = append([]byte("\n"), line...)
		}
		var n int
		if n, err = l.w.Write(line); n > 0 {
			l.torn = n < len(line)
		}
	}
	if err != nil && !l.failed && !errors.Is(err, os.ErrClosed) {
		l.log.Error("audit log cannot be written", "err", err)
	}
	l.failed = err != nil
}
