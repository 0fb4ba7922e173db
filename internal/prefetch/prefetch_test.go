package prefetch_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sampan/internal/oci"
	"sampan/internal/prefetch"
)

// A registry is a Reader that notes how much of each blob was read.
type registry struct {
	oci.Reader // the rest is not asked for

	mu        sync.Mutex
	manifests map[oci.Digest]oci.Manifest
	blobs     map[oci.Digest][]byte
	tags      map[string]oci.Descriptor
	read      map[oci.Digest]int
	here      map[oci.Digest]bool
	hold      chan struct{} // blobs wait for it; nil does not hold
	err       error
}

func newRegistry() *registry {
	return &registry{
		manifests: make(map[oci.Digest]oci.Manifest), blobs: make(map[oci.Digest][]byte), tags: make(map[string]oci.Descriptor),
		read: make(map[oci.Digest]int), here: make(map[oci.Digest]bool),
	}
}

func (g *registry) ResolveTag(_ context.Context, _ oci.Repository, tag oci.Tag) (oci.Descriptor, error) {
	d, ok := g.tags[tag.String()]
	if !ok {
		return d, oci.Errorf(oci.CodeManifestUnknown, "no such tag")
	}
	return d, nil
}

func (g *registry) Manifest(_ context.Context, _ oci.Repository, d oci.Digest) (oci.Manifest, error) {
	m, ok := g.manifests[d]
	if !ok {
		return m, oci.Errorf(oci.CodeManifestUnknown, "no such manifest")
	}
	return m, nil
}

func (g *registry) Blob(ctx context.Context, _ oci.Repository, d oci.Digest) (oci.BlobReader, error) {
	if g.err != nil {
		return nil, g.err
	}
	b := &blob{ReadSeeker: bytes.NewReader(g.blobs[d]), g: g, d: d, ctx: ctx}
	if g.here[d] {
		return here{b}, nil
	}
	return b, nil
}

type blob struct {
	io.ReadSeeker
	g   *registry
	d   oci.Digest
	ctx context.Context
}

func (b *blob) Descriptor() oci.Descriptor { return oci.Descriptor{Digest: b.d, Size: -1} }
func (b *blob) Close() error               { return nil }

func (b *blob) Read(p []byte) (int, error) {
	if b.g.hold != nil {
		select {
		case <-b.g.hold:
		case <-b.ctx.Done():
			return 0, b.ctx.Err()
		}
	}
	n, err := b.ReadSeeker.Read(p)
	b.g.mu.Lock()
	defer b.g.mu.Unlock()
	b.g.read[b.d] += n
	return n, err
}

type here struct{ *blob }

func (here) File() *os.File { return nil }

func (g *registry) blob(text string) oci.Descriptor {
	d := oci.DigestOf([]byte(text))
	g.blobs[d] = []byte(text)
	return oci.Descriptor{Digest: d, Size: int64(len(text))}
}

func (g *registry) manifest(t *testing.T, doc map[string]any) oci.Descriptor {
	t.Helper()
	text, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	d := oci.Descriptor{MediaType: oci.MediaTypeImageManifest, Digest: oci.DigestOf(text), Size: int64(len(text))}
	g.manifests[d.Digest] = oci.Manifest{Descriptor: d, Bytes: text}
	return d
}

// index has an image for amd64, one for arm/v7 and an attestation.
func (g *registry) index(t *testing.T) oci.Descriptor {
	t.Helper()
	var list []oci.Descriptor
	for _, p := range []*oci.Platform{{OS: "linux", Architecture: "amd64"}, {OS: "linux", Architecture: "arm", Variant: "v7"}, nil} {
		name := "attestation"
		if p != nil {
			name = p.Architecture
		}
		d := g.manifest(t, map[string]any{"config": g.blob("config of " + name), "layers": []oci.Descriptor{g.blob("base"), g.blob("layer of " + name)}})
		d.Platform = p
		list = append(list, d)
	}
	return g.manifest(t, map[string]any{"manifests": list})
}

func newPrefetcher(t *testing.T, g *registry, done func()) *prefetch.Prefetcher {
	t.Helper()
	p, err := prefetch.New(prefetch.Options{Reader: g, Log: slog.New(slog.DiscardHandler), Done: done})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

func start(t *testing.T, p *prefetch.Prefetcher, image string, platforms ...string) prefetch.Job {
	t.Helper()
	ref, err := oci.ParseReference(image)
	if err != nil {
		t.Fatal(err)
	}
	j, err := p.Start(ref, platforms)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func job(t *testing.T, p *prefetch.Prefetcher, id int) prefetch.Job {
	t.Helper()
	j, err := p.Job(id)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func TestAnImageIsReadToItsEnd(t *testing.T) {
	for _, c := range []struct {
		fact      string
		platforms []string
		blobs     string
		err       string
	}{
		{fact: "all platforms", blobs: "base, config of amd64, config of arm, config of attestation, layer of amd64, layer of arm, layer of attestation"},
		{fact: "one", platforms: []string{"linux/amd64"}, blobs: "base, config of amd64, layer of amd64"},
		{fact: "one of any variant", platforms: []string{"linux/arm"}, blobs: "base, config of arm, layer of arm"},
		{fact: "one of a variant", platforms: []string{"linux/arm/v7"}, blobs: "base, config of arm, layer of arm"},
		{fact: "one that is not there", platforms: []string{"linux/amd64", "linux/s390x"}, err: "not there for linux/s390x"},
	} {
		t.Run(c.fact, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newRegistry()
				g.tags["1"] = g.index(t)
				stored := oci.DigestOf([]byte("base"))
				g.here[stored] = true
				told := 0
				p := newPrefetcher(t, g, func() { told++ })
				j := start(t, p, "team/app:1", c.platforms...)
				synctest.Wait()
				j = job(t, p, j.ID)
				if c.err != "" {
					if j.State != prefetch.Failed || !strings.Contains(j.Error, c.err) || told != 0 {
						t.Errorf("%+v", j)
					}
					return
				}
				want := strings.Split(c.blobs, ", ")
				var size int64
				for _, name := range want {
					size += int64(len(name))
					d := oci.DigestOf([]byte(name))
					n := len(name)
					if d == stored {
						n = 0
					}
					if g.read[d] != n {
						t.Errorf("%d bytes of %s were read", g.read[d], name)
					}
					delete(g.read, d)
				}
				if len(g.read) > 0 {
					t.Errorf("others were read: %v", g.read)
				}
				if j.State != prefetch.Done || j.Blobs != len(want) || j.BlobsDone != len(want) || j.Bytes != size || j.BytesDone != size || told != 1 || j.Ended.IsZero() {
					t.Errorf("%+v, told %d times", j, told)
				}
			})
		})
	}
}

func TestWhatFailsSaysWhy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRegistry()
		g.tags["1"] = g.index(t)
		p := newPrefetcher(t, g, nil)
		none := start(t, p, "team/app:none")
		g.err = errors.New("broken")
		broken := start(t, p, "team/app:1")
		synctest.Wait()
		if j := job(t, p, none.ID); j.State != prefetch.Failed || !strings.Contains(j.Error, "no such tag") {
			t.Errorf("%+v", j)
		}
		if j := job(t, p, broken.ID); j.State != prefetch.Failed || !strings.Contains(j.Error, "broken") {
			t.Errorf("%+v", j)
		}
	})
}

func TestImagesWaitForOneAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRegistry()
		g.hold = make(chan struct{})
		g.tags["1"] = g.index(t)
		p := newPrefetcher(t, g, nil)
		var ids []int
		for range 4 {
			ids = append(ids, start(t, p, "team/app:1").ID)
		}
		synctest.Wait()
		states := func() (s string) {
			for _, id := range ids {
				s += string(job(t, p, id).State) + " "
			}
			return s
		}
		if got := states(); got != "running running waiting waiting " {
			t.Errorf("at first: %s", got)
		}
		for _, id := range []int{ids[0], ids[3]} {
			if err := p.Cancel(id); err != nil {
				t.Error(err)
			}
		}
		synctest.Wait()
		if got := states(); got != "canceled running running canceled " {
			t.Errorf("after two were canceled: %s", got)
		}
		close(g.hold)
		synctest.Wait()
		if got := states(); got != "canceled done done canceled " {
			t.Errorf("in the end: %s", got)
		}
		if err := p.Cancel(99); !errors.Is(err, prefetch.ErrNotFound) {
			t.Error(err)
		}
		if jobs := p.Jobs(); len(jobs) != 4 || jobs[0].ID != ids[3] {
			t.Errorf("%+v", jobs)
		}
	})
}

func TestJobsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRegistry()
		g.tags["1"] = g.index(t)
		p := newPrefetcher(t, g, nil)
		for i := range 300 {
			start(t, p, fmt.Sprintf("team/app%d:1", i))
			synctest.Wait()
		}
		if n := len(p.Jobs()); n > 201 {
			t.Errorf("%d jobs are remembered", n)
		}
		g.hold = make(chan struct{})
		ref, err := oci.ParseReference("team/app:1")
		if err != nil {
			t.Fatal(err)
		}
		full := 0
		for range 1100 {
			if _, err := p.Start(ref, nil); errors.Is(err, prefetch.ErrFull) {
				full++
			}
		}
		if full != 100 {
			t.Errorf("%d were too many", full)
		}
		began := time.Now()
		p.Close()
		if time.Since(began) > 0 {
			t.Error("closing waits")
		}
		if _, err := p.Start(ref, nil); err == nil {
			t.Error("it starts after the end")
		}
	})
}

func TestBringingWaitsForTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRegistry()
		g.tags["1"] = g.index(t)
		p := newPrefetcher(t, g, nil)
		bring := func(ctx context.Context, image string) (prefetch.Job, error) {
			ref, err := oci.ParseReference(image)
			if err != nil {
				t.Fatal(err)
			}
			return p.Bring(ctx, ref, nil)
		}
		if j, err := bring(t.Context(), "team/app:1"); err != nil || j.State != prefetch.Done || j.BlobsDone != 7 {
			t.Errorf("%+v, %v", j, err)
		}
		if j, err := bring(t.Context(), "team/app:none"); err != nil || j.State != prefetch.Failed {
			t.Errorf("%+v, %v", j, err)
		}
		g.hold = make(chan struct{})
		for _, image := range []string{"team/a:1", "team/b:1", "team/c:1"} { // two run, one waits
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			go func() {
				defer cancel()
				if _, err := bring(ctx, image); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("%s: %v", image, err)
				}
			}()
		}
		time.Sleep(2 * time.Minute)
		for _, j := range p.Jobs()[:3] {
			if j.State != prefetch.Canceled {
				t.Errorf("%+v", j)
			}
		}
		time.AfterFunc(time.Minute, p.Close)
		if _, err := bring(t.Context(), "team/app:1"); err == nil {
			t.Error("closing is no end")
		}
	})
}
