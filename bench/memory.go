package main

import (
	"fmt"
	"strconv"
	"time"

	"sampan/internal/oci"
	"sampan/internal/registrytest"
)

// A crowd is a set of clients whose weight is measured.
type crowd struct {
	name   string
	target int64
	// visit brings the clients and returns when they are gone, having called
	// sample while they were there.
	visit func(p *process, sample func() error) error
}

// footprint measures resident memory.
func (b *bench) footprint() (string, error) {
	const size = 256 << 20
	up, err := registrytest.Start(registrytest.Options{CountsOnly: true})
	if err != nil {
		return "", err
	}
	defer func() { _ = up.Close() }() // it has nothing to lose
	var cold []oci.Descriptor
	for i := range 64 {
		cold = append(cold, up.AddBlob(repository, 48<<20, uint64(100+i)))
	}
	large := up.AddBlob(repository, size, 1)
	small := up.AddBlob(repository, 4<<10, 2)
	paths := func(d ...oci.Descriptor) []string { return blobPaths(registryName+"/", d) }
	readers := func(args ...string) func(*process, func() error) error {
		return func(p *process, sample func() error) error {
			r, err := b.load(p.addr, append([]string{"-conns", "64", "-requests", "64"}, args...)...)
			if err == nil {
				err = r.clean()
			}
			if err != nil {
				return err
			}
			return sample()
		}
	}
	crowds := []crowd{
		{"64 readers of a stored blob of 256 MiB", 64 << 20, func(p *process, sample func() error) error {
			if _, err := b.load(p.addr, paths(large)...); err != nil {
				return err
			}
			return readers(paths(large)...)(p, sample)
		}},
		{"64 readers of one blob of 256 MiB that is being fetched", 64 << 20, readers(paths(large)...)},
		{"64 readers of 64 blobs of 48 MiB that are being fetched", 64 << 20, readers(paths(cold...)...)},
		{"2,000 idle connections and 500 slow readers", 150 << 20, func(p *process, sample func() error) error {
			if _, err := b.load(p.addr, paths(large)...); err != nil {
				return err
			}
			end, err := b.hold(p.addr, append([]string{"-idle", "2000", "-conns", "500", "-requests", "500", "-rate", strconv.Itoa(64 << 10)}, paths(small, large)...)...)
			if err != nil {
				return err
			}
			defer end()
			for range 10 {
				time.Sleep(time.Second)
				if err := sample(); err != nil {
					return err
				}
			}
			return b.mostConnections(p, 2500)
		}},
	}
	t := table{head: []string{"clients", "VmRSS", "VmHWM", "target", "kept"}}
	for _, c := range crowds {
		p, err := b.sampan("sampan-memory", up.URL())
		if err != nil {
			return "", err
		}
		var rss, peak int64
		err = c.visit(p, func() error {
			var err error
			if rss, err = p.memory("VmRSS"); err != nil {
				return err
			}
			peak, err = p.memory("VmHWM")
			return err
		})
		p.stop()
		if err != nil {
			return "", fmt.Errorf("%s: %w", c.name, err)
		}
		t.add(c.name, mib(rss), mib(peak), "< "+mib(c.target), verdict(float64(peak), float64(c.target)))
	}
	return "Resident memory of sampan (VmRSS at the end, VmHWM the most at any moment, which is what counts):\n\n" + t.String(), nil
}
