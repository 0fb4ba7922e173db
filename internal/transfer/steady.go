package transfer

import (
	"context"
	"errors"
	"io"

	"sampan/internal/oci"
	"sampan/internal/progress"
)

// A SteadyBlob is a blob that is read on where its source breaks off. All fields are
// needed.
type SteadyBlob struct {
	// Parts give its bytes.
	Parts oci.BlobParts
	// Size is where it ends, in bytes; -1 when that is unknown. A source that says
	// otherwise is SIZE_INVALID.
	Size int64
	// Line hears of each byte that is read.
	Line progress.Line
	// Pause waits before the source is asked again; see [Options].
	Pause func(ctx context.Context, n int, err error) error
}

// From reads the blob from an offset on, which is in it or at its end. Nobody is asked
// before the first Read.
func (b SteadyBlob) From(ctx context.Context, offset int64) *SteadyReader {
	return &SteadyReader{blob: b, ctx: ctx, at: offset}
}

// A SteadyReader ends with [io.EOF] at the size of its blob, or, where that is unknown, at
// the end of its source, and nowhere else. What it gives is not proven.
type SteadyReader struct {
	blob   SteadyBlob
	ctx    context.Context // of who reads
	body   io.ReadCloser   // nil while there is none
	at     int64           // offset of the next byte
	bad    int             // failures without a byte between them
	failed error           // why the source cannot be read; nil while it can
}

// connect opens the source at the offset, again and again for as long as that is
// allowed. At the end of a blob there is nothing to be opened; an empty one is asked for.
func (r *SteadyReader) connect() error {
	if r.blob.Size >= 0 && r.at == r.blob.Size && r.at > 0 {
		return nil
	}
	for {
		part, err := r.blob.Parts.Part(r.ctx, r.at, -1)
		if err == nil {
			err = r.begin(part)
		}
		if err == nil {
			return nil
		}
		if err = r.pause(err); err != nil {
			return err
		}
	}
}

// begin takes a part, and throws away what is before the offset.
func (r *SteadyReader) begin(part oci.BlobPart) error {
	if part.Size >= 0 && r.blob.Size >= 0 && part.Size != r.blob.Size {
		_ = part.Body.Close() // it was only read
		return oci.Errorf(oci.CodeSizeInvalid, "the source has %d bytes of a blob for which the manifest says %d", part.Size, r.blob.Size)
	}
	if part.From < r.at {
		if _, err := io.CopyN(io.Discard, part.Body, r.at-part.From); err != nil {
			_ = part.Body.Close() // it was only read
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
	}
	r.body = part.Body
	return nil
}

// pause waits before the source is asked again, or says why it is not.
func (r *SteadyReader) pause(err error) error {
	r.bad++
	if ctxErr := r.ctx.Err(); ctxErr != nil {
		return ctxErr
	}
	if !oci.IsAnswer(err) {
		if err = r.blob.Pause(r.ctx, r.bad, err); err == nil {
			return nil
		}
	}
	r.failed = err
	return err
}

// Read implements [io.Reader].
func (r *SteadyReader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for {
		if r.body == nil {
			if err := r.connect(); err != nil {
				return 0, err
			}
		}
		if r.blob.Size >= 0 && r.at >= r.blob.Size {
			return 0, io.EOF
		}
		if r.blob.Size >= 0 {
			p = p[:min(int64(len(p)), r.blob.Size-r.at)]
		}
		n, err := r.body.Read(p)
		if n > 0 {
			r.at += int64(n)
			r.bad = 0
			r.blob.Line.Add(int64(n))
			return n, nil // an error comes again, without bytes
		}
		if err == nil {
			continue
		}
		r.drop()
		if errors.Is(err, io.EOF) {
			if r.blob.Size < 0 {
				return 0, io.EOF
			}
			err = io.ErrUnexpectedEOF
		}
		if err := r.pause(err); err != nil {
			return 0, err
		}
	}
}

func (r *SteadyReader) drop() {
	if r.body != nil {
		_ = r.body.Close() // it was only read
		r.body = nil
	}
}

// Close implements [io.Closer].
func (r *SteadyReader) Close() error {
	r.drop()
	return nil
}
