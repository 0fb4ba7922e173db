package progress

import (
	"io"
	"strings"
	"time"
)

// A Piece is a piece under way. It is a [Line] of which more can be told. Its methods may
// be called concurrently.
type Piece struct {
	show  *Show
	id    int // from 1
	name  string
	stays bool

	// All below is guarded by the show's mu.
	size    int64 // bytes; -1 when unknown
	moved   int64 // bytes
	metered int64 // bytes that the meters have counted
	state   State // empty while it moves and nobody said so
	busy    busy
	meter   meter
	told    time.Time // of events
	over    bool      // it has ended
	gone    bool      // and its bar too
}

// busy is how far a piece is with what is no moving.
type busy struct{ bytes, size int64 }

// Add implements [Line].
func (p *Piece) Add(n int64) {
	s := p.show
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.over || s.closed {
		return
	}
	p.move(n)
}

// move counts bytes, and tells of them from time to time; the caller holds mu.
func (p *Piece) move(n int64) {
	s, now := p.show, time.Now()
	p.moved += n
	s.moved += n
	if n > 0 {
		p.metered += n
		p.meter.add(now, n)
		s.meter.add(now, n)
	}
	if s.form != Events {
		return
	}
	const often = time.Second
	if now.Sub(p.told) >= often {
		p.told = now
		s.emit(p.event("progress"))
	}
	if now.Sub(s.told) >= often {
		s.told = now
		s.emit(event{Event: "total", Bytes: s.moved, Size: s.size(), Rate: s.meter.rate(now), Seconds: now.Sub(s.began).Seconds()})
	}
}

// Moves tells that so many bytes have moved in all, of size; 0 for a size that is not
// known. They are added to what is expected.
func (p *Piece) Moves(bytes, size int64) {
	s := p.show
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.over || s.closed {
		return
	}
	p.turn(Moving, busy{})
	p.expect(size)
	p.move(bytes - p.moved)
}

// expect tells of a size, where that is known; the caller holds mu.
func (p *Piece) expect(size int64) {
	if size <= 0 || size == p.size {
		return
	}
	if p.size < 0 {
		p.show.blind--
	}
	p.show.all += size - max(p.size, 0)
	p.size = size
}

// Turns tells what else the piece does, and how many bytes of how many it is through;
// zeros where there is no telling. They do not count as moved. The size of a piece that
// waits is that of its bytes which are to move.
func (p *Piece) Turns(to State, bytes, size int64) {
	s := p.show
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.over || s.closed {
		return
	}
	if to == Waiting {
		p.expect(size)
		bytes, size = 0, 0
	}
	p.turn(to, busy{bytes, size})
}

// turn changes the state; the caller holds mu.
func (p *Piece) turn(to State, b busy) {
	changed := p.state != to
	p.state, p.busy = to, b
	if !changed {
		return
	}
	p.told = time.Now()
	p.show.emit(p.event("progress"))
	p.show.draw()
}

// End implements [Line].
func (p *Piece) End(how State) {
	s := p.show
	s.mu.Lock()
	defer s.mu.Unlock()
	if !p.end(how) {
		return
	}
	if s.form == Lines {
		_, _ = io.WriteString(s.out, p.line(how)+"\n") // nobody reads it then
	}
	if !p.stays {
		p.drop()
	}
}

// end ends the piece; false when it has ended. The caller holds mu.
func (p *Piece) end(how State) bool {
	s := p.show
	if p.over || s.closed {
		return false
	}
	p.over, p.state, p.busy = true, how, busy{}
	p.settle(how)
	s.emit(p.event("end"))
	s.draw()
	return true
}

// settle makes the sums right; the caller holds mu.
func (p *Piece) settle(how State) {
	s := p.show
	if p.size < 0 {
		s.blind--
	}
	counts := p.moved
	switch {
	case how == Failed:
		counts = 0 // it must move again, as another piece
	case p.size >= 0:
		counts = p.size
	}
	s.moved += counts - p.moved
	p.moved = counts
	if how == Present {
		s.meter.take(p.metered)
	}
}

// line tells of the end, without a terminal; the caller holds mu.
func (p *Piece) line(how State) string {
	s := p.show
	parts := []string{p.name}
	if n := max(p.size, p.moved); n > 0 || p.size == 0 {
		parts = append(parts, Bytes(n))
	}
	parts = append(parts, s.words.state(how))
	if rate := s.meter.rate(time.Now()); how == Done && s.size() > 0 && rate > 0 {
		parts = append(parts, "("+Bytes(s.moved)+" / "+Bytes(s.size())+", "+Bytes(rate)+"/s)")
	}
	return strings.Join(parts, "  ")
}

// Remove takes the bar away. A piece that has not ended ends as one that failed; no line
// tells of that.
func (p *Piece) Remove() {
	p.show.mu.Lock()
	defer p.show.mu.Unlock()
	p.end(Failed)
	p.drop()
}

// drop takes the bar away; the caller holds mu.
func (p *Piece) drop() {
	if p.gone {
		return
	}
	p.gone = true
	s := p.show
	for i, other := range s.pieces {
		if other == p {
			s.pieces = append(s.pieces[:i:i], s.pieces[i+1:]...)
			return
		}
	}
}
