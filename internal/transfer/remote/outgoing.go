package remote

import (
	"errors"
	"hash"
	"io"

	"sampan/internal/oci"
)

// A proof hashes a blob on its way out. Bytes that are sent again are hashed once. Where
// the registry has some that were not sent, there is no proof but the registry's.
type proof struct {
	d   oci.Descriptor
	sum hash.Hash
	at  int64 // how many bytes have been hashed
}

func newProof(d oci.Descriptor) *proof { return &proof{d: d, sum: d.Digest.Hash()} }

// add takes bytes of the blob at an offset, and tells whether the blob can still be what
// it should be.
func (p *proof) add(at int64, b []byte) bool {
	if end := at + int64(len(b)); at <= p.at && end > p.at {
		p.sum.Write(b[p.at-at:])
		p.at = end
	}
	return p.at != p.d.Size || p.good()
}

// good tells that all of the blob has been hashed and is what it should be.
func (p *proof) good() bool { return p.at == p.d.Size && p.d.Digest.Matches(p.sum) }

// An outgoing body is so many bytes of a source from an offset on. Its errors are the
// source's. The last bytes of a blob that is not what its digest says do not leave, so
// that the registry never has all of it.
type outgoing struct {
	body  io.ReadCloser
	proof *proof
	at    int64 // offset in the blob
	left  int64 // bytes
}

// Read implements [io.Reader].
func (o *outgoing) Read(p []byte) (int, error) {
	if o.left <= 0 {
		return 0, io.EOF
	}
	n, err := o.body.Read(p[:min(int64(len(p)), o.left)])
	if !o.proof.add(o.at, p[:n]) {
		return 0, &sourceError{oci.Errorf(oci.CodeDigestInvalid, "the bytes that the source gives for %s are others than its digest says", o.proof.d.Digest)}
	}
	o.at += int64(n)
	o.left -= int64(n)
	if err != nil && !errors.Is(err, io.EOF) {
		err = &sourceError{err}
	}
	if errors.Is(err, io.EOF) && o.left > 0 {
		err = &sourceError{io.ErrUnexpectedEOF}
	}
	return n, err
}

// Close implements [io.Closer].
func (o *outgoing) Close() error { return o.body.Close() }

// A sourceError is why a blob cannot be read: nothing the target could do about it.
type sourceError struct{ err error }

func (e *sourceError) Error() string { return e.err.Error() }
func (e *sourceError) Unwrap() error { return e.err }
