package upstream

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
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

// image adds the same image to all endpoints, tagged v1.
func (f *fleet) image() registrytest.Image {
	var img registrytest.Image
	for _, reg := range f.regs {
		img = reg.AddImage("a/b", "v1", registrytest.ImageSpec{Layers: []int64{100, 200_000}})
	}
	return img
}

// resolve asks for the tag of the image.
func (f *fleet) resolve(ctx context.Context, t *testing.T) error {
	t.Helper()
	_, err := f.ResolveTag(ctx, repository(t, "a/b"), tag(t, "v1"))
	return err
}

// any is a fault of every answer of a registry.
func always(f registrytest.Fault) registrytest.Behavior {
	f.On = []registrytest.Kind{registrytest.KindAny}
	return registrytest.Behavior{Faults: []registrytest.Fault{f}}
}

func TestAHangingEndpointCostsAPullItsTimeoutOnce(t *testing.T) {
	for _, where := range []string{"before headers", "in blobs"} {
		t.Run(where, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				first := always(registrytest.Fault{HangBeforeHeaders: registrytest.NewGate()})
				if where == "in blobs" {
					first = registrytest.Behavior{Faults: []registrytest.Fault{{HangAfterHeaders: registrytest.NewGate()}}}
				}
				const patience = 20 * time.Second
				f := newFleet(t, Options{Timeout: patience, StallTimeout: patience}, first, registrytest.Behavior{})
				img := f.image()
				pull := func() {
					t.Helper()
					if err := f.resolve(t.Context(), t); err != nil {
						t.Error(err)
					}
					if _, err := f.Manifest(t.Context(), repository(t, "a/b"), img.Manifest.Descriptor.Digest); err != nil {
						t.Error(err)
					}
					for _, d := range img.Blobs() {
						b, err := f.Blob(t.Context(), repository(t, "a/b"), d.Digest)
						if err != nil {
							t.Fatal(err)
						}
						for range 2 { // whoever reads takes up again what broke
							if _, err = io.Copy(io.Discard, b); err == nil {
								break
							}
						}
						if err != nil {
							t.Error(err)
						}
						_ = b.Close()
					}
					if _, err := f.Tags(t.Context(), repository(t, "a/b")); err != nil {
						t.Error(err)
					}
				}
				began := time.Now()
				pull()
				if took := time.Since(began); took != patience {
					t.Errorf("the first pull took %v", took)
				}
				f.regs[0].ResetCounts()
				began = time.Now()
				pull()
				if took, n := time.Since(began), f.regs[0].Count(""); took != 0 || n != 0 {
					t.Errorf("the next one took %v and asked it %d times", took, n)
				}
			})
		})
	}
}

func TestAnEndpointIsLeftAloneAfterFailuresInARow(t *testing.T) {
	for name, test := range map[string]struct {
		fault registrytest.Fault
		open  bool
	}{
		"503":             {registrytest.Fault{Answer: registrytest.Status(503)}, true},
		"500":             {registrytest.Fault{Answer: registrytest.Status(500)}, true},
		"no answer":       {registrytest.Fault{EmptyReply: true}, true},
		"404":             {registrytest.Fault{Answer: registrytest.Status(404)}, false},
		"401":             {registrytest.Fault{Answer: registrytest.Status(401)}, false},
		"403":             {registrytest.Fault{Answer: registrytest.Status(403)}, false},
		"a page":          {registrytest.Fault{Answer: registrytest.HTML}, false},
		"fails sometimes": {registrytest.Fault{Answer: registrytest.Status(503), Skip: 2, Times: 3}, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFleet(t, Options{}, always(test.fault), registrytest.Behavior{})
				img := f.image()
				for range 12 {
					_, _ = f.Manifest(t.Context(), repository(t, "a/b"), img.Manifest.Descriptor.Digest)
				}
				if up := f.endpoints[0].breaker.isUp(); up == test.open {
					t.Errorf("up: %v; %+v", up, f.Status().Endpoints[0])
				}
				if n := f.regs[0].Count(registrytest.KindManifest); test.open && name != "no answer" && n != failuresToOpen {
					t.Errorf("it was asked %d times", n)
				}
			})
		})
	}
}

func TestExactlyOneQuestionProbes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, Options{}, always(registrytest.Fault{Answer: registrytest.Status(503)}), registrytest.Behavior{})
		f.image()
		for range failuresToOpen {
			if err := f.resolve(t.Context(), t); err != nil {
				t.Fatal(err)
			}
		}
		gate := registrytest.NewGate()
		f.regs[0].SetBehavior(always(registrytest.Fault{HangBeforeHeaders: gate}))
		f.regs[0].ResetCounts()
		ask := func(n int) *sync.WaitGroup {
			var all sync.WaitGroup
			for range n {
				all.Go(func() {
					if err := f.resolve(t.Context(), t); err != nil {
						t.Error(err)
					}
				})
			}
			synctest.Wait()
			return &all
		}
		ask(7).Wait()
		if n := f.regs[0].Count(""); n != 0 {
			t.Errorf("it was asked %d times before its pause had passed", n)
		}
		time.Sleep(firstPause)
		f.regs[1].ResetCounts()
		all := ask(7)
		if probes, others := f.regs[0].Count(""), f.regs[1].Count(""); probes != 1 || others != 6 {
			t.Errorf("%d probes, %d answers of the other", probes, others)
		}
		if st := f.Status().Endpoints[0]; st.State != "probing" {
			t.Errorf("got %+v", st)
		}
		gate.Open()
		all.Wait()
		ask(7).Wait()
		if first, second := f.regs[0].Count(""), f.regs[1].Count(""); first != 8 || second != 6 {
			t.Errorf("after the probe the first was asked %d times, the second %d", first, second)
		}
	})
}

func TestAHangingProbeCostsLittleAndPausesGrow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, Options{Timeout: 20 * time.Second}, always(registrytest.Fault{HangBeforeHeaders: registrytest.NewGate()}), registrytest.Behavior{})
		f.image()
		if err := f.resolve(t.Context(), t); err != nil {
			t.Fatal(err)
		}
		began, slow := time.Now(), 0
		for time.Since(began) < 30*time.Minute {
			time.Sleep(5 * time.Second)
			at := time.Now()
			if err := f.resolve(t.Context(), t); err != nil {
				t.Fatal(err)
			}
			switch time.Since(at) {
			case 0:
			case probeHedge:
				slow++
			default:
				t.Errorf("a question took %v", time.Since(at))
			}
		}
		// 30 s, 1, 2, 4 and then each 5 minutes
		if n := f.regs[0].Count(""); n != 1+slow || slow != 8 {
			t.Errorf("it was asked %d times, %d questions waited", n, slow)
		}
	})
}

func TestTheOnlyEndpointIsTriedWhenItsPauseHasPassed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, Options{}, always(registrytest.Fault{Answer: registrytest.Status(503)}))
		img := f.image()
		ask := func() error { return f.resolve(t.Context(), t) }
		for range failuresToOpen {
			wantCode(t, ask(), oci.CodeUnavailable)
		}
		for range 10 {
			err := ask()
			wantCode(t, err, oci.CodeUnavailable)
			var e *oci.Error
			if !errors.As(err, &e) || e.RetryAfter != firstPause || !strings.Contains(e.Message, "status 503") || !strings.Contains(e.Message, "asked again in 1s") {
				t.Errorf("it says %+v", e)
			}
			_, err = f.Blob(t.Context(), repository(t, "a/b"), img.Blobs()[0].Digest)
			wantCode(t, err, oci.CodeUnavailable)
		}
		if n := f.regs[0].Count(""); n != failuresToOpen {
			t.Errorf("it was asked %d times", n)
		}
		f.regs[0].ResetCounts()
		for range 1000 { // 100 s
			time.Sleep(100 * time.Millisecond)
			_ = ask()
		}
		if n := f.regs[0].Count(""); n != 7 { // after 1, 2, 4, 8, 16, 30 and 30 s
			t.Errorf("it was asked %d times in 100 s", n)
		}
		f.regs[0].SetBehavior(registrytest.Behavior{})
		time.Sleep(longestAlone)
		if err := ask(); err != nil {
			t.Error(err)
		}
		if st := f.Status().Endpoints[0]; st.State != "up" || st.Failures != 0 || !st.Until.IsZero() {
			t.Errorf("got %+v", st)
		}
	})
}

func TestWhoLeavesSaysNothingAboutAnEndpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, Options{}, always(registrytest.Fault{HangBeforeHeaders: registrytest.NewGate()}), registrytest.Behavior{})
		f.image()
		leave := func() {
			ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
			defer cancel()
			if err := f.resolve(ctx, t); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v", err)
			}
		}
		for range 2 * failuresToOpen {
			leave()
		}
		if st := f.Status().Endpoints[0]; st.State != "up" || st.Failures != 0 {
			t.Errorf("got %+v", st)
		}
		// A probe whose asker leaves makes way for the next one.
		b := &f.endpoints[0].breaker
		for range failuresToOpen {
			b.admit().failed(errSlow, &outage{}, true)
		}
		time.Sleep(firstPause)
		before := f.regs[0].Count("")
		leave()
		leave()
		if n := f.regs[0].Count("") - before; n != 2 {
			t.Errorf("%d probes", n)
		}
	})
}

func TestChangesAreLoggedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		f := newFleet(t, Options{Logger: slog.New(slog.NewTextHandler(&log, nil))},
			always(registrytest.Fault{Answer: registrytest.Status(503)}), registrytest.Behavior{})
		f.image()
		for range 120 { // a minute
			time.Sleep(500 * time.Millisecond)
			if err := f.resolve(t.Context(), t); err != nil {
				t.Fatal(err)
			}
		}
		f.regs[0].SetBehavior(registrytest.Behavior{})
		time.Sleep(longestPause)
		for range 10 {
			if err := f.resolve(t.Context(), t); err != nil {
				t.Fatal(err)
			}
		}
		went, came := strings.Count(log.String(), "endpoint fails and is left alone"), strings.Count(log.String(), "endpoint answers again")
		if went != 1 || came != 1 || strings.Count(log.String(), "\n") != 2 {
			t.Errorf("logged:\n%s", log.String())
		}
	})
}

func TestABodyThatBreaksAfterItBroughtMuchIsNoFailure(t *testing.T) {
	for _, after := range []int64{1000, 100_000} {
		synctest.Test(t, func(t *testing.T) {
			f := newFleet(t, Options{}, registrytest.Behavior{Faults: []registrytest.Fault{{Truncate: true, TruncateAfter: after}}})
			blob := f.blob(200_000, 1)
			for range 2 * failuresToOpen {
				_, _, _ = fetch(t.Context(), f.FetchBlob(repository(t, "a/b"), blob.Digest), 0, -1)
			}
			if alive, want := f.endpoints[0].breaker.isUp(), after > aliveBytes; alive != want {
				t.Errorf("after breaks at %d bytes the endpoint is up: %v", after, alive)
			}
		})
	}
}

func TestBlobsAreNotAskedForWhereTheEndpointIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, Options{}, always(registrytest.Fault{Answer: registrytest.Status(503)}), registrytest.Behavior{})
		for seed := range uint64(10) {
			blob := f.blob(1000, seed)
			if _, _, err := fetch(t.Context(), f.FetchBlob(repository(t, "a/b"), blob.Digest), 0, -1); err != nil {
				t.Error(err)
			}
		}
		if n := f.regs[0].Count(registrytest.KindBlob, http.MethodGet); n != failuresToOpen {
			t.Errorf("it was asked %d times", n)
		}
	})
}

// Storage that is blocked or broken keeps nobody from tags and manifests.
func TestStorageThatFailsIsLeftAloneAndItsEndpointIsNot(t *testing.T) {
	for name, fault := range map[string]registrytest.Fault{
		"closes": {EmptyReply: true}, "503": {Answer: registrytest.Status(503)}, "hangs": {HangBeforeHeaders: registrytest.NewGate()},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				if fault.HangBeforeHeaders != nil {
					fault.HangBeforeHeaders = registrytest.NewGate()
				}
				fault.On = []registrytest.Kind{registrytest.KindCDN}
				behavior := registrytest.MCR()
				behavior.Redirect.Target = registrytest.TargetCDN
				behavior.Faults = []registrytest.Fault{fault}
				f := newFleet(t, Options{Timeout: 20 * time.Second}, behavior, registrytest.Behavior{})
				img := f.image()
				began, slow := time.Now(), 0
				for range 4 * failuresToOpen {
					at := time.Now()
					if err := f.manifest(t, img); err != nil {
						t.Error(err)
					}
					if _, _, err := fetch(t.Context(), f.FetchBlob(repository(t, "a/b"), img.Blobs()[0].Digest), 0, -1); err != nil {
						t.Error(err)
					}
					if time.Since(at) > 0 {
						slow++
					}
				}
				manifests, blobs := f.regs[0].Count(registrytest.KindManifest), f.regs[0].Count(registrytest.KindBlob)
				want := failuresToOpen
				if name == "hangs" {
					want = 1
				}
				if manifests != 4*failuresToOpen || blobs > 2*want || slow > 1 {
					t.Errorf("it was asked for %d manifests and %d blobs in %v", manifests, blobs, time.Since(began))
				}
				if st := f.Status().Endpoints[0]; st.State != "down" || !f.endpoints[0].breaker.isUp() {
					t.Errorf("got %+v", st)
				}
				if up := testutil.ToFloat64(f.metrics.endpoints.WithLabelValues("docker.io", "e0.test:5000")); up != 0 {
					t.Errorf("the metrics call it up: %v", up)
				}
				f.regs[0].SetBehavior(registrytest.Behavior{})
				time.Sleep(longestPause)
				if _, _, err := fetch(t.Context(), f.FetchBlob(repository(t, "a/b"), img.Blobs()[0].Digest), 0, -1); err != nil {
					t.Error(err)
				}
				if st := f.Status().Endpoints[0]; st.State != "up" {
					t.Errorf("got %+v", st)
				}
			})
		})
	}
}

// Who waits between questions themselves has each of them asked.
func TestAPersistentRegistryIsAskedEachTime(t *testing.T) {
	for _, persistent := range []bool{false, true} {
		failing := newFake(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) })
		r := open(t, Options{Persistent: persistent}, failing.URL)
		const asked = failuresToOpen + 3
		for range asked {
			_, err := r.StatBlob(t.Context(), repository(t, "a/b"), oci.DigestOf(nil))
			wantCode(t, err, oci.CodeUnavailable)
		}
		if n := len(failing.all()); (n == asked) != persistent {
			t.Errorf("persistent: %t; it was asked %d times", persistent, n)
		}
	}
}
