package archive

import (
	"bytes"
	"context"
	"errors"
	"io"

	"sampan/internal/oci"
	"sampan/internal/progress"
	"sampan/internal/transfer"
)

// fetchTo puts a blob into its place. What an earlier run has left there of it is not
// fetched again: a run that is killed leaves the beginning of a blob, and nothing behind
// it. Where something else is in the place, which the digest tells, all of it is fetched.
func (w *writer) fetchTo(ctx context.Context, e entry, fresh bool, line progress.Line) error {
	to := io.NewOffsetWriter(w.file, e.dataAt())
	if !fresh {
		left, err := written(io.NewSectionReader(w.file, e.dataAt(), e.size))
		if err != nil {
			return err
		}
		if left > 0 {
			line.Add(left)
			err := w.fetch(ctx, e, &skipping{to: to, n: left}, line, left)
			if !errors.Is(err, &oci.Error{Code: oci.CodeDigestInvalid}) {
				return err
			}
			line.Add(-e.size)
		}
	}
	return w.fetch(ctx, e, to, line, 0)
}

// fetch reads a blob and proves it. Its first bytes, so many as left, are in their place
// already.
func (w *writer) fetch(ctx context.Context, e entry, to io.Writer, line progress.Line, left int64) error {
	b := w.plan.blobs[e.digest]
	rest := transfer.SteadyBlob{
		Parts: oci.PartsOf(b.reader, b.repo, b.descriptor.Digest), Size: b.descriptor.Size, Line: line, Pause: w.options.Pause,
	}.From(ctx, left)
	err := verified(to, io.MultiReader(io.NewSectionReader(w.file, e.dataAt(), left), rest), b.descriptor)
	return errors.Join(err, rest.Close())
}

// written is how many bytes there are before nothing but zeros.
func written(r *io.SectionReader) (int64, error) {
	const step = 1 << 20
	chunk := make([]byte, min(step, r.Size()))
	for end := r.Size(); end > 0; {
		n := min(int64(len(chunk)), end)
		if _, err := r.ReadAt(chunk[:n], end-n); err != nil && !errors.Is(err, io.EOF) {
			return 0, err
		}
		if rest := bytes.TrimRight(chunk[:n], "\x00"); len(rest) > 0 {
			return end - n + int64(len(rest)), nil
		}
		end -= n
	}
	return 0, nil
}

// skipping writes what comes after so many bytes, which are there.
type skipping struct {
	to *io.OffsetWriter
	n  int64
	at int64
}

// Write implements [io.Writer].
func (s *skipping) Write(p []byte) (int, error) {
	skip := min(max(s.n-s.at, 0), int64(len(p)))
	s.at += int64(len(p))
	if skip == int64(len(p)) {
		return len(p), nil
	}
	n, err := s.to.WriteAt(p[skip:], s.at-int64(len(p))+skip)
	return int(skip) + n, err
}
