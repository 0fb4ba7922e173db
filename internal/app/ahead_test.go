package app_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"testing"

	"sampan/internal/registrytest"
)

// A client that wants the end of a layer that is not here, as lazy pullers do, is
// the first whom the upstream serves, and the rest follows once.
func TestColdRangeIsAskedForFirst(t *testing.T) {
	const size = 24 << 20
	for _, header := range []string{fmt.Sprintf("bytes=%d-", size-2<<20), "bytes=-2097152"} {
		t.Run(header, func(t *testing.T) {
			up := registrytest.StartTest(t, registrytest.Options{})
			image := up.AddImage("team/web", "v1", registrytest.ImageSpec{Layers: []int64{size}, Seed: 9})
			layer := image.Layers[0][0]
			m := onOneLine(t, dataDir(t), "example.test="+up.URL())
			if r := m.get(t, "/v2/example.test/team/web/manifests/v1"); r.status != http.StatusOK {
				t.Fatal(r.status)
			}
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+m.app.Addr()+"/v2/example.test/team/web/blobs/"+layer.Digest.String(), nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Range", header)
			resp, err := m.client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			got, err := io.ReadAll(resp.Body)
			want := make([]byte, 2<<20)
			if _, err := up.Content(layer.Digest).ReadAt(want, size-2<<20); err != nil {
				t.Fatal(err)
			}
			if err != nil || resp.StatusCode != http.StatusPartialContent || !bytes.Equal(got, want) {
				t.Errorf("%d, %d bytes, %v", resp.StatusCode, len(got), err)
			}
			if err := m.pull("example.test/team/web", "v1"); err != nil {
				t.Error(err)
			}
			var asked []string
			for _, r := range up.Requests() {
				if r.Kind == registrytest.KindBlob && r.Path == "/v2/team/web/blobs/"+layer.Digest.String() {
					asked = append(asked, r.Range)
				}
			}
			if len(asked) != 2 || asked[0] != fmt.Sprintf("bytes=%d-", size-2<<20) || up.BytesSentOf(layer.Digest) != size {
				t.Errorf("asked for %q, %d bytes sent", asked, up.BytesSentOf(layer.Digest))
			}
		})
	}
}
