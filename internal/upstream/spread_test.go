package upstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sampan/internal/fill"
	"sampan/internal/oci"
	"sampan/internal/registrytest"
	"sampan/internal/store/disk"
)

// A fleet is several endpoints of one registry that hold the same blobs, in memory.
type fleet struct {
	*Registry
	regs []*registrytest.Registry
}

// newFleet starts one endpoint for each behavior, for use within synctest.
func newFleet(t *testing.T, o Options, behaviors ...registrytest.Behavior) *fleet {
	t.Helper()
	f := &fleet{}
	hosts := make(map[string]*registrytest.Registry)
	var urls []string
	for i, b := range behaviors {
		host := fmt.Sprintf("e%d.test", i)
		reg := registrytest.StartTest(t, registrytest.Options{InMemory: true, Hostname: host, Behavior: b})
		hosts[host] = reg
		f.regs, urls = append(f.regs, reg), append(urls, reg.URL())
	}
	transport := &http.Transport{
		DisableCompression: true,
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			host, _, err := net.SplitHostPort(addr)
			if err != nil || hosts[host] == nil {
				return nil, fmt.Errorf("%s is no host of the test: %w", addr, err)
			}
			return hosts[host].DialContext(ctx, network, addr)
		},
	}
	t.Cleanup(transport.CloseIdleConnections)
	o.Transport = transport
	f.Registry = open(t, o, urls...)
	return f
}

// blob adds the same one to all endpoints.
func (f *fleet) blob(size int64, seed uint64) oci.Descriptor {
	var d oci.Descriptor
	for _, reg := range f.regs {
		d = reg.AddBlob("a/b", size, seed)
	}
	return d
}

func fills(t *testing.T) *fill.Group {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	store, err := disk.New(disk.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	group, err := fill.New(fill.Options{Store: store, Log: log, Stall: 2 * time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		group.Close()
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return group
}

// pull fetches a blob over lines, as a client would have it.
func (f *fleet) pull(t *testing.T, g *fill.Group, d oci.Descriptor) error {
	t.Helper()
	r, err := g.Open(t.Context(), d.Digest, fill.Source{
		Upstream: "docker.io", Repository: "a/b", Parts: f.FetchBlob(repository(t, "a/b"), d.Digest),
	})
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }()
	ok, err := d.Digest.VerifyReader(r)
	if err == nil && !ok {
		t.Error("wrong bytes came out")
	}
	return err
}

// throttled sends so many bytes per second over each connection.
func throttled(rate int64, faults ...registrytest.Fault) registrytest.Behavior {
	return registrytest.Behavior{
		Pace:   registrytest.Pace{Latency: 20 * time.Millisecond, BytesPerSecond: rate},
		Faults: faults,
	}
}

func TestLinesOfABlobAreSpreadOverTheEndpointsByTheirRates(t *testing.T) {
	const rate, size = 1 << 20, 24 << 20
	for name, test := range map[string]struct {
		second      int64
		least, most float64 // share of the second endpoint
		time        float64 // at the most, of that over one line to the first
	}{
		"equal":     {rate, 0.35, 0.65, 0.5},
		"slower":    {rate / 8, 0.005, 0.2, 0.5},
		"faster":    {rate * 3, 0.5, 0.9, 0.5},
		"very slow": {rate / 400, 0, 0.02, 0.5},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, g := newFleet(t, Options{}, throttled(rate), throttled(test.second)), fills(t)
				blob := f.blob(size, 1)
				began := time.Now()
				if err := f.pull(t, g, blob); err != nil {
					t.Fatal(err)
				}
				first, second := f.regs[0].BytesSent(), f.regs[1].BytesSent()
				if share := float64(second) / float64(first+second); share < test.least || share > test.most {
					t.Errorf("the second endpoint sent %.3f of the bytes", share)
				}
				if first+second > size*105/100 {
					t.Errorf("%d bytes for %d", first+second, size)
				}
				if n := f.regs[1].Count(registrytest.KindBlob); n == 0 {
					t.Error("the second endpoint was not asked")
				}
				if took, one := time.Since(began), size/rate*time.Second; took.Seconds() > one.Seconds()*test.time {
					t.Errorf("the fetch took %v, %v over one line", took, one)
				}
				t.Logf("first %d bytes in %d requests, second %d in %d, %v", first, f.regs[0].Count(""), second, f.regs[1].Count(""), time.Since(began))
			})
		})
	}
}

// Where each endpoint is slow in all, however many lines there are, several of them
// are nearly as fast as all of them together, the more so once they are known.
func TestSeveralEndpointsBringWhatEachOfThemCannot(t *testing.T) {
	const rate, size = 1 << 20, 24 << 20
	limited := registrytest.Behavior{Pace: registrytest.Pace{Latency: 20 * time.Millisecond, TotalBytesPerSecond: rate}}
	for endpoints := 1; endpoints <= 3; endpoints++ {
		synctest.Test(t, func(t *testing.T) {
			f, g := newFleet(t, Options{}, slices.Repeat([]registrytest.Behavior{limited}, endpoints)...), fills(t)
			for n, most := range []float64{0.8, 0.6} {
				blob := f.blob(size, uint64(n))
				began := time.Now()
				if err := f.pull(t, g, blob); err != nil {
					t.Fatal(err)
				}
				took, one := time.Since(began), time.Duration(size/rate)*time.Second
				if endpoints > 1 && took.Seconds() > one.Seconds()*most {
					t.Errorf("blob %d took %v over %d endpoints, %v over one", n, took, endpoints, one)
				}
				t.Logf("blob %d over %d endpoints: %v", n, endpoints, took)
			}
		})
	}
}

func TestTheFirstPartOfEachBlobAsksTheFirstEndpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, g := newFleet(t, Options{}, throttled(4<<20), throttled(400<<20)), fills(t)
		for seed := range uint64(20) {
			if err := f.pull(t, g, f.blob(1<<20, seed)); err != nil {
				t.Fatal(err)
			}
		}
		if n := f.regs[0].Count(registrytest.KindBlob); n != 20 {
			t.Errorf("the first endpoint was asked %d times", n)
		}
		if n := f.regs[1].Count(""); n != 0 {
			t.Errorf("the second endpoint was asked %d times", n)
		}
	})
}

func TestAnEndpointThatFailsFailsNobody(t *testing.T) {
	const rate, size = 1 << 20, 8 << 20
	for name, fault := range map[string]registrytest.Fault{
		"closes at once":      {EmptyReply: true},
		"answers 503":         {Answer: registrytest.Status(503)},
		"answers 404":         {Answer: registrytest.Status(404)},
		"answers 403":         {Answer: registrytest.Status(403)},
		"answers 416":         {Answer: registrytest.Status(416)},
		"limits the rate":     {Answer: registrytest.TooMany(registrytest.TooManyHub, time.Hour)},
		"sends a page":        {Answer: registrytest.HTML},
		"breaks off":          {Truncate: true, TruncateAfter: 100_000},
		"tells another size":  {Extra: 17},
		"sends another range": {WrongContentRange: true},
		"never answers":       {HangBeforeHeaders: registrytest.NewGate()},
		"sends no body":       {HangAfterHeaders: registrytest.NewGate()},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				if fault.HangBeforeHeaders != nil {
					fault.HangBeforeHeaders = registrytest.NewGate() // of this bubble
				}
				if fault.HangAfterHeaders != nil {
					fault.HangAfterHeaders = registrytest.NewGate()
				}
				f, g := newFleet(t, Options{}, throttled(rate), throttled(rate, fault)), fills(t)
				if err := f.pull(t, g, f.blob(size, 1)); err != nil {
					t.Error(err)
				}
				if n := f.regs[1].Count(""); n == 0 {
					t.Error("the second endpoint was not asked")
				}
				if n := f.regs[0].BytesSent(); n > size*105/100 {
					t.Errorf("the first endpoint sent %d bytes", n)
				}
			})
		})
	}
}

func TestAnEndpointWithoutRangesDoesNotSlowTheOthers(t *testing.T) {
	const rate, size = 1 << 20, 16 << 20
	synctest.Test(t, func(t *testing.T) {
		whole := throttled(rate)
		whole.Blob.IgnoreRange = true
		f, g := newFleet(t, Options{}, throttled(rate), whole), fills(t)
		began := time.Now()
		if err := f.pull(t, g, f.blob(size, 1)); err != nil {
			t.Fatal(err)
		}
		if n := f.regs[1].Count(""); n != 1 {
			t.Errorf("the endpoint without ranges was asked %d times", n)
		}
		if took, one := time.Since(began), size/rate*time.Second; took > one/2 {
			t.Errorf("the fetch took %v, %v over one line", took, one)
		}
	})
}

func TestWrongBytesAreTracedToTheEndpointThatSentThem(t *testing.T) {
	const rate, size = 1 << 20, 16 << 20
	wrong := registrytest.Fault{Corrupt: true, CorruptAt: -1}
	for liar, tries := range []int{3, 2} {
		t.Run(fmt.Sprint("endpoint ", liar), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				behaviors := []registrytest.Behavior{throttled(rate), throttled(rate)}
				behaviors[liar].Faults = []registrytest.Fault{wrong}
				wholly := wrong
				wholly.CorruptAt = 10 << 20
				behaviors[liar].Faults = append(behaviors[liar].Faults, wholly)
				f, g := newFleet(t, Options{}, behaviors...), fills(t)
				blob := f.blob(size, 1)
				var err error
				for range tries - 1 {
					if err = f.pull(t, g, blob); err != nil && !errors.Is(err, fill.ErrMismatch) {
						t.Fatal(err)
					}
				}
				f.regs[liar].ResetCounts()
				if err := f.pull(t, g, blob); err != nil {
					t.Errorf("the blob does not come after %d tries: %v", tries, err)
				}
				if n := f.regs[liar].BytesSent(); n != 0 {
					t.Errorf("%d bytes were taken from whoever sends wrong ones", n)
				}
			})
		})
	}
}

func TestStatusTellsARateWhenEnoughIsKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, Options{}, registrytest.Behavior{}, registrytest.Behavior{})
		f.endpoints[0].meter.tell(40<<20, 40*time.Second)
		f.endpoints[1].meter.tell(80<<20, leastKnown*time.Second-1)
		if s := f.Status(); s.Endpoints[0].Rate != 1<<20 || s.Endpoints[1].Rate != 0 {
			t.Errorf("%+v", s.Endpoints)
		}
	})
}

func TestPartsGoWhereALineIsFastest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, Options{}, registrytest.Behavior{}, registrytest.Behavior{}, registrytest.Behavior{})
		blob := f.blob(1<<20, 1)
		f.endpoints[0].meter.tell(40<<20, 40*time.Second)
		f.endpoints[1].meter.tell(80<<20, 40*time.Second)
		f.endpoints[2].meter.tell(10<<20, 40*time.Second)
		ask := func() (order string) {
			p := f.FetchBlob(repository(t, "a/b"), blob.Digest)
			for i := range int64(7) {
				part, err := p.Part(t.Context(), i<<10, i<<10+100)
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _, _ = io.Copy(io.Discard, part.Body); _ = part.Body.Close() }()
				for i, ep := range f.endpoints {
					if ep.String() == part.Endpoint {
						order += fmt.Sprint(i)
					}
				}
			}
			return order
		}
		if order := ask(); order != "0111011" {
			t.Errorf("asked in the order %s", order)
		}
		time.Sleep(10 * time.Minute) // what was known then says nothing now
		order := ask()
		for i := range f.endpoints {
			if n := strings.Count(order, fmt.Sprint(i)); n < 2 {
				t.Errorf("after a while asked in the order %s", order)
			}
		}
	})
}

func TestBytesOfManyPartsOfSeveralEndpointsAreRight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, Options{}, throttled(1<<20), throttled(1<<20), throttled(1<<20))
		blob := f.blob(3<<20, 7)
		want := blobBytes(t, f.regs[0], blob)
		f.regs[0].ResetCounts()
		fetchAll(t, f.FetchBlob(repository(t, "a/b"), blob.Digest), 9, want)
		for i, reg := range f.regs {
			if n := reg.BytesSent(); n < 1<<20-9 || n > 1<<20+9 {
				t.Errorf("endpoint %d sent %d bytes", i, n)
			}
		}
		if !bytes.Equal(want, blobBytes(t, f.regs[1], blob)) {
			t.Error("the endpoints do not hold the same")
		}
	})
}
