// Package running is a running mirror as what transfer writes to: a client of the intake
// that its admin listener has.
//
// It promises:
//   - of a blob no byte is read that the mirror does not want: it is opened when the
//     first one is asked for, and from the offset on that the mirror tells;
//   - a blob is read by one at a time, and by nobody when PutBlob has returned;
//   - why a blob cannot be read is told as that, and is not blamed on the mirror;
//   - a mirror that gives no answer is asked again for a blob, for as long as
//     [Options.Pause] allows, and one that takes neither bytes nor gives an answer for
//     [Options.Patience] is given up;
//   - who else brings the same content is waited for, half an hour at most;
//   - what is to stay ([Mirror.Pin]) is pinned once, whether it had to be brought or not.
//
// It asks past any proxy. It reads no archives and decides nothing about names: which
// repository is meant, the mirror says.
//
// Lock order: pins.mu is a leaf.
package running

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"sampan/internal/oci"
	"sampan/internal/transfer"
)

// Options say which mirror is meant. Address is needed.
type Options struct {
	// Address is the URL of its admin listener, such as http://127.0.0.1:5001.
	Address string
	// Token is that of its admin listener; empty means that none is sent.
	Token string
	// Patience is how long the mirror may take neither bytes nor give an answer; zero
	// means ten minutes.
	Patience time.Duration
	// Pause waits before a blob is sent again, the n-th time from 1 on without progress;
	// see [transfer.Options]. Nil means [transfer.Backoff].
	Pause func(ctx context.Context, n int, err error) error
}

// A Mirror is a running mirror. Make one with [New], and end it with Close. Its methods
// may be called concurrently, but for Pin, which comes first.
type Mirror struct {
	o      Options
	host   string
	client *http.Client
	pins   *pins         // nil pins nothing
	busy   time.Duration // how long to wait for somebody else who brings the same
}

var (
	_ transfer.Writer      = (*Mirror)(nil)
	_ transfer.TagResolver = (*Mirror)(nil)
)

const (
	// continueAfter is how long to wait for the mirror to want the body of a blob.
	continueAfter = 30 * time.Second
	// busyPause is how long to wait for somebody else who brings the same before asking
	// again, and busyFor how long in all.
	busyPause = 500 * time.Millisecond
	busyFor   = 30 * time.Minute
	// maxAnswer bounds an answer, in bytes.
	maxAnswer = 32 << 20
)

// New makes a Mirror. It asks nobody.
func New(o Options) (*Mirror, error) {
	u, err := url.Parse(o.Address)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("running: %q is not the URL of an admin listener", o.Address)
	}
	o.Address = strings.TrimRight(o.Address, "/")
	o.Patience = cmp.Or(o.Patience, 10*time.Minute)
	if o.Pause == nil {
		o.Pause = transfer.Backoff
	}
	return &Mirror{
		o: o, host: u.Host, busy: busyPause,
		client: &http.Client{Transport: &http.Transport{ExpectContinueTimeout: continueAfter, MaxIdleConnsPerHost: 16}},
	}, nil
}

// Close ends connections that nobody uses.
func (m *Mirror) Close() { m.client.CloseIdleConnections() }

// A request is one question to the mirror.
type request struct {
	method, path string
	query        url.Values
	body         io.Reader // nil for none
	size         int64     // of the body, in bytes
}

// do asks the mirror, and reads a JSON document into v where it is not nil.
func (m *Mirror) do(ctx context.Context, r request, v any) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watch := time.AfterFunc(m.o.Patience, func() { cancel(fmt.Errorf("%w for %s", ErrNoAnswer, m.o.Patience)) })
	defer watch.Stop()
	if long, ok := r.body.(io.ReadCloser); ok {
		r.body = watchedBody{long, func() { watch.Reset(m.o.Patience) }}
	}
	err := m.ask(ctx, r, v)
	if cause := context.Cause(ctx); err != nil && errors.Is(cause, ErrNoAnswer) {
		return &Silence{m.host, cause}
	}
	return err
}

func (m *Mirror) ask(ctx context.Context, r request, v any) error {
	req, err := http.NewRequestWithContext(ctx, r.method, m.o.Address+r.path+"?"+r.query.Encode(), r.body)
	if err != nil {
		if c, ok := r.body.(io.Closer); ok {
			err = errors.Join(err, c.Close())
		}
		return err
	}
	if r.body != nil {
		req.ContentLength = r.size
		req.Header.Set("Content-Type", "application/octet-stream")
		req.Header.Set("Expect", "100-continue")
	}
	if m.o.Token != "" {
		req.Header.Set("Authorization", "Bearer "+m.o.Token)
	}
	resp, err := m.client.Do(req)
	if err != nil {
		return silent(m.host, err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return silent(m.host, err)
	}
	if resp.StatusCode != http.StatusOK {
		return &Refusal{Host: m.host, Status: resp.Status, Code: resp.StatusCode, Said: strings.TrimSpace(string(answer)), Token: m.o.Token != ""}
	}
	if v == nil {
		return nil
	}
	if err := json.Unmarshal(answer, v); err != nil {
		return fmt.Errorf("%s: %w: %s", m.host, ErrForeign, err.Error())
	}
	return nil
}

const (
	pathBlob     = "/api/v1/intake/blob"
	pathManifest = "/api/v1/intake/manifest"
	pathPins     = "/api/v1/pins"
)

// A takenManifest is one that the mirror has, with what it calls the repository.
type takenManifest struct {
	oci.Descriptor
	Repository string
}

// manifest asks for a tag or digest.
func (m *Mirror) manifest(ctx context.Context, repo oci.Repository, reference string) (d takenManifest, err error) {
	q := url.Values{"repository": {repo.String()}, "reference": {reference}}
	return d, m.do(ctx, request{method: http.MethodGet, path: pathManifest, query: q}, &d)
}

// Has implements [transfer.Writer].
func (m *Mirror) Has(ctx context.Context, repo oci.Repository, d oci.Descriptor) (bool, error) {
	if oci.IsManifestType(d.MediaType) {
		_, err := m.manifest(ctx, repo, d.Digest.String())
		if statusOf(err) == http.StatusNotFound {
			return false, nil
		}
		return err == nil, err
	}
	var a arrivedBlob
	q := url.Values{"repository": {repo.String()}, "digest": {d.Digest.String()}}
	err := m.do(ctx, request{method: http.MethodGet, path: pathBlob, query: q}, &a)
	return a.Here, err
}

// ResolveTag implements [transfer.TagResolver].
func (m *Mirror) ResolveTag(ctx context.Context, repo oci.Repository, tag oci.Tag) (oci.Descriptor, error) {
	d, err := m.manifest(ctx, repo, tag.String())
	return d.Descriptor, err
}

// PutManifest implements [transfer.Writer], and pins what is to be pinned.
func (m *Mirror) PutManifest(ctx context.Context, repo oci.Repository, d oci.Descriptor, raw []byte, tags []oci.Tag) error {
	q := url.Values{"repository": {repo.String()}, "digest": {d.Digest.String()}, "media_type": {d.MediaType}}
	for _, t := range tags {
		q.Add("tag", t.String())
	}
	var taken takenManifest
	for began := time.Now(); ; {
		err := m.do(ctx, request{http.MethodPut, pathManifest, q, bytes.NewReader(raw), int64(len(raw))}, &taken)
		if err == nil {
			break
		}
		if statusOf(err) != http.StatusConflict || time.Since(began) > busyFor {
			return err
		}
		if err := sleep(ctx, m.busy); err != nil {
			return err
		}
	}
	if m.pins == nil {
		return nil
	}
	g, err := oci.Manifest{Descriptor: d, Bytes: raw}.Graph()
	if err != nil {
		return err
	}
	references := q["tag"]
	if at := (pinPlace{repo, d.Digest}); len(tags) == 0 && (!g.Subject.Digest.IsZero() || m.pins.roots[at]) {
		references = []string{d.Digest.String()}
	}
	return m.pin(ctx, taken.Repository, references...)
}

// sleep waits, or returns why it did not.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}
