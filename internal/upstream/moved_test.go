package upstream

import (
	"errors"
	"io"
	"net/http"
	"slices"
	"testing"

	"sampan/internal/oci"
	"sampan/internal/registrytest"
)

var toOld = Options{Moved: map[string]string{"new/a": "old"}}

// What a repository does not have is read where it was before, on every way, with the
// redirects and tokens of each kind of registry.
func TestOldContentIsReadWhereItWasBefore(t *testing.T) {
	for name, behavior := range presets() {
		t.Run(name, func(t *testing.T) {
			reg, r := start(t, registrytest.Options{Behavior: behavior}, toOld)
			img := reg.AddImage("old", "1.7", registrytest.ImageSpec{})
			repo, root := repository(t, "new/a"), img.Manifest.Descriptor
			if d, err := r.ResolveTag(t.Context(), repo, tag(t, "1.7")); err != nil || d.Digest != root.Digest {
				t.Errorf("got %v, %v", d, err)
			}
			if m, err := r.TaggedManifest(t.Context(), repo, tag(t, "1.7")); err != nil || m.Descriptor.Digest != root.Digest {
				t.Errorf("got %v, %v", m.Descriptor, err)
			}
			if m, err := r.Manifest(t.Context(), repo, root.Digest); err != nil || string(m.Bytes) != string(img.Manifest.Bytes) {
				t.Errorf("got %v, %v", m.Descriptor, err)
			}
			layer := img.Layers[0][0]
			if d, err := r.StatBlob(t.Context(), repo, layer.Digest); err != nil || d.Size != layer.Size {
				t.Errorf("got %v, %v", d, err)
			}
			b, err := r.Blob(t.Context(), repo, layer.Digest)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = b.Close() }()
			if ok, err := layer.Digest.VerifyReader(b); !ok || err != nil {
				t.Errorf("right %v, error %v", ok, err)
			}
		})
	}
}

// What is in its place is asked for once, and what is nowhere once in both.
func TestWhatIsInItsPlaceIsAskedForOnce(t *testing.T) {
	f := newFake(t, func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path != "/v2/new/a/manifests/v1" {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		w.Header().Set("Content-Type", oci.MediaTypeImageManifest)
		_, _ = io.WriteString(w, manifestText)
	})
	r := open(t, toOld, f.URL)
	if _, err := r.TaggedManifest(t.Context(), repository(t, "new/a"), tag(t, "v1")); err != nil {
		t.Error(err)
	}
	_, err := r.TaggedManifest(t.Context(), repository(t, "new/a"), tag(t, "v2"))
	wantCode(t, err, oci.CodeManifestUnknown)
	_, err = r.TaggedManifest(t.Context(), repository(t, "new/b"), tag(t, "v1"))
	wantCode(t, err, oci.CodeManifestUnknown)
	_, err = r.Tags(t.Context(), repository(t, "new/a"))
	wantCode(t, err, oci.CodeNameUnknown)
	want := []string{
		"GET /v2/new/a/manifests/v1",
		"GET /v2/new/a/manifests/v2", "GET /v2/old/manifests/v2",
		"GET /v2/new/b/manifests/v1",
		"GET /v2/new/a/tags/list",
	}
	if got := f.asked(); !slices.Equal(got, want) {
		t.Errorf("asked %q", got)
	}
}

// That the other repository gives no answer does not mean that it lacks what was asked for.
func TestAnOldPlaceThatIsSilentSaysNothing(t *testing.T) {
	f := newFake(t, func(w http.ResponseWriter, req *http.Request) {
		status := http.StatusNotFound
		if req.URL.Path == "/v2/old/manifests/v1" {
			status = http.StatusServiceUnavailable
		}
		w.WriteHeader(status)
	})
	r := open(t, toOld, f.URL)
	_, err := r.TaggedManifest(t.Context(), repository(t, "new/a"), tag(t, "v1"))
	wantCode(t, err, oci.CodeUnavailable)
}

func TestAMoveToWhatIsNoRepositoryIsRefused(t *testing.T) {
	o := Options{Registry: repository(t, "a").Registry(), Endpoints: urls(t, "http://registry.example"), Moved: map[string]string{"a": "../b"}}
	r, err := New(o)
	if err == nil {
		err = errors.Join(errors.New("accepted"), r.Close())
	}
	wantCode(t, err, oci.CodeNameInvalid)
}
