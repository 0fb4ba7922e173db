package intake

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"

	"sampan/internal/oci"
	"sampan/internal/store"
	"sampan/internal/transfer"
)

// pieceSize is how much is read at once, in bytes.
const pieceSize = 1 << 20

// PutBlob implements [transfer.Writer]. It fails with DIGEST_INVALID, SIZE_INVALID,
// [ErrShort], [ErrLong], [store.ErrBusy], [store.ErrUnwritable], or what reading fails
// with. What has arrived is kept, unless it has turned out to be wrong. Where from leads
// has no meaning here: what a repository may have is had.
func (i *Intake) PutBlob(ctx context.Context, repo oci.Repository, d oci.Descriptor, open transfer.Open, _ []oci.Repository) error {
	if d.Size < 0 {
		return oci.Errorf(oci.CodeSizeInvalid, "the size of %s is not told", d.Digest)
	}
	has, err := i.o.Cache.Holds(ctx, repo, d.Digest)
	if err != nil || has {
		return err
	}
	err = i.receive(ctx, repo, d, open)
	if err != nil {
		return fmt.Errorf("take in %s: %w", d.Digest, err)
	}
	return i.o.Cache.Accept(ctx, repo, d)
}

// receive has the bytes stored, and proven as those that this caller brings.
func (i *Intake) receive(ctx context.Context, repo oci.Repository, d oci.Descriptor, open transfer.Open) (err error) {
	in, err := i.o.Store.Ingest(store.WithOwner(ctx, repo.Registry().String()), d.Digest)
	if err != nil {
		return err
	}
	mine := false // what is here in part
	defer func() { i.end(in, repo, d.Digest, mine && err != nil && !isWrong(err)) }()
	b, err := i.o.Store.Open(ctx, d.Digest)
	switch {
	case err == nil: // they are here for others: who brings them proves to have them
		size := b.Size()
		if err := b.Close(); err != nil {
			return err
		}
		if size != d.Size {
			return oci.Errorf(oci.CodeSizeInvalid, "%s has not %d bytes", d.Digest, d.Size)
		}
		return prove(ctx, d, open)
	case !errors.Is(err, store.ErrNotFound):
		return err
	}
	free, err := i.o.Cache.Expect(ctx, repo, d.Digest)
	if err != nil {
		return err
	}
	if !free && !i.parts.own(repo, d.Digest, in) {
		if err := in.Reset(); err != nil {
			return err
		}
	}
	mine = true
	return i.arrive(ctx, &arrival{in: in, d: d}, open)
}

// arrive stores what comes, behind what is here.
func (i *Intake) arrive(ctx context.Context, a *arrival, open transfer.Open) error {
	resumed, err := a.resume()
	if err != nil {
		return err
	}
	err = a.read(ctx, open)
	if resumed && oci.CodeOf(err) == oci.CodeDigestInvalid { // it may have been what was here
		if err := a.restart(); err != nil {
			return err
		}
		err = a.read(ctx, open)
	}
	if isWrong(err) {
		return errors.Join(err, a.in.Discard())
	}
	if err != nil {
		return err
	}
	return a.in.Commit(ctx, a.d.Size)
}

// isWrong tells the failures after which nothing is kept.
func isWrong(err error) bool {
	return errors.Is(err, ErrLong) || oci.CodeOf(err) == oci.CodeDigestInvalid
}

// end keeps what was not committed, and remembers whose it is.
func (i *Intake) end(in store.Ingest, repo oci.Repository, d oci.Digest, mine bool) {
	n := int64(0)
	if mine {
		n = in.Len()
	}
	i.parts.note(repo, d, n)
	if err := in.Keep(); err != nil {
		i.o.Log.Warn("what was brought is not kept", "digest", d, "err", err)
	}
}

// prove reads what is brought, and keeps nothing.
func prove(ctx context.Context, d oci.Descriptor, open transfer.Open) error {
	a := &arrival{d: d, sum: d.Digest.Hash()}
	return a.read(ctx, open)
}

// An arrival is a blob that is being read.
type arrival struct {
	in  store.Ingest // nil keeps nothing
	d   oci.Descriptor
	sum hash.Hash // of the bytes in front of at
	at  int64
}

// resume takes up what is here from before, and tells whether there was anything.
func (a *arrival) resume() (bool, error) {
	a.sum = a.d.Digest.Hash()
	if have := a.in.Have(); have.End() > a.d.Size {
		return false, a.restart()
	}
	if err := a.in.Expect(a.d.Size); err != nil {
		return false, err
	}
	n := a.in.Len()
	if n == 0 {
		return false, nil
	}
	b, err := a.in.NewReader()
	if err != nil {
		return false, err
	}
	_, err = io.CopyN(a.sum, b, n)
	if err := errors.Join(err, b.Close()); err != nil {
		return false, fmt.Errorf("read what is here: %w", err)
	}
	a.at = n
	return true, nil
}

// restart forgets what is here.
func (a *arrival) restart() error {
	a.sum, a.at = a.d.Digest.Hash(), 0
	if err := a.in.Reset(); err != nil {
		return err
	}
	return a.in.Expect(a.d.Size)
}

// read reads the rest and proves all of it.
func (a *arrival) read(ctx context.Context, open transfer.Open) error {
	if a.at < a.d.Size || a.d.Size == 0 || a.in == nil {
		body, err := open(ctx, a.at)
		if err != nil {
			return err
		}
		err = a.copy(ctx, body)
		if closed := body.Close(); err == nil {
			err = closed
		}
		if err != nil {
			return err
		}
	}
	if !a.d.Digest.Matches(a.sum) {
		return oci.Errorf(oci.CodeDigestInvalid, "the bytes that were sent are not those of %s", a.d.Digest)
	}
	return nil
}

// copy reads to the end, which has to be that of the size.
func (a *arrival) copy(ctx context.Context, body io.Reader) error {
	buf := make([]byte, min(pieceSize-1, a.d.Size)+1) // one more than there may be
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		n, err := io.ReadFull(body, buf)
		if int64(n) > a.d.Size-a.at {
			return fmt.Errorf("%w: %d", ErrLong, a.d.Size)
		}
		if werr := a.write(buf[:n]); werr != nil {
			return werr
		}
		switch {
		case err == nil:
		case !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF):
			return err
		case a.at < a.d.Size:
			return fmt.Errorf("%w: after %d of %d", ErrShort, a.at, a.d.Size)
		default:
			return nil
		}
	}
}

func (a *arrival) write(p []byte) error {
	if a.in != nil {
		n, err := a.in.WriteAt(p, a.at)
		a.sum.Write(p[:n])
		a.at += int64(n)
		return err
	}
	a.sum.Write(p)
	a.at += int64(len(p))
	return nil
}
