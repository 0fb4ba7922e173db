package disk_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"sampan/internal/cache"
	"sampan/internal/fill"
	"sampan/internal/mirror"
	"sampan/internal/oci"
	"sampan/internal/refs/bolt"
	"sampan/internal/registrytest"
	"sampan/internal/server"
	"sampan/internal/store"
	"sampan/internal/store/disk"
	"sampan/internal/upstream"
)

// A mirrorServer is the rooms of the server, put together as app does, over a
// file system that fails on demand.
type mirrorServer struct {
	http    *httptest.Server
	up      *registrytest.Registry
	dir     string
	store   *disk.Store
	fills   *fill.Group
	metrics *prometheus.Registry
	log     lockedBuffer

	fault atomic.Pointer[disk.Fault] // nil: all is well
	fired atomic.Bool                // a call has failed
	first chan struct{}              // closed when the first one has
	once  sync.Once
}

// A lockedBuffer takes the lines of a log.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

const testRegistry = "example.test"

// serve starts a mirror of up. It ends with the test, in order.
func serve(t *testing.T, up *registrytest.Registry) *mirrorServer {
	t.Helper()
	m := &mirrorServer{up: up, dir: t.TempDir(), metrics: prometheus.NewRegistry(), first: make(chan struct{})}
	log := slog.New(slog.NewTextHandler(&m.log, nil))
	s, err := disk.New(disk.Options{Dir: m.dir, Log: log})
	check(t, err)
	m.store = s
	s.SetFault(m.decide)
	t.Cleanup(func() { check(t, s.Close()) })
	index, err := bolt.Open(filepath.Join(t.TempDir(), "index.db"), log)
	check(t, err)
	t.Cleanup(func() { check(t, index.Close()) })
	registry, err := oci.ParseRegistry(testRegistry)
	check(t, err)
	endpoint, err := url.Parse(up.URL())
	check(t, err)
	reader, err := upstream.New(upstream.Options{Registry: registry, Endpoints: []*url.URL{endpoint}, Logger: log})
	check(t, err)
	t.Cleanup(func() { check(t, reader.Close()) })
	m.fills, err = fill.New(fill.Options{Store: s, Log: log, Registerer: m.metrics})
	check(t, err)
	t.Cleanup(m.fills.Close)
	c, err := cache.New(cache.Options{
		Store: s, Refs: index, Fills: m.fills, Log: log,
		Policy: func(oci.Repository) cache.Freshness {
			return cache.Freshness{FreshFor: time.Hour, StaleIfError: cache.Forever}
		},
		Upstream: func(oci.Registry) (oci.Reader, error) { return reader, nil },
	})
	check(t, err)
	t.Cleanup(c.Close)
	names, err := mirror.New(mirror.Options{Upstreams: []mirror.Upstream{{Registry: registry}}})
	check(t, err)
	handler, err := server.New(server.Options{Reader: c, Names: names, Log: log})
	check(t, err)
	m.http = httptest.NewServer(handler)
	t.Cleanup(m.http.Close)
	return m
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// decide is the Fault of the store.
func (m *mirrorServer) decide(op, path string, off, n int64) (int64, error) {
	f := m.fault.Load()
	if f == nil {
		return n, nil
	}
	pass, err := (*f)(op, path, off, n)
	if err != nil {
		m.fired.Store(true)
		m.once.Do(func() { close(m.first) })
	}
	return pass, err
}

func (m *mirrorServer) breakDisk(f disk.Fault) { m.fault.Store(&f) }
func (m *mirrorServer) healDisk()              { m.fault.Store(nil) }

// open asks for a blob from an offset on.
func (m *mirrorServer) open(t *testing.T, d oci.Digest, from int64) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, m.http.URL+"/v2/"+testRegistry+"/team/web/blobs/"+d.String(), nil)
	check(t, err)
	if from > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", from))
	}
	resp, err := m.http.Client().Do(req)
	check(t, err)
	t.Cleanup(func() { _ = resp.Body.Close() })
	return resp
}

// errWrong: bytes are not those of the blob, whether all came or not.
var errWrong = errors.New("wrong bytes")

// read reads a response to its end, behind begin, and compares it with want.
func read(resp *http.Response, begin, want []byte) error {
	rest, err := io.ReadAll(resp.Body)
	got := append(begin, rest...)
	switch {
	case resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusPartialContent:
		return fmt.Errorf("%s: %.200s", resp.Status, got)
	case !bytes.HasPrefix(want, got):
		return fmt.Errorf("%s: %w, %d of %d", resp.Status, errWrong, len(got), len(want))
	case err != nil:
		return fmt.Errorf("%s: after %d bytes of %d: %w", resp.Status, len(got), len(want), err)
	case len(got) < len(want):
		return fmt.Errorf("%s: %w: an end after %d bytes of %d", resp.Status, errWrong, len(got), len(want))
	}
	return nil
}

// idle waits until no fetch is running: a client has its blob a moment before.
func (m *mirrorServer) idle(t *testing.T) {
	t.Helper()
	again := time.NewTicker(time.Millisecond)
	defer again.Stop()
	for m.fills.Count() > 0 {
		select {
		case <-again.C:
		case <-t.Context().Done():
			t.Fatal("fetches do not end")
		}
	}
}

// metric is the value of a counter, with all its labels added up or with one that
// has the value result.
func (m *mirrorServer) metric(t *testing.T, name, result string) (sum float64) {
	t.Helper()
	if n, err := testutil.GatherAndCount(m.metrics, name); err != nil || n == 0 && result == "" {
		t.Fatalf("%s: %d, %v", name, n, err)
	}
	families, err := m.metrics.Gather()
	check(t, err)
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, metric := range f.GetMetric() {
			if result == "" || metric.GetLabel()[0].GetValue() == result {
				sum += metric.GetCounter().GetValue()
			}
		}
	}
	return sum
}

// partials are the names below partial.
func (m *mirrorServer) partials(t *testing.T) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(m.dir, "partial"))
	check(t, err)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// wantOnlyRightBlobs hashes what is stored.
func (m *mirrorServer) wantOnlyRightBlobs(t *testing.T) {
	t.Helper()
	err := filepath.WalkDir(filepath.Join(m.dir, "blobs"), func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if sum := sha256.Sum256(b); hex.EncodeToString(sum[:]) != e.Name() {
			err = errors.Join(err, fmt.Errorf("%s holds other bytes", path))
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// content learns the bytes of a blob from its upstream, and forgets having asked.
func content(t *testing.T, up *registrytest.Registry, d oci.Digest) []byte {
	t.Helper()
	resp, err := up.Client().Get(up.URL() + "/v2/team/web/blobs/" + d.String())
	check(t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	check(t, err)
	if !d.Verify(b) {
		t.Fatalf("%d bytes that are not %s", len(b), d)
	}
	up.ResetCounts()
	return b
}

func isPartial(path string) bool {
	return strings.HasPrefix(path, "partial/") && !strings.Contains(path, ".journal")
}

// leave puts bytes of a blob into the store as an earlier process would have left
// them.
func (m *mirrorServer) leave(t *testing.T, d oci.Digest, b []byte, ranges ...store.Range) {
	t.Helper()
	in, err := m.store.Ingest(t.Context(), d)
	check(t, err)
	for _, r := range ranges {
		_, err := in.WriteAt(b[r.From:r.To], r.From)
		check(t, err)
	}
	check(t, in.Keep())
}
