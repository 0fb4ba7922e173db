package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"sampan/internal/oci"
	"sampan/internal/registrytest"
)

// A contender is a server with the paths at which it has the same content.
type contender struct {
	*process
	blob, small, byTag, byDigest string // empty: it has none
}

const repository = "library/app"

// stage starts what serves warm content, and warms it.
type stage struct {
	upstream   *registrytest.Registry
	contenders []contender // sampan first, sampan without access log second, the file server third
}

func (s *stage) stop() {
	for _, c := range s.contenders {
		c.stop()
	}
	_ = s.upstream.Close() // always nil
}

// setUp makes one image with a blob of size bytes and one of 4 KiB.
func (b *bench) setUp(size int64) (*stage, error) {
	up, err := registrytest.Start(registrytest.Options{CountsOnly: true})
	if err != nil {
		return nil, err
	}
	s := &stage{upstream: up}
	image := up.AddImage(repository, "latest", registrytest.ImageSpec{Layers: []int64{size, 4 << 10}, Seed: 1})
	if err := b.contend(s, image); err != nil {
		s.stop()
		return nil, err
	}
	for _, c := range s.contenders {
		for _, path := range []string{c.byTag, c.byDigest, c.blob, c.small} {
			if path == "" {
				continue
			}
			r, err := b.load(c.addr, "-accept", oci.MediaTypeImageManifest, path)
			if err == nil {
				err = r.clean()
			}
			if err != nil {
				s.stop()
				return nil, fmt.Errorf("%s %s: %w", c.name, path, err)
			}
		}
	}
	return s, nil
}

// contend starts the servers. The file servers serve the very files that sampan
// has stored.
func (b *bench) contend(s *stage, image registrytest.Image) error {
	start := func(p *process, err error, paths contender) error {
		if err == nil {
			paths.process = p
			s.contenders = append(s.contenders, paths)
		}
		return err
	}
	layers := image.Layers[0]
	at := func(prefix string) contender {
		base := "/v2/" + prefix + repository
		return contender{
			blob:     base + "/blobs/" + layers[0].Digest.String(),
			small:    base + "/blobs/" + layers[1].Digest.String(),
			byTag:    base + "/manifests/latest",
			byDigest: base + "/manifests/" + image.Manifest.Descriptor.Digest.String(),
		}
	}
	p, err := b.sampan("sampan", s.upstream.URL())
	if err := start(p, err, at(registryName+"/")); err != nil {
		return err
	}
	p, err = b.sampan("sampan, no access log", s.upstream.URL(), "SAMPAN_LOG_ACCESS=false")
	if err := start(p, err, at(registryName+"/")); err != nil {
		return err
	}
	www, err := b.www(s.contenders[0], layers)
	if err != nil {
		return err
	}
	static := contender{blob: "/blob", small: "/small"}
	for _, name := range []string{"fileserver", "fileserver again, as a control"} {
		p, err = b.fileserver(name, www)
		if err := start(p, err, static); err != nil {
			return err
		}
	}
	p, err = b.nginxStatic(www)
	if err := start(p, err, static); err != nil {
		return err
	}
	p, err = b.dockerRegistry(s.upstream.URL())
	return start(p, err, at(""))
}

// www fills a directory with links to the files in which sampan keeps the
// blobs.
func (b *bench) www(sampan contender, layers []oci.Descriptor) (string, error) {
	www, err := b.directory("www")
	if err != nil {
		return "", err
	}
	names := []string{"blob", "small"}
	for i, path := range []string{sampan.blob, sampan.small} {
		if _, err := b.load(sampan.addr, path); err != nil {
			return "", err
		}
		hex := layers[i].Digest.Hex()
		file := filepath.Join(b.work, "sampan-data", "blobs", "sha256", hex[:2], hex)
		if err := waitFor(file); err != nil {
			return "", err
		}
		if err := os.Link(file, filepath.Join(www, names[i])); err != nil {
			return "", err
		}
	}
	return www, nil
}

// warm measures CPU per GiB of a large blob that is stored. Few bytes and many
// rounds: what disturbs comes and goes.
func (b *bench) warm() (string, error) {
	const size = 64 << 20
	s, err := b.setUp(size)
	if err != nil {
		return "", err
	}
	defer s.stop()
	t := table{head: []string{"connections", "server", "CPU s/GiB", "× FileServer", "spread", "target", "kept"}}
	for _, c := range []struct{ conns, requests, times int }{{1, 8, 6}, {8, 16, 3}, {64, 64, 1}} {
		costs := make([][]float64, len(s.contenders))
		for range b.rounds * c.times {
			for _, k := range rand.Perm(len(s.contenders)) { // nobody always follows the same one
				d, r, err := b.cost(s.contenders[k].process, "-conns", strconv.Itoa(c.conns), "-requests", strconv.Itoa(c.requests), s.contenders[k].blob)
				if err == nil {
					err = r.clean()
				}
				if err != nil {
					return "", err
				}
				costs[k] = append(costs[k], perGiB(d, r.Bytes))
			}
		}
		s.compare(&t, strconv.Itoa(c.conns), costs, 1.1, "%.3f")
	}
	return "CPU seconds of the server per GiB of a stored blob of 64 MiB, plain HTTP over loopback:\n\n" + t.String(), nil
}

// compare adds a row for each server, measured against the file server.
func (s *stage) compare(t *table, label string, costs [][]float64, target float64, format string) {
	for i, c := range s.contenders {
		if len(costs[i]) == 0 {
			continue
		}
		rs := ratios(costs[i], costs[2])
		m := median(rs)
		goal, kept := "", ""
		if i == 0 {
			goal, kept = fmt.Sprintf("≤ %.1f", target), verdict(m, target)
		}
		t.add(label, c.name, fmt.Sprintf(format, median(costs[i])), fmt.Sprintf("%.2f", m), spread(rs), goal, kept)
	}
}

// small measures CPU per request of what is small.
func (b *bench) small() (string, error) {
	const requests = 20000
	s, err := b.setUp(1 << 20)
	if err != nil {
		return "", err
	}
	defer s.stop()
	t := table{head: []string{"request", "server", "CPU µs", "× FileServer", "spread", "target", "kept"}}
	for _, kind := range []struct {
		label string
		path  func(contender) string
	}{
		{"manifest by tag", func(c contender) string { return c.byTag }},
		{"manifest by digest", func(c contender) string { return c.byDigest }},
		{"blob of 4 KiB", func(c contender) string { return c.small }},
	} {
		costs := make([][]float64, len(s.contenders))
		for range b.rounds {
			for _, k := range rand.Perm(len(s.contenders)) {
				c := s.contenders[k]
				path := kind.path(c)
				if path == "" {
					path = c.small // file servers have one small file
				}
				n := int64(requests)
				if strings.HasPrefix(c.name, "docker") {
					n /= 10 // it takes long enough
				}
				d, r, err := b.cost(c.process, "-conns", "8", "-requests", strconv.FormatInt(n, 10), "-accept", oci.MediaTypeImageManifest, path)
				if err == nil {
					err = r.clean()
				}
				if err != nil {
					return "", fmt.Errorf("%s: %w", c.name, err)
				}
				costs[k] = append(costs[k], micros(d, r.Requests))
			}
		}
		s.compare(&t, kind.label, costs, 1.8, "%.0f")
	}
	return "CPU microseconds of the server per request, 8 keep-alive connections; the file servers serve the file of 4 KiB:\n\n" + t.String(), nil
}
