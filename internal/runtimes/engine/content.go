package engine

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// openable dials a socket, because the client of containerd would go on trying.
func openable(ctx context.Context, address string) error {
	if !strings.HasPrefix(address, "/") {
		return nil // a named pipe
	}
	conn, err := new(net.Dialer).DialContext(ctx, "unix", address)
	if err != nil {
		return err
	}
	return conn.Close()
}

// resolver reads the image at the mirror, and calls it by its own name.
func (c *containerdEngine) resolver(image Image, name string, l *layers) remotes.Resolver {
	o := c.options
	client := &http.Client{Transport: o.transport()}
	authorizer := docker.NewDockerAuthorizer(docker.WithAuthClient(client), docker.WithAuthCreds(func(host string) (string, string, error) {
		if host != image.mirrorHost() {
			return "", "", nil
		}
		return o.login(context.Background(), host)
	}))
	hosts := func(host string) ([]docker.RegistryHost, error) {
		return []docker.RegistryHost{{
			Client: client, Authorizer: authorizer, Host: host, Scheme: o.scheme(), Path: "/v2",
			Capabilities: docker.HostCapabilityPull | docker.HostCapabilityResolve,
		}}, nil
	}
	return &renamed{
		at:   docker.NewResolver(docker.ResolverOptions{Hosts: hosts, Headers: http.Header{"User-Agent": {"sampan"}}}),
		from: image.pulled(), name: name, layers: l,
	}
}

// renamed resolves one image elsewhere than its name says.
type renamed struct {
	at         remotes.Resolver
	from, name string
	layers     *layers
}

func (r *renamed) Resolve(ctx context.Context, _ string) (string, ocispec.Descriptor, error) {
	_, desc, err := r.at.Resolve(ctx, r.from)
	return r.name, desc, err
}

func (r *renamed) Fetcher(ctx context.Context, _ string) (remotes.Fetcher, error) {
	f, err := r.at.Fetcher(ctx, r.from)
	if err != nil {
		return nil, err
	}
	return remotes.FetcherFunc(func(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
		body, err := f.Fetch(ctx, desc)
		if err != nil || !images.IsLayerType(desc.MediaType) {
			return body, err
		}
		return &counted{ReadCloser: body, desc: desc, layers: r.layers}, nil
	}), nil
}

func (*renamed) Pusher(context.Context, string) (remotes.Pusher, error) {
	return nil, errors.New("nothing is pushed")
}

// layers tells how the layers of one image come in.
type layers struct {
	progress Progress

	mu    sync.Mutex
	phase map[string]Phase // by digest, of those that were seen
	sizes map[string]int64
	order []string
}

func newLayers(p Progress) *layers {
	return &layers{progress: p, phase: map[string]Phase{}, sizes: map[string]int64{}}
}

// watch sees the layers as the manifest names them.
func (l *layers) watch(h images.Handler) images.Handler {
	return images.HandlerFunc(func(ctx context.Context, desc ocispec.Descriptor) ([]ocispec.Descriptor, error) {
		children, err := h.Handle(ctx, desc)
		for _, child := range children {
			if images.IsLayerType(child.MediaType) {
				l.set(child, Waiting, 0)
			}
		}
		return children, err
	})
}

// set tells a phase, unless the layer is further.
func (l *layers) set(desc ocispec.Descriptor, phase Phase, current int64) {
	id := desc.Digest.String()
	l.mu.Lock()
	defer l.mu.Unlock()
	had, seen := l.phase[id]
	if seen && (phase == Waiting || phase == had && phase != Downloading) {
		return
	}
	if !seen {
		l.order = append(l.order, id)
		l.sizes[id] = desc.Size
	}
	l.phase[id] = phase
	l.progress(Event{Layer: short(id), Phase: phase, Current: current, Total: desc.Size})
}

// end tells that the image is complete: what was not fetched had been there.
func (l *layers) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, id := range l.order {
		phase := Complete
		if l.phase[id] == Waiting {
			phase = Exists
		}
		l.progress(Event{Layer: short(id), Phase: phase, Current: l.sizes[id], Total: l.sizes[id]})
	}
}

// short is a digest as people are shown it.
func short(digest string) string {
	const digits = 12
	_, hex, ok := strings.Cut(digest, ":")
	if !ok {
		hex = digest
	}
	return hex[:min(digits, len(hex))]
}

// counted is the body of a layer. It can seek where the body can, which is how a
// transfer that broke is taken up.
type counted struct {
	io.ReadCloser
	desc   ocispec.Descriptor
	layers *layers
	at     int64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.at += int64(n)
	switch {
	case c.at >= c.desc.Size:
		c.layers.set(c.desc, Downloaded, c.at)
	case n > 0:
		c.layers.set(c.desc, Downloading, c.at)
	}
	return n, err
}

func (c *counted) Seek(offset int64, whence int) (int64, error) {
	s, ok := c.ReadCloser.(io.Seeker)
	if !ok {
		return 0, errors.ErrUnsupported
	}
	at, err := s.Seek(offset, whence)
	if err == nil {
		c.at = at
	}
	return at, err
}
