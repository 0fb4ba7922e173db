// Package push is a registry as a [transfer.Writer], by the distribution specification,
// and the small walk that carries the images of an archive to one.
//
// It promises that a manifest goes after its blobs, an index after its manifests and a
// tag after all of it, that a blob which the repository has is not read, and that a
// blob's digest is proven by who reads it and by the registry.
//
// It reads no archives and finds no names. An upload that breaks off is begun again.
package push

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"time"

	godigest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/credentials"
	"oras.land/oras-go/v2/registry/remote/errcode"

	"sampan/internal/oci"
	"sampan/internal/transfer"
)

// Options say how a registry is reached.
type Options struct {
	// Registry is its name. Required.
	Registry oci.Registry
	// PlainHTTP speaks without TLS.
	PlainHTTP bool
	// Private allows its token endpoint to be on this machine.
	Private bool
	// TLS is nil for the system's certificates.
	TLS *tls.Config
	// DockerCredentials asks Docker's configuration who to be; else nobody.
	DockerCredentials bool
}

// A Registry is one that is pushed to.
type Registry struct {
	options Options
	client  *auth.Client
}

var _ transfer.Writer = (*Registry)(nil)

// New makes a Registry. Nobody is asked.
func New(o Options) (*Registry, error) {
	if o.Registry.IsZero() {
		return nil, errors.New("push: no registry")
	}
	transport := &http.Transport{
		Proxy: http.ProxyFromEnvironment, TLSClientConfig: o.TLS, ForceAttemptHTTP2: true,
		TLSHandshakeTimeout: 10 * time.Second, IdleConnTimeout: time.Minute, MaxIdleConnsPerHost: 8,
	}
	r := &Registry{options: o, client: &auth.Client{
		Client: &http.Client{Transport: transport},
		Header: http.Header{"User-Agent": {"sampan"}},
		Cache:  auth.NewCache(),
	}}
	if o.Private {
		r.client.BlockedRealmPrefixes = []netip.Prefix{}
	}
	if o.DockerCredentials {
		store, err := credentials.NewStoreFromDocker(credentials.StoreOptions{})
		if err != nil {
			return nil, fmt.Errorf("credentials: %w", err)
		}
		r.client.Credential = credentials.Credential(store)
	}
	return r, nil
}

func (r *Registry) repository(repo oci.Repository) (*remote.Repository, error) {
	to, err := remote.NewRepository(repo.String())
	if err != nil {
		return nil, err
	}
	to.PlainHTTP, to.Client = r.options.PlainHTTP, r.client
	return to, nil
}

// Has implements [transfer.Writer].
func (r *Registry) Has(ctx context.Context, repo oci.Repository, d oci.Descriptor) (bool, error) {
	to, err := r.repository(repo)
	if err != nil {
		return false, err
	}
	has, err := to.Exists(ctx, descriptor(d))
	return has, answer(err)
}

// PutBlob implements [transfer.Writer].
func (r *Registry) PutBlob(ctx context.Context, repo oci.Repository, d oci.Descriptor, open transfer.Open, from []oci.Repository) error {
	to, err := r.repository(repo)
	if err != nil {
		return err
	}
	get := func() (io.ReadCloser, error) { return open(ctx, 0) }
	for _, other := range from {
		if other != repo {
			return answer(to.Mount(ctx, descriptor(d), other.Path(), get))
		}
	}
	content, err := get()
	if err != nil {
		return err
	}
	defer content.Close()
	return answer(to.Blobs().Push(ctx, descriptor(d), content))
}

// PutManifest implements [transfer.Writer].
func (r *Registry) PutManifest(ctx context.Context, repo oci.Repository, d oci.Descriptor, raw []byte, tags []oci.Tag) error {
	to, err := r.repository(repo)
	if err != nil {
		return err
	}
	if len(tags) == 0 {
		return answer(to.Manifests().Push(ctx, descriptor(d), bytes.NewReader(raw)))
	}
	for _, tag := range tags {
		if err := to.Manifests().PushReference(ctx, descriptor(d), bytes.NewReader(raw), tag.String()); err != nil {
			return answer(err)
		}
	}
	return nil
}

func descriptor(d oci.Descriptor) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: d.MediaType, Digest: godigest.Digest(d.Digest.String()), Size: d.Size}
}

// answer makes a registry's words those of the vocabulary.
func answer(err error) error {
	var response *errcode.ErrorResponse
	if !errors.As(err, &response) {
		return err
	}
	code, message := oci.CodeUnknown, http.StatusText(response.StatusCode)
	if len(response.Errors) > 0 {
		code, message = oci.Code(response.Errors[0].Code), response.Errors[0].Message
	}
	const most = 300
	if len(message) > most {
		message = message[:most] + "…"
	}
	return oci.Errorf(code, "%s answers %d: %q", response.URL.Host, response.StatusCode, message) // and not its words as they are
}
