package main

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/spf13/pflag"

	"sampan/internal/client"
	"sampan/internal/oci"
	"sampan/internal/transfer/archive"
	"sampan/internal/transfer/remote"
	"sampan/internal/transfer/syncing"
)

// registryOptions say how registries are reached that are not the mirror.
type registryOptions struct {
	plainHTTP []string
	ca        string
}

func (o *registryOptions) addFlags(f *pflag.FlagSet) {
	f.StringSliceVar(&o.plainHTTP, "plain-http", nil, text("`HOST` of a registry that has no TLS; loopback addresses need no flag; may be repeated", "没有 TLS 的仓库 `HOST`；回环地址无需此选项；可重复"))
}

// addCAFlag is for commands that do not speak to a mirror, whose flag it is.
func (o *registryOptions) addCAFlag(f *pflag.FlagSet) {
	f.StringVar(&o.ca, "ca", "", text("`FILE` with certificates, PEM, that are trusted beside the system's", "额外信任的 CA 证书文件 `FILE`，PEM 格式"))
}

// open makes registries. Nobody is asked.
func (o registryOptions) open() (*registries, error) {
	r := &registries{
		options: remote.Options{DockerConfig: dockerConfig(), PlainHTTP: o.plainHTTP, UserAgent: "sampan/" + version()},
		opened:  make(map[place]*remote.Registry),
	}
	for _, name := range o.plainHTTP {
		if _, err := oci.ParseRegistry(name); err != nil {
			return nil, usagef(text("--plain-http: %q is not the name of a registry", "--plain-http：%q 不是仓库域名"), name)
		}
	}
	if o.ca != "" {
		var err error
		if r.options.CA, err = os.ReadFile(o.ca); err != nil {
			return nil, &usageError{err}
		}
	}
	return r, nil
}

// dockerConfig is Docker's configuration of whoever runs the command.
func dockerConfig() string {
	if dir := os.Getenv("DOCKER_CONFIG"); dir != "" {
		return filepath.Join(dir, "config.json")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return ""
	}
	return filepath.Join(home, ".docker", "config.json")
}

// registries are those that take part in a command, each opened once. Their methods may
// be called concurrently.
type registries struct {
	options remote.Options

	mu     sync.Mutex
	opened map[place]*remote.Registry
}

// A place is a registry, to read from or to write to: these need different rights.
type place struct {
	name    oci.Registry
	writing bool
}

// get opens a registry.
func (r *registries) get(name oci.Registry, writing bool) (*remote.Registry, error) {
	return r.getAs(name, writing, r.options)
}

// getAs is get with options of its own, where it is not open yet.
func (r *registries) getAs(name oci.Registry, writing bool, o remote.Options) (*remote.Registry, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	at := place{name, writing}
	if have := r.opened[at]; have != nil {
		return have, nil
	}
	opened, err := remote.Open(name, o, writing)
	if err != nil {
		return nil, err
	}
	r.opened[at] = opened
	return opened, nil
}

// source and target are get for those who know no more than that.
func (r *registries) source(name oci.Registry) (oci.Reader, error) { return r.get(name, false) }

func (r *registries) target(name oci.Registry) (syncing.Target, error) { return r.get(name, true) }

func (r *registries) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, registry := range r.opened {
		_ = registry.Close() // nothing is left to be told
	}
}

// imageSources are where images are read from: the mirror, and registries.
type imageSources struct {
	*registries
	mirror *client.Mirror // nil for none
}

// sources makes readers of images. A mirror that nobody named is none.
func (o registryOptions) sources(m *client.Mirror) (*imageSources, error) {
	r, err := o.open()
	if err != nil {
		return nil, err
	}
	if m.Assumed {
		m = nil
	}
	return &imageSources{r, m}, nil
}

// atTheMirror is how the mirror itself is reached.
func (r *imageSources) atTheMirror(name oci.Registry) remote.Options {
	o := r.options
	o.CA = r.mirror.CA
	if r.mirror.PlainHTTP {
		o.PlainHTTP = append(slices.Clone(o.PlainHTTP), name.String())
	}
	o.Username, o.Password = r.mirror.Username, r.mirror.Password
	return o
}

// image is where one is read: at the mirror, where that serves its registry.
func (r *imageSources) image(image string) (archive.Source, error) {
	ref, err := oci.ParseReference(image)
	if err != nil {
		return archive.Source{}, err
	}
	s := archive.Source{Name: ref, At: ref}
	if r.mirror != nil {
		if s, err = r.atMirror(s, image); err != nil {
			return archive.Source{}, err
		}
	}
	if s.Reader == nil {
		s.Reader, err = r.get(ref.Repository.Registry(), false)
	}
	return s, err
}

// atMirror is the name that an image has at the mirror. One whose registry the mirror
// is not known to serve is read from there.
func (r *imageSources) atMirror(s archive.Source, image string) (archive.Source, error) {
	if r.mirror.Has(s.Name) {
		original, err := r.mirror.Original(image)
		if err != nil {
			return s, err
		}
		s.Name = original
	}
	name, err := r.mirror.Name(s.Name)
	if errors.Is(err, oci.ErrDenied) {
		return s, nil
	}
	if err != nil {
		return s, err
	}
	at, err := oci.ParseReference(name)
	if err != nil {
		return s, err
	}
	s.At = at
	registry := at.Repository.Registry()
	s.Reader, err = r.getAs(registry, false, r.atTheMirror(registry))
	return s, err
}

// plainWithin is [plain] for an error that has a name before it: that stays.
func plainWithin(err error) error {
	if err == nil {
		return nil
	}
	return &told{worded(err), err}
}

// told is an error in other words.
type told struct {
	said string
	err  error
}

func (t *told) Error() string { return t.said }
func (t *told) Unwrap() error { return t.err }
