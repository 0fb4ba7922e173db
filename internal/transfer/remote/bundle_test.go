package remote

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"sampan/internal/oci"
	"sampan/internal/transfer"
)

// A faulty target is a fake that something stands before, for as long as it is on.
func faulty(t *testing.T, fault func(w http.ResponseWriter, r *http.Request) bool) (f *fake, on *atomic.Bool) {
	t.Helper()
	f, on = newFake(t, behavior{}), new(atomic.Bool)
	on.Store(true)
	f.Server.Close()
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !on.Load() || !fault(w, r) {
			f.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(f.Server.Close)
	return f, on
}

// Whatever fails, for however long, no tag points at something incomplete, and running
// again finishes.
func TestWhateverFailsRunningAgainFinishes(t *testing.T) {
	isUpload := func(r *http.Request) bool {
		return r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/uploads/")
	}
	for fact, fault := range map[string]func(w http.ResponseWriter, r *http.Request) bool{
		"an upload is refused": func(w http.ResponseWriter, r *http.Request) bool {
			if !isUpload(r) {
				return false
			}
			refuse(w, http.StatusForbidden, "DENIED", "no \u0007 more")
			return true
		},
		"an upload is forgotten, each time": func(w http.ResponseWriter, r *http.Request) bool {
			if !isUpload(r) {
				return false
			}
			refuse(w, http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN", "no \u0007 such upload")
			return true
		},
		"the type is refused": func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method != http.MethodPut || r.Header.Get("Content-Type") != oci.MediaTypeImageIndex {
				return false
			}
			refuse(w, http.StatusBadRequest, "MANIFEST_INVALID", "no \u0007 index")
			return true
		},
		"the disk is full": func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodHead {
				return false
			}
			w.WriteHeader(http.StatusInsufficientStorage)
			return true
		},
		"a page of HTML": func(w http.ResponseWriter, _ *http.Request) bool {
			w.WriteHeader(http.StatusBadGateway)
			io.WriteString(w, "<html>bad gateway</html>")
			return true
		},
	} {
		t.Run(fact, func(t *testing.T) {
			t.Parallel()
			b := newBed(t, behavior{})
			target, on := faulty(t, fault)
			b.target = target
			job := b.job(t, "team/app:1", "a/app")
			if _, err := b.copy(t, transfer.Options{}, job); err == nil || strings.ContainsRune(err.Error(), 7) {
				t.Errorf("got %v", err)
			}
			if tags := target.tags("a/app"); len(tags) != 0 {
				t.Errorf("published: %v", tags)
			}
			on.Store(false)
			if _, err := b.copy(t, transfer.Options{}, job); err != nil {
				t.Error(err)
			}
			if got := target.manifests["a/app"]["1"]; string(got.raw) != string(b.image.Manifest.Bytes) {
				t.Errorf("the tag is %q", got.raw)
			}
		})
	}
}

// An incomplete reader is one of a registry that leaves some blobs out.
type incomplete struct {
	*Registry
	lacks map[oci.Digest]bool
}

func (r incomplete) StatBlob(ctx context.Context, repo oci.Repository, digest oci.Digest) (oci.Descriptor, error) {
	if r.lacks[digest] {
		return oci.Descriptor{}, oci.ErrBlobUnknown
	}
	return r.Registry.StatBlob(ctx, repo, digest)
}

// FetchBlob hides the registry's own.
func (r incomplete) FetchBlob(repo oci.Repository, digest oci.Digest) oci.BlobParts {
	if r.lacks[digest] {
		return nothing{}
	}
	return oci.PartsOf(r.Registry, repo, digest)
}

type nothing struct{}

func (nothing) Part(context.Context, int64, int64) (oci.BlobPart, error) {
	return oci.BlobPart{}, oci.ErrBlobUnknown
}

// A bundle is completed from where its other blobs were loaded before: by a mount, or,
// where the registry does none, by its bytes.
func TestABundleIsCompletedByTheRegistry(t *testing.T) {
	for fact, behave := range map[string]behavior{
		"by mounts":                   {},
		"… with tokens for both":      {auth: true},
		"where mounts are denied":     {refuseMount: true},
		"where a mount begins anew":   {noMount: true},
		"where there are no HEADs":    {noHead: true},
		"… with tokens for both, too": {auth: true, refuseMount: true},
	} {
		t.Run(fact, func(t *testing.T) {
			t.Parallel()
			b := newBed(t, behave)
			before := b.job(t, "team/app:1", "before/app")
			if _, err := b.copy(t, transfer.Options{}, before); err != nil {
				t.Fatal(err)
			}
			lacked := b.image.Layers[0][0].Digest
			job := b.job(t, "team/app:1", "a/app")
			job.Reader, job.Partial = incomplete{open(t, job.Source.Repository.Registry(), false), map[oci.Digest]bool{lacked: true}}, true
			sent := b.source.BytesSentOf(lacked)
			hints := map[oci.Digest][]oci.Repository{lacked: {before.Target}}
			if _, err := b.copy(t, transfer.Options{Hints: hints}, job); err != nil {
				t.Fatal(err)
			}
			if got := b.target.manifests["a/app"]["1"]; string(got.raw) != string(b.image.Manifest.Bytes) {
				t.Errorf("the tag is %q", got.raw)
			}
			if !lacked.Verify(b.target.blobs["a/app"][lacked.String()]) {
				t.Error("the blob is not there")
			}
			if again := b.source.BytesSentOf(lacked); again != sent {
				t.Errorf("%d bytes of it were read at the source", again-sent)
			}
			job.Target = b.job(t, "team/app:1", "b/app").Target
			writes := b.target.count("P")
			_, err := b.copy(t, transfer.Options{Hints: map[oci.Digest][]oci.Repository{lacked: {b.job(t, "team/app:1", "nowhere").Target}}}, job)
			if !errors.As(err, new(*transfer.Lacks)) || b.target.count("P") != writes {
				t.Errorf("with a wrong hint: %v, %d writes", err, b.target.count("P")-writes)
			}
		})
	}
}
