package running

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"

	"sampan/internal/oci"
	"sampan/internal/transfer"
)

// A fakeShelf takes every manifest, for the repository that an alias means, and notes what
// is pinned.
type fakeShelf struct {
	before []string // "repository reference" that are pinned
	pinned []string // that were pinned
	busy   int      // how many times somebody else is at it
}

const meant = "docker.io/library/app" // by "alias.test/app"

func (f *fakeShelf) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	switch r.Method + " " + r.URL.Path {
	case "GET " + pathPins:
		var pins []map[string]string
		for _, s := range f.before {
			var repository, reference string
			_, _ = fmt.Sscan(s, &repository, &reference)
			pins = append(pins, map[string]string{"repository": repository, "reference": reference})
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"pins": pins})
	case "PUT " + pathPins:
		f.pinned = append(f.pinned, q.Get("repository")+" "+q.Get("reference"))
	case "PUT " + pathManifest:
		if f.busy > 0 {
			f.busy--
			http.Error(w, "somebody else", http.StatusConflict)
			return
		}
		fallthrough
	case "GET " + pathManifest:
		fmt.Fprintf(w, `{"repository": %q}`, meant)
	}
}

func manifestOf(raw string) *oci.Manifest {
	d := oci.Descriptor{MediaType: oci.MediaTypeImageManifest, Digest: oci.DigestOf([]byte(raw)), Size: int64(len(raw))}
	return &oci.Manifest{Descriptor: d, Bytes: []byte(raw)}
}

// What is to stay is pinned once, as the mirror calls it: by its tags, or by its digest
// where it has none. What only belongs to an image is not.
func TestWhatIsToStayIsPinnedOnce(t *testing.T) {
	repo := mustRepository(t, "alias.test/app")
	image := manifestOf(`{"schemaVersion":2}`)
	d := image.Descriptor
	signature := manifestOf(fmt.Sprintf(`{"schemaVersion":2,"subject":{"mediaType":%q,"digest":%q,"size":%d}}`, d.MediaType, d.Digest, d.Size))
	tags := []oci.Tag{mustTag(t, "1"), mustTag(t, "2")}
	byTag, byDigest := meant+" 1", meant+" "+d.Digest.String()
	for fact, c := range map[string]struct {
		tags    []oci.Tag
		put     *oci.Manifest // nil for nothing
		before  []string
		pinned  []string
		unasked bool // nothing is to stay
	}{
		"by its tags":                   {tags: tags, put: image, pinned: []string{byTag, meant + " 2"}},
		"by its digest":                 {put: image, pinned: []string{byDigest}},
		"nothing had to be brought":     {tags: tags, pinned: []string{byTag, meant + " 2"}},
		"nor had it a tag":              {pinned: []string{byDigest}},
		"it was before":                 {tags: tags, before: []string{byTag}, pinned: []string{meant + " 2"}},
		"a signature of what is there":  {put: signature, pinned: []string{meant + " " + signature.Descriptor.Digest.String(), byDigest}},
		"nobody has said so":            {tags: tags, put: image, unasked: true},
		"nor of what was there already": {tags: tags, unasked: true},
	} {
		t.Run(fact, func(t *testing.T) {
			f := &fakeShelf{before: c.before}
			server := httptest.NewServer(f)
			defer server.Close()
			m := mirrorAt(t, server.URL, Options{})
			job := transfer.Job{Source: oci.Reference{Repository: repo, Digest: d.Digest}, Target: repo, Tags: c.tags}
			if !c.unasked {
				if err := m.Pin(t.Context(), []transfer.Job{job}); err != nil {
					t.Fatal(err)
				}
			}
			if c.put != nil {
				if err := m.PutManifest(t.Context(), repo, c.put.Descriptor, c.put.Bytes, c.tags); err != nil {
					t.Fatal(err)
				}
			}
			if err := m.PinReported(t.Context(), transfer.Report{Images: []transfer.Result{{Job: job, Descriptor: d}}}); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(f.pinned, c.pinned) {
				t.Errorf("pinned %q, want %q", f.pinned, c.pinned)
			}
		})
	}
}

// A child of an index is a part of it, and stays with it.
func TestAPartIsNotPinned(t *testing.T) {
	f := &fakeShelf{}
	server := httptest.NewServer(f)
	defer server.Close()
	m := mirrorAt(t, server.URL, Options{})
	repo := mustRepository(t, "alias.test/app")
	if err := m.Pin(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	child := manifestOf(`{"schemaVersion":2}`)
	if err := m.PutManifest(t.Context(), repo, child.Descriptor, child.Bytes, nil); err != nil || len(f.pinned) != 0 {
		t.Errorf("%v, pinned %q", err, f.pinned)
	}
}

// Who else brings a manifest is waited for.
func TestAManifestWaitsForWhoElseBringsIt(t *testing.T) {
	f := &fakeShelf{busy: 3}
	server := httptest.NewServer(f)
	defer server.Close()
	image := manifestOf(`{"schemaVersion":2}`)
	if err := mirrorAt(t, server.URL, Options{}).PutManifest(t.Context(), mustRepository(t, "alias.test/app"), image.Descriptor, image.Bytes, nil); err != nil || f.busy != 0 {
		t.Errorf("%v; %d times were left", err, f.busy)
	}
}
