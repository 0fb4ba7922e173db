package running

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"sampan/internal/oci"
	"sampan/internal/transfer"
)

// An arrivedBlob is what the mirror has of a blob.
type arrivedBlob struct {
	Here bool
	Have int64 // what has arrived of a part, where other bytes were sent; in bytes
}

// PutBlob implements [transfer.Writer]. It goes on where the mirror says that it has
// something.
func (m *Mirror) PutBlob(ctx context.Context, repo oci.Repository, d oci.Descriptor, open transfer.Open, _ []oci.Repository) error {
	began, offset, most, bad, anew := time.Now(), int64(0), int64(0), 0, false
	for {
		err := m.send(ctx, repo, d, offset, open)
		var source *unreadable
		switch status := statusOf(err); {
		case err == nil:
			return nil
		case errors.As(err, &source):
			return source.err
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case status == http.StatusConflict && time.Since(began) < busyFor: // somebody else is at it
			if err := sleep(ctx, m.busy); err != nil {
				return err
			}
			continue
		case status == http.StatusUnprocessableEntity && offset > 0 && !anew: // what was there was wrong
			anew, offset = true, 0
			continue
		case status == http.StatusRequestedRangeNotSatisfiable:
			offset = offsetOf(err)
			if offset > most {
				most, bad = offset, 0
				continue
			}
		case status != 0 && status < http.StatusInternalServerError, status == http.StatusInsufficientStorage:
			return err
		}
		bad++
		if err := m.o.Pause(ctx, bad, err); err != nil {
			return err
		}
	}
}

// send sends a blob from an offset on. When it returns, nobody reads the blob any more: a
// transport may read on for a while after the answer is there.
func (m *Mirror) send(ctx context.Context, repo oci.Repository, d oci.Descriptor, offset int64, open transfer.Open) error {
	q := url.Values{
		"repository": {repo.String()}, "digest": {d.Digest.String()},
		"size": {strconv.FormatInt(d.Size, 10)}, "offset": {strconv.FormatInt(offset, 10)},
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	body := &lazyBody{ctx: ctx, offset: offset, left: d.Size - offset, open: open, closed: make(chan struct{})}
	err := m.do(ctx, request{http.MethodPut, pathBlob, q, body, d.Size - offset}, nil)
	failed := body.failed.Load() // before it fails because of cancel
	cancel()
	<-body.closed
	if failed != nil {
		return failed
	}
	return err
}
