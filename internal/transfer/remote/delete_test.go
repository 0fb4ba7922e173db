package remote

import (
	"errors"
	"net/http"
	"slices"
	"testing"

	"sampan/internal/oci"
	"sampan/internal/transfer"
)

func TestATagIsDeletedAlone(t *testing.T) {
	for fact, behave := range map[string]behavior{
		"a registry by the book":        {},
		"tokens hold what is asked for": {auth: true},
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
			// One challenge and one token for all of a repository.
			if got := b.target.count("DELETE"); got > 3 || b.target.count("GET /token") > 1 {
				t.Errorf("asked %v", b.target.requests)
			}
			if err := r.DeleteTag(t.Context(), job.Target, tagsOf(t, "2")[0]); err != nil {
				t.Errorf("a tag that is gone: %v", err)
			}
		})
	}
}

func TestARegistryThatKeepsItsTagsIsNotAskedForTheirManifests(t *testing.T) {
	for _, status := range []int{http.StatusMethodNotAllowed, http.StatusBadRequest, http.StatusNotImplemented} {
		b := newBed(t, behavior{keepsTags: status})
		job := b.job(t, "team/app:1", "a/app")
		if _, err := b.copy(t, transfer.Options{}, job); err != nil {
			t.Fatal(err)
		}
		b.target.forget()
		err := open(t, b.target.registry(t), true).DeleteTag(t.Context(), job.Target, job.Tags[0])
		if !errors.Is(err, &oci.Error{Code: oci.CodeUnsupported}) {
			t.Errorf("status %d: %v", status, err)
		}
		if got := b.target.count("DELETE"); got != 1 || !slices.Equal(b.target.tags("a/app"), []string{"1"}) {
			t.Errorf("status %d: %d deletions, left are %v", status, got, b.target.tags("a/app"))
		}
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
