package cache_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sampan/internal/cache"
	"sampan/internal/fill"
	"sampan/internal/oci"
	"sampan/internal/store"
)

// A watched registry knows which blobs it was asked for, and holds each back
// until the gate is closed; nil holds nothing back.
type watched struct {
	*registry
	gate chan struct{}

	lock  sync.Mutex
	blobs []oci.Digest
}

func (w *watched) Blob(ctx context.Context, repo oci.Repository, d oci.Digest) (oci.BlobReader, error) {
	w.lock.Lock()
	w.blobs = append(w.blobs, d)
	w.lock.Unlock()
	if w.gate != nil {
		select {
		case <-w.gate:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return w.registry.Blob(ctx, repo, d)
}

// wanted returns the digests of the blobs asked for and forgets them.
func (w *watched) wanted() []oci.Digest {
	w.lock.Lock()
	defer w.lock.Unlock()
	asked := w.blobs
	w.blobs = nil
	return asked
}

// prefetching is a cache over the parts of a fixture that prefetches.
func (f *fixture) prefetching(t *testing.T, up oci.Reader, change func(*cache.Options)) *cache.Cache {
	t.Helper()
	o := f.options(up)
	o.Prefetch = true
	if change != nil {
		change(&o)
	}
	c, err := cache.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// clientGets is a client that gets a manifest.
func clientGets(t *testing.T, c *cache.Cache, repo string, d oci.Digest) {
	t.Helper()
	m, err := c.Manifest(t.Context(), mustRepo(t, repo), d)
	if err != nil {
		t.Fatal(err)
	}
	c.Prefetch(mustRepo(t, repo), m)
}

// layers makes n small blobs that differ.
func layers(n int) (list [][]byte, digests []oci.Digest) {
	for i := range n {
		list = append(list, fmt.Appendf(nil, "layer %d", i))
		digests = append(digests, oci.DigestOf(list[i]))
	}
	return list, digests
}

// add puts a document in the registry as a manifest.
func (r *registry) add(t *testing.T, ref, mediaType string, doc map[string]any) oci.Manifest {
	t.Helper()
	p, err := oci.ParseReference(ref)
	if err != nil {
		t.Fatal(err)
	}
	doc["schemaVersion"], doc["mediaType"] = 2, mediaType
	text, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	m := oci.Manifest{Descriptor: oci.Descriptor{MediaType: mediaType, Digest: oci.DigestOf(text), Size: int64(len(text))}, Bytes: text}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.manifests[p.Repository.String()+"@"+m.Descriptor.Digest.String()] = m
	return m
}

func (f *fixture) stored(t *testing.T, d oci.Digest) bool {
	t.Helper()
	b, err := f.store.Open(t.Context(), d)
	if err != nil {
		return false
	}
	return b.Close() == nil
}

// Only the platforms that clients ask for are fetched: an index brings nothing,
// the manifest of a platform brings its own blobs, each once.
func TestOnlyThePlatformsThatClientsAskForArePrefetched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		up := &watched{registry: f.up}
		c := f.prefetching(t, up, nil)
		amd := f.up.push(t, "gcr.io/app/web:amd64", layerA)
		arm := f.up.push(t, "gcr.io/app/web:arm64", layerB)
		index := f.up.add(t, "gcr.io/app/web:v1", oci.MediaTypeImageIndex, map[string]any{
			"manifests": []oci.Descriptor{amd.Descriptor, arm.Descriptor},
		})
		clientGets(t, c, "gcr.io/app/web", index.Descriptor.Digest)
		synctest.Wait()
		if asked := up.wanted(); len(asked) != 0 {
			t.Fatalf("an index brought %v", asked)
		}
		clientGets(t, c, "gcr.io/app/web", amd.Descriptor.Digest)
		synctest.Wait()
		if asked := up.wanted(); !slices.Equal(asked, []oci.Digest{oci.DigestOf(layerA)}) {
			t.Errorf("asked for %v", asked)
		}
		if !f.stored(t, oci.DigestOf(layerA)) {
			t.Error("the blob is not stored")
		}
		time.Sleep(time.Hour)
		clientGets(t, c, "gcr.io/app/web", amd.Descriptor.Digest)
		synctest.Wait()
		if asked := up.wanted(); len(asked) != 0 {
			t.Errorf("what is stored was asked for: %v", asked)
		}
	})
}

func TestWithoutPrefetchOnlyWhatClientsAskForIsFetched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		up := &watched{registry: f.up}
		c := f.prefetching(t, up, func(o *cache.Options) { o.Prefetch = false })
		clientGets(t, c, "gcr.io/app/web", f.up.push(t, "gcr.io/app/web:v1", layerA).Descriptor.Digest)
		synctest.Wait()
		if asked := up.wanted(); len(asked) != 0 {
			t.Errorf("asked for %v", asked)
		}
	})
}

func TestAClientReadsTheFetchOfAPrefetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		up := &watched{registry: f.up, gate: make(chan struct{})}
		c := f.prefetching(t, up, nil)
		clientGets(t, c, "gcr.io/app/web", f.up.push(t, "gcr.io/app/web:v1", layerA).Descriptor.Digest)
		synctest.Wait()
		var client sync.WaitGroup
		client.Go(func() {
			b, err := c.Blob(t.Context(), mustRepo(t, "gcr.io/app/web"), oci.DigestOf(layerA))
			if err != nil {
				t.Error(err)
				return
			}
			defer b.Close()
			if got, err := io.ReadAll(b); err != nil || !bytes.Equal(got, layerA) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
		})
		synctest.Wait()
		close(up.gate)
		client.Wait()
		if asked := up.wanted(); len(asked) != 1 {
			t.Errorf("asked for %v", asked)
		}
	})
}

func TestPrefetchesAreFewAtATimeAndInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		up := &watched{registry: f.up, gate: make(chan struct{})}
		c := f.prefetching(t, up, nil)
		blobs, digests := layers(10)
		clientGets(t, c, "gcr.io/app/web", f.up.push(t, "gcr.io/app/web:v1", blobs...).Descriptor.Digest)
		synctest.Wait()
		asked := up.wanted()
		if len(asked) != 4 {
			t.Errorf("%d at a time", len(asked))
		}
		for _, d := range asked {
			if !slices.Contains(digests[:4], d) {
				t.Errorf("%s was not its turn", d)
			}
		}
		close(up.gate)
		synctest.Wait()
		if asked := up.wanted(); len(asked) != 6 {
			t.Errorf("then %d", len(asked))
		}
	})
}

// With two lines, one is kept free for those who wait: a client's fetch begins
// at once, and the second prefetch waits.
func TestPrefetchesLeaveALineToClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		fills, err := fill.New(fill.Options{Store: f.store, Log: slog.New(slog.DiscardHandler), UpstreamLines: 2})
		if err != nil {
			t.Fatal(err)
		}
		up := &watched{registry: f.up, gate: make(chan struct{})}
		c := f.prefetching(t, up, func(o *cache.Options) { o.Fills = fills })
		t.Cleanup(fills.Close)
		blobs, _ := layers(2)
		clientGets(t, c, "gcr.io/app/web", f.up.push(t, "gcr.io/app/web:v1", blobs...).Descriptor.Digest)
		f.up.push(t, "gcr.io/app/web:v2", layerA)
		time.Sleep(10 * time.Second)
		if asked := up.wanted(); len(asked) != 1 {
			t.Fatalf("%d prefetches on two lines", len(asked))
		}
		ctx, leave := context.WithCancel(t.Context())
		left := make(chan struct{})
		go func() {
			defer close(left)
			if b, err := c.Blob(ctx, mustRepo(t, "gcr.io/app/web"), oci.DigestOf(layerA)); err == nil {
				_ = b.Close()
			}
		}()
		synctest.Wait()
		if asked := up.wanted(); !slices.Equal(asked, []oci.Digest{oci.DigestOf(layerA)}) {
			t.Errorf("the client waits behind a prefetch: asked for %v", asked)
		}
		running := fills.Running()
		if len(running) != 3 || running[0].Lines+running[1].Lines+running[2].Lines != 2 {
			t.Errorf("running: %+v", running)
		}
		leave()
		<-left
		close(up.gate)
		time.Sleep(time.Second)
		for _, b := range blobs {
			if !f.stored(t, oci.DigestOf(b)) {
				t.Errorf("%q never had its turn", b)
			}
		}
	})
}

// A prefetch that waits for a line to spare becomes what a client waits for as
// soon as one asks, and takes the last line.
func TestAClientNeedNotWaitForALineToSpare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		fills, err := fill.New(fill.Options{Store: f.store, Log: slog.New(slog.DiscardHandler), UpstreamLines: 2})
		if err != nil {
			t.Fatal(err)
		}
		up := &watched{registry: f.up, gate: make(chan struct{})}
		c := f.prefetching(t, up, func(o *cache.Options) { o.Fills = fills })
		t.Cleanup(fills.Close)
		blobs, digests := layers(2)
		clientGets(t, c, "gcr.io/app/web", f.up.push(t, "gcr.io/app/web:v1", blobs...).Descriptor.Digest)
		synctest.Wait()
		first := up.wanted()
		if len(first) != 1 {
			t.Fatalf("asked for %v", first)
		}
		waits := digests[1-slices.Index(digests, first[0])]
		var client sync.WaitGroup
		client.Go(func() {
			b, err := c.Blob(t.Context(), mustRepo(t, "gcr.io/app/web"), waits)
			if err != nil {
				t.Error(err)
				return
			}
			_ = b.Close()
		})
		synctest.Wait()
		if asked := up.wanted(); !slices.Equal(asked, []oci.Digest{waits}) {
			t.Errorf("the client waits: asked for %v", asked)
		}
		close(up.gate)
		client.Wait()
	})
}

func TestCloseEndsPrefetchingAndWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		up := &watched{registry: f.up, gate: make(chan struct{})}
		c := f.prefetching(t, up, nil)
		blobs, _ := layers(10)
		clientGets(t, c, "gcr.io/app/web", f.up.push(t, "gcr.io/app/web:v1", blobs...).Descriptor.Digest)
		synctest.Wait()
		up.wanted()
		repo := mustRepo(t, "gcr.io/app/web")
		late, err := c.Manifest(t.Context(), repo, f.up.push(t, "gcr.io/app/web:v2", layerA).Descriptor.Digest)
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
		close(up.gate)
		c.Prefetch(repo, late)
		if _, err := c.ResolveTag(t.Context(), repo, mustTag("v2")); oci.CodeOf(err) != oci.CodeUnavailable {
			t.Errorf("a question after the end: %v", err)
		}
		synctest.Wait()
		if asked := up.wanted(); len(asked) != 0 {
			t.Errorf("asked after the end: %v", asked)
		}
	})
}

func TestForeignLayersAndWhatDoesNotFitAreNotPrefetched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		up := &watched{registry: f.up}
		c := f.prefetching(t, up, func(o *cache.Options) { o.MaxSize = int64(len(layerA)) })
		small := []byte("small")
		f.up.push(t, "gcr.io/app/web:parts", small, layerA)
		m := f.up.add(t, "gcr.io/app/web:v1", oci.MediaTypeDockerManifest, map[string]any{"layers": []oci.Descriptor{
			{Digest: oci.DigestOf(layerB), Size: int64(len(layerB)), URLs: []string{"https://elsewhere.example/b"}},
			{Digest: oci.DigestOf(small), Size: int64(len(small))},
			{Digest: oci.DigestOf(layerA), Size: int64(len(layerA))}, // no longer fits beside the small one
		}})
		clientGets(t, c, "gcr.io/app/web", m.Descriptor.Digest)
		synctest.Wait()
		if asked := up.wanted(); !slices.Equal(asked, []oci.Digest{oci.DigestOf(small)}) {
			t.Errorf("asked for %v", asked)
		}
	})
}

func TestAnUpstreamThatLimitsTheRateIsLeftAloneForAWhile(t *testing.T) {
	for name, failure := range map[string]error{
		"too many":       &oci.Error{Code: oci.CodeTooManyRequests, RetryAfter: 5 * time.Minute},
		"not reachable":  errors.New("connection refused"),
		"a full medium":  fmt.Errorf("write: %w", store.ErrUnwritable),
		"it has no blob": oci.ErrBlobUnknown,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t)
				up := &watched{registry: f.up}
				c := f.prefetching(t, up, nil)
				blobs, _ := layers(10)
				d := f.up.push(t, "gcr.io/app/web:v1", blobs...).Descriptor.Digest
				if _, err := c.Manifest(t.Context(), mustRepo(t, "gcr.io/app/web"), d); err != nil {
					t.Fatal(err)
				}
				f.up.set(failure)
				clientGets(t, c, "gcr.io/app/web", d)
				time.Sleep(30 * time.Second)
				asked := len(up.wanted())
				if oci.IsAnswer(failure) != (asked == len(blobs)) {
					t.Errorf("asked for %d blobs of %d", asked, len(blobs))
				}
				f.up.set(nil)
				time.Sleep(10 * time.Minute)
				clientGets(t, c, "gcr.io/app/web", d)
				synctest.Wait()
				if asked := up.wanted(); len(asked) != len(blobs) {
					t.Errorf("afterwards asked for %d blobs", len(asked))
				}
			})
		})
	}
}
