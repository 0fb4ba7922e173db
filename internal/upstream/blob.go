package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"strconv"
	"strings"

	"sampan/internal/oci"
)

// Blob implements [oci.Reader] with one GET at once. The reader that it returns
// does not verify the digest: its bytes are as the registry sent them, and
// whoever keeps or passes them on proves them first.
//
// A Read after a Seek, and a Read after one that failed, fetches the part that
// follows the offset; see [Registry.FetchBlob]. A body that ends before the size
// is [io.ErrUnexpectedEOF], one that breaks off or stands still is UNAVAILABLE.
// Where the registry ignores Range, what is before the offset is read and thrown
// away.
func (r *Registry) Blob(ctx context.Context, repo oci.Repository, digest oci.Digest) (oci.BlobReader, error) {
	b := &blobReader{ctx: ctx, parts: r.FetchBlob(repo, digest), digest: digest}
	if err := b.open(); err != nil {
		return nil, err
	}
	return b, nil
}

// StatBlob implements [oci.BlobStater] with a HEAD. A registry that redirects
// it proves nothing (registry.k8s.io redirects everything); then one byte is
// asked for where it leads. One that refuses a HEAD is asked for one byte as well,
// which brings its words, or the blob after all.
func (r *Registry) StatBlob(ctx context.Context, repo oci.Repository, digest oci.Digest) (oci.Descriptor, error) {
	wait := round{registry: r, left: r.askable(ctx), blobs: true}
	return within(ctx, r, wait, func(ctx context.Context, ep *endpoint) (oci.Descriptor, error) {
		q := blobQuestion(repo, digest)
		q.method = http.MethodHead
		rep, err := r.ask(ctx, ep, q)
		if err != nil && headIsMute(err) {
			rep, err = r.ask(ctx, ep, q.redirected(http.MethodGet))
		}
		if err != nil {
			return oci.Descriptor{}, err
		}
		size := rep.ContentLength
		if rep.StatusCode == http.StatusPartialContent {
			_, _, size, _ = parseContentRange(rep.Header.Get("Content-Range"))
		}
		if rep.method == http.MethodHead || size <= drainBytes {
			rep.close()
		} else {
			rep.cut()
		}
		return oci.Descriptor{Digest: digest, Size: size}, nil
	})
}

func blobQuestion(repo oci.Repository, digest oci.Digest) question {
	return question{
		kind:    kindBlob,
		method:  http.MethodGet,
		repo:    repo,
		below:   "blobs/" + digest.String(),
		header:  http.Header{},
		unknown: oci.CodeBlobUnknown,
	}
}

// A blobReader reads a blob from its registry. See [Registry.Blob].
type blobReader struct {
	ctx    context.Context // bounds its whole life
	parts  oci.BlobParts
	digest oci.Digest
	size   int64 // -1 while unknown
	offset int64 // of the next byte that Read returns

	body   io.ReadCloser // of the part that is open; nil when none is
	at     int64         // offset of the body's next byte; never beyond offset when just opened
	closed bool
}

// Descriptor implements [oci.BlobReader].
func (b *blobReader) Descriptor() oci.Descriptor {
	return oci.Descriptor{MediaType: "application/octet-stream", Digest: b.digest, Size: b.size}
}

// Seek implements [io.Seeker]. Relative to the end it needs the size.
func (b *blobReader) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekStart:
	case io.SeekCurrent:
		offset += b.offset
	case io.SeekEnd:
		if b.size < 0 {
			return 0, errors.New("upstream: the size of the blob is not known")
		}
		offset += b.size
	default:
		return 0, errors.New("upstream: invalid whence")
	}
	if offset < 0 {
		return 0, errors.New("upstream: seek before the start of a blob")
	}
	b.offset = offset
	return offset, nil
}

// Read implements [io.Reader].
func (b *blobReader) Read(p []byte) (int, error) {
	switch {
	case b.closed:
		return 0, errBodyClosed
	case len(p) == 0:
		return 0, nil
	case b.size >= 0 && b.offset >= b.size:
		return 0, io.EOF
	}
	if b.body != nil && b.at != b.offset {
		b.drop()
	}
	if b.body == nil {
		if err := b.open(); err != nil {
			return 0, err
		}
	}
	for b.at < b.offset { // what a registry without Range sends before it
		if _, err := b.receive(p[:min(int64(len(p)), b.offset-b.at)]); err != nil {
			return 0, err
		}
	}
	n, err := b.receive(p)
	b.offset += int64(n)
	return n, err
}

// receive reads once from the body, which is dropped when it ends or breaks.
func (b *blobReader) receive(p []byte) (int, error) {
	n, err := b.body.Read(p)
	b.at += int64(n)
	if errors.Is(err, io.EOF) && b.size < 0 {
		b.size = b.at
	}
	if err != nil {
		b.drop()
	}
	return n, err
}

// Close implements [io.Closer].
func (b *blobReader) Close() error {
	b.closed = true
	b.drop()
	return nil
}

func (b *blobReader) drop() {
	if b.body != nil {
		_ = b.body.Close() // nothing was written
		b.body = nil
	}
}

// open asks for the blob from the offset on.
func (b *blobReader) open() error {
	part, err := b.parts.Part(b.ctx, b.offset, -1)
	if err != nil {
		return err
	}
	b.body, b.at, b.size = part.Body, part.From, part.Size
	return nil
}

// An extent is what an answer says of the bytes in it, as offsets in the blob.
type extent struct {
	start int64 // of the first byte
	stop  int64 // behind the last byte; -1 when it does not say
	size  int64 // of the whole blob; -1 when it does not say
}

// extent reads what bytes an answer holds. It must be the whole blob or, when a
// range was asked for, begin where that does.
func (r *Registry) extent(rep *reply, from int64, ranged bool) (extent, error) {
	header := rep.Header.Get("Content-Range")
	switch {
	case rep.StatusCode == http.StatusOK:
		return extent{0, rep.ContentLength, rep.ContentLength}, nil
	case rep.StatusCode != http.StatusPartialContent || !ranged:
		return extent{}, r.noAnswer(&statusError{status: rep.StatusCode, url: redact(rep.url)}, "sent no blob")
	case strings.HasPrefix(mediaTypeOf(rep.Header), "multipart/"):
		return extent{}, r.noAnswer(fmt.Errorf("%s: %s", redact(rep.url), clean(rep.Header.Get("Content-Type"))),
			"sent several parts of a blob although one was asked for")
	}
	start, stop, size, ok := parseContentRange(header)
	if !ok || start != from {
		return extent{}, r.noAnswer(fmt.Errorf("%s: asked for bytes from %d, got %q", redact(rep.url), from, clean(header)),
			"sent another part of a blob than was asked for")
	}
	return extent{start, stop, size}, nil
}

// headSize asks the registry itself for the size of a blob; -1 when it does not
// say or only redirects.
func (r *Registry) headSize(ctx context.Context, ep *endpoint, repo oci.Repository, digest oci.Digest) int64 {
	ctx, cancel := context.WithTimeoutCause(ctx, r.timeout, errSlow)
	defer cancel()
	q := blobQuestion(repo, digest)
	ep, err := r.chooseFor(ctx, ep, q)
	if err != nil {
		return -1
	}
	g, err := r.authorize(ctx, ep, repo)
	if err != nil {
		return -1
	}
	header := http.Header{"User-Agent": {r.userAgent}, "Accept-Encoding": {"identity"}}
	if g.header != "" {
		header.Set("Authorization", g.header)
	}
	rep, err := r.send(ctx, kindBlob, http.MethodHead, ep.url(repo, q.below), header, false)
	if err != nil {
		return -1
	}
	defer rep.close()
	if rep.StatusCode != http.StatusOK {
		return -1
	}
	return rep.ContentLength
}

// parseContentRange reads "bytes first-last/size" as the offsets of the first
// byte and behind the last one; size is -1 for "*".
func parseContentRange(s string) (start, stop, size int64, ok bool) {
	unit, s, _ := strings.Cut(strings.TrimSpace(s), " ")
	span, total, found := strings.Cut(strings.TrimSpace(s), "/")
	from, to, isSpan := strings.Cut(span, "-")
	if !strings.EqualFold(unit, "bytes") || !found || !isSpan {
		return 0, 0, -1, false
	}
	start, err := parseSize(from)
	if err != nil {
		return 0, 0, -1, false
	}
	last, err := parseSize(to)
	if err != nil || last < start || last == math.MaxInt64 {
		return 0, 0, -1, false
	}
	if strings.TrimSpace(total) == "*" {
		return start, last + 1, -1, true
	}
	size, err = parseSize(total)
	if err != nil || size <= last {
		return 0, 0, -1, false
	}
	return start, last + 1, size, true
}

func parseSize(s string) (int64, error) {
	n, err := strconv.ParseUint(strings.TrimSpace(s), 10, 63)
	return int64(n), err
}
