package engine

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"github.com/containerd/platforms"
	"oras.land/oras-go/v2/registry/remote/credentials"

	"sampan/internal/oci"
)

// Options say what to pull with. The zero value finds an engine by itself.
type Options struct {
	// Kind and Address choose the engine; empty ones are found.
	Kind    Kind
	Address string
	// Namespace and Snapshotter are containerd's; empty means its variables, and then
	// what is usual: k8s.io on a node of Kubernetes, and default elsewhere.
	Namespace, Snapshotter string

	// Platform is that of the image, such as linux/arm64; empty means the engine's.
	Platform string
	// AllPlatforms gets those of all; containerd only.
	AllPlatforms bool
	// KeepMirrorTag leaves the mirror's name beside the own one. It has no effect
	// where the image never has it.
	KeepMirrorTag bool

	// PlainHTTP: the mirror is spoken to without TLS.
	PlainHTTP bool
	// CA are certificates, PEM, that the mirror's is signed by; nil means the system's.
	CA []byte
	// Username and Password are the login at the mirror. Without them it is the one
	// that `docker login` has kept, if any.
	Username, Password string

	// Getenv reads the environment.
	Getenv func(string) string

	anonymous bool // the mirror is asked as nobody
}

// login is whom to be at the mirror: the person's settings, or what Docker's
// configuration and its credential helpers hold for the host. An empty username with a
// password is an identity token.
func (o Options) login(ctx context.Context, host string) (username, password string, err error) {
	if o.anonymous {
		return "", "", nil
	}
	if o.Username != "" {
		return o.Username, o.Password, nil
	}
	dir := dockerConfigDir(o.Getenv)
	if dir == "" {
		return "", "", nil
	}
	store, err := credentials.NewStore(filepath.Join(dir, "config.json"), credentials.StoreOptions{})
	if err != nil {
		return "", "", fmt.Errorf("login at %s: %w", host, err)
	}
	c, err := store.Get(ctx, host)
	if err != nil {
		return "", "", fmt.Errorf("login at %s: %w", host, err)
	}
	if c.RefreshToken != "" {
		return "", c.RefreshToken, nil
	}
	return c.Username, c.Password, nil
}

// transport is what the mirror is spoken to with.
func (o Options) transport() *http.Transport {
	const (
		handshake = 15 * time.Second
		idle      = 30 * time.Second
	)
	t := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		TLSHandshakeTimeout:   handshake,
		IdleConnTimeout:       idle,
		MaxIdleConnsPerHost:   16,
		ForceAttemptHTTP2:     true,
		ExpectContinueTimeout: time.Second,
	}
	if o.CA != nil {
		pool, err := x509.SystemCertPool()
		if err != nil {
			pool = x509.NewCertPool()
		}
		pool.AppendCertsFromPEM(o.CA)
		t.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	return t
}

func (o Options) scheme() string {
	if o.PlainHTTP {
		return "http"
	}
	return "https"
}

// hint looks why an engine could not pull from the mirror, by asking for the manifest
// from here. What the mirror answers to the engine needs no hint. It is asked without a
// login: one that is wrong has been tried often enough, and mirrors count that.
func (o Options) hint(ctx context.Context, image Image) Hint {
	const patience = 10 * time.Second
	ctx, cancel := context.WithTimeout(quiet(ctx), patience)
	defer cancel()
	o.anonymous = true
	r := o.resolver(image, image.Mirror, nil)
	defer r.client.CloseIdleConnections()
	_, _, err := r.Resolve(ctx, image.Mirror)
	var untrusted *tls.CertificateVerificationError
	switch {
	case errors.As(err, &untrusted):
		return HintUntrusted
	case err != nil && unreachable(err):
		return HintMirrorDown
	case err != nil:
		return ""
	case o.PlainHTTP && !oci.Loopback(image.mirrorHost()):
		return HintPlainHTTP
	case o.CA != nil:
		return HintCA
	}
	return ""
}

// CheckPlatform returns an error for what is no platform. Empty is one.
func CheckPlatform(s string) error {
	if s == "" {
		return nil
	}
	if p, err := platforms.Parse(s); err != nil || p.OS == "" || p.Architecture == "" || !strings.Contains(s, "/") {
		return errPlatform
	}
	return nil
}

var errPlatform = errors.New("no platform")
