package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"sampan/internal/oci"
)

// downloads is how many blobs a client fetches at once, as Docker does.
const downloads = 3

// errDigest is content that is not what its digest names.
var errDigest = errors.New("the content is not what its digest names")

// A client pulls as a container engine does, over connections of its own, and
// believes no byte that it has not verified.
type client struct {
	http     *http.Client
	base     string // of the mirror
	received *atomic.Int64
}

// newClient returns a client that adds the bytes it gets to received.
func newClient(base string, received *atomic.Int64) *client {
	return &client{
		http:     &http.Client{Transport: &http.Transport{DisableCompression: true}},
		base:     base,
		received: received,
	}
}

func (c *client) close() { c.http.CloseIdleConnections() }

// A pulled is what a tag led to.
type pulled struct {
	digest oci.Digest // of what the tag points at
	config oci.Descriptor
	layers []oci.Descriptor
}

// resolve fetches what a tag points at, and from there the image's manifest.
func (c *client) resolve(ctx context.Context, repo, tag string) (pulled, error) {
	index, err := c.manifest(ctx, repo, tag, oci.Digest{})
	if err != nil {
		return pulled{}, err
	}
	graph, err := index.Graph()
	if err != nil {
		return pulled{}, err
	}
	if len(graph.Manifests) == 0 {
		return pulled{}, fmt.Errorf("%s:%s is not an index", repo, tag)
	}
	digest := graph.Manifests[0].Digest
	m, err := c.manifest(ctx, repo, digest.String(), digest)
	if err != nil {
		return pulled{}, err
	}
	if graph, err = m.Graph(); err != nil {
		return pulled{}, err
	}
	if len(graph.Blobs) == 0 {
		return pulled{}, fmt.Errorf("%s@%s has no blobs", repo, digest)
	}
	return pulled{digest: index.Descriptor.Digest, config: graph.Blobs[0], layers: graph.Blobs[1:]}, nil
}

// manifest fetches one and verifies it: against want, or, when that is zero,
// against the digest that the mirror tells.
func (c *client) manifest(ctx context.Context, repo, ref string, want oci.Digest) (oci.Manifest, error) {
	resp, err := c.get(ctx, repo, "manifests", ref)
	if err != nil {
		return oci.Manifest{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, oci.MaxManifestSize+1))
	c.received.Add(int64(len(body)))
	if err != nil {
		return oci.Manifest{}, fmt.Errorf("manifest %s: %w", ref, err)
	}
	if want.IsZero() {
		if want, err = oci.ParseDigest(resp.Header.Get("Docker-Content-Digest")); err != nil {
			return oci.Manifest{}, fmt.Errorf("manifest %s: %w", ref, err)
		}
	}
	if !want.Verify(body) {
		return oci.Manifest{}, fmt.Errorf("manifest %s: %w", ref, errDigest)
	}
	return oci.Manifest{
		Descriptor: oci.Descriptor{MediaType: resp.Header.Get("Content-Type"), Digest: want, Size: int64(len(body))},
		Bytes:      body,
	}, nil
}

// image fetches a config and layers, told to the bars, which are one per layer.
func (c *client) image(ctx context.Context, repo string, p pulled, bars []bar) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(downloads)
	group.Go(func() error { return c.blob(ctx, repo, p.config, nil) })
	for i, layer := range p.layers {
		group.Go(func() error { return c.blob(ctx, repo, layer, bars[i].add) })
	}
	return group.Wait()
}

// blob fetches one and verifies it. As bytes arrive, arrived is called with
// their number; it may be nil.
func (c *client) blob(ctx context.Context, repo string, d oci.Descriptor, arrived func(int)) error {
	resp, err := c.get(ctx, repo, "blobs", d.Digest.String())
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	hash := d.Digest.Hash()
	buf := make([]byte, 128<<10)
	for err == nil {
		var n int
		n, err = resp.Body.Read(buf)
		hash.Write(buf[:n])
		c.received.Add(int64(n))
		if arrived != nil && n > 0 {
			arrived(n)
		}
	}
	switch {
	case !errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("blob %s: %w", d.Digest, err)
	case !d.Digest.Matches(hash):
		return fmt.Errorf("blob %s: %w", d.Digest, errDigest)
	}
	return nil
}

// get asks the mirror for a manifest or blob. The caller closes the body.
func (c *client) get(ctx context.Context, repo, what, ref string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+"/v2/"+through+repo+"/"+what+"/"+ref, nil)
	if err != nil {
		return nil, err
	}
	if what == "manifests" {
		req.Header.Set("Accept", strings.Join([]string{
			oci.MediaTypeImageIndex, oci.MediaTypeImageManifest, oci.MediaTypeDockerList, oci.MediaTypeDockerManifest,
		}, ", "))
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close()
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10)) // the status says enough without
		return nil, fmt.Errorf("%s %s: %s: %s", what, ref, resp.Status, strings.TrimSpace(string(text)))
	}
	return resp, nil
}
