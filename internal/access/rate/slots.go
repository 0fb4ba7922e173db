package rate

import (
	"context"
	"slices"
	"time"

	"sampan/internal/oci"
)

// slots are the places for what goes on at the same time.
type slots struct {
	most    int // as the last who came has it
	taken   []*place
	waiting []*waiter
}

// A place is taken by one, or by the parts of one blob together.
type place struct {
	blob oci.Digest // zero for what shares with nobody
	n    int        // who has it
}

// A waiter gets a place before turn is closed.
type waiter struct {
	blob oci.Digest
	turn chan struct{}
	got  *place
}

// idle tells whether nobody has a place or waits for one.
func (s *slots) idle() bool { return len(s.taken)+len(s.waiting) == 0 }

// enter takes a place, and waits a moment for it; nil: there was none. Who comes for
// the blob of a place has it too. The zero digest is nobody's.
func (a *account) enter(ctx context.Context, s *slots, most int, blob oci.Digest) *place {
	a.mu.Lock()
	s.most = most
	s.grant() // it may be more than it was
	if p := s.take(blob); p != nil {
		a.mu.Unlock()
		return p
	}
	w := &waiter{blob: blob, turn: make(chan struct{})}
	s.waiting = append(s.waiting, w)
	a.mu.Unlock()
	t := time.NewTimer(patience)
	defer t.Stop()
	select {
	case <-w.turn:
		return w.got
	case <-t.C:
	case <-ctx.Done():
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	s.waiting = slices.DeleteFunc(s.waiting, func(other *waiter) bool { return other == w })
	return w.got // it may have come in the same moment
}

// take takes a place if there is one. The caller holds mu.
func (s *slots) take(blob oci.Digest) *place {
	for _, p := range s.taken {
		if p.blob == blob && !blob.IsZero() {
			p.n++
			return p
		}
	}
	if len(s.taken) >= s.most {
		return nil
	}
	p := &place{blob, 1}
	s.taken = append(s.taken, p)
	return p
}

// grant gives places that are free to who has waited longest, and to who comes for the
// same blob. The caller holds mu.
func (s *slots) grant() {
	s.waiting = slices.DeleteFunc(s.waiting, func(w *waiter) bool {
		if w.got = s.take(w.blob); w.got == nil {
			return false
		}
		close(w.turn)
		return true
	})
}

// leave gives a place back; nil is none. The caller holds mu.
func (s *slots) leave(p *place) {
	if p == nil {
		return
	}
	if p.n--; p.n > 0 {
		return
	}
	s.taken = slices.DeleteFunc(s.taken, func(other *place) bool { return other == p })
	s.grant()
}
