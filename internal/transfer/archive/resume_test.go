package archive

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"sampan/internal/oci"
	"sampan/internal/progress"
	"sampan/internal/registrytest"
)

// A save that was killed in the middle of a blob goes on there.
func TestABlobIsFetchedFromWhereItWas(t *testing.T) {
	b := start(t)
	image := b.AddImage("one", "1", registrytest.ImageSpec{Layers: []int64{3_000_000}})
	p := plan(t, PlanOptions{}, b.source(t, "one:1", "one:1"))
	want := content(t, write(t, p, WriteOptions{}))
	layer := image.Layers[0][0]
	f, err := formOf(p, OCI, nil)
	if err != nil {
		t.Fatal(err)
	}
	var place entry
	for _, e := range f.entries {
		if e.digest == layer.Digest {
			place = e
		}
	}
	for fact, c := range map[string]struct {
		left  int64 // bytes of the layer that are there
		wrong bool  // one of them is another
		sent  int64
	}{
		"nothing was there":               {0, false, layer.Size},
		"a little":                        {1, false, layer.Size - 1},
		"the half":                        {layer.Size / 2, false, layer.Size - layer.Size/2},
		"all, and it was not proven":      {layer.Size, false, 0},
		"the half, but something else":    {layer.Size / 2, true, layer.Size + layer.Size - layer.Size/2},
		"all of it, but something else":   {layer.Size, true, layer.Size},
		"all but the last, which is fine": {layer.Size - 1, false, 1},
	} {
		t.Run(fact, func(t *testing.T) {
			name := filepath.Join(t.TempDir(), "x.tar")
			partial := bytes.Clone(want)
			clear(partial[place.at:place.dataAt()])
			clear(partial[place.dataAt()+c.left : place.dataAt()+place.size])
			if c.wrong {
				partial[place.dataAt()] ^= 1
			}
			if err := os.WriteFile(name+partialSuffix, partial, 0o600); err != nil {
				t.Fatal(err)
			}
			b.ResetCounts()
			if _, err := Write(t.Context(), p, name, WriteOptions{Pause: noPause}); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(content(t, name), want) {
				t.Error("the archive is another")
			}
			if got := b.BytesSentOf(layer.Digest); got != c.sent {
				t.Errorf("%d bytes were fetched, want %d", got, c.sent)
			}
		})
	}
}

// A lineCounter hears how many pieces begin.
type lineCounter struct {
	progress.Sink
	begun atomic.Int32
}

func (c *lineCounter) Start(name string, size int64) progress.Line {
	c.begun.Add(1)
	return c.Sink.Start(name, size)
}

// A save that has failed, or was ended, begins no blob any more: what an earlier run has left
// of it is not read for nothing, and nobody is told of each that it failed.
func TestASaveThatHasFailedBeginsNoBlob(t *testing.T) {
	b := start(t)
	b.AddImage("one", "1", registrytest.ImageSpec{Layers: []int64{1000, 1001, 1002, 1003}})
	p := plan(t, PlanOptions{}, b.source(t, "one:1", "one:1"))
	b.SetBehavior(registrytest.Behavior{Faults: []registrytest.Fault{{Answer: registrytest.Status(http.StatusForbidden)}}})
	seen := &lineCounter{Sink: progress.None()}
	if _, err := Write(t.Context(), p, filepath.Join(t.TempDir(), "x.tar"), WriteOptions{Blobs: 1, Progress: seen, Pause: noPause}); err == nil {
		t.Fatal("it is saved")
	}
	if n := seen.begun.Load(); n != 1 {
		t.Errorf("%d blobs were begun", n)
	}
}

// limited is a reader of one blob whose registry limits the rate once.
type limited struct {
	oci.Reader
	raw   []byte
	limit error // nil once it was told
}

func (l *limited) FetchBlob(oci.Repository, oci.Digest) oci.BlobParts { return l }

func (l *limited) Part(_ context.Context, from, _ int64) (oci.BlobPart, error) {
	if err := l.limit; err != nil {
		l.limit = nil
		return oci.BlobPart{}, err
	}
	return oci.BlobPart{Body: io.NopCloser(bytes.NewReader(l.raw[from:])), From: from, Size: int64(len(l.raw))}, nil
}

func TestARateLimitIsWaitedForAsLongAsItSays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		raw := []byte("a layer")
		o := WriteOptions{}
		o.fill()
		d := oci.Descriptor{Digest: oci.DigestOf(raw), Size: int64(len(raw))}
		l := &limited{raw: raw, limit: &oci.Error{Code: oci.CodeTooManyRequests, RetryAfter: 40 * time.Second}}
		w := &writer{plan: &Plan{blobs: map[oci.Digest]plannedBlob{d.Digest: {descriptor: d, reader: l}}}, options: o}
		began := time.Now()
		var got bytes.Buffer
		err := w.fetch(t.Context(), entry{digest: d.Digest, size: d.Size}, &got, progress.None().Start("", 0), 0)
		if err != nil || !bytes.Equal(got.Bytes(), raw) || time.Since(began) != 40*time.Second {
			t.Errorf("%q, %v, after %v", got.Bytes(), err, time.Since(began))
		}
	})
}
