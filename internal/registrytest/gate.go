package registrytest

import (
	"context"
	"sync"
)

// A Gate holds responses until a test opens it. Make it with [NewGate]; one
// gate may hold any number of responses and stand in several behaviours.
type Gate struct {
	open chan struct{}
	once sync.Once

	mu      sync.Mutex
	arrived int
	changed chan struct{} // closed and replaced at each arrival
}

// NewGate returns a closed gate.
func NewGate() *Gate {
	return &Gate{open: make(chan struct{}), changed: make(chan struct{})}
}

// Open lets through everyone, from now on. Opening again is harmless.
func (g *Gate) Open() { g.once.Do(func() { close(g.open) }) }

// Arrived returns how many responses have reached the gate since it was made.
func (g *Gate) Arrived() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.arrived
}

// Await returns nil once n responses have reached the gate since it was made,
// or the error of ctx.
func (g *Gate) Await(ctx context.Context, n int) error {
	for {
		g.mu.Lock()
		arrived, changed := g.arrived, g.changed
		g.mu.Unlock()
		if arrived >= n {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Wait arrives and returns nil once the gate is open, or the error of ctx: for
// the handlers of [Registry.FailNext].
func (g *Gate) Wait(ctx context.Context) error {
	if !g.pass(ctx, nil) {
		return ctx.Err()
	}
	return nil
}

// pass arrives and waits. It is false when ctx or done ended the wait. A nil
// gate is open.
func (g *Gate) pass(ctx context.Context, done <-chan struct{}) bool {
	if g == nil {
		return true
	}
	g.mu.Lock()
	g.arrived++
	close(g.changed)
	g.changed = make(chan struct{})
	g.mu.Unlock()
	select {
	case <-g.open:
		return true
	case <-ctx.Done():
		return false
	case <-done:
		return false
	}
}
