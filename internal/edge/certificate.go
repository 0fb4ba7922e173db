package edge

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// A KeyPair names the files of one certificate, in PEM: the certificate with its
// intermediates, and its private key.
type KeyPair struct{ Cert, Key string }

// maxPEM bounds each of these files, in bytes.
const maxPEM = 1 << 20

// ErrNoCertificate says that there is no certificate to meet clients with.
var ErrNoCertificate = errors.New("no certificate")

// Certificates are those of files, chosen by the name that a client asks for, and
// read again when the files change. A pair that cannot be used any more, such as
// one of which half was renewed, leaves the one before in place. Its methods may be
// called concurrently.
type Certificates struct {
	log *slog.Logger

	mu    sync.RWMutex
	pairs []*loaded
}

// A loaded pair is what was in its files when it was last read.
type loaded struct {
	KeyPair
	sum  [sha256.Size]byte // of both files; of what was refused, too
	cert *tls.Certificate
}

// NewCertificates reads all pairs, at least one, and fails when any cannot be
// used. The first is for clients that ask for a name that none has, or for none.
func NewCertificates(log *slog.Logger, pairs []KeyPair) (*Certificates, error) {
	if len(pairs) == 0 {
		return nil, fmt.Errorf("edge: %w", ErrNoCertificate)
	}
	c := &Certificates{log: log}
	for _, p := range pairs {
		l := &loaded{KeyPair: p}
		cert, sum, err := l.read()
		if err != nil {
			return nil, fmt.Errorf("edge: certificate %s: %w", p.Cert, err)
		}
		l.cert, l.sum = cert, sum
		c.pairs = append(c.pairs, l)
	}
	return c, nil
}

// read reads the files as they are now. The sum tells what was read, also when it
// cannot be used; it is zero when it could not be read.
func (l *loaded) read() (cert *tls.Certificate, sum [sha256.Size]byte, err error) {
	certPEM, err := readPEM(l.Cert)
	if err != nil {
		return nil, sum, err
	}
	keyPEM, err := readPEM(l.Key)
	if err != nil {
		return nil, sum, err
	}
	sum = sha256.Sum256(bytes.Join([][]byte{certPEM, keyPEM}, []byte{0}))
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return nil, sum, fmt.Errorf("%s and %s: %w", l.Cert, l.Key, err)
	}
	return &pair, sum, nil
}

func readPEM(name string) ([]byte, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxPEM {
		return nil, fmt.Errorf("%s is larger than %d MiB", name, maxPEM>>20)
	}
	return os.ReadFile(name)
}

// Get is for [tls.Config.GetCertificate]: the first certificate that is good for
// what the client asks for, or else the first.
func (c *Certificates) Get(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if cert := c.find(hello); cert != nil {
		return cert, nil
	}
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.pairs[0].cert, nil
}

// find returns the first certificate that is good for what the client asks for;
// nil when none is.
func (c *Certificates) find(hello *tls.ClientHelloInfo) *tls.Certificate {
	c.mu.RLock()
	defer c.mu.RUnlock()
	for _, l := range c.pairs {
		if hello.SupportsCertificate(l.cert) == nil {
			return l.cert
		}
	}
	return nil
}

// Reload reads the files that have changed, and tells the log what came of it.
func (c *Certificates) Reload() {
	for i := range c.pairs {
		c.reload(c.pairs[i])
	}
}

func (c *Certificates) reload(l *loaded) {
	cert, sum, err := l.read()
	c.mu.Lock()
	defer c.mu.Unlock()
	if sum == l.sum {
		return
	}
	l.sum = sum // a pair that is refused is told once
	if err != nil {
		c.log.Error("certificate not renewed, the one before stays", "file", l.Cert, "expires", expiry(l.cert), "err", err)
		return
	}
	l.cert = cert
	c.log.Info("certificate renewed", "file", l.Cert, "expires", expiry(cert))
}

// Watch reloads at intervals until ctx is done. It looks at what the files hold:
// links that change, as Kubernetes makes them, are seen.
func (c *Certificates) Watch(ctx context.Context, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			c.Reload()
		case <-ctx.Done():
			return
		}
	}
}

// Expiry is when the first of the certificates that are in use will expire.
func (c *Certificates) Expiry() time.Time {
	c.mu.RLock()
	defer c.mu.RUnlock()
	first := expiry(c.pairs[0].cert)
	for _, l := range c.pairs[1:] {
		if at := expiry(l.cert); at.Before(first) {
			first = at
		}
	}
	return first
}

func expiry(cert *tls.Certificate) time.Time { return cert.Leaf.NotAfter }
