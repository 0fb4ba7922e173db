package rate

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sampan/internal/access"
	"sampan/internal/oci"
)

func newLimiter(t *testing.T, rules ...Rule) *Limiter {
	t.Helper()
	l, err := New(prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	l.Set(rules)
	return l
}

func at(s string) access.Client { return access.Client{Addr: netip.MustParseAddr(s)} }

var one = at("192.0.2.1")

// mustLimit is the error of who has had too much.
func mustLimit(t *testing.T, fact string, err error, from, to time.Duration) {
	t.Helper()
	var e *oci.Error
	if !errors.As(err, &e) || e.Code != oci.CodeTooManyRequests || e.RetryAfter < from || e.RetryAfter > to {
		t.Errorf("%s: %v", fact, err)
	}
}

func TestTheFirstRuleGivesTheLimits(t *testing.T) {
	l := newLimiter(t,
		Rule{For: access.Rule{Codes: []string{"team"}}},
		Rule{For: access.Rule{Users: []string{"*"}}, Limits: Limits{Pulls: 2}},
		Rule{Limits: Limits{Pulls: 1}},
	)
	for want, c := range map[int]access.Client{0: {Code: "team"}, 2: {User: "ann"}, 1: one} {
		if got := l.limits(c).Pulls; got != want {
			t.Errorf("%+v: %d, want %d", c, got, want)
		}
	}
	if v, err := l.Enter(t.Context(), access.Client{Code: "team"}); v != nil || err != nil {
		t.Errorf("%v, %v", v, err)
	}
	var none *Visit
	none.Close()
	none.Sent(1)
	if n, err := none.Piece(t.Context(), 1<<30); n != 1<<30 || err != nil || none.Paced() || !none.MayFetch() {
		t.Errorf("%d, %v", n, err)
	}
	if err := errors.Join(none.Pull(t.Context()), none.Admit(t.Context(), oci.Cost{Blob: true})); err != nil {
		t.Error(err)
	}
}

func TestRequestsPerSecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(t, Rule{Limits: Limits{RequestsPerSecond: 10}})
		enter := func(c access.Client) error {
			v, err := l.Enter(t.Context(), c)
			v.Close()
			return err
		}
		began := time.Now()
		for range 100 { // at once
			if err := enter(one); err != nil {
				t.Fatal(err)
			}
		}
		if d := time.Since(began); d > 0 {
			t.Errorf("the first ones wait %v", d)
		}
		if err := enter(one); err != nil || time.Since(began) != 100*time.Millisecond {
			t.Errorf("who is early waits %v, %v", time.Since(began), err)
		}
		var wg sync.WaitGroup
		var mu sync.Mutex
		passed, refused := 0, 0
		for range 200 {
			wg.Go(func() {
				err := enter(one)
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					passed++
					return
				}
				refused++
				mustLimit(t, "too many at once", err, patience, patience+150*time.Millisecond) // who is refused costs nobody anything
			})
		}
		wg.Wait()
		if passed != 50 || refused != 150 { // in the five seconds that one waits
			t.Errorf("%d passed, %d were refused", passed, refused)
		}
		if err := enter(at("192.0.2.2")); err != nil {
			t.Errorf("somebody else: %v", err)
		}
	})
}

func TestOneNetworkIsOneClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(t, Rule{Limits: Limits{Pulls: 1}})
		a, err := l.Enter(t.Context(), at("2001:db8::1"))
		if err != nil || a.Pull(t.Context()) != nil {
			t.Fatal(err)
		}
		b, err := l.Enter(t.Context(), at("2001:db8::2"))
		if err != nil {
			t.Fatal(err)
		}
		mustLimit(t, "another address of the network", b.Pull(t.Context()), time.Second, time.Second)
		c, err := l.Enter(t.Context(), at("2001:db8:0:1::2"))
		if err != nil || c.Pull(t.Context()) != nil {
			t.Error("another network waits")
		}
	})
}

func TestPullsAtTheSameTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(t, Rule{Limits: Limits{Pulls: 3}})
		most, now := 0, 0
		var mu sync.Mutex
		var wg sync.WaitGroup
		for range 8 { // each takes two seconds
			wg.Go(func() {
				v, err := l.Enter(t.Context(), one)
				if err == nil {
					err = v.Pull(t.Context())
				}
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				now++
				most = max(most, now)
				mu.Unlock()
				time.Sleep(2 * time.Second)
				mu.Lock()
				now--
				mu.Unlock()
				v.Close()
			})
		}
		wg.Wait()
		if most != 3 {
			t.Errorf("%d at the same time", most)
		}
		a := l.account(one.Account())
		if !a.pulls.idle() {
			t.Errorf("places are left taken: %+v", a.pulls)
		}
		var held []*Visit
		for range 3 {
			v, err := l.Enter(t.Context(), one)
			if err != nil || v.Pull(t.Context()) != nil {
				t.Fatal(err)
			}
			held = append(held, v)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		v, _ := l.Enter(t.Context(), one)
		if err := v.Pull(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("who leaves: %v", err)
		}
		began := time.Now()
		mustLimit(t, "who waits in vain", v.Pull(t.Context()), time.Second, time.Second)
		if time.Since(began) != patience {
			t.Errorf("waited %v", time.Since(began))
		}
		for _, v := range held {
			v.Close()
			v.Close()
		}
		if !a.pulls.idle() {
			t.Errorf("places are left taken: %+v", a.pulls)
		}
	})
}

func TestBytesPerSecondAreThoseOfAllConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const per, each = 1 << 20, 10 << 20
		l := newLimiter(t, Rule{Limits: Limits{BytesPerSecond: per}})
		began := time.Now()
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				v, err := l.Enter(t.Context(), one)
				if err != nil || !v.Paced() {
					t.Error(err)
					return
				}
				for left := int64(each); left > 0; {
					n, err := v.Piece(t.Context(), left)
					if err != nil || n <= 0 || n > piece {
						t.Errorf("%d, %v", n, err)
						return
					}
					left -= n
				}
			})
		}
		wg.Wait()
		if d, want := time.Since(began), 4*each/per*time.Second; d < want-time.Second || d > want+time.Second {
			t.Errorf("took %v, want %v", d, want)
		}
		ctx, cancel := context.WithCancel(t.Context())
		v, _ := l.Enter(t.Context(), one)
		for range 3 {
			_, _ = v.Piece(t.Context(), piece)
		}
		cancel()
		if _, err := v.Piece(ctx, piece); !errors.Is(err, context.Canceled) {
			t.Errorf("who leaves: %v", err)
		}
	})
}

func TestBytesPerDay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(t, Rule{Limits: Limits{BytesPerDay: 1000}})
		v, err := l.Enter(t.Context(), one)
		if err != nil || v.Pull(t.Context()) != nil {
			t.Fatal(err)
		}
		v.Sent(5000) // it was begun before, and is not cut off
		now := time.Now().UTC()
		midnight := now.Truncate(24 * time.Hour).Add(24 * time.Hour)
		mustLimit(t, "the next one", v.Pull(t.Context()), midnight.Sub(now), midnight.Sub(now))
		l.Set([]Rule{{Limits: Limits{BytesPerDay: 2000}}}) // what was counted stays
		v, _ = l.Enter(t.Context(), one)
		mustLimit(t, "after a reload", v.Pull(t.Context()), time.Second, 24*time.Hour)
		other, _ := l.Enter(t.Context(), at("192.0.2.2"))
		if err := other.Pull(t.Context()); err != nil {
			t.Errorf("somebody else: %v", err)
		}
		time.Sleep(midnight.Sub(now))
		if err := v.Pull(t.Context()); err != nil {
			t.Errorf("the next day: %v", err)
		}
	})
}

func TestWhatIsColdIsLimitedApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(t, Rule{Limits: Limits{Cold: Cold{RequestsPerHour: 3, Pulls: 1, BytesPerDay: 1000}}})
		enter := func() *Visit {
			v, err := l.Enter(t.Context(), one)
			if err != nil {
				t.Fatal(err)
			}
			return v
		}
		blob := oci.Cost{Blob: true, Size: 600}
		a, b := enter(), enter()
		if err := errors.Join(a.Admit(t.Context(), oci.Cost{}), a.Admit(t.Context(), blob)); err != nil {
			t.Fatal(err)
		}
		mustLimit(t, "a second blob at the same time", b.Admit(t.Context(), blob), time.Second, time.Second)
		a.Close()
		if !l.account(one.Account()).fetchesLeft(1) {
			t.Error("the place was not given back")
		}
		if err := b.Admit(t.Context(), blob); err != nil {
			t.Errorf("what was refused is counted: %v", err)
		}
		mustLimit(t, "a blob beyond the day's bytes", b.Admit(t.Context(), blob), time.Second, 24*time.Hour)
		mustLimit(t, "a manifest beyond the hour's requests", b.Admit(t.Context(), oci.Cost{}), 19*time.Minute, 20*time.Minute)
		if b.MayFetch() {
			t.Error("more may be fetched ahead")
		}
		if err := b.Pull(t.Context()); err != nil {
			t.Errorf("what is here: %v", err)
		}
		time.Sleep(20 * time.Minute)
		if err := b.Admit(t.Context(), oci.Cost{}); err != nil {
			t.Errorf("after a third of an hour: %v", err)
		}
	})
}

// Clients ask for a large blob in parts, and learn its size late.
func TestABlobThatIsColdCountsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(t, Rule{Limits: Limits{Cold: Cold{BytesPerDay: 1000}}})
		v, err := l.Enter(t.Context(), one)
		if err != nil {
			t.Fatal(err)
		}
		digest := func(s string) oci.Digest { return oci.DigestOf([]byte(s)) }
		for _, c := range []oci.Cost{
			{Blob: true, Size: 900, Digest: digest("a")},
			{Blob: true, Size: 900, Digest: digest("a")},
			{Blob: true, Size: -1, Digest: digest("b")},
			{Blob: true, Size: 400, Digest: digest("b"), Late: true},
			{Blob: true, Size: 900, Digest: digest("a")},
			{Blob: true, Size: 400, Digest: digest("b")},
			{Size: -1},
		} {
			if err := v.Admit(t.Context(), c); err != nil {
				t.Errorf("%+v: %v", c, err)
			}
		}
		if got := l.account(one.Account()).fetched; got != 1300 {
			t.Errorf("%d bytes are counted", got)
		}
		mustLimit(t, "a third", v.Admit(t.Context(), oci.Cost{Blob: true, Size: -1, Digest: digest("c")}), time.Second, 24*time.Hour)
		for i := range 2 * maxBlobs {
			v.charge(oci.Cost{Blob: true, Size: 1, Digest: digest(fmt.Sprint(i))})
		}
		if n := len(l.account(one.Account()).blobs); n > maxBlobs {
			t.Errorf("%d blobs are remembered", n)
		}
		time.Sleep(24 * time.Hour)
		if err := v.Admit(t.Context(), oci.Cost{Blob: true, Size: 900, Digest: digest("c")}); err != nil || l.account(one.Account()).fetched != 900 {
			t.Errorf("the next day: %v", err)
		}
	})
}

// Parts of a blob that is not here come by one fetch.
func TestPartsOfAColdBlobAreOnePull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(t, Rule{Limits: Limits{Cold: Cold{Pulls: 1}}})
		admit := func(blob string) (*Visit, error) {
			v, err := l.Enter(t.Context(), one)
			if err != nil {
				t.Fatal(err)
			}
			return v, v.Admit(t.Context(), oci.Cost{Blob: true, Size: 1, Digest: oci.DigestOf([]byte(blob))})
		}
		a, err := admit("a")
		b, err2 := admit("a")
		if err := errors.Join(err, err2); err != nil {
			t.Fatalf("another part: %v", err)
		}
		ended := make(chan error, 2)
		for range 2 { // whoever waits for one blob gets its place together
			go func() { _, err := admit("b"); ended <- err }()
		}
		synctest.Wait()
		a.Close()
		b.Close()
		if err := errors.Join(<-ended, <-ended); err != nil {
			t.Errorf("who has waited: %v", err)
		}
		_, err = admit("c")
		mustLimit(t, "a third blob", err, time.Second, time.Second)
	})
}

// A blob that does not come is given back to whom it was counted for, once, and to
// nobody else.
func TestABlobThatDoesNotComeIsGivenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(t, Rule{Limits: Limits{Cold: Cold{BytesPerDay: 1000}}})
		admit := func(v *Visit, size int64, late bool) {
			t.Helper()
			if err := v.Admit(t.Context(), oci.Cost{Blob: true, Size: size, Digest: oci.DigestOf([]byte("a")), Late: late}); err != nil {
				t.Error(err)
			}
		}
		fetched := func(fact string, want int64) {
			t.Helper()
			if got := l.account(one.Account()).fetched; got != want {
				t.Errorf("%s: %d bytes are counted, want %d", fact, got, want)
			}
		}
		v, err := l.Enter(t.Context(), one)
		if err != nil {
			t.Fatal(err)
		}
		another, err := l.Enter(t.Context(), one)
		if err != nil {
			t.Fatal(err)
		}
		admit(v, 900, false)
		admit(another, 900, false) // a part of the same
		admit(another, 0, true)
		fetched("who was not counted", 900)
		admit(v, 0, true)
		fetched("who was", 0)
		admit(v, 0, true)
		fetched("once more", 0)
		admit(v, 900, false)
		fetched("when it comes after all", 900)
		time.Sleep(24 * time.Hour)
		admit(another, 0, false)
		admit(v, 0, true)
		fetched("the next day", 0)
	})
}

// Whoever waits gets a place when there may be more, and none when there may be fewer.
func TestPlacesFollowTheirLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pulls := func(n int) []Rule { return []Rule{{Limits: Limits{Pulls: n}}} }
		l := newLimiter(t, pulls(2)...)
		enter := func() *Visit {
			v, err := l.Enter(t.Context(), one)
			if err != nil {
				t.Fatal(err)
			}
			return v
		}
		a, b, c := enter(), enter(), enter()
		if err := errors.Join(a.Pull(t.Context()), b.Pull(t.Context())); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		wait := func(v *Visit) { go func() { ended <- v.Pull(t.Context()) }(); synctest.Wait() }
		wait(c)
		l.Set(pulls(4))
		if err := enter().Pull(t.Context()); err != nil {
			t.Errorf("there may be more: %v", err)
		}
		synctest.Wait()
		if err := <-ended; err != nil {
			t.Errorf("who has waited for it: %v", err)
		}
		l.Set(pulls(1))
		wait(enter())
		b.Close()
		c.Close()
		mustLimit(t, "who waits while there are too many", <-ended, time.Second, time.Second)
		if got := len(l.account(one.Account()).pulls.taken); got != 2 {
			t.Errorf("%d places are taken", got)
		}
	})
}

// fetchesLeft tells whether n more may be fetched at the same time, of one.
func (a *account) fetchesLeft(most int) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.fetches.taken) < most
}

func TestAccountsAreKeptWithinABound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(t, Rule{Limits: Limits{BytesPerDay: 10}})
		debtor, _ := l.Enter(t.Context(), one)
		debtor.Sent(10)
		for i := range maxAccounts + 100 {
			v, err := l.Enter(t.Context(), at(fmt.Sprintf("10.%d.%d.%d", i>>16, i>>8&0xff, i&0xff)))
			if err != nil {
				t.Fatal(err)
			}
			v.Close()
		}
		if len(l.accounts) > maxAccounts+1 {
			t.Errorf("%d accounts", len(l.accounts))
		}
		v, _ := l.Enter(t.Context(), one)
		mustLimit(t, "who has used up its day", v.Pull(t.Context()), time.Second, 24*time.Hour)
	})
}
