package fill

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"sampan/internal/oci"
)

// A steady reads a blob from one source in order, over breaks and silences, as a
// fetch does, until its context or its group ends.
type steady struct {
	g      *Group
	src    Source
	digest oci.Digest
	ctx    context.Context // of the request that reads, ended with the group
	cancel context.CancelCauseFunc
	free   func() bool // lets go of the group

	size     int64 // -1 until the source has told it
	at       int64 // of the next byte
	failures int   // attempts in a row without a byte

	body  io.ReadCloser // nil when none is open
	part  context.Context
	quit  context.CancelCauseFunc // of part
	stall *time.Timer
}

// newSteady makes one at the beginning of the blob. It asks nobody before open.
func newSteady(ctx context.Context, g *Group, src Source, digest oci.Digest) *steady {
	s := &steady{g: g, src: src, digest: digest, size: -1}
	s.ctx, s.cancel = context.WithCancelCause(ctx)
	s.free = context.AfterFunc(g.ctx, func() { s.cancel(context.Cause(g.ctx)) })
	return s
}

// open asks for the rest, once.
func (s *steady) open() error {
	part, quit := context.WithCancelCause(s.ctx)
	stall := time.AfterFunc(s.g.o.Stall, func() { quit(errStalled) })
	got, err := s.src.Parts.Part(part, s.at, -1)
	if err == nil && s.size >= 0 && got.Size >= 0 && got.Size != s.size {
		err = errors.Join(oci.Errorf(oci.CodeUnavailable, "%s had %d bytes and now has %d: %w", s.digest, s.size, got.Size, errSize), got.Body.Close())
	}
	if err != nil {
		stall.Stop()
		err = cause(part, err)
		quit(nil)
		return err
	}
	if s.size < 0 {
		s.size = got.Size
	}
	stall.Stop()
	s.body, s.part, s.quit, s.stall = got.Body, part, quit, stall
	if over := s.at - got.From; over > 0 { // it honours no ranges
		if _, err := io.CopyN(io.Discard, alive{s}, over); err != nil {
			return s.drop(unexpected(err))
		}
	}
	return nil
}

// alive reads the body and bounds its silence: only while bytes are waited for, as
// who reads may be slow.
type alive struct{ s *steady }

func (a alive) Read(p []byte) (int, error) {
	a.s.stall.Reset(a.s.g.o.Stall)
	n, err := a.s.body.Read(p)
	a.s.stall.Stop()
	if n > 0 {
		a.s.g.metrics.bytes.Add(float64(n))
	}
	return n, err
}

// drop closes the body, and returns why it is given up.
func (s *steady) drop(err error) error {
	if s.body == nil {
		return err
	}
	err = cause(s.part, err)
	s.stall.Stop()
	s.quit(nil)
	_ = s.body.Close() // nothing was written
	s.body = nil
	return err
}

// Read implements [io.Reader]. It ends with [io.EOF] at the size.
func (s *steady) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for {
		if s.size >= 0 && s.at >= s.size {
			return 0, io.EOF
		}
		var err error
		if s.body == nil {
			err = s.open()
		}
		if err == nil {
			var n int
			n, err = alive{s}.Read(p)
			if s.size >= 0 {
				n = int(min(int64(n), s.size-s.at)) // more is nobody's
			}
			s.at += int64(n)
			if err != nil {
				err = s.drop(unexpected(err))
			}
			if n > 0 {
				s.failures = 0
				return n, nil
			}
		}
		if err == nil {
			continue
		}
		if err := s.again(err); err != nil {
			return 0, err
		}
	}
}

// again waits before the next attempt, or returns why there is none.
func (s *steady) again(err error) error {
	s.failures++
	var e *oci.Error
	answered := errors.As(err, &e) && !errors.Is(err, oci.ErrTooManyRequests) && oci.IsAnswer(err)
	switch {
	case s.ctx.Err() != nil:
		return fmt.Errorf("stream %s: %w", s.digest, context.Cause(s.ctx))
	case answered, errors.Is(err, errSize), s.failures >= s.g.o.Tries:
		return fmt.Errorf("stream %s: %w", s.digest, err)
	}
	s.g.metrics.retries.Inc()
	var after time.Duration
	if e != nil {
		after = e.RetryAfter
	}
	if err := s.g.pause(s.ctx, s.failures, after); err != nil {
		return fmt.Errorf("stream %s: %w", s.digest, err)
	}
	return nil
}

// Close implements [io.Closer].
func (s *steady) Close() error {
	_ = s.drop(nil)
	s.free()
	s.cancel(nil)
	return nil
}
