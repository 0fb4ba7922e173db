package upstream

import (
	"bytes"
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"sampan/internal/oci"
	"sampan/internal/registrytest"
)

// late answers after so long.
func late(latency time.Duration) registrytest.Behavior {
	return registrytest.Behavior{Pace: registrytest.Pace{Latency: latency}}
}

const hedge = 300 * time.Millisecond

func TestASlowAnswerIsOvertakenByTheNextEndpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		metrics := prometheus.NewRegistry()
		f := newFleet(t, Options{Hedge: hedge, Registerer: metrics}, late(5*time.Second), registrytest.Behavior{})
		img := f.image()
		repo, d := repository(t, "a/b"), img.Blobs()[2]
		for name, ask := range map[string]func() error{
			"tag":      func() error { return f.resolve(t.Context(), t) },
			"manifest": func() error { _, err := f.Manifest(t.Context(), repo, img.Manifest.Descriptor.Digest); return err },
			"stat":     func() error { _, err := f.StatBlob(t.Context(), repo, d.Digest); return err },
			"blob": func() error {
				got, part, err := fetch(t.Context(), f.FetchBlob(repo, d.Digest), 5, 1000)
				if want := blobBytes(t, f.regs[1], d)[5:1000]; err == nil && !bytes.Equal(got, want) || part.Endpoint != f.endpoints[1].String() {
					t.Errorf("wrong part of %d bytes from %s", len(got), part.Endpoint)
				}
				return err
			},
		} {
			before, began := f.regs[0].Count(""), time.Now()
			if err := ask(); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if took := time.Since(began); took != hedge {
				t.Errorf("%s took %v", name, took)
			}
			if n := f.regs[0].Count("") - before; n != 1 {
				t.Errorf("%s asked the first endpoint %d times", name, n)
			}
		}
		// Who loses every time is not waited for any more.
		if err := f.resolve(t.Context(), t); err != nil {
			t.Error(err)
		}
		began := time.Now()
		if err := f.resolve(t.Context(), t); err != nil || time.Since(began) != 0 {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		if won := testutil.ToFloat64(f.metrics.hedges.WithLabelValues("docker.io", "won")); won != 5 {
			t.Errorf("%v races were won by the second endpoint", won)
		}
		if up := testutil.ToFloat64(f.metrics.endpoints.WithLabelValues("docker.io", "e0.test:5000")); up != 0 {
			t.Errorf("the first endpoint is up: %v", up)
		}
		if n, err := testutil.GatherAndCount(metrics, "sampan_upstream_endpoint_up"); err != nil || n != 2 {
			t.Errorf("%d endpoints in the metrics, %v", n, err)
		}
	})
}

func TestNobodyElseIsAskedWithoutNeed(t *testing.T) {
	for name, test := range map[string]struct {
		hedge   time.Duration
		latency time.Duration
	}{"quick enough": {hedge, hedge - time.Millisecond}, "not wanted": {0, 10 * time.Second}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFleet(t, Options{Hedge: test.hedge}, late(test.latency), registrytest.Behavior{})
				f.image()
				for range 10 {
					if err := f.resolve(t.Context(), t); err != nil {
						t.Error(err)
					}
				}
				if n := f.regs[1].Count(""); n != 0 {
					t.Errorf("the second endpoint was asked %d times", n)
				}
			})
		})
	}
}

func TestTheSlowAnswerStandsWhereTheSecondEndpointFails(t *testing.T) {
	for name, second := range map[string]registrytest.Fault{
		"at once": {Answer: registrytest.Status(503)},
		"never":   {HangBeforeHeaders: registrytest.NewGate()},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				if second.HangBeforeHeaders != nil {
					second.HangBeforeHeaders = registrytest.NewGate()
				}
				f := newFleet(t, Options{Hedge: hedge}, late(2*time.Second), always(second))
				img := f.image()
				began := time.Now()
				if err := f.resolve(t.Context(), t); err != nil || time.Since(began) != 2*time.Second {
					t.Errorf("%v after %v", err, time.Since(began))
				}
				_, _, err := fetch(t.Context(), f.FetchBlob(repository(t, "a/b"), img.Blobs()[0].Digest), 0, -1)
				if err != nil || time.Since(began) != 4*time.Second {
					t.Errorf("blob: %v after %v", err, time.Since(began))
				}
				if n := f.regs[1].Count(""); n != 2 {
					t.Errorf("the second endpoint was asked %d times", n)
				}
			})
		})
	}
}

func TestTheAnswerUnknownWinsARace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, Options{Hedge: hedge}, late(5*time.Second), registrytest.Behavior{})
		began := time.Now()
		if err := f.resolve(t.Context(), t); !errors.Is(err, oci.ErrNameUnknown) && !errors.Is(err, oci.ErrManifestUnknown) || time.Since(began) != hedge {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	})
}

func TestWhatALoserSentIsGivenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// Both answer at the same moment: one of them loses with an answer in hand.
		f := newFleet(t, Options{Hedge: hedge}, late(2*hedge), late(hedge))
		blob := f.blob(100_000, 1)
		want := blobBytes(t, f.regs[0], blob)
		for range 20 {
			p := f.parts(repository(t, "a/b"), blob.Digest)
			got, _, err := fetch(t.Context(), p, 0, -1)
			if err != nil || !bytes.Equal(got, want) {
				t.Fatalf("%d bytes, %v", len(got), err)
			}
			for i, w := range p.ways {
				if w.open != 0 {
					t.Fatalf("%d parts of endpoint %d are open", w.open, i)
				}
			}
		}
		synctest.Wait()
		if n := f.regs[0].Count(registrytest.KindBlob, http.MethodGet); n < 5 {
			t.Errorf("the first endpoint was asked %d times", n)
		}
	})
}
