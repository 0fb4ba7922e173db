package app_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"path/filepath"
	"testing"

	"sampan/internal/oci"
	"sampan/internal/registrytest"
	"sampan/internal/transfer/archive"
	"sampan/internal/transfer/layout"
)

// claiming writes an archive with an image of up.test whose layer has a digest and a size,
// and other bytes.
func claiming(t *testing.T, d oci.Descriptor, content []byte) string {
	t.Helper()
	up := registrytest.StartTest(t, registrytest.Options{})
	up.AddImage("team/web", "v1", registrytest.ImageSpec{Seed: 4})
	tar := filepath.Join(t.TempDir(), "images.tar")
	save(t, tar, archive.WriteOptions{}, nil, saved{up, "team/web:v1", "up.test/team/web:v1"})
	all := entries(t, tar)
	manifest, err := json.Marshal(map[string]any{
		"schemaVersion": 2, "mediaType": oci.MediaTypeImageManifest,
		"layers": []oci.Descriptor{{MediaType: "application/vnd.oci.image.layer.v1.tar", Digest: d.Digest, Size: d.Size}},
	})
	if err != nil {
		t.Fatal(err)
	}
	var index struct {
		SchemaVersion int              `json:"schemaVersion"`
		Manifests     []map[string]any `json:"manifests"`
	}
	if err := json.Unmarshal(all[layout.IndexFile], &index); err != nil {
		t.Fatal(err)
	}
	index.Manifests[0]["digest"], index.Manifests[0]["size"] = oci.DigestOf(manifest), len(manifest)
	if all[layout.IndexFile], err = json.Marshal(index); err != nil {
		t.Fatal(err)
	}
	all[layout.BlobPath(oci.DigestOf(manifest))], all[layout.BlobPath(d.Digest)] = manifest, content
	pack(t, tar, all)
	return tar
}

// An archive may say of any digest that it has it. That opens no private blob: what it has
// is proven first.
func TestAnArchiveThatClaimsAPrivateBlobDoesNotOpenIt(t *testing.T) {
	for fact, same := range map[string]bool{"other bytes": false, "the same bytes": true} {
		t.Run(fact, func(t *testing.T) {
			c := startCorp(t, registrytest.SchemeBasic, nil)
			private := c.known["team/a"].Layers[0][0]
			r := c.as(t, "alice:wonder", "GET", "/v2/corp.test/team/a/blobs/"+private.Digest.String())
			if r.status != http.StatusOK {
				t.Fatalf("%d %s", r.status, r.body)
			}
			c.settle(t)
			c.end(t)
			content := r.body
			if !same {
				content = bytes.Repeat([]byte("?"), len(r.body))
			}
			for _, u := range load(t, dataDir(t), "up.test=archive:"+claiming(t, private, content)).Upstreams {
				if u.Registry.String() == "up.test" {
					c.conf.Upstreams = append(c.conf.Upstreams, u)
				}
			}
			m := serve(t, c.conf)
			if r := m.get(t, "/v2/up.test/team/web/manifests/v1"); r.status != http.StatusOK {
				t.Fatalf("%d %s", r.status, r.body)
			}
			for range 2 {
				body, _ := m.whole(t, "/v2/up.test/team/web/blobs/"+private.Digest.String())
				if got := bytes.Equal(body, r.body); got != same {
					t.Errorf("the private blob was served: %t", got)
				}
			}
		})
	}
}
