package cache_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"sampan/internal/cache"
	"sampan/internal/oci"
)

func TestTagsInUseAreRefreshedBeforeTheyExpire(t *testing.T) {
	policy := cache.Freshness{FreshFor: freshFor, StaleIfError: cache.Forever, Refresh: true}
	inBubble(t, policy, func(t *testing.T, f *fixture, _ oci.Manifest) {
		moved := f.up.push(t, "docker.io/library/app:v1", layerB)
		time.Sleep(freshFor - time.Second)
		synctest.Wait()
		if f.up.count("resolve") != 1 {
			t.Error("a tag in use was not asked for shortly before it expired")
		}
		time.Sleep(2 * time.Second)
		if d, trace, err := f.resolve(t); err != nil || d != moved.Descriptor.Digest || trace.Result != oci.ResultHit {
			t.Errorf("the client got %s, %+v, %v", d, trace, err)
		}
		f.up.total()
		time.Sleep(100 * freshFor)
		if n := f.up.total(); n == 0 || n > 4 {
			t.Errorf("a tag that nobody wants any more was asked for %d times", n)
		}
	})
	t.Run("not again from an upstream that gave no answer", func(t *testing.T) {
		inBubble(t, policy, func(t *testing.T, f *fixture, _ oci.Manifest) {
			f.up.set(errors.New("connection refused"))
			time.Sleep(2*freshFor + freshFor*9/10 + time.Second) // it is in use, and due three times
			if n := f.up.total(); n != 1 {
				t.Errorf("asked %d times", n)
			}
		})
	})
	t.Run("not from an upstream with little budget", func(t *testing.T) {
		inBubble(t, policy, func(t *testing.T, f *fixture, _ oci.Manifest) {
			f.up.mu.Lock()
			f.up.spare = true
			f.up.mu.Unlock()
			time.Sleep(2 * freshFor)
			if n := f.up.total(); n != 0 {
				t.Errorf("asked %d times", n)
			}
		})
	})
	t.Run("not unless it is configured", func(t *testing.T) {
		inBubble(t, cache.Freshness{FreshFor: freshFor}, func(t *testing.T, f *fixture, _ oci.Manifest) {
			time.Sleep(2 * freshFor)
			if n := f.up.total(); n != 0 {
				t.Errorf("asked %d times", n)
			}
		})
	})
}

func TestRefreshesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.policy = cache.Freshness{FreshFor: freshFor, StaleIfError: cache.Forever, Refresh: true}
		for i := range 20 {
			name := "t" + string(rune('a'+i))
			f.up.push(t, "docker.io/library/app:"+name, layerA)
			f.pull(t, "app", name)
		}
		f.up.total()
		release := f.up.hang()
		time.Sleep(freshFor*9/10 + time.Second)
		if n := f.up.count("hanging"); n != 4 {
			t.Errorf("%d at a time", n)
		}
		release()
	})
}

// A refusal ends with the first answer that is none, also when no client has asked
// for it: what was refused once can be served again while the upstream is down.
func TestARefreshThatIsAnsweredEndsARefusal(t *testing.T) {
	policy := cache.Freshness{FreshFor: freshFor, StaleIfError: cache.Forever, MissingFor: missingFor, Refresh: true}
	inBubble(t, policy, func(t *testing.T, f *fixture, m oci.Manifest) {
		f.up.set(oci.Errorf(oci.CodeDenied, "no"))
		time.Sleep(freshFor - time.Second) // refreshed before it expires, and refused
		if n := f.up.count("resolve"); n != 1 {
			t.Fatalf("asked %d times", n)
		}
		f.up.set(nil)
		time.Sleep(freshFor) // and again, and answered
		if n := f.up.count("resolve"); n != 1 {
			t.Fatalf("asked %d times more", n)
		}
		f.up.set(errors.New("connection refused"))
		time.Sleep(freshFor)
		if d, trace, err := f.resolve(t); err != nil || d != m.Descriptor.Digest || trace.Stale == "" {
			t.Errorf("got %s, %+v, %v", d, trace, err)
		}
	})
}
