package access

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sampan/internal/oci"
)

// A registry shows each repository to the users listed; "" is everybody. Every
// method counts who asked.
type registry struct {
	mu    sync.Mutex
	shows map[string][]string // by repository, "name:password"
	fail  error               // no answer
	asked map[string]int      // by user
	wait  chan struct{}       // answers wait for it, when set
	blobs int                 // blobs opened
}

func (r *registry) ask(ctx context.Context, repo oci.Repository) error {
	l, ok := oci.LoginFrom(ctx)
	if !ok {
		return errors.New("asked as whoever is configured")
	}
	who := l.Username + ":" + l.Password
	r.mu.Lock()
	r.asked[who]++
	wait, fail, users := r.wait, r.fail, r.shows[repo.Path()]
	r.mu.Unlock()
	if wait != nil {
		<-wait
	}
	if fail != nil {
		return fail
	}
	if strings.HasSuffix(who, ":wrong") {
		return oci.Errorf(oci.CodeUnauthorized, "secret text of the registry")
	}
	for _, u := range users {
		if u == "" || u == who {
			return nil
		}
	}
	return oci.Errorf(oci.CodeNameUnknown, "secret text of the registry")
}

func (r *registry) set(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
}

// count returns how often a user asked and forgets it.
func (r *registry) count(who string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.asked[who]
	delete(r.asked, who)
	return n
}

func (r *registry) ResolveTag(ctx context.Context, repo oci.Repository, _ oci.Tag) (oci.Descriptor, error) {
	return oci.Descriptor{}, r.ask(ctx, repo)
}

func (r *registry) Manifest(ctx context.Context, repo oci.Repository, _ oci.Digest) (oci.Manifest, error) {
	return oci.Manifest{}, r.ask(ctx, repo)
}

func (r *registry) Blob(ctx context.Context, repo oci.Repository, d oci.Digest) (oci.BlobReader, error) {
	if err := r.ask(ctx, repo); err != nil {
		return nil, err
	}
	r.set(func() { r.blobs++ })
	return blob{bytes.NewReader(nil), d}, nil
}

func (r *registry) Tags(ctx context.Context, repo oci.Repository) ([]oci.Tag, error) {
	return nil, r.ask(ctx, repo)
}

func (r *registry) Referrers(ctx context.Context, repo oci.Repository, _ oci.Digest) ([]oci.Descriptor, error) {
	return nil, r.ask(ctx, repo)
}

type blob struct {
	*bytes.Reader
	digest oci.Digest
}

func (b blob) Descriptor() oci.Descriptor { return oci.Descriptor{Digest: b.digest} }
func (b blob) Close() error               { return nil }

// A cache answers everything, and says as whom it would have asked.
type cache struct {
	mu      sync.Mutex
	asked   int
	err     error
	as      oci.Login
	own     bool
	fetched int
}

func (c *cache) note(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked++
	c.as, c.own = oci.LoginFrom(ctx)
	return c.err
}

func (c *cache) ResolveTag(ctx context.Context, _ oci.Repository, _ oci.Tag) (oci.Descriptor, error) {
	return oci.Descriptor{}, c.note(ctx)
}

func (c *cache) Manifest(ctx context.Context, _ oci.Repository, _ oci.Digest) (oci.Manifest, error) {
	return oci.Manifest{}, c.note(ctx)
}

func (c *cache) Blob(ctx context.Context, _ oci.Repository, d oci.Digest) (oci.BlobReader, error) {
	return blob{bytes.NewReader(nil), d}, c.note(ctx)
}

func (c *cache) Tags(ctx context.Context, _ oci.Repository) ([]oci.Tag, error) {
	return nil, c.note(ctx)
}

func (c *cache) Referrers(ctx context.Context, _ oci.Repository, _ oci.Digest) ([]oci.Descriptor, error) {
	return nil, c.note(ctx)
}

func (c *cache) Prefetch(oci.Repository, oci.Manifest) { c.fetched++ }

// total returns how often the cache was asked and forgets it.
func (c *cache) total() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.asked
	c.asked = 0
	return n
}

type fixture struct {
	*Gate
	up    *registry
	cache *cache
}

// newFixture has repositories of docker.io by their first component: "open" is for
// everybody, "closed" for nobody, and others are the registry's affair.
func newFixture(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{
		up: &registry{asked: make(map[string]int), shows: map[string][]string{
			"team/a": {"alice:pw"}, "team/b": {"bob:pw"}, "team/pub": {""},
		}},
		cache: new(cache),
	}
	var err error
	f.Gate, err = New(Options{
		Log:      slog.New(slog.DiscardHandler),
		Reader:   f.cache,
		Upstream: func(oci.Registry) (oci.Reader, error) { return f.up, nil },
		Level: func(r oci.Repository) Level {
			switch first, _, _ := strings.Cut(r.Path(), "/"); first {
			case "open":
				return Everybody
			case "closed":
				return Named
			default:
				return Own
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func repository(t *testing.T, path string) oci.Repository {
	t.Helper()
	r, err := oci.DockerHub.Repository(path)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func as(t *testing.T, who string) context.Context {
	t.Helper()
	user, password, ok := strings.Cut(who, ":")
	if !ok {
		return t.Context()
	}
	return WithLogin(t.Context(), oci.Login{Username: user, Password: password})
}

// resolve asks for a tag.
func (f *fixture) resolve(t *testing.T, who, path, tag string) error {
	t.Helper()
	name, err := oci.ParseTag(tag)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.ResolveTag(as(t, who), repository(t, path), name)
	return err
}

// everything asks each question once, and returns what came.
func (f *fixture) everything(t *testing.T, who, path string) map[string]error {
	t.Helper()
	ctx, repo, d := as(t, who), repository(t, path), oci.DigestOf(nil)
	answers := map[string]error{"tag": f.resolve(t, who, path, "v1")}
	_, answers["manifest"] = f.Manifest(ctx, repo, d)
	_, answers["blob"] = f.Blob(ctx, repo, d)
	_, answers["stat"] = f.StatBlob(ctx, repo, d)
	_, answers["tags"] = f.Tags(ctx, repo)
	_, answers["referrers"] = f.Referrers(ctx, repo, d)
	return answers
}

var hiddenCodes = map[string]oci.Code{
	"tag": oci.CodeManifestUnknown, "manifest": oci.CodeManifestUnknown, "blob": oci.CodeBlobUnknown, "stat": oci.CodeBlobUnknown,
	"tags": oci.CodeNameUnknown, "referrers": oci.CodeNameUnknown,
}

func TestWhoIsNotAllowedReachesNothing(t *testing.T) {
	for _, c := range []struct {
		who, path string
		want      string // "allowed", "hidden" or "login"
	}{
		{"", "open/x", "allowed"},
		{"alice:pw", "open/x", "allowed"},
		{"", "closed/x", "hidden"},
		{"alice:pw", "closed/x", "hidden"},
		{"", "team/pub", "allowed"},
		{"alice:pw", "team/pub", "allowed"},
		{"", "team/a", "login"},
		{"alice:pw", "team/a", "allowed"},
		{"alice:wrong", "team/a", "login"},
		{"bob:pw", "team/a", "hidden"},
		{"bob:pw", "team/none", "hidden"},
		{"", "team/none", "login"},
	} {
		t.Run(c.who+" "+c.path, func(t *testing.T) {
			f := newFixture(t)
			answers := f.everything(t, c.who, c.path)
			for what, err := range answers {
				got := "allowed"
				switch {
				case errors.Is(err, ErrLogin) && oci.CodeOf(err) == oci.CodeUnauthorized:
					got = "login"
				case oci.CodeOf(err) == hiddenCodes[what]:
					got = "hidden"
				case err != nil:
					got = err.Error()
				}
				if got != c.want {
					t.Errorf("%s: %s, want %s", what, got, c.want)
				}
				var e *oci.Error
				if errors.As(err, &e) && strings.Contains(e.Message, "secret") {
					t.Errorf("%s: the client is told %q", what, e.Message)
				}
			}
			if n := f.cache.total(); (n == len(answers)) != (c.want == "allowed") || c.want != "allowed" && n > 0 {
				t.Errorf("the cache was asked %d times", n)
			}
		})
	}
}

// TestNotThereAndNotAllowedAreOneAnswer compares what reaches the client.
func TestNotThereAndNotAllowedAreOneAnswer(t *testing.T) {
	f := newFixture(t)
	told := func(err error) string {
		var e *oci.Error
		if !errors.As(err, &e) {
			t.Fatalf("got %v", err)
		}
		return fmt.Sprint(e.Code, e.Message, e.RetryAfter)
	}
	notAllowed := f.everything(t, "bob:pw", "team/a")
	missing := f.everything(t, "bob:pw", "team/none")
	if err := f.resolve(t, "alice:pw", "team/a", "v1"); err != nil {
		t.Fatal(err)
	}
	for what, code := range hiddenCodes {
		f.cache.err = oci.Errorf(code, "the upstream does not have it")
		absent := f.everything(t, "alice:pw", "team/a")[what]
		f.cache.err = nil
		if err := f.resolve(t, "alice:pw", "team/a", "v1"); err != nil {
			t.Fatal(err)
		}
		if a, b, c := told(notAllowed[what]), told(missing[what]), told(absent); a != b || a != c {
			t.Errorf("%s: %q, %q, %q", what, a, b, c)
		}
	}
}

func TestAPermissionIsBelievedForAWhileForOneClientAndOneRepository(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		step := func(fact string, n int) {
			t.Helper()
			if err := f.everything(t, "alice:pw", "team/a")["blob"]; err != nil {
				t.Errorf("%s: %v", fact, err)
			}
			if got := f.up.count("alice:pw"); got != n {
				t.Errorf("%s: asked %d times, want %d", fact, got, n)
			}
		}
		step("the first time", 1)
		step("at once", 0)
		time.Sleep(grantFor - time.Second)
		step("for minutes", 0)
		time.Sleep(time.Second)
		step("then it is asked for again", 1)
		if err := f.resolve(t, "alice:pw", "team/b", "v1"); !oci.IsUnknown(err) {
			t.Errorf("another repository: %v", err)
		}
		if err := f.resolve(t, "alice:other", "team/a", "v1"); !oci.IsUnknown(err) {
			t.Errorf("another password: %v", err)
		}
		f.up.count("alice:pw")
		f.up.set(func() { f.up.shows["team/a"] = nil })
		step("taken away, it lasts to its end", 0)
		time.Sleep(grantFor)
		if err := f.resolve(t, "alice:pw", "team/a", "v1"); !oci.IsUnknown(err) {
			t.Errorf("and no longer: %v", err)
		}
	})
}

func TestARefusalIsRememberedForMoments(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		for _, who := range []string{"bob:pw", ":"} {
			for range 3 {
				if err := f.resolve(t, who, "team/a", "v1"); err == nil {
					t.Fatal("allowed")
				}
			}
			if n := f.up.count(who); n != 1 {
				t.Errorf("%s: asked %d times", who, n)
			}
		}
		f.up.set(func() { f.up.shows["team/a"] = []string{"bob:pw"} })
		time.Sleep(refuseFor)
		if err := f.resolve(t, "bob:pw", "team/a", "v1"); err != nil {
			t.Errorf("allowed by now: %v", err)
		}
	})
}

func TestWhatTheRegistryRefusesEndsAPermission(t *testing.T) {
	f := newFixture(t)
	if err := f.resolve(t, "alice:pw", "team/a", "v1"); err != nil {
		t.Fatal(err)
	}
	f.cache.err = oci.Errorf(oci.CodeUnauthorized, "the token was refused")
	if err := f.resolve(t, "alice:pw", "team/a", "v1"); !errors.Is(err, ErrLogin) {
		t.Errorf("got %v", err)
	}
	f.cache.err = nil
	f.up.count("alice:pw")
	if err := f.resolve(t, "alice:pw", "team/a", "v1"); err != nil || f.up.count("alice:pw") != 1 {
		t.Errorf("it is not asked for again: %v", err)
	}
}

func TestNoAnswerIsNeitherAPermissionNorARefusal(t *testing.T) {
	f := newFixture(t)
	f.up.set(func() { f.up.fail = oci.Errorf(oci.CodeUnavailable, "down") })
	for range 2 {
		if err := f.resolve(t, "alice:pw", "team/a", "v1"); oci.CodeOf(err) != oci.CodeUnavailable {
			t.Errorf("got %v", err)
		}
	}
	if f.cache.total() != 0 || f.up.count("alice:pw") != 2 {
		t.Error("it was believed, or remembered")
	}
	f.up.set(func() { f.up.fail = nil })
	if err := f.resolve(t, "alice:pw", "team/a", "v1"); err != nil {
		t.Errorf("got %v", err)
	}
}

func TestManyWhoAreTheSameAskOnceAndOthersForThemselves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.up.wait = make(chan struct{})
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() {
				if err := f.resolve(t, "alice:pw", "team/a", "v1"); err != nil {
					t.Error(err)
				}
			})
			all.Go(func() {
				if err := f.resolve(t, "bob:pw", "team/a", "v1"); !oci.IsUnknown(err) {
					t.Errorf("bob got %v", err)
				}
			})
		}
		synctest.Wait()
		close(f.up.wait)
		all.Wait()
		if a, b := f.up.count("alice:pw"), f.up.count("bob:pw"); a != 1 || b != 1 {
			t.Errorf("asked %d and %d times", a, b)
		}
	})
}

func TestTheCacheAsksAsTheClientWhereTheRegistryDecides(t *testing.T) {
	f := newFixture(t)
	for _, c := range []struct {
		who, path string
		own       bool
		as        string
	}{
		{"alice:pw", "team/a", true, "alice"},
		{"", "team/pub", true, ""},
		{"alice:pw", "open/x", false, ""},
	} {
		if err := f.resolve(t, c.who, c.path, "v1"); err != nil {
			t.Fatal(err)
		}
		if f.cache.own != c.own || f.cache.as.Username != c.as {
			t.Errorf("%s %s: asks as %q, %v", c.who, c.path, f.cache.as.Username, f.cache.own)
		}
	}
}

func TestPrivateAnswersAreMarked(t *testing.T) {
	f := newFixture(t)
	for _, c := range []struct {
		who, path string
		private   bool
	}{{"alice:pw", "team/a", true}, {"", "team/pub", false}, {"alice:pw", "open/x", false}} {
		trace := new(oci.Trace)
		tag, _ := oci.ParseTag("v1")
		if _, err := f.ResolveTag(oci.WithTrace(as(t, c.who), trace), repository(t, c.path), tag); err != nil || trace.Private != c.private {
			t.Errorf("%s %s: private %v, %v", c.who, c.path, trace.Private, err)
		}
	}
}

func TestNothingIsPrefetchedInTheNameOfAClient(t *testing.T) {
	f := newFixture(t)
	for path, want := range map[string]int{"open/x": 1, "team/a": 0, "closed/x": 1} {
		f.cache.fetched = 0
		f.Prefetch(repository(t, path), oci.Manifest{})
		if f.cache.fetched != want {
			t.Errorf("%s: %d", path, f.cache.fetched)
		}
	}
}

func TestMemoryIsBounded(t *testing.T) {
	var m memory[int, int]
	for i := range maxMemory + 10 {
		m.put(i, i, time.Hour)
	}
	if len(m.m) > maxMemory {
		t.Errorf("%d entries", len(m.m))
	}
	if v, ok := m.get(maxMemory + 9); !ok || v != maxMemory+9 {
		t.Error("the last one is lost")
	}
}
