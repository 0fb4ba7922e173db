package main

import (
	"errors"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"sampan/internal/client"
	"sampan/internal/oci"
	"sampan/internal/transfer/archive"
	"sampan/internal/transfer/remote"
)

// registryOptions say how registries are reached that are not the mirror.
type registryOptions struct {
	plainHTTP []string
}

func (o *registryOptions) addFlags(f *pflag.FlagSet) {
	f.StringSliceVar(&o.plainHTTP, "plain-http", nil, text("`HOST` of a registry that has no TLS; loopback addresses need no flag; may be repeated", "没有 TLS 的仓库 `HOST`；回环地址无需此选项；可重复"))
}

// remote is how registries are reached.
func (o registryOptions) remote() (remote.Options, error) {
	for _, name := range o.plainHTTP {
		if _, err := oci.ParseRegistry(name); err != nil {
			return remote.Options{}, usagef(text("--plain-http: %q is not the name of a registry", "--plain-http：%q 不是仓库域名"), name)
		}
	}
	return remote.Options{DockerConfig: dockerConfig(), PlainHTTP: o.plainHTTP, UserAgent: "sampan/" + version()}, nil
}

// imageRegistries are where images are read from, each opened once.
type imageRegistries struct {
	options remote.Options
	mirror  *client.Mirror // nil for none
	opened  map[oci.Registry]*remote.Registry
}

// open makes readers of registries. A mirror that nobody named is none.
func (o registryOptions) open(m *client.Mirror) (*imageRegistries, error) {
	options, err := o.remote()
	if err != nil {
		return nil, err
	}
	if m.Assumed {
		m = nil
	}
	return &imageRegistries{options, m, make(map[oci.Registry]*remote.Registry)}, nil
}

func (r *imageRegistries) close() {
	for _, reader := range r.opened {
		_ = reader.Close() // nothing is left to be told
	}
}

// reader opens a registry. Nobody is asked.
func (r *imageRegistries) reader(name oci.Registry, o remote.Options) (*remote.Registry, error) {
	if have := r.opened[name]; have != nil {
		return have, nil
	}
	opened, err := remote.Open(name, o, false)
	if err != nil {
		return nil, err
	}
	r.opened[name] = opened
	return opened, nil
}

// atTheMirror is how the mirror itself is reached.
func (r *imageRegistries) atTheMirror(name oci.Registry) remote.Options {
	o := r.options
	o.CA = r.mirror.CA
	if r.mirror.PlainHTTP {
		o.PlainHTTP = append(slices.Clone(o.PlainHTTP), name.String())
	}
	o.Username, o.Password = r.mirror.Username, r.mirror.Password
	return o
}

// source is where an image is read: at the mirror, where that serves its registry.
func (r *imageRegistries) source(image string) (archive.Source, error) {
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
		s.Reader, err = r.reader(ref.Repository.Registry(), r.options)
	}
	return s, err
}

// atMirror is the name that an image has at the mirror. One whose registry the mirror
// is not known to serve is read from there.
func (r *imageRegistries) atMirror(s archive.Source, image string) (archive.Source, error) {
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
	s.Reader, err = r.reader(registry, r.atTheMirror(registry))
	return s, err
}

// plainWithin is [plain] for an error that has a name before it: that stays.
func plainWithin(err error) error {
	var e *oci.Error
	if !errors.As(err, &e) || e.Message == "" {
		return err
	}
	said := strings.Replace(err.Error(), e.Error(), e.Message, 1)
	return &told{said, err}
}

// told is an error in other words.
type told struct {
	said string
	err  error
}

func (t *told) Error() string { return t.said }
func (t *told) Unwrap() error { return t.err }
