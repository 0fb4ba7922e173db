package progress

import "encoding/json"

// An event is one line of JSON. It is "expect", "start", "progress", "end" or "total":
// of a piece where it has an ID, and of everything else. The last is a "total".
type event struct {
	Event   string  `json:"event"`
	ID      int     `json:"id,omitempty"` // of the piece, from 1
	Name    string  `json:"name,omitempty"`
	State   State   `json:"state,omitempty"`   // what the piece does, or how it ended
	Bytes   int64   `json:"bytes"`             // that have moved or were there
	Size    int64   `json:"size,omitempty"`    // bytes; 0 when unknown
	Rate    int64   `json:"rate,omitempty"`    // bytes a second: of the last five; at the end, of all
	Seconds float64 `json:"seconds,omitempty"` // since the beginning of everything
}

// A message is a sentence as an event.
type message struct {
	Event string `json:"event"` // message
	Text  string `json:"text"`
}

// event tells of the piece; the caller holds mu.
func (p *Piece) event(what string) event {
	e := event{Event: what, ID: p.id, Name: p.name, State: p.state, Bytes: p.moved, Size: max(p.size, 0)}
	if what == "progress" {
		e.Rate = p.meter.rate(p.told)
	}
	return e
}

// emit writes an event where those are wanted; the caller holds mu.
func (s *Show) emit(e any) {
	if s.form != Events || s.closed {
		return
	}
	enc := json.NewEncoder(s.out)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(e) // it holds nothing that cannot be encoded; nobody reads it otherwise
}
