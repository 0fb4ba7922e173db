package remote

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"

	"sampan/internal/oci"
	"sampan/internal/transfer"
)

func TestATagIsDeletedAlone(t *testing.T) {
	for fact, behave := range map[string]behavior{
		"a registry by the book":        {},
		"tokens hold what is asked for": {auth: true},
		"manifests alone are deleted":   {keepsTags: http.StatusBadRequest, deletions: 3},
		"… with tokens":                 {keepsTags: http.StatusBadRequest, deletions: 3, auth: true},
	} {
		t.Run(fact, func(t *testing.T) {
			t.Parallel()
			b := newBed(t, behave)
			job := b.job(t, "team/app:1", "a/app")
			job.Tags = tagsOf(t, "1", "2", "3")
			if _, err := b.copy(t, transfer.Options{}, job); err != nil {
				t.Fatal(err)
			}
			r := open(t, b.target.registry(t), true)
			b.target.forget()
			for _, tag := range tagsOf(t, "2", "3") {
				if err := r.DeleteTag(t.Context(), job.Target, tag); err != nil {
					t.Fatal(err)
				}
			}
			if got := b.target.tags("a/app"); !slices.Equal(got, []string{"1"}) {
				t.Errorf("left are %v", got)
			}
			if got := b.target.manifests["a/app"][b.image.Manifest.Descriptor.Digest.String()]; string(got.raw) != string(b.image.Manifest.Bytes) {
				t.Error("the manifest went with its tags")
			}
			// A challenge and a token for all deletions of a repository; one trial, where
			// manifests are deleted, and one more token to put what stands in for the tag.
			most, tokens := 3, 1
			if behave.keepsTags != 0 {
				most, tokens = 6, 2
			}
			if got := b.target.count("DELETE"); got > most || b.target.count("GET /token") > tokens {
				t.Errorf("asked %v", b.target.requests)
			}
			if err := r.DeleteTag(t.Context(), job.Target, tagsOf(t, "2")[0]); err != nil {
				t.Errorf("a tag that is gone: %v", err)
			}
		})
	}
}

func TestATagThatCannotBeDeletedStaysWhatItWas(t *testing.T) {
	for fact, behave := range map[string]behavior{
		"deleting is switched off":         {keepsTags: http.StatusMethodNotAllowed},
		"it is not there":                  {keepsTags: http.StatusNotImplemented},
		"neither tags nor manifests":       {keepsTags: http.StatusBadRequest},
		"manifests, but not for long":      {keepsTags: http.StatusBadRequest, deletions: 1},
		"nobody takes what would stand in": {keepsTags: http.StatusBadRequest, deletions: 1, refusedType: oci.MediaTypeImageManifest},
	} {
		t.Run(fact, func(t *testing.T) {
			b := newBed(t, behavior{})
			job := b.job(t, "team/app:1", "a/app")
			if _, err := b.copy(t, transfer.Options{}, job); err != nil {
				t.Fatal(err)
			}
			b.target.behave = behave
			err := open(t, b.target.registry(t), true).DeleteTag(t.Context(), job.Target, job.Tags[0])
			if behave.refusedType == "" && !errors.Is(err, &oci.Error{Code: oci.CodeUnsupported}) || err == nil {
				t.Errorf("got %v", err)
			}
			if got := b.target.manifests["a/app"]["1"]; string(got.raw) != string(b.image.Manifest.Bytes) {
				t.Errorf("the tag is now %s", got.raw)
			}
		})
	}
}

// Whether manifests can be deleted is tried once, not for each of a thousand tags: each
// trial leaves a manifest where they cannot.
func TestWhetherManifestsCanBeDeletedIsTriedOnce(t *testing.T) {
	b := newBed(t, behavior{})
	job := b.job(t, "team/app:1", "a/app")
	job.Tags = tagsOf(t, "1", "2", "3")
	if _, err := b.copy(t, transfer.Options{}, job); err != nil {
		t.Fatal(err)
	}
	b.target.behave = behavior{keepsTags: http.StatusBadRequest}
	r := open(t, b.target.registry(t), true)
	b.target.forget()
	for _, tag := range job.Tags {
		if err := r.DeleteTag(t.Context(), job.Target, tag); !errors.Is(err, &oci.Error{Code: oci.CodeUnsupported}) {
			t.Errorf("%s: %v", tag, err)
		}
	}
	if got := b.target.count("PUT /v2/a/app/manifests/"); got != 1 {
		t.Errorf("%d manifests were put for it: %v", got, b.target.requests)
	}
}

// A tag that could not be deleted is put back, and tried again until it is there.
func TestATagIsPutBackWhereThatFailsAtFirst(t *testing.T) {
	b := newBed(t, behavior{})
	job := b.job(t, "team/app:1", "a/app")
	if _, err := b.copy(t, transfer.Options{}, job); err != nil {
		t.Fatal(err)
	}
	b.target.behave = behavior{keepsTags: http.StatusBadRequest, deletions: 1, instead: func(f *fake, w http.ResponseWriter, r *http.Request) bool {
		back := r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, "/manifests/1") && r.ContentLength == int64(len(b.image.Manifest.Bytes))
		if back && f.once("back", 2) {
			refuse(w, http.StatusServiceUnavailable, "UNAVAILABLE", "not now")
			return true
		}
		return false
	}}
	if err := open(t, b.target.registry(t), true).DeleteTag(t.Context(), job.Target, job.Tags[0]); !errors.Is(err, &oci.Error{Code: oci.CodeUnsupported}) {
		t.Errorf("got %v", err)
	}
	if got := b.target.manifests["a/app"]["1"]; string(got.raw) != string(b.image.Manifest.Bytes) {
		t.Errorf("the tag is now %s", got.raw)
	}
}

func tagsOf(t *testing.T, names ...string) []oci.Tag {
	t.Helper()
	var tags []oci.Tag
	for _, name := range names {
		tag, err := oci.ParseTag(name)
		if err != nil {
			t.Fatal(err)
		}
		tags = append(tags, tag)
	}
	return tags
}
