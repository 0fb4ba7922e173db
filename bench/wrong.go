package main

import (
	"fmt"
	"os"
	"path/filepath"

	"sampan/internal/oci"
	"sampan/internal/registrytest"
)

// A proxy is a cache whose answers to a wrong upstream are looked at.
type proxy struct {
	name, prefix string
	start        func(upstream string) (*process, error)
}

// wrong lets the upstream flip one bit and counts who gets it.
func (b *bench) wrong() (string, error) {
	t := table{head: []string{"content", "server", "complete and wrong", "cut short or refused", "right", "kept on disk", "next pull after healing"}}
	for _, content := range []string{"blob of 8 MiB", "manifest by digest"} {
		for _, k := range []proxy{
			{"sampan", registryName + "/", func(u string) (*process, error) { return b.sampan("sampan-wrong", u) }},
			{"nginx proxy_cache", "", b.nginxCache},
			{"docker-registry", "", b.dockerRegistry},
		} {
			row, err := b.wrongBy(k, content)
			if err != nil {
				return "", fmt.Errorf("%s: %w", k.name, err)
			}
			t.add(append([]string{content, k.name}, row...)...)
		}
	}
	return "The upstream flips one bit in the middle; 20 clients ask at once. Target for sampan: nothing complete and wrong, nothing kept, right at once afterwards:\n\n" + t.String(), nil
}

func (b *bench) wrongBy(k proxy, content string) ([]string, error) {
	const clients = "20"
	up, err := registrytest.Start(registrytest.Options{})
	if err != nil {
		return nil, err
	}
	defer func() { _ = up.Close() }() // it has nothing to lose
	image := up.AddImage(repository, "latest", registrytest.ImageSpec{Layers: []int64{8 << 20}, Seed: 5})
	d, kind, below := image.Layers[0][0], registrytest.KindBlob, "/blobs/"
	if content == "manifest by digest" {
		d, kind, below = image.Manifest.Descriptor, registrytest.KindManifest, "/manifests/"
	}
	path := "/v2/" + k.prefix + repository + below + d.Digest.String()
	up.SetBehavior(registrytest.Behavior{Faults: []registrytest.Fault{{
		On: []registrytest.Kind{kind}, Only: d.Digest, Corrupt: true, CorruptAt: d.Size / 2,
	}}})
	p, err := k.start(up.URL())
	if err != nil {
		return nil, err
	}
	defer p.stop()
	args := []string{"-hashed", "-accept", oci.MediaTypeImageManifest}
	r, err := b.load(p.addr, append(args, "-conns", clients, "-requests", clients, path)...)
	if err != nil {
		return nil, err
	}
	kept := "—"
	if k.name == "sampan" {
		kept = b.kept("sampan-wrong-data", d.Digest)
	}
	up.SetBehavior(registrytest.Behavior{})
	after, err := b.load(p.addr, append(args, path)...)
	if err != nil {
		return nil, err
	}
	next := "right"
	switch {
	case after.Wrong > 0:
		next = "**wrong, complete**"
	case after.Requests == 0:
		next = "**not answered**"
	}
	return []string{
		fmt.Sprint(r.Wrong), fmt.Sprint(r.Short + r.Refused + r.Failed), fmt.Sprint(r.Requests), kept,
		fmt.Sprintf("%s, %.2f s", next, after.Seconds),
	}, nil
}

// kept tells what sampan's data directory has of a digest.
func (b *bench) kept(data string, d oci.Digest) string {
	hex := d.Hex()
	for _, file := range []string{"blobs/sha256/" + hex[:2] + "/" + hex, "partial/sha256-" + hex} {
		if _, err := os.Stat(filepath.Join(b.work, data, file)); err == nil {
			return "**" + file + "**"
		}
	}
	return "nothing"
}
