package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/pflag"

	"sampan/internal/client"
	"sampan/internal/oci"
	"sampan/internal/transfer/archive"
	"sampan/internal/transfer/source"
)

// registryOptions say how registries are reached that are not the mirror.
type registryOptions struct {
	plainHTTP []string
}

func (o *registryOptions) addFlags(f *pflag.FlagSet) {
	f.StringSliceVar(&o.plainHTTP, "plain-http", nil, text("`HOST` of a registry that has no TLS; loopback addresses need no flag; may be repeated", "没有 TLS 的仓库 `HOST`；回环地址无需此选项；可重复"))
}

// registries are where images are read from.
type registries struct {
	*source.Registries
	mirror *client.Mirror // nil for none
}

// hosts are the registries without TLS.
func (o registryOptions) hosts() (map[oci.Registry]source.Host, error) {
	hosts := make(map[oci.Registry]source.Host)
	for _, name := range o.plainHTTP {
		r, err := oci.ParseRegistry(name)
		if err != nil {
			return nil, usagef(text("--plain-http: %q is not the name of a registry", "--plain-http：%q 不是仓库域名"), name)
		}
		hosts[r] = source.Host{PlainHTTP: true}
	}
	return hosts, nil
}

// open makes readers of registries. A mirror that nobody named is none.
func (o registryOptions) open(m *client.Mirror) (*registries, error) {
	hosts, err := o.hosts()
	if err != nil {
		return nil, err
	}
	if m.Assumed {
		m = nil
	}
	return &registries{source.New(source.Options{Hosts: hosts, DockerConfig: dockerConfig()}), m}, nil
}

// dockerConfig is the directory of the person's config.json; empty where there is none.
func dockerConfig() string {
	dir := os.Getenv("DOCKER_CONFIG")
	if dir == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return ""
		}
		dir = filepath.Join(home, ".docker")
	}
	if _, err := os.Stat(filepath.Join(dir, "config.json")); err != nil {
		return ""
	}
	return dir
}

// source is where an image is read: at the mirror, where that serves its registry.
func (r *registries) source(image string) (archive.Source, error) {
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
	s.Reader, err = r.Reader(s.At.Repository.Registry())
	return s, err
}

// atMirror is the name that an image has at the mirror. One whose registry the mirror
// is not known to serve is read from there.
func (r *registries) atMirror(s archive.Source, image string) (archive.Source, error) {
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
	host := source.Host{PlainHTTP: r.mirror.PlainHTTP, CA: r.mirror.CA, Username: r.mirror.Username, Password: r.mirror.Password}
	r.Set(at.Repository.Registry(), host)
	return s, nil
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
