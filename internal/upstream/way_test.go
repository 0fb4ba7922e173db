package upstream

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"sampan/internal/oci"
	"sampan/internal/registrytest"
)

func TestPartsAskAnewOnceWhenTheRedirectHasExpired(t *testing.T) {
	reg, r := start(t, registrytest.Options{Behavior: registrytest.DockerHub()}, Options{})
	blob := reg.AddBlob("a/b", 1<<20, 1)
	want := blobBytes(t, reg, blob)
	p := r.FetchBlob(repository(t, "a/b"), blob.Digest)
	for range 5 {
		fetchAll(t, p, 1, want)
		before := reg.Count(registrytest.KindBlob)
		reg.ExpireRedirects()
		fetchAll(t, p, 1, want)
		if n := reg.Count(registrytest.KindBlob) - before; n != 1 {
			t.Errorf("registry was asked %d times", n)
		}
		reg.ExpireRedirects()
		fetchAll(t, p, 16, want)
	}
}

func TestPartsThatBeginTogetherShareTheRenewedRedirect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		behavior := registrytest.DockerHub()
		behavior.Pace.Latency = 50 * time.Millisecond
		reg, r := start(t, registrytest.Options{InMemory: true, Behavior: behavior}, Options{})
		blob := reg.AddBlob("a/b", 100_000, 1)
		want := blobBytes(t, reg, blob)
		p := r.FetchBlob(repository(t, "a/b"), blob.Digest)
		fetchAll(t, p, 8, want)
		for range 3 {
			before := reg.Count(registrytest.KindBlob)
			reg.ExpireRedirects()
			fetchAll(t, p, 8, want)
			if n := reg.Count(registrytest.KindBlob) - before; n != 1 {
				t.Errorf("registry was asked %d times", n)
			}
		}
	})
}

func TestRedirectIsForgottenAfterMinutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg, r := start(t, registrytest.Options{InMemory: true, Behavior: registrytest.MCR()}, Options{})
		blob := reg.AddBlob("a/b", 1000, 1)
		want := blobBytes(t, reg, blob)
		p := r.FetchBlob(repository(t, "a/b"), blob.Digest)
		for _, step := range []struct {
			wait time.Duration
			want int
		}{{0, 1}, {leadLifetime - time.Second, 1}, {2 * time.Second, 2}, {0, 2}} {
			time.Sleep(step.wait)
			fetchAll(t, p, 2, want)
			if n := reg.Count(registrytest.KindBlob); n != step.want {
				t.Errorf("registry was asked %d times, want %d", n, step.want)
			}
		}
	})
}

func TestTargetThatFailsIsAskedForAnewOrKept(t *testing.T) {
	blob := randomBytes(1000)
	for name, test := range map[string]struct {
		answer http.HandlerFunc // of the storage, where the first redirect led
		want   oci.Code
		now    int // requests to the registry by the part that meets it
		later  int // by the next one
	}{
		"400":            {registrytest.Status(400), "", 1, 0},
		"401":            {registrytest.Status(401), "", 1, 0},
		"403":            {registrytest.Status(403), "", 1, 0},
		"404":            {registrytest.Status(404), "", 1, 0},
		"410":            {registrytest.Status(410), "", 1, 0},
		"no answer":      {registrytest.EmptyReply, "", 1, 0},
		"416":            {registrytest.Status(416), oci.CodeRangeInvalid, 0, 0},
		"429":            {registrytest.Status(429), oci.CodeTooManyRequests, 0, 0},
		"500":            {registrytest.Status(500), oci.CodeUnavailable, 0, 1},
		"503":            {registrytest.Status(503), oci.CodeUnavailable, 0, 1},
		"something else": {registrytest.Status(204), oci.CodeUnavailable, 0, 1},
	} {
		t.Run(name, func(t *testing.T) {
			var broken, asked atomic.Int64
			storage := newFake(t, func(w http.ResponseWriter, req *http.Request) {
				if broken.Load() == 1 && req.URL.Path == "/1" {
					test.answer(w, req)
					return
				}
				http.ServeContent(w, req, "", time.Time{}, bytes.NewReader(blob))
			})
			source := newFake(t, func(w http.ResponseWriter, req *http.Request) {
				path := "/1"
				if asked.Add(1) > 1 {
					path = "/2"
				}
				http.Redirect(w, req, storage.URL+path+"?sig=secret", http.StatusTemporaryRedirect)
			})
			p := open(t, Options{}, source.URL).FetchBlob(repository(t, "a/b"), oci.DigestOf(blob))
			fetchAll(t, p, 2, blob)
			broken.Store(1)
			got, _, err := fetch(t.Context(), p, 100, 200)
			wantCode(t, err, test.want)
			noSecrets(t, err)
			if test.want == "" && !bytes.Equal(got, blob[100:200]) {
				t.Errorf("wrong %d bytes", len(got))
			}
			if n := int(asked.Load()) - 1; n != test.now {
				t.Errorf("the registry was asked %d times", n)
			}
			broken.Store(2)
			fetchAll(t, p, 2, blob)
			if n := int(asked.Load()) - 1 - test.now; n != test.later {
				t.Errorf("afterwards the registry was asked %d times", n)
			}
		})
	}
}

func TestStorageThatKeepsRefusingIsAskedTwice(t *testing.T) {
	storage := newFake(t, registrytest.Status(403))
	source := newFake(t, func(w http.ResponseWriter, req *http.Request) {
		http.Redirect(w, req, storage.URL+"/x", http.StatusFound)
	})
	p := open(t, Options{}, source.URL).parts(repository(t, "a/b"), oci.DigestOf(nil))
	p.ways[0].lead = &lead{target: mustURL(t, storage.URL+"/old"), until: time.Now().Add(time.Hour)}
	_, _, err := fetch(t.Context(), p, 5, -1)
	wantCode(t, err, oci.CodeUnavailable)
	if len(storage.all()) != 2 || len(source.all()) != 1 {
		t.Errorf("storage %d, registry %d", len(storage.all()), len(source.all()))
	}
}

func TestTargetHostThatIsGoneIsAskedForAnew(t *testing.T) {
	blob := randomBytes(1000)
	serve := func(w http.ResponseWriter, req *http.Request) {
		http.ServeContent(w, req, "", time.Time{}, bytes.NewReader(blob))
	}
	first, second := newFake(t, serve), newFake(t, serve)
	source := newFake(t, func(w http.ResponseWriter, req *http.Request) {
		target := second
		if req.Header.Get("Range") == "" {
			target = first
		}
		http.Redirect(w, req, target.URL+"/x", http.StatusFound)
	})
	p := open(t, Options{}, source.URL).FetchBlob(repository(t, "a/b"), oci.DigestOf(blob))
	if _, _, err := fetch(t.Context(), p, 0, -1); err != nil {
		t.Fatal(err)
	}
	first.Close()
	fetchAll(t, p, 4, blob)
}

func TestRegistryThatIsAnotherNameGivesParts(t *testing.T) {
	reg := registrytest.StartTest(t, registrytest.Options{Behavior: registrytest.GHCR()})
	name := newFake(t, func(w http.ResponseWriter, req *http.Request) {
		http.Redirect(w, req, reg.URL()+strings.Replace(req.RequestURI, "/v2/", "/v2/other/", 1), http.StatusTemporaryRedirect)
	})
	r := open(t, Options{}, name.URL)
	blob := reg.AddBlob("other/a/b", 100_000, 1)
	want := blobBytes(t, reg, blob)
	fetchAll(t, r.FetchBlob(repository(t, "a/b"), blob.Digest), 6, want)

	inPlace := registrytest.Behavior{Challenge: reg.Behavior().Challenge, Token: reg.Behavior().Token}
	reg.SetBehavior(inPlace) // where the name leads to, each part needs the token
	fetchAll(t, r.FetchBlob(repository(t, "a/b"), blob.Digest), 6, want)
	if n := len(name.all()); n != 2 {
		t.Errorf("the name was asked %d times for two blobs", n)
	}
	if n := reg.TokensIssued(); n != 1 {
		t.Errorf("%d tokens", n)
	}
}

// waiting starts n parts, each when the one before waits for something, with the
// contexts given, of which the last serves all others. What it returns waits for
// their errors.
func waiting(p oci.BlobParts, n int, contexts ...context.Context) (wait func() []error) {
	errs := make([]error, n)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { _, _, errs[i] = fetch(contexts[min(i, len(contexts)-1)], p, int64(i*10), int64(i*10+10)) })
		synctest.Wait()
	}
	return func() []error { all.Wait(); return errs }
}

func TestPartsWaitForTheFirstAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := registrytest.NewGate()
		behavior := registrytest.MCR()
		behavior.Faults = []registrytest.Fault{{HangBeforeHeaders: gate, Times: 1}}
		reg, r := start(t, registrytest.Options{InMemory: true, Behavior: behavior}, Options{})
		blob := reg.AddBlob("a/b", 1000, 1)
		wait := waiting(r.FetchBlob(repository(t, "a/b"), blob.Digest), 10, t.Context())
		if registry, storage := reg.Count(registrytest.KindBlob), reg.Count(registrytest.KindCDN); registry != 1 || storage != 1 {
			t.Errorf("registry was asked %d times, storage %d", registry, storage)
		}
		gate.Open()
		if err := errors.Join(wait()...); err != nil {
			t.Error(err)
		}
		if registry, storage := reg.Count(registrytest.KindBlob), reg.Count(registrytest.KindCDN); registry != 1 || storage != 10 {
			t.Errorf("registry was asked %d times, storage %d", registry, storage)
		}
	})
}

func TestWaiterWhoLeavesTakesNobodyAlong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := registrytest.NewGate()
		behavior := registrytest.MCR()
		behavior.Faults = []registrytest.Fault{{HangBeforeHeaders: gate, Times: 1}}
		reg, r := start(t, registrytest.Options{InMemory: true, Behavior: behavior}, Options{})
		blob := reg.AddBlob("a/b", 1000, 1)
		waiter, leave := context.WithCancel(t.Context())
		wait := waiting(r.FetchBlob(repository(t, "a/b"), blob.Digest), 5, t.Context(), waiter, t.Context())
		leave()
		synctest.Wait()
		gate.Open()
		for i, err := range wait() {
			if left := i == 1; left != errors.Is(err, context.Canceled) || !left && err != nil {
				t.Errorf("part %d: %v", i, err)
			}
		}
	})
}

func TestWaitersGoOnWhenTheOneWhoAsksLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		behavior := registrytest.MCR()
		behavior.Faults = []registrytest.Fault{{HangBeforeHeaders: registrytest.NewGate(), Times: 1}}
		reg, r := start(t, registrytest.Options{InMemory: true, Behavior: behavior}, Options{})
		blob := reg.AddBlob("a/b", 1000, 1)
		asking, leave := context.WithCancel(t.Context())
		wait := waiting(r.FetchBlob(repository(t, "a/b"), blob.Digest), 5, asking, t.Context())
		leave()
		errs := wait()
		if !errors.Is(errs[0], context.Canceled) || errors.Join(errs[1:]...) != nil {
			t.Errorf("got %v", errs)
		}
		if n := reg.Count(registrytest.KindBlob); n != 2 {
			t.Errorf("registry was asked %d times", n)
		}
	})
}

func TestWaitersShareTheFailure(t *testing.T) {
	for status, want := range map[int]oci.Code{
		503: oci.CodeUnavailable, 429: oci.CodeTooManyRequests, 404: oci.CodeBlobUnknown, 403: oci.CodeDenied,
	} {
		synctest.Test(t, func(t *testing.T) {
			arrived := make(chan struct{})
			asked := 0
			r := open(t, Options{Transport: roundTripper(func(req *http.Request) (*http.Response, error) {
				asked++
				<-arrived
				return &http.Response{StatusCode: status, Header: http.Header{}, Body: http.NoBody, Request: req}, nil
			})}, "http://registry.example")
			wait := waiting(r.FetchBlob(repository(t, "a/b"), oci.DigestOf(nil)), 8, t.Context())
			close(arrived)
			for _, err := range wait() {
				wantCode(t, err, want)
			}
			if asked != 1 {
				t.Errorf("%d: the registry was asked %d times", status, asked)
			}
		})
	}
}

func TestPartsOutliveTheirToken(t *testing.T) {
	behavior := registrytest.DockerHub()
	behavior.Redirect = registrytest.Redirect{}
	reg, r := start(t, registrytest.Options{Behavior: behavior}, Options{})
	blob := reg.AddBlob("a/b", 1<<20, 1)
	want := blobBytes(t, reg, blob)
	p := r.FetchBlob(repository(t, "a/b"), blob.Digest)
	for range 4 {
		fetchAll(t, p, 4, want)
		reg.ExpireTokens()
	}
}

// endpoints starts registries that hold the same blob, and one Registry that has
// them as its endpoints.
func endpoints(t *testing.T, behaviors ...registrytest.Behavior) ([]*registrytest.Registry, *Registry, oci.Descriptor) {
	t.Helper()
	var (
		regs []*registrytest.Registry
		all  []string
		blob oci.Descriptor
	)
	for _, b := range behaviors {
		reg := registrytest.StartTest(t, registrytest.Options{Behavior: b})
		blob = reg.AddBlob("a/b", 100_000, 1)
		regs, all = append(regs, reg), append(all, reg.URL())
	}
	return regs, open(t, Options{}, all...), blob
}

func TestNextEndpointSendsAfterOneThatBroke(t *testing.T) {
	broken := registrytest.DockerHub()
	broken.Faults = []registrytest.Fault{{Truncate: true, TruncateAfter: 10}}
	for name, first := range map[string]registrytest.Behavior{
		"body breaks":     broken,
		"no answer":       {Faults: []registrytest.Fault{{EmptyReply: true}}},
		"503":             {Faults: []registrytest.Fault{{Answer: registrytest.Status(503)}}},
		"another part":    {Faults: []registrytest.Fault{{WrongContentRange: true}}},
		"429":             {Faults: []registrytest.Fault{{Answer: registrytest.Status(429)}}},
		"dies afterwards": {},
	} {
		t.Run(name, func(t *testing.T) {
			regs, r, blob := endpoints(t, first, registrytest.Behavior{})
			want := blobBytes(t, regs[1], blob)
			p := r.FetchBlob(repository(t, "a/b"), blob.Digest)
			_, part, err := fetch(t.Context(), p, 50, 100)
			if breaks := name == "body breaks"; breaks != (err != nil) {
				t.Fatal(err)
			}
			if name == "dies afterwards" {
				if part.Endpoint != regs[0].URL()+"/v2/" {
					t.Errorf("came from %s", part.Endpoint)
				}
				_ = regs[0].Close()
			}
			if _, part, err = fetch(t.Context(), p, 50, 100); err != nil || part.Endpoint != regs[1].URL()+"/v2/" {
				t.Errorf("came from %s, %v", part.Endpoint, err)
			}
			before := regs[0].Count("")
			fetchAll(t, p, 4, want)
			if n := regs[0].Count("") - before; n != 0 {
				t.Errorf("the first endpoint was asked %d times more", n)
			}
		})
	}
}

func TestEndpointsTakeTurnsWhenAllBreak(t *testing.T) {
	broken := registrytest.Behavior{Faults: []registrytest.Fault{{Truncate: true, TruncateAfter: 10}}}
	regs, r, blob := endpoints(t, broken, broken, broken)
	p := r.FetchBlob(repository(t, "a/b"), blob.Digest)
	for i := range 7 {
		_, part, err := fetch(t.Context(), p, 0, -1)
		if want := regs[i%3].URL() + "/v2/"; err == nil || part.Endpoint != want {
			t.Errorf("part %d came from %s, want %s; %v", i, part.Endpoint, want, err)
		}
	}
}

func TestAnswerOfTheFirstEndpointStands(t *testing.T) {
	regs, r, _ := endpoints(t, registrytest.Behavior{}, registrytest.Behavior{})
	_, _, err := fetch(t.Context(), r.FetchBlob(repository(t, "a/b"), oci.DigestOf(nil)), 0, -1)
	wantCode(t, err, oci.CodeBlobUnknown)
	if n := regs[1].Count(""); n != 0 {
		t.Errorf("the second endpoint was asked %d times", n)
	}
}

func TestAvoidedEndpointIsTheLastResort(t *testing.T) {
	wrong := registrytest.Behavior{Faults: []registrytest.Fault{{Extra: 7}}}
	flaky := registrytest.Behavior{Faults: []registrytest.Fault{{Truncate: true, TruncateAfter: 10, Times: 1}}}
	regs, r, blob := endpoints(t, wrong, flaky, registrytest.Behavior{})
	p := r.FetchBlob(repository(t, "a/b"), blob.Digest)
	_, part, err := fetch(t.Context(), p, 0, -1)
	if err != nil || part.Size != blob.Size+7 {
		t.Fatalf("%+v, %v", part, err)
	}
	avoider, ok := p.(oci.BlobAvoider)
	if !ok {
		t.Fatal("nothing to avoid it with")
	}
	avoider.Avoid("no such endpoint")
	avoider.Avoid(part.Endpoint)
	for i, want := range []int{1, 2, 2} {
		_, part, err = fetch(t.Context(), p, 0, -1)
		if part.Endpoint != regs[want].URL()+"/v2/" || part.Size != blob.Size || (err != nil) != (i == 0) {
			t.Errorf("part %d: %+v, %v", i, part, err)
		}
	}
	_, _ = regs[1].Close(), regs[2].Close()
	_, part, err = fetch(t.Context(), p, 0, -1)
	wantCode(t, err, oci.CodeUnavailable) // it is asked, and its size is another
	avoider.Avoid(part.Endpoint)
}
