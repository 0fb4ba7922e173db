package soak

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sampan/internal/oci"
	"sampan/internal/registrytest"
)

// purgeBound is how long the purge of the long form may take.
const purgeBound = 30 * time.Second

// A shop is many small images under the names of many repositories.
type shop struct {
	up     *registrytest.Registry
	images []good
	blobs  int
}

// A good is one of its images.
type good struct {
	repository, tag string
	manifest        oci.Descriptor
	blobs           []oci.Descriptor
}

// newShop makes images of ten blobs each, ten in each repository.
func newShop(t *testing.T, blobs int) *shop {
	t.Helper()
	s := &shop{up: registrytest.StartTest(t, registrytest.Options{CountsOnly: true})}
	for i := range blobs / 10 {
		g := good{repository: fmt.Sprintf("shop/team%d", i/10), tag: strconv.Itoa(i % 10)}
		sizes := make([]int64, 9)
		for j := range sizes {
			sizes[j] = int64(200 + 97*j)
		}
		image := s.up.AddImage(g.repository, g.tag, registrytest.ImageSpec{Layers: sizes, Seed: uint64(i + 1)})
		g.manifest, g.blobs = image.Manifest.Descriptor, image.Blobs()
		s.images = append(s.images, g)
		s.blobs += len(g.blobs)
	}
	return s
}

// each calls f with all images, n at a time, until it fails.
func (s *shop) each(n int, f func(g good) error) error {
	var next atomic.Int64
	var running sync.WaitGroup
	errs := make([]error, n)
	for i := range n {
		running.Go(func() {
			for k := next.Add(1) - 1; k < int64(len(s.images)) && errs[i] == nil; k = next.Add(1) - 1 {
				errs[i] = f(s.images[k])
			}
		})
	}
	running.Wait()
	return errors.Join(errs...)
}

// askManifest fetches a manifest by its tag, or by its digest.
func askManifest(client *http.Client, base string, g good, ref string) error {
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, base+"/v2/"+g.repository+"/manifests/"+ref, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", oci.MediaTypeImageManifest)
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK || !g.manifest.Digest.Verify(body) {
		return errors.Join(fmt.Errorf("%s:%s: %s, %d bytes", g.repository, ref, resp.Status, len(body)), err)
	}
	return nil
}

// pull fetches an image as a client does, and verifies all of it.
func (g good) pull(client *http.Client, base string) error {
	if err := askManifest(client, base, g, g.tag); err != nil {
		return err
	}
	for _, b := range g.blobs {
		if err := readBlob(client, base+"/v2/"+g.repository+"/blobs/", b); err != nil {
			return fmt.Errorf("%s: %w", g.repository, err)
		}
	}
	return nil
}

// stock brings all images into a data directory whose process has ended, as if they
// had been pulled a while ago: the manifests are pulled, the blobs are put there.
func (s *shop) stock(t *testing.T, h *home, ago time.Duration) {
	t.Helper()
	l := h.start(t)
	client := newCrowdHTTP(16)
	defer client.CloseIdleConnections()
	if err := s.each(16, func(g good) error { return askManifest(client, l.url, g, g.tag) }); err != nil {
		t.Fatal(err)
	}
	l.stop(t)
	at := time.Now().Add(-ago)
	dir := filepath.Join(h.data(), "blobs", "sha256")
	err := s.each(2, func(g good) error {
		manifest := filepath.Join(dir, g.manifest.Digest.Hex()[:2], g.manifest.Digest.Hex())
		if err := os.Chtimes(manifest, at, at); err != nil {
			return err
		}
		for _, b := range g.blobs {
			name := filepath.Join(dir, b.Digest.Hex()[:2], b.Digest.Hex())
			content := make([]byte, b.Size)
			if _, err := s.up.Content(b.Digest).ReadAt(content, 0); err != nil && err != io.EOF {
				return err
			}
			if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
				return err
			}
			if err := errors.Join(os.WriteFile(name, content, 0o600), os.Chtimes(name, at, at)); err != nil {
				return err
			}
		}
		return nil
	})
	// The list of blobs is made anew of the directories, and uses of the files' times.
	if err := errors.Join(err, os.Remove(filepath.Join(h.data(), "blobs.log"))); err != nil {
		t.Fatal(err)
	}
}

// ask runs sampan as an operator does, and decodes what it says.
func (l *life) ask(t *testing.T, into any, args ...string) {
	t.Helper()
	cmd := exec.Command(os.Getenv(executableVariable), append(args, "--admin", "http://"+l.admin, "-o", "json")...)
	out, err := cmd.Output()
	if err != nil {
		var failed *exec.ExitError
		if errors.As(err, &failed) {
			out = failed.Stderr
		}
		t.Fatalf("%v: %v, %s", args, err, out)
	}
	if err := json.Unmarshal(out, into); err != nil {
		t.Fatalf("%v: %v in %.300s", args, err, out)
	}
}

// A told usage is what the process says of its disk.
type toldUsage struct {
	Complete, Partial, Reserved int64
	Blobs                       int
}

// What was not used for a month is purged while clients pull it: no pull fails, what
// goes is gone from the disk, and index and disk agree afterwards. SOAK_PURGE is how
// many blobs there are; with it, the purge has a time to keep to.
func TestAPurgeWhilePullsRunBreaksNone(t *testing.T) {
	blobs, long := 2000, false
	if text := os.Getenv("SOAK_PURGE"); text != "" {
		var err error
		if blobs, err = strconv.Atoi(text); err != nil || blobs < 100 {
			t.Fatalf("SOAK_PURGE is %q", text)
		}
		long = true
	}
	s := newShop(t, blobs)
	h := newHome(t, s.up.URL())
	h.configure(t, "fetch: {prefetch: false}\n")
	s.stock(t, h, 1000*time.Hour)
	began := time.Now()
	l := h.start(t)
	ready := time.Since(began)
	var before, after toldUsage
	poll(t.Context(), t, "all to be known", func() bool {
		l.ask(t, &before, "cache", "du")
		return before.Blobs == s.blobs+len(s.images)
	})

	pulls, pulled := s.pullUntil(t, l, 20, func() {
		var report struct {
			Tags, Manifests, Blobs int
			Bytes                  int64
		}
		began, cpu := time.Now(), l.metric(t.Context(), t, "process_cpu_seconds_total")
		l.ask(t, &report, "cache", "purge", "--older-than", "720h")
		took := time.Since(began)
		cpu = l.metric(t.Context(), t, "process_cpu_seconds_total") - cpu
		t.Logf("%d blobs: ready in %s; purged %d tags, %d manifests, %d blobs, %d bytes in %s; the process took %.1f s of CPU for that and the pulls",
			s.blobs, ready.Round(time.Millisecond), report.Tags, report.Manifests, report.Blobs, report.Bytes, took.Round(time.Millisecond), cpu)
		if report.Blobs < s.blobs/2 || report.Manifests < len(s.images)/2 {
			t.Errorf("%+v of %d blobs", report, s.blobs)
		}
		if long && took > purgeBound {
			t.Errorf("the purge took %s, more than %s", took, purgeBound)
		}
	})
	t.Logf("%d pulls of %d images beside it, none failed", pulls, pulled)
	poll(t.Context(), t, "index and disk to agree", func() bool {
		l.ask(t, &after, "cache", "du")
		u, err := h.usage()
		return err == nil && after.Blobs == u.files && after.Complete == u.blobs && after.Partial == 0
	})
	if most := 11 * pulled; after.Blobs > most {
		t.Errorf("%d blobs are left, of %d images that were pulled meanwhile", after.Blobs, pulled)
	}
	client := newCrowdHTTP(8)
	defer client.CloseIdleConnections()
	for i := range 50 {
		if err := s.images[i*len(s.images)/50].pull(client, l.url); err != nil {
			t.Errorf("afterwards: %v", err)
		}
	}
	l.stop(t)
	newShelf(h).verify(t)
	h.mustBeQuiet(t)
}

// pullUntil lets n clients pull images by chance while f runs, and wants no error. It
// returns how many pulls there were, of how many images.
func (s *shop) pullUntil(t *testing.T, l *life, n int, f func()) (pulls, images int) {
	t.Helper()
	var stop atomic.Bool
	var running sync.WaitGroup
	var mu sync.Mutex
	seen := make(map[int]bool)
	client := newCrowdHTTP(n)
	defer client.CloseIdleConnections()
	first := make(chan struct{}, n)
	for i := range n {
		random := rand.New(rand.NewPCG(3, uint64(i)))
		running.Go(func() {
			for k := 0; !stop.Load(); k++ {
				which := int(skewed(random, len(s.images)))
				mu.Lock()
				seen[which] = true
				pulls++
				mu.Unlock()
				if err := s.images[which].pull(client, l.url); err != nil {
					t.Errorf("client %d: %v", i, err)
					break
				}
				if k == 0 {
					first <- struct{}{}
				}
			}
		})
	}
	for range n {
		select {
		case <-first:
		case <-time.After(time.Minute):
			t.Error("no pull ends")
		}
	}
	f()
	stop.Store(true)
	running.Wait()
	return pulls, len(seen)
}

// skewed is a number below n, low ones far more often than high ones: some images are
// pulled again and again, others once.
func skewed(random *rand.Rand, n int) int64 {
	x := random.Float64()
	return int64(x * x * x * float64(n))
}
