// Package source finds the registry that an image is read from: its own, or the mirror
// that a person uses.
//
// It promises that one registry is one reader, however many images are read from it,
// that plain HTTP is spoken with loopback addresses and with hosts that were named for
// it and with nobody else, and that nobody is asked before an image is.
//
// It pushes nothing and knows no archives.
package source

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"strings"

	"sampan/internal/oci"
	"sampan/internal/upstream"
	"sampan/internal/upstream/credential"
)

// A Host is a registry that is not to be reached as its name says.
type Host struct {
	// PlainHTTP speaks without TLS.
	PlainHTTP bool
	// CA are certificates, PEM; nil means the system's.
	CA []byte
	// Username and Password stand before what Docker's configuration says; empty for
	// none.
	Username, Password string
}

// Options of [New].
type Options struct {
	// Hosts are registries by name; nil means none.
	Hosts map[oci.Registry]Host
	// DockerConfig is the directory of a config.json with credentials; empty for none.
	DockerConfig string
	// Logger hears of credentials that cannot be read; nil means nobody.
	Logger *slog.Logger
}

// Registries are readers by registry. Only one goroutine may use it at a time.
type Registries struct {
	options Options
	open    map[oci.Registry]*upstream.Registry
}

// New makes Registries. They are closed by whoever made them.
func New(o Options) *Registries {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	hosts := maps.Clone(o.Hosts)
	if hosts == nil {
		hosts = make(map[oci.Registry]Host)
	}
	o.Hosts = hosts
	return &Registries{o, make(map[oci.Registry]*upstream.Registry)}
}

// Set says how a registry is reached. It has no effect on a reader that is open.
func (r *Registries) Set(registry oci.Registry, h Host) { r.options.Hosts[registry] = h }

// Close closes all readers.
func (r *Registries) Close() error {
	var errs []error
	for _, u := range r.open {
		errs = append(errs, u.Close())
	}
	return errors.Join(errs...)
}

// Reader returns the reader of a registry. Nobody is asked.
func (r *Registries) Reader(registry oci.Registry) (oci.Reader, error) {
	if u := r.open[registry]; u != nil {
		return u, nil
	}
	host := r.options.Hosts[registry]
	endpoint := &url.URL{Scheme: "https", Host: registry.String()}
	if registry == oci.DockerHub {
		endpoint.Host = "registry-1.docker.io"
	}
	if host.PlainHTTP || Loopback(registry) {
		endpoint.Scheme = "http"
	}
	o := upstream.Options{Registry: registry, Endpoints: []*url.URL{endpoint}, Logger: r.options.Logger}
	if len(host.CA) > 0 {
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(host.CA) {
			return nil, fmt.Errorf("%s: no certificate in what was given for it", registry)
		}
		o.Egress.TLS = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	switch {
	case host.Username != "":
		o.Credentials = upstream.Static(upstream.Credential{Username: host.Username, Password: host.Password})
	case r.options.DockerConfig != "":
		o.Credentials = credential.DockerConfig(filepath.Join(r.options.DockerConfig, "config.json"), registry, r.options.Logger)
	}
	u, err := upstream.New(o)
	if err != nil {
		return nil, err
	}
	r.open[registry] = u
	return u, nil
}

// Loopback tells whether a registry can only be on this machine.
func Loopback(registry oci.Registry) bool {
	host := registry.String()
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	ip, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && ip.IsLoopback()
}
