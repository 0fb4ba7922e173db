package cache_test

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sampan/internal/oci"
	"sampan/internal/store"
)

var (
	layerA = bytes.Repeat([]byte("layer a "), 5000)
	layerB = bytes.Repeat([]byte("layer b "), 5000)
)

// pull fetches a tag, its manifest and its blobs, as a client does.
func (f *fixture) pull(t *testing.T, repo, tag string, blobs ...[]byte) (oci.Manifest, oci.Trace) {
	t.Helper()
	var trace oci.Trace
	ctx := oci.WithTrace(t.Context(), &trace)
	r := mustRepo(t, repo)
	desc, err := f.ResolveTag(ctx, r, mustTag(tag))
	if err != nil {
		t.Fatalf("resolve: %v", err)
	}
	m, err := f.Manifest(ctx, r, desc.Digest)
	if err != nil {
		t.Fatalf("manifest: %v", err)
	}
	if !desc.Digest.Verify(m.Bytes) || m.Descriptor.MediaType != desc.MediaType || m.Descriptor.Size != int64(len(m.Bytes)) {
		t.Fatalf("manifest %+v does not match %+v", m.Descriptor, desc)
	}
	for _, want := range blobs {
		b, err := f.Blob(ctx, r, oci.DigestOf(want))
		if err != nil {
			t.Fatalf("blob: %v", err)
		}
		got, err := io.ReadAll(b)
		if err := errors.Join(err, b.Close()); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("blob: %d bytes of %d, %v", len(got), len(want), err)
		}
	}
	return m, trace
}

func TestColdPullAsksOnceForEachPartAndWarmPullForNone(t *testing.T) {
	f := newFixture(t)
	f.up.push(t, "gcr.io/app/web:v1", layerA, layerB)
	_, trace := f.pull(t, "gcr.io/app/web", "v1", layerA, layerB)
	if trace.Result != oci.ResultMiss {
		t.Errorf("cold result %q", trace.Result)
	}
	if n := f.up.count("tagged"); n != 1 {
		t.Errorf("tag fetched %d times", n)
	}
	if n := f.up.count("blob"); n != 2 {
		t.Errorf("blobs fetched %d times", n)
	}
	if n := f.up.total(); n != 0 {
		t.Errorf("%d further questions", n)
	}
	f.fills.Close() // commits
	_, trace = f.pull(t, "gcr.io/app/web", "v1", layerA, layerB)
	if n := f.up.total(); n != 0 || trace.Result != oci.ResultHit {
		t.Errorf("warm pull asked %d questions, result %q", n, trace.Result)
	}
}

func TestSharedBlobIsFetchedOnceAndOnlyForThoseWhoMayHaveIt(t *testing.T) {
	f := newFixture(t)
	f.up.push(t, "gcr.io/app/web:v1", layerA)
	f.pull(t, "gcr.io/app/web", "v1", layerA)
	d := oci.DigestOf(layerA)
	f.up.total()

	t.Run("a stranger's name does not open it", func(t *testing.T) {
		if b, err := f.Blob(t.Context(), mustRepo(t, "quay.io/some/body"), d); !errors.Is(err, oci.ErrBlobUnknown) {
			t.Fatalf("got %v, %v", b, err)
		}
		if _, err := f.StatBlob(t.Context(), mustRepo(t, "quay.io/some/body"), d); !errors.Is(err, oci.ErrBlobUnknown) {
			t.Fatalf("stat: %v", err)
		}
		if _, err := f.Manifest(t.Context(), mustRepo(t, "quay.io/some/body"), d); !errors.Is(err, oci.ErrManifestUnknown) {
			t.Fatalf("as a manifest: %v", err)
		}
		if f.up.count("stat") != 2 || f.up.count("manifest") != 1 || f.up.total() != 0 {
			t.Error("its own upstream was not asked, or more than that")
		}
	})
	t.Run("a name whose upstream confirms it does, without a fetch", func(t *testing.T) {
		f.up.push(t, "quay.io/other/web:v1", layerA)
		f.up.total()
		b, err := f.Blob(t.Context(), mustRepo(t, "quay.io/other/web"), d)
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		if got, _ := io.ReadAll(b); !bytes.Equal(got, layerA) {
			t.Errorf("got %d bytes", len(got))
		}
		if f.up.count("stat") != 1 || f.up.total() != 0 {
			t.Error("more than one HEAD was asked")
		}
	})
	t.Run("a name whose manifest names it does, without a question", func(t *testing.T) {
		f.up.push(t, "ghcr.io/third/web:v1", layerA)
		f.pull(t, "ghcr.io/third/web", "v1", layerA)
		if f.up.count("tagged") != 1 || f.up.total() != 0 {
			t.Error("more than the manifest was asked for")
		}
	})
}

func TestJoiningAFetchNeedsItsOwnPermission(t *testing.T) {
	f := newFixture(t)
	f.up.push(t, "gcr.io/app/web:v1", layerA)
	d := oci.DigestOf(layerA)
	// Nobody knows the blob yet: the first opens a fetch, the stranger joins it or
	// begins his own, and must be refused in either case.
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			b, err := f.Blob(t.Context(), mustRepo(t, "gcr.io/app/web"), d)
			if err != nil {
				t.Error(err)
				return
			}
			_ = b.Close()
		})
		wg.Go(func() {
			if _, err := f.Blob(t.Context(), mustRepo(t, "gcr.io/some/body"), d); !errors.Is(err, oci.ErrBlobUnknown) {
				t.Errorf("stranger got %v", err)
			}
		})
	}
	wg.Wait()
}

func TestTagsMoveWithinTheirFreshness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.up.push(t, "docker.io/library/app:v1", layerA)
		old, _ := f.pull(t, "app", "v1")
		moved := f.up.push(t, "docker.io/library/app:v1", layerB)
		f.up.total()

		time.Sleep(freshFor / 2)
		if m, _ := f.pull(t, "app", "v1"); m.Descriptor.Digest != old.Descriptor.Digest || f.up.total() != 0 {
			t.Error("a fresh tag was asked for or moved")
		}
		time.Sleep(freshFor)
		if m, _ := f.pull(t, "app", "v1", layerB); m.Descriptor.Digest != moved.Descriptor.Digest {
			t.Error("the tag did not move")
		}
		if f.up.count("resolve") != 1 || f.up.count("manifest") != 1 || f.up.count("tagged") != 0 {
			t.Error("a moved tag takes one HEAD and one GET by digest")
		}
		time.Sleep(2 * freshFor)
		f.up.total()
		if _, trace := f.pull(t, "app", "v1"); trace.Result != oci.ResultHit {
			t.Errorf("unchanged tag is a %q", trace.Result)
		}
		if f.up.count("resolve") != 1 || f.up.total() != 0 {
			t.Error("an unchanged tag takes one HEAD")
		}
		// The old digest is still what it was.
		if m, err := f.Manifest(t.Context(), mustRepo(t, "app"), old.Descriptor.Digest); err != nil || !bytes.Equal(m.Bytes, old.Bytes) {
			t.Errorf("old digest: %v", err)
		}
	})
}

func TestManyWhoAskForAnExpiredTagAskOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.up.push(t, "docker.io/library/app:v1", layerA)
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() { f.pull(t, "app", "v1") })
		}
		wg.Wait()
		if n := f.up.count("tagged"); n != 1 {
			t.Errorf("cold: asked %d times", n)
		}
		time.Sleep(2 * freshFor)
		for range 100 {
			wg.Go(func() { f.pull(t, "app", "v1") })
		}
		wg.Wait()
		if n := f.up.count("resolve"); n != 1 {
			t.Errorf("expired: asked %d times", n)
		}
	})
}

func TestWhatWasServedIsServedWhileTheUpstreamGivesNoAnswer(t *testing.T) {
	failures := map[string]error{
		"unreachable":  errors.New("connection refused"),
		"unavailable":  oci.Errorf(oci.CodeUnavailable, "503"),
		"rate limited": &oci.Error{Code: oci.CodeTooManyRequests},
	}
	for name, failure := range failures {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t)
				want := f.up.push(t, "docker.io/library/app:v1", layerA)
				f.pull(t, "app", "v1", layerA)
				if _, err := f.Tags(t.Context(), mustRepo(t, "app")); err != nil {
					t.Fatal(err)
				}
				f.fills.Close()
				f.up.set(failure)
				time.Sleep(100 * freshFor)
				m, trace := f.pull(t, "app", "v1", layerA)
				if m.Descriptor.Digest != want.Descriptor.Digest || trace.Result != oci.ResultStale || trace.Stale == "" {
					t.Errorf("got %s, %+v", m.Descriptor.Digest, trace)
				}
				tags, err := f.Tags(t.Context(), mustRepo(t, "app"))
				if err != nil || !slices.Equal(tags, []oci.Tag{mustTag("a"), mustTag("b")}) {
					t.Errorf("tags %v, %v", tags, err)
				}
				if _, err := f.ResolveTag(t.Context(), mustRepo(t, "app"), mustTag("other")); err == nil || oci.IsUnknown(err) {
					t.Errorf("a tag that was never served: %v", err)
				}
			})
		})
	}
}

func TestAnswersAreNeverMaskedAsStale(t *testing.T) {
	for _, code := range []oci.Code{oci.CodeManifestUnknown, oci.CodeNameUnknown, oci.CodeUnauthorized, oci.CodeDenied} {
		t.Run(string(code), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t)
				m := f.up.push(t, "docker.io/library/app:v1", layerA)
				f.pull(t, "app", "v1", layerA)
				f.up.set(oci.Errorf(code, "no"))
				time.Sleep(2 * freshFor)
				if _, err := f.ResolveTag(t.Context(), mustRepo(t, "app"), mustTag("v1")); oci.CodeOf(err) != code {
					t.Errorf("got %v", err)
				}
				// The digest was seen to belong to the repository: it stays.
				if _, err := f.Manifest(t.Context(), mustRepo(t, "app"), m.Descriptor.Digest); err != nil {
					t.Errorf("by digest: %v", err)
				}
			})
		})
	}
}

func TestTagThatIsGoneUpstreamIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.up.push(t, "docker.io/library/app:v1", layerA)
		f.pull(t, "app", "v1")
		f.up.set(oci.Errorf(oci.CodeManifestUnknown, "gone"))
		time.Sleep(2 * freshFor)
		if _, err := f.ResolveTag(t.Context(), mustRepo(t, "app"), mustTag("v1")); !oci.IsUnknown(err) {
			t.Fatalf("got %v", err)
		}
		f.up.set(errors.New("unreachable"))
		if _, err := f.ResolveTag(t.Context(), mustRepo(t, "app"), mustTag("v1")); err == nil {
			t.Error("the tag that was gone is served again as stale")
		}
	})
}

func TestRottenManifestIsFetchedAgain(t *testing.T) {
	f := newFixture(t)
	m := f.up.push(t, "docker.io/library/app:v1", layerA)
	d := m.Descriptor.Digest
	if err := f.index.PutLinks(t.Context(), mustRepo(t, "app"), m.Descriptor); err != nil {
		t.Fatal(err)
	}
	if err := store.Put(t.Context(), f.store, d, []byte("rotten")); err != nil {
		t.Fatal(err)
	}
	got, err := f.Manifest(t.Context(), mustRepo(t, "app"), d)
	if err != nil || !bytes.Equal(got.Bytes, m.Bytes) {
		t.Fatalf("got %q, %v", got.Bytes, err)
	}
	if b, err := store.ReadAll(t.Context(), f.store, d, 1<<20); err != nil || !bytes.Equal(b, m.Bytes) {
		t.Errorf("the store has %q, %v", b, err)
	}
}

func TestReferrersAreAskedOnceWhileFresh(t *testing.T) {
	f := newFixture(t)
	d := oci.DigestOf(layerA)
	f.up.referrers = []oci.Descriptor{{MediaType: oci.MediaTypeImageManifest, Digest: d, Size: 1, ArtifactType: "x", Annotations: map[string]string{"k": "v"}}}
	for range 3 {
		got, err := f.Referrers(t.Context(), mustRepo(t, "app"), d)
		if err != nil || len(got) != 1 || got[0].ArtifactType != "x" || got[0].Annotations["k"] != "v" {
			t.Fatalf("got %v, %v", got, err)
		}
	}
	if n := f.up.count("referrers"); n != 1 {
		t.Errorf("asked %d times", n)
	}
}
