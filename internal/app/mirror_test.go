package app_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"testing"

	"sampan/internal/app"
	"sampan/internal/config"
	"sampan/internal/oci"
	"sampan/internal/registrytest"
)

// A mirror is a running App.
type mirror struct {
	app    *app.App
	stop   context.CancelFunc
	ended  chan error
	client *http.Client
}

// start runs a mirror on a data directory with the upstreams of the flags.
func start(t *testing.T, dir string, upstreams ...string) *mirror {
	t.Helper()
	return serve(t, load(t, dir, upstreams...))
}

// lazily starts a mirror that prefetches nothing, where a test decides what is
// fetched when.
func lazily(t *testing.T, dir string, upstreams ...string) *mirror {
	t.Helper()
	c := load(t, dir, upstreams...)
	c.Fetch.Prefetch = false
	return serve(t, c)
}

// onOneLine starts a mirror that prefetches nothing and fetches over one connection at
// a time, where a test counts requests and bytes: on a slow machine a fetch tries
// further ones, and what is on its way over two of them is sent twice.
func onOneLine(t *testing.T, dir string, upstreams ...string) *mirror {
	t.Helper()
	c := load(t, dir, upstreams...)
	c.Fetch.Prefetch, c.Fetch.Lines = false, 1
	return serve(t, c)
}

func serve(t *testing.T, c *config.Config) *mirror {
	t.Helper()
	a, err := app.New(app.Options{Config: c, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	m := &mirror{app: a, stop: stop, ended: make(chan error, 1), client: &http.Client{Transport: &http.Transport{DisableCompression: true}}}
	go func() { m.ended <- a.Run(ctx) }()
	t.Cleanup(func() { m.end(t) })
	return m
}

func load(t *testing.T, dir string, upstreams ...string) *config.Config {
	t.Helper()
	t.Chdir(t.TempDir()) // where no sampan.yaml is
	c, err := config.Load(config.Source{Flags: config.Flags{
		Listen:      "127.0.0.1:0",
		AdminListen: "127.0.0.1:0",
		DataDir:     dir,
		Upstreams:   upstreams,
	}})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// end stops the mirror; the second time it does nothing.
func (m *mirror) end(t *testing.T) {
	t.Helper()
	if m.ended == nil {
		return
	}
	m.stop()
	if err := <-m.ended; err != nil {
		t.Errorf("run: %v", err)
	}
	m.ended = nil
	m.client.CloseIdleConnections()
}

// A reply is a response whose body has been read.
type reply struct {
	status int
	header http.Header
	body   []byte
	err    error // of reading the body
}

func (m *mirror) get(t *testing.T, path string) reply {
	t.Helper()
	return fetch(t, m.client, "http://"+m.app.Addr()+path)
}

func fetch(t *testing.T, c *http.Client, url string) reply {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	return do(t, c, req)
}

func do(t *testing.T, c *http.Client, req *http.Request) reply {
	t.Helper()
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return reply{resp.StatusCode, resp.Header, b, err}
}

// pull fetches an image as a client does and holds every byte against its
// digest: the tag, the manifest of each platform, each config and layer.
func (m *mirror) pull(repo, ref string) error {
	manifest, err := m.content("/v2/" + repo + "/manifests/" + ref)
	if err != nil {
		return err
	}
	g, err := oci.Manifest{Bytes: manifest}.Graph()
	if err != nil {
		return err
	}
	for _, child := range g.Manifests {
		if err := m.pull(repo, child.Digest.String()); err != nil {
			return err
		}
	}
	for _, blob := range g.Blobs {
		if _, err := m.content("/v2/" + repo + "/blobs/" + blob.Digest.String()); err != nil {
			return err
		}
	}
	return nil
}

// content returns a body that matches the digest it came with.
func (m *mirror) content(path string) ([]byte, error) {
	resp, err := m.client.Get("http://" + m.app.Addr() + path)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s %s", path, resp.Status, b)
	}
	d, err := oci.ParseDigest(resp.Header.Get("Docker-Content-Digest"))
	if err != nil {
		return nil, err
	}
	if !d.Verify(b) {
		return nil, fmt.Errorf("%s: %d bytes that are not %s", path, len(b), d)
	}
	return b, nil
}

func (r reply) code() string {
	var doc struct{ Errors []struct{ Code string } }
	if json.Unmarshal(r.body, &doc) != nil || len(doc.Errors) != 1 {
		return ""
	}
	return doc.Errors[0].Code
}

func dataDir(t *testing.T) string { return filepath.Join(t.TempDir(), "data") }

// threeLayers is the image that most tests pull.
func threeLayers(platforms int) registrytest.ImageSpec {
	spec := registrytest.ImageSpec{Layers: []int64{300_000, 5_000, 70_000}, Seed: 7}
	for i := range platforms {
		spec.Platforms = append(spec.Platforms, oci.Platform{OS: "linux", Architecture: []string{"amd64", "arm64"}[i]})
	}
	return spec
}

// settle waits until nothing is being fetched: what was is on the disk by then.
func (m *mirror) settle(t *testing.T) {
	t.Helper()
	for {
		r := fetch(t, m.client, "http://"+m.app.AdminAddr()+"/api/v1/fills")
		var doc struct{ Fills []any }
		if err := json.Unmarshal(r.body, &doc); err != nil || t.Context().Err() != nil {
			t.Fatalf("%s %v", r.body, err)
		}
		if len(doc.Fills) == 0 {
			return
		}
	}
}
