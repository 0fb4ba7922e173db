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
}

// login is whom to be at the mirror: the person's settings, or what Docker's
// configuration and its credential helpers hold for the host. An empty username with a
// password is an identity token.
func (o Options) login(ctx context.Context, host string) (username, password string, err error) {
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

// hint looks why an engine could not pull from the mirror: whether that answers at
// all, and what the engine may not know of it.
func (o Options) hint(ctx context.Context, host string) Hint {
	const patience = 5 * time.Second
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	t := o.transport()
	defer t.CloseIdleConnections()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, o.scheme()+"://"+host+"/v2/", nil)
	if err != nil {
		return HintMirrorDown
	}
	answer, err := t.RoundTrip(r)
	if err != nil {
		return HintMirrorDown
	}
	_ = answer.Body.Close()
	switch {
	case o.PlainHTTP && !isLoopback(host):
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
