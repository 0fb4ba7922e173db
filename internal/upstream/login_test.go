package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"sampan/internal/oci"
	"sampan/internal/registrytest"
)

func guardedBehavior(scheme registrytest.Scheme) registrytest.Behavior {
	return registrytest.Behavior{
		Challenge: registrytest.Challenge{Scheme: scheme},
		Token: registrytest.Token{
			Private: []string{"team/a", "team/b"},
			Users: []registrytest.User{
				{Name: "alice", Password: "wonder", Repos: []string{"team/a"}},
				{Name: "bob", Password: "builder", Repos: []string{"team/b"}},
			},
		},
	}
}

func asLogin(t *testing.T, user, password string) context.Context {
	t.Helper()
	return oci.WithLogin(t.Context(), oci.Login{Username: user, Password: password})
}

func TestAQuestionOfAClientIsAskedAsTheClient(t *testing.T) {
	for _, scheme := range []registrytest.Scheme{registrytest.SchemeBearer, registrytest.SchemeBasic} {
		t.Run(string(scheme), func(t *testing.T) {
			reg, r := start(t, registrytest.Options{Behavior: guardedBehavior(scheme)}, Options{Accounts: []Account{basicAccount("bob", nil)}})
			img := reg.AddImage("team/a", "v1", registrytest.ImageSpec{Layers: []int64{10_000}})
			layer, repo := img.Layers[0][0], repository(t, "team/a")
			for _, c := range []struct {
				user, password string
				works          bool
				refused        bool // the credentials are
			}{
				{"alice", "wonder", true, false},
				{"alice", "wrong", false, true},
				{"bob", "builder", false, false},
				{"", "", false, scheme == registrytest.SchemeBasic},
				{"alice", "wonder", true, false}, // what came between has spoilt nothing
			} {
				reg.ResetCounts()
				ctx := asLogin(t, c.user, c.password)
				asked := map[string]error{}
				_, asked["tag"] = r.ResolveTag(ctx, repo, tag(t, "v1"))
				_, asked["stat manifest"] = r.StatManifest(ctx, repo, img.Manifest.Descriptor.Digest)
				_, asked["manifest"] = r.Manifest(ctx, repo, img.Manifest.Descriptor.Digest)
				_, asked["stat"] = r.StatBlob(ctx, repo, layer.Digest)
				_, asked["tags"] = r.Tags(ctx, repo)
				part, err := r.FetchBlob(repo, layer.Digest).Part(ctx, 0, -1)
				if asked["part"] = err; err == nil {
					if b, err := io.ReadAll(part.Body); err != nil || !layer.Digest.Verify(b) {
						t.Errorf("%s: %d bytes, %v", c.user, len(b), err)
					}
					part.Body.Close()
				}
				for what, err := range asked {
					code := oci.CodeOf(err)
					if (err == nil) != c.works || !c.works && (code == oci.CodeUnauthorized) != c.refused || err != nil && !oci.IsAnswer(err) {
						t.Errorf("%s:%s, %s: %v", c.user, c.password, what, err)
					}
					if err != nil && strings.Contains(err.Error(), "wonder") {
						t.Errorf("%s: the password is in the error", what)
					}
				}
				for _, req := range reg.Requests() {
					if req.User != "" && req.User != c.user {
						t.Errorf("as %q: %s %s was asked as %q", c.user, req.Method, req.Path, req.User)
					}
				}
			}
		})
	}
}

// TestOnlyTheEndpointThatLearnsWhoAsksIsAsked: a mirror of the registry that shows
// everything to everybody says nothing about a client.
func TestOnlyTheEndpointThatLearnsWhoAsksIsAsked(t *testing.T) {
	for _, c := range []struct {
		fact        string
		told        []bool
		blobsOnly   []bool
		asked, idle int // endpoints
	}{
		{"the first one", nil, nil, 0, 1},
		{"the first one that is not for blobs only", nil, []bool{true, false}, 1, 0},
		{"the one that is named", []bool{false, true}, nil, 1, 0},
	} {
		t.Run(c.fact, func(t *testing.T) {
			var regs []*registrytest.Registry
			var all []string
			for range 2 {
				reg := registrytest.StartTest(t, registrytest.Options{})
				reg.AddImage("team/a", "v1", registrytest.ImageSpec{Layers: []int64{10_000}})
				regs, all = append(regs, reg), append(all, reg.URL())
			}
			img := regs[0].AddImage("team/a", "v1", registrytest.ImageSpec{Layers: []int64{10_000}})
			layer, repo := img.Layers[0][0], repository(t, "team/a")
			regs[c.asked].SetBehavior(guardedBehavior(registrytest.SchemeBearer))
			r := open(t, Options{Told: c.told, BlobsOnly: c.blobsOnly}, all...)
			read := func(ctx context.Context) error {
				_, err := r.ResolveTag(ctx, repo, tag(t, "v1"))
				part, err2 := r.FetchBlob(repo, layer.Digest).Part(ctx, 0, -1)
				if err2 == nil {
					part.Body.Close()
				}
				return errors.Join(err, err2)
			}
			if err := read(asLogin(t, "alice", "wonder")); err != nil {
				t.Errorf("alice: %v", err)
			}
			if err := read(asLogin(t, "bob", "builder")); err == nil {
				t.Error("bob is shown what is not for him")
			}
			// Nor is the other one asked when this one is down.
			regs[c.asked].Close()
			if err := read(asLogin(t, "bob", "builder")); err == nil {
				t.Error("bob is shown what is not for him while the registry is down")
			}
			if n := regs[c.idle].Count(registrytest.KindAny); n != 0 {
				t.Errorf("the other endpoint was asked %d times", n)
			}
		})
	}
	if _, err := New(Options{Registry: oci.DockerHub, Endpoints: urls(t, "http://127.0.0.1:1"), Told: []bool{false}}); err == nil {
		t.Error("an upstream without an endpoint that may know is not refused")
	}
}

func TestWhatAClientMayAskIsNoBudgetOfOurs(t *testing.T) {
	reg, r := start(t, registrytest.Options{Behavior: registrytest.Behavior{RateLimit: registrytest.RateLimit{Pulls: 1}}}, Options{})
	img := reg.AddImage("team/a", "v1", registrytest.ImageSpec{Layers: []int64{100}})
	repo, d := repository(t, "team/a"), img.Manifest.Descriptor.Digest
	if _, err := r.Manifest(asLogin(t, "alice", "wonder"), repo, d); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Manifest(asLogin(t, "alice", "wonder"), repo, d); oci.CodeOf(err) != oci.CodeTooManyRequests {
		t.Fatalf("got %v", err)
	}
	if r.Spare(repo) {
		t.Error("the mirror spares its own questions because a client has none left")
	}
}

func TestTokensAreRememberedUnderNothingThatTellsASecret(t *testing.T) {
	reg, r := start(t, registrytest.Options{Behavior: guardedBehavior(registrytest.SchemeBearer)}, Options{})
	reg.AddImage("team/a", "v1", registrytest.ImageSpec{Layers: []int64{100}})
	for range 3 {
		if _, err := r.ResolveTag(asLogin(t, "alice", "wonder"), repository(t, "team/a"), tag(t, "v1")); err != nil {
			t.Fatal(err)
		}
	}
	if n := reg.Count(registrytest.KindToken); n != 1 {
		t.Errorf("%d tokens were asked for", n)
	}
	if n := reg.Count(registrytest.KindManifest, http.MethodGet); n != 0 {
		t.Errorf("%d GETs", n)
	}
	for key := range r.tokens.byKey {
		if strings.Contains(key, "alice") || strings.Contains(key, "wonder") {
			t.Errorf("the key is %q", key)
		}
	}
	one, other := newTokens(), newTokens()
	u := urls(t, "http://127.0.0.1/token")[0]
	c := Credential{Username: "alice", Password: "wonder"}
	if again := c; one.keyOf(u, "s", "x", c) != one.keyOf(u, "s", "x", again) || one.keyOf(u, "s", "x", c) == other.keyOf(u, "s", "x", c) {
		t.Error("a key depends on the process, and within it on what is asked for alone")
	}
	for _, different := range []Credential{{}, {Username: "alice"}, {Username: "alice", IdentityToken: "wonder"}} {
		if one.keyOf(u, "s", "x", c) == one.keyOf(u, "s", "x", different) {
			t.Errorf("%v has the same key", different)
		}
	}
	if s := fmt.Sprint(Credential{IdentityToken: "wonder"}); strings.Contains(s, "wonder") {
		t.Errorf("printed as %s", s)
	}
}

func TestAnIdentityTokenIsNotSentWhereTheTokenEndpointRedirects(t *testing.T) {
	elsewhere := newFake(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"token":"x"}`)) })
	var f *fake
	f = newFake(t, func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path == "/token" {
			http.Redirect(w, req, elsewhere.URL+"/token", http.StatusTemporaryRedirect)
			return
		}
		w.Header().Set("WWW-Authenticate", `Bearer realm="`+f.URL+`/token",service="x"`)
		w.WriteHeader(http.StatusUnauthorized)
	})
	r := open(t, Options{Credentials: Static(Credential{IdentityToken: "s3cret"})}, f.URL)
	_, err := r.ResolveTag(t.Context(), repository(t, "team/a"), tag(t, "v1"))
	if oci.CodeOf(err) != oci.CodeUnavailable || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("got %v", err)
	}
	elsewhere.mu.Lock()
	defer elsewhere.mu.Unlock()
	if len(elsewhere.calls) != 0 {
		t.Errorf("asked %v", elsewhere.calls)
	}
}

// A mirror that is not told the account shows nothing of a private repository: that
// is no answer while the registry itself cannot be asked.
func TestAStrangersRefusalIsNoAnswer(t *testing.T) {
	f := newFleet(t, Options{Accounts: []Account{basicAccount("alice", nil)}}, guardedBehavior(registrytest.SchemeBearer), registrytest.Behavior{})
	f.regs[0].SetBehavior(registrytest.Behavior{Faults: []registrytest.Fault{{On: []registrytest.Kind{registrytest.KindAny}, Answer: registrytest.Status(503)}}})
	_, err := f.ResolveTag(t.Context(), repository(t, "team/a"), tag(t, "v1"))
	if oci.IsAnswer(err) || !errors.Is(err, oci.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	if n := f.regs[1].Count(registrytest.KindManifest); n == 0 {
		t.Error("the mirror was not asked")
	}
}
