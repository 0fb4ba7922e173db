package registrytest_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sampan/internal/registrytest"
)

func TestRequestsAreCounted(t *testing.T) {
	r := start(t, registrytest.Options{InMemory: true})
	img := r.AddImage("a/b", "v1", registrytest.ImageSpec{Layers: []int64{1000}})
	c, layer := r.Client(), img.Layers[0][0]
	do(t, c, "GET", r.URL()+"/v2/")
	do(t, c, "HEAD", r.URL()+"/v2/a/b/manifests/v1")
	do(t, c, "GET", r.URL()+"/v2/a/b/manifests/v1", "Accept", "x/y", "Accept", "z", "Authorization", "Bearer secret", "User-Agent", "me")
	do(t, c, "GET", blobURL(r, "a/b", layer)+"?ns=docker.io", "Range", "bytes=900-")
	do(t, c, "GET", r.URL()+"/v2/_catalog")
	got := map[string]int{
		"ping": r.Count(registrytest.KindPing), "manifest": r.Count(registrytest.KindManifest),
		"manifest GET": r.Count(registrytest.KindManifest, "GET"), "blob": r.Count(registrytest.KindBlob),
		"other": r.Count(registrytest.KindOther), "all": r.Count(""), "tokens": r.TokensIssued(),
		"path":        r.CountPath("GET", "/v2/a/b/manifests/v1"),
		"connections": r.Connections(), "blob bytes": int(r.BytesSentOf(layer.Digest)), "concurrent": r.MaxConcurrentBlobs(),
	}
	want := map[string]int{
		"ping": 1, "manifest": 2, "manifest GET": 1, "blob": 1, "other": 1, "all": 5, "tokens": 0, "path": 1,
		"connections": 1, "blob bytes": 100, "concurrent": 1,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	all := r.Requests()
	wantOne := registrytest.Request{
		Method: "GET", Host: r.Host(), Path: "/v2/a/b/manifests/v1", Proto: "HTTP/1.1", Kind: registrytest.KindManifest,
		Accept: "x/y, z", UserAgent: "me", Authorization: "Bearer", Status: 200, Bytes: img.Manifest.Descriptor.Size,
	}
	if diff := cmp.Diff(wantOne, all[2]); diff != "" {
		t.Error(diff)
	}
	if b := all[3]; b.Range != "bytes=900-" || b.Query != "ns=docker.io" || b.Status != 206 || b.Bytes != 100 {
		t.Errorf("%+v", b)
	}
	r.ResetCounts()
	if r.Count("") != 0 || len(r.Requests()) != 0 || r.BytesSent() != 0 || r.BytesSentOf(layer.Digest) != 0 {
		t.Error("something is left")
	}
}

func TestAHandlerWaitsAtAGate(t *testing.T) {
	gate := registrytest.NewGate()
	r := start(t, registrytest.Options{InMemory: true})
	r.FailNext(registrytest.KindPing, 1, func(w http.ResponseWriter, req *http.Request) {
		if err := gate.Wait(req.Context()); err == nil {
			w.WriteHeader(http.StatusTeapot)
		}
	})
	status := make(chan int)
	go func() {
		a, _ := try(r.Client(), "GET", r.URL()+"/v2/")
		status <- a.status
	}()
	if err := gate.Await(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	gate.Open()
	if got := <-status; got != http.StatusTeapot {
		t.Errorf("%d", got)
	}
}

func TestCountsOnlyKeepsNoList(t *testing.T) {
	r := start(t, registrytest.Options{InMemory: true, CountsOnly: true})
	do(t, r.Client(), "GET", r.URL()+"/v2/")
	if r.Count(registrytest.KindPing) != 1 || r.Requests() != nil {
		t.Errorf("%d %v", r.Count(registrytest.KindPing), r.Requests())
	}
}

func TestFailNext(t *testing.T) {
	r := start(t, registrytest.Options{InMemory: true})
	status := func(path string) int { return do(t, r.Client(), "GET", r.URL()+path).status }
	r.FailNext(registrytest.KindPing, 2, registrytest.Status(503))
	r.FailNext("", 1, registrytest.Status(500))
	if got, want := []int{status("/v2/a/tags/list"), status("/v2/"), status("/v2/"), status("/v2/")}, []int{500, 503, 503, 200}; !cmp.Equal(got, want) {
		t.Errorf("%v", got)
	}
	r.FailNext("", -1, registrytest.Status(502))
	if got, want := []int{status("/v2/"), status("/v2/")}, []int{502, 502}; !cmp.Equal(got, want) {
		t.Errorf("%v", got)
	}
	r.ClearFailures()
	if got := status("/v2/"); got != 200 {
		t.Errorf("cleared: %d", got)
	}
}

func TestAwaitReturnsOnceTheyArrived(t *testing.T) {
	gate := registrytest.NewGate()
	r := start(t, registrytest.Options{InMemory: true, Behavior: fault(registrytest.Fault{HangAfterHeaders: gate})})
	d := r.AddBlob("a", 100, 1)
	done := make(chan error)
	for range 3 {
		go func() {
			a, err := try(r.Client(), "GET", blobURL(r, "a", d))
			done <- errors.Join(err, a.bodyErr)
		}()
	}
	if err := r.Await(t.Context(), registrytest.KindBlob, 3); err != nil {
		t.Error(err)
	}
	if err := gate.Await(t.Context(), 3); err != nil {
		t.Error(err)
	}
	gate.Open()
	for range 3 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if r.MaxConcurrentBlobs() != 3 || gate.Arrived() != 3 {
		t.Errorf("%d at once, %d at the gate", r.MaxConcurrentBlobs(), gate.Arrived())
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.Await(ctx, registrytest.KindBlob, 4); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func TestTheHandlerAnswersWithoutAConnection(t *testing.T) {
	r := start(t, registrytest.Options{InMemory: true})
	d := r.AddBlob("a", 1000, 1)
	w := httptest.NewRecorder()
	r.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, blobURL(r, "a", d), nil))
	if w.Code != 200 || !d.Digest.Verify(w.Body.Bytes()) {
		t.Errorf("%d", w.Code)
	}
	w = httptest.NewRecorder()
	r.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, r.TokenURL(), nil))
	if w.Code != 200 || r.TokensIssued() != 1 {
		t.Errorf("token: %d", w.Code)
	}
}

func TestNothingElseCanBeDialled(t *testing.T) {
	r := start(t, registrytest.Options{})
	if _, err := try(r.Client(), "GET", "http://127.0.0.1:1/"); err == nil {
		t.Error("it was")
	}
}

func TestAfterCloseNothingAnswers(t *testing.T) {
	for _, opts := range []registrytest.Options{{}, {InMemory: true}} {
		r := start(t, opts)
		c := r.Client()
		do(t, c, "GET", r.URL()+"/v2/")
		if err := errors.Join(r.Close(), r.Close()); err != nil {
			t.Error(err)
		}
		if _, err := try(c, "GET", r.URL()+"/v2/"); err == nil {
			t.Error("it answered")
		}
	}
}
