package running

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"

	"sampan/internal/transfer"
)

// A lazyBody opens a blob when the first byte of it is wanted: a mirror that wants none
// has none read.
type lazyBody struct {
	ctx    context.Context // of the request whose body it is
	offset int64
	left   int64 // bytes
	open   transfer.Open
	body   io.ReadCloser // nil before
	failed atomic.Pointer[unreadable]
	once   sync.Once
	closed chan struct{} // closed with the body, which the transport does always
}

// An unreadable is why a blob cannot be read that is to be sent.
type unreadable struct{ err error }

func (e *unreadable) Error() string { return e.err.Error() }
func (e *unreadable) Unwrap() error { return e.err }

// Read implements [io.Reader].
func (b *lazyBody) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, io.EOF
	}
	if b.body == nil {
		body, err := b.open(b.ctx, b.offset)
		if err != nil {
			return 0, b.fail(err)
		}
		b.body = body
	}
	n, err := b.body.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	if errors.Is(err, io.EOF) && b.left > 0 {
		err = io.ErrUnexpectedEOF
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return n, b.fail(err)
	}
	return n, err
}

func (b *lazyBody) fail(err error) error {
	e := &unreadable{err}
	b.failed.Store(e)
	return e
}

// Close implements [io.Closer].
func (b *lazyBody) Close() error {
	err := error(nil)
	b.once.Do(func() {
		if b.body != nil {
			err = b.body.Close()
		}
		close(b.closed)
	})
	return err
}

// A watchedBody tells when some of it is wanted.
type watchedBody struct {
	io.ReadCloser
	wanted func()
}

// Read implements [io.Reader].
func (b watchedBody) Read(p []byte) (int, error) {
	b.wanted()
	return b.ReadCloser.Read(p)
}
