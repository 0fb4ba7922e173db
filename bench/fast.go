package main

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"sampan/internal/registrytest"
)

// A shop is where an image can be had: a cache that is started empty for each
// round, or the upstream itself.
type shop struct {
	name, prefix string
	start        func(upstream string) (*process, error) // nil: the upstream itself
	goal         bool                                    // whether it has targets
}

// shops are what cold pulls compare, the direct one first.
func (b *bench) shops(name string) []shop {
	return []shop{
		{name: "direct"},
		{"sampan", registryName + "/", func(u string) (*process, error) { return b.sampan("sampan-"+name, u) }, true},
		{"nginx proxy_cache", "", b.nginxCache, false},
		{"docker-registry 2.8", "", b.dockerRegistry, false},
		{"distribution 3", "", b.distribution3, false},
	}
}

// fast compares cold pulls of an image with a direct one where one connection
// gives all that there is to have.
func (b *bench) fast() (string, error) {
	const rate = 100_000_000
	text := "Cold pull of an image of 8 layers of 64 MiB, the manifests first, then three layers at a time as dockerd does, each hashed by the client; time beside the same pull without a cache:\n\n"
	t := table{head: []string{"link", "server", "time", "× direct", "spread", "CPU s/GiB", "upstream bytes / size", "target", "kept"}}
	err := b.pulls(&t, "loopback", registrytest.Behavior{}, 0, b.rounds, 2)
	if err != nil {
		return "", err
	}
	err = b.pulls(&t, "100 MB/s, 20 ms", registrytest.Behavior{Pace: registrytest.Pace{TotalBytesPerSecond: rate}}, roundTrip, b.few(3), 1.03)
	return text + t.String(), err
}

// pulls adds the rows of one link. Most is the target of sampan's time beside a
// direct pull.
func (b *bench) pulls(t *table, link string, behavior registrytest.Behavior, trip time.Duration, rounds int, most float64) error {
	const layers, size, mostCPU = 8, 64 << 20, 2.5
	up, end, err := distant(trip, behavior)
	if err != nil {
		return err
	}
	defer end()
	image := up.AddImage(repository, "latest", registrytest.ImageSpec{Layers: slices.Repeat([]int64{size}, layers), Seed: 9})
	shops := b.shops("fast")
	times, costs, crossed := make([][]float64, len(shops)), make([][]float64, len(shops)), make([][]float64, len(shops))
	for range rounds {
		for _, i := range rand.Perm(len(shops)) {
			up.ResetCounts()
			took, cpu, err := b.shopAt(shops[i], up, image)
			if err != nil {
				return fmt.Errorf("%s: %w", shops[i].name, err)
			}
			times[i], costs[i] = append(times[i], took.Seconds()), append(costs[i], perGiB(cpu, layers*size))
			crossed[i] = append(crossed[i], float64(up.BytesSent())/(layers*size))
		}
	}
	for i, s := range shops {
		rs := ratios(times[i], times[0])
		m, cost := median(rs), median(costs[i])
		cpu, goal, kept := "", "", ""
		if s.start != nil {
			cpu = fmt.Sprintf("%.2f", cost)
		}
		if s.goal {
			goal = fmt.Sprintf("≤ %.2f × direct, ≤ %.1f s/GiB", most, mostCPU)
			kept = verdict(m, most) + ", " + verdict(cost, mostCPU)
		}
		t.add(link, s.name, seconds(median(times[i])), fmt.Sprintf("%.2f", m), spread(rs), cpu, fmt.Sprintf("%.2f", median(crossed[i])), goal, kept)
	}
	return nil
}

// shopAt pulls an image once and returns the time that it took and the CPU time
// of the server.
func (b *bench) shopAt(s shop, up *registrytest.Registry, image registrytest.Image) (took, cpu time.Duration, err error) {
	addr := up.Host()
	var p *process
	var before time.Duration
	if s.start != nil {
		if p, err = s.start(up.URL()); err != nil {
			return 0, 0, err
		}
		defer p.stop()
		addr = p.addr
		if before, err = p.cpu(); err != nil {
			return 0, 0, err
		}
	}
	began := time.Now()
	if err := b.pull(addr, s.prefix+repository, image); err != nil {
		return 0, 0, err
	}
	took = time.Since(began)
	if p != nil {
		cpu, err = p.cpu()
	}
	return took, cpu - before, err
}
