package fill

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
)

func mustAcquire(t *testing.T, l *limits, upstream string) {
	t.Helper()
	if err := l.acquire(t.Context(), upstream); err != nil {
		t.Fatal(err)
	}
}

func TestFetchThatWaitsComesBeforeFurtherLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimits(2, 10)
		mustAcquire(t, l, "a")
		if !l.try("a") {
			t.Fatal("the second line was refused")
		}
		if l.crowded("a") {
			t.Error("crowded though nobody waits")
		}
		got := make(chan int, 3)
		for i := range 3 {
			go func() {
				mustAcquire(t, l, "a")
				got <- i
			}()
			synctest.Wait()
		}
		if !l.crowded("a") || l.crowded("b") {
			t.Errorf("crowded: %v, another upstream: %v", l.crowded("a"), l.crowded("b"))
		}
		for want := range 3 { // in the order of arrival
			l.release("a")
			if l.try("a") || l.spare("a") {
				t.Fatal("a further line was given before a fetch that waits")
			}
			if i := <-got; i != want {
				t.Errorf("the turn was of %d, want %d", i, want)
			}
		}
	})
}

func TestQueueOfOneUpstreamLeavesTheOthersAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimits(1, 3)
		mustAcquire(t, l, "slow")
		ctx, leave := context.WithCancel(t.Context())
		ended := make(chan error)
		for range 5 {
			go func() { ended <- l.acquire(ctx, "slow") }()
		}
		synctest.Wait()
		mustAcquire(t, l, "b")
		mustAcquire(t, l, "c")
		go func() { ended <- l.acquire(ctx, "d") }() // for a line of the process
		synctest.Wait()
		if !l.crowded("b") {
			t.Error("nobody gives way to one who waits for a line of the process")
		}
		leave()
		for range 6 {
			if err := <-ended; !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		}
		for _, upstream := range []string{"slow", "b", "c"} {
			l.release(upstream)
		}
		if len(l.upstreams) != 0 || l.waiting != 0 || !l.all.TryAcquire(3) {
			t.Errorf("left behind: %d upstreams, %d waiting", len(l.upstreams), l.waiting)
		}
	})
}

func TestSpareLineLeavesOne(t *testing.T) {
	l := newLimits(2, 2)
	if !l.spare("a") || l.spare("a") || !l.try("a") {
		t.Error("the last line is for those who are waited for")
	}
	l = newLimits(1, 1)
	if !l.spare("a") || l.spare("a") {
		t.Error("the only line is given when it is free")
	}
}
