package transfer

import (
	"context"
	"fmt"
	"io"
)

// A source opens one blob, for a writer that may begin anew.
type source struct {
	SteadyBlob
	last *SteadyReader // what was opened last; nil before
}

// open is an [Open].
func (s *source) open(ctx context.Context, offset int64) (io.ReadCloser, error) {
	if offset < 0 || s.Size >= 0 && offset > s.Size {
		return nil, fmt.Errorf("offset %d is not in a blob of %d bytes", offset, s.Size)
	}
	told := int64(0)
	if s.last != nil {
		told = s.last.at
	}
	s.Line.Add(offset - told)
	s.last = s.From(ctx, offset)
	if err := s.last.connect(); err != nil {
		return nil, err
	}
	return s.last, nil
}

// failed is why the source cannot be read; nil while it can.
func (s *source) failed() error {
	if s.last == nil {
		return nil
	}
	return s.last.failed
}
