package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
)

// containerdEngine fills containerd's store by itself: the content comes from the
// mirror, and the image is made under its own name when everything is there and
// unpacked. The mirror's name never is.
type containerdEngine struct {
	api       *containerd.Client
	address   string
	namespace string
	options   Options
}

func (c *containerdEngine) Kind() Kind      { return cmp.Or(c.options.Kind, Containerd) }
func (c *containerdEngine) Address() string { return c.address + ", " + c.namespace }
func (c *containerdEngine) Close() error    { return c.api.Close() }

// containerdSockets are the usual ones: of the machine, of k3s and RKE2, of MicroK8s,
// and of k0s.
func containerdSockets() []string {
	return []string{
		"/run/containerd/containerd.sock", "/run/k3s/containerd/containerd.sock",
		"/var/snap/microk8s/common/run/containerd.sock", "/run/k0s/containerd.sock",
	}
}

// findContainerd connects to the containerd that is named, or the first that is there.
func findContainerd(ctx context.Context, o Options) (*containerdEngine, error) {
	kind := cmp.Or(o.Kind, Containerd)
	address := cmp.Or(o.Address, o.Getenv("CONTAINERD_ADDRESS"))
	address = strings.TrimPrefix(address, "unix://")
	if address == "" {
		for _, socket := range containerdSockets() {
			if isSocket(socket) {
				address = socket
				break
			}
		}
	}
	if address == "" {
		return nil, &Error{Step: StepFind, Kind: kind, Err: ErrNone}
	}
	c := &containerdEngine{address: address, options: o}
	failed := func(err error) (*containerdEngine, error) {
		e := &Error{Step: StepReach, Kind: kind, Address: address, Err: err}
		if errors.Is(err, fs.ErrPermission) {
			e.Hint = HintPermission
		}
		return nil, e
	}
	if err := openable(ctx, address); err != nil {
		return failed(err)
	}
	c.namespace = cmp.Or(o.Namespace, o.Getenv("CONTAINERD_NAMESPACE"), usualNamespace(kind, address))
	api, err := containerd.New(address, containerd.WithDefaultNamespace(c.namespace))
	if err != nil {
		return failed(err)
	}
	if _, err := api.Version(ctx); err != nil {
		_ = api.Close()
		return failed(err)
	}
	c.api = api
	return c, nil
}

// usualNamespace is that of Kubernetes where the socket is one of its, or where the
// machine is one of its nodes; nerdctl's is always default.
func usualNamespace(kind Kind, address string) string {
	if kind == Nerdctl {
		return "default"
	}
	kubernetes := []string{"/etc/kubernetes/kubelet.conf", "/etc/kubernetes/manifests", "/var/lib/kubelet/config.yaml"}
	for _, name := range []string{"k3s", "k0s", "rke2", "microk8s"} {
		if strings.Contains(address, name) {
			return "k8s.io"
		}
	}
	if filepath.Dir(address) != "/run/containerd" {
		return "default" // not the node's
	}
	for _, path := range kubernetes {
		if _, err := os.Stat(path); err == nil {
			return "k8s.io"
		}
	}
	return "default"
}

// Pull implements [Engine].
func (c *containerdEngine) Pull(ctx context.Context, image Image, progress Progress) (Result, error) {
	ctx = quiet(ctx)
	unlock, err := lock(ctx, c.Address()+" "+image.pulled())
	if err != nil {
		return Result{}, c.failed(ctx, StepPull, image, err)
	}
	defer unlock()
	first := cmp.Or(image.canonical(), image.tagged())
	had, err := c.api.ImageService().Get(ctx, first)
	if err != nil && !errdefs.IsNotFound(err) {
		return Result{}, c.failed(ctx, StepReach, image, err)
	}
	layers := newLayers(tell(progress))
	target, err := c.pull(ctx, image, first, layers)
	if err != nil {
		return Result{}, c.failed(ctx, StepPull, image, err)
	}
	digest := target.Target.Digest.String()
	result := Result{Names: []string{first}, ID: digest, Digest: digest, Existed: had.Target.Digest == target.Target.Digest}
	if second := image.tagged(); !image.Ref.Tag.IsZero() && second != first {
		existed, err := c.name(ctx, target, second)
		if err != nil {
			if had.Name == "" {
				c.forget(ctx, first)
			}
			return Result{}, c.failed(ctx, StepTag, image, err)
		}
		result.Names = []string{second, first}
		result.Existed = result.Existed && existed
	}
	layers.end()
	return result, nil
}

// pull fetches and unpacks, and makes the image of that name.
func (c *containerdEngine) pull(ctx context.Context, image Image, name string, layers *layers) (images.Image, error) {
	var none images.Image
	opts := []containerd.RemoteOpt{
		containerd.WithResolver(c.options.resolver(image, name, layers)),
		containerd.WithImageHandlerWrapper(layers.watch),
	}
	if c.options.AllPlatforms {
		return c.pullAll(ctx, name, opts)
	}
	if c.options.Platform != "" {
		opts = append(opts, containerd.WithPlatform(c.options.Platform))
	}
	opts = append(opts, containerd.WithPullUnpack)
	if s := c.snapshotter(); s != "" {
		opts = append(opts, containerd.WithPullSnapshotter(s))
	}
	got, err := c.api.Pull(ctx, name, opts...)
	if err != nil {
		return none, err
	}
	return got.Metadata(), nil
}

// pullAll fetches all platforms, and unpacks that of the machine where there is one.
func (c *containerdEngine) pullAll(ctx context.Context, name string, opts []containerd.RemoteOpt) (images.Image, error) {
	had, err := c.api.ImageService().Get(ctx, name)
	if err != nil && !errdefs.IsNotFound(err) {
		return images.Image{}, err
	}
	got, err := c.api.Fetch(ctx, name, append(opts, containerd.WithPlatformMatcher(platforms.All))...)
	if err != nil {
		return images.Image{}, err
	}
	i := containerd.NewImage(c.api, got)
	if _, err := i.Config(ctx); errdefs.IsNotFound(err) {
		return got, nil // none for this machine
	}
	if err := i.Unpack(ctx, c.snapshotter()); err != nil {
		c.restore(ctx, name, had)
		return images.Image{}, fmt.Errorf("unpack: %w", err)
	}
	return got, nil
}

// snapshotter is the one that is named; empty means containerd's default for the
// namespace.
func (c *containerdEngine) snapshotter() string {
	return cmp.Or(c.options.Snapshotter, c.options.Getenv("CONTAINERD_SNAPSHOTTER"))
}

// name gives an image a further name, and tells whether it had it.
func (c *containerdEngine) name(ctx context.Context, i images.Image, name string) (existed bool, err error) {
	service := c.api.ImageService()
	had, err := service.Get(ctx, name)
	if err == nil && had.Target.Digest == i.Target.Digest {
		return true, nil
	}
	named := images.Image{Name: name, Target: i.Target, Labels: i.Labels}
	if _, err = service.Create(ctx, named); errdefs.IsAlreadyExists(err) {
		_, err = service.Update(ctx, named, "target")
	}
	return false, err
}

// forget takes a name away that a pull made and could not finish.
func (c *containerdEngine) forget(ctx context.Context, name string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpWithin)
	defer cancel()
	_ = c.api.ImageService().Delete(ctx, name) // the error that is told is the one before
}

// restore puts a name back to what it meant; a zero image is none.
func (c *containerdEngine) restore(ctx context.Context, name string, had images.Image) {
	if had.Name == "" {
		c.forget(ctx, name)
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpWithin)
	defer cancel()
	_, _ = c.api.ImageService().Update(ctx, had, "target") // as above
}

func (c *containerdEngine) failed(ctx context.Context, step Step, image Image, err error) error {
	e := &Error{Step: step, Kind: c.Kind(), Address: c.Address(), Err: err}
	if ctx.Err() != nil {
		e.Err = ctx.Err()
		return e
	}
	if errdefs.IsUnavailable(err) {
		e.Step = StepReach
		return e
	}
	if step == StepPull {
		e.Mirror = image.mirrorHost()
		switch h := c.options.hint(ctx, image); h {
		case HintMirrorDown, HintUntrusted:
			e.Hint = h
		}
	}
	return e
}
