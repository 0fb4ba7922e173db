package engine

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	remoteserrors "github.com/containerd/containerd/v2/core/remotes/errors"
	"github.com/containerd/log"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/sirupsen/logrus"
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

// resolver reads an image at the mirror, and calls it by the name that is given.
// layers may be nil.
func (o Options) resolver(image Image, name string, l *layers) *renamed {
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
		client: client, authorizer: authorizer, manifest: o.scheme() + "://" + image.mirrorHost() + "/v2/" + image.path(),
	}
}

// renamed resolves one image elsewhere than its name says.
type renamed struct {
	at         remotes.Resolver
	from, name string
	layers     *layers

	client     *http.Client
	authorizer docker.Authorizer
	manifest   string // URL
}

func (r *renamed) Resolve(ctx context.Context, _ string) (string, ocispec.Descriptor, error) {
	_, desc, err := r.at.Resolve(ctx, r.from)
	if err != nil && ctx.Err() == nil {
		if said := r.said(ctx, err); said != "" {
			err = &answer{said, err}
		}
	}
	return r.name, desc, err
}

// An answer is an error of the mirror in its own words.
type answer struct {
	said string
	err  error
}

func (a *answer) Error() string { return a.said }
func (a *answer) Unwrap() error { return a.err }

// said is what the mirror says of an error: in the answer that led to it or, because
// that to a HEAD has no body, in the answer to the same as a GET. Empty is nothing.
func (r *renamed) said(ctx context.Context, err error) string {
	if status := (remoteserrors.ErrUnexpectedStatus{}); errors.As(err, &status) && len(status.Body) > 0 {
		return messages(status.Body)
	}
	if unreachable(err) {
		return ""
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, r.manifest, nil)
	if err != nil {
		return ""
	}
	request.Header.Set("Accept", strings.Join([]string{
		ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageIndex, images.MediaTypeDockerSchema2Manifest, images.MediaTypeDockerSchema2ManifestList,
	}, ", "))
	if err := r.authorizer.Authorize(ctx, request); err != nil {
		return ""
	}
	response, err := r.client.Do(request)
	if err != nil {
		return ""
	}
	defer response.Body.Close()
	if response.StatusCode < http.StatusBadRequest {
		return ""
	}
	const most = 64 << 10
	body, err := io.ReadAll(io.LimitReader(response.Body, most))
	if err != nil {
		return ""
	}
	return messages(body)
}

// messages are those of the specification's errors in a body.
func messages(body []byte) string {
	var e struct {
		Errors []struct{ Code, Message string }
	}
	if json.Unmarshal(body, &e) != nil {
		return ""
	}
	var said []string
	for _, one := range e.Errors {
		said = append(said, strings.TrimSuffix(strings.ToLower(strings.ReplaceAll(one.Code, "_", " "))+": "+one.Message, ": "))
	}
	return strings.Join(said, "; ")
}

// unreachable tells whether an error is of a connection, and not of an answer.
func unreachable(err error) bool {
	var e *url.Error
	return errors.As(err, &e)
}

// quiet keeps the libraries from writing to standard error: what they would say is in
// their errors.
func quiet(ctx context.Context) context.Context {
	l := logrus.New()
	l.SetOutput(io.Discard)
	return log.WithLogger(ctx, logrus.NewEntry(l))
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
