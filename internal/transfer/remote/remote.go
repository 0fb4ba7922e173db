// Package remote is registries as what transfer reads from and writes to.
//
// A [Registry] promises that the bytes of a blob are proven by the registry before they
// count, as the distribution specification asks of it, and that a registry that says it
// has stored another digest is an error; that the last bytes of a blob which is not what
// its digest says do not leave; that a blob is mounted where another repository of the
// registry has it, sent in one piece where that is possible, read on from where the
// registry says it broke off, begun anew where it has forgotten the upload or says of it
// what cannot be, and sent in pieces where it is too large for one; that whatever a
// registry answers an upload has an end; that a rate limit is waited for as long as it
// says, within five minutes, and nothing else is sent to that registry meanwhile; and
// that credentials are those of Docker's configuration, for this registry alone.
//
// It keeps nothing and does not decide what is copied. What an address is called, and
// which hosts are spoken to without TLS, is in [Options].
//
// Lock order: none; every lock is a leaf.
package remote

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"sampan/internal/oci"
	"sampan/internal/transfer"
	"sampan/internal/upstream"
	"sampan/internal/upstream/credential"
)

// Options say how registries are reached. The zero value is a good setting for
// anonymous use.
type Options struct {
	// DockerConfig is a config.json of Docker with credentials and helpers; empty means
	// none, and so does a file that is not there.
	DockerConfig string
	// Credentials, when set, replace DockerConfig.
	Credentials func(oci.Registry) upstream.Credentials
	// Username and Password stand before both; empty means nobody.
	Username, Password string
	// PlainHTTP are registries, as "host:port", that are spoken to without TLS. Those
	// on loopback are in any case.
	PlainHTTP []string
	// CA are certificates in PEM that are trusted beside the system's; nil means none.
	CA []byte
	// Pause waits before a request that writes is made again, like
	// [transfer.Options.Pause]; nil means [transfer.Backoff].
	Pause func(ctx context.Context, n int, err error) error
	// Logger gets one debug line for each request; nil means none.
	Logger *slog.Logger
	// UserAgent is sent with each request; empty means "sampan".
	UserAgent string
}

const (
	// patience is how long a registry may take to answer after the last byte of a blob:
	// some move it to where it belongs first.
	patience = 5 * time.Minute
	// rateLimitWait is how long the end of a rate limit may be waited for.
	rateLimitWait = 5 * time.Minute
)

// A Registry is one registry, to read from and to write to. It is an [oci.Reader], a
// [transfer.Writer], and what a transfer looks for besides. Its methods may be called
// concurrently.
type Registry struct {
	*upstream.Registry

	name  oci.Registry
	pause func(ctx context.Context, n int, err error) error
	gate  gate  // of all that is sent, and of questions for blobs
	kinds kinds // of manifests

	mu        sync.Mutex
	subjects  map[oci.Digest]chan struct{} // the turn at the list of what refers to a digest
	referrers map[oci.Repository]bool      // whether a repository has the referrers API
	deletes   map[oci.Repository]error     // what came of trying to delete a manifest; nil for success
}

var (
	_ transfer.Writer      = (*Registry)(nil)
	_ transfer.TagResolver = (*Registry)(nil)
	_ transfer.Noter       = (*Registry)(nil)
	_ transfer.Refuser     = (*Registry)(nil)

	_ transfer.ReferrerLister = (*Registry)(nil)
)

// Open makes a Registry; writing asks for the right to push. It dials nobody.
func Open(name oci.Registry, o Options, writing bool) (*Registry, error) {
	endpoint := Endpoint(name, o.PlainHTTP)
	egress := upstream.Egress{HeaderTimeout: patience}
	if len(o.CA) > 0 {
		roots, err := x509.SystemCertPool()
		if err != nil {
			roots = x509.NewCertPool()
		}
		if !roots.AppendCertsFromPEM(o.CA) {
			return nil, errors.New("no certificate in PEM to trust")
		}
		egress.TLS = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	}
	log := o.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	var credentials upstream.Credentials
	switch {
	case o.Username != "":
		credentials = upstream.Static(upstream.Credential{Username: o.Username, Password: o.Password})
	case o.Credentials != nil:
		credentials = o.Credentials(name)
	case o.DockerConfig != "" && present(o.DockerConfig):
		credentials = credential.DockerConfig(o.DockerConfig, name, log)
	}
	u, err := upstream.New(upstream.Options{
		Registry: name, Endpoints: []*url.URL{endpoint}, Credentials: credentials, Write: writing,
		Egress: egress, RateLimitWait: rateLimitWait, Persistent: true, Logger: o.Logger, UserAgent: o.UserAgent,
	})
	if err != nil {
		return nil, fmt.Errorf("registry %s: %w", name, err)
	}
	pause := o.Pause
	if pause == nil {
		pause = transfer.Backoff
	}
	return &Registry{
		Registry: u, name: name, pause: pause,
		subjects: map[oci.Digest]chan struct{}{}, referrers: map[oci.Repository]bool{},
		deletes: map[oci.Repository]error{},
	}, nil
}

func present(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

// Endpoint is the address of a registry's API.
func Endpoint(name oci.Registry, plain []string) *url.URL {
	host := name.String()
	u := &url.URL{Scheme: "https", Host: host}
	switch {
	case name == oci.DockerHub:
		u.Host = "registry-1.docker.io"
	case slices.ContainsFunc(plain, func(p string) bool { return strings.EqualFold(p, host) }), oci.Loopback(host):
		u.Scheme = "http"
	}
	return u
}

// Has implements [transfer.Writer] with a HEAD.
func (r *Registry) Has(ctx context.Context, repo oci.Repository, d oci.Descriptor) (bool, error) {
	var have oci.Descriptor
	var err error
	if oci.IsManifestType(d.MediaType) {
		have, err = r.StatManifest(ctx, repo, d.Digest)
	} else {
		have, err = r.StatBlob(ctx, repo, d.Digest)
	}
	switch {
	case oci.IsUnknown(err):
		return false, nil
	case err != nil:
		return false, err
	case d.Size >= 0 && have.Size >= 0 && have.Size != d.Size:
		return false, nil // cut off, or something else: it is put again
	}
	return true, nil
}
