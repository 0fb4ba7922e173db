package soak

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"os"
	"sort"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sampan/internal/oci"
	"sampan/internal/registrytest"
)

// A limitForm is how large the test of the limit is. The working set is ten times the
// limit in both forms.
type limitForm struct {
	limit        int64         // data.max_size, in bytes
	least, most  int64         // sizes of blobs, in bytes; as many of each order
	readers      int           // at once
	requests     int64         // 0: until lasts is over
	lasts        time.Duration // 0: until there were requests
	look         time.Duration // between two looks at the disk
	behind       float64       // how much less than an ideal cache it may have of hits
	workingTimes int64
}

// limitOf returns the long form when SOAK_LIMIT says how long it lasts.
func limitOf(t *testing.T) limitForm {
	t.Helper()
	text := os.Getenv("SOAK_LIMIT")
	if text == "" {
		return limitForm{
			limit: 32 << 20, least: 16 << 10, most: 512 << 10, readers: 40, requests: 3000,
			look: 100 * time.Millisecond, behind: 0.08, workingTimes: 10,
		}
	}
	lasts, err := time.ParseDuration(text)
	if err != nil || lasts <= 0 {
		t.Fatalf("SOAK_LIMIT is %q", text)
	}
	return limitForm{
		limit: 2 << 30, least: 64 << 10, most: 4 << 20, readers: 500, lasts: lasts,
		look: time.Second, behind: 0.05, workingTimes: 10,
	}
}

// skew is the exponent of the popularity: the nth most popular blob is asked for
// n^-skew times as often as the first.
const skew = 0.9

// A demand is which blob is wanted next, in one order for all readers.
type demand struct {
	repository string
	blobs      []oci.Descriptor
	size       int64     // of them all, in bytes
	weights    []float64 // summed up

	mu     sync.Mutex
	random *rand.Rand
	order  []int // that were asked for
	most   int64 // 0: no bound
}

// newDemand fills the upstream with a working set.
func newDemand(t *testing.T, up *registrytest.Registry, f limitForm, seed uint64) *demand {
	t.Helper()
	d := &demand{repository: "soak/limit", random: rand.New(rand.NewPCG(seed, 0)), most: f.requests}
	var sizes []int64
	for d.size < f.limit*f.workingTimes {
		size := int64(float64(f.least) * math.Pow(float64(f.most)/float64(f.least), d.random.Float64()))
		sizes = append(sizes, size)
		d.size += size
	}
	d.blobs = make([]oci.Descriptor, len(sizes))
	var next atomic.Int64
	var adding sync.WaitGroup
	for range 2 {
		adding.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(sizes)); i = next.Add(1) - 1 {
				d.blobs[i] = up.AddBlob(d.repository, sizes[i], seed+uint64(i))
			}
		})
	}
	adding.Wait()
	total := 0.0
	for i := range d.blobs { // their sizes are in no order
		total += math.Pow(float64(i+1), -skew)
		d.weights = append(d.weights, total)
	}
	return d
}

// next is the blob that somebody asks for now; false when there were enough.
func (d *demand) next() (oci.Descriptor, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.most > 0 && int64(len(d.order)) >= d.most {
		return oci.Descriptor{}, false
	}
	i := sort.SearchFloat64s(d.weights, d.random.Float64()*d.weights[len(d.weights)-1])
	d.order = append(d.order, i)
	return d.blobs[i], true
}

// ideal is what a cache of limit bytes has of the requests made, in their order, that
// keeps what was used last, gets everything at once, and needs room for nothing else.
func (d *demand) ideal(limit int64) (hits, bytes int64) {
	type entry struct{ before, behind int }
	list := make([]entry, len(d.blobs)+1) // a ring; the last one is its anchor
	anchor := len(d.blobs)
	list[anchor] = entry{anchor, anchor}
	here := make([]bool, len(d.blobs))
	leave := func(i int) {
		e := list[i]
		list[e.before].behind, list[e.behind].before = e.behind, e.before
	}
	used := int64(0)
	for _, i := range d.order {
		if here[i] {
			hits, bytes = hits+1, bytes+d.blobs[i].Size
			leave(i)
		} else {
			here[i] = true
			used += d.blobs[i].Size
		}
		first := list[anchor].behind
		list[i] = entry{anchor, first}
		list[anchor].behind, list[first].before = i, i
		for used > limit {
			last := list[anchor].before
			leave(last)
			here[last] = false
			used -= d.blobs[last].Size
		}
	}
	return hits, bytes
}

// read fetches what is wanted until there was enough, and verifies each body.
func (d *demand) read(ctx context.Context, client *http.Client, base string, got *atomic.Int64) error {
	for ctx.Err() == nil {
		b, more := d.next()
		if !more {
			return nil
		}
		if err := readBlob(client, base+"/v2/"+d.repository+"/blobs/", b); err != nil {
			return err
		}
		got.Add(b.Size)
	}
	return nil
}

// readBlob fetches a blob to its end, and compares it with its digest.
func readBlob(client *http.Client, below string, b oci.Descriptor) error {
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, below+b.Digest.String(), nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	hash := sha256.New()
	n, err := io.Copy(hash, resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK || n != b.Size || hex.EncodeToString(hash.Sum(nil)) != b.Digest.Hex() {
		return errors.Join(fmt.Errorf("%s of %d bytes: %s, %d bytes", b.Digest, b.Size, resp.Status, n), err)
	}
	return nil
}

// newCrowdHTTP returns a client that keeps a connection for each of n readers.
func newCrowdHTTP(n int) *http.Client {
	return &http.Client{Transport: &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: n}}
}

// Hundreds read from a working set of ten times the disk: nobody gets an error or a
// wrong byte, the files never have more than the limit, and there are about as many
// hits as an ideal cache of that size would have.
func TestTheLimitHoldsUnderAWorkingSetOfTenTimesAsMuch(t *testing.T) {
	f, seed := limitOf(t), seed(t)
	up := registrytest.StartTest(t, registrytest.Options{CountsOnly: true, Behavior: registrytest.Behavior{
		Pace: registrytest.Pace{Latency: 5 * time.Millisecond},
	}})
	d := newDemand(t, up, f, seed)
	h := newHome(t, up.URL())
	h.configure(t, fmt.Sprintf("data: {max_size: %d}\n", f.limit))
	l := h.start(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if f.lasts > 0 {
		ctx, cancel = context.WithTimeout(ctx, f.lasts)
		defer cancel()
	}
	g := h.watch(l, f.look)
	began := time.Now()
	client := newCrowdHTTP(f.readers)
	defer client.CloseIdleConnections()
	var got atomic.Int64
	var reading sync.WaitGroup
	for range f.readers {
		reading.Go(func() {
			if err := d.read(ctx, client, l.url, &got); err != nil {
				t.Error(err)
			}
		})
	}
	reading.Wait()
	took := time.Since(began)
	g.stop()
	g.within(t, f.limit)
	d.account(t, f, l, up, got.Load(), took)
	l.stop(t)
	h.mustBeQuiet(t)
}

// account compares what came from upstream with what an ideal cache would have asked
// for.
func (d *demand) account(t *testing.T, f limitForm, l *life, up *registrytest.Registry, got int64, took time.Duration) {
	t.Helper()
	metric := func(name string) float64 { return l.metric(t.Context(), t, name) }
	requests := float64(len(d.order))
	hits := requests - metric("sampan_fill_fetches_total") - metric("sampan_fill_stream_through_total")
	sent := up.BytesSent()
	idealHits, idealBytes := d.ideal(f.limit)
	byRequests, byBytes := hits/requests, 1-float64(sent)/float64(got)
	idealByRequests, idealByBytes := float64(idealHits)/requests, float64(idealBytes)/float64(got)
	t.Logf("%d blobs of %d bytes in all, limit %d, %d readers, %s: %.0f requests, %d bytes verified, upstream sent %d; %.0f blobs evicted, %.0f streamed through",
		len(d.blobs), d.size, f.limit, f.readers, took.Round(time.Second), requests, got, sent,
		metric("sampan_store_evicted_total"), metric("sampan_fill_stream_through_total"))
	t.Logf("hits by requests %.4f, ideal %.4f; by bytes %.4f, ideal %.4f; %.0f requests joined a running fetch",
		byRequests, idealByRequests, byBytes, idealByBytes, metric("sampan_fill_joins_total"))
	if byRequests < idealByRequests-f.behind || byBytes < idealByBytes-f.behind {
		t.Errorf("there are fewer hits than an ideal cache has, by more than %.2f", f.behind)
	}
	if metric("sampan_store_evicted_total") == 0 {
		t.Error("nothing was evicted: the test does not test what it should")
	}
}
