package demo

import (
	"sampan/internal/oci"
	"sampan/internal/registrytest"
)

// What the registry has, as it and the mirror name it.
const (
	imageRepo = "library/harbour"
	imageTag  = "1.0"
	cargoRepo = "library/cargo" // of the blob that the stampede wants
	through   = "docker.io/"    // in front of both at the mirror
)

// seeds of the content: one for the image, one for the blob.
const (
	imageSeed = 1
	cargoSeed = 2
)

// An origin is the simulated registry with its content.
type origin struct {
	registry *registrytest.Registry
	image    registrytest.Image
	cargo    oci.Descriptor
}

// startOrigin starts a registry that behaves as docker.io does, on free ports.
func startOrigin(o Options) (*origin, error) {
	behavior := registrytest.DockerHub()
	behavior.Pace = registrytest.Pace{Latency: o.Latency, TotalBytesPerSecond: o.Rate}
	r, err := registrytest.Start(registrytest.Options{CountsOnly: true, Behavior: behavior})
	if err != nil {
		return nil, err
	}
	return &origin{
		registry: r,
		image: r.AddImage(imageRepo, imageTag, registrytest.ImageSpec{
			Layers:    o.Layers,
			Platforms: []oci.Platform{{OS: "linux", Architecture: "amd64"}},
			Seed:      imageSeed,
		}),
		cargo: r.AddBlob(cargoRepo, o.Blob, cargoSeed),
	}, nil
}

func (o *origin) url() string  { return o.registry.URL() }
func (o *origin) close() error { return o.registry.Close() }

// imageSize is the bytes of the whole image: index, manifests, configs, layers.
func (o *origin) imageSize() int64 {
	var n int64
	for _, d := range o.imageContent() {
		n += d.Size
	}
	return n
}

// imageContent is everything that the tag leads to.
func (o *origin) imageContent() []oci.Descriptor {
	all := []oci.Descriptor{o.image.Manifest.Descriptor}
	for _, m := range o.image.Platforms {
		all = append(all, m.Descriptor)
	}
	return append(all, o.image.Blobs()...)
}

// A tally is what the registry was asked and gave since the last one.
type tally struct {
	content  int64 // bytes of manifests and blobs
	requests int   // to the registry and to its CDN
	cdn      int   // of them, redirects that were followed
	tokens   int
}

// begin forgets what was counted.
func (o *origin) begin() { o.registry.ResetCounts() }

// tally returns what was counted since begin.
func (o *origin) tally() tally {
	t := tally{
		requests: o.registry.Count(registrytest.KindAny) - o.registry.Count(registrytest.KindToken),
		cdn:      o.registry.Count(registrytest.KindCDN),
		tokens:   o.registry.TokensIssued(),
	}
	for _, d := range append(o.imageContent(), o.cargo) {
		t.content += o.registry.BytesSentOf(d.Digest)
	}
	return t
}
