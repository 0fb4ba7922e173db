package local

import (
	"bytes"
	"path/filepath"
	"testing"

	"sampan/internal/oci"
	"sampan/internal/transfer/layout"
)

// Whatever an archive calls its entries, what is proven is what they have.
func TestAClaimIsProvenByTheBytes(t *testing.T) {
	app := repository(t, "docker.io/team/app")
	content := files(one, two)
	content[layout.BlobPath(one.blob())] = bytes.Repeat([]byte("?"), len(one.layer))
	name := filepath.Join(t.TempDir(), "images.tar")
	writeArchive(t, name, content)
	u := serve(t, nil, Place{Path: name})
	if _, err := u.StatBlob(t.Context(), app, one.blob()); err != nil {
		t.Fatalf("the claim: %v", err)
	}
	for range 2 {
		_, err := u.ProveBlob(t.Context(), app, one.blob())
		wantCode(t, err, oci.CodeUnavailable)
		if d, err := u.ProveBlob(t.Context(), app, two.blob()); err != nil || d.Size != int64(len(two.layer)) {
			t.Errorf("%+v %v", d, err)
		}
		_, err = u.ProveBlob(t.Context(), app, oci.DigestOf([]byte("nothing")))
		wantCode(t, err, oci.CodeBlobUnknown)
	}
	part, err := u.FetchBlob(app, two.blob()).Part(t.Context(), 0, -1)
	if err != nil || part.Vouched {
		t.Errorf("its bytes alone are possession: %v", err)
	}
	part.Body.Close()
	r, up := network(t)
	one.add(r, "team/app", "1")
	u = serve(t, up, Place{Path: name})
	if _, err := u.ProveBlob(t.Context(), app, one.blob()); err != nil {
		t.Errorf("what the registry says instead: %v", err)
	}
}
