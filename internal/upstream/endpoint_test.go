package upstream

import (
	"testing"
	"testing/synctest"

	"sampan/internal/oci"
	"sampan/internal/registrytest"
)

func TestAnEndpointForBlobsIsAskedForNothingElse(t *testing.T) {
	for name, trusted := range map[string]registrytest.Behavior{
		"the other answers": {}, "the other fails": always(registrytest.Fault{Answer: registrytest.Status(503)}),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFleet(t, Options{BlobsOnly: []bool{true}, Hedge: hedge}, registrytest.Behavior{}, trusted)
				img := f.image()
				repo, d := repository(t, "a/b"), img.Manifest.Descriptor.Digest
				for range 2 * failuresToOpen {
					_, tagErr := f.ResolveTag(t.Context(), repo, tag(t, "v1"))
					_, manifestErr := f.Manifest(t.Context(), repo, d)
					_, taggedErr := f.TaggedManifest(t.Context(), repo, tag(t, "v1"))
					_, statErr := f.StatBlob(t.Context(), repo, img.Blobs()[0].Digest)
					_, tagsErr := f.Tags(t.Context(), repo)
					_, referrersErr := f.Referrers(t.Context(), repo, d)
					for _, err := range []error{tagErr, manifestErr, taggedErr, statErr, tagsErr, referrersErr} {
						if fails := name == "the other fails"; fails != (oci.CodeOf(err) == oci.CodeUnavailable) || !fails && err != nil {
							t.Errorf("got %v", err)
						}
					}
				}
				if n := f.regs[0].Count(""); n != 0 {
					t.Errorf("it was asked %d times", n)
				}
				_, part, err := fetch(t.Context(), f.FetchBlob(repo, img.Blobs()[0].Digest), 0, -1)
				if err != nil || part.Vouched || f.regs[0].Count(registrytest.KindBlob) != 1 {
					t.Errorf("blob: %+v, %v", part, err)
				}
			})
		})
	}
}

func TestATrustedEndpointVouches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, Options{BlobsOnly: []bool{true}}, always(registrytest.Fault{Answer: registrytest.Status(404)}), registrytest.Behavior{})
		blob := f.blob(1000, 1)
		_, part, err := fetch(t.Context(), f.FetchBlob(repository(t, "a/b"), blob.Digest), 0, -1)
		if err != nil || !part.Vouched || part.Endpoint != f.endpoints[1].String() {
			t.Errorf("%+v, %v", part, err)
		}
	})
}

// What an endpoint for blobs does not have may exist nevertheless.
func TestUnknownOfAnEndpointForBlobsIsNoAnswer(t *testing.T) {
	for _, status := range []int{401, 403, 404, 416} {
		synctest.Test(t, func(t *testing.T) {
			f := newFleet(t, Options{BlobsOnly: []bool{false, true}},
				always(registrytest.Fault{Answer: registrytest.Status(503)}), always(registrytest.Fault{Answer: registrytest.Status(status)}))
			blob := f.blob(1000, 1)
			for range 2 * failuresToOpen {
				_, _, err := fetch(t.Context(), f.FetchBlob(repository(t, "a/b"), blob.Digest), 0, -1)
				wantCode(t, err, oci.CodeUnavailable)
			}
		})
	}
}

func TestSomebodyMustBeAskedForManifests(t *testing.T) {
	_, err := New(Options{Registry: oci.DockerHub, Endpoints: urls(t, "https://a.example", "https://b.example"), BlobsOnly: []bool{true, true}})
	if err == nil {
		t.Error("endpoints for blobs alone are not refused")
	}
}
