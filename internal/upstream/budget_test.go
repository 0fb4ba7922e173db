package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"sampan/internal/oci"
	"sampan/internal/registrytest"
)

func TestBudgetsAreRead(t *testing.T) {
	for s, want := range map[string]struct {
		n      int64
		window time.Duration
	}{
		"100;w=21600":      {100, 6 * time.Hour},
		" 7 ; w=60":        {7, time.Minute},
		"60":               {60, 0},
		"0;w=21600":        {0, 6 * time.Hour},
		"5;policy=x;W=3":   {5, 3 * time.Second},
		"5;w=":             {5, 0},
		"5;w=-3":           {5, 0},
		"5;w=99999999999":  {5, 0},
		"":                 {-1, 0},
		"-1;w=5":           {-1, 0},
		"many;w=5":         {-1, 0},
		"1e9":              {-1, 0},
		"9999999999999999": {9999999999999999, 0},
	} {
		if n, window := parseBudget(s); n != want.n || window != want.window {
			t.Errorf("%q: %d in %v", s, n, window)
		}
	}
}

// limitedTo allows so many manifests in six hours.
func limitedTo(pulls int) registrytest.Behavior {
	return registrytest.Behavior{RateLimit: registrytest.RateLimit{Pulls: pulls}}
}

// manifest asks for that of the image by its digest.
func (f *fleet) manifest(t *testing.T, img registrytest.Image) error {
	t.Helper()
	_, err := f.Manifest(t.Context(), repository(t, "a/b"), img.Manifest.Descriptor.Digest)
	return err
}

func TestWhatRemainsIsKnownFromEveryAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, Options{}, limitedTo(100))
		img := f.image()
		budget := func(want int64, scarce bool) {
			t.Helper()
			s := f.Status()
			if len(s.Budgets) != 1 {
				t.Fatalf("budgets: %+v", s.Budgets)
			}
			b := s.Budgets[0]
			if b.Limit != 100 || b.Remaining != want || b.Window != 6*time.Hour || b.Account != "" || !b.At.Equal(time.Now()) || b.Scarce != scarce {
				t.Errorf("want %d: %+v", want, b)
			}
			if f.Spare(repository(t, "a/b")) != scarce {
				t.Errorf("with %d of 100 left, to be spared: %v", want, !scarce)
			}
			if n := testutil.ToFloat64(f.metrics.remaining.WithLabelValues("docker.io", "0")); n != float64(want) {
				t.Errorf("metrics tell of %v", n)
			}
		}
		if s := f.Status(); len(s.Budgets) != 0 || f.Spare(repository(t, "a/b")) {
			t.Errorf("before any answer: %+v", s.Budgets)
		}
		if err := f.resolve(t.Context(), t); err != nil {
			t.Fatal(err)
		}
		budget(100, false)
		for i := range int64(90) {
			time.Sleep(time.Second)
			if err := f.manifest(t, img); err != nil {
				t.Fatal(err)
			}
			budget(99-i, false)
		}
		if err := f.manifest(t, img); err != nil {
			t.Fatal(err)
		}
		budget(9, true)
		time.Sleep(6 * time.Hour)
		if s := f.Status(); len(s.Budgets) != 0 || f.Spare(repository(t, "a/b")) {
			t.Errorf("what was told in another window counts: %+v", s.Budgets)
		}
		if err := f.resolve(t.Context(), t); err != nil {
			t.Fatal(err)
		}
		budget(100, false)
		f.regs[0].SetBehavior(registrytest.Behavior{}) // an account without a limit gets no header
		if err := f.resolve(t.Context(), t); err != nil {
			t.Fatal(err)
		}
		if s := f.Status(); len(s.Budgets) != 0 {
			t.Errorf("a limit that is not there any more: %+v", s.Budgets)
		}
		if n := testutil.CollectAndCount(f.metrics.remaining); n != 0 {
			t.Errorf("metrics tell of %d", n)
		}
	})
}

func TestABudgetWithoutAWindowIsBelievedForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := budget{limit: 60, remaining: 3, at: time.Now()}
		time.Sleep(untoldWindow - time.Nanosecond)
		if n := b.now(); n.limit != 60 || !n.scarce() {
			t.Errorf("before its end: %+v", n)
		}
		time.Sleep(time.Nanosecond)
		if n := b.now(); n.remaining != -1 || n.scarce() {
			t.Errorf("after it: %+v", n)
		}
	})
}

func TestFewRequestsAreSparedWhateverTheLimit(t *testing.T) {
	for _, test := range []struct {
		limit, remaining int64
		want             bool
	}{{10, 5, false}, {10, 4, true}, {-1, 4, true}, {-1, 5, false}, {-1, -1, false}, {1000, 99, true}, {1000, 100, false}, {4, 4, true}} {
		if got := (balance{limit: test.limit, remaining: test.remaining}).scarce(); got != test.want {
			t.Errorf("%+v: %v", test, got)
		}
	}
}

func TestA429IsRememberedForManifestsAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, Options{RateLimitWait: 3 * time.Second}, registrytest.Behavior{})
		img := f.image()
		f.regs[0].FailNext(registrytest.KindManifest, 1, registrytest.TooMany(registrytest.TooManyHub, time.Minute))
		began := time.Now()
		for range 5 {
			err := f.manifest(t, img)
			wantCode(t, err, oci.CodeTooManyRequests)
			var e *oci.Error
			if !errors.As(err, &e) || e.RetryAfter != time.Minute-time.Since(began) || !strings.Contains(e.Message, "limits the rate") {
				t.Errorf("it says %+v", e)
			}
			if !f.Spare(repository(t, "a/b")) {
				t.Error("it is not spared")
			}
			time.Sleep(7 * time.Second)
		}
		if n := f.regs[0].Count(registrytest.KindManifest); n != 1 || time.Since(began) != 35*time.Second {
			t.Errorf("it was asked %d times; the answers took until %v", n, time.Since(began))
		}
		if err := f.resolve(t.Context(), t); err != nil {
			t.Errorf("HEAD is free: %v", err)
		}
		if _, _, err := fetch(t.Context(), f.FetchBlob(repository(t, "a/b"), img.Blobs()[0].Digest), 0, -1); err != nil {
			t.Errorf("blobs are free: %v", err)
		}
		if s := f.Status(); len(s.Budgets) != 1 || !s.Budgets[0].Scarce || s.Budgets[0].Remaining != -1 || s.Endpoints[0].State != "up" || s.Endpoints[0].Failures != 0 {
			t.Errorf("got %+v", s)
		}
		time.Sleep(25 * time.Second)
		if err := f.manifest(t, img); err != nil {
			t.Error(err)
		}
		if f.Spare(repository(t, "a/b")) {
			t.Error("it is still spared")
		}
	})
}

func TestA429ToHEADIsRememberedForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, Options{}, registrytest.Behavior{})
		img := f.image()
		f.regs[0].FailNext(registrytest.KindManifest, 1, registrytest.TooMany(registrytest.TooManyBare, time.Minute))
		for range 3 {
			wantCode(t, f.resolve(t.Context(), t), oci.CodeTooManyRequests)
			wantCode(t, f.manifest(t, img), oci.CodeTooManyRequests)
		}
		if n := f.regs[0].Count(""); n != 1 {
			t.Errorf("it was asked %d times", n)
		}
	})
}

func TestRateLimitsThatEndSoonAreWaitedFor(t *testing.T) {
	for name, test := range map[string]struct {
		limit  registrytest.RateLimit
		asked  int           // for one manifest when none is left
		took   time.Duration // until its answer
		passes bool
	}{
		"soon enough": {registrytest.RateLimit{Pulls: 1, Window: 1900 * time.Millisecond, RetryAfter: 2 * time.Second}, 2, 2 * time.Second, true},
		"too late":    {registrytest.RateLimit{Pulls: 1, RetryAfter: 4 * time.Second}, 1, 0, false},
		"not told":    {registrytest.RateLimit{Pulls: 1}, 4, 3 * time.Second, false},
		"ghcr":        {registrytest.RateLimit{Pulls: 1, Form: registrytest.TooManyGHCR, Untold: true}, 5, 1500 * time.Millisecond, false},
		"ecr":         {registrytest.RateLimit{Pulls: 1, Window: 900 * time.Millisecond, Form: registrytest.TooManyECR, Untold: true, Heads: true}, 2, time.Second, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFleet(t, Options{RateLimitWait: 3 * time.Second}, registrytest.Behavior{RateLimit: test.limit})
				img := f.image()
				if err := f.manifest(t, img); err != nil {
					t.Fatal(err)
				}
				f.regs[0].ResetCounts()
				began := time.Now()
				err := f.manifest(t, img)
				if took := time.Since(began).Round(100 * time.Millisecond); took != test.took || (err == nil) != test.passes {
					t.Errorf("%v after %v", err, took)
				}
				if n := f.regs[0].Count(""); n != test.asked {
					t.Errorf("it was asked %d times", n)
				}
				var e *oci.Error
				if !test.passes && (!errors.As(err, &e) || e.Code != oci.CodeTooManyRequests || e.RetryAfter <= 0) {
					t.Errorf("got %v", err)
				}
			})
		})
	}
}

func TestWhoLeavesDoesNotWaitForARateLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, Options{RateLimitWait: time.Minute}, registrytest.Behavior{RateLimit: registrytest.RateLimit{Pulls: 1, RetryAfter: 30 * time.Second}})
		img := f.image()
		if err := f.manifest(t, img); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		_, err := f.Manifest(ctx, repository(t, "a/b"), img.Manifest.Descriptor.Digest)
		if err == nil || time.Since(began) != time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	})
}

func TestAnotherEndpointAnswersBeforeARateLimitIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, Options{RateLimitWait: 3 * time.Second}, limitedTo(1), registrytest.Behavior{})
		img := f.image()
		began := time.Now()
		for range 10 {
			if err := f.manifest(t, img); err != nil {
				t.Error(err)
			}
		}
		if took, first, second := time.Since(began), f.regs[0].Count(""), f.regs[1].Count(""); took != 0 || first != 2 || second != 9 {
			t.Errorf("took %v, the first was asked %d times, the second %d", took, first, second)
		}
	})
}

// A ration allows each account so many manifests, and tells so.
type ration struct {
	limit  int
	ticket string // the password of every account

	mu    sync.Mutex
	used  map[string]int
	asked []string // the account of each manifest
}

func (a *ration) answer(w http.ResponseWriter, req *http.Request) {
	user, pw, ok := req.BasicAuth()
	if !ok || pw != a.ticket {
		w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if req.Method == http.MethodGet {
		a.used[user]++
		a.asked = append(a.asked, user)
	}
	w.Header().Set("RateLimit-Limit", fmt.Sprintf("%d;w=21600", a.limit))
	w.Header().Set("RateLimit-Remaining", fmt.Sprintf("%d;w=21600", max(0, a.limit-a.used[user])))
	if a.used[user] > a.limit {
		w.Header().Set("Retry-After", "600")
		w.WriteHeader(http.StatusTooManyRequests)
		_ = json.NewEncoder(w).Encode(map[string]any{"errors": []any{map[string]string{"code": "TOOMANYREQUESTS"}}})
		return
	}
	writeManifest(w)
}

func TestAccountsAreUsedByWhatRemainsOfThem(t *testing.T) {
	ration := &ration{limit: 10, ticket: "pw", used: map[string]int{"big": -5}}
	f := newFake(t, ration.answer)
	r := open(t, Options{Accounts: []Account{basicAccount("one", nil), basicAccount("big", nil), basicAccount("team", below("team/"))}}, f.URL)
	d := oci.DigestOf([]byte(manifestText))
	ask := func(path string) error {
		_, err := r.Manifest(t.Context(), repository(t, path), d)
		return err
	}
	for i := range 25 {
		if err := ask("a/b"); err != nil {
			t.Errorf("manifest %d: %v", i, err)
		}
		if i == 12 { // 25 were left of both, now 12
			if one, big := ration.used["one"], ration.used["big"]; one-4 > 1 || big > 5 {
				t.Errorf("half way, one has asked %d times, big %d", one, big)
			}
		}
	}
	if !r.Spare(repository(t, "a/b")) || r.Spare(repository(t, "team/b")) {
		t.Errorf("spare: %v, team %v", r.Spare(repository(t, "a/b")), r.Spare(repository(t, "team/b")))
	}
	for range 3 {
		err := ask("a/b")
		var e *oci.Error
		if !errors.As(err, &e) || e.Code != oci.CodeTooManyRequests || e.RetryAfter <= 9*time.Minute {
			t.Errorf("with nothing left: %v", err)
		}
	}
	if n := len(ration.asked); n != 27 { // each of the two was refused once
		t.Errorf("%d manifests were asked for", n)
	}
	for i := range 10 {
		if err := ask("team/b"); err != nil {
			t.Errorf("manifest %d of the team: %v", i, err)
		}
	}
	if ration.used["team"] != 10 || len(ration.asked) != 37 {
		t.Errorf("used: %v", ration.used)
	}
	var names []string
	for _, b := range r.Status().Budgets {
		names = append(names, b.Account)
		if b.Remaining != 0 || !b.Scarce {
			t.Errorf("%+v", b)
		}
	}
	if len(names) != 3 {
		t.Errorf("budgets of %q", names)
	}
}

func TestTheNextAccountAsksWhereOneIsRefused(t *testing.T) {
	ration := &ration{limit: 1, ticket: "pw", used: map[string]int{"one": 1}} // used up elsewhere
	f := newFake(t, ration.answer)
	r := open(t, Options{Accounts: []Account{basicAccount("one", nil), basicAccount("two", nil)}}, f.URL)
	if _, err := r.Manifest(t.Context(), repository(t, "a/b"), oci.DigestOf([]byte(manifestText))); err != nil {
		t.Error(err)
	}
	if got := strings.Join(ration.asked, " "); got != "one two" {
		t.Errorf("asked as %s", got)
	}
}
