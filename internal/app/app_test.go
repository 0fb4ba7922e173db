package app_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sampan/internal/app"
	"sampan/internal/oci"
	"sampan/internal/refs"
	"sampan/internal/registrytest"
	"sampan/internal/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestImagesOfEveryKindOfRegistryArePulledOnce(t *testing.T) {
	presets := map[string]func() registrytest.Behavior{
		"plain": func() registrytest.Behavior { return registrytest.Behavior{} },
		"hub":   registrytest.DockerHub, "quay": registrytest.Quay, "ghcr": registrytest.GHCR,
		"gcr": registrytest.GCR, "k8s": registrytest.K8s, "mcr": registrytest.MCR,
	}
	for name, preset := range presets {
		t.Run(name, func(t *testing.T) {
			up := registrytest.StartTest(t, registrytest.Options{Behavior: preset()})
			up.AddImage("team/web", "v1", threeLayers(1))
			dir := dataDir(t)
			m := start(t, dir, "example.test="+up.URL())
			if err := m.pull("example.test/team/web", "v1"); err != nil {
				t.Fatal(err)
			}
			const layers = 3
			asked := len(up.Requests()) - up.Count(registrytest.KindCDN) - up.Count(registrytest.KindToken)
			if asked > layers+4 || up.TokensIssued() > 1 {
				t.Errorf("%d requests for %d layers, %d tokens: %+v", asked, layers, up.TokensIssued(), up.Requests())
			}
			m.end(t) // commits; and what was stored must outlive the process
			m = start(t, dir, "example.test="+up.URL())
			up.ResetCounts()
			if err := m.pull("example.test/team/web", "v1"); err != nil {
				t.Fatal(err)
			}
			if n := len(up.Requests()); n != 0 {
				t.Errorf("warm pull asked %d times: %+v", n, up.Requests())
			}
		})
	}
}

func TestWhatAnUpstreamSendsWrong(t *testing.T) {
	html := func(b *registrytest.Behavior) {
		b.Faults = []registrytest.Fault{{On: []registrytest.Kind{registrytest.KindManifest}, Answer: registrytest.HTML}}
	}
	for _, tc := range []struct {
		name   string
		damage func(*registrytest.Behavior)
		on     string // which question fails: manifest or blob
		code   string // of the error; empty: the body ends short
	}{
		{"a web page for a manifest", html, "manifest", "UNAVAILABLE"},
		{"a manifest under a wrong digest", func(b *registrytest.Behavior) { b.Manifest.WrongDigest = true }, "manifest", "UNAVAILABLE"},
		{"a manifest with changed bytes", func(b *registrytest.Behavior) {
			b.Faults = []registrytest.Fault{{On: []registrytest.Kind{registrytest.KindManifest}, Corrupt: true, CorruptAt: 20}}
		}, "manifest", "UNAVAILABLE"},
		{"an oversized manifest", func(b *registrytest.Behavior) { b.Manifest.PadTo = 9 << 20 }, "manifest", "UNAVAILABLE"},
		{"nothing at all", func(b *registrytest.Behavior) {
			b.Faults = []registrytest.Fault{{On: []registrytest.Kind{registrytest.KindManifest}, EmptyReply: true}}
		}, "manifest", "UNAVAILABLE"},
		{"a server error", func(b *registrytest.Behavior) {
			b.Faults = []registrytest.Fault{{On: []registrytest.Kind{registrytest.KindManifest}, Answer: registrytest.Status(500)}}
		}, "manifest", "UNAVAILABLE"},
		{"too many requests", func(b *registrytest.Behavior) {
			b.Faults = []registrytest.Fault{{On: []registrytest.Kind{registrytest.KindManifest}, Answer: registrytest.TooMany(0, 0)}}
		}, "manifest", "TOOMANYREQUESTS"},
		{"a web page for a blob", func(b *registrytest.Behavior) {
			b.Faults = []registrytest.Fault{{Answer: registrytest.HTML}}
		}, "blob", ""},
		{"a redirect loop", func(b *registrytest.Behavior) { b.Redirect = registrytest.Redirect{Status: 307, Loop: true} }, "blob", "UNAVAILABLE"},
		{"a blob with changed bytes at its end", func(b *registrytest.Behavior) {
			b.Faults = []registrytest.Fault{{Corrupt: true, CorruptAt: -1}}
		}, "blob", ""},
		{"a blob with changed bytes at its start", func(b *registrytest.Behavior) {
			b.Faults = []registrytest.Fault{{Corrupt: true}}
		}, "blob", ""},
		{"a blob that is told too short", func(b *registrytest.Behavior) {
			b.Faults = []registrytest.Fault{{LengthDelta: -1000}}
		}, "blob", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			up := registrytest.StartTest(t, registrytest.Options{})
			img := up.AddImage("team/web", "v1", threeLayers(0))
			m := lazily(t, dataDir(t), "example.test="+up.URL())
			manifest := "/v2/example.test/team/web/manifests/v1"
			blob := "/v2/example.test/team/web/blobs/" + img.Layers[0][0].Digest.String()
			broken := registrytest.Behavior{}
			tc.damage(&broken)
			question := manifest
			if tc.on == "blob" {
				question = blob
				if r := m.get(t, manifest); r.status != http.StatusOK {
					t.Fatal(r.status)
				}
			}
			up.SetBehavior(broken)
			for range 2 { // the second time nothing of the first may be left
				r := m.get(t, question)
				complete := r.status == http.StatusOK && r.err == nil
				if complete || tc.code != "" && r.code() != tc.code {
					t.Errorf("got %d, %d bytes, %v, code %q", r.status, len(r.body), r.err, r.code())
				}
			}
			up.SetBehavior(registrytest.Behavior{})
			if err := m.pull("example.test/team/web", "v1"); err != nil {
				t.Errorf("after the upstream has healed: %v", err)
			}
		})
	}
}

func TestMissingIsNotFoundWhateverTheUpstreamCallsIt(t *testing.T) {
	for name, missing := range map[string]registrytest.Missing{
		"spec": registrytest.MissingSpec, "unauthorized": registrytest.MissingUnauthorized, "xml": registrytest.MissingXML,
		"text": registrytest.MissingText, "empty": registrytest.MissingEmpty,
	} {
		t.Run(name, func(t *testing.T) {
			up := registrytest.StartTest(t, registrytest.Options{Behavior: registrytest.Behavior{Missing: missing}})
			up.AddImage("team/web", "v1", threeLayers(0))
			m := start(t, dataDir(t), "example.test="+up.URL())
			for _, path := range []string{
				"team/none/manifests/v1", "team/web/manifests/v2", "team/web/manifests/" + oci.DigestOf(nil).String(),
				"team/web/blobs/" + oci.DigestOf(nil).String(), "team/none/tags/list",
			} {
				if r := m.get(t, "/v2/example.test/"+path); r.status != http.StatusNotFound || r.code() == "" {
					t.Errorf("%s: %d %s", path, r.status, r.body)
				}
			}
		})
	}
}

func TestStampedeCrossesTheLinkOnce(t *testing.T) {
	up := registrytest.StartTest(t, registrytest.Options{Behavior: registrytest.DockerHub()})
	const size = 4 << 20
	blob := up.AddBlob("team/web", size, 3)
	m := onOneLine(t, dataDir(t), "example.test="+up.URL())
	var clients sync.WaitGroup
	for range 100 {
		clients.Go(func() {
			if _, err := m.content("/v2/example.test/team/web/blobs/" + blob.Digest.String()); err != nil {
				t.Error(err)
			}
		})
	}
	clients.Wait()
	if sent := up.BytesSentOf(blob.Digest); sent != size {
		t.Errorf("%d bytes crossed for a blob of %d", sent, size)
	}
	if up.TokensIssued() != 1 {
		t.Errorf("%d tokens", up.TokensIssued())
	}
}

func TestTheBlobOfACutConnectionIsCompletedFromItsOffset(t *testing.T) {
	up := registrytest.StartTest(t, registrytest.Options{Behavior: registrytest.Behavior{
		Faults: []registrytest.Fault{{Truncate: true, TruncateAfter: 1 << 20, Times: 3}},
	}})
	const size = 5 << 20
	blob := up.AddBlob("team/web", size, 4)
	m := onOneLine(t, dataDir(t), "example.test="+up.URL())
	if _, err := m.content("/v2/example.test/team/web/blobs/" + blob.Digest.String()); err != nil {
		t.Fatal(err)
	}
	if sent := up.BytesSentOf(blob.Digest); sent != size {
		t.Errorf("%d bytes crossed for a blob of %d", sent, size)
	}
}

func TestShutdownKeepsWhatHasArrived(t *testing.T) {
	gate := registrytest.NewGate()
	up := registrytest.StartTest(t, registrytest.Options{Behavior: registrytest.Behavior{
		Faults: []registrytest.Fault{{HangInBody: gate, HangAt: 3 << 20}},
	}})
	const size = 5 << 20
	blob := up.AddBlob("team/web", size, 5)
	path := "/v2/example.test/team/web/blobs/" + blob.Digest.String()
	dir := dataDir(t)
	c := load(t, dir, "example.test="+up.URL())
	c.Shutdown.Grace = 0
	a, err := app.New(app.Options{Config: c, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	resp, err := http.Get("http://" + a.Addr() + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.CopyN(io.Discard, resp.Body, 3<<20); err != nil {
		t.Fatal(err)
	}
	stop()
	if n, err := io.Copy(io.Discard, resp.Body); err == nil {
		t.Errorf("a response that was broken off looks complete after %d bytes", n)
	}
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	up.SetBehavior(registrytest.Behavior{})
	up.ResetCounts()
	m := onOneLine(t, dir, "example.test="+up.URL())
	if _, err := m.content(path); err != nil {
		t.Fatal(err)
	}
	if sent := up.BytesSentOf(blob.Digest); sent != size-3<<20 {
		t.Errorf("%d bytes were sent again of %d that were missing", sent, size-3<<20)
	}
}

func TestRunningResponsesEndAfterTheListenerHasClosed(t *testing.T) {
	gate := registrytest.NewGate()
	up := registrytest.StartTest(t, registrytest.Options{Behavior: registrytest.Behavior{
		Faults: []registrytest.Fault{{HangInBody: gate, HangAt: 1 << 20}},
	}})
	blob := up.AddBlob("team/web", 2<<20, 6)
	m := start(t, dataDir(t), "example.test="+up.URL())
	url := "http://" + m.app.Addr() + "/v2/example.test/team/web/blobs/" + blob.Digest.String()
	resp, err := m.client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	m.stop()
	// The listener is closed when a new connection is refused.
	for {
		conn, err := http.Get(url)
		if err != nil {
			break
		}
		_ = conn.Body.Close()
	}
	gate.Open()
	b, err := io.ReadAll(resp.Body)
	if err != nil || !blob.Digest.Verify(b) {
		t.Errorf("%d bytes, %v", len(b), err)
	}
}

func TestSecondProcessOnOneDirectoryIsRefused(t *testing.T) {
	dir := dataDir(t)
	start(t, dir)
	_, err := app.New(app.Options{Config: load(t, dir), Log: slog.New(slog.DiscardHandler)})
	if !errors.Is(err, store.ErrLocked) {
		t.Errorf("got %v", err)
	}
}

func TestDamagedIndexIsRefusedAndNothingStaysOpen(t *testing.T) {
	dir := dataDir(t)
	m := start(t, dir)
	m.end(t)
	path := filepath.Join(dir, app.IndexFile)
	if err := os.WriteFile(path, bytes.Repeat([]byte("x"), 8192), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time would be ErrLocked if the first had left its lock
		_, err := app.New(app.Options{Config: load(t, dir), Log: slog.New(slog.DiscardHandler)})
		if !errors.Is(err, refs.ErrDamaged) {
			t.Fatalf("got %v", err)
		}
	}
}

func TestHealthReadinessAndMetrics(t *testing.T) {
	up := registrytest.StartTest(t, registrytest.Options{})
	up.AddImage("team/web", "v1", threeLayers(0))
	m := lazily(t, dataDir(t), "example.test="+up.URL())
	if err := m.pull("example.test/team/web", "v1"); err != nil {
		t.Fatal(err)
	}
	admin := "http://" + m.app.AdminAddr()
	for _, path := range []string{"/healthz", "/readyz"} {
		if r := fetch(t, m.client, admin+path); r.status != http.StatusOK {
			t.Errorf("%s: %d", path, r.status)
		}
	}
	metrics := string(fetch(t, m.client, admin+"/metrics").body)
	for _, want := range []string{
		`sampan_edge_requests_total{code="200",kind="blob",registry="example.test",result="fill"} 4`,
		`sampan_edge_requests_total{code="200",kind="manifest",registry="example.test",result="miss"} 1`,
		"sampan_fill_upstream_bytes_total", "sampan_upstream_requests_total", "sampan_build_info", "go_goroutines",
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("metrics lack %s", want)
		}
	}
	if r := m.get(t, "/metrics"); r.status == http.StatusOK {
		t.Error("the registry's own listener shows the metrics")
	}
}

func TestRepairedIndexServesWhatItKept(t *testing.T) {
	up := registrytest.StartTest(t, registrytest.Options{})
	up.AddImage("team/web", "v1", threeLayers(0))
	dir := dataDir(t)
	m := start(t, dir, "example.test="+up.URL())
	if err := m.pull("example.test/team/web", "v1"); err != nil {
		t.Fatal(err)
	}
	if _, err := app.Repair(dir, time.Now()); !errors.Is(err, app.ErrLocked) {
		t.Errorf("repair beside a running mirror: %v", err)
	}
	m.end(t)
	path := filepath.Join(dir, app.IndexFile)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b[:len(b)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := app.Repair(dir, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if old, err := os.ReadFile(r.Old); err != nil || !bytes.Equal(old, b[:len(b)/2]) {
		t.Errorf("the damaged file was not kept: %v", err)
	}
	m = start(t, dir, "example.test="+up.URL())
	sent := up.BytesSent()
	if err := m.pull("example.test/team/web", "v1"); err != nil {
		t.Fatal(err)
	}
	// Names may have been lost; the 375,000 bytes of the layers were not.
	if again := up.BytesSent() - sent; again > 10_000 {
		t.Errorf("%d bytes were fetched again", again)
	}
	if _, err := app.Repair(filepath.Join(dir, "none"), time.Now()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("repair of nothing: %v", err)
	}
}
