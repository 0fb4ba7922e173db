package app_test

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"sampan/internal/oci"
	"sampan/internal/registrytest"
)

// A client that gets the manifest of its platform has the blobs of that one
// fetched before it asks, and they cross the link once.
func TestBlobsOfThePlatformInUseArePrefetched(t *testing.T) {
	gate := registrytest.NewGate()
	up := registrytest.StartTest(t, registrytest.Options{Behavior: registrytest.Behavior{
		Faults: []registrytest.Fault{{HangInBody: gate, HangAt: 1}},
	}})
	img := up.AddImage("team/web", "v1", threeLayers(2))
	m := start(t, dataDir(t), "example.test="+up.URL())
	const repo = "example.test/team/web"
	index, err := m.content("/v2/" + repo + "/manifests/v1")
	if err != nil {
		t.Fatal(err)
	}
	g, err := oci.Manifest{Bytes: index}.Graph()
	if err != nil {
		t.Fatal(err)
	}
	own := g.Manifests[1].Digest.String()
	if _, err := m.content("/v2/" + repo + "/manifests/" + own); err != nil {
		t.Fatal(err)
	}
	const blobs = 4 // a config and three layers
	if err := gate.Await(t.Context(), blobs); err != nil {
		t.Fatal(err)
	}
	if n := up.Count(registrytest.KindBlob); n != blobs {
		t.Errorf("%d blobs were asked for", n)
	}
	gate.Open()
	if err := m.pull(repo, own); err != nil {
		t.Fatal(err)
	}
	for i, layers := range img.Layers {
		for _, layer := range layers {
			want := layer.Size * int64(i)
			if sent := up.BytesSentOf(layer.Digest); sent != want {
				t.Errorf("platform %d: %d bytes of a layer crossed, want %d", i, sent, want)
			}
		}
	}
}

func TestTheOperatorSeesWhatIsBeingFetched(t *testing.T) {
	gate := registrytest.NewGate()
	up := registrytest.StartTest(t, registrytest.Options{Behavior: registrytest.Behavior{
		Faults: []registrytest.Fault{{HangInBody: gate, HangAt: 1 << 20}},
	}})
	const size = 2 << 20
	blob := up.AddBlob("team/web", size, 6)
	m := start(t, dataDir(t), "example.test="+up.URL())
	resp, err := m.client.Get("http://" + m.app.Addr() + "/v2/example.test/team/web/blobs/" + blob.Digest.String())
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.CopyN(io.Discard, resp.Body, 1<<20); err != nil {
		t.Fatal(err)
	}
	list := func() []any {
		t.Helper()
		r := fetch(t, m.client, "http://"+m.app.AdminAddr()+"/api/v1/fills")
		var doc struct{ Fills []any }
		if err := json.Unmarshal(r.body, &doc); err != nil || r.status != http.StatusOK || doc.Fills == nil {
			t.Fatalf("%d %s %v", r.status, r.body, err)
		}
		return doc.Fills
	}
	fills := list()
	if len(fills) != 1 {
		t.Fatalf("got %v", fills)
	}
	f := fills[0].(map[string]any)
	repositories, _ := f["repositories"].([]any)
	if f["digest"] != blob.Digest.String() || f["size"] != float64(size) || f["bytes"] != float64(1<<20) ||
		f["readers"] != 1.0 || f["lines"].(float64) < 1 || len(repositories) != 1 || repositories[0] != "example.test/team/web" {
		t.Errorf("got %v", f)
	}
	if at, err := time.Parse(time.RFC3339, f["since"].(string)); err != nil || at.After(time.Now()) {
		t.Errorf("since %v, %v", at, err)
	}
	second, err := m.client.Get(resp.Request.URL.String())
	if err != nil {
		t.Fatal(err)
	}
	defer second.Body.Close()
	gate.Open()
	for _, body := range []io.Reader{resp.Body, second.Body} {
		if _, err := io.Copy(io.Discard, body); err != nil {
			t.Fatal(err)
		}
	}
	// The blob crossed once for two: one of them cost nothing. What was sent is
	// counted a moment after it was received.
	const saved = "sampan_fill_saved_bytes_total 2.097152e+06\n"
	for {
		metrics := string(fetch(t, m.client, "http://"+m.app.AdminAddr()+"/metrics").body)
		if !strings.Contains(metrics, saved) && t.Context().Err() == nil {
			continue
		}
		for _, want := range []string{saved, "sampan_fill_first_byte_seconds_count 1\n", "sampan_fill_resumes_total 0\n"} {
			if !strings.Contains(metrics, want) {
				t.Errorf("metrics lack %s", want)
			}
		}
		return
	}
}
