package local

import (
	"context"
	"log/slog"
	"sync"
)

// A Pool shares what is opened among upstreams: an archive with images of several
// registries is opened once.
type Pool struct {
	log *slog.Logger

	mu      sync.Mutex
	sources map[Place]*source
}

// NewPool makes a Pool. It needs no closing: what is in it belongs to upstreams.
func NewPool(log *slog.Logger) *Pool {
	return &Pool{log: log, sources: make(map[Place]*source)}
}

// take returns the source of a place, which is to be released.
func (p *Pool) take(place Place) *source {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.sources[place]
	if s == nil {
		s = &source{place: place, log: p.log}
		s.life, s.stop = context.WithCancel(context.Background())
		p.sources[place] = s
	}
	s.users++
	return s
}

// release lets a source go, and closes it when it was the last one who had it.
func (p *Pool) release(s *source) {
	p.mu.Lock()
	s.users--
	last := s.users == 0
	if last {
		delete(p.sources, s.place)
	}
	p.mu.Unlock()
	if last {
		s.close()
	}
}
