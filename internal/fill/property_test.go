package fill_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"sampan/internal/fill"
	"sampan/internal/oci"
	"sampan/internal/store/disk"
)

// A program is what happens to one blob: lives of a process one after the other on
// the same directory. In the last one the sources are well in the end and nobody
// stops it.
type program struct {
	size    int64
	maxSize int64 // of the store; 0 is no limit
	lines   int
	lives   []programLife
}

// A programLife is one group on one opened directory.
type programLife struct {
	sources []programSource
	readers []programReader
	stop    time.Duration // 0: when the readers have ended
}

// A programSource is one repository that has the blob, with what goes wrong there.
type programSource struct {
	latency   time.Duration
	rate      int64 // bytes per second of each connection
	step      int64 // bytes of each Read
	noRanges  bool
	unsized   bool
	refuses   bool
	liesAt    int64 // the offset of a byte that is wrong; -1 for none
	whole     int   // the number of the answer that begins at 0 whatever was asked; -1 for none
	faults    []programFault
	failOpens []oci.Code // of the first answers behind the first one
}

// A programFault happens once, at the first Read at or behind an offset.
type programFault struct {
	at   int64
	kind string
}

// A programReader is one client.
type programReader struct {
	after        time.Duration
	source       int
	from, length int64
	leaves       int64 // after so many bytes; -1 for never
	chunk        int
	pause        time.Duration // between two chunks
}

// drawProgram draws one. Lying sources are in some programs only, since of their
// bytes less can be said.
func drawProgram(rt *rapid.T) program {
	p := program{
		size:  rapid.SampledFrom([]int64{0, 1, 1000, 16 << 10, 16<<10 + 1, 100_000, 1 << 20, 5<<19 + 77}).Draw(rt, "size"),
		lines: rapid.SampledFrom([]int{1, 2, 5}).Draw(rt, "lines"),
	}
	if rapid.IntRange(0, 4).Draw(rt, "limited") == 0 {
		p.maxSize = max(1, p.size*rapid.Int64Range(50, 300).Draw(rt, "percent")/100)
	}
	lies := rapid.IntRange(0, 4).Draw(rt, "lies") == 0
	n := rapid.IntRange(1, 3).Draw(rt, "lives")
	for i := range n {
		last := i == n-1
		l := programLife{}
		for range 2 {
			l.sources = append(l.sources, drawSource(rt, p, last, lies))
		}
		for range rapid.IntRange(1, 5).Draw(rt, "readers") {
			l.readers = append(l.readers, drawReader(rt, p.size))
		}
		if !last {
			l.stop = time.Duration(rapid.IntRange(1, 4000).Draw(rt, "stop ms")) * time.Millisecond
		}
		p.lives = append(p.lives, l)
	}
	return p
}

// drawSource draws a source. What goes past a store that is too small has one body
// with a size, and whoever asked waits for it: with such a store no source stalls,
// and in the last life nothing breaks.
func drawSource(rt *rapid.T, p program, last, lies bool) programSource {
	size, gentle := p.size, p.maxSize > 0 && last
	s := programSource{
		latency:  time.Duration(rapid.SampledFrom([]int{0, 10, 300}).Draw(rt, "latency")) * time.Millisecond,
		rate:     rapid.SampledFrom([]int64{0, 200 << 10, 2 << 20}).Draw(rt, "rate"),
		step:     rapid.SampledFrom([]int64{4 << 10, 64 << 10}).Draw(rt, "step"),
		noRanges: rapid.IntRange(0, 5).Draw(rt, "no ranges") == 0,
		unsized:  p.maxSize == 0 && rapid.IntRange(0, 5).Draw(rt, "no size") == 0,
		refuses:  rapid.IntRange(0, 5).Draw(rt, "refuses") == 0,
		liesAt:   -1, whole: -1,
	}
	if lies && !last && size > 0 && rapid.Bool().Draw(rt, "lies here") {
		s.liesAt = rapid.Int64Range(0, size-1).Draw(rt, "lies at")
	}
	if rapid.IntRange(0, 5).Draw(rt, "whole") == 0 {
		s.whole = rapid.IntRange(1, 4).Draw(rt, "whole nth")
	}
	if gentle {
		return s
	}
	kinds, most := []string{"break", "end", "stall"}, 4 // attempts in vain that a source is forgiven
	if p.maxSize > 0 {
		kinds = kinds[:2]
	}
	if s.unsized && last {
		most = 1 // before readers have been promised anything
	}
	for range rapid.IntRange(0, most).Draw(rt, "faults") {
		s.faults = append(s.faults, programFault{
			at:   rapid.Int64Range(0, size).Draw(rt, "fault at"),
			kind: rapid.SampledFrom(kinds).Draw(rt, "fault"),
		})
	}
	if !s.noRanges {
		codes := []oci.Code{oci.CodeTooManyRequests, oci.CodeUnavailable}
		s.failOpens = rapid.SliceOfN(rapid.SampledFrom(codes), 0, min(2, most-len(s.faults))).Draw(rt, "fail opens")
	}
	return s
}

func drawReader(rt *rapid.T, size int64) programReader {
	r := programReader{
		after:  time.Duration(rapid.SampledFrom([]int{0, 0, 5, 700, 3000}).Draw(rt, "after ms")) * time.Millisecond,
		source: rapid.IntRange(0, 1).Draw(rt, "source"),
		leaves: -1,
		chunk:  rapid.SampledFrom([]int{100, 5000, 64 << 10, 1 << 20}).Draw(rt, "chunk"),
		length: size,
	}
	if size > 0 && rapid.Bool().Draw(rt, "range") {
		r.from = rapid.Int64Range(0, size-1).Draw(rt, "from")
		r.length = rapid.Int64Range(0, size-r.from).Draw(rt, "length")
	}
	if r.length > 0 && rapid.IntRange(0, 3).Draw(rt, "leaves") == 0 {
		r.leaves = rapid.Int64Range(0, r.length-1).Draw(rt, "leaves after")
	}
	if r.length > 0 && r.length/int64(r.chunk) < 100 && rapid.IntRange(0, 3).Draw(rt, "slow") == 0 {
		r.pause = 50 * time.Millisecond
	}
	return r
}

// A played source counts what it sent.
type played struct {
	programSource
	body []byte

	mu          sync.Mutex
	opens       int
	wholes      int // answers that began at 0 without need
	sent        int64
	outstanding []programFault
}

func newPlayed(s programSource, want []byte) *played {
	p := &played{programSource: s, body: want, outstanding: slices.Clone(s.faults)}
	if s.liesAt >= 0 {
		p.body = bytes.Clone(want)
		p.body[s.liesAt] ^= 0x55
	}
	return p
}

// Part implements [oci.BlobParts].
func (p *played) Part(ctx context.Context, from, to int64) (oci.BlobPart, error) {
	if err := sleep(ctx, p.latency); err != nil {
		return oci.BlobPart{}, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	n := p.opens
	p.opens++
	size := int64(len(p.body))
	switch {
	case p.refuses:
		return oci.BlobPart{}, oci.Errorf(oci.CodeBlobUnknown, "not here")
	case n > 0 && n <= len(p.failOpens):
		return oci.BlobPart{}, &oci.Error{Code: p.failOpens[n-1], RetryAfter: time.Second}
	case from > 0 && from >= size:
		if n == 0 {
			p.opens = 0 // it tells no size, so that a limit behind it may be the reader's answer: the next one is the first
		}
		return oci.BlobPart{}, oci.Errorf(oci.CodeRangeInvalid, "nothing there")
	}
	whole := p.noRanges || n == p.whole
	if whole {
		from, to = 0, -1
		p.wholes++
	}
	if to < 0 || to > size {
		to = size
	}
	told := size
	if p.unsized {
		told = -1
	}
	return oci.BlobPart{Body: &playedBody{p, ctx, from, to}, Size: told, From: from, Whole: p.noRanges}, nil
}

type playedBody struct {
	p      *played
	ctx    context.Context
	at, to int64
}

func (b *playedBody) Close() error { return nil }

// Read implements [io.Reader].
func (b *playedBody) Read(buf []byte) (int, error) {
	if err := b.fault(); err != nil {
		return 0, err
	}
	n := int64(copy(buf[:min(int64(len(buf)), b.p.step)], b.p.body[b.at:b.to]))
	if n == 0 {
		return 0, io.EOF
	}
	if b.p.rate > 0 {
		if err := sleep(b.ctx, time.Duration(n*int64(time.Second)/b.p.rate)); err != nil {
			return 0, err
		}
	}
	b.at += n
	b.p.mu.Lock()
	b.p.sent += n
	b.p.mu.Unlock()
	return int(n), nil
}

// fault lets happen what is due here.
func (b *playedBody) fault() error {
	b.p.mu.Lock()
	i := slices.IndexFunc(b.p.outstanding, func(f programFault) bool { return b.at >= f.at })
	if i < 0 {
		b.p.mu.Unlock()
		return nil
	}
	kind := b.p.outstanding[i].kind
	b.p.outstanding = slices.Delete(b.p.outstanding, i, i+1)
	b.p.mu.Unlock()
	switch kind {
	case "stall":
		<-b.ctx.Done()
		return b.ctx.Err()
	case "end":
		if b.p.unsized { // would be the end of the blob
			return io.ErrUnexpectedEOF
		}
		return io.EOF
	}
	return errors.New("connection reset")
}

// A run plays one program.
type run struct {
	program
	dir    string
	want   []byte
	digest oci.Digest
	played []*played
	stops  int

	mu   sync.Mutex
	errs []error
}

func (r *run) fail(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.errs = append(r.errs, fmt.Errorf(format, args...))
}

// lied tells whether a source of any life lies.
func (r *run) lied() bool {
	return slices.ContainsFunc(r.lives, func(l programLife) bool {
		return slices.ContainsFunc(l.sources, func(s programSource) bool { return s.liesAt >= 0 })
	})
}

// TestAnyProgramOfReadersBreaksAndRestarts holds what readers get against the
// content, and what crossed against the size.
func TestAnyProgramOfReadersBreaksAndRestarts(t *testing.T) {
	contents := make(map[int64][]byte)
	rapid.Check(t, func(rt *rapid.T) {
		p := drawProgram(rt)
		if contents[p.size] == nil {
			contents[p.size] = content(int(p.size), 70)
		}
		r := &run{program: p, want: contents[p.size], digest: oci.DigestOf(contents[p.size])}
		synctest.Test(t, func(t *testing.T) {
			r.dir = t.TempDir()
			for i := range r.lives {
				r.live(t, i)
			}
		})
		r.account()
		if err := errors.Join(r.errs...); err != nil {
			rt.Fatalf("%v\nprogram: %+v", err, p)
		}
	})
}

// logRoom is for the store's log of blobs, which counts as well: some records.
const logRoom = 2 << 10

// live plays one life.
func (r *run) live(t *testing.T, i int) {
	l, last := r.lives[i], i == len(r.lives)-1
	var limits disk.Limits
	if r.maxSize > 0 {
		limits.MaxSize = disk.Bytes(r.maxSize + logRoom)
	}
	s, err := disk.New(disk.Options{Dir: r.dir, Limits: limits})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	g, err := fill.New(fill.Options{Store: s, Log: slog.New(slog.DiscardHandler), Lines: r.lines})
	if err != nil {
		t.Fatal(err)
	}
	sources := make([]*played, len(l.sources))
	for n, ps := range l.sources {
		sources[n] = newPlayed(ps, r.want)
	}
	r.played = append(r.played, sources...)
	var readers sync.WaitGroup
	for n, pr := range l.readers {
		readers.Go(func() {
			if err := r.read(t.Context(), g, sources[pr.source], pr); err != nil && last && !r.excused(sources[pr.source], err) {
				r.fail("reader %d of the last life: %w", n, err)
			}
		})
	}
	if l.stop > 0 {
		time.Sleep(l.stop)
		g.Close()
		r.stops++
	}
	readers.Wait()
	if last {
		r.end(t.Context(), g, s)
	}
	g.Close()
	if held, limit := r.onDisk(t), r.maxSize+logRoom; r.maxSize > 0 && held > limit {
		r.fail("%d bytes on a disk of %d", held, limit)
	}
}

// read is one reader. What it got is compared; why it did not get all is returned.
func (r *run) read(ctx context.Context, g *fill.Group, src *played, pr programReader) error {
	time.Sleep(pr.after)
	b, err := g.Open(ctx, r.digest, fill.Source{Upstream: "test", Repository: "test/app", Parts: src})
	if err != nil {
		return err
	}
	defer b.Close()
	if size := b.Descriptor().Size; size != r.size {
		r.fail("the size is told as %d, want %d", size, r.size)
		return nil
	}
	if _, err := b.Seek(pr.from, io.SeekStart); err != nil {
		return err
	}
	var got []byte
	buf := make([]byte, pr.chunk)
	for int64(len(got)) < pr.length && (pr.leaves < 0 || int64(len(got)) < pr.leaves) {
		n, err := b.Read(buf[:min(int64(len(buf)), pr.length-int64(len(got)))])
		got = append(got, buf[:n]...)
		if err != nil {
			r.compare(pr, got)
			return fmt.Errorf("after %d bytes of [%d, %d): %w", len(got), pr.from, pr.from+pr.length, err)
		}
		time.Sleep(pr.pause)
	}
	r.compare(pr, got)
	return nil
}

// compare: without lies every byte is right, and with them never all of a blob.
func (r *run) compare(pr programReader, got []byte) {
	want := r.want[pr.from : pr.from+pr.length]
	whole := int64(len(got)) == r.size
	if (whole || !r.lied()) && !bytes.HasPrefix(want, got) {
		r.fail("%d bytes at %d are wrong", len(got), pr.from)
	}
}

// excused: the reader's own source refuses, or an earlier life has left a lie.
func (r *run) excused(src *played, err error) bool {
	return src.refuses && errors.Is(err, oci.ErrBlobUnknown) || r.lied() && errors.Is(err, fill.ErrMismatch)
}
