package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"sampan/internal/oci"
	"sampan/internal/transfer"
)

// A mirrorWriter brings images to a running mirror by its admin listener. Make one with
// newMirrorWriter, and end it with close.
type mirrorWriter struct {
	m      *runningMirror
	client *http.Client
	pins   *pins // nil pins nothing
	// patience is how long the mirror may take neither bytes nor answer.
	patience time.Duration
	// pause is as that of [transfer.Options].
	pause func(ctx context.Context, n int, err error) error
}

var (
	_ transfer.Writer      = (*mirrorWriter)(nil)
	_ transfer.TagResolver = (*mirrorWriter)(nil)
)

// continueAfter is how long to wait for the mirror to want the body of a blob.
const continueAfter = 30 * time.Second

func newMirrorWriter(m *runningMirror) *mirrorWriter {
	return &mirrorWriter{
		m: m, patience: adminTimeout, pause: transfer.Backoff,
		client: &http.Client{Transport: &http.Transport{ExpectContinueTimeout: continueAfter, MaxIdleConnsPerHost: 16}},
	}
}

func (w *mirrorWriter) close() { w.client.CloseIdleConnections() }

// A mirrorRefusal is an answer of the mirror that is no success.
type mirrorRefusal struct {
	host, status, said string
	code               int
	token              bool // was sent
}

func (e *mirrorRefusal) Error() string {
	said := fmt.Sprintf("%s: %s: %.300s", e.host, e.status, e.said)
	switch e.code {
	case http.StatusNotFound, http.StatusMethodNotAllowed:
		return said + "\n" + text("Is this the admin listener of a mirror? It is not where clients pull.", "这是镜像站的管理地址吗？它不是客户端拉取镜像的地址。")
	case http.StatusUnauthorized:
		if e.token {
			return said + "\n" + text("The token that was given is another than that in the mirror's admin.token_file.", "所给令牌与镜像站 admin.token_file 中的不同。")
		}
		return said + "\n" + text("Give the token with --admin-token-file.", "请用 --admin-token-file 提供令牌。")
	case http.StatusInsufficientStorage:
		return said + "\n" + text(
			"The mirror has no room: raise data.max_size, delete or unpin images, or load fewer of them. What has arrived is kept for the next run.",
			"镜像站空间不足：请增大 data.max_size，删除或取消固定一些镜像，或减少载入的镜像。已到达的内容会保留到下次运行。")
	}
	return said
}

// As lets others tell an answer from silence: that is not asked for again.
func (e *mirrorRefusal) As(target any) bool {
	t, ok := target.(**oci.Error)
	if !ok {
		return false
	}
	code := oci.CodeDenied
	switch e.code {
	case http.StatusNotFound:
		code = oci.CodeManifestUnknown
	case http.StatusConflict, http.StatusRequestedRangeNotSatisfiable, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		code = oci.CodeUnavailable
	}
	*t = &oci.Error{Code: code}
	return true
}

// errNoAnswer: a mirror that was connected to does not go on.
var errNoAnswer = errors.New("no answer")

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

// do asks the mirror, and reads a JSON document into v where it is not nil.
func (w *mirrorWriter) do(ctx context.Context, method, path string, q url.Values, size int64, body io.Reader, v any) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watch := time.AfterFunc(w.patience, func() {
		cancel(fmt.Errorf(text("%w for %s", "%w：已等待 %s"), errNoAnswer, w.patience))
	})
	defer watch.Stop()
	if long, ok := body.(io.ReadCloser); ok {
		body = watchedBody{long, func() { watch.Reset(w.patience) }}
	}
	err := w.ask(ctx, method, path, q, size, body, v)
	if cause := context.Cause(ctx); err != nil && errors.Is(cause, errNoAnswer) {
		return silent(w.m.base, cause)
	}
	return err
}

func (w *mirrorWriter) ask(ctx context.Context, method, path string, q url.Values, size int64, body io.Reader, v any) error {
	req, err := http.NewRequestWithContext(ctx, method, w.m.base+path+"?"+q.Encode(), body)
	if err != nil {
		if c, ok := body.(io.Closer); ok {
			err = errors.Join(err, c.Close())
		}
		return err
	}
	if body != nil {
		req.ContentLength = size
		req.Header.Set("Content-Type", "application/octet-stream")
		req.Header.Set("Expect", "100-continue")
	}
	if w.m.token != "" {
		req.Header.Set("Authorization", "Bearer "+w.m.token)
	}
	resp, err := w.client.Do(req)
	if err != nil {
		return silent(req.URL.Host, err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return silent(req.URL.Host, err)
	}
	if resp.StatusCode != http.StatusOK {
		return &mirrorRefusal{req.URL.Host, resp.Status, strings.TrimSpace(string(answer)), resp.StatusCode, w.m.token != ""}
	}
	if v == nil {
		return nil
	}
	if err := json.Unmarshal(answer, v); err != nil {
		return fmt.Errorf(text("the answer is not that of a mirror: %w", "应答不是镜像站的格式：%w"), err)
	}
	return nil
}

// silent says that the mirror gave no answer, and why.
func silent(host string, err error) error {
	var failure *url.Error
	if errors.As(err, &failure) {
		err = failure.Err // the address is told here, without its query
	}
	return fmt.Errorf("%s: %w\n%s", host, err, text("Is the mirror running, and is this its admin listener?", "镜像站是否在运行？这是它的管理地址吗？"))
}

const (
	pathBlob     = "/api/v1/intake/blob"
	pathManifest = "/api/v1/intake/manifest"
	pathPins     = "/api/v1/pins"
)

// An arrivedBlob is what the mirror has of a blob.
type arrivedBlob struct {
	Here bool
	Have int64 // what has arrived of a part, where other bytes were sent; in bytes
}

// A takenManifest is one that the mirror has, with what it calls the repository.
type takenManifest struct {
	oci.Descriptor
	Repository string
}

// manifest asks for a tag or digest.
func (w *mirrorWriter) manifest(ctx context.Context, repo oci.Repository, reference string) (d takenManifest, err error) {
	q := url.Values{"repository": {repo.String()}, "reference": {reference}}
	return d, w.do(ctx, http.MethodGet, pathManifest, q, 0, nil, &d)
}

// Has implements [transfer.Writer].
func (w *mirrorWriter) Has(ctx context.Context, repo oci.Repository, d oci.Descriptor) (bool, error) {
	if oci.IsManifestType(d.MediaType) {
		_, err := w.manifest(ctx, repo, d.Digest.String())
		if statusOf(err) == http.StatusNotFound {
			return false, nil
		}
		return err == nil, err
	}
	var a arrivedBlob
	q := url.Values{"repository": {repo.String()}, "digest": {d.Digest.String()}}
	err := w.do(ctx, http.MethodGet, pathBlob, q, 0, nil, &a)
	return a.Here, err
}

// ResolveTag implements [transfer.TagResolver].
func (w *mirrorWriter) ResolveTag(ctx context.Context, repo oci.Repository, tag oci.Tag) (oci.Descriptor, error) {
	d, err := w.manifest(ctx, repo, tag.String())
	return d.Descriptor, err
}

// statusOf is that of an answer; 0 when there was none.
func statusOf(err error) int {
	var e *mirrorRefusal
	if errors.As(err, &e) {
		return e.code
	}
	return 0
}

const (
	// busyPause is how long to wait for somebody else who brings the same blob, and
	// busyFor how long in all.
	busyPause = 500 * time.Millisecond
	busyFor   = 30 * time.Minute
)

// PutBlob implements [transfer.Writer]. It goes on where the mirror says that it has
// something.
func (w *mirrorWriter) PutBlob(ctx context.Context, repo oci.Repository, d oci.Descriptor, open transfer.Open, _ []oci.Repository) error {
	began, offset, most, bad, anew := time.Now(), int64(0), int64(0), 0, false
	for {
		err := w.send(ctx, repo, d, offset, open)
		var source *unreadable
		switch status := statusOf(err); {
		case err == nil:
			return nil
		case errors.As(err, &source):
			return source.err
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case status == http.StatusConflict && time.Since(began) < busyFor: // somebody else is at it
			if err := sleep(ctx, busyPause); err != nil {
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
		if err := w.pause(ctx, bad, err); err != nil {
			return err
		}
	}
}

// offsetOf is from where on the mirror wants to be sent a blob.
func offsetOf(err error) int64 {
	var e *mirrorRefusal
	var a arrivedBlob
	if errors.As(err, &e) && json.Unmarshal([]byte(e.said), &a) == nil && a.Have > 0 {
		return a.Have
	}
	return 0
}

// send sends a blob from an offset on. When it returns, nobody reads the blob any more: a
// transport may read on for a while after the answer is there.
func (w *mirrorWriter) send(ctx context.Context, repo oci.Repository, d oci.Descriptor, offset int64, open transfer.Open) error {
	q := url.Values{
		"repository": {repo.String()}, "digest": {d.Digest.String()},
		"size": {strconv.FormatInt(d.Size, 10)}, "offset": {strconv.FormatInt(offset, 10)},
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	body := &lazyBody{ctx: ctx, offset: offset, left: d.Size - offset, open: open, closed: make(chan struct{})}
	err := w.do(ctx, http.MethodPut, pathBlob, q, d.Size-offset, body, nil)
	failed := body.failed.Load() // before it fails because of cancel
	cancel()
	<-body.closed
	if failed != nil {
		return failed
	}
	return err
}

// PutManifest implements [transfer.Writer], and pins what is to be pinned.
func (w *mirrorWriter) PutManifest(ctx context.Context, repo oci.Repository, d oci.Descriptor, raw []byte, tags []oci.Tag) error {
	q := url.Values{"repository": {repo.String()}, "digest": {d.Digest.String()}, "media_type": {d.MediaType}}
	for _, t := range tags {
		q.Add("tag", t.String())
	}
	var taken takenManifest
	for began := time.Now(); ; {
		err := w.do(ctx, http.MethodPut, pathManifest, q, int64(len(raw)), bytes.NewReader(raw), &taken)
		if statusOf(err) != http.StatusConflict || time.Since(began) > busyFor {
			if err != nil {
				return err
			}
			break
		}
		if err := sleep(ctx, busyPause); err != nil {
			return err
		}
	}
	if w.pins == nil {
		return nil
	}
	g, err := oci.Manifest{Descriptor: d, Bytes: raw}.Graph()
	if err != nil {
		return err
	}
	references := q["tag"]
	if at := (pinPlace{repo, d.Digest}); len(tags) == 0 && (!g.Subject.Digest.IsZero() || w.pins.roots[at]) {
		references = []string{d.Digest.String()}
	}
	return w.pin(ctx, taken.Repository, references...)
}
