package main

import (
	"fmt"
	"io"
	"sync"

	"sampan/internal/progress"
)

// A carriedSink tells of each blob that has crossed, a line each, and how much of all
// that is. Lock order: its lock is a leaf.
type carriedSink struct {
	w io.Writer

	mu          sync.Mutex
	moved, most int64 // bytes
}

var _ progress.Sink = (*carriedSink)(nil)

// newCarried tells nothing when quiet.
func newCarried(w io.Writer, quiet bool) progress.Sink {
	if quiet {
		return progress.None()
	}
	return &carriedSink{w: w}
}

// Expect implements [progress.Sink].
func (s *carriedSink) Expect(n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.most += n
}

// Say implements [progress.Sink].
func (s *carriedSink) Say(sentence string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprintln(s.w, sentence)
}

// Start implements [progress.Sink].
func (s *carriedSink) Start(name string, size int64) progress.Line {
	return &carriedLine{s, name, size, 0}
}

type carriedLine struct {
	sink  *carriedSink
	name  string
	size  int64
	moved int64 // bytes, that may have to move again
}

// Add implements [progress.Line].
func (l *carriedLine) Add(n int64) { l.moved += n }

// End implements [progress.Line].
func (l *carriedLine) End(state progress.State) {
	l.sink.mu.Lock()
	defer l.sink.mu.Unlock()
	if state != progress.Failed {
		l.sink.moved += l.size
	}
	how := map[progress.State]string{
		progress.Done: text("done", "完成"), progress.Present: text("already there", "已存在"), progress.Failed: text("failed", "失败"),
	}[state]
	const short = 19 // "sha256:" and twelve digits
	fmt.Fprintf(l.sink.w, "%.*s  %s  %s  (%s / %s)\n", short, l.name, size(l.size), how, size(l.sink.moved), size(l.sink.most))
}
