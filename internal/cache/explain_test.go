package cache_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"sampan/internal/cache"
	"sampan/internal/oci"
)

func (f *fixture) explain(t *testing.T, image string) cache.Explanation {
	t.Helper()
	ref, err := oci.ParseReference(image)
	if err != nil {
		t.Fatal(err)
	}
	e, err := f.Explain(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// What is told of the next pull is what the next pull meets, and telling it asks
// nobody.
func TestExplanationsForeseeTheNextPull(t *testing.T) {
	forever := cache.Freshness{FreshFor: freshFor, StaleIfError: cache.Forever, MissingFor: missingFor}
	immutable := forever
	pattern, err := oci.ParsePattern("v*")
	if err != nil {
		t.Fatal(err)
	}
	immutable.Immutable = []oci.Pattern{pattern}
	short := cache.Freshness{FreshFor: freshFor, StaleIfError: freshFor}
	for _, tc := range []struct {
		name    string
		policy  cache.Freshness
		prepare func(t *testing.T, f *fixture, m oci.Manifest)
		image   string // app:v1 when empty
		want    cache.Next
		code    oci.Code // of the pull that follows
	}{
		{name: "a fresh tag", policy: forever, want: cache.Next{Result: cache.NextHit, Reason: cache.CauseFresh}},
		{
			name: "an expired tag", policy: forever, want: cache.Next{Result: cache.NextHit, Reason: cache.CauseExpired},
			prepare: func(*testing.T, *fixture, oci.Manifest) { time.Sleep(freshFor) },
		},
		{
			name: "a tag that never moves", policy: immutable, want: cache.Next{Result: cache.NextHit, Reason: cache.CauseImmutable},
			prepare: func(*testing.T, *fixture, oci.Manifest) { time.Sleep(1000 * freshFor) },
		},
		{
			name: "a tag that nobody asked for", policy: forever, image: "app:v2", want: cache.Next{Result: cache.NextMiss, Reason: cache.CauseNeverAsked},
			prepare: func(t *testing.T, f *fixture, _ oci.Manifest) { f.up.push(t, "docker.io/library/app:v2", layerA) },
		},
		{
			name: "an upstream that is down", policy: forever, want: cache.Next{Result: cache.NextStale, Reason: cache.CauseOutage},
			prepare: func(t *testing.T, f *fixture, _ oci.Manifest) {
				f.up.set(errors.New("refused"))
				time.Sleep(freshFor)
				_, _, _ = f.resolve(t)
			},
		},
		{
			name: "an upstream that limits the rate", policy: forever, want: cache.Next{Result: cache.NextStale, Reason: cache.CauseBudget},
			prepare: func(t *testing.T, f *fixture, _ oci.Manifest) {
				f.up.set(oci.ErrTooManyRequests)
				time.Sleep(freshFor)
				_, _, _ = f.resolve(t)
			},
		},
		{
			name: "little budget", policy: forever, want: cache.Next{Result: cache.NextStale, Reason: cache.CauseBudget},
			prepare: func(_ *testing.T, f *fixture, _ oci.Manifest) {
				f.up.mu.Lock()
				f.up.spare = true
				f.up.mu.Unlock()
				time.Sleep(2 * freshFor)
			},
		},
		{
			name: "too old for an upstream that is down", policy: short, want: cache.Next{Result: cache.NextUnavailable, Reason: cache.CauseTooOld},
			code: oci.CodeUnavailable,
			prepare: func(t *testing.T, f *fixture, _ oci.Manifest) {
				f.up.set(errors.New("refused"))
				time.Sleep(2 * freshFor)
				_, _, _ = f.resolve(t)
			},
		},
		{
			name: "a refusal", policy: forever, want: cache.Next{Result: cache.NextDenied, Reason: cache.CauseRefused}, code: oci.CodeDenied,
			prepare: func(t *testing.T, f *fixture, _ oci.Manifest) {
				f.up.set(oci.Errorf(oci.CodeDenied, "no"))
				time.Sleep(freshFor)
				_, _, _ = f.resolve(t)
				f.up.set(nil)
			},
		},
		{
			name: "a tag that is gone", policy: forever, want: cache.Next{Result: cache.NextUnknown, Reason: cache.CauseRefused}, code: oci.CodeManifestUnknown,
			prepare: func(t *testing.T, f *fixture, _ oci.Manifest) {
				f.up.set(oci.ErrManifestUnknown)
				time.Sleep(freshFor)
				_, _, _ = f.resolve(t)
				f.up.set(nil)
			},
		},
		{
			name: "an evicted manifest", policy: forever, want: cache.Next{Result: cache.NextMiss, Reason: cache.CauseManifestGone},
			prepare: func(t *testing.T, f *fixture, m oci.Manifest) { f.evict(t, m.Descriptor.Digest) },
		},
		{
			name: "an evicted blob", policy: forever, want: cache.Next{Result: cache.NextMiss, Reason: cache.CauseBlobsMissing},
			prepare: func(t *testing.T, f *fixture, _ oci.Manifest) {
				if err := f.store.Delete(t.Context(), oci.DigestOf(layerA)); err != nil {
					t.Fatal(err)
				}
			},
		},
		{
			name: "offline", policy: forever, want: cache.Next{Result: cache.NextStale, Reason: cache.CauseOffline},
			prepare: func(t *testing.T, f *fixture, _ oci.Manifest) { f.Cache = f.offline(t); time.Sleep(freshFor) },
		},
		{
			name: "offline and not here", policy: forever, image: "app:v2", code: oci.CodeUnavailable,
			want:    cache.Next{Result: cache.NextUnavailable, Reason: cache.CauseOffline},
			prepare: func(t *testing.T, f *fixture, _ oci.Manifest) { f.Cache = f.offline(t) },
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inBubble(t, tc.policy, func(t *testing.T, f *fixture, m oci.Manifest) {
				synctest.Wait() // the pull's blobs are committed
				if tc.prepare != nil {
					tc.prepare(t, f, m)
				}
				if tc.image == "" {
					tc.image = "app:v1"
				}
				f.up.total()
				if got := f.explain(t, tc.image).Next; got != tc.want {
					t.Errorf("got %+v, want %+v", got, tc.want)
				}
				if n := f.up.total(); n != 0 {
					t.Errorf("explaining asked %d questions", n)
				}
				f.wantNext(t, tc.image, tc.want, tc.code)
			})
		})
	}
}

// wantNext pulls and compares.
func (f *fixture) wantNext(t *testing.T, image string, want cache.Next, code oci.Code) {
	t.Helper()
	ref, err := oci.ParseReference(image)
	if err != nil {
		t.Fatal(err)
	}
	var trace oci.Trace
	ctx := oci.WithTrace(t.Context(), &trace)
	desc, err := f.ResolveTag(ctx, ref.Repository, ref.Tag)
	if oci.CodeOf(err) != code {
		t.Errorf("the pull: %v, want %q", err, code)
	}
	if err != nil {
		return
	}
	if _, err := f.Manifest(ctx, ref.Repository, desc.Digest); err != nil {
		t.Fatal(err)
	}
	b, err := f.Blob(ctx, ref.Repository, oci.DigestOf(layerA))
	if err != nil {
		t.Fatal(err)
	}
	_ = b.Close()
	result := map[cache.Outcome]oci.Result{cache.NextHit: oci.ResultHit, cache.NextStale: oci.ResultStale, cache.NextMiss: oci.ResultMiss}[want.Result]
	if want.Reason == cache.CauseBlobsMissing {
		result = oci.ResultFill
	}
	if trace.Result != result {
		t.Errorf("the pull is a %q, want %q", trace.Result, result)
	}
}

func TestExplanationTellsWhatIsHere(t *testing.T) {
	inBubble(t, cache.Freshness{FreshFor: freshFor, StaleIfError: 7 * time.Hour}, func(t *testing.T, f *fixture, m oci.Manifest) {
		checked := time.Now()
		synctest.Wait()
		e := f.explain(t, "app:v1")
		if tag := e.Tag; tag == nil || !tag.Known || tag.Digest != m.Descriptor.Digest || !tag.Checked.Equal(checked) ||
			!tag.FreshUntil.Equal(checked.Add(freshFor)) || !tag.StaleUntil.Equal(checked.Add(7*time.Hour)) {
			t.Errorf("tag %+v", e.Tag)
		}
		if f := e.Manifest; f == nil || !f.Here || !f.Linked || f.Size != m.Descriptor.Size || f.MediaType != oci.MediaTypeImageManifest {
			t.Errorf("manifest %+v", e.Manifest)
		}
		if len(e.Blobs) != 1 || !e.Blobs[0].Here || e.Blobs[0].Size != int64(len(layerA)) {
			t.Errorf("blobs %+v", e.Blobs)
		}
		other := f.up.push(t, "docker.io/library/app:other", layerB)
		amd, arm := m.Descriptor, other.Descriptor
		amd.Platform, arm.Platform = &oci.Platform{OS: "linux", Architecture: "amd64"}, &oci.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"}
		index := f.up.add(t, "docker.io/library/app:index", oci.MediaTypeImageIndex, map[string]any{"manifests": []oci.Descriptor{amd, arm}})
		image := "app@" + index.Descriptor.Digest.String()
		if e := f.explain(t, image); e.Tag != nil || e.Manifest.Linked || e.Next != (cache.Next{Result: cache.NextMiss, Reason: cache.CauseNeverAsked}) {
			t.Errorf("a digest that was never seen: %+v", e)
		}
		if _, err := f.Manifest(t.Context(), mustRepo(t, "app"), index.Descriptor.Digest); err != nil {
			t.Fatal(err)
		}
		e = f.explain(t, image)
		want := []cache.PlatformFacts{
			{Platform: "linux/amd64", Digest: amd.Digest, Here: true, Blobs: 1},
			{Platform: "linux/arm64/v8", Digest: arm.Digest},
		}
		if len(e.Platforms) != 2 || e.Platforms[0] != want[0] || e.Platforms[1] != want[1] || e.Next.Result != cache.NextHit {
			t.Errorf("platforms %+v, next %+v", e.Platforms, e.Next)
		}
		if _, err := f.Manifest(t.Context(), mustRepo(t, "app"), arm.Digest); err != nil {
			t.Fatal(err)
		}
		if p := f.explain(t, image).Platforms[1]; !p.Here || p.Blobs != 1 || p.Missing != 1 || p.Bytes != int64(len(layerB)) {
			t.Errorf("arm64 %+v", p)
		}
	})
}
