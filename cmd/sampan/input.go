package main

import (
	"context"
	"io"
	"os"
	"sync"

	"golang.org/x/term"
)

// An input is standard input that the end of a context ends: a signal must not wait for
// whoever writes there. It is read by one goroutine.
type input struct {
	ctx  context.Context // of the process
	from io.Reader

	buffer []byte
	left   []byte // of the buffer, not yet taken
	err    error  // behind left
}

func newInput(ctx context.Context, from io.Reader) *input {
	const size = 256 << 10 // bytes
	return &input{ctx: ctx, from: from, buffer: make([]byte, size)}
}

// Read implements [io.Reader]. What is being read when the context ends is waited for by a
// goroutine that ends with it, or else with the process.
func (i *input) Read(p []byte) (int, error) {
	if len(i.left) == 0 && i.err == nil {
		i.fill()
	}
	if len(i.left) == 0 {
		return 0, i.err
	}
	n := copy(p, i.left)
	i.left = i.left[n:]
	return n, nil
}

func (i *input) fill() {
	type read struct {
		n   int
		err error
	}
	done := make(chan read, 1)
	go func() {
		n, err := i.from.Read(i.buffer)
		done <- read{n, err}
	}()
	select {
	case r := <-done:
		i.left, i.err = i.buffer[:r.n], r.err
	case <-i.ctx.Done():
		i.err = &told{text("interrupted", "已中断"), i.ctx.Err()}
	}
}

// isTerminal tells whether somebody types what is read from in.
func isTerminal(in io.Reader) bool {
	if i, ok := in.(*input); ok {
		in = i.from
	}
	f, ok := in.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// A pipe is a file that is opened when it is first read, because that may wait for whoever
// writes it.
type pipe struct {
	name string

	mu   sync.Mutex // not held while somebody waits
	file *os.File   // nil before it is read
}

// Read implements [io.Reader].
func (p *pipe) Read(b []byte) (int, error) {
	p.mu.Lock()
	f := p.file
	p.mu.Unlock()
	if f == nil {
		var err error
		if f, err = os.Open(p.name); err != nil {
			return 0, err
		}
		p.mu.Lock()
		p.file = f
		p.mu.Unlock()
	}
	return f.Read(b)
}

// Close implements [io.Closer].
func (p *pipe) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.file == nil {
		return nil
	}
	return p.file.Close()
}
