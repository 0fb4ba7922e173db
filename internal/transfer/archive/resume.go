package archive

import (
	"bytes"
	"context"
	"errors"
	"io"

	"sampan/internal/oci"
	"sampan/internal/progress"
)

// fetchTo puts a blob into its place. What an earlier run has left there of it is not
// fetched again: a run that is killed leaves the beginning of a blob, and nothing behind
// it. Where something else is in the place, which the digest tells, all of it is fetched.
func (w *writer) fetchTo(ctx context.Context, e entry, b plannedBlob, fresh bool, line progress.Line) error {
	to := io.NewOffsetWriter(w.file, e.dataAt())
	if !fresh {
		left, err := written(io.NewSectionReader(w.file, e.dataAt(), e.size))
		if err != nil {
			return err
		}
		if left > 0 {
			line.Add(left)
			err := w.fetch(ctx, b, &skipping{to: to, n: left}, line, left, io.NewSectionReader(w.file, e.dataAt(), left))
			if !errors.Is(err, &oci.Error{Code: oci.CodeDigestInvalid}) {
				return err
			}
			line.Add(-e.size)
		}
	}
	return w.fetch(ctx, b, to, line, 0, nil)
}

// fetch reads a blob, on from where it broke off, and proves it. Its first bytes, so many
// as left, are here already.
func (w *writer) fetch(ctx context.Context, b plannedBlob, to io.Writer, line progress.Line, left int64, here io.Reader) error {
	r := &resumed{ctx: ctx, blob: b, line: line, pause: w.options.Pause, at: left}
	var all io.Reader = r
	switch left {
	case 0:
	case b.descriptor.Size:
		all = here
	default:
		all = io.MultiReader(here, r)
	}
	return errors.Join(verified(to, all, b.descriptor), r.close())
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

// resumed reads a blob from its source, which is asked again where it breaks off.
type resumed struct {
	ctx   context.Context // of one fetch
	blob  plannedBlob
	line  progress.Line
	pause func(ctx context.Context, n int, err error) error

	parts  oci.BlobParts // nil before the first
	open   io.ReadCloser // nil for not open
	at     int64
	failed int // since the last byte
}

// Read implements [io.Reader].
func (r *resumed) Read(p []byte) (int, error) {
	for {
		n, err := r.read(p)
		if n > 0 {
			r.failed = 0
			r.at += int64(n)
			r.line.Add(int64(n))
			return n, nil
		}
		size := r.blob.descriptor.Size
		if errors.Is(err, io.EOF) && r.at < size {
			err = io.ErrUnexpectedEOF
		}
		if err == nil || errors.Is(err, io.EOF) || r.ctx.Err() != nil || oci.IsAnswer(err) {
			return 0, err
		}
		_ = r.close() // it broke already
		r.failed++
		if err := r.pause(r.ctx, r.failed, err); err != nil {
			return 0, err
		}
	}
}

func (r *resumed) read(p []byte) (int, error) {
	size := r.blob.descriptor.Size
	if r.open == nil && r.at > 0 && r.at == size {
		return 0, io.EOF
	}
	if r.open == nil {
		if r.parts == nil {
			r.parts = oci.PartsOf(r.blob.reader, r.blob.repo, r.blob.descriptor.Digest)
		}
		part, err := r.parts.Part(r.ctx, r.at, -1)
		if err != nil {
			return 0, err
		}
		r.open = part.Body
		if part.Size >= 0 && part.Size != size {
			return 0, oci.Errorf(oci.CodeSizeInvalid, "the source tells %d bytes, and the manifest %d", part.Size, size)
		}
		if _, err := io.CopyN(io.Discard, part.Body, r.at-part.From); err != nil {
			return 0, err
		}
	}
	// One byte more than there should be is enough to know.
	p = p[:min(int64(len(p)), size-r.at+1)]
	return r.open.Read(p)
}

func (r *resumed) close() error {
	if r.open == nil {
		return nil
	}
	err := r.open.Close()
	r.open = nil
	return err
}
