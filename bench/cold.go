package main

import (
	"fmt"
	"strconv"

	"sampan/internal/oci"
	"sampan/internal/registrytest"
)

// blobPaths returns where blobs are found below a prefix of the repository.
func blobPaths(prefix string, blobs []oci.Descriptor) []string {
	paths := make([]string, len(blobs))
	for i, d := range blobs {
		paths[i] = "/v2/" + prefix + repository + "/blobs/" + d.Digest.String()
	}
	return paths
}

// cold measures CPU per GiB of blobs that are fetched, and what an image asks of
// the upstream.
func (b *bench) cold() (string, error) {
	const blobs, size = 16, 64 << 20
	up, err := registrytest.Start(registrytest.Options{CountsOnly: true})
	if err != nil {
		return "", err
	}
	defer func() { _ = up.Close() }() // it has nothing to lose
	var layers []oci.Descriptor
	for i := range blobs {
		layers = append(layers, up.AddBlob(repository, size, uint64(i)))
	}
	kinds := []struct {
		name, prefix string
		start        func(string) (*process, error)
		target       float64
	}{
		{"sampan", registryName + "/", func(u string) (*process, error) { return b.sampan("sampan-cold", u) }, 2.5},
		{"nginx proxy_cache", "", b.nginxCache, 0},
		{"docker-registry", "", b.dockerRegistry, 0},
	}
	costs := make([][]float64, len(kinds))
	crossed := make([]float64, len(kinds)) // bytes upstream / bytes wanted, the worst round
	for range b.rounds {
		for i, k := range kinds {
			p, err := k.start(up.URL())
			if err != nil {
				return "", err
			}
			up.ResetCounts()
			d, r, err := b.cost(p, append([]string{"-conns", "3", "-requests", fmt.Sprint(blobs), "-hashed"}, blobPaths(k.prefix, layers)...)...)
			p.stop() // ends when all is written
			if err == nil {
				err = r.clean()
			}
			if err != nil {
				return "", fmt.Errorf("%s: %w", k.name, err)
			}
			costs[i] = append(costs[i], perGiB(d, r.Bytes))
			crossed[i] = max(crossed[i], float64(up.BytesSent())/float64(blobs*size))
		}
	}
	t := table{head: []string{"server", "CPU s/GiB", "spread", "× sampan", "upstream bytes / size", "target", "kept"}}
	for i, k := range kinds {
		goal, kept := "", ""
		if k.target > 0 {
			goal, kept = fmt.Sprintf("≤ %.1f s/GiB", k.target), verdict(median(costs[i]), k.target)
		}
		t.add(k.name, fmt.Sprintf("%.2f", median(costs[i])), spread(costs[i]),
			fmt.Sprintf("%.2f", median(ratios(costs[i], costs[0]))), fmt.Sprintf("%.2f", crossed[i]), goal, kept)
	}
	asked, err := b.asked()
	return "CPU seconds of the server per GiB that was not there (16 blobs of 64 MiB, three at a time), until the last client had its bytes:\n\n" + t.String() + "\n" + asked, err
}

// asked counts the requests that an image of ten layers needs of an upstream
// that behaves as docker.io.
func (b *bench) asked() (string, error) {
	const layers = 10
	up, err := registrytest.Start(registrytest.Options{Behavior: registrytest.DockerHub()})
	if err != nil {
		return "", err
	}
	defer func() { _ = up.Close() }() // it has nothing to lose
	sizes := make([]int64, layers)
	for i := range sizes {
		sizes[i] = 1 << 20
	}
	t := table{head: []string{"image", "to the registry", "for tokens", "redirects followed", "target", "kept"}}
	p, err := b.sampan("sampan-asked", up.URL())
	if err != nil {
		return "", err
	}
	defer p.stop()
	index := []oci.Platform{{OS: "linux", Architecture: "amd64"}, {OS: "linux", Architecture: "arm64"}}
	for i, c := range []struct {
		name      string
		platforms []oci.Platform
	}{
		{"the first one, with an index", index},
		{"another one, with an index", index},
		{"another one, without", nil},
	} {
		up.ResetCounts()
		repo := "library/asked" + strconv.Itoa(i)
		image := up.AddImage(repo, "latest", registrytest.ImageSpec{Layers: sizes, Platforms: c.platforms, Seed: uint64(i)})
		if err := b.pull(p.addr, registryName+"/"+repo, image); err != nil {
			return "", err
		}
		redirects, tokens := up.Count(registrytest.KindCDN), up.Count(registrytest.KindToken)
		n := up.Count(registrytest.KindAny) - redirects - tokens
		kept := "yes"
		if n > layers+4 || tokens > 1 {
			kept = "**no**"
		}
		t.add(c.name, fmt.Sprint(n), fmt.Sprint(tokens), fmt.Sprint(redirects), fmt.Sprintf("≤ %d, one token", layers+4), kept)
	}
	return "Requests upstream for an image of ten layers and a config, of an upstream that behaves as docker.io, one after the other by one mirror that was empty:\n\n" + t.String(), nil
}

// pull asks a server for an image as Docker does: the tag, the manifests by digest,
// then config and layers, three at a time.
func (b *bench) pull(addr, repo string, image registrytest.Image) error {
	base := "/v2/" + repo
	paths := []string{"/v2/", base + "/manifests/latest", base + "/manifests/" + image.Manifest.Descriptor.Digest.String()}
	if platform := image.Platforms[0].Descriptor.Digest; platform != image.Manifest.Descriptor.Digest {
		paths = append(paths, base+"/manifests/"+platform.String())
	}
	if err := b.each(addr, paths); err != nil {
		return err
	}
	var blobs []string
	for _, d := range append([]oci.Descriptor{image.Configs[0]}, image.Layers[0]...) {
		blobs = append(blobs, base+"/blobs/"+d.Digest.String())
	}
	r, err := b.load(addr, append([]string{"-conns", "3", "-requests", strconv.Itoa(len(blobs)), "-hashed"}, blobs...)...)
	if err != nil {
		return err
	}
	return r.clean()
}

// each asks for one path after the other.
func (b *bench) each(addr string, paths []string) error {
	for _, path := range paths {
		r, err := b.load(addr, "-accept", oci.MediaTypeImageIndex+", "+oci.MediaTypeImageManifest, path)
		if err == nil {
			err = r.clean()
		}
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	return nil
}
