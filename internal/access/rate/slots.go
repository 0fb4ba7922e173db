package rate

import (
	"context"
	"time"
)

// slots are places for what goes on at the same time.
type slots struct {
	taken   int
	most    int // as the last who came has it
	waiting []chan struct{}
}

// enter takes a place, and waits a moment for it.
func (a *account) enter(ctx context.Context, s *slots, most int) bool {
	a.mu.Lock()
	s.most = most
	s.grant() // it may be more than it was
	if s.taken < most {
		s.taken++
		a.mu.Unlock()
		return true
	}
	turn := make(chan struct{})
	s.waiting = append(s.waiting, turn)
	a.mu.Unlock()
	t := time.NewTimer(patience)
	defer t.Stop()
	select {
	case <-turn:
		return true
	case <-t.C:
	case <-ctx.Done():
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for i, w := range s.waiting {
		if w == turn {
			s.waiting = append(s.waiting[:i], s.waiting[i+1:]...)
			return false
		}
	}
	return true // it came in the same moment
}

// grant gives places that are free to who has waited longest. The caller holds mu.
func (s *slots) grant() {
	for len(s.waiting) > 0 && s.taken < s.most {
		s.taken++
		close(s.waiting[0])
		s.waiting = s.waiting[1:]
	}
}

// leave gives a place back. The caller holds mu.
func (s *slots) leave() {
	s.taken--
	s.grant()
}
