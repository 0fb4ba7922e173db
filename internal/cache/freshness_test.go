package cache_test

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"sampan/internal/cache"
	"sampan/internal/oci"
)

// resolve asks for app:v1 and returns its digest and how it was got.
func (f *fixture) resolve(t *testing.T) (oci.Digest, oci.Trace, error) {
	t.Helper()
	var trace oci.Trace
	desc, err := f.ResolveTag(oci.WithTrace(t.Context(), &trace), mustRepo(t, "app"), mustTag("v1"))
	return desc.Digest, trace, err
}

// staleCount is the metric of stale answers of docker.io.
func (f *fixture) staleCount(t *testing.T, why cache.Reason) int {
	t.Helper()
	families, err := f.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() != "sampan_cache_stale_answers_total" {
			continue
		}
		for _, m := range family.GetMetric() {
			labels := make(map[string]string)
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			if labels["registry"] == "docker.io" && labels["reason"] == string(why) {
				return int(m.GetCounter().GetValue())
			}
		}
	}
	return 0
}

// inBubble runs a test on a fake clock with an image at app:v1 that was pulled.
func inBubble(t *testing.T, policy cache.Freshness, test func(t *testing.T, f *fixture, m oci.Manifest)) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.policy = policy
		m := f.up.push(t, "docker.io/library/app:v1", layerA)
		f.pull(t, "app", "v1", layerA)
		f.up.total()
		test(t, f, m)
	})
}

// pass lets time pass in a bubble.
func pass(d time.Duration) { time.Sleep(d) }

func TestStaleAnswersAreBoundedByTheirAge(t *testing.T) {
	for _, tc := range []struct {
		bound  time.Duration
		after  time.Duration
		served bool
	}{
		{cache.Forever, 1000 * time.Hour, true},
		{time.Hour, 59 * time.Minute, true},
		{time.Hour, 61 * time.Minute, false},
		{0, 2 * freshFor, false},
	} {
		t.Run(tc.bound.String()+" after "+tc.after.String(), func(t *testing.T) {
			inBubble(t, cache.Freshness{FreshFor: freshFor, StaleIfError: tc.bound}, func(t *testing.T, f *fixture, m oci.Manifest) {
				if _, err := f.Tags(t.Context(), mustRepo(t, "app")); err != nil {
					t.Fatal(err)
				}
				f.up.set(errors.New("connection refused"))
				time.Sleep(tc.after)
				d, trace, err := f.resolve(t)
				_, listErr := f.Tags(t.Context(), mustRepo(t, "app"))
				if !tc.served {
					if oci.CodeOf(err) != oci.CodeUnavailable || !strings.Contains(err.Error(), "stale_if_error") {
						t.Errorf("got %v", err)
					}
					if oci.CodeOf(listErr) != oci.CodeUnavailable {
						t.Errorf("list: %v", listErr)
					}
					if n := f.staleCount(t, cache.ReasonError); n != 0 {
						t.Errorf("%d stale answers counted", n)
					}
					return
				}
				if err != nil || d != m.Descriptor.Digest || trace.Result != oci.ResultStale || trace.Stale == "" {
					t.Errorf("got %s, %+v, %v", d, trace, err)
				}
				if listErr != nil {
					t.Errorf("list: %v", listErr)
				}
				if n := f.staleCount(t, cache.ReasonError); n != 2 {
					t.Errorf("%d stale answers counted, want 2", n)
				}
			})
		})
	}
}

// A rate limit beyond the bound is told as one, with the time to come again.
func TestTooOldBehindARateLimitIsTooManyRequests(t *testing.T) {
	inBubble(t, cache.Freshness{FreshFor: freshFor}, func(t *testing.T, f *fixture, _ oci.Manifest) {
		f.up.set(&oci.Error{Code: oci.CodeTooManyRequests, RetryAfter: 7 * time.Second})
		time.Sleep(freshFor)
		_, _, err := f.resolve(t)
		var e *oci.Error
		if !errors.As(err, &e) || e.Code != oci.CodeTooManyRequests || e.RetryAfter != 7*time.Second {
			t.Errorf("got %v", err)
		}
	})
}

func TestTagsThatNeverMoveAreAskedForOnce(t *testing.T) {
	pattern, err := oci.ParsePattern("v[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	policy := cache.Freshness{FreshFor: freshFor, Immutable: []oci.Pattern{pattern}}
	t.Run("here, nobody is asked", func(t *testing.T) {
		inBubble(t, policy, func(t *testing.T, f *fixture, m oci.Manifest) {
			f.up.push(t, "docker.io/library/app:v1", layerB)
			time.Sleep(10000 * time.Hour)
			d, trace, err := f.resolve(t)
			if err != nil || d != m.Descriptor.Digest || trace.Result != oci.ResultHit || f.up.total() != 0 {
				t.Errorf("got %s, %+v, %v", d, trace, err)
			}
		})
	})
	t.Run("evicted, it is asked for by its digest", func(t *testing.T) {
		inBubble(t, policy, func(t *testing.T, f *fixture, m oci.Manifest) {
			f.up.push(t, "docker.io/library/app:v1", layerB)
			f.evict(t, m.Descriptor.Digest)
			time.Sleep(freshFor)
			d, _, err := f.resolve(t)
			if err != nil || d != m.Descriptor.Digest || f.up.count("manifest") != 1 || f.up.total() != 0 {
				t.Errorf("got %s, %v", d, err)
			}
		})
	})
	t.Run("evicted and gone, its tag is asked for", func(t *testing.T) {
		inBubble(t, policy, func(t *testing.T, f *fixture, m oci.Manifest) {
			moved := f.up.push(t, "docker.io/library/app:v1", layerB)
			f.evict(t, m.Descriptor.Digest)
			f.up.remove(m.Descriptor.Digest)
			time.Sleep(freshFor)
			d, _, err := f.resolve(t)
			if err != nil || d != moved.Descriptor.Digest || f.up.count("resolve") != 1 {
				t.Errorf("got %s, %v", d, err)
			}
		})
	})
	t.Run("others move", func(t *testing.T) {
		inBubble(t, policy, func(t *testing.T, f *fixture, _ oci.Manifest) {
			f.up.push(t, "docker.io/library/app:latest", layerA)
			f.pull(t, "app", "latest")
			moved := f.up.push(t, "docker.io/library/app:latest", layerB)
			time.Sleep(freshFor)
			if m, _ := f.pull(t, "app", "latest"); m.Descriptor.Digest != moved.Descriptor.Digest {
				t.Error("a tag that no pattern matches did not move")
			}
		})
	})
}

// evict takes a manifest out of the store, and a new cache with an empty memory
// takes over.
func (f *fixture) evict(t *testing.T, d oci.Digest) {
	t.Helper()
	if err := f.store.Delete(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	f.Cache = f.over(t, f.up)
	t.Cleanup(f.Close)
}

func (r *registry) remove(d oci.Digest) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for key := range r.manifests {
		if strings.HasSuffix(key, "@"+d.String()) {
			delete(r.manifests, key)
		}
	}
}

func TestLittleBudgetStretchesFreshness(t *testing.T) {
	inBubble(t, cache.Freshness{FreshFor: freshFor, StaleIfError: cache.Forever}, func(t *testing.T, f *fixture, m oci.Manifest) {
		moved := f.up.push(t, "docker.io/library/app:v1", layerB)
		f.up.mu.Lock()
		f.up.spare = true
		f.up.mu.Unlock()
		time.Sleep(9 * freshFor)
		d, trace, err := f.resolve(t)
		if err != nil || d != m.Descriptor.Digest || trace.Result != oci.ResultStale || !strings.Contains(trace.Stale, "limits") || f.up.total() != 0 {
			t.Errorf("within the stretch: %s, %+v, %v", d, trace, err)
		}
		if n := f.staleCount(t, cache.ReasonBudget); n != 1 {
			t.Errorf("%d stale answers counted", n)
		}
		time.Sleep(freshFor)
		if d, _, err := f.resolve(t); err != nil || d != moved.Descriptor.Digest || f.up.count("resolve") != 1 {
			t.Errorf("behind it: %s, %v", d, err)
		}
	})
	t.Run("not beyond stale_if_error", func(t *testing.T) {
		inBubble(t, cache.Freshness{FreshFor: freshFor, StaleIfError: 2 * freshFor}, func(t *testing.T, f *fixture, _ oci.Manifest) {
			f.up.mu.Lock()
			f.up.spare = true
			f.up.mu.Unlock()
			time.Sleep(3 * freshFor)
			if _, trace, err := f.resolve(t); err != nil || trace.Result != oci.ResultHit || f.up.count("resolve") != 1 {
				t.Errorf("got %+v, %v", trace, err)
			}
		})
	})
}

func TestRateLimitIsAnsweredFromHereAndKept(t *testing.T) {
	inBubble(t, cache.Freshness{StaleIfError: cache.Forever}, func(t *testing.T, f *fixture, m oci.Manifest) {
		f.up.set(&oci.Error{Code: oci.CodeTooManyRequests, RetryAfter: 30 * time.Second})
		for range 10 { // over 27 s
			d, trace, err := f.resolve(t)
			if err != nil || d != m.Descriptor.Digest || trace.Result != oci.ResultStale {
				t.Errorf("got %s, %+v, %v", d, trace, err)
			}
			time.Sleep(2700 * time.Millisecond)
		}
		if n := f.up.total(); n != 1 {
			t.Errorf("asked %d times although it said when to come again", n)
		}
		if n := f.staleCount(t, cache.ReasonBudget); n != 10 {
			t.Errorf("%d stale answers counted", n)
		}
	})
}

// A pull waits for a hanging upstream once, and the next ones hardly.
func TestHangingUpstreamCostsSecondsOnce(t *testing.T) {
	inBubble(t, cache.Freshness{StaleIfError: cache.Forever}, func(t *testing.T, f *fixture, m oci.Manifest) {
		var tags []string
		for i := range 50 {
			tags = append(tags, "t"+string(rune('a'+i/26))+string(rune('a'+i%26)))
			f.up.push(t, "docker.io/library/app:"+tags[i], layerA)
			f.pull(t, "app", tags[i])
		}
		f.up.total()
		release := f.up.hang()
		began := time.Now()
		for _, tag := range tags {
			var trace oci.Trace
			d, err := f.ResolveTag(oci.WithTrace(t.Context(), &trace), mustRepo(t, "app"), mustTag(tag))
			if err != nil || d.Digest != m.Descriptor.Digest || trace.Result != oci.ResultStale {
				t.Fatalf("%s: %s, %+v, %v", tag, d.Digest, trace, err)
			}
			time.Sleep(300 * time.Millisecond) // the rest of the pull
		}
		if waited := time.Since(began) - 50*300*time.Millisecond; waited > 7*time.Second {
			t.Errorf("50 pulls waited %v", waited)
		}
		if n := f.up.count("hanging"); n > 3 {
			t.Errorf("it was asked %d times", n)
		}
		release()
		time.Sleep(time.Minute)
		if _, trace, err := f.resolve(t); err != nil || trace.Result != oci.ResultHit {
			t.Errorf("when it answers again: %+v, %v", trace, err)
		}
	})
}

// What a client did not want to wait for is there for the next one.
func TestSlowAnswerRenewsTheTagForTheNext(t *testing.T) {
	inBubble(t, cache.Freshness{FreshFor: freshFor, StaleIfError: cache.Forever}, func(t *testing.T, f *fixture, m oci.Manifest) {
		moved := f.up.push(t, "docker.io/library/app:v1", layerB)
		time.Sleep(freshFor)
		release := f.up.hang()
		if d, trace, err := f.resolve(t); err != nil || d != m.Descriptor.Digest || trace.Result != oci.ResultStale {
			t.Errorf("got %s, %+v, %v", d, trace, err)
		}
		release()
		synctest.Wait()
		if d, trace, err := f.resolve(t); err != nil || d != moved.Descriptor.Digest || trace.Result != oci.ResultHit {
			t.Errorf("then %s, %+v, %v", d, trace, err)
		}
		if n := f.up.count("resolve"); n != 1 {
			t.Errorf("asked %d times", n)
		}
	})
}

// The tag moves when the new manifest is here, and not before.
func TestTagStaysWhileItsNewManifestCannotBeHad(t *testing.T) {
	inBubble(t, cache.Freshness{FreshFor: freshFor, StaleIfError: cache.Forever, MissingFor: freshFor}, func(t *testing.T, f *fixture, m oci.Manifest) {
		moved := f.up.push(t, "docker.io/library/app:v1", layerB)
		f.up.remove(moved.Descriptor.Digest)
		// Somebody was told that there is no such manifest, and that is remembered.
		if _, err := f.Manifest(t.Context(), mustRepo(t, "app"), moved.Descriptor.Digest); !oci.IsUnknown(err) {
			t.Fatal(err)
		}
		time.Sleep(freshFor)
		if d, trace, err := f.resolve(t); err != nil || d != m.Descriptor.Digest || trace.Result != oci.ResultStale {
			t.Errorf("got %s, %+v, %v", d, trace, err)
		}
		f.up.push(t, "docker.io/library/app:v1", layerB)
		time.Sleep(holdOff)
		if d, _, err := f.resolve(t); err != nil || d != moved.Descriptor.Digest {
			t.Errorf("when it is there: %s, %v", d, err)
		}
	})
}

// holdOff is that of the package, with the time that a client may wait.
const holdOff = 6 * time.Second

func TestRevalidationsAreCountedByHowTheyEnd(t *testing.T) {
	inBubble(t, cache.Freshness{StaleIfError: cache.Forever}, func(t *testing.T, f *fixture, _ oci.Manifest) {
		ask := func() { _, _, _ = f.resolve(t) }
		ask()
		f.up.push(t, "docker.io/library/app:v1", layerB)
		ask()
		f.up.set(oci.Errorf(oci.CodeDenied, "no"))
		ask()
		f.up.set(errors.New("broken"))
		ask()
		time.Sleep(time.Hour)
		f.up.set(oci.Errorf(oci.CodeManifestUnknown, "gone"))
		ask()
		const want = `
			# HELP sampan_cache_revalidations_total Questions whether a known tag has moved, by how they ended.
			# TYPE sampan_cache_revalidations_total counter
			sampan_cache_revalidations_total{registry="docker.io",result="error"} 1
			sampan_cache_revalidations_total{registry="docker.io",result="gone"} 1
			sampan_cache_revalidations_total{registry="docker.io",result="moved"} 1
			sampan_cache_revalidations_total{registry="docker.io",result="refused"} 1
			sampan_cache_revalidations_total{registry="docker.io",result="unchanged"} 1
		`
		if err := testutil.GatherAndCompare(f.metrics, strings.NewReader(want), "sampan_cache_revalidations_total"); err != nil {
			t.Error(err)
		}
	})
}

// Clients that leave, come and ask at the same time, with every kind of answer.
func TestRecallIsSafeForConcurrentUse(t *testing.T) {
	f := newFixture(t)
	f.policy = cache.Freshness{StaleIfError: cache.Forever, MissingFor: time.Millisecond, Refresh: true}
	f.up.push(t, "docker.io/library/app:v1", layerA)
	var clients sync.WaitGroup
	for i := range 20 {
		clients.Go(func() {
			for j := range 20 {
				switch (i + j) % 4 {
				case 0:
					f.up.set(nil)
				case 1:
					f.up.set(errors.New("broken"))
				case 2:
					f.up.set(oci.Errorf(oci.CodeDenied, "no"))
				}
				_, err := f.ResolveTag(t.Context(), mustRepo(t, "app"), mustTag("v1"))
				if oci.IsUnknown(err) {
					t.Errorf("got %v", err)
				}
			}
		})
	}
	clients.Wait()
}
