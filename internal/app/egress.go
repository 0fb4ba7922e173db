package app

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"
	"time"

	"sampan/internal/config"
	"sampan/internal/upstream"
)

// egressOf is what a configured egress, with all that it inherits, is to an
// upstream. The files were read before, when the configuration was.
func egressOf(c config.Egress) (upstream.Egress, error) {
	e, err := wayOf(c)
	if err != nil {
		return upstream.Egress{}, err
	}
	for _, r := range c.Redirects {
		way, err := wayOf(r.Egress)
		if err != nil {
			return upstream.Egress{}, err
		}
		e.Redirects = append(e.Redirects, upstream.Redirect{Pattern: r.Pattern, Private: r.Private, Egress: way})
	}
	return e, nil
}

// wayOf is egressOf for everything but redirects.
func wayOf(c config.Egress) (upstream.Egress, error) {
	e := upstream.Egress{
		DNS:           c.DNS,
		Hosts:         c.Hosts,
		Source:        c.Source,
		DialTimeout:   time.Duration(c.Timeouts.Dial),
		TLSTimeout:    time.Duration(c.Timeouts.TLS),
		HeaderTimeout: time.Duration(c.Timeouts.Headers),
		StallTimeout:  time.Duration(c.Timeouts.Stall),
	}
	if !c.Proxy.IsZero() {
		e.Proxy = http.ProxyURL(c.Proxy.Reveal())
	}
	if len(c.CAFiles) == 0 && c.ClientCert == "" {
		return e, nil
	}
	e.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	var err error
	if len(c.CAFiles) > 0 {
		if e.TLS.RootCAs, err = rootsWith(c.CAFiles); err != nil {
			return upstream.Egress{}, err
		}
	}
	if c.ClientCert != "" {
		pair, err := tls.LoadX509KeyPair(c.ClientCert, c.ClientKey)
		if err != nil {
			return upstream.Egress{}, fmt.Errorf("client certificate: %w", err)
		}
		e.TLS.Certificates = []tls.Certificate{pair}
	}
	return e, nil
}

// rootsWith are the system's roots and those of files.
func rootsWith(files []string) (*x509.CertPool, error) {
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool() // a system without any
	}
	for _, name := range files {
		pem, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("CA file: %w", err)
		}
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("CA file %s holds no certificate", name)
		}
	}
	return pool, nil
}

// longestStall is how long a fetch must wait for its upstream, whichever it is:
// see stallSlack.
func longestStall(c *config.Config) time.Duration {
	egresses := []config.Egress{c.Egress.Inherit(config.Egress{})}
	for _, u := range c.Upstreams {
		egresses = append(egresses, u.Egress.Inherit(c.Egress))
	}
	var longest time.Duration
	for _, e := range egresses {
		ways := []config.Timeouts{e.Timeouts}
		for _, r := range e.Redirects {
			ways = append(ways, r.Timeouts)
		}
		for _, t := range ways {
			stall, opening := t.Stall, t.Dial+t.TLS+t.Headers
			if stall == 0 {
				stall = c.Fetch.Stall
			}
			longest = max(longest, time.Duration(stall)+max(stallSlack, time.Duration(opening)+stallSlack/2))
		}
	}
	return longest
}
