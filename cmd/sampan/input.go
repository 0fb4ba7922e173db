package main

import (
	"context"
	"io"
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
