package app_test

import (
	"bytes"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"sampan/internal/oci"
	"sampan/internal/registrytest"
	"sampan/internal/transfer/archive"
	"sampan/internal/transfer/layout"
)

// Whatever an archive claims, nobody gets the complete bytes of another digest.
func TestAHostileArchiveYieldsNoWrongDigest(t *testing.T) {
	up := registrytest.StartTest(t, registrytest.Options{})
	image := up.AddImage("team/web", "v1", registrytest.ImageSpec{Layers: []int64{200_000, 3}, Seed: 4})
	good := filepath.Join(t.TempDir(), "good.tar")
	save(t, good, archive.WriteOptions{}, nil, saved{up, "team/web:v1", "up.test/team/web:v1"})
	blob := func(d oci.Digest) string { return layout.BlobPath(d) }
	big, small, manifest := image.Layers[0][0].Digest, image.Layers[0][1].Digest, image.Manifest.Descriptor.Digest
	for fact, c := range map[string]struct {
		change func(map[string][]byte)
		cut    int64 // of the file, from its end
		broken string
	}{
		"as it was saved":          {func(map[string][]byte) {}, 0, ""},
		"a bit of a layer":         {func(all map[string][]byte) { all[blob(big)][77] ^= 1 }, 0, "blobs/" + big.String()},
		"the last byte of a layer": {func(all map[string][]byte) { all[blob(big)][199_999] ^= 1 }, 0, "blobs/" + big.String()},
		"a small layer":            {func(all map[string][]byte) { all[blob(small)] = []byte("abc") }, 0, "blobs/" + small.String()},
		"a layer that is shorter":  {func(all map[string][]byte) { all[blob(big)] = all[blob(big)][:100] }, 0, "blobs/" + big.String()},
		"a layer that is longer":   {func(all map[string][]byte) { all[blob(small)] = append(all[blob(small)], 0) }, 0, "blobs/" + small.String()},
		"another manifest": {func(all map[string][]byte) {
			all[blob(manifest)] = bytes.Replace(all[blob(manifest)], []byte("layers"), []byte("Layers"), 1)
		}, 0, "manifests/v1"},
		"a manifest that is longer": {func(all map[string][]byte) { all[blob(manifest)] = append(all[blob(manifest)], ' ') }, 0, "manifests/v1"},
		"a layer in its place":      {func(all map[string][]byte) { all[blob(manifest)] = all[blob(big)] }, 0, "manifests/v1"},
		"an archive that is cut":    {func(map[string][]byte) {}, 150_000, "manifests/v1"},
	} {
		t.Run(fact, func(t *testing.T) {
			all := entries(t, good)
			c.change(all)
			tar := filepath.Join(t.TempDir(), "images.tar")
			pack(t, tar, all)
			info, err := os.Stat(tar)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Truncate(tar, info.Size()-c.cut); err != nil {
				t.Fatal(err)
			}
			up.ResetCounts()
			alone := start(t, dataDir(t), "up.test=archive:"+tar)
			both := start(t, dataDir(t), "up.test=archive:"+tar, "up.test="+up.URL())
			for path, want := range map[string]oci.Digest{
				"manifests/v1": manifest, "manifests/" + manifest.String(): manifest,
				"blobs/" + big.String(): big, "blobs/" + small.String(): small,
			} {
				for range 2 {
					body, whole := alone.whole(t, "/v2/up.test/team/web/"+path)
					if whole && !want.Verify(body) {
						t.Errorf("%s is %d bytes that are something else", path, len(body))
					}
					if whole && path == c.broken {
						t.Errorf("%s was served", path)
					}
					if c.broken == "" && !whole {
						t.Errorf("%s was not served", path)
					}
				}
				// What the registry has instead is served, the second time at the latest:
				// a client that got wrong bytes before they were proven is cut off.
				body, whole := both.whole(t, "/v2/up.test/team/web/"+path)
				if !whole {
					body, whole = both.whole(t, "/v2/up.test/team/web/"+path)
				}
				if !whole || !want.Verify(body) {
					t.Errorf("behind an archive, %s is %d bytes, %t", path, len(body), whole)
				}
			}
		})
	}
}

// whole gets a body, and tells whether a client would take it for complete.
func (m *mirror) whole(t *testing.T, path string) (body []byte, whole bool) {
	t.Helper()
	r := m.get(t, path)
	return r.body, r.err == nil && r.status == http.StatusOK
}
