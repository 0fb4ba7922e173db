package cache_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"sampan/internal/cache"
	"sampan/internal/oci"
)

// A gated registry holds each manifest back until the gate is closed, or for
// ever without one.
type gated struct {
	*registry
	gate chan struct{}
}

func (g gated) Manifest(ctx context.Context, repo oci.Repository, d oci.Digest) (oci.Manifest, error) {
	select {
	case <-g.gate:
		return g.registry.Manifest(ctx, repo, d)
	case <-ctx.Done():
		return oci.Manifest{}, ctx.Err()
	}
}

// over is a cache over the parts of a fixture with another upstream.
func (f *fixture) over(t *testing.T, up oci.Reader) *cache.Cache {
	t.Helper()
	c, err := cache.New(f.options(up))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// A question that is shared goes on when the request that began it has ended,
// and must not write to that request's trace any more.
func TestSharedQuestionLeavesTheTraceOfWhoHasLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.up.push(t, "gcr.io/app/web:v1", layerA)
		f.pull(t, "gcr.io/app/web", "v1")
		f.up.push(t, "gcr.io/app/web:v1", layerB)
		time.Sleep(freshFor)
		up := gated{f.up, make(chan struct{})}
		c := f.over(t, up)
		var trace oci.Trace
		ctx, leave := context.WithCancel(oci.WithTrace(t.Context(), &trace))
		ended := make(chan error)
		go func() {
			_, err := c.ResolveTag(ctx, mustRepo(t, "gcr.io/app/web"), mustTag("v1"))
			ended <- err
		}()
		synctest.Wait()
		leave()
		if err := <-ended; err == nil {
			t.Error("whoever left got an answer")
		}
		close(up.gate)
		synctest.Wait()
		if trace != (oci.Trace{}) {
			t.Errorf("the trace of a request that has ended was changed: %+v", trace)
		}
	})
}

func TestUpstreamThatTakesForEverIsUnavailable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		m := f.up.push(t, "gcr.io/app/web:v1", layerA)
		c := f.over(t, gated{registry: f.up})
		_, err := c.Manifest(t.Context(), mustRepo(t, "gcr.io/app/web"), m.Descriptor.Digest)
		if oci.CodeOf(err) != oci.CodeUnavailable {
			t.Errorf("got %v", err)
		}
	})
}

// Whoever asks for the referrers of made-up digests must not make the index
// grow: answers about digests that the repository is not known to hold are not
// kept.
func TestReferrersOfUnknownDigestsAreNotKept(t *testing.T) {
	f := newFixture(t)
	repo, d := mustRepo(t, "gcr.io/app/web"), oci.DigestOf([]byte("made up"))
	for range 2 {
		if _, err := f.Referrers(t.Context(), repo, d); err != nil {
			t.Fatal(err)
		}
	}
	if e, err := f.index.List(t.Context(), repo, "referrers "+d.String()); err == nil {
		t.Errorf("kept %s", e.Body)
	}
}
