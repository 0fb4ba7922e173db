package cache_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"sampan/internal/cache"
	"sampan/internal/oci"
)

const missingFor = 30 * time.Second

func TestRefusalsAreRememberedForAMoment(t *testing.T) {
	for _, code := range []oci.Code{oci.CodeManifestUnknown, oci.CodeNameUnknown, oci.CodeUnauthorized, oci.CodeDenied} {
		t.Run(string(code), func(t *testing.T) {
			inBubble(t, cache.Freshness{FreshFor: freshFor, StaleIfError: cache.Forever, MissingFor: missingFor}, func(t *testing.T, f *fixture, _ oci.Manifest) {
				repo, none := mustRepo(t, "app"), oci.DigestOf([]byte("none"))
				f.up.set(oci.Errorf(code, "no"))
				for _, what := range []struct {
					name string
					ask  func() error
				}{
					{"an unknown tag", func() error { return second(f.ResolveTag(t.Context(), repo, mustTag("other"))) }},
					{"a manifest", func() error { return second(f.Manifest(t.Context(), repo, none)) }},
					{"a blob", func() error { return second(f.Blob(t.Context(), repo, none)) }},
					{"a list of tags", func() error { return second(f.Tags(t.Context(), repo)) }},
				} {
					for range 5 {
						if err := what.ask(); oci.CodeOf(err) != code {
							t.Errorf("%s: %v", what.name, err)
						}
					}
					if n := f.up.total(); n != 1 {
						t.Errorf("%s: asked %d times", what.name, n)
					}
					if pass(missingFor); oci.CodeOf(what.ask()) != code || f.up.total() != 1 {
						t.Errorf("%s: not asked again later", what.name)
					}
				}
			})
		})
	}
}

// An answer is an answer while it is remembered, too: what was served before
// does not mask it, also not when the upstream has gone down since.
func TestRememberedRefusalIsNotMaskedAsStale(t *testing.T) {
	inBubble(t, cache.Freshness{StaleIfError: cache.Forever, MissingFor: missingFor}, func(t *testing.T, f *fixture, _ oci.Manifest) {
		f.up.set(oci.Errorf(oci.CodeDenied, "no"))
		if _, _, err := f.resolve(t); oci.CodeOf(err) != oci.CodeDenied {
			t.Fatal(err)
		}
		f.up.set(errors.New("connection refused"))
		if _, err := f.Tags(t.Context(), mustRepo(t, "app")); err == nil { // the registry is held to be down
			t.Fatal("a list from nowhere")
		}
		if _, _, err := f.resolve(t); oci.CodeOf(err) != oci.CodeDenied {
			t.Errorf("got %v", err)
		}
	})
}

func TestFailuresAreNotRememberedAsRefusals(t *testing.T) {
	inBubble(t, cache.Freshness{MissingFor: missingFor}, func(t *testing.T, f *fixture, _ oci.Manifest) {
		for _, err := range []error{errors.New("broken"), oci.ErrUnavailable, oci.ErrTooManyRequests, oci.Errorf(oci.CodeUnsupported, "schema 1")} {
			f.up.set(err)
			for range 2 {
				_, _ = f.ResolveTag(t.Context(), mustRepo(t, "app"), mustTag("other"))
			}
			if n := f.up.total(); n != 2 {
				t.Errorf("%v: asked %d times", err, n)
			}
		}
	})
}

// What a client asks for too early must not be refused once the upstream names
// it: whoever pushes an image pushes its parts first.
func TestRefusalIsForgottenWhenTheUpstreamNamesTheThing(t *testing.T) {
	policy := cache.Freshness{FreshFor: freshFor, StaleIfError: cache.Forever, MissingFor: missingFor}
	t.Run("in a manifest", func(t *testing.T) {
		inBubble(t, policy, func(t *testing.T, f *fixture, _ oci.Manifest) {
			repo := mustRepo(t, "app")
			layer := []byte("a layer that is pushed later")
			doc, err := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": oci.MediaTypeImageManifest, "layers": []oci.Descriptor{
				{MediaType: "application/vnd.oci.image.layer.v1.tar", Digest: oci.DigestOf(layer), Size: int64(len(layer))},
			}})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.Blob(t.Context(), repo, oci.DigestOf(layer)); !oci.IsUnknown(err) {
				t.Fatal(err)
			}
			if _, err := f.Manifest(t.Context(), repo, oci.DigestOf(doc)); !oci.IsUnknown(err) {
				t.Fatal(err)
			}
			child := f.up.push(t, "docker.io/library/app:child", layer)
			if string(child.Bytes) != string(doc) {
				t.Fatalf("%s\n%s", child.Bytes, doc)
			}
			index := f.up.tagIndex(t, "index", child.Descriptor)
			if _, err := f.ResolveTag(t.Context(), repo, mustTag("index")); err != nil {
				t.Fatal(err)
			}
			if _, err := f.Manifest(t.Context(), repo, child.Descriptor.Digest); err != nil {
				t.Errorf("the manifest that index %s names: %v", index, err)
			}
			if b, err := f.Blob(t.Context(), repo, oci.DigestOf(layer)); err != nil {
				t.Errorf("the layer that it names: %v", err)
			} else {
				_ = b.Close()
			}
		})
	})
	t.Run("in a list of tags", func(t *testing.T) {
		inBubble(t, policy, func(t *testing.T, f *fixture, _ oci.Manifest) {
			repo := mustRepo(t, "app")
			if _, err := f.ResolveTag(t.Context(), repo, mustTag("a")); !oci.IsUnknown(err) {
				t.Fatal(err)
			}
			f.up.push(t, "docker.io/library/app:a", layerB)
			if _, err := f.Tags(t.Context(), repo); err != nil { // has a and b
				t.Fatal(err)
			}
			if _, err := f.ResolveTag(t.Context(), repo, mustTag("a")); err != nil {
				t.Errorf("got %v", err)
			}
		})
	})
}

// tagIndex makes an index of one child and tags it.
func (r *registry) tagIndex(t *testing.T, tag string, child oci.Descriptor) oci.Digest {
	t.Helper()
	m := r.add(t, "docker.io/library/app:"+tag, oci.MediaTypeImageIndex, map[string]any{"manifests": []oci.Descriptor{child}})
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tags["docker.io/library/app:"+tag] = m
	return m.Descriptor.Digest
}

// Strangers may ask for made-up names without end.
func TestRefusalsRememberedAreBounded(t *testing.T) {
	f := newFixture(t)
	f.policy = cache.Freshness{MissingFor: time.Hour}
	const most = 4096
	for i := range most + 10 {
		if _, err := f.ResolveTag(t.Context(), mustRepo(t, "app"), mustTag(fmt.Sprint("t", i))); !oci.IsUnknown(err) {
			t.Fatal(err)
		}
	}
	f.up.total()
	asked := 0
	for i := range most + 10 {
		_, _ = f.ResolveTag(t.Context(), mustRepo(t, "app"), mustTag(fmt.Sprint("t", i)))
		asked += f.up.total()
	}
	if asked < 10 || asked > most+10 {
		t.Errorf("asked again for %d of %d", asked, most+10)
	}
}

// Nor is it when it is no longer given again without asking: the last answer was a
// refusal, and what was said before that is not the registry's word any more.
func TestLastAnswerIsNotMaskedByAnOlderOne(t *testing.T) {
	inBubble(t, cache.Freshness{StaleIfError: cache.Forever, MissingFor: missingFor}, func(t *testing.T, f *fixture, m oci.Manifest) {
		f.up.set(oci.Errorf(oci.CodeDenied, "no"))
		if _, _, err := f.resolve(t); oci.CodeOf(err) != oci.CodeDenied {
			t.Fatal(err)
		}
		pass(2 * missingFor)
		f.up.set(errors.New("connection refused"))
		if d, _, err := f.resolve(t); err == nil {
			t.Errorf("%s is served although it was refused", d)
		}
		pass(time.Hour)
		f.up.set(nil)
		if d, _, err := f.resolve(t); err != nil || d != m.Descriptor.Digest {
			t.Errorf("allowed again: %v", err)
		}
		f.up.set(errors.New("connection refused"))
		if _, _, err := f.resolve(t); err != nil {
			t.Errorf("an old answer that was the last one: %v", err)
		}
	})
}
